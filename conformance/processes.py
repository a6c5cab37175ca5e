"""Runs the suite on rows of the table, each in a process of its own, and puts what they found together."""

import json
import platform
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from conformance.backends import Backend
from conformance.record import Results
from conformance.report import NOT_INSTALLED

SUITE = Path(__file__).parent
OUTPUT_KEPT = 40  # lines of a process that crashed
Progress = Callable[[str, float], None]


def run_rows(
    rows: Sequence[Backend], tier: str, options: Sequence[str], jobs: int, progress: Progress
) -> dict[str, Any]:
    """
    Run the suite on rows of the table.

    Parameters
    ----------
    rows : sequence of Backend
        The rows. Those that cannot be run stand in the report with the reason.
    tier : str
        The cases, a key of `TIERS`.
    options : sequence of str
        More options of pytest and the suite.
    jobs : int
        How many processes at a time.
    progress : callable
        ``progress(name, done)`` is told how much of a row is done, from 0 when it starts to 1 at its end.

    Returns
    -------
    dict
        The report: the rows in the order they were given.
    """

    def run(row: Backend) -> dict[str, Any]:
        why = row.not_run or (None if row.is_installed else NOT_INSTALLED)
        if why is not None:
            return {"backends": {row.name: _without_results(row, not_run=why)}}
        return run_row(row, tier, options, progress)

    with ThreadPoolExecutor(jobs) as pool:
        # First those that take long, lest one of them be left alone at the end.
        long_first = sorted(rows, key=lambda row: (not row.slow, row.tier == "core"))
        running = {row.name: pool.submit(run, row) for row in long_first}
        return merge([running[row.name].result() for row in rows], tier)


def run_row(row: Backend, tier: str, options: Sequence[str], progress: Progress) -> dict[str, Any]:
    """Run the suite on one row in a process of its own; return its report, or how it crashed."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pytest", str(SUITE), f"--xp={row.name}", f"--tier={tier}", f"--report={path}"]
        command += ["-q", "-p", "no:cacheprovider", "--color=no", *options]
        progress(row.name, 0.0)
        start = time.perf_counter()
        code, output = _run(command, lambda done: progress(row.name, done))
        seconds = time.perf_counter() - start
        progress(row.name, 1.0)
        report: dict[str, Any] = {"backends": {row.name: _without_results(row, not_run=None)}}
        with suppress(FileNotFoundError, json.JSONDecodeError):  # not written, or not to its end
            report = json.loads(path.read_text(encoding="utf-8"))
    crash = crash_of(code, report, output)
    for found in report["backends"].values():
        found["wall_seconds"] = seconds
        if crash is not None:
            found["crash"] = crash
    return report


def crash_of(code: int, report: dict[str, Any], output: Sequence[str]) -> str | None:
    """
    Return what a process of pytest that did not come to its end said last.

    Parameters
    ----------
    code : int
        Its exit code.
    report : dict
        The report; one that it did not write has no versions.
    output : sequence of str
        The lines of its output.

    Returns
    -------
    str or None
        None where the report is all there is to say.
    """
    failed = any(cell["failed"] for row in report["backends"].values() for cell in row["capabilities"].values())
    # 0: passed, 1: tests failed, 5: no test was selected. All else, and failures that no row has, is no result.
    if "lstm_xp" in report and (code in (0, 5) or (code == 1 and failed)):
        return None
    ending = f"exit code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"
    return "\n".join([ending, *output[-OUTPUT_KEPT:]])


def merge(parts: Sequence[dict[str, Any]], tier: str) -> dict[str, Any]:
    """Return the reports of several processes as one."""
    report = Results().as_json((), tier)
    report |= {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "platform": f"{platform.system()} {platform.machine()}",
    }
    for part in parts:
        for name, found in part.items():
            if name == "stale":  # only what no row has a test for
                kept = report["stale"] if part is not parts[0] else found
                report["stale"] = [line for line in found if line in kept]
            else:
                report[name] = report[name] | found if isinstance(found, dict) else found
    return report


def _without_results(row: Backend, **more: Any) -> dict[str, Any]:
    return {"title": row.title, "module": row.module, "seconds": 0.0, "capabilities": {}} | more


def _run(command: Sequence[str], progress: Callable[[float], None]) -> tuple[int, list[str]]:
    """Run pytest; return its exit code and its output, of which the percentages are progress."""
    output = []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8", errors="replace"
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            output.append(line.rstrip())
            if (percentage := re.search(r"\[ *(\d+)%\]$", output[-1])) is not None:
                progress(int(percentage[1]) / 100)
    return process.returncode, output
