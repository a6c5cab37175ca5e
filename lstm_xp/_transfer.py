"""The way of an array from one library, dtype or device to another: exact, or refused."""

import numpy as np

from lstm_xp._namespace import (
    NUMPY_ARRAYS,
    array_namespace,
    device_keyword,
    dtype_name,
    library_name,
    standard_namespace,
)
from lstm_xp._typing import Array, Device, DType, Namespace


def numpy_kind(name: str) -> str | None:
    """Return the kind of NumPy's own dtype of a name, or None if it has none: bfloat16 is none of its own."""
    try:
        dtype = np.dtype(name)
    except TypeError:
        return None
    return dtype.kind if dtype.isbuiltin == 1 else None


def real_floating_dtype(xp: Namespace, dtype: DType) -> DType:
    """
    Return the library's own real floating dtype of a name.

    Parameters
    ----------
    xp : array namespace
        The library.
    dtype : str or dtype
        The dtype, by its name or as any library spells it.

    Returns
    -------
    dtype
        The library's.

    Raises
    ------
    TypeError
        The library has no real floating dtype of that name, or would make another one of it, as JAX does of float64
        unless told otherwise.
    """
    name = dtype_name(dtype)
    own = _own_dtype(xp, name)
    if own is None:
        msg = f"`dtype` is {name!r}, expected a real floating dtype of {library_name(xp)}"
        raise TypeError(msg)
    if dtype_name(own) != name:
        msg = f"`dtype` is {name!r}, of which {library_name(xp)} would make {dtype_name(own)} as it is configured"
        raise TypeError(msg)
    return own


def _own_dtype(xp: Namespace, name: str) -> DType | None:
    """Return what a library makes of a real floating dtype of a name, or None if it cannot."""
    try:
        if numpy_kind(name) == "f":  # not by its name: Dask has float16 but does not name it
            made = xp.asarray(np.empty(0, name)).dtype
            return made if dtype_name(made) == name else _named_dtype(xp, name) or made
        return _named_dtype(xp, name) if numpy_kind(name) is None else None
    except (TypeError, AttributeError):  # the library does not have it, or the name is something else's
        return None


def _named_dtype(xp: Namespace, name: str) -> DType | None:
    """Return the real floating dtype that a library has under a name; None if it has none, or takes another for it."""
    own = getattr(xp, name, None)
    if own is None or not xp.isdtype(own, "real floating"):
        return None
    return own if dtype_name(xp.result_type(own, own)) == name else None


def to_numpy(array: Array, name: str) -> np.ndarray:
    """
    Return a fresh NumPy array with the values of any array.

    Parameters
    ----------
    array : array
        The array. One of a lazy library is computed.
    name : str
        What the caller knows it by.

    Returns
    -------
    numpy.ndarray
        A copy that nothing else holds.

    Raises
    ------
    TypeError
        Its values cannot be expressed by NumPy (bfloat16, say), or are not there yet (a tracer).
    """
    try:
        if hasattr(array, "unwrap_numpy"):  # ndonnx, whose arrays np.asarray takes for objects
            result = np.array(array.unwrap_numpy(), order="C")
        elif hasattr(array, "__dlpack__") and not isinstance(array, NUMPY_ARRAYS):
            result = _from_dlpack(array)
        else:  # asarray first: not every `__array__` knows that it may be asked for a copy
            result = np.array(np.asarray(array), order="C")
    except (TypeError, ValueError, RuntimeError, BufferError) as error:
        msg = f"`{name}` ({type(array).__name__}, {dtype_name(array.dtype)}) cannot become a NumPy array: {error}"
        raise TypeError(msg) from error
    if result.dtype.kind == "O":
        msg = f"`{name}` ({type(array).__name__}) cannot become a NumPy array"
        raise TypeError(msg)
    # JAX's copies are read-only, which torch would share and warn of.
    return result if result.flags.writeable else result.copy()


def _from_dlpack(array: Array) -> np.ndarray:
    try:
        return np.from_dlpack(array, device="cpu", copy=True)
    except BufferError:  # as for JAX's arrays that lie on several devices
        return np.array(array, order="C")


def from_numpy(array: np.ndarray, xp: Namespace, *, dtype: DType = None, device: Device = None) -> Array:
    """
    Return a library's array with the values of a NumPy array.

    Parameters
    ----------
    array : numpy.ndarray
        The values. It may be kept: pass one that nothing else holds.
    xp : array namespace
        The library.
    dtype : str or dtype, optional
        The dtype; the array's own if absent.
    device : device, optional
        The device, as the library spells it; its default if absent.

    Returns
    -------
    array
        The library's array.

    Raises
    ------
    TypeError
        The library does not have the dtype, or would make another one of it.
    """
    wanted = dtype_name(array.dtype if dtype is None else dtype)
    own = real_floating_dtype(xp, wanted)
    # Round here, where it is the same for every library; of what NumPy does not have, bfloat16, all but the last step.
    array = array.astype(wanted if numpy_kind(wanted) else "float32", copy=False)
    result = xp.asarray(array, **device_keyword(device))
    if dtype_name(result.dtype) == wanted:
        return result
    # The dtype by name: MLX makes float32 of NumPy's float64 unless told, and NumPy does not have bfloat16.
    return xp.asarray(array, dtype=own, **device_keyword(device)) if numpy_kind(wanted) else xp.astype(result, own)


def move(
    array: Array, name: str, xp: Namespace | None, *, dtype: DType = None, device: Device = None, detach: bool = False
) -> Array:
    """
    Return a copy of an array in another library, dtype or on another device.

    Parameters
    ----------
    array : array
        The array.
    name : str
        What the caller knows it by.
    xp : array namespace or None
        The library; the array's own if None.
    dtype : str or dtype, optional
        The dtype; the array's own if absent.
    device : device, optional
        The device, as the library spells it. If absent, the array's own within one library, else the default.
    detach : bool, optional
        Take the values of a tensor that requires grad.

    Returns
    -------
    array
        The copy.

    Raises
    ------
    TypeError
        A tensor requires grad and `detach` is false, or the library does not have the dtype.
    """
    if getattr(array, "requires_grad", False):
        if not detach:
            msg = f"`{name}` requires grad, which a copy would cut off; pass detach=True to copy its values"
            raise TypeError(msg)
        array = array.detach()
    own = array_namespace(array, name)
    xp = own if xp is None else standard_namespace(xp)
    held = dtype_name(array.dtype)
    wanted = held if dtype is None else dtype_name(dtype)
    if xp is own:
        changed = array if wanted == held else xp.astype(array, real_floating_dtype(xp, wanted))
        return xp.asarray(changed, copy=True, **device_keyword(device))
    real_floating_dtype(xp, wanted)  # before anything is moved
    if numpy_kind(held) is None:
        array = own.astype(array, own.float32)  # which bfloat16 fits into, exactly
    return from_numpy(to_numpy(array, name), xp, dtype=wanted, device=device)
