"""``.npz``: what ``numpy.savez(path, **state_dict)`` writes. Never pickle."""

import io
import json
import math
import os
import zipfile
from pathlib import Path
from typing import IO

import numpy as np

from lstm_xp.convert._contents import METADATA_KEY, Arrays, Lazy, Metadata, StateDict, check_expansion, decode_settings

# The metadata is JSON in the archive's comment, where np.load does not take it for an array.
_OUR_COMMENT = f'{{"{METADATA_KEY}":'.encode()
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read(path: Path) -> StateDict:
    """Read the arrays of a file."""
    with path.open("rb") as file, zipfile.ZipFile(file) as archive:
        size, comment = path.stat().st_size, archive.comment
        # zipfile takes a comment that is cut off for a shorter one; its length stands in the two bytes before it.
        file.seek(-len(comment) - 2, os.SEEK_END)
        if int.from_bytes(file.read(2), "little") != len(comment):
            msg = "its end is cut off"
            raise ValueError(msg)
        members = [member for member in archive.infolist() if member.filename.endswith(".npy")]
        check_expansion(sum(member.file_size for member in members), size, "what it unpacks to")
        # Each becomes an array when it is asked for: those beside an LSTM may be of Python objects, which are not read.
        data = {member.filename.removesuffix(".npy"): archive.read(member) for member in members}
    # A comment may be anybody's; one that begins like ours must be whole.
    metadata = json.loads(comment) if comment.startswith(_OUR_COMMENT) else {}
    return StateDict(Lazy(data, lambda name: _read_array(data[name])), size, decode_settings(metadata))


def _read_array(data: bytes) -> np.ndarray:
    """Read a ``.npy`` file, not before it is sure that the numbers are there: NumPy makes room for what is declared."""
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    if version not in _HEADERS:
        msg = f"an array has the format {version}, expected one of {', '.join(map(str, _HEADERS))}"
        raise ValueError(msg)
    shape, _, dtype = _HEADERS[version](file)
    declared, there = math.prod(shape) * dtype.itemsize, len(data) - file.tell()
    if declared != there and not dtype.hasobject:
        msg = f"an array of shape {shape} and dtype {dtype} has {there} bytes"
        raise ValueError(msg)
    file.seek(0)
    array: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
    return array


def write(file: IO[bytes], arrays: Arrays, metadata: Metadata) -> None:
    """Write NumPy's arrays."""
    np.savez(file, **arrays)
    if metadata:
        with zipfile.ZipFile(file, "a") as archive:
            archive.comment = json.dumps(metadata).encode()
