"""``lstm-xp trace``: what is inside an LSTM, as a picture or as arrays."""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from lstm_xp import plot
from lstm_xp._cell import Moment
from lstm_xp._cli_arrays import read_array, writable
from lstm_xp._inside import ORDERS
from lstm_xp._namespace import dtype_name
from lstm_xp._sequence import Call
from lstm_xp._trace import Trace, run_trace
from lstm_xp._transfer import from_numpy
from lstm_xp.convert import load
from lstm_xp.convert._files import FORMS, written_whole

# The kinds of picture, and the metadata without which the same call writes the same file.
PICTURES: dict[str, dict[str, None]] = {".svg": {"Date": None}, ".png": {}, ".pdf": {"CreationDate": None}}


def add_command(commands: Any) -> None:
    """
    Add the command.

    Parameters
    ----------
    commands : argparse's subparsers
        What to add it to.
    """
    trace = commands.add_parser(
        "trace",
        help="show every gate and state of a trained LSTM",
        description="Draw the gates and states of a trained LSTM over time, or write them as arrays: output, h_n, c_n, "
        "and i_l0 for the input gate of layer 0, i_l0_reverse for that of its backward direction, and so on.",
    )
    trace.set_defaults(command=_trace)
    trace.add_argument("weights", metavar="WEIGHTS", help=f"a file with an LSTM: {', '.join(FORMS)}")
    trace.add_argument("input", metavar="INPUT", help="x: (time, batch, input_size), or (time, input_size)")
    trace.add_argument(
        "-o", "--output", metavar="OUTPUT", required=True, help=".svg, .png or .pdf for a picture; .npz for the arrays"
    )
    trace.add_argument(
        "--prefix", metavar="P", help="what the weights' names begin with; needed if there are several LSTMs"
    )
    trace.add_argument("--dtype", metavar="DTYPE", help="convert weights and input to it; else they must have the same")
    trace.add_argument("--batch-first", action="store_true", help="the input is (batch, time, input_size)")
    trace.add_argument(
        "--keep",
        metavar="NAMES",
        default=",".join(Moment._fields),
        help="what to keep (default %(default)s: states, input and forget gates, candidates, output gates)",
    )
    picture = trace.add_argument_group("pictures")
    picture.add_argument(
        "--layer", metavar="N", type=int, default=-1, help="which layer, from 0 (default -1: the last)"
    )
    picture.add_argument(
        "--direction", metavar="N", type=int, default=0, help="1 for the backward one of two (default 0)"
    )
    picture.add_argument("--row", metavar="N", type=int, default=0, help="which row of the batch (default 0)")
    picture.add_argument("--columns", metavar="N", type=int, default=400, help="the most, each a mean (default 400)")
    picture.add_argument("--order", choices=ORDERS, default=ORDERS[0], help="of the units (default %(default)s)")


def _trace(options: argparse.Namespace) -> int:
    path = writable(options.output, (*PICTURES, ".npz"))
    net = load(options.weights, prefix=options.prefix, dtype=options.dtype)
    x = from_numpy(read_array(options.input, "INPUT"), np, dtype=options.dtype)
    settings = replace(net._settings, batch_first=net.batch_first or options.batch_first)
    trace = run_trace(net._network, settings, Call(x, engine=net.engine), tuple(options.keep.split(",")))
    if path.suffix == ".npz":
        arrays = dict(_named(trace))
        with written_whole(path) as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        shown = f"{path}: {len(arrays)} arrays"
    else:
        figure = plot.gates(
            trace,
            layer=options.layer,
            direction=options.direction,
            row=options.row,
            batch_first=settings.batch_first,
            order=options.order,
            columns=options.columns,
        )
        _write(figure, path)
        shown = f"{path}"
    for name, value in (
        ("LSTM", f"{net}, {dtype_name(net.dtype)}"),
        ("input", f"{tuple(x.shape)} {x.dtype}"),
        ("written", shown),
    ):
        print(f"{name:<9}{value}")
    return 0


def _write(figure: Any, path: Any) -> None:
    from matplotlib import rc_context

    with rc_context({"svg.hashsalt": "lstm_xp"}), written_whole(path) as file:
        figure.savefig(file, format=path.suffix[1:], dpi=200, metadata=PICTURES[path.suffix])


def _named(trace: Trace) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the arrays of a trace under names like torch's."""
    yield "output", trace.output
    yield from zip(("h_n", "c_n"), trace.state, strict=True)
    for name in Moment._fields:
        for layer, directions in enumerate(getattr(trace, name) or ()):
            for suffix, array in zip(("", "_reverse"), directions, strict=False):
                yield f"{name}_l{layer}{suffix}", array
