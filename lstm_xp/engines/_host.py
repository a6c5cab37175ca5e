"""
From a loop over time that writes into NumPy's arrays to a whole network: what the engines on NumPy share.

The loop sees one layer in one direction, forward in time, and only steps that are valid or told by a mask. Ragged
batches come to it in segments: between two of the lengths that occur the same rows are valid, so that no step is taken
that is not.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import replace
from itertools import pairwise
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from lstm_xp._options import CellOptions
from lstm_xp._weights import CellWeights
from lstm_xp.engines._request import Request, Result

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]


class Steps(NamedTuple):
    """
    Some time steps of one layer in one direction, in the order in which they are processed.

    Parameters
    ----------
    x : array, shape (time, batch, features)
        The input, in any memory layout.
    h : array, shape (batch, proj_size or hidden_size)
        The hidden state; to be overwritten by the final one.
    c : array, shape (batch, hidden_size)
        The cell state; to be overwritten by the final one.
    mask : array, shape (time, batch), or None
        Where a step is not valid the state stays, whatever x is there.
    output : array, shape (time, batch, proj_size or hidden_size)
        To be overwritten by the hidden states, in any memory layout.
    """

    x: Array
    h: Array
    c: Array
    mask: Array | None
    output: Array


# prepare(weights, options, batch) -> what the loop wants of them; loop(prepared, steps).
Prepare: TypeAlias = Callable[[CellWeights, CellOptions, int], Any]
Loop: TypeAlias = Callable[[Any, Steps], None]
Map: TypeAlias = Callable[[Callable[[int], None], Iterable[int]], Iterable[None]]


def run_on_host(request: Request, prepare: Prepare, loop: Loop) -> Result:
    """
    Run a request on NumPy's arrays.

    Parameters
    ----------
    request : Request
        The forward pass.
    prepare : callable
        ``prepare(weights, options, batch)`` makes what the loop wants of a cell's weights: for one row, or for several.
    loop : callable
        ``loop(prepared, steps)`` runs the steps.

    Returns
    -------
    Result
        The output and the final states.
    """
    if request.prepared is None:  # for this call alone: rows and segments share what is prepared
        request = replace(request, prepared={})
    threads = min(request.threads, request.x.shape[1])
    if threads > 1:
        return _over_the_batch(request, threads, prepare, loop)
    return _over_the_layers(request, prepare, loop, _in_threads if request.threads > 1 else map)


def _in_threads(function: Callable[[Any], None], arguments: Iterable[Any]) -> list[None]:
    """Call a function on each argument in a thread, with the caller's context and so NumPy's error state."""
    contexts = [(copy_context(), argument) for argument in arguments]
    with ThreadPoolExecutor(len(contexts)) as pool:
        return list(pool.map(lambda each: each[0].run(function, each[1]), contexts))


def _over_the_batch(request: Request, threads: int, prepare: Prepare, loop: Loop) -> Result:
    """Run blocks of rows at the same time, each through the whole network."""
    bounds = np.linspace(0, request.x.shape[1], threads + 1).astype(int).tolist()
    result = _empty_result(request)

    def run(rows: slice) -> None:
        part = _over_the_layers(_rows(request, rows), prepare, loop, map)
        for whole, some in zip(result, part, strict=True):
            whole[:, rows] = some

    _in_threads(run, [slice(*pair) for pair in pairwise(bounds)])
    return result


def _rows(request: Request, rows: slice) -> Request:
    """Return the request of some rows of the batch."""
    state = request.state and tuple(array if array.shape[1] == 1 else array[:, rows] for array in request.state)
    return replace(
        request,
        x=request.x[:, rows],
        state=state,
        lengths=None if request.lengths is None else request.lengths[rows],
        mask=None if request.mask is None else request.mask[:, rows],
    )


def _over_the_layers(request: Request, prepare: Prepare, loop: Loop, map_: Map) -> Result:
    """Run layer after layer, the directions of one as `map_` has it."""
    h_n, c_n = _initial_state(request)
    size = h_n.shape[2]
    features = request.x
    for k, layer in enumerate(request.weights):
        output = np.empty((*request.x.shape[:2], len(layer) * size), request.x.dtype)

        def run(direction: int, k: int = k, features: Array = features, output: Array = output) -> None:
            weights, options = request.weights[k][direction], request.options[direction]
            row = k * len(request.options) + direction

            def prepared(batch: int) -> Any:
                return request.prepare((row, batch == 1), lambda: prepare(weights, options, batch))

            columns = slice(direction * size, (direction + 1) * size)
            steps = Steps(features, h_n[row], c_n[row], request.mask, output[:, :, columns])
            _run_direction(request, steps, prepared, loop, reverse=request.reverse or direction == 1)

        list(map_(run, range(len(layer))))
        features = output
    return Result(features, h_n, c_n)


def _initial_state(request: Request) -> tuple[Array, Array]:
    """Return the states, which will be overwritten."""
    h_n, c_n = _empty_result(request)[1:]
    h_0, c_0 = (0.0, 0.0) if request.state is None else request.state
    h_n[...] = h_0
    c_n[...] = c_0
    return h_n, c_n


def _empty_result(request: Request) -> Result:
    time, batch, _ = request.x.shape
    directions = len(request.options)
    rows, cell = len(request.weights) * directions, request.weights[0][0]
    size, hidden = cell.weight_hh.shape[1], cell.weight_hh.shape[0] // 4
    shapes = (time, batch, directions * size), (rows, batch, size), (rows, batch, hidden)
    return Result(*(np.empty(shape, request.x.dtype) for shape in shapes))


def _run_direction(
    request: Request, steps: Steps, prepared: Callable[[int], Any], loop: Loop, *, reverse: bool
) -> None:
    """Run one layer in one direction; fill in what the output is where a step is not valid."""
    if steps.x.shape[1] == 0:
        return
    if request.lengths is None:
        loop(prepared(steps.x.shape[1]), _in_time(steps, reverse))
    else:
        segments = list(_segments(request.lengths, steps.x.shape[0]))
        for start, stop, rows in reversed(segments) if reverse else segments:
            if len(rows) == steps.x.shape[1]:
                loop(prepared(len(rows)), _in_time(_between(steps, start, stop), reverse))
                continue
            part = Steps(
                steps.x[start:stop, rows],
                steps.h[rows],
                steps.c[rows],
                None,
                np.empty((stop - start, len(rows), steps.h.shape[1]), steps.h.dtype),
            )
            loop(prepared(len(rows)), _in_time(part, reverse))
            steps.output[start:stop, rows] = part.output
            steps.h[rows], steps.c[rows] = part.h, part.c
    _fill(request, steps, reverse)


def _between(steps: Steps, start: int, stop: int) -> Steps:
    """Return the steps from one time to another."""
    return steps._replace(x=steps.x[start:stop], output=steps.output[start:stop])


def _in_time(steps: Steps, reverse: bool) -> Steps:
    """Return steps as they are processed."""
    if not reverse:
        return steps
    mask = None if steps.mask is None else steps.mask[::-1]
    return steps._replace(x=steps.x[::-1], mask=mask, output=steps.output[::-1])


def _segments(lengths: Array, time: int) -> Iterator[tuple[int, int, Array]]:
    """Yield the times between two lengths that occur, with the rows that are valid there."""
    start = 0
    for length in np.unique(lengths):
        stop = min(int(length), time)
        if stop > start:
            yield start, stop, np.flatnonzero(lengths > start)
            start = stop


def _fill(request: Request, steps: Steps, reverse: bool) -> None:
    """Write the output at steps that are not valid."""
    hold = request.masked_output == "hold"
    if request.mask is not None:
        # The state was held there: from the first valid step on, that is what "hold" wants.
        valid = request.mask
        if hold:
            valid = np.logical_or.accumulate(valid[::-1])[::-1] if reverse else np.logical_or.accumulate(valid)
        steps.output[~valid] = 0
    elif request.lengths is not None:
        padding = np.arange(steps.x.shape[0])[:, None] >= request.lengths
        if hold and not reverse:
            last = np.where((request.lengths > 0)[:, None], steps.h, 0)
            np.copyto(steps.output, last, where=padding[:, :, None])
        else:
            steps.output[padding] = 0
