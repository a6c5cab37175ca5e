"""How the suite runs an LSTM on a library, and what it looks at in whatever comes back."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import pytest
from array_api_compat import device
from hypothesis import currently_in_test_context, reject

import lstm_xp as lx
from conformance.backends import Backend
from conformance.cases import Case, map_arrays
from conformance.compare import NAMES, Difference, compare, flat


def fit(case: Case, backend: Backend) -> Case:
    """Return a case as a library can run it: in a dtype that it has, no longer than it is fast enough for."""
    dtype = case.dtype if case.dtype in backend.dtypes else backend.dtypes[0]
    time = min(case.time, backend.steps)
    return case.replace(dtype=dtype, time=time)


def forward(case: Case, backend: Backend, weights: Any, arrays: dict[str, Any], **settings: Any) -> Any:
    """Return what `lstm_xp.lstm` gives for a case with a library's arrays: output, h_n and c_n."""
    chosen = case.settings | {"engine": backend.engine} | settings
    with skipping_what_is_refused(backend):
        return backend.call(_function(tuple(chosen.items())), weights, arrays)


@contextmanager
def skipping_what_is_refused(backend: Backend) -> Iterator[None]:
    """Skip what the row's engine, taken by name, says that it cannot run; of drawn examples take another one."""
    try:
        yield
    except ValueError as error:
        if not str(error).startswith(f"the engine {backend.engine!r} cannot run this: "):
            raise
        if currently_in_test_context():
            reject()
        pytest.skip(str(error))


@cache  # a compiler knows a function that it has seen
def _function(settings: tuple[tuple[str, Any], ...]) -> Callable[[Any, dict[str, Any]], Any]:
    return lambda weights, arrays: flat(lx.lstm(weights=weights, **arrays, **dict(settings)))


def run(case: Case, backend: Backend, change: Callable[[dict[str, Any]], dict[str, Any]] | None = None) -> Any:
    """
    Run a case on a library.

    Parameters
    ----------
    case : Case
        The case.
    backend : Backend
        The library.
    change : callable, optional
        Changes the NumPy arrays that the case gives, by name.

    Returns
    -------
    tuple of numpy.ndarray
        The output, h_n and c_n.
    """
    given = case.arguments() if change is None else change(case.arguments())
    arrays = map_arrays(backend.array, given)
    result = forward(case, backend, map_arrays(backend.array, case.weights()), arrays)
    return as_numpy(backend, result, arrays["x"])


def as_numpy(backend: Backend, result: Any, like: Any, names: tuple[str, ...] = NAMES) -> tuple[np.ndarray, ...]:
    """Return a library's arrays as NumPy's, after checking that they are what went in: library, dtype and device."""
    for name, array in zip(names, result, strict=True):
        assert type(array) is type(like), f"{name} is a {type(array).__name__}, expected {type(like).__name__}"
        assert array.dtype == like.dtype, f"{name} has dtype {array.dtype}, expected {like.dtype} as `x`"
        assert _device(array) == _device(like), f"{name} is on {_device(array)}, expected {_device(like)} as `x`"
    converted = backend.to_numpy(tuple(result))
    for name, array, theirs in zip(names, converted, result, strict=True):
        own = getattr(backend.namespace, array.dtype.name, None)
        named = str(theirs.dtype).endswith(array.dtype.name)
        assert named or theirs.dtype == own, f"{name} is {theirs.dtype}, but its numbers are {array.dtype}"
    return converted


def _device(array: Any) -> Any:
    try:
        return device(array)
    except AttributeError:  # not every library tells
        return None


class Checker:
    """Compares, and notes the largest difference for the report."""

    def __init__(self, note: Callable[[Difference], None]) -> None:
        self.note = note

    def __call__(self, actual: Any, expected: Any, tolerance: float, names: tuple[str, ...] = NAMES) -> None:
        """Compare tuples of NumPy arrays; raise AssertionError where they differ by more than the tolerance."""
        self.note(compare(actual, expected, tolerance, names))
