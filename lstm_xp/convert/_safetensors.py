"""``.safetensors``, by the extra ``[files]``."""

from pathlib import Path
from typing import IO

import numpy as np

from lstm_xp.convert._contents import Arrays, Metadata, StateDict, decode_settings
from lstm_xp.convert._torch_file import widened


def read(path: Path) -> StateDict:
    """Read the arrays of a file."""
    from safetensors import deserialize, safe_open

    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata() or {}
        names = set(file.keys())
        halves = frozenset(name for name in names if file.get_slice(name).get_dtype() == "BF16")
        arrays = {name: file.get_tensor(name) for name in names - halves}
    if halves:
        for name, tensor in deserialize(path.read_bytes()):
            if name in halves:
                arrays[name] = widened(np.frombuffer(tensor["data"], "<u2")).reshape(tensor["shape"])
    return StateDict(arrays, path.stat().st_size, decode_settings(metadata), halves)


def write(file: IO[bytes], arrays: Arrays, metadata: Metadata) -> None:
    """Write NumPy's arrays."""
    from safetensors.numpy import save

    file.write(save({name: np.ascontiguousarray(array) for name, array in arrays.items()}, metadata=dict(metadata)))
