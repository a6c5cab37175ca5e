"""Functions of the standard of 2023.12, with its signatures: those that an LSTM needs."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ._array import FLOATING, NUMERIC, REAL, Array, data_of
from ._dtypes import Device, DType, check_device, check_dtype
from ._kernels import kernel

Axes = int | tuple[int, ...]


def _elementwise(name: str, kinds: str, arguments: int) -> Callable[..., Array]:
    function = kernel(name)

    def apply(*arrays: Array) -> Array:
        if len(arrays) != arguments:
            msg = f"{name}() takes {arguments} arrays, {len(arrays)} were given"
            raise TypeError(msg)
        return Array(function(*data_of(*arrays, kinds=kinds)))

    apply.__name__ = name
    return apply


ELEMENTWISE = {name: _elementwise(name, FLOATING, 1) for name in ("exp", "expm1", "log1p", "sqrt", "tanh")}
ELEMENTWISE["abs"] = _elementwise("abs", NUMERIC, 1)
ELEMENTWISE["logaddexp"] = _elementwise("logaddexp", "f", 2)
ELEMENTWISE["logical_and"] = _elementwise("logical_and", "b", 2)


def _numpy_dtype(dtype: DType | None) -> str | None:
    return None if dtype is None else check_dtype(dtype).name


def asarray(
    obj: Any, /, *, dtype: DType | None = None, device: Device | None = None, copy: bool | None = None
) -> Array:
    """Return an array of numbers, lists or buffers of them, NumPy's arrays included: always a copy, but of its own."""
    check_device(device)
    if isinstance(obj, Array):
        return astype(obj, dtype or obj.dtype, copy=bool(copy))
    if copy is False:
        msg = "copy=False, but only an array of tinyarrays goes without a copy"
        raise ValueError(msg)
    return Array(np.array(obj, dtype=_numpy_dtype(dtype)))


def astype(x: Array, dtype: DType, /, *, copy: bool = True, device: Device | None = None) -> Array:
    check_device(device)
    (data,) = data_of(x)
    if data.dtype.kind == "c" and np.dtype(_numpy_dtype(dtype)).kind != "c":
        msg = f"there is no conversion from {x.dtype!r} to {dtype!r}"
        raise TypeError(msg)
    return Array(data.astype(_numpy_dtype(dtype), copy=copy))


def arange(
    start: float,
    /,
    stop: float | None = None,
    step: float = 1,
    *,
    dtype: DType | None = None,
    device: Device | None = None,
) -> Array:
    check_device(device)
    start, stop = (0, start) if stop is None else (start, stop)
    return Array(np.arange(start, stop, step, dtype=_numpy_dtype(dtype)))


def zeros_like(x: Array, /, *, dtype: DType | None = None, device: Device | None = None) -> Array:
    check_device(device)
    return Array(np.zeros_like(*data_of(x), dtype=_numpy_dtype(dtype)))


def full_like(x: Array, /, fill_value: float, *, dtype: DType | None = None, device: Device | None = None) -> Array:
    check_device(device)
    return Array(np.full_like(*data_of(x), fill_value, dtype=_numpy_dtype(dtype)))


def ones_like(x: Array, /, *, dtype: DType | None = None, device: Device | None = None) -> Array:
    return full_like(x, 1, dtype=dtype, device=device)


def clip(x: Array, /, min: float | Array | None = None, max: float | Array | None = None) -> Array:  # noqa: A002 - the standard's names
    (data,) = data_of(x, kinds=REAL)
    bounds = [data_of(x, each)[1] if isinstance(each, Array) else each for each in (min, max)]
    return Array(np.clip(data, *bounds).astype(data.dtype, copy=False))


def concat(arrays: Sequence[Array], /, *, axis: int | None = 0) -> Array:
    return Array(np.concatenate(data_of(*arrays), axis=axis))


def cumulative_sum(
    x: Array, /, *, axis: int | None = None, dtype: DType | None = None, include_initial: bool = False
) -> Array:
    (data,) = data_of(x, kinds=NUMERIC)
    return Array(np.cumulative_sum(data, axis=axis, dtype=_numpy_dtype(dtype), include_initial=include_initial))


def expand_dims(x: Array, /, *, axis: int = 0) -> Array:
    return Array(np.expand_dims(*data_of(x), axis))


def flip(x: Array, /, *, axis: Axes | None = None) -> Array:
    return Array(kernel("flip")(*data_of(x), axis))


def matmul(x1: Array, x2: Array, /) -> Array:
    return Array(kernel("matmul")(*data_of(x1, x2, kinds=NUMERIC)))


def matrix_transpose(x: Array, /) -> Array:
    return Array(np.matrix_transpose(*data_of(x)))


def any(x: Array, /) -> Array:  # noqa: A001 - the standard's name
    return Array(np.any(*data_of(x)))


def broadcast_to(x: Array, /, shape: tuple[int, ...]) -> Array:
    return Array(np.broadcast_to(*data_of(x), shape))


def reshape(x: Array, /, shape: tuple[int, ...]) -> Array:
    return Array(np.reshape(*data_of(x), shape))


def zeros(shape: tuple[int, ...], *, dtype: DType | None = None, device: Device | None = None) -> Array:
    check_device(device)
    return Array(np.zeros(shape, dtype=_numpy_dtype(dtype)))


def mean(x: Array, /, *, axis: Axes | None = None, keepdims: bool = False) -> Array:
    return Array(np.mean(*data_of(x, kinds=FLOATING), axis=axis, keepdims=keepdims))


def permute_dims(x: Array, /, axes: tuple[int, ...]) -> Array:
    return Array(np.transpose(*data_of(x), axes))


def stack(arrays: Sequence[Array], /, *, axis: int = 0) -> Array:
    return Array(kernel("stack")(list(data_of(*arrays)), axis))


def sum(  # noqa: A001 - the standard's name
    x: Array, /, *, axis: Axes | None = None, dtype: DType | None = None, keepdims: bool = False
) -> Array:
    (data,) = data_of(x, kinds=NUMERIC)
    return Array(np.sum(data, axis=axis, dtype=_numpy_dtype(dtype), keepdims=keepdims))


def tensordot(x1: Array, x2: Array, /, *, axes: int | tuple[Sequence[int], Sequence[int]] = 2) -> Array:
    return Array(np.tensordot(*data_of(x1, x2, kinds=NUMERIC), axes))


def unstack(x: Array, /, *, axis: int = 0) -> tuple[Array, ...]:
    return tuple(Array(each) for each in np.moveaxis(*data_of(x), axis, 0))


def where(condition: Array, x1: Array, x2: Array, /) -> Array:
    return Array(np.where(*data_of(condition, kinds="b"), *data_of(x1, x2)))
