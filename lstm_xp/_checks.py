"""The checks of arguments: by what is static alone, so that they break no `jit` and compute no lazy array."""

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import NamedTuple

from lstm_xp._namespace import check_library, dtype_name, join, on_same_device
from lstm_xp._typing import Array, Namespace


class Shape(NamedTuple):
    """A shape as numbers and as symbols; the dimensions in `batch` may all be 1 instead, to be broadcast."""

    sizes: tuple[int, ...]
    symbols: str
    batch: slice = slice(0, 0)


def is_known(size: int | float | None) -> bool:
    """Tell whether a size is known: lazy libraries have None or NaN where it is not."""
    return size is not None and not (isinstance(size, float) and math.isnan(size))


def check_shape(array: Array, name: str, expected: Shape) -> None:
    """Raise ValueError if an array has another shape than expected; a size that is not known fits."""
    given = tuple(array.shape)
    if given == expected.sizes:
        return
    sizes = list(expected.sizes)
    if len(given) == len(sizes) and all(size == 1 for size in given[expected.batch]):
        sizes[expected.batch] = given[expected.batch]
    if len(given) != len(sizes) or any(
        is_known(a) and is_known(b) and a != b for a, b in zip(given, sizes, strict=True)
    ):
        msg = f"`{name}` has shape {given}, expected {expected.symbols} = {expected.sizes}"
        raise ValueError(msg)


def check_dtype(array: Array, name: str, xp: Namespace, kind: str) -> None:
    """Raise TypeError if an array's dtype is not of a kind, as `isdtype` names it."""
    isdtype = xp.isdtype  # not below: a library that does not have it is to say so
    try:
        of_kind = isdtype(array.dtype, kind)
    except (TypeError, AttributeError):  # a dtype that is foreign to the library, as ml_dtypes' are to NumPy
        of_kind = False
    if not of_kind:
        msg = f"`{name}` has dtype {dtype_name(array.dtype)}, expected a dtype of kind {kind!r}"
        raise TypeError(msg)


def check_like(
    array: Array,
    name: str,
    like: Array,
    like_name: str,
    libraries: tuple[Namespace, ...] | None,
    kind: str | None = None,
) -> None:
    """
    Refuse an array that cannot meet another one in an operation.

    Parameters
    ----------
    array : array
        The array.
    name : str
        What the caller knows it by.
    like : array
        The other one.
    like_name : str
        What the caller knows that by.
    libraries : tuple of array namespaces or None
        The libraries that it may be of. None if the caller answers for libraries and devices: they are not looked at.
    kind : str, optional
        The kind of dtype that the array must have; if absent, the other one's dtype.

    Raises
    ------
    TypeError
        It is no array, or libraries or dtypes differ.
    ValueError
        Devices differ.
    """
    if libraries is not None:
        check_library(array, name, libraries)
    elif not hasattr(array, "dtype"):
        msg = f"`{name}` is a {type(array).__name__}, expected an array"
        raise TypeError(msg)
    if libraries is not None and kind is not None:
        check_dtype(array, name, libraries[0], kind)
    elif array.dtype != like.dtype:
        msg = f"`{name}` has dtype {dtype_name(array.dtype)}, expected {dtype_name(like.dtype)} as `{like_name}`"
        raise TypeError(msg)
    if libraries is not None and not on_same_device(array, like):
        msg = f"`{name}` is on another device than `{like_name}`"
        raise ValueError(msg)


def read_state(
    state: object, shapes: Sequence[Shape], x: Array, xp: Namespace, libraries: tuple[Namespace, ...] | None
) -> tuple[Array, Array]:
    """
    Check a state.

    Parameters
    ----------
    state : tuple of two arrays
        ``(h_0, c_0)``.
    shapes : sequence of two Shape
        What they should have.
    x : array
        The input, whose dtype and device they must have.
    xp : array namespace
        The input's library.
    libraries : tuple of array namespaces or None
        As in `check_like`.

    Returns
    -------
    tuple of two arrays
        The state, in x's library.

    Raises
    ------
    TypeError, ValueError
        It does not fit.
    """
    if not isinstance(state, (tuple, list)) or len(state) != 2:
        msg = f"`state` is {describe(state)}, expected a tuple (h_0, c_0)"
        raise TypeError(msg)
    for name, array, shape in zip(("h_0", "c_0"), state, shapes, strict=True):
        check_like(array, name, x, "x", libraries)
        check_shape(array, name, shape)
    return join(state[0], xp), join(state[1], xp)


def integer(value: object, name: str, least: int) -> int:
    """Return an integer that is at least so large."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        msg = f"`{name}` is {value!r}, expected an integer"
        raise TypeError(msg)
    if value < least:
        msg = f"`{name}` is {value}, expected at least {least}"
        raise ValueError(msg)
    return int(value)


def real_number(value: object, name: str, expected: str) -> float:
    """Return a real number as a float; raise ValueError if it is none, or too large for one."""
    try:
        if isinstance(value, Real) and not isinstance(value, bool):
            return float(value)
    except OverflowError:
        pass
    msg = f"`{name}` is {value!r}, expected {expected}"
    raise ValueError(msg)


def describe(value: object) -> str:
    """Return what to call a value that has the wrong type or length."""
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)}"
    return f"a {type(value).__name__}"
