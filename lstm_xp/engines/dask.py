"""
Dask: one task for each block along the batch, which runs the LSTM of the block's own library on it.

Where time is in blocks too, and in one direction, the tasks of a batch block are a chain: the state after one block is
the initial state of the next. Else time is made one block.
"""

from dataclasses import replace
from itertools import accumulate
from operator import getitem
from typing import Any

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


def supports(_request: Request) -> str | None:
    """Return None: it does everything on Dask's arrays."""
    return None


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
        The output and the final states, in x's blocks along the batch.
    """
    x, (h_0, c_0, lengths, mask) = _aligned(request)
    times, batches, _ = x.chunks
    # One node of the graph, with whole arrays, wherever they came from.
    weights = dask.delayed(request.weights, pure=True)
    nothing: dict[str, Any] = dict.fromkeys(("xp", "x", "weights", "state", "lengths", "mask", "prepared"))
    settings = replace(request, **nothing)

    given = [each for each in (x, weights, h_0, c_0, lengths, mask) if each is not None]
    token = tokenize(*(each.key if each is weights else each.name for each in given), settings)
    name, *names = (f"lstm{part}-{token}" for part in ("", "-output", "-h_n", "-c_n"))
    steps: dict[Any, Task] = {}
    results: list[dict[Any, Task]] = [{}, {}, {}]

    def add(tasks: dict[Any, Task], key: Any, function: Any, *arguments: Any) -> TaskRef:
        tasks[key] = Task(key, function, *arguments)
        return TaskRef(key)

    starts = list(accumulate(times, initial=0))[:-1]
    order = range(len(times))
    for n in range(len(batches)):
        # Of a state of batch size 1 there is one block, for all.
        h, c = (None if array is None else _block(array, 0, n % array.numblocks[1], 0) for array in (h_0, c_0))
        for k in reversed(order) if request.reverse else order:
            arrays = _block(x, k, n, 0), h, c, _block(lengths, n), _block(mask, k, n)
            done = add(steps, (name, k, n), _run_block, settings, starts[k], TaskRef(weights.key), *arrays)
            add(results[0], (names[0], k, n, 0), getitem, done, 0)
            h, c = (add(steps, (f"lstm-state-{token}", part, k, n), getitem, done, part) for part in (1, 2))
        for part in (1, 2):
            add(results[part], (names[part], 0, n, 0), getitem, done, part)

    graph = HighLevelGraph.from_collections(name, steps, dependencies=given)
    cell, rows = request.weights[0][0], len(request.weights) * len(request.options)
    size, hidden = cell.weight_hh.shape[1], cell.weight_hh.shape[0] // 4
    chunks = (
        (times, batches, (len(request.options) * size,)),
        ((rows,), batches, (size,)),
        ((rows,), batches, (hidden,)),
    )
    return Result(
        *(
            Array(
                HighLevelGraph({**graph.layers, part: tasks}, {**graph.dependencies, part: {name}}),
                part,
                sizes,
                meta=x._meta,
            )
            for part, tasks, sizes in zip(names, results, chunks, strict=True)
        )
    )


def _aligned(request: Request) -> tuple[Array, tuple[Array | None, ...]]:
    """Return x, and h_0, c_0, lengths and mask, each None or in blocks that meet x's."""
    has_padding = request.lengths is not None or request.mask is not None
    in_one_piece = len(request.options) == 2 or (has_padding and request.masked_output == "hold")
    x = request.x
    x = x.rechunk({0: -1 if in_one_piece else tuple(size for size in x.chunks[0] if size), 2: -1})
    times, batches, _ = x.chunks
    h_0, c_0 = (None, None) if request.state is None else request.state
    along_the_batch = [
        None if array is None else array.rechunk({0: -1, 1: batches if array.shape[1] == x.shape[1] else -1, 2: -1})
        for array in (h_0, c_0)
    ]
    lengths = None if request.lengths is None else request.lengths.rechunk((batches,))
    mask = None if request.mask is None else request.mask.rechunk((times, batches))
    return x, (*along_the_batch, lengths, mask)


def _block(array: Array | None, *index: int) -> TaskRef | None:
    return None if array is None else TaskRef((array.name, *index))


def _run_block(
    settings: Request, start: int, weights: Layers, x: Any, h_0: Any, c_0: Any, lengths: Any, mask: Any
) -> Result:
    """Run the LSTM on one block, whose first step is `start`."""
    xp = array_namespace(x, "x")
    if lengths is not None:
        lengths = xp.clip(xp.astype(lengths, xp.int64) - start, 0, x.shape[0])
    state = None if h_0 is None else (h_0, c_0)
    request = replace(settings, xp=xp, x=x, weights=weights, state=state, lengths=lengths, mask=mask)
    return engines.run(request, engines.choose(request, "auto").name)
