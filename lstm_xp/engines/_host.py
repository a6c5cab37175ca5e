"""
From a loop over time that writes into NumPy's arrays to a whole network: what the engines on NumPy share.

The loop sees one layer in one direction, forward in time, and only steps that are valid or told by a mask. Ragged
batches and episodes come to it in segments: between two of the lengths that occur the same rows are valid, so that no
step is taken that is not; where an episode begins the state is set to the initial one before the next segment.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from itertools import pairwise
from typing import Any, NamedTuple, Self, TypeAlias

import numpy as np

from lstm_xp._noise import Noise
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
    kept : dict
        By name, ``"c"`` and the gates ``"i"``, ``"f"``, ``"g"``, ``"o"``, arrays of shape (time, batch, hidden_size) in
        any memory layout, to be overwritten by what of them is wanted. Gates where a step is not valid are whatever.
    """

    x: Array
    h: Array
    c: Array
    mask: Array | None
    output: Array
    kept: dict[str, Array] = {}  # noqa: RUF012 (a NamedTuple's, which nobody writes into)

    def at(self, times: slice) -> Self:
        """Return some of the steps."""
        return self._replace(
            x=self.x[times],
            mask=None if self.mask is None else self.mask[times],
            output=self.output[times],
            kept={name: array[times] for name, array in self.kept.items()},
        )


class Segment(NamedTuple):
    """
    Some time steps that were run at once, as the way back wants them.

    Parameters
    ----------
    times : slice
        Which steps.
    rows : array of int, or None
        Which rows of the batch; None is all of them.
    new : array, shape (batch,), or None
        Booleans: the rows that began an episode.
    h, c : array
        The state before them.
    kept : object
        What the loop returned.
    """

    times: slice
    rows: Array | None
    new: Array | None
    h: Array
    c: Array
    kept: Any


class Recording(NamedTuple):
    """
    What the way back through one layer in one direction wants of the way there.

    Parameters
    ----------
    x : array, shape (time, batch, features)
        The input, without what there was where a mask has holes.
    hidden : array, shape (time, batch, proj_size or hidden_size)
        The hidden states.
    segments : list of Segment
        In the order in which they were run.
    """

    x: Array
    hidden: Array
    segments: list[Segment]


# prepare(weights, options, batch) -> what the loop wants of them; loop(prepared, steps) -> what is to be kept for the
# way back, or None.
Prepare: TypeAlias = Callable[[CellWeights, CellOptions, int], Any]
Loop: TypeAlias = Callable[[Any, Steps], Any]
# The builtin, or what does the same in threads.
Map: TypeAlias = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]


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
        The output, the final states and the trace.
    """
    if request.prepared is None:  # for this call alone: rows and segments share what is prepared
        request = request._replace(prepared={})
    bounds = parts_of(request)
    if len(bounds) > 1:
        return _over_the_batch(request, bounds, prepare, loop)
    return over_the_layers(request, prepare, loop, map_of(request))


def parts_of(request: Request) -> list[slice]:
    """Return which rows of the batch are run at the same time."""
    threads = max(1, min(request.threads, request.x.shape[1]))
    bounds = np.linspace(0, request.x.shape[1], threads + 1).astype(int).tolist()
    return [slice(*pair) for pair in pairwise(bounds)]


def map_of(request: Request) -> Map:
    """Return what runs the directions of a layer, where the whole batch is run at once."""
    return in_threads if request.threads > 1 else map


def in_threads(function: Callable[[Any], Any], arguments: Iterable[Any]) -> list[Any]:
    """Call a function on each argument in a thread, with the caller's context and so NumPy's error state."""
    given = list(arguments)
    if len(given) == 1:  # to start a thread takes as long as hundreds of steps
        return [function(given[0])]
    contexts = [(copy_context(), argument) for argument in given]
    with ThreadPoolExecutor(len(contexts)) as pool:
        return list(pool.map(lambda each: each[0].run(function, each[1]), contexts))


def _over_the_batch(request: Request, parts: list[slice], prepare: Prepare, loop: Loop) -> Result:
    """Run blocks of rows at the same time, each through the whole network."""
    result = new_result(request)

    def run(rows: slice) -> None:
        part = over_the_layers(rows_of(request, rows), prepare, loop, map)
        for whole, some in zip(_arrays(result), _arrays(part), strict=True):
            whole[:, rows] = some

    in_threads(run, parts)
    return result


def rows_of(request: Request, rows: slice) -> Request:
    """Return the request of some rows of the batch."""
    state = request.state and tuple(array if array.shape[1] == 1 else array[:, rows] for array in request.state)
    between = between_layers(request)
    return request._replace(
        x=request.x[:, rows],
        state=state,
        lengths=None if request.lengths is None else request.lengths[rows],
        mask=None if request.mask is None else request.mask[:, rows],
        reset=None if request.reset is None else request.reset[:, rows],
        noise=None if between is None else Noise(between=between[:, :, rows]),
    )


def between_layers(request: Request) -> Array | None:
    """Return the factors between layers, shape (num_layers - 1, time or 1, batch, features), or None."""
    return None if request.noise is None else request.noise.between


def over_the_layers(
    request: Request, prepare: Prepare, loop: Loop, map_: Map, recordings: dict[int, Recording] | None = None
) -> Result:
    """
    Run layer after layer, the directions of one as `map_` has it.

    Parameters
    ----------
    request : Request
        The forward pass.
    prepare, loop : callable
        As in `run_on_host`.
    map_ : callable
        The builtin, or one that does the same in threads.
    recordings : dict, optional
        Where to write a recording of each row of the states.

    Returns
    -------
    Result
        The output, the final states and the trace.
    """
    result = new_result(request)
    h_n, c_n, size, directions = result.h_n, result.c_n, result.h_n.shape[2], len(request.options)
    if request.state is not None:
        h_n[...], c_n[...] = request.state
    last, between, features = len(request.weights) - 1, between_layers(request), request.x
    if recordings is not None and request.mask is not None:
        # The way back multiplies all of it, if by zero.
        features = np.where(request.mask[:, :, None], features, 0)
    output = features

    def run(row: int) -> None:
        """Run a layer in a direction, from `features` to `output`."""
        k, direction = divmod(row, directions)
        weights, options = request.weights[k][direction], request.options[direction]

        def prepared(batch: int) -> Any:
            return request.prepare((prepare, row, batch == 1), lambda: prepare(weights, options, batch))

        kept = {name: layers[k][direction] for name, layers in result.trace.items()} if result.trace else {}
        columns = output if directions == 1 else output[:, :, direction * size : (direction + 1) * size]
        hidden = kept.pop("h", None)
        segments: list[Segment] | None = None
        if recordings is not None:
            segments = []
            # Where a mask has holes the output is not the hidden state, and the last layer's is the caller's.
            hidden = columns if request.mask is None and k < last else np.empty(columns.shape, columns.dtype)
            recordings[row] = Recording(features, hidden, segments)
        steps = Steps(features, h_n[row], c_n[row], request.mask, columns, kept)
        reverse = request.reverse or direction == 1
        _run_direction(request, steps, prepared, loop, hidden, segments, reverse=reverse)

    for k in range(last + 1):
        output = result.output if k == last else np.empty_like(result.output)
        for _ in map_(run, range(k * directions, (k + 1) * directions)):
            pass
        features = output if between is None or k == last else output * between[k]
    return result


def new_result(request: Request) -> Result:
    """Return arrays for all that is to be returned, the states zero."""
    time, batch, _ = request.x.shape
    dtype, directions, cell = request.x.dtype, len(request.options), request.weights[0][0]
    rows, size, hidden = len(request.weights) * directions, cell.weight_hh.shape[1], cell.weight_hh.shape[0] // 4
    output = np.empty((time, batch, directions * size), dtype)
    h_n, c_n = np.zeros((rows, batch, size), dtype), np.zeros((rows, batch, hidden), dtype)
    if not request.keep:
        return Result(output, h_n, c_n)

    def trace(size: int) -> tuple[tuple[Array, ...], ...]:
        return tuple(tuple(np.empty((time, batch, size), dtype) for _ in layer) for layer in request.weights)

    return Result(output, h_n, c_n, {name: trace(size if name == "h" else hidden) for name in request.keep})


def _arrays(result: Result) -> list[Array]:
    """Return all arrays of a result."""
    traces = [array for layers in (result.trace or {}).values() for layer in layers for array in layer]
    return [result.output, result.h_n, result.c_n, *traces]


def _run_direction(
    request: Request,
    steps: Steps,
    prepared: Callable[[int], Any],
    loop: Loop,
    hidden: Array | None,
    record: list[Segment] | None,
    *,
    reverse: bool,
) -> None:
    """
    Run one layer in one direction.

    Fill in what there is to return where a step is not valid; write the hidden states into `hidden`.
    """
    batch = steps.x.shape[1]
    if batch == 0:
        return

    def run(times: slice, rows: Array | None, new: Array | None, steps: Steps) -> None:
        before = None if record is None else (steps.h.copy(), steps.c.copy())
        kept = loop(prepared(len(steps.h)), steps.at(slice(None, None, -1)) if reverse else steps)
        if record is not None and before is not None:
            record.append(Segment(times, rows, new, *before, kept))

    initial = steps.h, steps.c
    if request.lengths is None and request.reset is None:  # one segment
        run(slice(None), None, None, steps)
    else:
        is_new = None if request.reset is None else _first_steps(request, request.reset, reverse)
        if is_new is not None or request.keep:
            initial = steps.h.copy(), steps.c.copy()
        segments = list(_segments(request, is_new, reverse))
        for start, stop, rows in reversed(segments) if reverse else segments:
            new = None
            if is_new is not None:
                new = is_new[stop - 1 if reverse else start]
                steps.h[new], steps.c[new] = initial[0][new], initial[1][new]
            times = slice(start, stop)
            whole = steps.at(times)
            if len(rows) == batch:
                run(times, None, new, whole)
                continue
            new_output, *new_kept = (np.empty_like(array[:, rows]) for array in (whole.output, *whole.kept.values()))
            kept = dict(zip(whole.kept, new_kept, strict=True))
            part = Steps(whole.x[:, rows], steps.h[rows], steps.c[rows], None, new_output, kept)
            run(times, rows, new, part)
            steps.h[rows], steps.c[rows] = part.h, part.c
            whole.output[:, rows] = part.output
            for name, array in kept.items():
                whole.kept[name][:, rows] = array
    if request.keep:
        _fill_trace(request, steps, initial if reverse else (steps.h, steps.c))
    if hidden is not None and hidden is not steps.output:
        hidden[...] = steps.output
    _fill(request, steps, reverse)


def _first_steps(request: Request, reset: Array, reverse: bool) -> Array:
    """Tell of which steps the state before them, in the order of processing, is another episode's."""
    time = request.x.shape[0]
    episodes = np.cumsum(reset, axis=0)
    valid = np.ones_like(reset) if request.mask is None else request.mask
    if request.lengths is not None:
        valid = np.arange(time)[:, None] < request.lengths
    is_new = np.zeros_like(valid)
    # The numbers do not decrease in time: of the valid steps so far the last one's is the largest, or the smallest.
    if reverse:
        after = np.minimum.accumulate(np.where(valid, episodes, time + 1)[::-1])[::-1]
        is_new[:-1] = valid[:-1] & (after[1:] > episodes[:-1]) & (after[1:] <= time)
    else:
        before = np.maximum.accumulate(np.where(valid, episodes, -1))
        is_new[1:] = valid[1:] & (before[:-1] < episodes[1:]) & (before[:-1] >= 0)
    return is_new


def _segments(request: Request, is_new: Array | None, reverse: bool) -> Iterator[tuple[int, int, Array]]:
    """Yield times between which the same rows are valid and no episode begins, with those rows."""
    time, batch, _ = request.x.shape
    cuts = {0, time}
    if request.lengths is not None:
        cuts.update(min(length, time) for length in request.lengths.tolist())
    if is_new is not None:
        cuts.update((np.flatnonzero(is_new.any(axis=1)) + reverse).tolist())
    for start, stop in pairwise(sorted(cuts)):
        rows = np.arange(batch) if request.lengths is None else np.flatnonzero(request.lengths > start)
        if len(rows) > 0:
            yield start, stop, rows


def _fill_trace(request: Request, steps: Steps, padding_state: tuple[Array, Array]) -> None:
    """Write the states in the padding, where no step was taken, and the gates at all steps that are not valid."""
    if request.mask is not None:
        invalid = ~request.mask
    elif request.lengths is not None:
        invalid = np.arange(steps.x.shape[0])[:, None] >= request.lengths
        for array, state in zip((steps.output, steps.kept.get("c")), padding_state, strict=True):
            if array is not None:
                np.copyto(array, state, where=invalid[:, :, None])
    else:
        return
    for name, array in steps.kept.items():
        if name != "c":
            array[invalid] = 0


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
