"""A thousand steps, and weights four times as large as torch draws them."""

import pytest

from conformance import oracle
from conformance.backends import Backend
from conformance.cases import Case
from conformance.compare import TOLERANCE, tolerance_of
from conformance.running import Checker, fit, run

LONG = Case(time=1000, batch=2, hidden_size=3, num_layers=2, bidirectional=True)


@pytest.mark.cases(lambda case: case.time == 1000)
def test_a_thousand_steps_of_any_case(backend: Backend, case: Case, check: Checker) -> None:
    check(run(case, backend), oracle.truth(case), tolerance_of(case))


def test_a_thousand_steps(backend: Backend, dtype: str, check: Checker) -> None:
    case = fit(LONG.replace(dtype=dtype), backend)
    check(run(case, backend), oracle.truth(case), TOLERANCE[dtype])


def test_weights_four_times_as_large(backend: Backend, dtype: str, check: Checker) -> None:
    """They make errors contract less: 2e-15 and 6e-7 were measured between two right implementations."""
    case = fit(LONG.replace(dtype=dtype, scale=4.0), backend)
    check(run(case, backend), oracle.truth(case), 4 * TOLERANCE[dtype])
