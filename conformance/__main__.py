"""
``python -m conformance``: the suite on every array library that is installed, each in a process of its own.

Prints the matrix and writes ``report.json`` and ``report.html``. Options after ``--`` go to pytest and the suite.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from conformance import terminal
from conformance.backends import BACKENDS, Backend, by_name
from conformance.cases import TIERS
from conformance.page import page
from conformance.processes import run_rows
from conformance.report import has_failed, matrix
from conformance.selection import SelectionError, default

WIDTH = 120  # of what is printed where there is no terminal to ask


def rows_of(names: Sequence[str]) -> list[Backend]:
    """
    Return the rows that a command is about.

    Parameters
    ----------
    names : sequence of str
        Names of rows and modules, as ``--xp`` takes them; none is the whole table.

    Returns
    -------
    list of Backend
        Each row once.

    Raises
    ------
    SelectionError
        A library that was asked for by name is not installed.
    """
    if not names:
        return list(BACKENDS)
    try:
        asked = [row for each in names for name in each.split(",") for row in by_name(name)]
    except (ImportError, ValueError) as error:
        raise SelectionError(str(error)) from None
    # Asked for by name: here there may be what was missing elsewhere.
    rows = {row.name: replace(row, not_run=None) for row in asked}
    missing = sorted({row.module for row in rows.values() if not row.is_installed})
    if missing:
        msg = f"not installed: {', '.join(missing)}"
        raise SelectionError(msg)
    return list(rows.values())


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_name(f"{path.name}.part")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def run(rows: Sequence[Backend], tier: str, options: Sequence[str], jobs: int, console: Console) -> dict[str, object]:
    """Run the suite and show what it is at."""
    columns = (SpinnerColumn(finished_text=" "), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bars:
        tasks: dict[str, TaskID] = {}

        def progress(name: str, done: float) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=1.0)
            bars.update(tasks[name], completed=done)

        return run_rows(rows, tier, options, jobs, progress)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    split = given.index("--") if "--" in given else len(given)
    parser = argparse.ArgumentParser(prog="python -m conformance", description=__doc__.partition("\n\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="a module or a row of the table; default: every row")
    parser.add_argument("--tier", choices=tuple(TIERS), help="how many cases; default: core")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="how many processes at a time; default: 2")
    parser.add_argument(
        "--output", type=Path, default=Path("conformance-report"), metavar="DIR", help="default: %(default)s"
    )
    parser.epilog = "options after -- go to pytest and the suite, as in: python -m conformance jax -- --device=cpu"
    chosen = parser.parse_args(given[:split])
    if chosen.jobs < 1:
        parser.error(f"--jobs is {chosen.jobs}, expected at least 1")
    try:
        names = chosen.names or (default("xp") or "").split(",")
        rows, tier = rows_of([name for name in names if name]), chosen.tier or default("tier")
        chosen.output.mkdir(parents=True, exist_ok=True)
    except (SelectionError, OSError) as error:
        parser.error(str(error))

    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    report = run(rows, tier, given[split + 1 :], chosen.jobs, console)
    write(chosen.output / "report.json", json.dumps(report, indent=1) + "\n")
    write(chosen.output / "report.html", page(report))
    terminal.show(report, console)
    for line in report.get("stale", ()):
        console.print(line, style="yellow")
    console.print(f"written: {chosen.output / 'report.json'}, {chosen.output / 'report.html'}")
    if not any(cell.total for row in matrix(report).rows for cell in row.cells):
        console.print("no test was run", style="bold red")
        return 1
    return int(has_failed(report))


if __name__ == "__main__":
    sys.exit(main())
