"""What equal means here."""

from typing import Any, NamedTuple

import numpy as np

from conformance.cases import Case

# Of values of order one, as an LSTM's are. What is measured lies an order of magnitude below; the largest difference
# of two right implementations was 2e-7 and 4e-16.
TOLERANCE = {"float64": 1e-14, "float32": 1e-6}
# With layer normalisation. A norm divides by a standard deviation, and where that is small, what was rounded before
# grows: of the cases in test_normalisation.py, drawn twelve times, the median difference in float32 was 2e-7, the
# largest 8e-6.
NORMALISED = {dtype: 10 * tolerance for dtype, tolerance in TOLERANCE.items()}
NAMES = ("output", "h_n", "c_n")


class Difference(NamedTuple):
    """How far an answer lies from what was expected, and how far it may."""

    error: float
    tolerance: float


def tolerance_of(case: Case) -> float:
    """Return what rounding may change in a case: variants are compared with ONNX Runtime, which has float32 alone."""
    return TOLERANCE["float32" if case.variant != "torch" else case.dtype]


def flat(result: Any) -> tuple[Any, Any, Any]:
    """Return (output, h_n, c_n) of what an LSTM returns."""
    output, (h_n, c_n) = result
    return output, h_n, c_n


def differences(actual: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Return the absolute differences; NaN and infinities equal themselves, and are infinitely far from all else."""
    with np.errstate(invalid="ignore"):
        apart = np.abs(actual.astype("float64") - expected.astype("float64"))
    same = (actual == expected) | (np.isnan(actual) & np.isnan(expected))
    return np.where(same, 0.0, np.where(np.isnan(apart), np.inf, apart))


def compare(actual: Any, expected: Any, tolerance: float, names: tuple[str, ...] = NAMES) -> Difference:
    """
    Compare tuples of NumPy arrays, whose dtype is that of the answer.

    Returns
    -------
    Difference
        The largest.

    Raises
    ------
    AssertionError
        A shape is another one, or a difference is above the tolerance.
    """
    largest = 0.0
    for name, a, e in zip(names, actual, expected, strict=True):
        assert a.shape == e.shape, f"{name} has shape {a.shape}, expected {e.shape}"
        apart = differences(a, e)
        error = float(np.max(apart, initial=0.0))
        if error > tolerance:
            where = tuple(int(k) for k in np.unravel_index(np.argmax(apart), a.shape))
            msg = (
                f"{name} differs by {error:.2e}, more than {tolerance:.0e}: at {where} {a[where]}, expected {e[where]}"
            )
            raise AssertionError(msg)
        largest = max(largest, error)
    return Difference(largest, tolerance)


def assert_equal(actual: Any, expected: Any, tolerance: float) -> None:
    """Compare output, h_n and c_n, or any tuples of NumPy arrays, of the same dtypes."""
    for name, a, e in zip(NAMES, actual, expected, strict=True):
        assert a.dtype == e.dtype, f"{name} has dtype {a.dtype}, expected {e.dtype}"
    compare(actual, expected, tolerance)
