"""The command line: run a trained LSTM over an array file."""

import argparse
import math
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TypeAlias

import numpy as np

from lstm_xp import __version__, _cli_files, _cli_trace, engines
from lstm_xp._cli_arrays import open_array, read_array, writable
from lstm_xp._lstm import LSTM
from lstm_xp._namespace import dtype_name, library_name, standard_namespace
from lstm_xp._pieces import ArrayFile, Index, cut, write_header, write_piece
from lstm_xp._sequence import Call, make_request
from lstm_xp._transfer import from_numpy, to_numpy
from lstm_xp._typing import Namespace
from lstm_xp.convert import load
from lstm_xp.convert._files import FORMS, written_whole

# By how much two right answers may differ that add up in another order. With the trained weights of the example (two
# layers, 1750 steps), torch's and ours each lay up to 7e-7 from the float64 answer in float32, ours 6e-3 in float16.
TOLERANCES = {"float64": 1e-14, "float32": 2e-6, "float16": 1e-2}
# Seconds after which progress is shown.
PATIENCE = 3.0
_State: TypeAlias = tuple[Any, Any]


class _Difference(NamedTuple):
    """How far an array is from another one: the largest difference, and whether NaN is where NaN is."""

    largest: float
    same_nan: bool

    def and_also(self, other: "_Difference") -> "_Difference":
        """Return that of two arrays together."""
        return _Difference(max(self.largest, other.largest), self.same_nan and other.same_nan)


_NO_DIFFERENCE = _Difference(0.0, same_nan=True)


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
        The exit code: 0; 1 if the output is not what was expected; 2 for bad arguments and files; 130 after Ctrl-C.
    """
    options = _parser().parse_args(arguments)
    try:
        return int(options.command(options))
    except (OSError, ValueError, TypeError, ImportError, MemoryError) as error:
        # One line, whatever the message.
        message = " ".join(str(error).split()) or type(error).__name__
        print(f"lstm-xp: error: {message}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("lstm-xp: error: interrupted", file=sys.stderr)
        return 130  # as of a process that SIGINT ends: 128 + 2


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
    run.set_defaults(command=_run)
    run.add_argument("weights", metavar="WEIGHTS", help=f"a file with an LSTM: {', '.join(FORMS)}")
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
    run.add_argument(
        "--engine",
        metavar="NAME",
        help="who computes: auto or one of lstm_xp.available_engines(); else what the weights' file says",
    )
    run.add_argument(
        "--threads",
        metavar="N",
        type=int,
        default=1,
        help="threads over the batch or the directions, for "
        "the engines that have them (default 1); BLAS has threads of its own, see OPENBLAS_NUM_THREADS",
    )
    run.add_argument(
        "--chunk",
        metavar="N",
        type=int,
        help="for files larger than memory: read, run and write N time "
        "steps after the other, or N rows of the batch where the LSTM runs backward; .npy only",
    )
    _cli_trace.add_command(commands)
    _cli_files.add_commands(commands)
    return parser


def _run(options: argparse.Namespace) -> int:
    """Run ``lstm-xp run``; return the exit code."""
    suffixes, why = ((".npy", ".npz"), "") if options.chunk is None else ((".npy",), " with --chunk")
    output_path = None if options.output is None else writable(options.output, suffixes, why)
    xp = _library(options.xp)
    for name, least in (("chunk", 1), ("threads", 1), ("tolerance", 0)):
        given = getattr(options, name)
        if given is not None and not least <= given < math.inf:
            msg = f"--{name} is {given}, expected a number of at least {least}"
            raise ValueError(msg)
    read: Callable[[str, str], Any] = read_array if options.chunk is None else open_array
    expected = None if options.expect is None else read(options.expect, "EXPECTED")
    net = load(options.weights, prefix=options.prefix, xp=xp, dtype=options.dtype)
    x = read(options.input, "INPUT")
    run = _Runner(net, options)

    found = _NO_DIFFERENCE
    if options.chunk is None:
        results = run(x)
        shape = results["output"].shape
        if expected is not None:
            found = _compare(results["output"], expected, shape, (), options)
        if output_path is not None:
            with written_whole(output_path) as file:
                if output_path.suffix == ".npy":
                    np.save(file, results["output"], allow_pickle=False)
                else:
                    np.savez(file, **results)  # type: ignore[arg-type]
    else:
        shape, found = _run_in_chunks(run, x, expected, output_path, options)

    steps = math.prod(x.shape[:-1])
    shown = [
        ("LSTM", f"{net}, {dtype_name(net.dtype)}"),
        ("input", f"{tuple(x.shape)} {run.dtype}"),
        ("output", f"{shape} {run.dtype}"),
        ("engine", run.engine),
        ("time", f"{run.seconds:.3g} s, {steps / run.seconds:,.0f} steps per second"),
    ]
    if output_path is not None:
        shown.append(("written", f"{output_path}"))
    equal = True
    if expected is not None:
        equal, text = _verdict(found, min(np.dtype(run.dtype), expected.dtype, key=lambda d: d.itemsize), options)
        shown.append(("expected", text))
    for name, value in shown:
        print(f"{name:<9}{value}")
    return 0 if equal else 1


class _Runner:
    """Runs the LSTM over one array after the other, and keeps what the report says of it."""

    def __init__(self, net: LSTM, options: argparse.Namespace) -> None:
        self.net, self.options, self.xp = net, options, net._network.xp
        self.settings = replace(net._settings, batch_first=net.batch_first or options.batch_first)
        self.dtype, self.engine, self.seconds = dtype_name(net.dtype), "", 0.0

    def __call__(self, x: np.ndarray, state: _State | None = None) -> dict[str, np.ndarray]:
        """Return output, h_n and c_n."""
        x = from_numpy(x, self.xp, dtype=self.options.dtype)
        if state is not None:
            state = from_numpy(state[0], self.xp), from_numpy(state[1], self.xp)
        start = time.perf_counter()
        engine = self.net.engine if self.options.engine is None else self.options.engine
        call = Call(x, state, engine=engine, threads=self.options.threads)
        request, layout = make_request(self.net._network, self.settings, call)
        choice = engines.choose(request, engine)
        output, (h_n, c_n) = layout.restore(engines.run(request, choice.name), self.xp)
        results = {name: to_numpy(a, name) for name, a in (("output", output), ("h_n", h_n), ("c_n", c_n))}
        self.seconds += time.perf_counter() - start
        self.engine = f"{choice.name} on {library_name(self.xp)} ({choice.reason})"
        return results


def _run_in_chunks(
    run: _Runner, x: ArrayFile, expected: ArrayFile | None, output_path: Path | None, options: argparse.Namespace
) -> tuple[tuple[int, ...], _Difference]:
    """Run over chunks of time, or of the batch; return the output's shape and how it differs from what was expected."""
    if len(x.shape) not in (2, 3):
        msg = f"INPUT {options.input} has shape {x.shape}, expected (time, batch, input_size) or (time, input_size)"
        raise ValueError(msg)
    batched, over_time = len(x.shape) == 3, not (run.net.bidirectional or run.net.reverse)
    if not over_time and not batched:
        msg = f"--chunk: {run.net} runs backward through all of INPUT's time steps, and there is no batch to cut"
        raise ValueError(msg)
    axis = int(over_time == run.settings.batch_first) if batched else 0
    state: _State | None = None
    shape: tuple[int, ...] = ()
    found, offset = _NO_DIFFERENCE, 0
    size = x.shape[axis]
    pieces = _with_progress(cut(size, axis, options.chunk), math.ceil(max(size, 1) / options.chunk))
    with closing(pieces), nullcontext() if output_path is None else written_whole(output_path) as file:
        for index in pieces:
            results = run(x[index], state)
            output = results["output"]
            if over_time:  # NumPy's arrays: a lazy library's would be a graph that grows
                state = results["h_n"], results["c_n"]
            if not shape:
                shape = (*output.shape[:axis], x.shape[axis], *output.shape[axis + 1 :])
                offset = 0 if file is None else write_header(file, shape, output.dtype)
            if expected is not None:
                found = found.and_also(_compare(output, expected, shape, index, options))
            if file is not None:
                write_piece(file, offset, shape, index, output)
    return shape, found


def _with_progress(pieces: Iterator[Index], count: int) -> Generator[Index, None, None]:
    """Yield so many pieces; where that takes longer than some seconds, tell on a terminal how far it is."""
    start = shown = time.monotonic()
    try:
        for done, piece in enumerate(pieces, 1):
            yield piece
            now = time.monotonic()
            if now - start > PATIENCE and now - shown > 0.5 and sys.stderr.isatty():
                shown, left = now, (now - start) * (count / done - 1)
                print(f"\r{done / count:4.0%}, {left:.0f} s left ", end="", file=sys.stderr, flush=True)
    finally:  # an error, too, is to have a line of its own
        if shown > start:
            print(file=sys.stderr)


def _library(name: str) -> Namespace:
    try:
        return standard_namespace(import_module(name))
    except (ImportError, TypeError, ValueError) as error:
        msg = f"--xp {name!r}: {error}"
        raise ValueError(msg) from error


def _compare(
    output: np.ndarray,
    expected: np.ndarray | ArrayFile,
    shape: tuple[int, ...],
    index: Index,
    options: argparse.Namespace,
) -> _Difference:
    """Compare the output, or the piece of it at an index, with what was expected."""
    if expected.shape != shape:
        msg = f"EXPECTED {options.expect} has shape {expected.shape}, the output {shape}"
        raise ValueError(msg)
    wanted = expected[index]
    with np.errstate(invalid="ignore"):
        differences = np.abs(output.astype("float64") - wanted.astype("float64"))
    largest = float(np.max(np.where(output == wanted, 0.0, np.nan_to_num(differences, nan=0.0)), initial=0.0))
    return _Difference(largest, np.array_equal(np.isnan(output), np.isnan(wanted)))


def _verdict(found: _Difference, coarser: np.dtype[Any], options: argparse.Namespace) -> tuple[bool, str]:
    """Return whether the output is what was expected, and what to say of it."""
    tolerance = options.tolerance
    if tolerance is None:
        tolerance = TOLERANCES.get(dtype_name(coarser), TOLERANCES["float64"])
    equal = found.largest <= tolerance and found.same_nan
    verdict = "equal" if equal else "NOT EQUAL"
    return equal, f"{verdict}: the largest difference is {found.largest:.2g}, tolerance {tolerance:.0e}"
