"""
A small array library that follows the array API standard, made up for tests: NumPy in a coat of its own.

It is a third party's: strict about what is not its own, with its own dtypes and device, arrays that cannot be changed,
and the functions that an LSTM needs, no others. To test those who test it, the environment variable TINYARRAYS_BUG
plants a bug (see `_kernels`), and TINYARRAYS_MISSING takes a function away.
"""

import os

from ._dtypes import DTYPES, Info, isdtype
from ._functions import (
    ELEMENTWISE,
    any,  # noqa: A004 - the standard's name
    arange,
    asarray,
    astype,
    broadcast_to,
    clip,
    concat,
    cumulative_sum,
    expand_dims,
    flip,
    full_like,
    matmul,
    matrix_transpose,
    mean,
    ones_like,
    permute_dims,
    reshape,
    stack,
    sum,  # noqa: A004 - the standard's name
    tensordot,
    unstack,
    where,
    zeros,
    zeros_like,
)

__all__ = [
    "any",
    "arange",
    "asarray",
    "astype",
    "broadcast_to",
    "clip",
    "concat",
    "cumulative_sum",
    "expand_dims",
    "flip",
    "full_like",
    "isdtype",
    "matmul",
    "matrix_transpose",
    "mean",
    "ones_like",
    "permute_dims",
    "reshape",
    "stack",
    "sum",
    "tensordot",
    "unstack",
    "where",
    "zeros",
    "zeros_like",
]
__version__ = "0.1"
__array_api_version__ = "2023.12"
__array_namespace_info__ = Info

globals().update(DTYPES | ELEMENTWISE)
globals().pop(os.environ.get("TINYARRAYS_MISSING", ""), None)
