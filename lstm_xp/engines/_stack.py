"""From one layer in one direction to a whole network: what most engines share."""

from __future__ import annotations  # torch.compile cannot trace the annotations of inner functions

from collections.abc import Callable
from typing import Protocol, TypeAlias

from lstm_xp._cell import State, make_step, project_input, zero_state
from lstm_xp._namespace import device_keyword, device_of, join
from lstm_xp._options import NEUTRAL, CellOptions
from lstm_xp._typing import Array, Namespace
from lstm_xp._weights import CellWeights, Layers, total_bias
from lstm_xp.engines._request import MaskedOutput, Request, Result, Stepper

# loop(step, carry, xs, reverse) -> carry, ys calls step(carry, x) -> carry, y for each time step, x being what the
# arrays in xs have there. The carry keeps its shapes; ys has the outputs stacked, each at the time of its input, also
# in reverse.
Body: TypeAlias = Callable[[State, tuple[Array, ...]], tuple[State, Array]]
Loop: TypeAlias = Callable[[Body, State, tuple[Array, ...], bool], tuple[State, Array]]

# advance(x, states) -> output, states: one time step through all layers.
States: TypeAlias = tuple[State, ...]
Advance: TypeAlias = Callable[[Array, States], tuple[Array, States]]


class RunPlain(Protocol):
    """Run the plain cell over all steps: the carry and the outputs as `Loop` returns them."""

    def __call__(
        self, x: Array, weights: CellWeights, start: State, valid: Array | None, *, reverse: bool
    ) -> tuple[State, Array]: ...


def run_stacked(request: Request, loop: Loop, run_plain: RunPlain | None = None) -> Result:
    """
    Run a request's layers and directions, each by a loop over time.

    Parameters
    ----------
    request : Request
        The forward pass.
    loop : callable
        ``loop(step, carry, xs, reverse) -> (carry, ys)``, as `jax.lax.scan` understands it.
    run_plain : callable, optional
        ``run_plain(x, weights, start, valid, reverse=...) -> (carry, ys)`` where the cell has no options, peepholes or
        projection.

    Returns
    -------
    Result
        The output and the final states.
    """
    xp = request.xp
    valid = valid_steps(request)
    features = request.x
    finals: list[State] = []
    for layer in request.weights:
        if valid is not None:
            # What lies in the padding must not even be multiplied: the gradient of 0 * NaN is NaN.
            features = xp.where(valid, features, xp.zeros_like(features))
        outputs = []
        for direction, weights in enumerate(layer):
            state = None if request.state is None else _row(request.state, len(finals))
            output, final = _run_direction(
                features,
                _joined(weights, xp),
                state,
                valid,
                request.options[direction],
                reverse=request.reverse or direction == 1,
                masked_output=request.masked_output,
                loop=loop,
                run_plain=run_plain,
                xp=xp,
            )
            outputs.append(output)
            finals.append(final)
        features = outputs[0] if len(outputs) == 1 else xp.concat(outputs, axis=2)
    return Result(features, xp.stack([h for h, _ in finals]), xp.stack([c for _, c in finals]))


def make_advance(layers: Layers, options: CellOptions, xp: Namespace) -> Advance:
    """
    Return one time step of a network of one direction.

    Parameters
    ----------
    layers : tuple of tuple of CellWeights
        The weights.
    options : CellOptions
        The variant of the cell.
    xp : array namespace
        The library that computes.

    Returns
    -------
    callable
        ``advance(x, states) -> (output, states)`` with a state for each layer; all without a batch axis or all with.
    """
    cells = [
        (xp.matrix_transpose(weights.weight_ih), total_bias(weights), make_step(weights, options, xp))
        for (weights,) in layers
    ]

    def advance(x: Array, states: States) -> tuple[Array, States]:
        after = []
        for (w_ih, bias, step), state in zip(cells, states, strict=True):
            z = x @ w_ih
            h, c = step(z if bias is None else z + bias, state)
            after.append((h, c))
            x = h
        return x, tuple(after)

    return advance


def stepper_of(advance: Advance, xp: Namespace, batched: bool) -> Stepper:
    """
    Return a stepper that keeps the states between steps.

    Parameters
    ----------
    advance : callable
        As `make_advance` returns it. The output must be an array that nothing else holds.
    xp : array namespace
        The library.
    batched : bool
        Whether frames have a batch axis.

    Returns
    -------
    Stepper
        The stepper.
    """
    states: States = ()
    rows = (slice(None),) if batched else (0,)

    def push(x: Array) -> Array:
        nonlocal states
        output, states = advance(x, states)
        return output

    def get_state() -> tuple[Array, Array]:
        h, c = (xp.stack([state[which] for state in states]) for which in range(2))
        return (h, c) if batched else (xp.expand_dims(h, axis=1), xp.expand_dims(c, axis=1))

    def set_state(h: Array, c: Array) -> None:
        nonlocal states
        # torch.asarray would take `requires_grad` over, with a warning, also under no_grad.
        values = [array.detach() if hasattr(array, "detach") else array for array in (h, c)]
        own = [xp.asarray(array, copy=True) for array in values]
        states = tuple((own[0][k, *rows, :], own[1][k, *rows, :]) for k in range(h.shape[0]))

    return Stepper(push, get_state, set_state)


def valid_steps(request: Request) -> Array | None:
    """
    Return which steps are valid, or None if all are.

    Parameters
    ----------
    request : Request
        The forward pass.

    Returns
    -------
    array, shape (time, batch, 1), or None
        Booleans.
    """
    xp, x = request.xp, request.x
    if request.mask is not None:
        return xp.expand_dims(request.mask, axis=2)
    if request.lengths is None:
        return None
    steps = xp.arange(x.shape[0], dtype=xp.int32, **device_keyword(device_of(x)))
    valid = xp.expand_dims(steps, axis=1) < xp.expand_dims(request.lengths, axis=0)
    return xp.expand_dims(valid, axis=2)


def _run_direction(
    x: Array,
    weights: CellWeights,
    state: State | None,
    valid: Array | None,
    options: CellOptions,
    *,
    reverse: bool,
    masked_output: MaskedOutput,
    loop: Loop,
    run_plain: RunPlain | None,
    xp: Namespace,
) -> tuple[Array, State]:
    """Run one layer in one direction; return its output and its final state."""
    step = make_step(weights, options, xp)
    z = project_input(x, weights, xp)
    zeros = zero_state(z[0, :, :], weights, xp)
    # Adding zeros broadcasts a state of batch size 1.
    start = zeros if state is None else (state[0] + zeros[0], state[1] + zeros[1])

    plain = options in NEUTRAL and weights.weight_hr is None and weights.peephole is None
    if run_plain is not None and plain:
        final, output = run_plain(x, weights, start, valid, reverse=reverse)
    elif valid is None:

        def advance(carry: State, inputs: tuple[Array, ...]) -> tuple[State, Array]:
            carry = step(inputs[0], carry)
            return carry, carry[0]

        final, output = loop(advance, start, (z,), reverse)
    else:

        def advance_if_valid(carry: State, inputs: tuple[Array, ...]) -> tuple[State, Array]:
            z_t, valid_t = inputs
            h, c = step(z_t, carry)
            carry = xp.where(valid_t, h, carry[0]), xp.where(valid_t, c, carry[1])
            return carry, carry[0]

        final, output = loop(advance_if_valid, start, (z, valid), reverse)
    if valid is None:
        return output, final
    # The state was held where a step is not valid: from the first valid one on, that is what "hold" wants.
    shown = valid if masked_output == "zero" else _any_so_far(valid, reverse, xp)
    return xp.where(shown, output, xp.zeros_like(output)), final


def _any_so_far(valid: Array, reverse: bool, xp: Namespace) -> Array:
    """Tell at each step whether it or one processed before it is valid."""
    counts = xp.astype(valid, xp.int32)
    if reverse:
        return xp.flip(xp.cumulative_sum(xp.flip(counts, axis=0), axis=0, dtype=xp.int32), axis=0) > 0
    return xp.cumulative_sum(counts, axis=0, dtype=xp.int32) > 0


def _row(state: State, row: int) -> State:
    """Return the state of one layer in one direction."""
    return state[0][row, :, :], state[1][row, :, :]


def _joined(weights: CellWeights, xp: Namespace) -> CellWeights:
    """Return weights as arrays of the library `xp`."""
    return CellWeights(*(None if array is None else join(array, xp) for array in weights))
