"""
Dask: one task for each block along the batch, which runs the LSTM of the block's own library on it.

Where time is in blocks too, in one direction and without resets, the tasks of a batch block are a chain: the state
after one block is the initial state of the next. Else time is made one block.
"""

from functools import reduce
from itertools import accumulate, product
from operator import getitem
from typing import Any, TypeAlias

import dask

# Graphs are specified (https://docs.dask.org/en/stable/spec.html), but only this module has what they are made of.
from dask._task_spec import Task, TaskRef
from dask.array import Array
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph

from lstm_xp import engines
from lstm_xp._namespace import array_namespace
from lstm_xp._weights import Layers
from lstm_xp.engines._request import Request, Result

# Where a result has an array: what it is indexed with, one after the other.
_Path: TypeAlias = tuple[int | str, ...]


def supports(request: Request) -> str | None:
    """Return why it cannot run a request, or None."""
    return None if request.noise is None else "it has no `noise`"


def run(request: Request) -> Result:
    """
    Return arrays that compute a request when they are asked to.

    Parameters
    ----------
    request : Request
        The forward pass.

    Returns
    -------
    Result
        The output, the final states and the trace, in x's blocks along the batch.
    """
    x, (h_0, c_0, lengths, mask, reset) = _aligned(request)
    times, batches, _ = x.chunks
    # One node of the graph, with whole arrays, wherever they came from.
    weights = dask.delayed(request.weights, pure=True)
    nothing: dict[str, Any] = dict.fromkeys(("xp", "x", "weights", "state", "lengths", "mask", "reset", "prepared"))
    settings = request._replace(**nothing)

    given = [each for each in (x, weights, h_0, c_0, lengths, mask, reset) if each is not None]
    token = tokenize(*(each.key if each is weights else each.name for each in given), settings)
    cell, directions = request.weights[0][0], len(request.options)
    rows, size, hidden = len(request.weights) * directions, cell.weight_hh.shape[1], cell.weight_hh.shape[0] // 4
    # What a task returns, each by the path to it, with its chunks: those that are cut in time first.
    in_time: dict[_Path, Any] = {(0,): (times, batches, (directions * size,))}
    at_the_end: dict[_Path, Any] = {(1,): ((rows,), batches, (size,)), (2,): ((rows,), batches, (hidden,))}
    for kept, k, direction in product(request.keep, range(len(request.weights)), range(directions)):
        in_time[3, kept, k, direction] = (times, batches, (size if kept == "h" else hidden,))
    name, state_name = f"lstm-{token}", f"lstm-state-{token}"
    names = {path: "-".join(("lstm-result", *map(str, path), token)) for path in (*in_time, *at_the_end)}
    steps: dict[Any, Task] = {}
    results: dict[_Path, dict[Any, Task]] = {path: {} for path in names}

    def add(tasks: dict[Any, Task], key: Any, function: Any, *arguments: Any) -> TaskRef:
        tasks[key] = Task(key, function, *arguments)
        return TaskRef(key)

    starts = list(accumulate(times, initial=0))[:-1]
    order = range(len(times))
    for n in range(len(batches)):
        # Of a state of batch size 1 there is one block, for all.
        h, c = (None if array is None else _block(array, 0, n % array.numblocks[1], 0) for array in (h_0, c_0))
        for k in reversed(order) if request.reverse else order:
            arrays = _block(x, k, n, 0), h, c, _block(lengths, n), _block(mask, k, n), _block(reset, k, n)
            done = add(steps, (name, k, n), _run_block, settings, starts[k], TaskRef(weights.key), *arrays)
            for path in in_time:
                add(results[path], (names[path], k, n, 0), _follow, done, path)
            h, c = (add(steps, (state_name, part, k, n), getitem, done, part) for part in (1, 2))
        for path in at_the_end:
            add(results[path], (names[path], 0, n, 0), _follow, done, path)

    graph = HighLevelGraph.from_collections(name, steps, dependencies=given)

    def array(path: _Path) -> Array:
        own = names[path]
        layers = HighLevelGraph({**graph.layers, own: results[path]}, {**graph.dependencies, own: {name}})
        return Array(layers, own, (in_time | at_the_end)[path], meta=x._meta)

    traces = {
        kept: tuple(tuple(array((3, kept, k, d)) for d in range(directions)) for k in range(len(request.weights)))
        for kept in request.keep
    }
    return Result(array((0,)), array((1,)), array((2,)), traces or None)


def _follow(result: Any, path: _Path) -> Any:
    """Return the part of a result that a path leads to."""
    return reduce(getitem, path, result)


def _aligned(request: Request) -> tuple[Array, tuple[Array | None, ...]]:
    """Return x, and h_0, c_0, lengths, mask and resets, each None or in blocks that meet x's."""
    has_padding = request.lengths is not None or request.mask is not None
    holds = has_padding and request.masked_output == "hold"
    in_one_piece = len(request.options) == 2 or holds or request.reset is not None
    x = request.x
    x = x.rechunk({0: -1 if in_one_piece else tuple(size for size in x.chunks[0] if size), 2: -1})
    times, batches, _ = x.chunks
    h_0, c_0 = (None, None) if request.state is None else request.state
    along_the_batch = [
        None if array is None else array.rechunk({0: -1, 1: batches if array.shape[1] == x.shape[1] else -1, 2: -1})
        for array in (h_0, c_0)
    ]
    lengths = None if request.lengths is None else request.lengths.rechunk((batches,))
    of_steps = (None if each is None else each.rechunk((times, batches)) for each in (request.mask, request.reset))
    return x, (*along_the_batch, lengths, *of_steps)


def _block(array: Array | None, *index: int) -> TaskRef | None:
    return None if array is None else TaskRef((array.name, *index))


def _run_block(
    settings: Request, start: int, weights: Layers, x: Any, h_0: Any, c_0: Any, lengths: Any, mask: Any, reset: Any
) -> Result:
    """Run the LSTM on one block, whose first step is `start`."""
    xp = array_namespace(x, "x")
    if lengths is not None:
        lengths = xp.clip(xp.astype(lengths, xp.int64) - start, 0, x.shape[0])
    state = None if h_0 is None else (h_0, c_0)
    request = settings._replace(xp=xp, x=x, weights=weights, state=state, lengths=lengths, mask=mask, reset=reset)
    return engines.run(request, engines.choose(request, "auto").name)
