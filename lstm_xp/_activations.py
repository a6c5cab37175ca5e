"""
The activation functions of ONNX's LSTM operator, in the array API standard.

Formulas: https://onnx.ai/onnx/operators/onnx__LSTM.html
"""

from collections.abc import Callable
from typing import NamedTuple

from lstm_xp._typing import Array, Namespace


class Activation(NamedTuple):
    """One row of the table: ``function(z, xp, *parameters)`` and the defaults of its parameters, alpha and beta."""

    function: Callable[..., Array]
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


ACTIVATIONS = {
    "affine": Activation(lambda z, _xp, alpha, beta: alpha * z + beta, (1.0, 0.0)),
    "elu": Activation(elu, (1.0,)),
    "hard_sigmoid": Activation(lambda z, xp, alpha, beta: xp.clip(alpha * z + beta, 0.0, 1.0), (0.2, 0.5)),
    "leaky_relu": Activation(lambda z, xp, alpha: xp.where(z >= 0, z, alpha * z), (0.01,)),
    "relu": Activation(lambda z, xp: xp.clip(z, min=0.0)),
    "scaled_tanh": Activation(lambda z, xp, alpha, beta: alpha * xp.tanh(beta * z), (1.0, 1.0)),
    "sigmoid": Activation(sigmoid),
    "softplus": Activation(lambda z, xp: xp.logaddexp(z, xp.zeros_like(z))),
    "softsign": Activation(lambda z, xp: z / (1.0 + xp.abs(z))),
    "tanh": Activation(lambda z, xp: xp.tanh(z)),
    "thresholded_relu": Activation(lambda z, xp, alpha: xp.where(z > alpha, z, xp.zeros_like(z)), (1.0,)),
}
