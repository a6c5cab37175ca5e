"""What a file holds: LSTMs under prefixes, whatever the kind of file; and the settings that `save` stored with them."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np

from lstm_xp._lstm import LSTM
from lstm_xp._options import CellOptions, Options
from lstm_xp._weights import dotted, find_prefixes
from lstm_xp.convert._torch import from_torch

Arrays = Mapping[str, Any]
Metadata = Mapping[str, str]

# In a file's own metadata, JSON stands under this key.
METADATA_KEY = "lstm_xp"
SETTINGS = {"batch_first", "dropout", "reverse", "masked_output", "options"}

# What tells that arrays are those of a `torch.nn.LSTMCell`.
_CELL = "weight_hh"

# So many times larger than its file may be what is made of it, and of a small file so many bytes: an archive that
# unpacks to more, or weights that all lie on the same numbers, are there to fill the memory.
EXPANSION = 32
ALWAYS_ALLOWED = 2**26


class Held(NamedTuple):
    """An LSTM as NumPy has it, and the dtype that it has in the file where that is another: bfloat16."""

    net: LSTM
    dtype: str | None = None


class Lazy(Mapping[str, Any]):
    """Arrays by name, each of which is read when it is asked for; errors name it."""

    def __init__(self, names: Iterable[str], read: Callable[[str], np.ndarray]) -> None:
        self._names, self._read = dict.fromkeys(names), read

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._names:
            raise KeyError(name)
        with errors_about(f"`{name}`"):
            return self._read(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class Contents(Protocol):
    """The LSTMs of a file; `nothing` says what was looked for."""

    nothing: ClassVar[str]

    def prefixes(self) -> tuple[str, ...]:
        """Return the prefixes that tell the LSTMs apart."""

    def lstm(self, prefix: str) -> Held:
        """Return the LSTM under a prefix."""


@dataclass(frozen=True)
class StateDict:
    """
    A file of arrays under torch's names.

    Parameters
    ----------
    arrays : mapping of str to array
        The arrays.
    size : int
        The file's size in bytes.
    settings : mapping of str to dict
        The keyword arguments that were stored with the arrays, by prefix.
    bfloat16 : frozenset of str, optional
        Which arrays are bfloat16 in the file, which NumPy has only as float32.
    """

    arrays: Arrays
    size: int
    settings: Mapping[str, dict[str, Any]]
    bfloat16: frozenset[str] = frozenset()
    nothing: ClassVar[str] = "no array is named `weight_hh_l0` or `weight_hh`, with or without a prefix"

    def prefixes(self) -> tuple[str, ...]:
        """Return what stands before the names, of a `torch.nn.LSTM` or of an `LSTMCell`."""
        return (*find_prefixes(self.arrays), *(name.removesuffix(_CELL) for name in self.arrays if self._is_cell(name)))

    def lstm(self, prefix: str) -> Held:
        """Return the LSTM under a prefix."""
        prefix = dotted(prefix)
        inside = {name for name in self.arrays if name.startswith(prefix)}
        # The names alone tell what is missing or unknown; of arrays outside the prefix only they are needed.
        arrays: dict[str, Any] = dict.fromkeys(self.arrays) | {name: _native(self.arrays[name]) for name in inside}
        check_expansion(sum(arrays[name].nbytes for name in inside), self.size, "its weights")
        dtype = None
        if halves := self.bfloat16 & inside:
            if others := sorted(inside - halves):
                msg = f"`{others[0]}` has dtype {arrays[others[0]].dtype}, expected bfloat16 as `{min(halves)}`"
                raise TypeError(msg)
            dtype = "bfloat16"
        if prefix + _CELL in inside:
            return Held(from_torch({name: arrays[name] for name in inside}), dtype)
        return Held(LSTM.from_state_dict(arrays, prefix=prefix, **self.settings.get(prefix, {})), dtype)

    def _is_cell(self, name: str) -> bool:
        """Tell whether an array is an `LSTMCell`'s, of four gates: a `GRUCell`'s is called alike, and has three."""
        if name.rpartition(".")[2] != _CELL:
            return False
        shape = self.arrays[name].shape
        return len(shape) == 2 and shape[0] == 4 * shape[1]


@dataclass(frozen=True)
class Model:
    """
    A file of layers or nodes, each of which is read when it is asked for.

    Parameters
    ----------
    readers : mapping of str to callable
        What reads the LSTM under each prefix.
    """

    readers: Mapping[str, Callable[[], Held]]
    nothing: ClassVar[str] = "there is no node or layer of that kind"

    def prefixes(self) -> tuple[str, ...]:
        """Return the names of the layers or nodes."""
        return tuple(self.readers)

    def lstm(self, prefix: str) -> Held:
        """Return the LSTM under a prefix."""
        for name, reader in self.readers.items():
            if dotted(name) == dotted(prefix):
                return reader()
        msg = f"no LSTM under the prefix {prefix!r}; there are {', '.join(map(repr, self.readers)) or 'none'}"
        raise ValueError(msg)


@contextmanager
def errors_about(what: str) -> Iterator[None]:
    """Let errors in the values or types of what a file holds say what they are about."""
    try:
        yield
    except TypeError as error:
        msg = f"{what}: {error}"
        raise TypeError(msg) from error
    except ValueError as error:
        msg = f"{what}: {error}"
        raise ValueError(msg) from error


def check_expansion(size: int, file_size: int, what: str) -> None:
    """Refuse what would take much more memory than its file takes space, before it does."""
    if size > max(EXPANSION * file_size, ALWAYS_ALLOWED):
        msg = f"{what} would take {size} bytes, more than {EXPANSION} times the file's {file_size}"
        raise ValueError(msg)


def _native(array: Any) -> Any:
    return array.astype(array.dtype.newbyteorder("="), copy=False) if isinstance(array, np.ndarray) else array


def encode_settings(net: LSTM, prefix: str) -> dict[str, str]:
    """Return what the arrays cannot say, as metadata."""
    options = [asdict(o) for o in ([net.options] if isinstance(net.options, CellOptions) else net.options)]
    settings = {name: getattr(net, name) for name in SETTINGS} | {"options": options}
    return {METADATA_KEY: json.dumps({prefix: settings})}


def decode_settings(metadata: Metadata) -> dict[str, dict[str, Any]]:
    """Return the keyword arguments that were stored, by prefix."""
    try:
        stored: dict[str, dict[str, Any]] = json.loads(metadata.get(METADATA_KEY, "{}"))
        return {prefix: settings | _decode_options(**settings) for prefix, settings in stored.items()}
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        msg = f"its settings cannot be read, they may be of a later version of lstm_xp: {error}"
        raise ValueError(msg) from error


def _decode_options(*, options: list[dict[str, Any]], **others: Any) -> dict[str, Options]:
    """Return the options of stored settings, of which there must be all and no others."""
    if others.keys() != SETTINGS - {"options"}:
        msg = f"they are {', '.join(others)}, expected {', '.join(sorted(SETTINGS))}"
        raise ValueError(msg)
    first, *second = (CellOptions(**each) for each in options)
    return {"options": (first, *second) if second else first}  # type: ignore[dict-item]
