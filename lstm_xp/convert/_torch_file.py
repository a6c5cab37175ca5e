"""
What ``torch.save`` writes, read without torch: tensors in dicts and lists, and nothing else.

Since torch 1.6 it is a zip archive: ``data.pkl`` describes the tensors, ``data/0`` and so on are the storages they are
views of (https://docs.pytorch.org/docs/main/notes/serialization.html). Before, it was five pickles in a row and the
storages behind them (`torch.serialization._legacy_save`).
"""

import io
import math
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

import numpy as np

from lstm_xp.convert._contents import Lazy, StateDict
from lstm_xp.convert._pickle import Ignored, key_text, read_pickle

_LEGACY_MAGIC, _LEGACY_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_BFLOAT16 = "torch.BFloat16Storage"
_DTYPES = {
    "torch.DoubleStorage": "f8",
    "torch.FloatStorage": "f4",
    "torch.HalfStorage": "f2",
    _BFLOAT16: "u2",
    "torch.LongStorage": "i8",
    "torch.IntStorage": "i4",
    "torch.ShortStorage": "i2",
    "torch.CharStorage": "i1",
    "torch.ByteStorage": "u1",
    "torch.BoolStorage": "?",
    "torch.ComplexDoubleStorage": "c16",
    "torch.ComplexFloatStorage": "c8",
}
_DEEPEST = 32


class _Storage(NamedTuple):
    """Numbers in a row, still in the file."""

    kind: str
    key: str
    numel: int


@dataclass(frozen=True)
class _Tensor:
    """A view of a storage."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def __post_init__(self) -> None:
        numbers = (self.offset, *self.shape, *self.strides)
        if any(type(n) is not int for n in numbers):
            msg = "a tensor has an offset, a shape or strides that are not whole numbers"
            raise ValueError(msg)
        if min(numbers) < 0 or len(self.shape) != len(self.strides):
            msg = f"a tensor has offset {self.offset}, shape {self.shape}, strides {self.strides}"
            raise ValueError(msg)
        last = self.offset + sum((n - 1) * stride for n, stride in zip(self.shape, self.strides, strict=True))
        if math.prod(self.shape) and last >= self.storage.numel:
            msg = f"a tensor of shape {self.shape} reaches number {last} of a storage of {self.storage.numel}"
            raise ValueError(msg)

    def of(self, numbers: np.ndarray) -> np.ndarray:
        """Return the view of the storage's numbers."""
        strides = [stride * numbers.itemsize for stride in self.strides]
        return np.lib.stride_tricks.as_strided(numbers[self.offset :], self.shape, strides, writeable=False)


def read(path: Path) -> StateDict:
    """Read the tensors of a file that ``torch.save`` wrote."""
    with path.open("rb") as file:
        begin, size = file.read(4), file.seek(0, io.SEEK_END)
    if begin[:2] == b"\x80\x02":
        data, numbers = _read_legacy(path, size)
    elif begin == b"PK\x03\x04":
        data, numbers = _read_zip(path, size)
    else:
        msg = "it is neither a zip archive nor a pickle; if torch.load can read it, torch.save it again"
        raise ValueError(msg)
    tensors = dict(_named_tensors(data, 16 * size))
    halves = frozenset(name for name, tensor in tensors.items() if tensor.storage.kind == _BFLOAT16)
    numbers = cache(numbers)  # several tensors may be views of one storage
    arrays = Lazy(tensors, lambda name: tensors[name].of(numbers(tensors[name].storage)))
    return StateDict(arrays, size, {}, halves)


def _read_zip(path: Path, size: int) -> tuple[Any, Callable[[_Storage], np.ndarray]]:
    with zipfile.ZipFile(path) as archive:
        described = [name for name in archive.namelist() if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(described) != 1:
            msg = "it is an archive without a data.pkl, expected one that torch.save wrote"
            raise ValueError(msg)
        folder = described[0].removesuffix("data.pkl")
        if folder + "constants.pkl" in archive.namelist():
            msg = "it is a TorchScript archive, expected what torch.save writes of a module's state_dict()"
            raise ValueError(msg)
        if sum(member.file_size for member in archive.infolist()) > size:
            msg = "its archive declares more than the file holds"
            raise ValueError(msg)
        order = _member(archive, folder + "byteorder") if folder + "byteorder" in archive.namelist() else b"little"
        data = _read_pickle(io.BytesIO(_member(archive, described[0])))
    if order not in (b"little", b"big"):
        msg = f"its byte order is {order[:20]!r}, expected little or big"
        raise ValueError(msg)
    return data, partial(_zip_numbers, path, folder, "<" if order == b"little" else ">")


def _zip_numbers(path: Path, folder: str, order: Literal["<", ">"], storage: _Storage) -> np.ndarray:
    with zipfile.ZipFile(path) as archive:
        return _numbers(_member(archive, f"{folder}data/{storage.key}"), order, storage)


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
        msg = f"its {name} is compressed, which torch.save does not do"
        raise ValueError(msg)
    return archive.read(name)


def _read_legacy(path: Path, size: int) -> tuple[Any, Callable[[_Storage], np.ndarray]]:
    places: dict[str, int] = {}
    storages: dict[str, _Storage] = {}
    with path.open("rb") as opened:
        file = _Bounded(opened, size)
        magic, protocol = (read_pickle(file, {}) for _ in range(2))
        if (magic, protocol) != (_LEGACY_MAGIC, _LEGACY_PROTOCOL):
            msg = "it is a pickle that torch.save did not write"
            raise ValueError(msg)
        read_pickle(file, {})  # about the machine that wrote it: the numbers are little-endian on any
        data = _read_pickle(file, storages)
        for key in read_pickle(file, {}):
            numel = int.from_bytes(file.read(8), "little")
            if not isinstance(key, str):
                msg = f"it has a {type(key).__name__} for a storage's key, expected a str"
                raise ValueError(msg)
            if key not in storages or storages[key].numel != numel:
                msg = f"its storage {key!r} has {numel} numbers, expected those of the tensors"
                raise ValueError(msg)
            places[key] = file.tell()
            end = places[key] + numel * _itemsize(storages[key])
            if end > size:
                msg = f"its storage {key!r} is cut off"
                raise ValueError(msg)
            file.seek(end)
    return data, partial(_legacy_numbers, path, places)


class _Bounded:
    """A file that makes no more room than there is to read, whatever length a pickle declares."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file, self._size = file, size
        self.readline, self.tell, self.seek = file.readline, file.tell, file.seek

    def read(self, length: int) -> bytes:
        return self._file.read(min(length, self._size - self._file.tell()))


def _legacy_numbers(path: Path, places: Mapping[str, int], storage: _Storage) -> np.ndarray:
    with path.open("rb") as file:
        file.seek(places[storage.key])
        return _numbers(file.read(storage.numel * _itemsize(storage)), "<", storage)


def _itemsize(storage: _Storage) -> int:
    return np.dtype(_DTYPES[storage.kind]).itemsize


def _numbers(data: bytes, order: Literal["<", ">"], storage: _Storage) -> np.ndarray:
    if len(data) != storage.numel * _itemsize(storage):
        msg = f"its storage {storage.key!r} has {len(data)} bytes, expected {storage.numel} of {storage.kind}"
        raise ValueError(msg)
    numbers = np.frombuffer(data, np.dtype(_DTYPES[storage.kind]).newbyteorder(order))
    return widened(numbers) if storage.kind == _BFLOAT16 else numbers


def widened(bits: np.ndarray) -> np.ndarray:
    """Return the numbers whose bfloat16 bits are given: such are the upper half of a float32."""
    return (bits.astype("u4") << 16).view("f4")


def _read_pickle(file: Any, storages: dict[str, _Storage] | None = None) -> Any:
    """Read the description of the tensors; tell which storages there are."""

    def persistent(given: Any) -> _Storage:
        match given:
            case ("storage", str(kind), str(key), str(), int(numel), *view) if numel >= 0 and view in ([], [None]):
                storage = _Storage(kind, key, numel)
                if storages is not None:
                    storages[key] = storage
                return storage
        msg = f"a persistent id is a {type(given).__name__}, expected one that describes a storage of so many numbers"
        raise ValueError(msg)

    return read_pickle(file, _ALLOWED, persistent)


def _rebuild_tensor(
    storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any
) -> _Tensor:
    if not isinstance(storage, _Storage) or not isinstance(shape, tuple) or not isinstance(strides, tuple):
        msg = "a tensor is not described as torch.save does"
        raise ValueError(msg)
    return _Tensor(storage, offset, shape, strides)


def _ordered_dict(items: Any = ()) -> dict[str, Any]:
    return Ignored((key_text(key), value) for key, value in items)


# In place of the functions of these names, which are not called.
_ALLOWED: dict[str, Any] = {
    "_codecs.encode": lambda text, *_: text,  # how bytes are written
    "collections.OrderedDict": _ordered_dict,
    "torch._utils._rebuild_tensor": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_parameter": lambda tensor, *_: tensor,
    **{name: name for name in _DTYPES},
}


def _named_tensors(data: Any, budget: int) -> Iterator[tuple[str, _Tensor]]:
    """Yield the tensors in nested dicts and lists, with the keys on the way to them, joined by dots."""
    todo = [("", 0, data)]
    while todo:
        name, depth, value = todo.pop()
        # A container may hold another one twice, and itself: the names would never end. Each of its items gets its own.
        items = len(value) if isinstance(value, (dict, list, tuple)) else 0
        budget -= 16 + (1 + items) * len(name)
        if budget < 0 or depth > _DEEPEST:
            msg = "its dicts and lists are nested without end"
            raise ValueError(msg)
        if isinstance(value, _Tensor):
            yield name, value
        elif isinstance(value, (dict, list)) or type(value) is tuple:
            pairs = list(value.items() if isinstance(value, dict) else enumerate(value))
            todo += [(f"{name}.{key}" if name else f"{key}", depth + 1, item) for key, item in reversed(pairs)]
