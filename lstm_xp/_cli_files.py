"""``lstm-xp inspect`` and ``lstm-xp convert``: what a file holds, and into another one."""

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from lstm_xp import convert
from lstm_xp._lstm import LSTM
from lstm_xp._namespace import dtype_name
from lstm_xp._options import CellOptions
from lstm_xp.convert._contents import Contents
from lstm_xp.convert._files import FORMS, errors_naming, open_contents, save_arrays

# What `to_X` of these returns are arrays.
FRAMEWORKS = tuple(sorted(name.removeprefix("to_") for name in convert.__all__ if name.startswith("to_")))
# Of these the arrays are not all: direction and options are in a configuration or in attributes.
_MORE_THAN_ARRAYS = ("keras", "onnx")
_COLUMNS = ("prefix", "layers", "directions", "input", "hidden", "projection", "dtype", "parameters", "settings")


def add_commands(commands: Any) -> None:
    """
    Add the two commands.

    Parameters
    ----------
    commands : argparse's subparsers
        What to add them to.
    """
    known = ", ".join(FORMS)
    inspect = commands.add_parser(
        "inspect", help="list the LSTMs in a file", description="List the LSTMs in a file, each by its prefix."
    )
    inspect.set_defaults(command=_inspect)
    inspect.add_argument("file", metavar="FILE", help=known)
    into = commands.add_parser(
        "convert",
        help="write an LSTM into another kind of file",
        description="Write an LSTM into another kind of file. The suffixes tell the kinds.",
    )
    into.set_defaults(command=_convert)
    into.add_argument("source", metavar="IN", help=known)
    into.add_argument("target", metavar="OUT", help=".npz, .safetensors, .onnx")
    into.add_argument("--prefix", metavar="P", help="which LSTM; needed if there are several")
    into.add_argument("--dtype", metavar="DTYPE", help="convert the weights to it")
    into.add_argument(
        "--to",
        metavar="FRAMEWORK",
        choices=FRAMEWORKS,
        help=f"the arrays' names and layout in .npz and .safetensors (default torch): {', '.join(FRAMEWORKS)}",
    )


def _inspect(options: argparse.Namespace) -> int:
    path = Path(options.file)
    contents = open_contents(path)
    with errors_naming(path):
        prefixes = contents.prefixes()
    rows = [_row(contents, prefix, path) for prefix in prefixes]
    if not rows:
        msg = f"{path} holds no LSTM: {contents.nothing}"
        raise ValueError(msg)
    widths = [max(len(row[k]) for row in (_COLUMNS, *rows) if len(row) > 2) for k in range(len(_COLUMNS))]
    widths[0] = max(len(row[0]) for row in (_COLUMNS, *rows))
    for row in (_COLUMNS, *rows):
        cells = [text.ljust(width) for text, width in zip(row, widths, strict=False)]
        print("  ".join(cells).rstrip())
    return 0


def _row(contents: Contents, prefix: str, path: Path) -> tuple[str, ...]:
    """Return what to say of one LSTM, or why it cannot be loaded."""
    shown = prefix or "(none)"
    try:
        with errors_naming(path):
            net, dtype = contents.lstm(prefix)
    except (ValueError, TypeError) as error:
        return shown, " ".join(str(error).removeprefix(f"{path}: ").split())
    return (
        shown,
        str(net.num_layers),
        str(1 + net.bidirectional),
        str(net.input_size),
        str(net.hidden_size),
        str(net.proj_size or "none"),
        dtype or dtype_name(net.dtype),
        f"{sum(array.size for array in net.state_dict().values()):,}",
        ", ".join(_settings(net)) or "torch's",
    )


def _settings(net: LSTM) -> Iterator[str]:
    """Yield what differs from torch's LSTM."""
    for name, default in (("bias", True), ("batch_first", False), ("reverse", False), ("masked_output", "zero")):
        if getattr(net, name) != default:
            yield f"{name}={getattr(net, name)!r}"
    for name in ("peephole", "norm"):
        if getattr(net.weights[0][0], name) is not None:
            yield name
    yield from _option_settings(net)


def _option_settings(net: LSTM) -> Iterator[str]:
    """Yield what the options say that is not torch's."""
    both = (net.options,) if isinstance(net.options, CellOptions) else net.options
    for which, each in zip(("",) if len(both) == 1 else ("forward ", "backward "), both, strict=True):
        for field in fields(each):
            if (value := getattr(each, field.name)) != field.default:
                yield f"{which}{field.name}={value!r}"


def _convert(options: argparse.Namespace) -> int:
    net = convert.load(options.source, prefix=options.prefix, dtype=options.dtype)
    if options.to in (None, "torch") or (options.to == "onnx" and Path(options.target).suffix == ".onnx"):
        convert.save(options.target, net)
        names = len(net.state_dict())
    else:
        lost = [*(["reverse=True"] if net.reverse else []), *_option_settings(net)]
        if lost and options.to in _MORE_THAN_ARRAYS:
            msg = f"{options.target}: the arrays of {options.to} do not say {', '.join(lost)}; a file that is written"
            msg += " without --to does"
            raise ValueError(msg)
        arrays = dict(_named(getattr(convert, f"to_{options.to}")(net), ""))
        arrays = {name or options.to: array for name, array in arrays.items()}
        save_arrays(options.target, arrays)
        names = len(arrays)
    print(f"{options.target}: {net}, {names} arrays")
    return 0


def _named(value: Any, name: str) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the arrays in nested dicts and lists, with the way to them."""
    if isinstance(value, np.ndarray):
        yield name, value
        return
    for key, each in value.items() if isinstance(value, Mapping) else enumerate(value):
        yield from _named(each, f"{name}/{key}" if name else f"{key}")
