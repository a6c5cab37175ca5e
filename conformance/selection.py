"""What a run is about: the library, device, dtype and engine asked for, and the tests that are known not to pass."""

import argparse
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from conformance.backends import BACKENDS, Backend, Gap, by_name, with_its_dtypes
from conformance.cases import STEPS, TIERS
from lstm_xp.engines import check_engine

PREFIX = "LSTM_XP_CONFORMANCE_"


def _at_least_one(text: str) -> int:
    """Read a number of steps."""
    if not text.isdecimal() or int(text) == 0:
        msg = f"{text!r}, expected an integer, at least 1"
        raise argparse.ArgumentTypeError(msg)
    return int(text)


# The command line's options, each also an environment variable: PREFIX and the name in capitals.
OPTIONS: dict[str, dict[str, Any]] = {
    "xp": {
        "metavar": "NAME",
        "help": "the array library: a module (numpy, mylib.array), or a row of conformance/backends.py (jax-jit); "
        "several with commas; default: every row but the slow ones",
    },
    "device": {"metavar": "NAME", "help": "the device that arrays are put on; default: the library's"},
    "dtype": {"choices": ("float64", "float32"), "help": "the only dtype; default: those that the library has"},
    "engine": {"metavar": "NAME", "help": "the engine that runs the LSTM; default: the row's, mostly auto"},
    "steps": {
        "type": _at_least_one,
        "metavar": "T",
        "help": "the longest sequence; default: what the library is fast enough for",
    },
    "tier": {"choices": tuple(TIERS), "default": "core", "help": "how many cases; default: core"},
    "oracle": {
        "choices": ("auto", "live", "frozen"),
        "default": "auto",
        "help": "ask torch and ONNX Runtime, or read their frozen answers; default: ask those that are installed",
    },
    "skips-file": {"metavar": "FILE", "help": "tests that the library does not pass and need not: legitimate limits"},
    "xfails-file": {"metavar": "FILE", "help": "tests that the library does not pass though the standard has it so"},
    "report": {"metavar": "FILE", "help": "where the results are written to, as JSON"},
}


class SelectionError(Exception):
    """What was asked for does not exist or does not go together."""


@dataclass(frozen=True)
class Selection:
    """
    What a run is about.

    Parameters
    ----------
    backends : tuple of Backend
        The rows, as they run: with the device, dtype, engine and gaps that were asked for.
    tier : str
        A key of `TIERS`.
    from_files : tuple of Gap
        The gaps that came from files.
    """

    backends: tuple[Backend, ...]
    tier: str
    from_files: tuple[Gap, ...]


def variable(option: str) -> str:
    """Return the environment variable of an option."""
    return PREFIX + option.replace("-", "_").upper()


def default(option: str) -> Any:
    """Return what an option is where the command line does not have it."""
    value = os.environ.get(variable(option)) or OPTIONS[option].get("default")  # an empty one is as good as none
    choices = OPTIONS[option].get("choices")
    if value is not None and choices and value not in choices:
        msg = f"{variable(option)} is {value!r}, expected one of {', '.join(choices)}"
        raise SelectionError(msg)
    try:
        return value if value is None else OPTIONS[option].get("type", str)(value)
    except argparse.ArgumentTypeError as error:
        msg = f"{variable(option)} is {error}"
        raise SelectionError(msg) from None


def select(given: dict[str, Any]) -> Selection:
    """
    Return what a run is about.

    Parameters
    ----------
    given : dict
        The options, by name.

    Returns
    -------
    Selection
        The rows and the tier.

    Raises
    ------
    SelectionError
        A library is not installed, does not have the dtype or the device, or there is no such engine.
    """
    names = given["xp"]
    rows = (
        [row for row in BACKENDS if not (row.slow or row.not_run)]
        if names is None
        else list({row.name: row for name in names.split(",") for row in _rows(name.strip())}.values())
    )
    missing = sorted({row.module for row in rows if not row.is_installed})
    if missing:
        msg = f"not installed: {', '.join(missing)}" + ("" if names else "; --xp=MODULE runs one library alone")
        raise SelectionError(msg)
    if given["device"] is not None:
        rows = [_on(row, given["device"]) for row in {row.module: row for row in reversed(rows)}.values()]
    if given["dtype"] is not None:
        rows = [replace(row, dtypes=(given["dtype"],)) for row in rows if given["dtype"] in row.dtypes]
        if not rows:
            msg = f"no library that was asked for has {given['dtype']}"
            raise SelectionError(msg)
    longest = min(STEPS[given["tier"]], given["steps"] or STEPS[given["tier"]])
    rows = [replace(row, steps=min(row.steps, longest)) for row in rows]
    if given["tier"] == "core":
        rows = [replace(row, tier="core") for row in rows]
    gaps = tuple(
        gap
        for kind in ("skip", "xfail")
        if given[f"{kind}s-file"] is not None
        for gap in read_gaps(Path(given[f"{kind}s-file"]), kind)
    )
    engine = given["engine"]
    if engine is not None:
        try:
            check_engine(engine)
        except ValueError as error:
            msg = f"--engine={engine}: {error}"
            raise SelectionError(msg) from None
        rows = [replace(row, engine=engine) for row in rows]
    rows = [replace(row, gaps=(*row.gaps, *gaps)) for row in rows]
    return Selection(tuple(rows), given["tier"], gaps)


def _rows(name: str) -> list[Backend]:
    try:
        rows = list(by_name(name))
    except (ImportError, ValueError) as error:
        msg = f"--xp={name}: {error}"
        raise SelectionError(msg) from None
    for row in rows:
        if row.not_run is not None:
            rows = [replace(row, not_run=None)]  # asked for by name: here there may be what was missing elsewhere
    return rows


def check_folder(report: str | None) -> None:
    """Raise SelectionError, before anything has run, if a report could not be written at the end."""
    if report is not None and not Path(report).absolute().parent.is_dir():
        msg = f"--report={report}: there is no folder {Path(report).parent}"
        raise SelectionError(msg)


def _on(row: Backend, device: str) -> Backend:
    try:
        return with_its_dtypes(row.on(device))
    except ValueError as error:
        msg = f"--device={device}: {error}"
        raise SelectionError(msg) from None


def read_gaps(path: Path, kind: Any) -> list[Gap]:
    """
    Read a file of tests that do not pass.

    A line is the id of a test, as pytest prints it or within the suite, or its beginning, ``*`` standing for anything.
    The comment above a block of lines is their reason, with a link.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    kind : {"skip", "xfail"}
        What the tests are.

    Returns
    -------
    list of Gap
        One for each line.

    Raises
    ------
    SelectionError
        The file is not there, or a line has no reason or no link.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        msg = f"{path}: {error.strerror}"
        raise SelectionError(msg) from None
    gaps, comment, in_comment = [], [], False
    for number, line in enumerate(map(str.strip, lines), start=1):
        if line.startswith("#"):
            comment = [*comment, line] if in_comment else [line]
        elif line:
            said = " ".join(each.lstrip("# ") for each in comment)
            link = re.search(r"https?://[^\s)]+", said)
            reason = "" if link is None else said.replace(link[0], "").strip(" -:,;()")
            if link is None or not reason:
                msg = f"{path}, line {number}: {line!r} has no comment above it with the reason and a link"
                raise SelectionError(msg)
            gaps.append(Gap(line.rpartition("conformance/")[2], kind, reason, link[0]))
        else:
            comment = []
        in_comment = line.startswith("#")
    return gaps


def fits(gap: Gap, test: str) -> bool:
    """Tell whether a gap is about a test, by the test's id within the suite."""
    return re.match(re.escape(gap.tests).replace(r"\*", ".*"), test) is not None
