"""The command line: run a trained LSTM over an array file."""

import argparse
import math
import sys
import time
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np

from lstm_xp import __version__, engines
from lstm_xp._namespace import dtype_name, library_name, standard_namespace
from lstm_xp._sequence import make_request
from lstm_xp._transfer import from_numpy, to_numpy
from lstm_xp._typing import Namespace
from lstm_xp.convert import load
from lstm_xp.convert._files import written_whole

# By how much two right answers may differ that add up in another order. With the trained weights of the example (two
# layers, 1750 steps), torch's and ours each lay up to 7e-7 from the float64 answer in float32, ours 6e-3 in float16.
TOLERANCES = {"float64": 1e-14, "float32": 2e-6, "float16": 1e-2}


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run the command line.

    Parameters
    ----------
    arguments : sequence of str, optional
        What follows the command's name; the process's own if absent.

    Returns
    -------
    int
        The exit code: 0; 1 if the output is not what was expected; 2 for bad arguments and files.
    """
    options = _parser().parse_args(arguments)
    try:
        return _run(options)
    except (OSError, ValueError, TypeError, ImportError, MemoryError) as error:
        # One line, whatever the message.
        message = " ".join(str(error).split()) or type(error).__name__
        print(f"lstm-xp: error: {message}", file=sys.stderr)
        return 2


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, as all others are."""

    def error(self, message: str) -> NoReturn:
        message = " ".join(message.split())
        self.exit(2, f"lstm-xp: error: {message}; see {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="lstm-xp", description="Run a trained LSTM, without the framework it is from.")
    parser.add_argument("--version", action="version", version=f"lstm_xp {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser(
        "run",
        help="run a trained LSTM over an array file",
        description="Run a trained LSTM over an array file. An array file is .npy, or .npz: with one array, or "
        "FILE.npz:NAME.",
    )
    run.add_argument("weights", metavar="WEIGHTS", help="a .npz or .safetensors file with arrays under torch's names")
    run.add_argument("input", metavar="INPUT", help="x: (time, batch, input_size), or (time, input_size)")
    run.add_argument("-o", "--output", metavar="OUTPUT", help=".npy for the output; .npz for output, h_n and c_n")
    run.add_argument(
        "--prefix", metavar="P", help="what the weights' names begin with; needed if there are several LSTMs"
    )
    run.add_argument("--xp", metavar="LIBRARY", default="numpy", help="numpy (default), torch, jax.numpy, ...")
    run.add_argument("--dtype", metavar="DTYPE", help="convert weights and input to it; else they must have the same")
    run.add_argument("--batch-first", action="store_true", help="the input is (batch, time, input_size)")
    run.add_argument("--expect", metavar="EXPECTED", help="an array file to compare the output with")
    run.add_argument("--tolerance", metavar="T", type=float, help="largest absolute difference that is called equal")
    return parser


def _run(options: argparse.Namespace) -> int:
    """Run ``lstm-xp run``; return the exit code."""
    output_path = None if options.output is None else _output_path(options.output)
    xp = _library(options.xp)
    expected = None if options.expect is None else _read_array(options.expect, "EXPECTED")
    if options.tolerance is not None and not 0 <= options.tolerance < math.inf:
        msg = f"--tolerance is {options.tolerance}, expected a number of at least 0"
        raise ValueError(msg)
    net = load(options.weights, prefix=options.prefix, xp=xp, dtype=options.dtype)
    settings = replace(net._settings, batch_first=True) if options.batch_first else net._settings
    x = from_numpy(_read_array(options.input, "INPUT"), xp, dtype=options.dtype)

    shown = [("LSTM", f"{net}, {dtype_name(net.dtype)}")]
    start = time.perf_counter()
    request, layout = make_request(net._network, settings, x, None, None, None)
    choice = engines.choose(request, net.engine)
    output, (h_n, c_n) = layout.restore(engines.run(request, choice.name), xp)
    results = {name: to_numpy(a, name) for name, a in (("output", output), ("h_n", h_n), ("c_n", c_n))}
    seconds = time.perf_counter() - start

    steps = int(np.prod(x.shape[:-1]))
    shown += [
        ("input", f"{tuple(x.shape)} {dtype_name(x.dtype)}"),
        ("output", f"{results['output'].shape} {dtype_name(results['output'].dtype)}"),
        ("engine", f"{choice.name} on {library_name(xp)} ({choice.reason})"),
        ("time", f"{seconds:.3g} s, {steps / seconds:,.0f} steps per second"),
    ]
    comparison = None if expected is None else _compare(results["output"], expected, options)
    if output_path is not None:
        with written_whole(output_path) as file:
            if output_path.suffix == ".npy":
                np.save(file, results["output"], allow_pickle=False)
            else:
                np.savez(file, **results)  # type: ignore[arg-type]
        shown.append(("written", f"{output_path}"))
    if comparison is not None:
        shown.append(("expected", comparison.text))
    for name, value in shown:
        print(f"{name:<9}{value}")
    return 0 if comparison is None or comparison.equal else 1


def _output_path(given: str) -> Path:
    path = Path(given)
    if path.suffix not in (".npy", ".npz"):
        msg = f"OUTPUT {given} has the suffix {path.suffix!r}, expected .npy or .npz"
        raise ValueError(msg)
    if not path.parent.is_dir():
        msg = f"OUTPUT {given}: there is no folder {path.parent}"
        raise ValueError(msg)
    if path.is_dir():
        msg = f"OUTPUT {given} is a folder"
        raise ValueError(msg)
    return path


def _library(name: str) -> Namespace:
    try:
        return standard_namespace(import_module(name))
    except (ImportError, TypeError, ValueError) as error:
        msg = f"--xp {name!r}: {error}"
        raise ValueError(msg) from error


def _read_array(given: str, what: str) -> np.ndarray:
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
    if array.dtype.kind != "f":
        msg = f"{what} {given} has dtype {array.dtype}, expected a real floating dtype"
        raise TypeError(msg)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _member(names: Sequence[str], wanted: str | None) -> str:
    """Return which array of an archive is meant."""
    if wanted is None and len(names) != 1:
        msg = f"it holds {len(names)} arrays, expected one; FILE.npz:NAME takes one out of {', '.join(names)}"
        raise ValueError(msg)
    if wanted is not None and wanted not in names:
        msg = f"it holds no array {wanted!r}, but {', '.join(names)}"
        raise ValueError(msg)
    return names[0] if wanted is None else wanted


class _Comparison(NamedTuple):
    equal: bool
    text: str


def _compare(output: np.ndarray, expected: np.ndarray, options: argparse.Namespace) -> _Comparison:
    """Compare the output with what was expected of it."""
    if expected.shape != output.shape:
        msg = f"EXPECTED {options.expect} has shape {expected.shape}, the output {output.shape}"
        raise ValueError(msg)
    coarser = min((output.dtype, expected.dtype), key=lambda dtype: dtype.itemsize)
    tolerance = options.tolerance
    if tolerance is None:
        tolerance = TOLERANCES.get(dtype_name(coarser), TOLERANCES["float64"])
    same_nan = np.array_equal(np.isnan(output), np.isnan(expected))
    with np.errstate(invalid="ignore"):
        differences = np.abs(output.astype("float64") - expected.astype("float64"))
    largest = float(np.max(np.where(output == expected, 0.0, np.nan_to_num(differences, nan=0.0)), initial=0.0))
    equal = bool(same_nan and largest <= tolerance)
    verdict = "equal" if equal else "NOT EQUAL"
    return _Comparison(equal, f"{verdict}: the largest difference is {largest:.2g}, tolerance {tolerance:.0e}")
