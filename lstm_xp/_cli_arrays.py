"""The command line's array files: read, or refused in one line."""

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lstm_xp._pieces import ArrayFile


def writable(given: str, suffixes: Sequence[str], why: str = "") -> Path:
    """Return the path of an output that has one of the suffixes and can be there."""
    path = Path(given)
    if path.suffix not in suffixes:
        *others, last = suffixes
        expected = f"{', '.join(others)} or {last}" if others else last
        msg = f"OUTPUT {given} has the suffix {path.suffix!r}, expected {expected}{why}"
        raise ValueError(msg)
    if not path.parent.is_dir():
        msg = f"OUTPUT {given}: there is no folder {path.parent}"
        raise ValueError(msg)
    if path.is_dir():
        msg = f"OUTPUT {given} is a folder"
        raise ValueError(msg)
    return path


def read_array(given: str, what: str) -> np.ndarray:
    """Read an array file; FILE.npz:NAME is one array of several."""
    head, colon, name = given.rpartition(":")
    path, member = (Path(head), name) if colon and head.endswith(".npz") else (Path(given), None)
    if path.suffix not in (".npy", ".npz"):
        msg = f"{what} {given} has the suffix {path.suffix!r}, expected .npy or .npz"
        raise ValueError(msg)
    try:
        with path.open("rb") as file:
            loaded: Any = np.load(file, allow_pickle=False)
            array = loaded[_member(loaded.files, member)] if path.suffix == ".npz" else loaded
    except (ValueError, EOFError, KeyError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        msg = f"{what} {given} cannot be read: {error}"
        raise ValueError(msg) from error
    if not isinstance(array, np.ndarray):
        msg = f"{what} {given} is not a {path.suffix} file"
        raise TypeError(msg)
    _check_dtype(array.dtype, given, what)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def open_array(given: str, what: str) -> ArrayFile:
    """Open an array file of which pieces are to be read."""
    if Path(given).suffix != ".npy":
        msg = f"{what} {given} has the suffix {Path(given).suffix!r}, expected .npy with --chunk"
        raise ValueError(msg)
    try:
        array = ArrayFile(given)
    except ValueError as error:
        msg = f"{what} {given} cannot be read: {error}"
        raise ValueError(msg) from error
    _check_dtype(array.dtype, given, what)
    return array


def _check_dtype(dtype: np.dtype[Any], given: str, what: str) -> None:
    if dtype.kind != "f":
        msg = f"{what} {given} has dtype {dtype}, expected a real floating dtype"
        raise TypeError(msg)


def _member(names: Sequence[str], wanted: str | None) -> str:
    """Return which array of an archive is meant."""
    if wanted is None and len(names) != 1:
        msg = f"it holds {len(names)} arrays, expected one; FILE.npz:NAME takes one out of {', '.join(names)}"
        raise ValueError(msg)
    if wanted is not None and wanted not in names:
        msg = f"it holds no array {wanted!r}, but {', '.join(names)}"
        raise ValueError(msg)
    return names[0] if wanted is None else wanted
