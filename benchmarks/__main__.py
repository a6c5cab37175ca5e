"""
``python -m benchmarks``: measure, print a table for each question, write JSON and plots.

The last table says which goals are reached.
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from rich.console import Console

from benchmarks import plots, records, tables
from benchmarks.goals import judge
from benchmarks.questions import KERAS_BACKENDS, QUESTIONS

PACKAGES = (
    "numpy",
    "numba",
    "torch",
    "jax",
    "onnxruntime",
    "flax",
    "equinox",
    "dm-haiku",
    "keras",
    "dask",
)


def measure(question: str, threads: int, *switches: str) -> list[records.Record]:
    """Ask a question in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "records.json")
        command = [sys.executable, "-m", "benchmarks.measure", question, str(threads), str(file)]
        environment = {**os.environ, "KERAS_BACKEND": KERAS_BACKENDS.get(question, "torch"), "JAX_PLATFORMS": "cpu"}
        subprocess.run([*command, *switches], env=environment, check=True)
        return records.read(file)[1]


def about() -> dict[str, object]:
    """Return what is measured on."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    processor = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())
    machine = {"processor": processor, "processors": os.cpu_count(), "system": platform.platform()}
    return {"machine": machine, "python": platform.python_version(), "versions": versions}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.partition("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="small sizes and few rounds: whether it works at all")
    parser.add_argument("--only", action="append", choices=QUESTIONS, metavar="QUESTION", help=", ".join(QUESTIONS))
    parser.add_argument(
        "--threads", metavar="1,2", help="for everybody, each number a run of its own; default: 1,2, quick 1"
    )
    parser.add_argument(
        "--cpu-time", action="store_true", help="count processor time: for one thread on a machine that others use too"
    )
    parser.add_argument("--output", type=Path, default=Path("benchmark-report"), metavar="FOLDER")
    given = parser.parse_args(arguments)

    given.output.mkdir(parents=True, exist_ok=True)
    numbers = given.threads or ("1" if given.quick else "1,2")
    switches = ["--quick"] * given.quick + ["--cpu-time"] * given.cpu_time
    console, found = Console(width=None if sys.stdout.isatty() else 200), []
    for question in given.only or QUESTIONS:
        for threads in map(int, numbers.split(",")):
            new = measure(question, threads, *switches)
            found += new
            for table in tables.tables(new):
                console.print(table)
            records.write(given.output / "results.json", about(), found)  # each time: it takes long
    if verdicts := list(judge(found)):
        console.print(tables.goals(verdicts))
    plots.draw(found, given.output)


if __name__ == "__main__":
    main()
