"""``.safetensors``, by the extra ``[files]``."""

from pathlib import Path
from typing import IO

import numpy as np

from lstm_xp._lstm import LSTM
from lstm_xp.convert._contents import StateDict, decode_settings, encode_settings
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


def write(file: IO[bytes], net: LSTM, prefix: str) -> None:
    """Write an LSTM with NumPy's weights."""
    from safetensors.numpy import save

    arrays = {prefix + name: array for name, array in net.state_dict().items()}
    file.write(save(arrays, metadata=encode_settings(net, prefix)))
