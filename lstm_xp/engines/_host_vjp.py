"""
The way back on NumPy's arrays: from a loop backward over time to a whole network.

It is the way there in reverse: layers, then segments, then time. A loop sees the steps of one segment in the order in
which they were run, and takes them from the last to the first.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from lstm_xp._options import CellOptions
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
    put_rows,
    rows_of,
)
from lstm_xp.engines._request import Cotangents, Gradients, Pullback, Request, Result


class Sum:
    """The sum of some products of matrices, which there may be none of."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.total = np.zeros(shape, dtype)
        self._is_zero = True

    def add(self, a: Array, b: Array) -> None:
        """Add the product of two matrices, or of a matrix and a vector."""
        if self._is_zero:
            np.dot(a, b, out=self.total)
            self._is_zero = False
        else:
            self.total += np.dot(a, b)


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
        The hidden states after each step, in any memory layout.
    h : array, shape (batch, proj_size or hidden_size)
        The hidden state before the first step.
    c : array, shape (batch, hidden_size)
        The cell state before the first step.
    mask : array, shape (time, batch), or None
        Where the state stayed.
    kept : object
        What the loop kept on the way there.
    d_output : array, shape (time, batch, proj_size or hidden_size)
        The derivative by the hidden states, as far as they are output.
    d_h, d_c : array
        The derivatives by the state after the last step, to be overwritten by those by the state before the first.
    d_x : array, shape (time, batch, features)
        To be overwritten by the derivative by x.
    sums : Sums
        To be added to.
    """

    x: Array
    hidden: Array
    h: Array
    c: Array
    mask: Array | None
    kept: Any
    d_output: Array
    d_h: Array
    d_c: Array
    d_x: Array
    sums: Sums


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
        ``loop_back(prepared, steps)`` runs the steps of `StepsBack` backward.

    Returns
    -------
    Result
        The output and the final states.
    Pullback
        The way back.
    """
    if request.prepared is None:
        request = request._replace(prepared={})
    parts = parts_of(request)
    if len(parts) == 1:
        way, result = _go(request, prepare, loop, prepare_back, loop_back, map_of(request))
        return result, lambda cotangents: _come_back(way, cotangents, map_of(request))

    result, ways = new_result(request), [None] * len(parts)

    def go(k: int) -> None:
        ways[k], part = _go(rows_of(request, parts[k]), prepare, loop, prepare_back, loop_back, map)
        put_rows(result, parts[k], part)

    in_threads(go, range(len(parts)))

    def pull(cotangents: Cotangents) -> Gradients:
        found = [None] * len(parts)

        def come_back(k: int) -> None:
            some = Cotangents(*(array if array is None else array[:, parts[k]] for array in cotangents))
            found[k] = _come_back(ways[k], some, map)

        in_threads(come_back, range(len(parts)))
        first, *others = found
        for other in others:
            for layer, layer_of_other in zip(first.weights, other.weights, strict=True):
                for cell, cell_of_other in zip(layer, layer_of_other, strict=True):
                    for total, array in zip(cell, cell_of_other, strict=True):
                        if total is not None:
                            total += array  # noqa: PLW2901 (in place)
        x, h_0, c_0 = (np.concatenate([each[k] for each in found], axis=1) for k in (0, 2, 3))
        return Gradients(x, first.weights, h_0, c_0)

    return result, pull


def _go(
    request: Request, prepare: Prepare, loop: Loop, prepare_back: Prepare, loop_back: LoopBack, map_: Map
) -> tuple[_Way, Result]:
    """Run a request; return also the way back."""
    recordings: dict[int, Recording] = {}
    result = over_the_layers(request, prepare, loop, map_, recordings)
    return _Way(request, prepare_back, loop_back, recordings), result


def _come_back(way: _Way, cotangents: Cotangents, map_: Map) -> Gradients:
    """Go back layer by layer, the directions of one as `map_` has it."""
    request, between = way.request, between_layers(way.request)
    directions, last, shapes = len(request.options), len(request.weights) - 1, new_result(request._replace(keep=()))
    # New arrays, to be written into.
    d_h, d_c = (
        np.zeros_like(state) if given is None else np.array(given, order="C")
        for given, state in zip(cotangents[1:], shapes[1:3], strict=True)
    )
    size = shapes.h_n.shape[2]
    d_output = cotangents.output
    if d_output is None:
        d_output = np.broadcast_to(np.zeros((), request.x.dtype), shapes.output.shape)
    weights: list[tuple[CellWeights, ...]] = []
    d_inputs: list[Any] = [None] * directions
    for k in range(last, -1, -1):
        layer, d_layer = request.weights[k], [Sums.of(each) for each in request.weights[k]]

        def pull(
            direction: int,
            k: int = k,
            d_output: Array = d_output,
            layer: tuple[CellWeights, ...] = layer,
            d_layer: list[Sums] = d_layer,
        ) -> None:
            row, reverse = k * directions + direction, request.reverse or direction == 1
            d_hidden = d_output[:, :, direction * size : (direction + 1) * size]
            if k == last:  # of what lies below nobody sees the padding
                d_hidden = _seen(request, d_hidden, d_h[row], reverse)
            d_inputs[direction] = _pull_direction(
                way, row, layer[direction], d_layer[direction], d_hidden, d_h[row], d_c[row], reverse
            )

        for _ in map_(pull, range(directions)):
            pass
        d_output = d_inputs[0]
        for other in d_inputs[1:]:
            d_output += other
        if between is not None and k > 0:
            d_output *= between[k - 1]
        weights.insert(0, tuple(sums.by(cell) for sums, cell in zip(d_layer, layer, strict=True)))
    return Gradients(d_output, tuple(weights), d_h, d_c)


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
        make = lambda: way.prepare(weights, options, batch)
        return request.prepare((way.prepare, row, batch == 1), make)

    # All is written where one segment is all there is.
    d_x = np.empty(x.shape, x.dtype) if request.lengths is None else np.zeros(x.shape, x.dtype)
    d_starts = [np.zeros_like(array) for array in (d_h, d_c)] if request.reset is not None else []
    for segment in reversed(segments):
        arrays, states = _of_segment(segment, (x, hidden, d_output, d_x), (d_h, d_c))
        mask = None if request.mask is None else request.mask[segment.times]
        sequences = [array[::-1] if reverse else array for array in arrays]
        if reverse and mask is not None:
            mask = mask[::-1]
        loop_steps = StepsBack(
            *sequences[:2], segment.h, segment.c, mask, segment.kept, sequences[2], *states, sequences[3], sums
        )
        way.loop(prepared(len(segment.h)), loop_steps)
        if segment.rows is not None:
            d_x[segment.times, segment.rows] = arrays[3]
            d_h[segment.rows], d_c[segment.rows] = states
        if segment.new is not None:
            for d_start, d_state in zip(d_starts, (d_h, d_c), strict=True):
                d_start[segment.new] += d_state[segment.new]
                d_state[segment.new] = 0
    for d_start, d_state in zip(d_starts, (d_h, d_c), strict=False):
        d_state += d_start
    return d_x


def _of_segment(
    segment: Segment, sequences: tuple[Array, ...], states: tuple[Array, ...]
) -> tuple[list[Array], list[Array]]:
    """Return what a segment has of arrays, (time, batch, ...), and states, (batch, ...)."""
    if segment.rows is None:
        return [array[segment.times] for array in sequences], list(states)
    return [array[segment.times, segment.rows] for array in sequences], [array[segment.rows] for array in states]
