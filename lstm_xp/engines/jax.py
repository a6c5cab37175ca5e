r"""
JAX: `jax.lax.scan`, compiled once whatever the number of time steps.

The plain cell has a scan of its own; the variants give the same step as everywhere to `jax.lax.scan`.

Left to itself, JAX differentiates a scan by adding up the gradient of the weights step by step, a matrix as large as
they are each time. What is said here instead is the derivative forward in time: with the pre-activations' tangent

.. math::

    \dot z_t = W_{hh} \dot h_{t-1} + u_t, \qquad
    u_t = W_{ih} \dot x_t + \dot W_{ih} x_t + \dot W_{hh} h_{t-1} + \dot b,

the scan is over what is linear in :math:`u_t`, and all of u is made before it, in one product for each term. JAX
transposes that: its gradients of the weights then are one product each. Being a `jax.custom_jvp`, it works forward, in
reverse, and twice.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lstm_xp._cell import State
from lstm_xp._options import CellOptions
from lstm_xp._typing import Array
from lstm_xp._weights import CellWeights, Layers, total_bias
from lstm_xp.engines._request import Cotangents, Gradients, Pullback, Request, Result, Stepper
from lstm_xp.engines._stack import States, make_advance, run_stacked, stepper_of

# Elements of weights: so few that calls count more than products, so many that they do not fit into a cache.
SMALL, LARGE = 2**12, 2**20

# What of a request is arrays, and what is left of it without them.
_ARRAYS = ("x", "weights", "state", "lengths", "mask", "reset", "noise")
_WITHOUT: dict[str, Any] = dict.fromkeys(_ARRAYS)


def supports(_request: Request) -> str | None:
    """Return None: it does everything on JAX's arrays."""
    return None


def run(request: Request) -> Result:
    """Run a request."""
    arrays = {name: getattr(request, name) for name in _ARRAYS}
    result: Result = _run(arrays, request._replace(**_WITHOUT))
    return result


def run_vjp(request: Request) -> tuple[Result, Pullback]:
    """Run a request; return its result and its pullback, which is JAX's own."""
    xp, cell, batch = request.xp, request.weights[0][0], request.x.shape[1]
    rows = len(request.weights) * len(request.options)
    shapes = [(rows, batch, size) for size in (cell.weight_hh.shape[1], cell.weight_hh.shape[0] // 4)]
    # Of each row its own, whoever gave it.
    given = (None, None) if request.state is None else request.state
    state = tuple(
        xp.zeros(shape, dtype=request.x.dtype) if array is None else xp.broadcast_to(array, shape)
        for array, shape in zip(given, shapes, strict=True)
    )
    constants = {name: getattr(request, name) for name in ("lengths", "mask", "reset", "noise")}

    def forward(x: Array, weights: Layers, state: State) -> Result:
        arrays = constants | {"x": x, "weights": weights, "state": state}
        result: Result = _run(arrays, request._replace(**_WITHOUT, pullback=False))
        return result

    result, vjp = jax.vjp(forward, request.x, request.weights, state)

    def pullback(cotangents: Cotangents) -> Gradients:
        given = zip(cotangents, result, strict=False)
        d_result = Result(*(jnp.zeros_like(like) if d is None else d for d, like in given))
        d_x, d_weights, d_state = vjp(d_result)
        return Gradients(d_x, d_weights, *d_state)

    return result, pullback


# Compiled as a whole, so that a call outside of the caller's own jit is not a new scan, compiled anew, each time.
@partial(jax.jit, static_argnums=1)
def _run(arrays: dict[str, Any], rest: Request) -> Result:
    return run_stacked(
        rest._replace(**arrays),
        lambda step, carry, xs, reverse: jax.lax.scan(step, carry, xs, reverse=reverse),
        _run_plain,
    )


def make_stepper(request: Request, batched: bool) -> Stepper:
    """Return what runs one time step after the other."""
    turned = jax.tree.map(_turned, request.weights)
    return stepper_of(partial(_advance, request.options[0], turned), request.xp, batched)


# Of the module, so that a second stream, a copy say, compiles nothing. The matrices come turned round, as the step
# multiplies by them: XLA would do that anew for each frame, which took five times as long as the rest.
@partial(jax.jit, static_argnums=0)
def _advance(options: CellOptions, turned: Layers, x: Array, states: States) -> tuple[Array, States]:
    return make_advance(jax.tree.map(_turned, turned), options, jax.numpy)(x, states)


def _turned(array: Array) -> Array:
    return array.T


def _run_plain(
    x: Array, weights: CellWeights, start: State, valid: Array | None, *, reverse: bool, cells: bool
) -> tuple[State, Array, Array | None]:
    """Run the plain cell over time; return its final state, its hidden states and, if they are wanted, cell states."""
    # Measured on CPUs: of W h and h W, the one is faster for one row, where it is best to project the input of all
    # steps at once, and where the weights are large; the other elsewhere, where one product with (x, h) is best.
    # Unrolling the scan by 4 gained nothing at most sizes, and lost half as much again at one.
    elements = weights.weight_ih.size + weights.weight_hh.size
    input_first = x.shape[1] == 1 and elements > SMALL
    columns = input_first or elements > LARGE
    inputs = _Inputs(x, weights.weight_ih, weights.weight_hh, total_bias(weights), *start, valid)
    final, states = _scan(_Layout(columns, input_first, reverse, cells), inputs)
    if not cells:
        return final, states, None
    h, c = jnp.split(states, 2, axis=2)
    return final, h, c


class _Layout(NamedTuple):
    """Whether steps are (features, batch), the input is projected first, time goes backward, cell states are wanted."""

    columns: bool
    input_first: bool
    reverse: bool
    cells: bool

    @property
    def axis(self) -> int:
        """The features' axis within one step."""
        return 0 if self.columns else 1

    def shown(self, state: State) -> Array:
        """Return what is wanted of the state after a step, side by side."""
        # One array: two would be written by calls that do not wait for each other, and then XLA's executor on CPUs
        # keeps account of what each call of a step waits for, which takes as long as half of a small step.
        return self.turn(jnp.concatenate(state, axis=self.axis) if self.cells else state[0])

    def turn(self, array: Array) -> Array:
        """Return (batch, features) as a step has it, or the other way around."""
        return jnp.matrix_transpose(array) if self.columns else array

    def factor(self, w: Array) -> Array:
        """Return weights as `multiply` takes them."""
        return w if self.columns else jnp.matrix_transpose(w)

    def multiply(self, factor: Array, s: Array) -> Array:
        """Return the product with weights in one step."""
        return factor @ s if self.columns else s @ factor


def _project(x: Array, w: Array) -> Array:
    """Return the product with weights at all time steps."""
    return jnp.tensordot(x, w, axes=((2,), (1,)))


class _Inputs(NamedTuple):
    """What the scan reads; all but `valid` may have tangents."""

    x: Array
    w_ih: Array
    w_hh: Array
    bias: Array | None
    h: Array
    c: Array
    valid: Array | None


class _Slopes(NamedTuple):
    """The derivatives of one step: of c by z, of h by the output gate's z, of c by the old c, and of h by c."""

    z: Array
    f: Array
    c: Array


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _scan(layout: _Layout, inputs: _Inputs) -> tuple[State, Array]:
    """Return the final state and all hidden states, beside them the cell states if they are wanted."""
    final, (states, _) = _scan_with(layout, inputs, slopes=False)
    return final, states


def _scan_with(layout: _Layout, inputs: _Inputs, *, slopes: bool) -> tuple[State, tuple[Array, _Slopes | None]]:
    """Return the final state and, of each step, what `_scan` returns and the derivatives, if they are wanted."""
    x, w_ih, w_hh, bias, h, c, valid = inputs
    axis, turn = layout.axis, layout.turn
    # sigmoid(z) = (tanh(z/2) + 1)/2, with the halves in the weights, so that one tanh serves all gates.
    half = jnp.asarray(np.repeat([0.5, 0.5, 1.0, 0.5], w_hh.shape[1]), x.dtype)
    w_ih, w_hh = w_ih * half[:, None], w_hh * half[:, None]
    b = jnp.zeros_like(half) if bias is None else bias * half
    if layout.input_first:
        x = _project(x, w_ih) + b
        w = layout.factor(w_hh)
    else:
        w = layout.factor(jnp.concatenate([w_ih, w_hh], axis=1))
        b = turn(b[None])

    def step(carry: State, inputs: tuple[Array, Array | None]) -> tuple[State, tuple[Array, _Slopes | None]]:
        (h_old, c_old), (x_t, valid_t) = carry, inputs
        if layout.input_first:
            z = turn(x_t) + layout.multiply(w, h_old)
        else:
            z = layout.multiply(w, jnp.concatenate([turn(x_t), h_old], axis=axis)) + b
        i, f, g, o = jnp.split(jnp.tanh(z), 4, axis=axis)
        i, f, o = (0.5 * gate + 0.5 for gate in (i, f, o))
        c = f * c_old + i * g
        squashed = jnp.tanh(c)
        h = o * squashed
        of_step = None
        if slopes:
            of_z = g * i * (1 - i), c_old * f * (1 - f), i * (1 - g * g), squashed * o * (1 - o)
            of_step = _Slopes(jnp.concatenate(of_z, axis=axis), f, o * (1 - squashed * squashed))
        carry = _where(valid_t, (h, c), carry, turn)
        return carry, (layout.shown(carry), of_step)

    (h, c), outputs = jax.lax.scan(step, (turn(h), turn(c)), (x, valid), reverse=layout.reverse)
    return (turn(h), turn(c)), outputs


@_scan.defjvp  # type: ignore[untyped-decorator]
def _scan_jvp(layout: _Layout, primals: tuple[_Inputs], tangents: tuple[_Inputs]) -> Any:
    (inputs,), (dots,) = primals, tangents
    final, (states, slopes) = _scan_with(layout, inputs, slopes=True)
    output = states[:, :, : inputs.w_hh.shape[1]]
    before = (output[1:], inputs.h[None]) if layout.reverse else (inputs.h[None], output[:-1])
    u = _project(dots.x, inputs.w_ih) + _project(inputs.x, dots.w_ih) + _project(jnp.concatenate(before), dots.w_hh)
    u = u if dots.bias is None else u + dots.bias
    turn, w = layout.turn, layout.factor(inputs.w_hh)

    def step(carry: State, steps: tuple[Array, _Slopes, Array | None]) -> tuple[State, Array]:
        (h_old, c_old), (u_t, by, valid_t) = carry, steps
        z = turn(u_t) + layout.multiply(w, h_old)
        i, f, g, o = jnp.split(by.z * z, 4, axis=layout.axis)
        c = by.f * c_old + (i + f + g)
        carry = _where(valid_t, (o + by.c * c, c), carry, turn)
        return carry, layout.shown(carry)

    start, steps = (turn(dots.h), turn(dots.c)), (u, slopes, inputs.valid)
    (h, c), dots_of_states = jax.lax.scan(step, start, steps, reverse=layout.reverse)
    return (final, states), ((turn(h), turn(c)), dots_of_states)


def _where(valid: Array | None, new: State, old: State, turn: Callable[[Array], Array]) -> State:
    """Return the new state where a step is valid."""
    if valid is None:
        return new
    valid = turn(valid)
    return jnp.where(valid, new[0], old[0]), jnp.where(valid, new[1], old[1])
