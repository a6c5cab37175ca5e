"""Which library an array belongs to, and the way from one library to another."""

import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
from array_api_compat import array_namespace as compat_namespace
from array_api_compat import device as compat_device
from array_api_compat import is_dask_array, is_torch_array

from lstm_xp._typing import Array, Device, DType, Namespace

# A tuple, not a union of types: torch.compile cannot trace that.
NUMPY_ARRAYS = (np.ndarray, np.generic)


def array_namespace(array: Array, name: str) -> Namespace:
    """
    Return the namespace of one array.

    NumPy's arrays are served by NumPy itself, which follows the standard since 2.1: importing
    ``array_api_compat.numpy`` would take 80 ms.

    Parameters
    ----------
    array : array
        The array.
    name : str
        What the caller knows it by.

    Returns
    -------
    array namespace
        Its library.

    Raises
    ------
    TypeError
        It is not an array of a library that follows the standard.
    """
    if isinstance(array, NUMPY_ARRAYS):
        if isinstance(array, (np.matrix, np.ma.MaskedArray)):
            msg = f"`{name}` is a {type(array).__name__}, which does not follow the array API standard"
            raise TypeError(msg)
        if not array.dtype.isnative:
            msg = f"`{name}` has dtype {array.dtype.str!r}, expected native byte order"
            raise TypeError(msg)
        return np
    try:
        return compat_namespace(array)
    except TypeError:
        msg = (
            f"`{name}` is a {type(array).__name__}, expected an array of a library that follows the array API standard"
        )
        raise TypeError(msg) from None


def standard_namespace(xp: Namespace) -> Namespace:
    """
    Return the namespace through which a library follows the standard: for torch, say, array_api_compat's.

    Parameters
    ----------
    xp : module
        The library, or already its namespace.

    Returns
    -------
    array namespace
        The namespace.

    Raises
    ------
    TypeError
        It is not an array library.
    """
    if hasattr(xp, "isdtype") and hasattr(xp, "matrix_transpose"):
        return xp
    try:
        return compat_namespace(xp.asarray(0.0))
    except (AttributeError, TypeError):
        msg = f"`xp` is {library_name(xp)!r}, expected an array library, as numpy, torch or jax.numpy"
        raise TypeError(msg) from None


def accepted_libraries(x: Array, xp: Namespace) -> tuple[Namespace, ...]:
    """Return the libraries whose arrays may go with `x`, of the library `xp`: that, and for Dask its blocks' own."""
    return (xp, array_namespace(x._meta, "x")) if is_dask_array(x) else (xp,)


def check_library(array: Array, name: str, libraries: tuple[Namespace, ...]) -> None:
    """
    Refuse an array of another library.

    Parameters
    ----------
    array : array
        The array.
    name : str
        What the caller knows it by.
    libraries : tuple of array namespaces
        Those it may be of.

    Raises
    ------
    TypeError
        It is of another one.
    """
    own = array_namespace(array, name)
    if own not in libraries:
        expected = " or ".join(map(library_name, libraries))
        msg = f"`{name}` is an array of {library_name(own)}, expected {expected} as the other arguments"
        raise TypeError(msg)


def device_of(array: Array) -> Device:
    """Return the device of an array; None where it has none, as a JAX tracer, or several, as JAX's sharded arrays."""
    devices = getattr(array, "devices", None)
    device = compat_device(array)
    return None if device is None or (callable(devices) and len(devices()) > 1) else device


def device_keyword(device: Device) -> dict[str, Device]:
    """Return the keyword argument for a device, if it is known: not every library takes None."""
    return {} if device is None else {"device": device}


def library_name(xp: Namespace) -> str:
    """Return the name under which a library is known: array_api_compat's wrappers by what they wrap."""
    return str(getattr(xp, "__name__", xp)).removeprefix("array_api_compat.")


def join(array: Array, xp: Namespace) -> Array:
    """Return an array as one of the library `xp`: itself, unless that is Dask and this is a block."""
    return xp.asarray(array) if library_name(xp) == "dask.array" and not is_dask_array(array) else array


def unstack(array: Array, xp: Namespace) -> tuple[Array, ...]:
    """
    Return ``xp.unstack(array)``, also under `torch.func.vmap`.

    array_api_compat builds torch's from `moveaxis`, for which vmap has no batching rule as of torch 2.13
    (https://github.com/data-apis/array-api-compat/blob/1.16.0/src/array_api_compat/common/_aliases.py#L622).
    """
    return tuple(array.unbind()) if hasattr(array, "unbind") else tuple(xp.unstack(array))


def on_same_device(a: Array, b: Array) -> bool:
    """
    Tell whether two arrays may meet in one operation, as far as that can be told.

    A JAX tracer has no device (https://github.com/jax-ml/jax/issues/26000) and a sharded array several: there JAX
    decides.
    """
    device_a, device_b = device_of(a), device_of(b)
    if device_a is None or device_b is None or device_a == device_b:
        return True
    return bool(is_dask_array(a) != is_dask_array(b))


def visible_values(array: Array) -> np.ndarray | None:
    """Return the values of an array where looking at them costs nothing and breaks nothing: NumPy's."""
    return np.asarray(array) if isinstance(array, NUMPY_ARRAYS) else None


def dtype_name(dtype: DType) -> str:
    """Return the name of a dtype, of any library, in the standard's spelling."""
    try:
        return np.dtype(dtype).name
    except TypeError:  # another library's, or a name that NumPy does not have
        return str(dtype).rpartition(".")[2]


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
    own = getattr(xp, name, None) if numpy_kind(name) in ("f", None) else None
    try:
        known = own is not None and bool(xp.isdtype(own, "real floating"))
    except TypeError:  # the name is something else's
        known = False
    if not known:
        msg = f"`dtype` is {name!r}, expected a real floating dtype of {library_name(xp)}"
        raise TypeError(msg)
    if numpy_kind(name) == "f" and (kept := dtype_name(xp.asarray(np.empty(0, name)).dtype)) != name:
        msg = f"`dtype` is {name!r}, of which {library_name(xp)} would make {kept} as it is configured"
        raise TypeError(msg)
    return own


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
            result = np.from_dlpack(array, device="cpu", copy=True)
        else:
            result = np.array(array, order="C")
    except (TypeError, ValueError, RuntimeError, BufferError) as error:
        msg = f"`{name}` ({type(array).__name__}, {dtype_name(array.dtype)}) cannot become a NumPy array: {error}"
        raise TypeError(msg) from error
    if result.dtype.kind == "O":
        msg = f"`{name}` ({type(array).__name__}) cannot become a NumPy array"
        raise TypeError(msg)
    # JAX's copies are read-only, which torch would share and warn of.
    return result if result.flags.writeable else result.copy()


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
    return result if numpy_kind(wanted) else xp.astype(result, own)


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
        A tensor requires grad and `detach` is false, or the dtype would change unasked.
    """
    if getattr(array, "requires_grad", False):
        if not detach:
            msg = f"`{name}` requires grad, which a copy would cut off; pass detach=True to copy its values"
            raise TypeError(msg)
        array = array.detach()
    own = array_namespace(array, name)
    xp = own if xp is None else standard_namespace(xp)
    wanted = dtype_name(array.dtype if dtype is None else dtype)
    own_dtype = real_floating_dtype(xp, wanted)
    if xp is own:
        return xp.asarray(xp.astype(array, own_dtype), copy=True, **device_keyword(device))
    if not numpy_kind(dtype_name(array.dtype)):
        array = own.astype(array, own.float32)  # which bfloat16 and float16 fit into, exactly
    return from_numpy(to_numpy(array, name), xp, dtype=wanted, device=device)


def without_autocast(array: Array) -> AbstractContextManager[Any]:
    """
    Return a context in which torch computes in the dtype that it is given.

    Under `torch.autocast` the products would come out in another one, and the rest not.
    """
    if is_torch_array(array):
        torch = sys.modules["torch"]
        kind = array.device.type
        if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
            return torch.autocast(kind, enabled=False)  # type: ignore[no-any-return]
    return nullcontext()
