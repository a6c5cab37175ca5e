"""
Numbers at the edges: saturated, subnormal, infinite, NaN.

That a subnormal is as good as zero is up to the library: what counts is that nothing is NaN and nothing warns.
"""

import numpy as np
import pytest

from conformance import oracle
from conformance.backends import Backend
from conformance.cases import Case, map_arrays
from conformance.compare import TOLERANCE
from conformance.running import Checker, as_numpy, fit, forward, run


@pytest.mark.parametrize("numbers", ["saturated", "huge", "subnormal", "infinite"])
def test_edges(backend: Backend, dtype: str, numbers: str, check: Checker) -> None:
    case = fit(Case(time=3, num_layers=2, bidirectional=True, numbers=numbers, dtype=dtype), backend)
    expected = oracle.truth(case)
    assert all(np.isfinite(array).all() for array in expected)
    check(run(case, backend), expected, TOLERANCE[dtype])


def test_nan_in_one_row_stays_in_that_row(backend: Backend, dtype: str, check: Checker) -> None:
    case = fit(Case(time=3, num_layers=2, dtype=dtype), backend)

    def with_nan(given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        given["x"][1, 2, 0] = np.nan
        return given

    actual = run(case, backend, with_nan)
    others = [0, 1]
    check([a[:, others] for a in actual], [e[:, others] for e in oracle.truth(case)], TOLERANCE[dtype])
    assert np.isnan(actual[0][1:, 2]).all()
    assert not np.isnan(actual[0][0]).any()


def test_nan_in_the_projection_reaches_no_zero_state(backend: Backend) -> None:
    """Start from zeros, not from their product with the weights: the first cell state sees no projection."""
    case = Case(time=1, proj_size=2, start="absent", dtype=backend.dtypes[0])
    ((cell,),) = case.weights()
    x, results = backend.array(case.x()), []
    for projection in (cell.weight_hr, np.full_like(cell.weight_hr, np.nan)):
        weights = map_arrays(backend.array, cell._replace(weight_hr=projection))
        results.append(as_numpy(backend, forward(case, backend, weights, {"x": x}), x))
    (_, _, c_n), (output, _, same) = results
    np.testing.assert_array_equal(same, c_n)
    assert np.isnan(output).all()


@pytest.mark.parametrize("junk", [np.nan, np.inf, 1e30])
@pytest.mark.parametrize("valid", ["lengths", "mask"])
def test_nothing_in_the_padding_leaks(backend: Backend, valid: str, junk: float, check: Checker) -> None:
    case = Case(time=4, batch=4, num_layers=2, bidirectional=True, valid=valid, masked_output="hold")
    case = fit(case.replace(dtype=backend.dtypes[0]), backend)
    dirty = lambda given: (
        given | {"x": np.where(case.valid_steps()[..., None], given["x"], given["x"].dtype.type(junk))}
    )
    check(run(case, backend, dirty), oracle.truth(case), TOLERANCE[case.dtype])
