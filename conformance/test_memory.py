"""How arrays lie in memory: views, strides, transposes; and that none is changed."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from conformance import oracle
from conformance.backends import Backend
from conformance.cases import Case, map_arrays
from conformance.compare import tolerance_of
from conformance.running import Checker, as_numpy, fit, forward

CASE = Case(time=3, proj_size=2, valid="lengths", bidirectional=True)


def transposed(array: np.ndarray, backend: Backend) -> Any:
    """Return an array whose axes lie in memory the other way round."""
    axes = tuple(range(array.ndim))[::-1]
    return backend.namespace.permute_dims(backend.array(np.ascontiguousarray(array.T)), axes)


def strided(array: np.ndarray, backend: Backend) -> Any:
    """Return an array that is every second number of a larger one, in each dimension."""
    larger = np.full([2 * size for size in array.shape], 7, array.dtype)
    larger[tuple(slice(None, None, 2) for _ in array.shape)] = array
    return backend.array(larger)[tuple(slice(None, None, 2) for _ in array.shape)]


def offset(array: np.ndarray, backend: Backend) -> Any:
    """Return an array that is the end of a longer one."""
    longer = np.concatenate([np.full_like(array[:1], 7), array])
    return backend.array(longer)[(slice(1, None), *(slice(None) for _ in array.shape[1:]))]


@pytest.mark.parametrize("lay", [transposed, strided, offset])
def test_views(backend: Backend, dtype: str, lay: Callable[..., Any], check: Checker) -> None:
    case = fit(CASE.replace(dtype=dtype), backend)
    arrays, weights = map_arrays(lambda array: lay(array, backend), (case.arguments(), case.weights()))
    result = forward(case, backend, weights, arrays)
    check(as_numpy(backend, result, arrays["x"]), oracle.truth(case), tolerance_of(case))


def test_nothing_that_was_given_is_changed(backend: Backend, dtype: str) -> None:
    case = fit(CASE.replace(dtype=dtype), backend)
    arrays, weights = map_arrays(backend.array, (case.arguments(), case.weights()))
    backend.to_numpy(forward(case, backend, weights, arrays))
    for ours, given in zip(_leaves((arrays, weights)), _leaves((case.arguments(), case.weights())), strict=True):
        np.testing.assert_array_equal(backend.to_numpy((ours,))[0], given)


def _leaves(tree: Any) -> list[Any]:
    """Return the arrays in a tree."""
    leaves: list[Any] = []
    map_arrays(leaves.append, tree)
    return leaves
