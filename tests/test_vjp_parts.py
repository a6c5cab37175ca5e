"""Steps are linearised as many at once as fit into a cache: however many that are, the derivatives are the same."""

import pytest

from conformance.backends import by_name
from conformance.cases import Case
from conformance.derivatives import WITH_NOISE, compare_gradients
from conformance.pulling import run
from lstm_xp.engines import _stack_vjp


@pytest.mark.parametrize("steps", [0, 1, 3, 7])
@pytest.mark.parametrize(
    "case",
    [
        Case(num_layers=2, bidirectional=True, proj_size=2, valid="mask", resets=True),
        Case(reverse=True, norm="each", peephole=True, valid="lengths", batch_first=True),
        WITH_NOISE["all, a mask that holds, resets"].replace(time=7, proj_size=0),
    ],
    ids=str,
)
def test_in_parts(case: Case, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    (row,) = by_name("numpy-standard")
    _, expected = run(row, case)
    monkeypatch.setattr(_stack_vjp, "CHUNK", steps * 4 * case.batch * case.hidden_size)
    _, found = run(row, case)
    compare_gradients(found, expected)
