"""
The functions of the standard that the LSTM calls, one by one, against NumPy.

They come first: where one of them is wrong, what is built of it is, and here it is told which.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from conformance.backends import Backend
from conformance.compare import compare
from conformance.running import as_numpy

# Of the largest of the result: a few units in the last place, which is what libraries differ by.
ROUNDING = {"float64": 2e-15, "float32": 5e-7}


def ramp(*shape: int) -> np.ndarray:
    """Return numbers all different, exact in any dtype."""
    return (np.arange(np.prod(shape), dtype="float64") / 4 - 2).reshape(shape)


A, B, C = ramp(3, 5), -ramp(3, 5)[::-1] + 0.5, ramp(4, 5) * 0.25
TALL = ramp(7, 3, 5) / 16
MASK = (ramp(3, 5) % 0.75 == 0) | (ramp(3, 5) > 1)
STEPS = np.arange(4, dtype="int32")

# The tails, too: a rational approximation is good in the middle and may leave [-1, 1] beyond it.
WIDE = np.concatenate([np.linspace(-30, 30, 601), [-1e30, -88.0, -9.0, -8.0, 8.0, 9.0, 88.0, 1e30, np.inf, -np.inf]])

# name -> (what is done with a namespace and arrays, the arrays). Thirds are exact in no dtype: what is computed in
# float32 behind the back of float64 is seen.
CALLS: dict[str, tuple[Callable[..., Any], tuple[np.ndarray, ...]]] = {
    "tanh": (lambda xp, a: xp.tanh(a), (WIDE,)),
    "exp": (lambda xp, a: xp.exp(a), (np.linspace(-20, 0, 67),)),
    "expm1": (lambda xp, a: xp.expm1(a), (np.linspace(-20, 0, 67),)),
    "logaddexp": (lambda xp, a: xp.logaddexp(a, xp.zeros_like(a)), (np.linspace(-20, 20, 67),)),
    "abs": (lambda xp, a: xp.abs(a), (A,)),
    "sqrt": (lambda xp, a: xp.sqrt(a), (A * A,)),
    "mean": (lambda xp, a: xp.mean(a, axis=-1, keepdims=True), (TALL / 3,)),
    "sum": (lambda xp, a: xp.sum(a, axis=(0, 1)), (TALL / 3,)),
    "sum, the axis kept": (lambda xp, a: xp.sum(a, axis=1, keepdims=True), (TALL / 3,)),
    "clip": (lambda xp, a: xp.clip(a, min=-0.5, max=0.75), (A,)),
    "clip from below": (lambda xp, a: xp.clip(a, min=-0.5), (A,)),
    "clip from above": (lambda xp, a: xp.clip(a, max=0.75), (A,)),
    "matmul": (lambda xp, a, b: xp.matmul(a, b), (C / 3, A.T / 3)),
    "@": (lambda xp, a, b: a @ b, (C / 3, A.T / 3)),
    "tensordot": (lambda xp, a, b: xp.tensordot(a, b, axes=((2,), (1,))), (TALL / 3, C / 3)),
    "tensordot over two axes": (
        lambda xp, a, b: xp.tensordot(a, b, axes=((0, 1), (0, 1))),
        (TALL / 3, TALL[..., :2] / 3),
    ),
    "matrix_transpose": (lambda xp, a: xp.matrix_transpose(a), (A,)),
    "+": (lambda xp, a, b: a + b, (A / 3, B / 3)),
    "-": (lambda xp, a: 1.0 - a, (A,)),
    "*": (lambda xp, a, b: a * b * 0.5, (A / 3, B / 3)),
    "/": (lambda xp, a, b: a / (1.0 + b * b), (A / 3, B / 3)),
    "+ broadcasts": (lambda xp, a, b: a + b, (TALL, B[0])),
    "concat": (lambda xp, a, b: xp.concat([a, b], axis=1), (A, B)),
    "stack": (lambda xp, *arrays: xp.stack(list(arrays), axis=0), (A, B, A + 1, B + 2)),
    "unstack": (lambda xp, a: xp.unstack(a)[1], (TALL,)),
    "unstack, the last": (lambda xp, a: xp.unstack(a)[-1], (TALL,)),
    "flip": (lambda xp, a: xp.flip(a, axis=0), (TALL,)),
    "expand_dims": (lambda xp, a: xp.expand_dims(a, axis=1), (A,)),
    "permute_dims": (lambda xp, a: xp.permute_dims(a, (1, 0, 2)), (TALL,)),
    "ones_like": (lambda xp, a: xp.ones_like(a), (A,)),
    "full_like": (lambda xp, a: xp.full_like(a, 1 / 3), (A,)),
    "zeros_like": (lambda xp, a: xp.zeros_like(a), (A,)),
    "where": (lambda xp, m, a, b: xp.where(m, a, b), (MASK, A, B)),
    "where broadcasts": (lambda xp, m, a, b: xp.where(m, a, b), (MASK[:, :1], A, B)),
    "index": (lambda xp, a: a[2, :, :], (TALL,)),
    "slice": (lambda xp, a: a[..., 2:4], (TALL,)),
    "slice to the end": (lambda xp, a: a[..., 3:], (TALL,)),
}
EXACT: dict[str, tuple[Callable[..., Any], tuple[np.ndarray, ...]]] = {
    "<": (lambda xp, a, b: a < b, (STEPS[:, None], np.array([[2, 4, 0]], "int32"))),
    ">": (lambda xp, a: a > 0, (A,)),
    "logical_and": (lambda xp, a, b: xp.logical_and(a, b), (MASK, MASK[::-1].copy())),
    "cumulative_sum": (lambda xp, a: xp.cumulative_sum(a, axis=0, dtype=xp.int32), (MASK.astype("int32"),)),
    "astype": (lambda xp, a: xp.astype(a, xp.int32), (MASK,)),
    "arange": (lambda xp, a: xp.arange(4, dtype=xp.int32), (A,)),
}


@pytest.mark.parametrize("name", CALLS)
def test_function(backend: Backend, dtype: str, name: str) -> None:
    function, arrays = CALLS[name]
    given = [a if a.dtype == bool else a.astype(dtype) for a in arrays]
    expected = np.asarray(function(np, *given))
    ours = [backend.array(a) for a in given]
    like = next(a for a, b in zip(ours, given, strict=True) if b.dtype != bool)
    result = backend.call(lambda *arrays: (function(backend.namespace, *arrays),), *ours)
    (actual,) = as_numpy(backend, result, like, (f"the result of `{name}`",))
    largest = max(1.0, float(np.max(np.abs(expected))))
    compare((actual,), (expected,), ROUNDING[dtype] * largest, (f"`{name}` of {backend.module}",))


@pytest.mark.parametrize("name", EXACT)
def test_function_of_whole_numbers(backend: Backend, name: str) -> None:
    function, arrays = EXACT[name]
    arrays = tuple(a.astype(backend.dtypes[0]) if a.dtype == "float64" else a for a in arrays)
    result = backend.call(lambda *arrays: (function(backend.namespace, *arrays),), *map(backend.array, arrays))
    (actual,) = backend.to_numpy(result)
    expected = function(np, *arrays)
    assert actual.dtype == expected.dtype, (
        f"`{name}` of {backend.module} gives {actual.dtype}, expected {expected.dtype}"
    )
    np.testing.assert_array_equal(actual, expected, err_msg=f"`{name}` of {backend.module}")


def test_what_is_said_to_be_missing_is(backend: Backend) -> None:
    for name in backend.missing:
        assert not hasattr(backend.namespace, name), f"{backend.module} has `{name}`: the row says that it does not"
