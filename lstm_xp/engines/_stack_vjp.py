"""
Backpropagation through time: from the derivative of one cell to that of a whole network, on any library.

What is kept of the forward pass are the states and gates. All else that a step multiplies by on its way back follows
from those, of many steps at once.
"""

from __future__ import annotations  # torch.compile cannot trace the annotations of inner functions

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

from lstm_xp._cell import Moment, State
from lstm_xp._cell_vjp import CellVjp, Inner, Slopes, gates_tell_slopes, make_cell_vjp
from lstm_xp._checks import is_known
from lstm_xp._namespace import unstack
from lstm_xp._typing import Array, Namespace
from lstm_xp._weights import CellWeights
from lstm_xp.engines._request import Cotangents, Gradients, Pullback, Request, Result, Traces
from lstm_xp.engines._stack import (
    Direction,
    Inputs,
    directions,
    episodes,
    layer_input,
    noise_below,
    shown_steps,
    start_of,
    valid_steps,
)

# Elements of the pre-activations of the steps that are linearised at once: what is made of them is to fit into a cache.
CHUNK = 2**20


def run_stacked_vjp(request: Request, run: Callable[[Request], Result]) -> tuple[Result, Pullback]:
    """
    Run a request; return its result and its pullback.

    Parameters
    ----------
    request : Request
        The forward pass.
    run : callable
        ``run(request) -> Result`` of any engine that keeps h and c.

    Returns
    -------
    result : Result
        The output and the final states.
    pullback : callable
        The derivative.
    """
    result = run(request._replace(keep=kept_for_pullback(request), pullback=False))
    return result._replace(trace=None), make_pullback(request, result.trace or {})


def kept_for_pullback(request: Request) -> tuple[str, ...]:
    """Return what the trace of a request has to keep for the way back."""
    return Moment._fields if all(map(gates_tell_slopes, request.options)) else ("h", "c")


def make_pullback(request: Request, trace: Traces) -> Pullback:
    """
    Return the pullback of a request that was run.

    Parameters
    ----------
    request : Request
        The forward pass.
    trace : dict
        What it kept, as `kept_for_pullback` wants it.

    Returns
    -------
    callable
        The derivative.
    """
    h, c, *gates = trace.values()
    valid, episode = valid_steps(request), episodes(request)
    xp, rows = request.xp, len(request.weights) * len(request.options)

    def pullback(cotangents: Cotangents) -> Gradients:
        starts = [(c[0][0], c[0][0])] * rows
        weights = []
        for k in range(len(request.weights) - 1, -1, -1):
            below = request.x if k == 0 else _side_by_side(h[k - 1], xp)
            x, d_inputs, d_layer = layer_input(request, k, below, valid), [], []
            for d, part in enumerate(directions(request, k)):
                row, size = k * len(request.options) + d, h[k][d].shape[2]
                begins = _begins(valid, episode, part.reverse, xp)
                kept = _Kept(x, valid, begins, h[k][d], c[k][d], tuple(gate[k][d] for gate in gates))
                d_own = cotangents_of(cotangents, row, d, size)
                if d_own.output is not None and valid is not None:
                    # Whatever stands at a step that shows no state, NaN even, counts nothing.
                    shown = shown_steps(request, valid, part.reverse)
                    d_own = d_own._replace(output=xp.where(shown, d_own.output, xp.zeros_like(d_own.output)))
                d_x, d_weights, starts[row] = _pull_direction(part, kept, d_own, xp)
                d_inputs.append(d_x)
                d_layer.append(d_weights)
            weights.append(tuple(d_layer))
            # At steps that are not valid it is zero, as all is there that comes back from the pre-activations.
            d_below, factors = sum(d_inputs[1:], d_inputs[0]), noise_below(request, k)
            cotangents = cotangents._replace(output=d_below if factors is None else d_below * factors)
        d_h, d_c = (xp.stack([start[which] for start in starts]) for which in range(2))
        return Gradients(cotangents.output, tuple(reversed(weights)), d_h, d_c)

    return pullback


def steps_of(xs: tuple[Array | None, ...], xp: Namespace) -> list[Inputs]:
    """Return, for each time step, what the arrays have there; None where there is none."""
    # unstack, not x[t]: the gradient of T indexings in torch is T arrays of full size.
    time = next(array.shape[0] for array in xs if array is not None)
    return list(zip(*([None] * time if array is None else unstack(array, xp) for array in xs), strict=True))


class _Kept(NamedTuple):
    """
    What is known of one layer in one direction when it goes backward.

    Parameters
    ----------
    x : array, shape (time, batch, features)
        Its input.
    valid : array, shape (time, batch, 1), or None
        Which steps are valid.
    begins : array, shape (time, batch, 1), or None
        Before which steps the state became the initial one again.
    h, c : array, shape (time, batch, size)
        The states after each step.
    gates : tuple of array
        The gates of each step, or none.
    """

    x: Array
    valid: Array | None
    begins: Array | None
    h: Array
    c: Array
    gates: tuple[Array, ...]


class _Backward(NamedTuple):
    """The derivatives by the state and, where there are episodes, by the one that the later ones began with."""

    h: Array
    c: Array
    start_h: Array | None = None
    start_c: Array | None = None


def _pull_direction(
    part: Direction, kept: _Kept, cotangents: Cotangents, xp: Namespace
) -> tuple[Array, CellWeights, State]:
    """Go back through one layer in one direction; return the derivatives by its input, weights and initial state."""
    cell = make_cell_vjp(part.weights, part.options, xp)
    hidden, *zoneouts = part.noise or (None, None, None)
    # As much of what `project_input` returns as is looked at for a state: its batch, dtype and device.
    start = start_of(xp.concat([kept.c[:1, :, :]] * 4, axis=2), part.weights, part.state, xp)
    zeros = tuple(xp.zeros_like(array) for array in start)
    d_output, *ends = cotangents
    h_and_c = (zero if end is None else end[0, :, :] for zero, end in zip(zeros, ends, strict=True))
    state = _Backward(*h_and_c, *(zeros if kept.begins is not None else ()))
    d_xs, d_weights = [], CellWeights(None, None)  # nothing yet
    for times in _chunks(kept.c, part.reverse):
        x, valid, begins = (_at(array, times) for array in (kept.x, kept.valid, kept.begins))
        h = _before(kept.h, start[0], times, begins, part.reverse, xp)
        c = _before(kept.c, start[1], times, begins, part.reverse, xp)
        gates = tuple(gate[times, :, :] for gate in kept.gates) if kept.gates else None
        slopes, values = cell.linearise(x, h if hidden is None else h * hidden, c, gates)
        shares = (_at(share, times) for share in zoneouts)
        steps = steps_of((*slopes, _at(d_output, times), valid, begins, *shares), xp)
        inner = []
        for inputs in steps if part.reverse else reversed(steps):
            state, made = _pull_step(cell, state, inputs, hidden, xp)
            inner.append(made)
        columns = zip(*(inner if part.reverse else reversed(inner)), strict=True)
        stacked = Inner(*(None if column[0] is None else xp.stack(column) for column in columns))
        d_x, d_some = cell.gather(slopes, values, stacked)
        d_xs.append(d_x)
        d_weights = add_weights(d_weights, d_some)
    if kept.begins is not None:
        state = _Backward(state.h + state.start_h, state.c + state.start_c)
    return xp.concat(d_xs if part.reverse else d_xs[::-1], axis=0), d_weights, (state.h, state.c)


def _pull_step(
    cell: CellVjp, state: _Backward, inputs: Inputs, hidden: Array | None, xp: Namespace
) -> tuple[_Backward, Inner]:
    """Go back through one step, that of `_stack`'s loop over time."""
    *slopes, d_output, valid, begins, zoneout_h, zoneout_c = inputs
    d_h, d_c, start_h, start_c = state
    if d_output is not None:
        d_h = d_h + d_output
    new_h, new_c = (_without(share, d) for share, d in ((zoneout_h, d_h), (zoneout_c, d_c)))
    (old_h, old_c), inner = cell.pull(Slopes(*slopes), new_h, new_c)
    if hidden is not None:
        old_h = old_h * hidden
    if zoneout_h is not None:
        old_h = old_h + zoneout_h * d_h
    if zoneout_c is not None:
        old_c = old_c + zoneout_c * d_c
    if valid is not None:
        old_h, old_c = xp.where(valid, old_h, d_h), xp.where(valid, old_c, d_c)
        inner = Inner(*(None if d is None else xp.where(valid, d, xp.zeros_like(d)) for d in inner))
    if begins is None:
        return _Backward(old_h, old_c), inner
    zero_h, zero_c = xp.zeros_like(old_h), xp.zeros_like(old_c)
    start_h = start_h + xp.where(begins, old_h, zero_h)
    start_c = start_c + xp.where(begins, old_c, zero_c)
    return _Backward(xp.where(begins, zero_h, old_h), xp.where(begins, zero_c, old_c), start_h, start_c), inner


def _without(share: Array | None, d: Array) -> Array:
    """Return what goes back to the new state, where a share of the old one stayed."""
    return d if share is None else (1.0 - share) * d


def _begins(valid: Array | None, episode: Array | None, reverse: bool, xp: Namespace) -> Array | None:
    """Tell before which steps the state became the initial one: where the last valid step's episode was another."""
    if episode is None:
        return None
    number, begins = xp.zeros_like(episode[0, :, :]), []
    steps = steps_of((episode, valid), xp)
    for own, is_valid in reversed(steps) if reverse else steps:
        is_new = own != number
        if is_valid is None:
            number = own
        else:
            is_new, number = xp.logical_and(is_new, is_valid), xp.where(is_valid, own, number)
        begins.append(is_new)
    return xp.stack(begins[::-1] if reverse else begins)


def _chunks(array: Array, reverse: bool) -> Iterator[slice]:
    """Yield the times of the chunks that an array is cut into, the last that were processed first."""
    time, *sizes = array.shape
    length = max(1, CHUNK // max(1, 4 * math.prod(sizes))) if all(map(is_known, sizes)) else time
    starts = range(0, time, length)
    for start in starts if reverse else reversed(starts):
        yield slice(start, min(start + length, time))


def _at(array: Array | None, times: slice) -> Array | None:
    return None if array is None else array[times, :, :]


def _before(states: Array, start: Array, times: slice, begins: Array | None, reverse: bool, xp: Namespace) -> Array:
    """Return the states before some steps."""
    time, first = states.shape[0], xp.expand_dims(start, axis=0)
    if reverse:
        before = states[times.start + 1 : min(times.stop + 1, time), :, :]
        before = xp.concat([before, first], axis=0) if times.stop == time else before
    else:
        before = states[max(times.start - 1, 0) : times.stop - 1, :, :]
        before = xp.concat([first, before], axis=0) if times.start == 0 else before
    return before if begins is None else xp.where(begins, first, before)


def cotangents_of(cotangents: Cotangents, row: int, direction: int, size: int) -> Cotangents:
    """Return those of one direction of a layer, of cotangents whose output is the layer's."""
    output, *ends = cotangents
    d_output = None if output is None else output[:, :, direction * size : (direction + 1) * size]
    return Cotangents(d_output, *(None if array is None else array[row : row + 1, :, :] for array in ends))


def add_weights(one: CellWeights, other: CellWeights) -> CellWeights:
    """Return the sum of two derivatives by a cell's weights; None is zeros."""
    return CellWeights(*(b if a is None else a + b for a, b in zip(one, other, strict=True)))


def _side_by_side(arrays: tuple[Array, ...], xp: Namespace) -> Array:
    return arrays[0] if len(arrays) == 1 else xp.concat(arrays, axis=2)
