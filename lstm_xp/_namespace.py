"""
Which library an array belongs to, and what has to be known of a library.

Below the engines, this and `_transfer` are the only places that tell libraries apart.
"""

import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
from array_api_compat import array_namespace as compat_namespace
from array_api_compat import device as compat_device
from array_api_compat import is_dask_array, is_jax_array, is_lazy_array, is_torch_array

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


def is_alike(array: Array, like: Array) -> bool:
    """
    Tell at a glance whether arrays are of the same library, dtype and device, where that can be: NumPy's and torch's.

    It is what most calls get, and the whole of the check that they need.
    """
    if type(array) is np.ndarray:
        return type(like) is np.ndarray and array.dtype == like.dtype
    # Nothing but torch's arrays has a dtype of torch's.
    return is_torch_array(array) and bool(array.dtype == like.dtype and array.device == like.device)


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
    """
    Return the device of an array.

    None where it has none, as a JAX tracer, several, as JAX's sharded arrays, or does not tell, as MLX's
    (https://github.com/data-apis/array-api-compat/issues/451).
    """
    if isinstance(array, np.ndarray):
        return array.device
    devices = getattr(array, "devices", None)
    try:
        device = compat_device(array)
    except AttributeError:
        return None
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


def visible_values(array: Array) -> np.ndarray | np.generic | None:
    """Return an array whose values may be looked at, where that costs nothing and breaks nothing: NumPy's."""
    return array if isinstance(array, NUMPY_ARRAYS) else None


def dtype_name(dtype: DType) -> str:
    """Return the name of a dtype, of any library, in the standard's spelling."""
    try:
        return np.dtype(dtype).name
    except TypeError:  # another library's, or a name that NumPy does not have
        return str(dtype).rpartition(".")[2]


def without_autocast(array: Array) -> AbstractContextManager[Any]:
    """
    Return a context in which torch computes in the dtype that it is given.

    Under `torch.autocast` the products would come out in another one, and the rest not. A backward pass runs in the
    context of who calls it, as for torch's own modules.
    """
    if is_torch_array(array):
        torch = sys.modules["torch"]
        kind = array.device.type
        if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
            return torch.autocast(kind, enabled=False)  # type: ignore[no-any-return]
    return _NOTHING


_NOTHING = nullcontext()


def without_grad(array: Array) -> AbstractContextManager[Any]:
    """Return a context in which torch records nothing for a backward pass."""
    return sys.modules["torch"].no_grad() if is_torch_array(array) else nullcontext()


def is_transformed(array: Array) -> bool:
    """Tell whether a function of torch's arrays is being transformed by `torch.func`, or differentiated forward."""
    if not is_torch_array(array):
        return False
    torch = sys.modules["torch"]
    return bool(torch._C._are_functorch_transforms_active() or torch.autograd.forward_ad._current_level >= 0)


def without_recording(array: Array) -> AbstractContextManager[Any]:
    """Return a context in which torch's autograd records nothing, but where it `is_transformed`."""
    return nullcontext() if is_transformed(array) else without_grad(array)


def is_lazy(array: Array) -> bool:
    """Tell whether a library puts off what it computes, in a graph that grows. JAX does not, outside `jit`."""
    return is_lazy_array(array) and not is_jax_array(array)


def is_tracer(array: Array) -> bool:
    """Tell whether an array stands for others in a function that JAX is transforming."""
    return is_jax_array(array) and isinstance(array, sys.modules["jax"].core.Tracer)
