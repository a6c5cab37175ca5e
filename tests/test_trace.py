"""`lx.trace` and resets on each engine: what conformance/ does not see of them."""

from itertools import product
from typing import Any

import numpy as np
import pytest

import lstm_xp as lx
from conformance.cases import Case, map_arrays
from conformance.compare import compare, flat
from lstm_xp.engines import numpy as numpy_engine

EVERYTHING = ("h", "c", "i", "f", "g", "o")
CASES = [
    Case(**settings, num_layers=2)
    for settings in (
        {"bidirectional": True, "proj_size": 2},
        {"reverse": True, "batch": 1},
        {"bidirectional": True, "valid": "lengths", "batch": 6},
        {"bidirectional": True, "valid": "mask", "batch": 5, "masked_output": "hold"},
        {"reverse": True, "valid": "lengths", "batch": 4, "masked_output": "hold"},
        {"valid": "mask", "batch": 2},
    )
]


def leaves(trace: lx.Trace) -> tuple[Any, ...]:
    """Return all arrays of a trace but its input."""
    found: list[Any] = []
    map_arrays(found.append, tuple(trace)[1:])
    return tuple(found)


def assert_same(actual: lx.Trace, expected: lx.Trace, tolerance: float = 1e-14) -> None:
    ours, theirs = leaves(actual), leaves(expected)
    compare(tuple(map(np.asarray, ours)), theirs, tolerance, names=tuple(str(k) for k in range(len(theirs))))


def resets(case: Case) -> np.ndarray:
    """Return where episodes begin: at every third step or so, in and beside the padding."""
    reset = case.draw("reset", (case.time, case.batch or 1)) < -0.3
    assert reset.any()
    return reset


@pytest.mark.parametrize("buffer", [1, 2**18])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_numpy_keeps_what_the_reference_does(
    case: Case, threads: int, buffer: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numpy_engine, "BUFFER", buffer)
    for reset, keep in product((None, resets(case)), (EVERYTHING, ("c",), ("h", "f"))):
        arguments = {**case.arguments(), "reset": reset, "keep": keep}
        expected = case.lstm().trace(**arguments, engine="standard")
        assert_same(case.lstm().trace(**arguments, engine="numpy", threads=threads), expected)


@pytest.mark.parametrize("case", [CASES[k].replace(peephole=True) for k in (0, 1, 4)], ids=str)
@pytest.mark.parametrize(
    "options",
    [
        lx.CellOptions(),
        lx.CellOptions(peephole_output="old", coupled=True),
        lx.CellOptions(clip_gates=0.4, clip_cell=0.3),
    ],
    ids=str,
)
def test_numpy_keeps_the_gates_of_variants(case: Case, options: lx.CellOptions) -> None:
    net, arguments = case.lstm(options=options), {**case.arguments(), "reset": resets(case)}
    assert_same(net.trace(**arguments, engine="numpy"), net.trace(**arguments, engine="standard"))


@pytest.mark.needs("torch")
@pytest.mark.parametrize(
    ("much", "small"), [(0, 2**10), (2**20, 0), (2**20, 2**10)], ids=["by steps", "by gates", "by doubling"]
)
@pytest.mark.parametrize("bias", [("bias_ih", "bias_hh"), ("bias_hh",), ()], ids=str)
@pytest.mark.parametrize("case", [*CASES[:2], CASES[0].replace(proj_size=0)], ids=str)
def test_torch_finds_out_what_its_kernel_does_not_tell(
    case: Case, bias: tuple[str, ...], much: int, small: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from lstm_xp.engines import torch as torch_engine

    case = case.replace(bias=bias)
    arrays = map_arrays(torch.tensor, case.arguments())
    net = case.lstm(torch.tensor)
    monkeypatch.setattr(torch_engine, "MUCH", much)
    monkeypatch.setattr(torch_engine, "SMALL", small)
    for keep in (("h",), ("c",), ("c", "g"), EVERYTHING):
        expected = case.lstm().trace(**case.arguments(), keep=keep, engine="standard")
        assert_same(net.trace(**arrays, keep=keep, engine="torch"), expected)


@pytest.mark.needs("dask")
@pytest.mark.parametrize("case", CASES, ids=str)
def test_dask_in_blocks(case: Case) -> None:
    import dask
    import dask.array as da

    arguments = {**case.arguments(), "reset": resets(case)}
    lazy = map_arrays(
        lambda array: da.from_array(array, chunks=(2,) * (array.ndim > 0) + (-1,) * (array.ndim - 1)), arguments
    )
    expected = case.lstm().trace(**arguments, engine="standard")
    found = case.lstm().trace(**lazy)
    compare(dask.compute(*leaves(found)), leaves(expected), 1e-14, names=("",) * len(leaves(expected)))
    without_resets = case.lstm().trace(**(lazy | {"reset": None}), keep=("c",))
    expected = case.lstm().trace(**(arguments | {"reset": None}), keep=("c",), engine="standard")
    compare(dask.compute(*leaves(without_resets)), leaves(expected), 1e-14, names=("",) * len(leaves(expected)))


@pytest.mark.needs("jax")
@pytest.mark.parametrize("keep", [("c",), EVERYTHING], ids="".join)
@pytest.mark.parametrize("case", [CASES[0].replace(proj_size=0), CASES[2]], ids=str)
def test_jax_under_jit_and_its_gradient(case: Case, keep: tuple[str, ...]) -> None:
    """The gradient of cell states, which the plain cell's own rule has to have, too; beside torch's."""
    import jax
    import torch

    def total(trace: lx.Trace) -> Any:
        """Return a sum in which each number of each state counts differently."""
        return sum((array * (k + 1)).sum() for k, array in enumerate(leaves(trace)))

    settings = {"keep": keep, **case.settings}
    with jax.enable_x64(True):
        weights, arrays = map_arrays(jax.numpy.asarray, (case.weights(), case.arguments()))
        found = jax.jit(lambda weights, arrays: lx.trace(weights=weights, **arrays, **settings))(weights, arrays)
        assert isinstance(found, lx.Trace)
        assert_same(found, lx.trace(weights=case.weights(), **case.arguments(), engine="standard", **settings))
        ours = jax.grad(lambda weights: total(lx.trace(weights=weights, **arrays, **settings)))(weights)
        ours = map_arrays(np.asarray, ours)
    tensors = map_arrays(lambda array: torch.tensor(array, requires_grad=True), case.weights())
    arguments = map_arrays(torch.tensor, case.arguments())
    total(lx.trace(weights=tensors, **arguments, engine="standard", **settings)).backward()
    map_arrays(lambda _: None, tensors)
    for layer, theirs in zip(ours, tensors, strict=True):
        for cell, other in zip(layer, theirs, strict=True):
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                expected = getattr(other, name).grad.numpy()
                np.testing.assert_allclose(getattr(cell, name), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.needs("torch")
@pytest.mark.parametrize("time", [1, 2, 3, 4, 7, 8, 9, 100, 300])
def test_torch_doubles_to_any_number_of_steps(time: int) -> None:
    """And what is not finite stays out of the steps before it."""
    import torch

    case = Case(time=time, num_layers=2)
    x, state = case.x(), case.state()
    found = case.lstm(torch.tensor).trace(torch.tensor(x), map_arrays(torch.tensor, state), keep=("c",), engine="torch")
    assert_same(found, case.lstm().trace(x, state, keep=("c",), engine="standard"))
    x[time // 2] = np.nan
    harmed = case.lstm(torch.tensor).trace(torch.tensor(x), map_arrays(torch.tensor, state), keep=("c",))
    for (before,), (after,) in zip(found.c, harmed.c, strict=True):
        torch.testing.assert_close(after[: time // 2], before[: time // 2], rtol=0, atol=1e-14)
        assert after[time // 2 :].isnan().all()


@pytest.mark.needs("torch")
@pytest.mark.parametrize(("much", "small"), [(0, 2**10), (2**20, 0), (2**20, 2**10)])
def test_torch_differentiates_what_it_worked_out(much: int, small: int, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from lstm_xp.engines import torch as torch_engine

    monkeypatch.setattr(torch_engine, "MUCH", much)
    monkeypatch.setattr(torch_engine, "SMALL", small)
    case = CASES[0]
    gradients = []
    for engine in ("torch", "standard"):
        net = case.lstm(lambda array: torch.tensor(array, requires_grad=True))
        trace = net.trace(torch.tensor(case.x()), map_arrays(torch.tensor, case.state()), engine=engine)
        sum((array * (k + 1)).sum() for k, array in enumerate(leaves(trace))).backward()
        gradients.append([array.grad for array in net.state_dict().values()])
    for native, reference in zip(*gradients, strict=True):
        torch.testing.assert_close(native, reference, rtol=1e-10, atol=1e-10)


def test_which_engine_keeps_what() -> None:
    x, weights = CASES[0].x(), CASES[0].weights()
    assert lx.select_engine(x, weights, keep=EVERYTHING).name == "numpy"


def test_by_default_it_keeps_everything_of_what_lstm_does() -> None:
    x, weights, state = CASES[0].x(), CASES[0].weights(), CASES[0].state()
    trace = lx.trace(x, weights, state)
    assert all(getattr(trace, name) is not None for name in EVERYTHING)
    compare((trace.output, *trace.state), flat(lx.lstm(x, weights, state)), 1e-14)


def test_nothing_kept_is_the_plain_call() -> None:
    case = CASES[0]
    trace = case.lstm().trace(**case.arguments(), keep=())
    assert trace[3:] == (None,) * 6
    output, state = case.lstm()(**case.arguments())
    for ours, plain in zip((trace.output, *trace.state), (output, *state), strict=True):
        np.testing.assert_array_equal(ours, plain)
    assert trace.x is not None
    assert case.lstm().trace(**case.arguments(), keep=["c", "c", "h"]).c is not None


@pytest.mark.needs("torch")
def test_the_arrays_of_a_trace_share_no_memory() -> None:
    import torch

    trace = lx.LSTM(5, 4, bidirectional=True, seed=0).to(torch).trace(torch.ones(7, 3, 5))
    before = trace.h[0][1].clone()
    trace.output.zero_()
    assert torch.equal(trace.h[0][1], before)


@pytest.mark.parametrize("carry", [False, True])
def test_a_normalised_cell(carry: bool) -> None:
    """What is carried on is what a trace has; the output sees its norm, or it itself."""
    case = Case(num_layers=2, norm="joint")
    trace = case.lstm(options=lx.CellOptions(norm_carry=carry)).trace(**case.arguments())
    for k, ((weights,),) in enumerate(zip(case.weights(), strict=True)):
        h, c, i, f, g, o = (getattr(trace, name)[k][0] for name in EVERYTHING)
        (gamma, beta), added = weights.norm[:, -case.hidden_size :], f[1:] * c[:-1] + i[1:] * g[1:]
        raw = added if carry else c
        mean, variance = raw.mean(axis=-1, keepdims=True), raw.var(axis=-1, keepdims=True)
        normed = gamma * (raw - mean) / np.sqrt(variance + 1e-5) + beta
        np.testing.assert_allclose(c[1:], normed if carry else added, rtol=0, atol=1e-13)
        np.testing.assert_allclose(h[-len(normed) :], (o * np.tanh(c if carry else normed))[-len(normed) :], atol=1e-13)
