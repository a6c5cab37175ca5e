"""Whole sequences: layers, directions, biases, projection, layouts, initial states."""

import pytest

from conformance import oracle
from conformance.backends import Backend
from conformance.cases import Case
from conformance.compare import tolerance_of
from conformance.running import Checker, run


@pytest.mark.cases(lambda case: case.valid == "all" and case.variant == "torch" and case.time < 1000)
def test_equals_torch(backend: Backend, case: Case, check: Checker) -> None:
    check(run(case, backend), oracle.truth(case), tolerance_of(case))
