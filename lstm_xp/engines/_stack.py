"""From one layer in one direction to a whole network: what most engines share."""

from __future__ import annotations  # torch.compile cannot trace the annotations of inner functions

from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeAlias

from lstm_xp._cell import State, Step, make_completion, make_step, project_input, zero_state
from lstm_xp._namespace import device_keyword, device_of, join
from lstm_xp._noise import Noise
from lstm_xp._options import CellOptions, is_neutral
from lstm_xp._typing import Array, Namespace
from lstm_xp._weights import CellWeights, Layers
from lstm_xp.engines._request import Request, Result, Stepper

# loop(step, carry, xs, reverse) -> carry, ys calls step(carry, x) -> carry, y for each time step, x being what the
# arrays in xs have there, None where that has None. All are tuples of arrays. The carry keeps its shapes; ys has the
# outputs stacked, each at the time of its input, also in reverse.
Arrays: TypeAlias = tuple[Array, ...]
Inputs: TypeAlias = tuple[Array | None, ...]
Body: TypeAlias = Callable[[Arrays, Inputs], tuple[Arrays, Arrays]]
Loop: TypeAlias = Callable[[Body, Arrays, Inputs, bool], tuple[Arrays, Arrays]]

# advance(x, states) -> output, states: one time step through all layers.
States: TypeAlias = tuple[State, ...]
Advance: TypeAlias = Callable[[Array, States], tuple[Array, States]]


class RunPlain(Protocol):
    """Run the plain cell over all steps: the final state, the hidden states and, if wanted, the cell states."""

    def __call__(
        self, x: Array, weights: CellWeights, start: State, valid: Array | None, *, reverse: bool, cells: bool
    ) -> tuple[State, Array, Array | None]: ...


class Direction(NamedTuple):
    """One layer in one direction: where it starts, and what becomes of it."""

    weights: CellWeights
    options: CellOptions
    state: State | None
    reverse: bool
    noise: DirectionNoise | None


class DirectionNoise(NamedTuple):
    """Of `Noise`, what is for one layer in one direction."""

    hidden: Array | None
    zoneout_h: Array | None
    zoneout_c: Array | None


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
        ``run_plain(x, weights, start, valid, reverse=..., cells=...) -> (state, h, c or None)`` where the cell has no
        options, peepholes, normalisation, projection or noise, there are no resets, and no gates are kept.

    Returns
    -------
    Result
        The output, the final states and the trace.
    """
    xp = request.xp
    valid, episode = valid_steps(request), episodes(request)
    features = request.x
    finals: list[State] = []
    traces: list[list[Arrays]] = []
    for k in range(len(request.weights)):
        features = layer_input(request, k, features, valid)
        outputs, kept = [], []
        for part in directions(request, k):
            output, final, trace = _run_direction(request, part, features, valid, episode, loop, run_plain)
            outputs.append(output)
            finals.append(final)
            kept.append(trace)
        features = outputs[0] if len(outputs) == 1 else xp.concat(outputs, axis=2)
        traces.append(kept)
    h_n, c_n = (xp.stack([state[which] for state in finals]) for which in range(2))
    if not request.keep:
        return Result(features, h_n, c_n)
    named = {name: tuple(tuple(trace[k] for trace in kept) for kept in traces) for k, name in enumerate(request.keep)}
    return Result(features, h_n, c_n, named)


def layer_input(request: Request, layer: int, features: Array, valid: Array | None) -> Array:
    """
    Return what a layer multiplies by its weights.

    Parameters
    ----------
    request : Request
        The forward pass.
    layer : int
        Which layer it is.
    features : array, shape (time, batch, features)
        The request's input, or the output of the layer below.
    valid : array, shape (time, batch, 1), or None
        As `valid_steps` returns it.

    Returns
    -------
    array, shape (time, batch, features)
        Zeros at steps that are not valid, noise between layers included.
    """
    if valid is not None:
        # What lies in the padding must not even be multiplied: the gradient of 0 * NaN is NaN.
        features = request.xp.where(valid, features, request.xp.zeros_like(features))
    factors = noise_below(request, layer)
    return features if factors is None else features * factors


def noise_below(request: Request, layer: int) -> Array | None:
    """Return the factors between a layer and the one below, shape (time or 1, batch, features)."""
    if layer == 0 or request.noise is None or request.noise.between is None:
        return None
    return request.noise.between[layer - 1, :, :, :]


def directions(request: Request, layer: int) -> list[Direction]:
    """Return the directions of a layer."""
    count = len(request.options)
    return [
        Direction(
            weights=_joined(weights, request.xp),
            options=request.options[d],
            state=None if request.state is None else _row(request.state, layer * count + d),
            reverse=request.reverse or d == 1,
            noise=_noise_row(request.noise, layer * count + d),
        )
        for d, weights in enumerate(request.weights[layer])
    ]


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
        (xp.matrix_transpose(weights.weight_ih), make_completion(weights, options, xp), make_step(weights, options, xp))
        for (weights,) in layers
    ]

    def advance(x: Array, states: States) -> tuple[Array, States]:
        after = []
        for (w_ih, complete, step), state in zip(cells, states, strict=True):
            h, c, *_ = step(complete(x @ w_ih), state)
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


def episodes(request: Request) -> Array | None:
    """
    Return the number of the episode that each step belongs to, or None if there is only one.

    No state passes from one episode to another, in neither direction: each starts from the initial state.

    Parameters
    ----------
    request : Request
        The forward pass.

    Returns
    -------
    array, shape (time, batch, 1), or None
        Integers that do not decrease in time.
    """
    if request.reset is None:
        return None
    xp = request.xp
    counts = xp.astype(request.reset, xp.int32)
    return xp.expand_dims(xp.cumulative_sum(counts, axis=0, dtype=xp.int32), axis=2)


def _run_direction(
    request: Request,
    part: Direction,
    x: Array,
    valid: Array | None,
    episode: Array | None,
    loop: Loop,
    run_plain: RunPlain | None,
) -> tuple[Array, State, Arrays]:
    """Run one layer in one direction; return its output, its final state and what is kept."""
    xp, (weights, options, state, reverse, noise) = request.xp, part
    step = make_step(weights, options, xp)
    z = project_input(x, weights, options, xp)
    start = start_of(z, weights, state, xp)

    plain = is_neutral(options) and all(w is None for w in (weights.weight_hr, weights.peephole, weights.norm, noise))
    if run_plain is not None and plain and episode is None and {"h", "c"}.issuperset(request.keep):
        final, output, cells = run_plain(x, weights, start, valid, reverse=reverse, cells="c" in request.keep)
        kept = tuple(output if name == "h" else cells for name in request.keep)
    elif valid is None and episode is None and noise is None and not request.keep:
        final, (output,) = loop(_make_plain_body(step), start, (z,), reverse)
        kept = ()
    else:
        body = _make_body(step, start, request.keep, None if noise is None else noise.hidden, xp)
        carry = start if episode is None else (*start, xp.zeros_like(episode[0, :, :]))
        zoneouts = (None, None) if noise is None else (noise.zoneout_h, noise.zoneout_c)
        (h, c, *_), (output, *others) = loop(body, carry, (z, valid, episode, *zoneouts), reverse)
        final, kept = (h, c), tuple(others)
    if valid is None:
        return output, final, kept
    kept = tuple(
        array if name in ("h", "c") else xp.where(valid, array, xp.zeros_like(array))
        for name, array in zip(request.keep, kept, strict=True)
    )
    shown = shown_steps(request, valid, reverse)
    return xp.where(shown, output, xp.zeros_like(output)), final, kept


def start_of(z: Array, weights: CellWeights, state: State | None, xp: Namespace) -> State:
    """Return the state that a direction starts from, of the batch's size; z is as `project_input` returns it."""
    zeros = zero_state(z[0, :, :], weights, xp)
    # Adding zeros broadcasts a state of batch size 1.
    return zeros if state is None else (state[0] + zeros[0], state[1] + zeros[1])


def shown_steps(request: Request, valid: Array, reverse: bool) -> Array:
    """Tell at which steps the output is the hidden state; elsewhere it is zero."""
    # The state was held where a step is not valid: from the first valid one on, that is what "hold" wants.
    return valid if request.masked_output == "zero" else _any_so_far(valid, reverse, request.xp)


def _make_plain_body(step: Step) -> Body:
    """Return the body of a loop over time that has nothing but the projected input."""

    def body(carry: Arrays, inputs: Inputs) -> tuple[Arrays, Arrays]:
        h, c, *_ = step(inputs[0], (carry[0], carry[1]))
        return (h, c), (h,)

    return body


def _make_body(step: Step, start: State, keep: tuple[str, ...], hidden: Array | None, xp: Namespace) -> Body:
    """
    Return the body of the loop over time.

    The carry is the state and, where there are episodes, the number of the one that it belongs to; the inputs are the
    projected input, whether the step is valid, its episode, and the shares of h and c that zoneout lets stay.
    """

    def body(carry: Arrays, inputs: Inputs) -> tuple[Arrays, Arrays]:
        z, valid, episode, zoneout_h, zoneout_c = inputs
        h, c = carry[:2]
        if episode is not None:
            is_new = episode != carry[2]
            h, c = xp.where(is_new, start[0], h), xp.where(is_new, start[1], c)
        moment = step(z, (h if hidden is None else h * hidden, c))
        moment = moment._replace(h=_stay(zoneout_h, h, moment.h), c=_stay(zoneout_c, c, moment.c))
        after: Arrays = (moment.h, moment.c, *(() if episode is None else (episode,)))
        if valid is not None:
            after = tuple(xp.where(valid, new, old) for new, old in zip(after, carry, strict=True))
            moment = moment._replace(h=after[0], c=after[1])
        return after, (after[0], *(getattr(moment, name) for name in keep))

    return body


def _stay(share: Array | None, old: Array, new: Array) -> Array:
    """Return the state of which a share stayed what it was."""
    return new if share is None else share * old + (1.0 - share) * new


def _any_so_far(valid: Array, reverse: bool, xp: Namespace) -> Array:
    """Tell at each step whether it or one processed before it is valid."""
    counts = xp.astype(valid, xp.int32)
    if reverse:
        return xp.flip(xp.cumulative_sum(xp.flip(counts, axis=0), axis=0, dtype=xp.int32), axis=0) > 0
    return xp.cumulative_sum(counts, axis=0, dtype=xp.int32) > 0


def _row(state: State, row: int) -> State:
    """Return the state of one layer in one direction."""
    return state[0][row, :, :], state[1][row, :, :]


def _noise_row(noise: Noise | None, row: int) -> DirectionNoise | None:
    """Return the noise of one layer in one direction, None where it has none."""
    if noise is None or not noise.is_recurrent:
        return None
    return DirectionNoise(
        hidden=None if noise.hidden is None else noise.hidden[row, :, :],
        zoneout_h=None if noise.zoneout_h is None else noise.zoneout_h[row, :, :, :],
        zoneout_c=None if noise.zoneout_c is None else noise.zoneout_c[row, :, :, :],
    )


def _joined(weights: CellWeights, xp: Namespace) -> CellWeights:
    """Return weights as arrays of the library `xp`."""
    return CellWeights(*(None if array is None else join(array, xp) for array in weights))
