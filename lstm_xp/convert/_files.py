"""`load` and `save`: one file for each format beside this one, and a row of the table below."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

import numpy as np

from lstm_xp._checks import describe
from lstm_xp._lstm import LSTM
from lstm_xp._typing import Device, DType, Namespace
from lstm_xp._weights import dotted
from lstm_xp.convert._contents import Arrays, Contents, encode_settings, errors_about

PathLike = str | os.PathLike[str]


class _Form(NamedTuple):
    """
    One kind of file, and the module that reads and writes it, which is not imported before it is needed.

    ``read(path)`` returns its contents. ``write`` takes, by what the file can hold, (file, arrays, metadata) or (file,
    net, prefix), all of NumPy; None if it is only read.
    """

    module: str
    extra: str = ""
    writes: Literal["arrays", "model"] | None = None

    def imported(self) -> Any:
        return import_module(f"lstm_xp.convert.{self.module}")


FORMS = {
    ".npz": _Form("_npz", writes="arrays"),
    ".safetensors": _Form("_safetensors", "files", writes="arrays"),
    ".onnx": _Form("_onnx", "onnx", writes="model"),
    ".pt": _Form("_torch_file"),
    ".pth": _Form("_torch_file"),
    ".keras": _Form("_keras", "keras"),
    ".h5": _Form("_keras", "keras"),
    ".hdf5": _Form("_keras", "keras"),
}


def load(
    path: PathLike,
    *,
    prefix: str | None = None,
    xp: Namespace | None = None,
    dtype: DType = None,
    device: Device = None,
) -> LSTM:
    """
    Load an LSTM from a file, without the framework that wrote it.

    =================== ======================================================= =============
    file                what it holds                                           needs
    =================== ======================================================= =============
    ``.npz``            what ``numpy.savez(path, **state_dict)`` writes
    ``.safetensors``    arrays under torch's names                              ``[files]``
    ``.pt``, ``.pth``   what ``torch.save(state_dict, path)`` writes, nested in
                        dicts and lists too
    ``.onnx``           LSTM nodes                                              ``[onnx]``
    ``.keras``, ``.h5`` Keras 3's models and weights                            ``[keras]``
    ``.h5``, ``.hdf5``  those of Keras 2, the layers for cuDNN included         ``[keras]``
    =================== ======================================================= =============

    Torch's names are those of ``nn.LSTM`` or, of one layer in one direction, of ``nn.LSTMCell``.
    The last column is the extra to install. No code of the file is ever run, and what is broken, or made to fill the
    memory, is refused. That holds less for Keras's files: the HDF5 library hangs or crashes on some broken ones; read
    those of strangers in a process of their own. Settings that `save` stored with the
    arrays are restored, and what a node or layer says of itself (activations, direction) becomes `options` and so on.
    Weights alone do not say it: for Keras's the activations are then those of its default, sigmoid and tanh. A state
    that a model starts from is no part of the LSTM: it is an argument of the call.

    Parameters
    ----------
    path : path
        The file.
    prefix : str, optional
        What the names begin with, in nested dicts joined by dots; for ONNX and Keras the name of the node or layer. If
        absent the file must hold one LSTM, under whatever prefix. `lstm-xp inspect` lists them.
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
        It is broken, of an unknown kind, holds no LSTM or several, or one that cannot be expressed here.
    TypeError
        An array's dtype is not real floating, or the library would change it or, as NumPy bfloat16, does not have it.
    """
    path = Path(path)
    contents = open_contents(path)
    prefix = _only_prefix(contents, path) if prefix is None else prefix
    with errors_naming(path):
        net, held = contents.lstm(prefix)
    if xp is None and dtype is None and device is None and held is None:
        return net
    try:
        return net.to(np if xp is None else xp, dtype=held if dtype is None else dtype, device=device)
    except TypeError as error:
        if held is None or dtype is not None:
            raise
        msg = f"{path} holds {held}: {error}; dtype='float32' converts it, and xp=torch keeps it"
        raise TypeError(msg) from error


def save(path: PathLike, net: LSTM, *, prefix: str = "") -> None:
    """
    Save an LSTM to a ``.npz``, ``.safetensors`` or ``.onnx`` file, which `load` reads.

    In the first two the arrays are stored under torch's names. An ONNX file is a model that other runtimes run: one
    LSTM node for each layer; inputs ``x``, ``lengths``, ``h_0`` and ``c_0``, of which all but the first may be left
    out; outputs ``output``, ``h_n`` and ``c_n``. One of float64 ONNX Runtime does not run. The file appears under its
    name only when it is whole.

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
        It is of an unknown kind, or ONNX cannot express the LSTM (a projection or layer norm, say).
    TypeError
        NumPy cannot express the weights' dtype (bfloat16).
    """
    path, prefix = Path(path), dotted(prefix)
    form = _writable_form_of(path)
    if not isinstance(net, LSTM):
        msg = f"`net` is {describe(net)}, expected an lstm_xp.LSTM"
        raise TypeError(msg)
    net = net.to(np, detach=True)
    with _missing_libraries_named(path, form), written_whole(path) as file:
        if form.writes == "model":
            form.imported().write(file, net, prefix)
        else:
            arrays = {prefix + name: array for name, array in net.state_dict().items()}
            form.imported().write(file, arrays, encode_settings(net, prefix))


def save_arrays(path: PathLike, arrays: Arrays) -> None:
    """Save arrays that are not under torch's names, which `load` does not read."""
    path = Path(path)
    form = _writable_form_of(path)
    if form.writes != "arrays":
        msg = f"{path}: a {path.suffix} file does not hold arrays under any names, expected .npz or .safetensors"
        raise ValueError(msg)
    with _missing_libraries_named(path, form), written_whole(path) as file:
        form.imported().write(file, arrays, {})


def open_contents(path: Path) -> Contents:
    """Return what a file holds."""
    form = _form_of(path)
    with _missing_libraries_named(path, form), _broken_files_named(path):
        contents: Contents = form.imported().read(path)
        return contents


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
        with _os_errors_naming(path):
            file = temporary.open("x+b")
        with file:
            yield file
        with _os_errors_naming(path):
            temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


@contextmanager
def _os_errors_naming(path: Path) -> Iterator[None]:
    """Let an OSError name the caller's path, not a temporary one."""
    try:
        yield
    except OSError as error:
        raise type(error)(error.errno, error.strerror, str(path)) from None


@contextmanager
def errors_naming(path: Path) -> Iterator[None]:
    """Let errors in what a file holds name the file."""
    try:
        with errors_about(str(path)):
            yield
    except (ImportError, OSError, TypeError, ValueError):
        raise
    except Exception as error:  # what is read late breaks late, with errors of each library's own
        msg = f"{path} is not a readable {path.suffix} file: {error}"
        raise ValueError(msg) from error


@contextmanager
def _missing_libraries_named(path: Path, form: _Form) -> Iterator[None]:
    """Let an ImportError say what to install."""
    try:
        yield
    except ImportError as error:
        msg = f"{path}: a {path.suffix} file needs the extra lstm_xp[{form.extra}]: {error}"
        raise ImportError(msg, name=error.name) from error


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


def _only_prefix(contents: Contents, path: Path) -> str:
    """Return the prefix of the one LSTM in a file."""
    with errors_naming(path):
        prefixes = contents.prefixes()
    if len(prefixes) == 1:
        return prefixes[0]
    if not prefixes:
        msg = f"{path} holds no LSTM: {contents.nothing}"
    else:
        msg = f"{path} holds {len(prefixes)} LSTMs, expected a `prefix` out of {', '.join(map(repr, prefixes))}"
    raise ValueError(msg)


def _writable_form_of(path: Path) -> _Form:
    form = _form_of(path)
    if form.writes is None:
        writable = [suffix for suffix, other in FORMS.items() if other.writes]
        msg = f"{path} has the suffix {path.suffix!r}, which is only read, expected one of {', '.join(writable)}"
        raise ValueError(msg)
    return form


def _form_of(path: Path) -> _Form:
    if path.suffix not in FORMS:
        msg = f"{path} has the suffix {path.suffix!r}, expected one of {', '.join(FORMS)}"
        raise ValueError(msg)
    return FORMS[path.suffix]
