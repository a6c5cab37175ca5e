"""The engine on Dask: any blocks give the same, in as few tasks as there are blocks, on any scheduler."""

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lstm_xp as lx
from conformance.cases import Case, map_arrays
from conformance.compare import assert_equal, flat
from conformance.oracle import torch_answer

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")

pytestmark = pytest.mark.needs("dask.array", "torch")

TWO_LAYERS = Case(num_layers=2, proj_size=3, batch=6, time=9)


def compute(result: Any) -> tuple[np.ndarray, ...]:
    return dask.compute(*flat(result), scheduler="synchronous")


def lstm_tasks(*arrays: Any) -> dict[Any, Any]:
    """Return the tasks in the arrays' graphs that run an LSTM."""
    from lstm_xp.engines.dask import _run_block

    graphs: dict[Any, Any] = {}
    for array in arrays:
        graphs |= dict(array.__dask_graph__())
    return {key: task for key, task in graphs.items() if getattr(task, "func", None) is _run_block}


@st.composite
def blocks(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """Draw the sizes of blocks along each axis, some of them empty."""
    chunks = []
    for size in shape:
        cuts = draw(st.lists(st.integers(0, size), max_size=3))
        chunks.append(tuple(np.diff([0, *sorted(cuts), size]).tolist()))
    return tuple(chunks)


CASES = st.builds(
    Case,
    time=st.just(5),
    batch=st.just(4),
    num_layers=st.sampled_from([1, 2]),
    proj_size=st.sampled_from([0, 3]),
    bias=st.sampled_from([(), ("bias_hh",), ("bias_ih", "bias_hh")]),
    start=st.sampled_from(["given", "one", "absent"]),
    valid=st.sampled_from(["all", "lengths", "mask"]),
    masked_output=st.sampled_from(["zero", "hold"]),
    batch_first=st.booleans(),
)
WAYS = st.sampled_from([{}, {"reverse": True}, {"bidirectional": True}])


@settings(max_examples=80, deadline=None, derandomize=True, database=None)
@given(case=CASES, way=WAYS, data=st.data(), own=st.booleans())
def test_any_blocks_of_anything(case: Case, way: dict[str, bool], data: st.DataObject, own: bool) -> None:
    case = case.replace(**way)
    chunked = lambda array: da.from_array(array, chunks=data.draw(blocks(array.shape)))
    weights = map_arrays(chunked, case.weights()) if own else case.weights()
    x = chunked(case.x())
    arguments = map_arrays(chunked, case.arguments()) | {"x": x}
    result = flat(lx.lstm(weights=weights, **arguments, **case.settings, engine="dask"))
    batches = x.chunks[0 if case.batch_first else 1]
    for array in result:
        assert array.chunks[0 if array is result[0] and case.batch_first else 1] == batches
        assert (array.dtype, type(array._meta)) == (np.float64, np.ndarray)
    assert_equal(dask.compute(*result, scheduler="synchronous"), torch_answer(case), 1e-14)


@pytest.mark.parametrize(
    ("case", "count"),
    [
        (TWO_LAYERS, 3 * 2),
        (TWO_LAYERS.replace(reverse=True), 3 * 2),
        (TWO_LAYERS.replace(valid="lengths"), 3 * 2),
        (TWO_LAYERS.replace(valid="mask"), 3 * 2),
        # Here time has to be in one piece.
        (TWO_LAYERS.replace(bidirectional=True), 2),
        (TWO_LAYERS.replace(valid="lengths", masked_output="hold"), 2),
        (TWO_LAYERS.replace(valid="mask", masked_output="hold"), 2),
    ],
    ids=str,
)
def test_one_task_for_each_block(case: Case, count: int) -> None:
    """Of 4 time steps and 3 rows, whatever the number of steps, layers and features."""
    arguments = map_arrays(da.from_array, case.arguments()) | {"x": da.from_array(case.x(), chunks=(4, 3, 2))}
    result = flat(case.lstm()(**arguments))
    assert len(lstm_tasks(*result)) == count
    # The first rows alone are half of the work, the final state of all is all of it.
    rows = result[0][:, :3]
    needed = rows.__dask_graph__().cull(set(dask.core.flatten(rows.__dask_keys__())))
    assert len(needed.keys() & lstm_tasks(rows).keys()) == count // 2
    assert len(lstm_tasks(result[1])) == count
    assert_equal(dask.compute(*result, scheduler="synchronous"), torch_answer(case), 1e-14)


@pytest.mark.parametrize("reverse", [False, True])
def test_a_chain_needs_one_block_of_the_input_at_a_time(reverse: bool) -> None:
    """And of what went before the state alone, so that output can go as soon as it is stored."""
    case = TWO_LAYERS.replace(reverse=reverse)
    x = da.from_array(case.x(), chunks=(4, 3, -1))
    output = case.lstm()(x)[0]
    graph = dict(output.__dask_graph__())
    for (_, k, n), task in lstm_tasks(output).items():
        others = {key for key in task.dependencies if isinstance(key, tuple)}
        states = {key for key in others if key[0].startswith("lstm-state-")}
        assert others - states == {(x.name, k, n, 0)}
        before = (k + 1 if reverse else k - 1, n)
        assert {key[2:] for key in states} == ({before} if 0 <= before[0] < 3 else set())
        assert all(len(graph[key].dependencies) == 1 for key in states)


def test_the_weights_are_in_the_graph_once() -> None:
    from cloudpickle import dumps

    net = lx.LSTM(64, 128, seed=0)
    nbytes = sum(array.nbytes for array in net.state_dict().values())
    x = da.zeros((4, 40, 64), chunks=(1, 2, -1), dtype="float32")
    output = net(x)[0]
    assert len(lstm_tasks(output)) == 80
    assert nbytes < len(dumps(dict(output.__dask_graph__()), pickle.HIGHEST_PROTOCOL)) < 1.5 * nbytes


@pytest.mark.parametrize("masked_output", ["zero", "hold"])
@pytest.mark.parametrize("reverse", [False, True])
def test_lengths_are_clipped_in_whatever_block_and_dtype(reverse: bool, masked_output: str) -> None:
    case = TWO_LAYERS.replace(time=300, reverse=reverse, masked_output=masked_output)
    x = da.from_array(case.x(), chunks=(100, 4, -1))
    net = case.lstm()
    for dtype, lengths in (("int8", [-7, 0, 1, 99, 100, 127]), ("int64", [999, 300, 299, 201, 1, 0])):
        given = np.array(lengths, dtype)
        actual = net(x, lengths=da.from_array(given, chunks=5))
        expected = flat(net(case.x(), lengths=np.clip(given.astype("int64"), 0, 300)))
        assert_equal(compute(actual), expected, 1e-14)


def test_float16_and_an_empty_batch() -> None:
    """NumPy's engine has no float16: there each task takes the standard one."""
    case = Case(dtype="float16", batch=4)
    actual = compute(case.lstm()(da.from_array(case.x(), chunks=(3, 2, -1)), case.state()))
    for a, e in zip(actual, flat(case.lstm()(case.x(), case.state())), strict=True):
        assert a.dtype == np.float16
        np.testing.assert_array_equal(a, e)
    empty = compute(Case(num_layers=2).lstm()(da.zeros((7, 0, 5), chunks=(3, -1, -1))))
    assert [array.shape for array in empty] == [(7, 0, 4), (2, 0, 4), (2, 0, 4)]


@pytest.mark.parametrize(
    "scheduler",
    ["threads", *(pytest.param(name, marks=pytest.mark.needs("distributed")) for name in ("workers", "processes"))],
)
def test_schedulers(scheduler: str) -> None:
    case = TWO_LAYERS.replace(valid="lengths", batch=6)
    arguments = map_arrays(lambda array: da.from_array(array, chunks=3), case.arguments())
    result = flat(case.lstm()(**arguments))
    if scheduler == "threads":
        found = dask.compute(*result, scheduler="threads")
    else:
        import distributed

        settings: dict[str, Any] = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0"}
        with (
            distributed.LocalCluster(processes=scheduler == "processes", **settings) as cluster,
            distributed.Client(cluster),
        ):
            found = dask.compute(*result)
    assert_equal(found, torch_answer(case), 1e-14)
