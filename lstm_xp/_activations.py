"""
The activation functions of ONNX's LSTM operator, in the array API standard.

Formulas: https://onnx.ai/onnx/operators/onnx__LSTM.html
"""

from collections.abc import Callable
from typing import NamedTuple

from lstm_xp._typing import Array, Namespace


class Activation(NamedTuple):
    """
    One row of the table.

    ``function(z, xp, *parameters)``, its derivative ``slope(z, y, xp, *parameters)`` with what the function returned as
    y, and the defaults of the parameters, alpha and beta. Where a function has a kink, the slope is that on the right.
    """

    function: Callable[..., Array]
    slope: Callable[..., Array]
    defaults: tuple[float, ...] = ()


def sigmoid(z: Array, xp: Namespace) -> Array:
    """
    Return ``1 / (1 + exp(-z))``, written as a hyperbolic tangent.

    That form neither overflows nor warns, and its gradient is right everywhere: at z <= -89 (float32) the quotient
    gives NaN gradients in PyTorch and JAX. Its absolute error is at most 6e-8 in float32.
    """
    return 0.5 * xp.tanh(0.5 * z) + 0.5


def elu(z: Array, xp: Namespace, alpha: float) -> Array:
    """Return z where it is not negative, else ``alpha * (exp(z) - 1)``."""
    # The exponential sees no positive number: where it overflows, the gradient of the unused branch would be NaN.
    return xp.where(z >= 0, z, alpha * xp.expm1(xp.clip(z, max=0.0)))


def _either(condition: Array, one: float, other: float, xp: Namespace, z: Array) -> Array:
    """Return one number where a condition holds and another one elsewhere, in z's dtype."""
    return xp.where(condition, xp.full_like(z, one), xp.full_like(z, other))


def _softsign_slope(z: Array, _y: Array, xp: Namespace) -> Array:
    scale = 1.0 / (1.0 + xp.abs(z))
    return scale * scale


def _hard_sigmoid_slope(z: Array, _y: Array, xp: Namespace, alpha: float, beta: float) -> Array:
    v = alpha * z + beta
    return _either(xp.logical_and(v >= 0, v <= 1), alpha, 0.0, xp, z)


ACTIVATIONS = {
    "affine": Activation(
        lambda z, _xp, alpha, beta: alpha * z + beta, lambda z, _y, xp, alpha, _beta: xp.full_like(z, alpha), (1.0, 0.0)
    ),
    "elu": Activation(
        elu, lambda z, _y, xp, alpha: xp.where(z >= 0, xp.ones_like(z), alpha * xp.exp(xp.clip(z, max=0.0))), (1.0,)
    ),
    "hard_sigmoid": Activation(
        lambda z, xp, alpha, beta: xp.clip(alpha * z + beta, 0.0, 1.0), _hard_sigmoid_slope, (0.2, 0.5)
    ),
    "leaky_relu": Activation(
        lambda z, xp, alpha: xp.where(z >= 0, z, alpha * z),
        lambda z, _y, xp, alpha: _either(z >= 0, 1.0, alpha, xp, z),
        (0.01,),
    ),
    "relu": Activation(lambda z, xp: xp.clip(z, min=0.0), lambda z, _y, xp: _either(z >= 0, 1.0, 0.0, xp, z)),
    "scaled_tanh": Activation(
        lambda z, xp, alpha, beta: alpha * xp.tanh(beta * z),
        lambda z, _y, xp, alpha, beta: alpha * beta * (1.0 - xp.tanh(beta * z) ** 2),
        (1.0, 1.0),
    ),
    "sigmoid": Activation(sigmoid, lambda _z, y, _xp: y * (1.0 - y)),
    "softplus": Activation(lambda z, xp: xp.logaddexp(z, xp.zeros_like(z)), lambda z, _y, xp: sigmoid(z, xp)),
    "softsign": Activation(lambda z, xp: z / (1.0 + xp.abs(z)), _softsign_slope),
    "tanh": Activation(lambda z, xp: xp.tanh(z), lambda _z, y, _xp: 1.0 - y * y),
    "thresholded_relu": Activation(
        lambda z, xp, alpha: xp.where(z > alpha, z, xp.zeros_like(z)),
        lambda z, _y, xp, alpha: _either(z > alpha, 1.0, 0.0, xp, z),
        (1.0,),
    ),
}
