"""
What computes: NumPy's functions.

For tests of those who test array libraries, the environment variable TINYARRAYS_BUG puts a wrong one in the place of
the right one of that name.
"""

import os
from collections.abc import Callable
from typing import Any

import numpy as np

Kernel = Callable[..., Any]


def _tanh(x: np.ndarray) -> np.ndarray:
    """Saturate too early, as a fast approximation does that is good in the middle."""
    return np.tanh(np.clip(x, -5, 5))


def _flip(x: np.ndarray, axis: int | tuple[int, ...] | None = None) -> np.ndarray:
    """Read from one place too far."""
    return np.roll(np.flip(x, axis), 1, axis)


def _matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Multiply in float32, whatever comes."""
    return np.matmul(a.astype("float32"), b.astype("float32")).astype(np.result_type(a, b))


def _stack(arrays: list[np.ndarray], axis: int = 0) -> np.ndarray:
    """Swap the first two."""
    return np.stack([*arrays[1::-1], *arrays[2:]], axis)


BUGS: dict[str, Kernel] = {"tanh": _tanh, "flip": _flip, "matmul": _matmul, "stack": _stack}
PLANTED = os.environ.get("TINYARRAYS_BUG")


def kernel(name: str) -> Kernel:
    """Return the function of a name: NumPy's, or the wrong one."""
    return BUGS[name] if name == PLANTED else getattr(np, name)
