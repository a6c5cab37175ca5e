"""Ragged batches: lengths, masks with holes, outputs that are zero or held."""

import numpy as np
import pytest

from conformance import oracle
from conformance.backends import Backend
from conformance.cases import Case
from conformance.compare import tolerance_of
from conformance.running import Checker, fit, run


@pytest.mark.cases(lambda case: case.valid != "all" and case.variant == "torch" and case.time < 1000)
def test_equals_torch_on_the_valid_steps_alone(backend: Backend, case: Case, check: Checker) -> None:
    check(run(case, backend), oracle.truth(case), tolerance_of(case))


@pytest.mark.parametrize("integer", ["int8", "int32", "int64", "uint8", "uint16", "uint32", "uint64"])
def test_lengths_of_any_integer_dtype(backend: Backend, integer: str, check: Checker) -> None:
    if integer.endswith("64") and backend.device == "no_x64":
        integer = integer.replace("64", "16")
    case = Case(time=2, batch=4, valid="lengths", dtype=backend.dtypes[0])
    actual = run(case, backend, lambda given: given | {"lengths": given["lengths"].astype(integer)})
    check(actual, oracle.truth(case), tolerance_of(case))


@pytest.mark.parametrize(
    ("integer", "out_of_range"),
    [
        ("int32", (2**31 - 1, -1)),
        ("int64", (2**32 + 1, -(2**32) + 1)),
        ("uint32", (2**31, 0)),
        ("uint64", (2**63 + 1, 0)),
    ],
)
def test_lengths_out_of_range(backend: Backend, integer: str, out_of_range: tuple[int, int], check: Checker) -> None:
    """Refused in NumPy's arrays, clipped in others: also those that 32 bits would take for small ones."""
    if integer.endswith("64") and backend.device == "no_x64":
        pytest.skip("it has no 64 bits")
    case = Case(time=2, batch=4, valid="lengths", dtype=backend.dtypes[0])
    assert case.lengths().tolist() == [1, 2, 1, 0]
    lengths = np.array([1, out_of_range[0], 1, out_of_range[1]], integer)
    beyond = lambda given: given | {"lengths": lengths}
    if backend.module == "numpy":
        with pytest.raises(ValueError, match=f"`lengths` has values from {lengths.min()} to {lengths.max()}, expected"):
            run(case, backend, beyond)
        return
    check(run(case, backend, beyond), oracle.truth(case), tolerance_of(case))


@pytest.mark.parametrize("masked_output", ["zero", "hold"])
def test_a_row_without_a_valid_step_returns_its_initial_state(backend: Backend, masked_output: str) -> None:
    case = Case(time=2, batch=4, valid="lengths", masked_output=masked_output, dtype=backend.dtypes[0])
    assert case.lengths()[3] == 0
    output, h_n, c_n = run(case, backend)
    h_0, c_0 = case.state()
    assert not output[:, 3].any()
    np.testing.assert_array_equal(h_n[:, 3], h_0[:, 3])
    np.testing.assert_array_equal(c_n[:, 3], c_0[:, 3])


@pytest.mark.parametrize("reverse", [False, True])
def test_more_steps_than_8_bits_count(backend: Backend, reverse: bool, check: Checker) -> None:
    """Count past 127: lengths that leave nothing out change nothing."""
    case = fit(Case(time=300, batch=2, reverse=reverse, masked_output="hold", dtype=backend.dtypes[0]), backend)
    everything = np.full(case.batch, case.time, "int32")
    actual = run(case, backend, lambda given: given | {"lengths": everything})
    check(actual, run(case, backend), tolerance_of(case))
