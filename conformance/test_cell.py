"""One step by itself: `lstm_cell`, with any number of batch dimensions."""

import numpy as np
import pytest

import lstm_xp as lx
from conformance import oracle
from conformance.backends import Backend
from conformance.cases import Case, map_arrays
from conformance.compare import tolerance_of
from conformance.running import Checker, as_numpy

CELL = Case(time=1, batch=6)


def cell_cases() -> list[Case]:
    """Return every variant of the cell, with and without biases and projection."""
    plain = [Case(time=3, proj_size=p, bias=b) for p in (0, 2) for b in (("bias_ih", "bias_hh"), (), ("bias_hh",))]
    return [*plain, *(Case(time=3, variant=v) for v in ("peephole", "coupled", "clipped", "activations"))]


@pytest.mark.parametrize("batch", [(), (6,), (2, 3)], ids=str)
@pytest.mark.parametrize("given", [True, False], ids=["state", "no-state"])
def test_batch_dimensions(backend: Backend, dtype: str, batch: tuple[int, ...], given: bool, check: Checker) -> None:
    case = CELL.replace(dtype=dtype, start="given" if given else "absent", batch=6 if batch else 1)
    _, h, c = oracle.truth(case)
    ((weights,),) = map_arrays(backend.array, case.weights())
    shaped = lambda array: backend.array(array.reshape(*batch, array.shape[-1]))
    x, state = shaped(case.x()[0]), tuple(shaped(array[0]) for array in case.state()) if given else None
    result = backend.call(lx.lstm_cell, x, weights, state)
    expected = [array.reshape(*batch, array.shape[-1]) for array in (h, c)]
    check(as_numpy(backend, result, x, ("h", "c")), expected, tolerance_of(case), ("h", "c"))


@pytest.mark.parametrize("case", cell_cases(), ids=str)
def test_step_by_step(backend: Backend, dtype: str, case: Case, check: Checker) -> None:
    case = case.replace(dtype=dtype, time=min(case.time, backend.steps))
    expected, _, _ = oracle.truth(case)
    ((weights,),) = map_arrays(backend.array, case.weights())
    h, c = (backend.array(array[0]) for array in case.state())
    step = lambda x, h, c: lx.lstm_cell(x, weights, (h, c), options=case.options[0])
    for t, x in enumerate(case.x()):
        given = backend.array(x)
        h, c = backend.call(step, given, h, c)
        (actual,) = as_numpy(backend, (h,), given, ("h",))
        check((actual,), (expected[t],), tolerance_of(case), (f"h after step {t}",))


def test_a_state_of_batch_one_is_broadcast(backend: Backend, check: Checker) -> None:
    case = CELL.replace(dtype=backend.dtypes[0], start="one")
    _, h, c = oracle.truth(case)
    ((weights,),) = map_arrays(backend.array, case.weights())
    x, state = backend.array(case.x()[0]), tuple(backend.array(array[0]) for array in case.state())
    result = backend.call(lx.lstm_cell, x, weights, state)
    check(as_numpy(backend, result, x, ("h", "c")), (h[0], c[0]), tolerance_of(case), ("h", "c"))


def test_a_state_of_some_other_batch_is_refused(backend: Backend) -> None:
    case = CELL.replace(dtype=backend.dtypes[0])
    ((weights,),) = map_arrays(backend.array, case.weights())
    x = backend.array(case.x()[0].reshape(2, 3, -1))
    for batch in ((1, 3), (2, 1), (3, 2), (6,)):
        state = tuple(backend.array(np.zeros((*batch, 4), case.dtype)) for _ in range(2))
        with pytest.raises(ValueError, match=r"`h_0` has shape .*, expected \(\.\.\., hidden_size\) = \(2, 3, 4\)"):
            lx.lstm_cell(x, weights, state)


def test_with_the_namespace_given(backend: Backend, dtype: str) -> None:
    case = CELL.replace(dtype=dtype)
    ((weights,),) = map_arrays(backend.array, case.weights())
    x, state = backend.array(case.x()[0]), tuple(backend.array(array[0]) for array in case.state())
    asked = backend.to_numpy(backend.call(lx.lstm_cell, x, weights, state))
    xp = backend.library
    told = backend.to_numpy(backend.call(lambda *args: lx.lstm_cell(*args, xp=xp), x, weights, state))
    for a, b in zip(asked, told, strict=True):
        np.testing.assert_array_equal(a, b)
