"""``.safetensors``, by the extra ``[files]``."""

from functools import cache
from pathlib import Path
from typing import IO

import numpy as np

from lstm_xp.convert._contents import Arrays, Lazy, Metadata, StateDict, decode_settings
from lstm_xp.convert._torch_file import widened


def read(path: Path) -> StateDict:
    """Read the arrays of a file."""
    from safetensors import deserialize, safe_open

    file = safe_open(path, framework="numpy")
    dtypes = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118, it is no mapping
    halves = frozenset(name for name, dtype in dtypes.items() if dtype == "BF16")
    opened = cache(lambda: dict(deserialize(path.read_bytes())))

    def read_array(name: str) -> np.ndarray:
        if name in halves:
            tensor = opened()[name]
            return widened(np.frombuffer(tensor["data"], "<u2")).reshape(tensor["shape"])
        try:
            array: np.ndarray = file.get_tensor(name)
        except AttributeError as error:  # NumPy has no such dtype
            msg = f"its dtype is {dtypes[name]}, expected F16, BF16, F32 or F64"
            raise TypeError(msg) from error
        return array

    return StateDict(Lazy(dtypes, read_array), path.stat().st_size, decode_settings(file.metadata() or {}), halves)


def write(file: IO[bytes], arrays: Arrays, metadata: Metadata) -> None:
    """Write NumPy's arrays."""
    from safetensors.numpy import save

    file.write(save({name: np.ascontiguousarray(array) for name, array in arrays.items()}, metadata=dict(metadata)))
