"""What is known of BLAS, and of memory: how the products of the engines on NumPy's arrays are quick."""

import os

import numpy as np

from lstm_xp.engines._host import Array
from lstm_xp.engines._request import Request

# OpenBLAS copies what it multiplies into an order of its own, but not for products of at most so many multiplications
# (for AVX-512 and some others; elsewhere smaller products are as fast). For few rows the copying is most of the work.
SMALL = 10**6
FEW = 8  # So few that its threads do not make good for it.


def _has_one_thread() -> bool:
    """Tell whether BLAS has one thread, as far as the environment says: OpenBLAS asks for the same, in this order."""
    values = (os.environ.get(f"{name}_NUM_THREADS", "").strip() for name in ("OPENBLAS", "GOTO", "OMP"))
    said = next((int(value) for value in values if value.isdigit() and int(value) > 0), None)
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return (processors if said is None else said) == 1


ONE_THREAD = _has_one_thread()


def has_one_thread(request: Request) -> bool:
    """Tell whether BLAS has one thread for each call of a request: also where the request has threads of its own."""
    return ONE_THREAD or request.threads > 1


def count_blocks(rows: int, columns: int, batch: int, one_thread: bool) -> int:
    """
    Return into how many blocks of rows to divide a matrix, so that their products with columns are small for BLAS.

    Parameters
    ----------
    rows, columns : int
        The shape of the matrix.
    batch : int
        The number of columns of what it is multiplied by.
    one_thread : bool
        Whether BLAS has one thread.

    Returns
    -------
    int
        A divisor of the number of rows; 1 where blocks are no gain.
    """
    if batch == 1 or (batch > FEW and not one_thread):
        return 1
    # Blocks of less than 16 rows take longer than the copying.
    able = (n for n in range(1, rows // 16 + 1) if rows % n == 0 and rows // n * columns * batch <= SMALL)
    return next(able, 1)


def transposed(matrix: Array) -> Array:
    """Return the transposed matrix in C order. NumPy by itself fetches a line of the cache for each number of it."""
    result = np.empty(matrix.shape[::-1], matrix.dtype)
    width = 64 // matrix.itemsize if matrix.size > 2**14 else max(1, len(matrix))
    for start in range(0, len(matrix), width):
        result[:, start : start + width] = matrix[start : start + width].T
    return result
