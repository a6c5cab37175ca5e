"""The backward pass of the engine `numba`: what it does beside NumPy's."""

from typing import Any

import numpy as np
import pytest

import lstm_xp as lx
from conformance.cases import Case
from conformance.derivatives import compare_gradients, loss_weights, torch_gradients

pytestmark = pytest.mark.needs("numba")


def derivatives(case: Case, engine: str) -> dict[str, np.ndarray]:
    _, pullback = lx.lstm_vjp(weights=case.weights(), **case.arguments(), **case.settings, engine=engine)
    d_output, *d_state = loss_weights(case)
    d_x, d_weights, (d_h, d_c) = pullback(d_output, tuple(d_state))
    return {"x": d_x, "h_0": d_h, "c_0": d_c} | lx.LSTM.from_weights(d_weights).state_dict()


@pytest.mark.needs("torch")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("proj_size", [0, 5, 33])
@pytest.mark.parametrize("hidden_size", [1, 15, 16, 17, 37, 64, 65])
def test_one_row_in_panels(hidden_size: int, proj_size: int, dtype: str) -> None:
    """Less than a panel, whole ones, and some with a rest."""
    case = Case(batch=1, hidden_size=hidden_size, proj_size=min(proj_size, hidden_size - 1), num_layers=2, dtype=dtype)
    compare_gradients(derivatives(case, "numba"), torch_gradients(case), dtype)


@pytest.mark.parametrize("batch", [None, 9])
def test_float32_with_a_mask_and_a_projection(batch: int | None) -> None:
    case = Case(batch=batch, hidden_size=19, proj_size=7, num_layers=2, bidirectional=True, valid="mask")
    single = derivatives(case.replace(dtype="float32"), "numba")
    assert {array.dtype.name for array in single.values()} == {"float32"}
    compare_gradients(single, derivatives(case, "standard"), "float32")


@pytest.mark.parametrize("batch", [1, 3])
def test_read_only_weights_of_a_projection_to_one_feature(batch: int) -> None:
    """Its matrix is in both orders at once, so that it would not have to be copied."""
    case = Case(batch=batch, proj_size=1)
    _, pullback = case.lstm().vjp(case.x(), case.state(), engine="numba")
    d_output, *d_state = loss_weights(case)
    np.testing.assert_allclose(pullback(d_output, d_state)[0], derivatives(case, "standard")["x"], rtol=0, atol=1e-14)


@pytest.mark.parametrize(("batch", "blocks"), [(5, 3), (8, 4)])
def test_blocks_of_rows_change_no_result(batch: int, blocks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from lstm_xp.engines import _blas

    case = Case(hidden_size=16 * blocks, batch=batch, num_layers=2)
    monkeypatch.setattr(_blas, "SMALL", 16 * 4 * 16 * blocks * batch)
    assert _blas.count_blocks(16 * blocks, 4 * 16 * blocks, batch, one_thread=True) == blocks
    expected = derivatives(case, "standard")
    for engine in ("numpy", "numba"):
        compare_gradients(derivatives(case, engine), expected)


def test_it_is_compiled_ahead_and_for_whatever_lies_in_memory() -> None:
    """Kernels have these signatures: another would raise. Warming up leaves nothing to compile."""
    from lstm_xp.engines import _kernels as engine

    lx.warm_up("numba")
    kernels = engine.row_back_kernel, engine.batch_back_kernel, engine.dot_kernel
    assert [kernel.cache_info().currsize for kernel in kernels] == [2, 2, 2]
    case = Case(num_layers=2, bidirectional=True, valid="mask", proj_size=2)
    for batch in (None, 3):
        each = case.replace(batch=batch)
        compare_gradients(derivatives(each, "numba"), derivatives(each, "standard"))
    assert [len(kernel(char).signatures) for kernel in kernels for char in "fd"] == [1, 1, 1, 1, 3, 3]


@pytest.mark.parametrize("name", ["_advance_keeping", "_retreat"])
def test_all_units_are_computed_side_by_side(name: str) -> None:
    """The loop over them is vectorised: it divides vectors, one for each tanh."""
    from lstm_xp.engines import _kernels as engine

    function = getattr(engine, name)
    fresh = type(function)(function.py_func, targetoptions=function.targetoptions)
    n, ones = 4, lambda count: np.ones(count, np.float32)
    arguments: tuple[Any, ...] = (ones(4 * n), ones(n), ones(n))
    if name == "_retreat":
        arguments = (*arguments, ones(n), ones(n), ones(4 * n))
    fresh(*arguments)
    (assembly,) = fresh.inspect_asm().values()
    packed = [line for line in assembly.splitlines() if "divps" in line or "fdiv\tv" in line or "fdiv v" in line]
    assert len(packed) >= (5 if name == "_advance_keeping" else 1)
