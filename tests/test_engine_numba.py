"""The engine `numba`: what it does beside torch's cell, and what it keeps."""

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest

import lstm_xp as lx
from conformance.cases import Case
from conformance.compare import assert_equal, flat
from conformance.oracle import torch_answer
from lstm_xp.engines import _blas
from lstm_xp.engines import numpy as numpy_engine

pytestmark = pytest.mark.needs("numba")

PLAIN = Case(num_layers=2, bidirectional=True, scale=2.0)
OPTIONS = {
    "coupled": lx.CellOptions(coupled=True),
    "clip_gates": lx.CellOptions(clip_gates=0.4),
    "clip_cell": lx.CellOptions(clip_cell=0.3),
    "old": lx.CellOptions(peephole_output="old"),
    "all": lx.CellOptions(coupled=True, clip_gates=0.7, clip_cell=0.6),
    "all, old": lx.CellOptions(coupled=True, clip_gates=0.7, clip_cell=0.6, peephole_output="old"),
}
# Pairs, so that each direction has its own.
PAIRS = list(zip(OPTIONS, [*list(OPTIONS)[1:], "coupled"], strict=True))
TOLERANCE = {"float32": 2e-6, "float64": 1e-14}


def run(case: Case, engine: str, **settings: Any) -> tuple[np.ndarray, ...]:
    """Return output, final states and all states between."""
    arguments = {**case.arguments(), **case.settings, **settings}
    trace = lx.trace(weights=case.weights(), keep=("h", "c"), engine=engine, **arguments)
    states = [array for layers in (trace.h, trace.c) for layer in layers or () for array in layer]
    return (trace.output, *trace.state, *states)


def assert_same(case: Case, **settings: Any) -> None:
    """Compare with the `standard` engine."""
    for each in (case, case.replace(batch=1), case.replace(batch=9, hidden_size=19)):
        expected = run(each, "standard", **settings)
        for ours, theirs in zip(run(each, "numba", **settings), expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCE[each.dtype])


@pytest.mark.parametrize("valid", ["all", "lengths", "mask"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("peephole", [False, True], ids=["", "peephole"])
@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_options_and_traces(pair: tuple[str, str], peephole: bool, dtype: str, valid: str) -> None:
    case = PLAIN.replace(peephole=peephole, dtype=dtype, valid=valid)
    assert_same(case, options=tuple(OPTIONS[name] for name in pair))


@pytest.mark.parametrize("valid", ["all", "lengths", "mask"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("bounds", [{}, {"clip_proj": 0.2}, {"clip_proj": 0.2, "clip_cell": 0.3}], ids=str)
def test_a_projection(bounds: dict[str, float], dtype: str, valid: str) -> None:
    case = PLAIN.replace(proj_size=3, dtype=dtype, valid=valid, masked_output="hold")
    pair = (lx.CellOptions(**bounds), lx.CellOptions(**bounds, coupled=True))
    assert_same(case, options=pair)
    assert_same(case.replace(peephole=True), options=pair[::-1])


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("buffer", [1, 1000])
def test_in_rounds_and_threads(buffer: int, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numpy_engine, "BUFFER", buffer)
    case = PLAIN.replace(peephole=True, resets=True)
    expected = run(case, "standard", options=OPTIONS["all"])
    for ours, theirs in zip(run(case, "numba", options=OPTIONS["all"], threads=threads), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-14)


@pytest.mark.needs("torch")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("valid", ["all", "mask"])
@pytest.mark.parametrize("proj_size", [0, 5])
@pytest.mark.parametrize("hidden_size", [1, 15, 16, 17, 37, 64])
def test_one_row_in_panels(hidden_size: int, proj_size: int, valid: str, dtype: str) -> None:
    """Less than a panel, whole ones, and some with a rest; in a stream, too."""
    proj_size = min(proj_size, hidden_size - 1)
    case = Case(batch=1, hidden_size=hidden_size, proj_size=proj_size, num_layers=2, valid=valid, dtype=dtype)
    expected, tolerance = torch_answer(case), {"float32": 1e-6, "float64": 1e-14}[dtype]
    ours = lx.lstm(weights=case.weights(), **case.arguments(), **case.settings, engine="numba")
    assert_equal(flat(ours), expected, tolerance)
    if valid == "all":
        stream = case.lstm().stream(case.state(), 1, engine="numba")
        outputs = np.stack([stream(frame) for frame in case.x()])
        assert_equal((outputs, *stream.state), expected, tolerance)


@pytest.mark.parametrize("one_thread", [False, True])
def test_small_products_of_the_input(one_thread: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(batch=1, time=50, num_layers=2, valid="mask")
    expected = run(case, "standard")
    monkeypatch.setattr(_blas, "SMALL", 4000)  # 20 steps and 25, of 192 and 160 weights
    monkeypatch.setattr(_blas, "ONE_THREAD", one_thread)
    for ours, theirs in zip(run(case, "numba"), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-14)


@pytest.mark.needs("onnx", "onnxruntime")
@pytest.mark.parametrize("lengths", [None, (4, 7, 1)], ids=str)
@pytest.mark.parametrize("options", list(product((False, True), (None, 0.4))), ids=str)
@pytest.mark.parametrize("peephole", [False, True], ids=["", "peephole"])
def test_onnx_runtime(peephole: bool, options: tuple[bool, float | None], lengths: Any) -> None:
    from conformance.onnx_oracle import onnx_answer

    case = Case(dtype="float32", peephole=peephole, bidirectional=True)
    each = lx.CellOptions(coupled=options[0], clip_gates=options[1])
    x, state, (cells,) = case.x(), case.state(), case.weights()
    lengths = None if lengths is None else np.array(lengths)
    expected = onnx_answer(x, cells, state, (each, each), lengths=lengths)
    ours = lx.lstm(x, (cells,), state, lengths=lengths, options=each, engine="numba")
    assert_equal(flat(ours), expected, 1e-6)


@pytest.mark.parametrize("batch", [1, 2, 3])
@pytest.mark.parametrize("proj_size", [0, 3])
@pytest.mark.parametrize("name", OPTIONS)
def test_a_stream_has_options(name: str, proj_size: int, batch: int) -> None:
    case = Case(num_layers=3, batch=batch, proj_size=proj_size, peephole=True, scale=2.0)
    options = OPTIONS[name] if proj_size == 0 else replace(OPTIONS[name], clip_proj=0.2)
    net = case.lstm(options=options)
    stream = net.stream(case.state(), batch, engine="numba")
    outputs = np.stack([stream(frame) for frame in case.x()])
    expected = flat(net(**case.arguments(), engine="standard"))
    for ours, theirs in zip((outputs, *stream.state), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-14)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("options", [lx.CellOptions(), *OPTIONS.values()], ids=str)
@pytest.mark.parametrize("peephole", [False, True], ids=["", "peephole"])
def test_what_is_not_finite(peephole: bool, options: lx.CellOptions, batch: int) -> None:
    """NaN is not clipped to a bound, and an infinite state is not NaN to a cell that has no peephole."""
    case = Case(batch=batch, peephole=peephole)
    arguments = case.arguments()
    _, c = arguments["state"]
    c[0, 0] = np.inf, -np.inf, 1.0, 0.0
    arguments["x"][4, 0, 1] = np.nan
    with np.errstate(invalid="ignore"):  # a closed gate times infinity
        expected, ours = (
            flat(lx.lstm(weights=case.weights(), **arguments, options=options, engine=engine))
            for engine in ("standard", "numba")
        )
    assert np.isnan(expected[0][4:, 0]).all()
    assert np.isfinite(expected[0][0, 0, 2:]).all()
    for found, wanted in zip(ours, expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-14)


def test_neutral_options_are_torchs_cell_bit_for_bit() -> None:
    case = Case(bidirectional=True, batch=5, dtype="float32")
    neutral = lx.CellOptions(clip_gates=np.inf, clip_cell=np.inf, peephole_output="old")
    plain, other = (
        flat(lx.lstm(weights=case.weights(), **case.arguments(), options=options, engine="numba"))
        for options in (lx.CellOptions(), neutral)
    )
    assert_equal(plain, torch_answer(case), 1e-6)
    for ours, theirs in zip(plain, other, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("case", "keep", "reason"),
    [
        (Case(dtype="float16"), (), "it is for float32 and float64"),
        (Case(variant="activations"), (), "it has no activations but sigmoid and tanh"),
        (Case(norm="joint"), (), "it has no layer normalisation"),
        (Case(), ("c", "o"), "it keeps no gates"),
    ],
    ids=str,
)
def test_what_it_refuses(case: Case, keep: tuple[str, ...], reason: str) -> None:
    with pytest.raises(ValueError, match=f"the engine 'numba' cannot run this: {reason}"):
        lx.trace(weights=case.weights(), **case.arguments(), **case.settings, keep=keep, engine="numba")
