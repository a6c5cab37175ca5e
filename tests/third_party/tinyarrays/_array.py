"""The array object of the standard: immutable, and refusing all but its like and Python's own scalars."""

import sys
from types import EllipsisType, ModuleType
from typing import Any

import numpy as np

from ._dtypes import CPU, Device, DType, check_device, dtype_of
from ._kernels import kernel

# What may meet in an operation, by the letters of NumPy's kinds; all else the standard leaves undefined.
GROUPS = {"b": "boolean", "i": "integral", "u": "integral", "f": "floating", "c": "floating"}
SCALARS = {bool: "b", int: "iufc", float: "fc", complex: "c"}
Key = int | slice | EllipsisType | None


class Array:
    """An array. Functions of the namespace make it; it is never changed."""

    __array_ufunc__ = None  # NumPy leaves operators to us, who refuse its arrays
    __hash__ = None

    def __init__(self, data: np.ndarray) -> None:
        self._data = np.asarray(data).view()
        self._data.flags.writeable = False

    def __array_namespace__(self, *, api_version: str | None = None) -> ModuleType:
        if api_version not in (None, "2023.12"):
            msg = f"tinyarrays follows the standard of 2023.12, not of {api_version}"
            raise ValueError(msg)
        return sys.modules[__package__]

    @property
    def dtype(self) -> DType:
        return dtype_of(self._data)

    @property
    def device(self) -> Device:
        return CPU

    @property
    def shape(self) -> tuple[int, ...]:
        return self._data.shape

    @property
    def ndim(self) -> int:
        return self._data.ndim

    @property
    def size(self) -> int:
        return self._data.size

    def to_device(self, device: Device, /, *, stream: None = None) -> "Array":
        check_device(device)
        if stream is not None:
            msg = f"`stream` is {stream!r}, but the CPU has none"
            raise ValueError(msg)
        return self

    def __dlpack__(
        self,
        *,
        stream: None = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        return self._data.__dlpack__(stream=stream, max_version=max_version, dl_device=dl_device, copy=copy)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._data.__dlpack_device__()

    def __getitem__(self, key: "Key | tuple[Key, ...] | Array") -> "Array":
        if isinstance(key, Array) and key._data.dtype == bool:
            return Array(self._data[key._data])
        keys = key if isinstance(key, tuple) else (key,)
        if not all(each is None or type(each) in (int, slice, EllipsisType) for each in keys):
            msg = f"an index is {key!r}, expected integers, slices, `...` and None, or a boolean array"
            raise IndexError(msg)
        if ... not in keys and len(keys) - keys.count(None) != self.ndim:
            msg = f"{len(keys)} indices for {self.ndim} dimensions; `...` stands for those that are left out"
            raise IndexError(msg)
        return Array(self._data[keys])

    def __bool__(self) -> bool:
        return bool(self._data)

    def __int__(self) -> int:
        return int(self._data)

    def __float__(self) -> float:
        return float(self._data)

    def __complex__(self) -> complex:
        return complex(self._data)

    def __index__(self) -> int:
        return self._data.__index__()

    def __repr__(self) -> str:
        return f"tinyarrays.asarray({self._data.tolist()}, dtype={self.dtype!r})"


def data_of(*arrays: Array, kinds: str = "biufc") -> tuple[np.ndarray, ...]:
    """Return NumPy's arrays inside; refuse whatever is no array, of a wrong kind, or does not go with the others."""
    for array in arrays:
        if not isinstance(array, Array):
            msg = f"an argument is a {type(array).__module__}.{type(array).__name__}, expected an array of tinyarrays"
            raise TypeError(msg)
    if {array._data.dtype.kind for array in arrays} - set(kinds) or not _may_meet(*(a._data.dtype for a in arrays)):
        msg = f"there is no such operation on {' and '.join(repr(array.dtype) for array in arrays)}"
        raise TypeError(msg)
    return tuple(array._data for array in arrays)


def _may_meet(*dtypes: np.dtype) -> bool:
    """Tell whether the standard promotes dtypes: of one group, to one of that group (uint64 and int64 have none)."""
    return len({GROUPS[dtype.kind] for dtype in (*dtypes, np.result_type(*dtypes))}) == 1


def _operator(name: str, kinds: str, *, reflected: bool = False) -> Any:
    function = kernel(name)

    def operate(self: Array, other: Any) -> Array:
        if isinstance(other, Array):
            a, b = data_of(self, other, kinds=kinds)
        elif self._data.dtype.kind in SCALARS.get(type(other), "") and name != "matmul":
            (a,), b = data_of(self, kinds=kinds), other  # takes on the array's dtype
        else:
            return NotImplemented
        return Array(function(b, a) if reflected else function(a, b))

    return operate


def _unary(name: str, kinds: str) -> Any:
    function = kernel(name)
    return lambda self: Array(function(*data_of(self, kinds=kinds)))


NUMERIC, REAL, FLOATING, INTEGRAL, ANY = "iufc", "iuf", "fc", "iu", "biufc"
# The method's name -> (NumPy's function, the kinds of dtypes that it takes)
ARITHMETIC = {
    "add": ("add", NUMERIC),
    "sub": ("subtract", NUMERIC),
    "mul": ("multiply", NUMERIC),
    "truediv": ("divide", FLOATING),
    "floordiv": ("floor_divide", REAL),
    "mod": ("remainder", REAL),
    "pow": ("power", NUMERIC),
    "matmul": ("matmul", NUMERIC),
    "and": ("bitwise_and", "biu"),
    "or": ("bitwise_or", "biu"),
    "xor": ("bitwise_xor", "biu"),
    "lshift": ("left_shift", INTEGRAL),
    "rshift": ("right_shift", INTEGRAL),
}
COMPARISONS = {
    "lt": ("less", REAL),
    "le": ("less_equal", REAL),
    "gt": ("greater", REAL),
    "ge": ("greater_equal", REAL),
    "eq": ("equal", ANY),
    "ne": ("not_equal", ANY),
}
UNARY = {
    "neg": ("negative", NUMERIC),
    "pos": ("positive", NUMERIC),
    "abs": ("absolute", NUMERIC),
    "invert": ("invert", "biu"),
}
for _name, _with in (ARITHMETIC | COMPARISONS).items():
    setattr(Array, f"__{_name}__", _operator(*_with))
for _name, _with in ARITHMETIC.items():
    setattr(Array, f"__r{_name}__", _operator(*_with, reflected=True))
for _name, _with in UNARY.items():
    setattr(Array, f"__{_name}__", _unary(*_with))
