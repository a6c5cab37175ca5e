"""
``.npy`` files larger than memory: read and written in pieces along an axis.

By plain reads and writes, not through a map: its pages would count as this process's memory, and where the disk is full
or the file is cut off, it is a signal that would kill the process.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np

# As `cut` gives it: whole axes, then the part of one.
Index: TypeAlias = tuple[slice, ...]


class ArrayFile:
    """
    An array in a ``.npy`` file, of which only the pieces that are asked for are read.

    Parameters
    ----------
    path : path
        The file.

    Raises
    ------
    OSError, ValueError
        It cannot be read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        mapped = np.lib.format.open_memmap(path, mode="r")
        self.path, self.offset = Path(path), mapped.offset
        self.shape: tuple[int, ...] = mapped.shape
        self.dtype = mapped.dtype
        self.is_fortran = not mapped.flags.c_contiguous

    def __getitem__(self, index: Index) -> np.ndarray:
        """Return a piece, in native byte order."""
        axis, part = len(index) - 1, index[-1]
        # What Fortran writes is the transposed array as C writes it.
        shape, axis = (self.shape[::-1], len(self.shape) - 1 - axis) if self.is_fortran else (self.shape, axis)
        piece = np.empty((*shape[:axis], part.stop - part.start, *shape[axis + 1 :]), self.dtype)
        with self.path.open("rb") as file:
            for position, row in _rows(piece, self.offset, shape, axis, part.start):
                file.seek(position)
                if file.readinto(row) != row.nbytes:
                    msg = f"{self.path} has become shorter"
                    raise OSError(msg)
        return np.ascontiguousarray(piece.T if self.is_fortran else piece, self.dtype.newbyteorder("="))


def cut(size: int, axis: int, length: int) -> Iterator[Index]:
    """
    Yield the pieces of an array along an axis, at least one.

    Parameters
    ----------
    size : int
        The array's size along the axis.
    axis : int
        The axis.
    length : int
        That of each piece but the last.

    Yields
    ------
    tuple of slice
        The index of a piece.
    """
    for start in range(0, max(size, 1), length):
        yield (*[slice(None)] * axis, slice(start, min(start + length, size)))


def write_header(file: IO[bytes], shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """Write what a ``.npy`` file begins with; return where the numbers are to begin."""
    descr = np.lib.format.dtype_to_descr(dtype)
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
    return file.tell()


def write_piece(file: IO[bytes], offset: int, shape: tuple[int, ...], index: Index, piece: np.ndarray) -> None:
    """
    Write a piece of an array.

    Parameters
    ----------
    file : binary file
        The file.
    offset : int
        Where the array's first number is to be.
    shape : tuple of int
        The array's shape.
    index : tuple of slice
        Where in the array the piece is.
    piece : numpy.ndarray
        The piece.
    """
    for position, row in _rows(np.ascontiguousarray(piece), offset, shape, len(index) - 1, index[-1].start):
        file.seek(position)
        file.write(row)


def _rows(
    piece: np.ndarray, offset: int, shape: tuple[int, ...], axis: int, start: int
) -> Iterator[tuple[int, memoryview]]:
    """Yield the parts of a piece that lie together in a file in C order, each with its position."""
    size = math.prod(shape[axis + 1 :])
    for k, row in enumerate(piece.reshape(math.prod(shape[:axis]), piece.shape[axis] * size)):
        yield offset + (k * shape[axis] + start) * size * piece.itemsize, row.data
