"""The array libraries that the tests run on: one row each."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Backend:
    """An array library in one of its states: how arrays go in and come out, and how a function is called."""

    name: str
    module: str
    asarray: Callable[[np.ndarray], Any]
    asnumpy: Callable[[Any], np.ndarray] = np.asarray
    compile: Callable[[Callable[..., Any]], Callable[..., Any]] = lambda function: function
    context: Callable[[], Any] = field(default=nullcontext)
    float64: bool = True
    # Whether a step of the generic loop costs less than a millisecond or so.
    fast: bool = True

    def __str__(self) -> str:
        return self.name


def _numpy_readonly(array: np.ndarray) -> np.ndarray:
    array = np.array(array)
    array.flags.writeable = False
    return array


def _torch(array: np.ndarray) -> Any:
    return import_module("torch").asarray(np.array(array))


def _jax(array: np.ndarray) -> Any:
    jax = import_module("jax")
    jax.config.update("jax_enable_x64", True)
    return jax.numpy.asarray(array)


def _dask(array: np.ndarray) -> Any:
    # Several blocks along time and batch, so that they meet in every operation.
    chunks = {2: -1} | dict.fromkeys(range(min(2, array.ndim)), 2) if array.ndim != 2 else -1
    return import_module("dask.array").from_array(array, chunks=chunks)


def _strict(device: str, **flags: Any) -> dict[str, Any]:
    def asarray(array: np.ndarray) -> Any:
        strict = import_module("array_api_strict")
        return strict.asarray(array, device=strict.Device(device))

    @contextmanager
    def context() -> Iterator[None]:
        strict = import_module("array_api_strict")
        with strict.ArrayAPIStrictFlags(**flags) if flags else nullcontext():
            yield

    return {
        "module": "array_api_strict",
        "asarray": asarray,
        "asnumpy": lambda array: np.from_dlpack(array, device="cpu", copy=True),
        "context": context,
        "float64": device not in ("no_float64", "no_x64"),
    }


_STRICTEST = {"boolean_indexing": False, "data_dependent_shapes": False, "enabled_extensions": ()}

# ndonnx takes a third of a second for each time step: it has tests of its own (test_lazy.py) and is not among these.
BACKENDS = (
    Backend("numpy", "numpy", np.array),
    Backend("numpy-readonly", "numpy", _numpy_readonly),
    *(
        Backend(f"strict-{device}", **_strict(device))
        for device in ("CPU_DEVICE", "device1", "device2", "no_float64", "no_x64")
    ),
    *(
        Backend(f"strict-{version}-strictest", **_strict("device1", api_version=version, **_STRICTEST))
        for version in ("2023.12", "2024.12", "2025.12")
    ),
    Backend("torch", "torch", _torch, lambda array: array.detach().numpy()),
    Backend("jax", "jax", _jax),
    Backend("jax-jit", "jax", _jax, compile=lambda function: import_module("jax").jit(function)),
    Backend("dask", "dask.array", _dask, fast=False),
)
