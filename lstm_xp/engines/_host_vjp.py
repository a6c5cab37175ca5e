"""
The way back on NumPy's arrays: from a loop backward over time to a whole network.

It is the way there in reverse: layers, then segments, then time. A loop sees the steps of one segment in the order in
which they were run, and takes them from the last to the first.
"""

from collections.abc import Callable
from itertools import chain
from typing import Any, NamedTuple, Self, TypeAlias

import numpy as np

from lstm_xp._weights import CellWeights
from lstm_xp.engines._host import (
    Array,
    Loop,
    Map,
    Prepare,
    Recording,
    Segment,
    between_layers,
    in_threads,
    map_of,
    new_result,
    over_the_layers,
    parts_of,
    rows_of,
)
from lstm_xp.engines._request import Cotangents, Gradients, Pullback, Request, Result

# dot(a, b, out) writes a product of two matrices, all of them contiguous in either order, the last in C order.
Dot: TypeAlias = Callable[[Array, Array, Array], object]


class Sum:
    """The sum of some arrays, which there may be none of."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.total = np.zeros(shape, dtype)
        self._is_zero = True

    def add(self, write: Callable[..., object], *arguments: Any) -> None:
        """Add what a function writes into an array, its last argument."""
        out = self.total if self._is_zero else np.empty_like(self.total)
        write(*arguments, out)
        if not self._is_zero:
            self.total += out
        self._is_zero = False


class Sums(NamedTuple):
    """The derivatives by the weights of a cell, both biases' in one; None where there is no weight."""

    weight_ih: Sum
    weight_hh: Sum
    bias: Sum | None
    weight_hr: Sum | None

    @classmethod
    def of(cls, weights: CellWeights) -> "Sums":
        """Return sums of the shapes of a cell's weights."""
        dtype, rows = weights.weight_ih.dtype, weights.weight_ih.shape[:1]
        has_bias = weights.bias_ih is not None or weights.bias_hh is not None
        return cls(
            Sum(weights.weight_ih.shape, dtype),
            Sum(weights.weight_hh.shape, dtype),
            Sum(rows, dtype) if has_bias else None,
            None if weights.weight_hr is None else Sum(weights.weight_hr.shape, dtype),
        )

    def by(self, weights: CellWeights) -> CellWeights:
        """Return them as derivatives by a cell's weights, each an array of its own."""
        bias_ih, bias_hh = (
            None if bias is None or self.bias is None else self.bias.total.copy()
            for bias in (weights.bias_ih, weights.bias_hh)
        )
        weight_hr = None if self.weight_hr is None else self.weight_hr.total
        return CellWeights(self.weight_ih.total, self.weight_hh.total, bias_ih, bias_hh, weight_hr)


class StepsBack(NamedTuple):
    """
    Some time steps of one layer in one direction, in the order in which they were run.

    Parameters
    ----------
    x : array, shape (time, batch, features)
        The input, in any memory layout.
    hidden : array, shape (time, batch, proj_size or hidden_size)
        The hidden state after each step, in any memory layout.
    d_output : array, shape (time, batch, proj_size or hidden_size)
        The derivative by the hidden states, as far as they are output.
    d_x : array, shape (time, batch, features)
        To be overwritten by the derivative by x.
    d_h : array, shape (batch, proj_size or hidden_size)
        The derivative by the hidden state after the last step, to be overwritten by that by the one before the first.
    d_c : array, shape (batch, hidden_size)
        The same of the cell state.
    h : array, shape (batch, proj_size or hidden_size)
        The hidden state before the first step.
    c : array, shape (batch, hidden_size)
        The cell state before the first step.
    mask : array, shape (time, batch), or None
        Where the state stayed it is false.
    kept : object
        What the loop returned on the way there.
    sums : Sums
        To be added to.
    """

    x: Array
    hidden: Array
    d_output: Array
    d_x: Array
    d_h: Array
    d_c: Array
    h: Array
    c: Array
    mask: Array | None
    kept: Any
    sums: Sums

    def reversed(self) -> Self:
        """Return the steps in the other order of time; what was kept is in the order of processing."""
        x, hidden, d_output, d_x = (array[::-1] for array in self[:4])
        mask = None if self.mask is None else self.mask[::-1]
        return self._replace(x=x, hidden=hidden, d_output=d_output, d_x=d_x, mask=mask)


# prepare(weights, options, batch) -> what the loop back wants of them; loop_back(prepared, steps).
LoopBack: TypeAlias = Callable[[Any, StepsBack], None]


class _Way(NamedTuple):
    """The way back through some rows of the batch."""

    request: Request
    prepare: Prepare
    loop: LoopBack
    recordings: dict[int, Recording]


def run_vjp_on_host(
    request: Request, prepare: Prepare, loop: Loop, prepare_back: Prepare, loop_back: LoopBack
) -> tuple[Result, Pullback]:
    """
    Run a request on NumPy's arrays; return its result and the way back.

    Parameters
    ----------
    request : Request
        The forward pass.
    prepare, loop : callable
        As in `run_on_host`; the loop returns what is kept for the way back.
    prepare_back : callable
        ``prepare_back(weights, options, batch)`` makes what the loop back wants of a cell's weights.
    loop_back : callable
        ``loop_back(prepared, steps)`` goes back through the steps of a `StepsBack`.

    Returns
    -------
    Result
        The output and the final states.
    Pullback
        The way back.
    """
    # What is prepared for this call alone is kept as long as it is of use.
    there, back = (request._replace(prepared={}) if request.prepared is None else request for _ in range(2))
    parts = parts_of(request)
    map_parts, map_directions = (map, map_of(request)) if len(parts) == 1 else (in_threads, map)

    def go(rows: slice) -> tuple[_Way, Result]:
        way = _Way(rows_of(back, rows), prepare_back, loop_back, {})
        return way, over_the_layers(rows_of(there, rows), prepare, loop, map_directions, way.recordings)

    ways, results = zip(*map_parts(go, parts), strict=True)

    def pull(cotangents: Cotangents) -> Gradients:
        def come_back(k: int) -> Gradients:
            some = Cotangents(*(array if array is None else array[:, parts[k]] for array in cotangents))
            return _come_back(ways[k], some, map_directions)

        return _of_all_rows(list(map_parts(come_back, range(len(parts)))))

    if len(parts) == 1:
        return results[0], pull
    output, h_n, c_n = (np.concatenate([result[k] for result in results], axis=1) for k in range(3))
    return Result(output, h_n, c_n), pull


def _of_all_rows(parts: list[Gradients]) -> Gradients:
    """Return the derivatives of all rows of the batch; what those of the first by the weights are is written into."""
    first, *others = parts
    if not others:
        return first
    for other in others:
        for layer, more in zip(first.weights, other.weights, strict=True):
            for total, array in zip(chain(*layer), chain(*more), strict=True):
                if total is not None:
                    np.add(total, array, out=total)
    x, h_0, c_0 = (np.concatenate([part[k] for part in parts], axis=1) for k in (0, 2, 3))
    return Gradients(x, first.weights, h_0, c_0)


def _come_back(way: _Way, cotangents: Cotangents, map_: Map) -> Gradients:
    """Go back layer by layer, the directions of one as `map_` has it."""
    request, between = way.request, between_layers(way.request)
    like = new_result(request)
    # Those by the states are written into.
    d_h, d_c = (
        np.zeros_like(state) if given is None else np.array(given, order="C")
        for given, state in zip(cotangents[1:], like[1:3], strict=True)
    )
    d_output = cotangents.output
    if d_output is None:
        d_output = np.broadcast_to(np.zeros((), request.x.dtype), like.output.shape)
    weights: list[tuple[CellWeights, ...]] = []
    for k in range(len(request.weights) - 1, -1, -1):
        d_output, d_layer = _pull_layer(way, k, d_output, d_h, d_c, map_)
        weights.insert(0, d_layer)
        if between is not None and k > 0:
            d_output *= between[k - 1]
    return Gradients(d_output, tuple(weights), d_h, d_c)


def _pull_layer(
    way: _Way, k: int, d_output: Array, d_h: Array, d_c: Array, map_: Map
) -> tuple[Array, tuple[CellWeights, ...]]:
    """Go back through one layer; return the derivatives by its input and its weights."""
    request, size, directions = way.request, d_h.shape[2], len(way.request.options)

    def pull(direction: int) -> tuple[Array, CellWeights]:
        row, reverse = k * directions + direction, request.reverse or direction == 1
        columns = d_output[:, :, direction * size : (direction + 1) * size]
        if k == len(request.weights) - 1:  # of what lies below nobody sees the padding
            columns = _seen(request, columns, d_h[row], reverse)
        weights = request.weights[k][direction]
        sums = Sums.of(weights)
        d_x = _pull_direction(way, row, weights, sums, columns, d_h[row], d_c[row], reverse)
        return d_x, sums.by(weights)

    (d_x, *others), d_layer = zip(*map_(pull, range(directions)), strict=True)
    for other in others:
        d_x += other
    return d_x, d_layer


def _seen(request: Request, d_output: Array, d_h: Array, reverse: bool) -> Array:
    """
    Return the derivative by the hidden states of that by the output, which at steps that are not valid is another one.

    Where it shows a final hidden state, it is added to `d_h`.
    """
    hold = request.masked_output == "hold"
    if request.mask is not None:
        # Where the state is held, its derivative at each step is what it shows there.
        shown = request.mask
        if hold:
            shown = np.logical_or.accumulate(shown[::-1])[::-1] if reverse else np.logical_or.accumulate(shown)
        return np.where(shown[:, :, None], d_output, 0)
    if request.lengths is not None and hold and not reverse:
        time = np.arange(request.x.shape[0])[:, None]
        shows = (time >= request.lengths) & (request.lengths > 0)
        d_h += np.where(shows[:, :, None], d_output, 0).sum(axis=0)
    return d_output  # with lengths, no step looks at the padding


def _pull_direction(
    way: _Way,
    row: int,
    weights: CellWeights,
    sums: Sums,
    d_output: Array,
    d_h: Array,
    d_c: Array,
    reverse: bool,
) -> Array:
    """Go back through one layer in one direction; return the derivative by its input."""
    request, options = way.request, way.request.options[row % len(way.request.options)]
    batch = d_output.shape[1]
    if batch == 0:
        return np.zeros((*d_output.shape[:2], weights.weight_ih.shape[1]), d_output.dtype)
    x, hidden, segments = way.recordings[row]

    def prepared(batch: int) -> Any:
        return request.prepare((way.prepare, row, batch == 1), lambda: way.prepare(weights, options, batch))

    # All is written where one segment is all there is.
    d_x = np.empty(x.shape, x.dtype) if request.lengths is None else np.zeros(x.shape, x.dtype)
    d_starts = [np.zeros_like(array) for array in (d_h, d_c)] if request.reset is not None else []
    for segment in reversed(segments):
        arrays, states = _of_segment(segment, (x, hidden, d_output, d_x), (d_h, d_c))
        mask = None if request.mask is None else request.mask[segment.times]
        steps = StepsBack(*arrays, *states, segment.h, segment.c, mask, segment.kept, sums)
        steps = steps.reversed() if reverse else steps
        way.loop(prepared(len(segment.h)), steps)
        if segment.rows is not None:
            d_x[segment.times, segment.rows] = arrays[3]
            d_h[segment.rows], d_c[segment.rows] = states
        if segment.new is not None:
            for d_start, d_state in zip(d_starts, (d_h, d_c), strict=True):
                d_start[segment.new] += d_state[segment.new]
                d_state[segment.new] = 0
    if d_starts:
        d_h += d_starts[0]
        d_c += d_starts[1]
    return d_x


def _of_segment(
    segment: Segment, sequences: tuple[Array, Array, Array, Array], states: tuple[Array, Array]
) -> tuple[tuple[Array, Array, Array, Array], tuple[Array, Array]]:
    """Return what a segment has of arrays, (time, batch, ...), and of states, (batch, ...)."""
    times, rows = segment.times, slice(None) if segment.rows is None else segment.rows
    x, hidden, d_output, d_x = (array[times, rows] for array in sequences)
    d_h, d_c = (array[rows] for array in states)
    return (x, hidden, d_output, d_x), (d_h, d_c)
