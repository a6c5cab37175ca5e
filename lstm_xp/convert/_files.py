"""Files: arrays under torch's names, with what arrays cannot say in the file's own metadata. Never pickle."""

import json
import os
import secrets
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from lstm_xp._checks import describe
from lstm_xp._lstm import LSTM
from lstm_xp._options import CellOptions, Options
from lstm_xp._transfer import move
from lstm_xp._typing import Device, DType, Namespace
from lstm_xp._weights import dotted, find_prefixes

# The metadata is JSON under this key: in the header's `__metadata__` of a .safetensors file, in the archive's comment
# of an .npz file, where np.load does not take it for an array.
_METADATA_KEY = "lstm_xp"
_OUR_COMMENT = f'{{"{_METADATA_KEY}":'.encode()
_SETTINGS = {"batch_first", "dropout", "reverse", "masked_output", "options"}

PathLike = str | os.PathLike[str]
Arrays = Mapping[str, Any]


class _Contents(NamedTuple):
    """What a file holds: arrays, metadata, and which arrays are bfloat16 there, which NumPy has only as float32."""

    arrays: Arrays
    metadata: Mapping[str, str]
    bfloat16: frozenset[str] = frozenset()


def load(
    path: PathLike,
    *,
    prefix: str | None = None,
    xp: Namespace | None = None,
    dtype: DType = None,
    device: Device = None,
) -> LSTM:
    """
    Load an LSTM from a file that holds arrays under torch's names.

    A ``.npz`` file is what ``numpy.savez(path, **state_dict)`` writes, a ``.safetensors`` file what `safetensors`
    writes; the latter needs the extra ``[files]``. No code of the file is ever run. Settings that `save` stored with
    the arrays (batch_first, options and so on) are restored.

    Parameters
    ----------
    path : path
        The file.
    prefix : str, optional
        What the names begin with. If absent the file must hold one LSTM, under whatever prefix.
    xp : array namespace, optional
        The library of the weights. NumPy if absent.
    dtype : str or dtype, optional
        Their dtype; the file's if absent.
    device : device, optional
        Their device, as the library spells it.

    Returns
    -------
    LSTM
        The LSTM.

    Raises
    ------
    OSError
        The file cannot be read.
    ValueError
        It is broken, of an unknown kind, holds no LSTM or several, or its names or shapes do not fit.
    TypeError
        An array's dtype is not real floating, or the library would change it.
    """
    path = Path(path)
    form = _form_of(path)
    with _broken_files_named(path):
        arrays, metadata, halves = form.read(path)
        settings = _decode_settings(metadata)
    prefix = _only_prefix(arrays, path) if prefix is None else dotted(prefix)
    inside = {name for name in arrays if name.startswith(prefix)}
    if halves & inside:
        if others := sorted(inside - halves):
            msg = f"`{others[0]}` has dtype {arrays[others[0]].dtype}, expected bfloat16 as `{min(halves & inside)}`"
            raise TypeError(msg)
        dtype = "bfloat16" if dtype is None else dtype
    native = {name: array.astype(array.dtype.newbyteorder("="), copy=False) for name, array in arrays.items()}
    net = LSTM.from_state_dict(native, prefix=prefix, **settings.get(prefix, {}))
    if xp is None and dtype is None and device is None:
        return net
    return net.to(np if xp is None else xp, dtype=dtype, device=device)


def save(path: PathLike, net: LSTM, *, prefix: str = "") -> None:
    """
    Save an LSTM to a ``.npz`` or ``.safetensors`` file, which `load` reads.

    The arrays are stored under torch's names. The file appears under its name only when it is whole.

    Parameters
    ----------
    path : path
        The file. One that exists is replaced.
    net : LSTM
        The LSTM. Weights of any library; tensors that require grad are stored by their values.
    prefix : str, optional
        What the names shall begin with.

    Raises
    ------
    OSError
        The file cannot be written.
    ValueError
        It is of an unknown kind.
    TypeError
        NumPy cannot express the weights' dtype (bfloat16).
    """
    path, prefix = Path(path), dotted(prefix)
    form = _form_of(path)
    if not isinstance(net, LSTM):
        msg = f"`net` is {describe(net)}, expected an lstm_xp.LSTM"
        raise TypeError(msg)
    arrays = {prefix + name: move(array, name, np, detach=True) for name, array in net.state_dict().items()}
    metadata = {_METADATA_KEY: json.dumps({prefix: _encode_settings(net)})}
    with written_whole(path) as file:
        form.write(file, arrays, metadata)


@contextmanager
def written_whole(path: PathLike) -> Iterator[IO[bytes]]:
    """
    Open a binary file for writing, and for reading back, that appears under its name only when all has been written.

    Parameters
    ----------
    path : path
        The file.

    Yields
    ------
    binary file
        To be written to.
    """
    path = Path(path)
    # Named after the file, for whoever finds it after a kill. Not tempfile's, to which the owner alone has a right.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        with _errors_naming(path):
            file = temporary.open("x+b")
        with file:
            yield file
        with _errors_naming(path):
            temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


@contextmanager
def _errors_naming(path: Path) -> Iterator[None]:
    """Let an OSError name the caller's path, not a temporary one."""
    try:
        yield
    except OSError as error:
        raise type(error)(error.errno, error.strerror, str(path)) from None


def _only_prefix(arrays: Arrays, path: Path) -> str:
    """Return the prefix of the one LSTM in a file."""
    prefixes = find_prefixes(list(arrays))
    if len(prefixes) == 1:
        return prefixes[0]
    if not prefixes:
        msg = f"{path} holds no LSTM: no array is named `weight_hh_l0`, with or without a prefix"
    else:
        msg = f"{path} holds {len(prefixes)} LSTMs, expected a `prefix` out of {', '.join(map(repr, prefixes))}"
    raise ValueError(msg)


def _encode_settings(net: LSTM) -> dict[str, Any]:
    """Return what the arrays cannot say, as JSON can."""
    options = [asdict(o) for o in ([net.options] if isinstance(net.options, CellOptions) else net.options)]
    return {name: getattr(net, name) for name in _SETTINGS} | {"options": options}


def _decode_settings(metadata: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Return the keyword arguments that were stored, by prefix."""
    try:
        stored: dict[str, dict[str, Any]] = json.loads(metadata.get(_METADATA_KEY, "{}"))
        return {prefix: settings | _decode_options(**settings) for prefix, settings in stored.items()}
    except (ValueError, TypeError, AttributeError) as error:
        msg = f"its settings cannot be read, they may be of a later version of lstm_xp: {error}"
        raise ValueError(msg) from error


def _decode_options(*, options: list[dict[str, Any]], **others: Any) -> dict[str, Options]:
    """Return the options of stored settings, of which there must be all and no others."""
    if others.keys() != _SETTINGS - {"options"}:
        msg = f"they are {', '.join(others)}, expected {', '.join(sorted(_SETTINGS))}"
        raise ValueError(msg)
    first, *second = (CellOptions(**each) for each in options)
    return {"options": (first, *second) if second else first}  # type: ignore[dict-item]


@contextmanager
def _broken_files_named(path: Path) -> Iterator[None]:
    """Turn what a reader raises on a broken file into a ValueError that names the file."""
    try:
        yield
    except ImportError:
        raise
    except OSError as error:
        if str(path) in str(error):
            raise
        msg = f"{path} cannot be read: {error}"
        raise OSError(msg) from error
    except Exception as error:  # each library has errors of its own for broken bytes, down to KeyError
        msg = f"{path} is not a readable {path.suffix} file: {error}"
        raise ValueError(msg) from error


def _read_npz(path: Path) -> _Contents:
    with path.open("rb") as file:
        with zipfile.ZipFile(file) as archive:
            comment = archive.comment
        # zipfile takes a comment that is cut off for a shorter one; its length stands in the two bytes before it.
        file.seek(-len(comment) - 2, os.SEEK_END)
        if int.from_bytes(file.read(2), "little") != len(comment):
            msg = "its end is cut off"
            raise ValueError(msg)
        file.seek(0)
        with np.load(file, allow_pickle=False) as archive:
            arrays = dict(archive)
    # A comment may be anybody's; one that begins like ours must be whole.
    return _Contents(arrays, json.loads(comment) if comment.startswith(_OUR_COMMENT) else {})


def _write_npz(file: IO[bytes], arrays: Arrays, metadata: Mapping[str, str]) -> None:
    np.savez(file, **arrays)
    with zipfile.ZipFile(file, "a") as archive:
        archive.comment = json.dumps(metadata).encode()


def _read_safetensors(path: Path) -> _Contents:
    from safetensors import deserialize, safe_open

    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata() or {}
        names = set(file.keys())
        halves = {name for name in names if file.get_slice(name).get_dtype() == "BF16"}
        arrays = {name: file.get_tensor(name) for name in names - halves}
    if halves:
        for name, tensor in deserialize(path.read_bytes()):
            if name in halves:  # the upper half of a float32
                bits = np.frombuffer(tensor["data"], "<u2").astype("<u4") << 16
                arrays[name] = bits.view("<f4").reshape(tensor["shape"])
    return _Contents(arrays, metadata, frozenset(halves))


def _write_safetensors(file: IO[bytes], arrays: Arrays, metadata: Mapping[str, str]) -> None:
    from safetensors.numpy import save as to_bytes

    file.write(to_bytes(dict(arrays), metadata=dict(metadata)))


class _Form(NamedTuple):
    """One kind of file."""

    read: Callable[[Path], _Contents]
    write: Callable[[IO[bytes], Arrays, Mapping[str, str]], None]


_FORMS = {
    ".npz": _Form(_read_npz, _write_npz),
    ".safetensors": _Form(_read_safetensors, _write_safetensors),
}


def _form_of(path: Path) -> _Form:
    if path.suffix not in _FORMS:
        msg = f"{path} has the suffix {path.suffix!r}, expected one of {', '.join(_FORMS)}"
        raise ValueError(msg)
    return _FORMS[path.suffix]
