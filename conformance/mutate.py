"""
``python -m conformance.mutate``: whether the suite notices what is wrong.

Copies of the source with one small change each (see `conformance.mutations`) are run through the suite. A change that
no test notices is either one that cannot be noticed, and `conformance.equivalent` says why, or a hole in the suite.
"""

import argparse
import ast
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import zip_longest
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from conformance.equivalent import EQUIVALENT, Key
from conformance.judge import ROOT, Verdict, copy_to, judge
from conformance.mutations import OPERATORS, Mutant, Source, fields_by_class, generate

PACKAGE = ROOT / "lstm_xp"


def _suite(*capabilities: str, on: str) -> list[str]:
    return [*(f"conformance/test_{name}.py" for name in capabilities), f"--xp={on}", "--oracle=frozen"]


# What judges, one after the other: first what is quick and tells most. strict-2023.12 is on a device that is not the
# library's default, and refuses whatever the standard does not have.
NUMBERS = _suite(
    *("sequence", "masking", "cell", "options", "sizes", "numbers", "streaming", "memory", "refusals", "properties"),
    on="numpy,strict-2023.12",
)
ARGUMENTS = ["tests/test_errors.py", "tests/test_lstm_object.py", "tests/test_options.py", "--with=array_api_strict"]
ON_JAX = _suite("sequence", "masking", "cell", on="jax")
TARGETS: dict[str, list[list[str]]] = {
    "_activations.py": [NUMBERS, ARGUMENTS],
    "_cell.py": [NUMBERS, ARGUMENTS],
    "_namespace.py": [NUMBERS, ARGUMENTS],
    "_options.py": [NUMBERS, ARGUMENTS],
    "_sequence.py": [NUMBERS, ARGUMENTS],
    "_weights.py": [NUMBERS, ARGUMENTS],
    "engines/_stack.py": [NUMBERS, ARGUMENTS],
    "engines/jax.py": [ON_JAX],
    "engines/standard.py": [NUMBERS, ARGUMENTS],
}


class Judged(NamedTuple):
    """A mutant, what the suite said, and why it could not notice, where that is known."""

    mutant: Mutant
    verdict: Verdict
    reason: str | None

    @property
    def is_hole(self) -> bool:
        """Whether it survived without a reason."""
        return self.verdict.outcome == "survived" and self.reason is None


def key_of(mutant: Mutant) -> Key:
    """Return by what an equivalent mutant is known: not by its line's number, which changes with every edit."""
    return Key(mutant.file, mutant.operator, mutant.before, mutant.after)


REASONS = {key: reason for reason, keys in EQUIVALENT.items() for key in keys}


def mutants_of(files: Iterable[str], operators: Iterable[str]) -> list[Mutant]:
    """
    Return the mutants of the source.

    Parameters
    ----------
    files : iterable of str
        Which files, keys of `TARGETS`.
    operators : iterable of str
        Which operators.

    Returns
    -------
    list of Mutant
        In the order of the source.
    """
    fields = fields_by_class(ast.parse(path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.rglob("*.py")))
    sources = (Source(file, (PACKAGE / file).read_text(encoding="utf-8"), fields) for file in files)
    return [mutant for source in sources for mutant in generate(source, operators)]


def sample(mutants: Sequence[Mutant], number: int, seed: int) -> list[Mutant]:
    """Return some of the mutants, spread over files and operators."""
    chance = random.Random(seed)  # noqa: S311
    groups: dict[tuple[str, str], list[Mutant]] = {}
    for mutant in chance.sample(mutants, len(mutants)):
        groups.setdefault((mutant.file, mutant.operator), []).append(mutant)
    rounds = zip_longest(*groups.values())
    spread = [mutant for one_of_each in rounds for mutant in one_of_each if mutant is not None]
    return spread[:number]


def run(mutants: Sequence[Mutant], jobs: int, limit: float, console: Console) -> Iterator[Judged]:
    """
    Run the suite on each mutant, after it has passed on the source as it is.

    Parameters
    ----------
    mutants : sequence of Mutant
        The mutants.
    jobs : int
        How many at a time.
    limit : float
        The seconds after which one is stopped.
    console : rich.console.Console
        Where progress is shown.

    Yields
    ------
    Judged
        Each mutant, in their order.

    Raises
    ------
    SystemExit
        The suite does not pass on the source as it is.
    """
    # Before NumPy is imported by those who judge: the arrays are tiny, threads would only wait for each other.
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
    with tempfile.TemporaryDirectory() as temporary, ThreadPoolExecutor(jobs) as pool:
        untouched = copy_to(Path(temporary).resolve() / "untouched")
        folders: SimpleQueue[Path] = SimpleQueue()
        for k in range(jobs):
            folders.put(Path(shutil.copytree(untouched, untouched.with_name(str(k)))))

        def in_a_copy(mutant: Mutant | None, stages: list[list[str]]) -> Verdict:
            folder = folders.get()
            try:
                if mutant is None:
                    return judge(folder, stages, 10 * limit)
                path = folder / "lstm_xp" / mutant.file
                path.write_text(mutant.source, encoding="utf-8")
                verdict = judge(folder, stages, limit)
                shutil.copy2(untouched / "lstm_xp" / mutant.file, path)
                return verdict
            finally:
                folders.put(folder)

        stages = [TARGETS[file] for file in dict.fromkeys(mutant.file for mutant in mutants)]
        distinct = [stage for k, stage in enumerate(sum(stages, [])) if stage not in sum(stages, [])[:k]]
        for stage, verdict in zip(distinct, pool.map(lambda stage: in_a_copy(None, [stage]), distinct), strict=True):
            if verdict.outcome != "survived":
                msg = f"the suite does not pass without a change: {' '.join(stage)}: {verdict}"
                raise SystemExit(msg)
        verdicts = pool.map(lambda mutant: in_a_copy(mutant, TARGETS[mutant.file]), mutants)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task("mutants", total=len(mutants))
            for mutant, verdict in zip(mutants, verdicts, strict=True):
                yield Judged(mutant, verdict, REASONS.get(key_of(mutant)))
                progress.advance(task)


def stale(mutants: Iterable[Mutant], judged: Iterable[Judged]) -> list[tuple[Key, str]]:
    """
    Return the reasons that are none, and what became of their mutants.

    Parameters
    ----------
    mutants : iterable of Mutant
        All there are of some files.
    judged : iterable of Judged
        Those that were run.

    Returns
    -------
    list of tuple
        The key of a reason, and what is wrong with it.
    """
    mutants = list(mutants)
    there, files = {key_of(mutant) for mutant in mutants}, {mutant.file for mutant in mutants}
    gone = [(key, "there is no such mutant any more") for key in REASONS if key.file in files and key not in there]
    found = {key_of(mutant): verdict for mutant, verdict, reason in judged if reason and verdict.outcome != "survived"}
    return gone + [(key, f"it does not survive: {verdict.test}: {verdict.message}") for key, verdict in found.items()]


def kill_table(judged: Sequence[Judged]) -> Table:
    """Return how many of the mutants of each operator in each file were noticed."""
    files = list(dict.fromkeys(each.mutant.file for each in judged))
    table = Table(title="killed / mutants", caption="red: a mutant survived; yellow: one that cannot be noticed")
    table.add_column("operator")
    for name in (*files, "all"):
        table.add_column(name, justify="right", no_wrap=True)
    for operator in (*OPERATORS, None):
        of_operator = [each for each in judged if operator in (None, each.mutant.operator)]
        cells = [_killed([each for each in of_operator if each.mutant.file == file]) for file in files]
        if of_operator:
            table.add_row(operator or "all", *cells, _killed(of_operator), end_section=of_operator[-1] is judged[-1])
    return table


def _killed(judged: Sequence[Judged]) -> Text:
    if not judged:
        return Text("")
    killed = sum(each.verdict.outcome != "survived" for each in judged)
    style = "red" if any(each.is_hole for each in judged) else "yellow" if killed < len(judged) else ""
    return Text(f"{killed}/{len(judged)}", style)


def killers(judged: Iterable[Judged]) -> Table:
    """Return which tests noticed first, and of how many mutants."""
    table = Table(title="noticed first by")
    table.add_column("test")
    table.add_column("mutants", justify="right")
    tests = Counter(
        each.verdict.test.partition("[")[0] if each.verdict.outcome == "killed" else f"({each.verdict.outcome})"
        for each in judged
    )
    for test, number in tests.most_common():
        table.add_row(test, str(number))
    return table


def show(mutant: Mutant, console: Console, *remarks: str) -> None:
    """Print a mutant."""
    console.print(Text.assemble((mutant.place, "bold"), f"  {mutant.operator}"))
    console.print(Text(f"  - {mutant.before}\n  + {mutant.after}"), soft_wrap=True)
    for remark in remarks:
        console.print(Text(f"    {remark}", "dim"), soft_wrap=True)


def as_data(judged: Iterable[Judged], wrong: Iterable[tuple[Key, str]], seconds: float) -> dict[str, Any]:
    """Return everything as plain data."""
    return {
        "seconds": round(seconds, 1),
        "mutants": [
            {name: value for name, value in mutant._asdict().items() if name != "source"}
            | verdict._asdict()
            | {"equivalent": reason}
            for mutant, verdict, reason in judged
        ],
        "stale_reasons": [key._asdict() | {"message": message} for key, message in wrong],
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m conformance.mutate", description=__doc__)
    parser.add_argument("--file", action="append", choices=TARGETS, help="only this file; may be repeated")
    parser.add_argument("--operator", action="append", choices=OPERATORS, help="only this one; may be repeated")
    parser.add_argument("--sample", type=int, metavar="N", help="only so many, spread over files and operators")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--list", action="store_true", help="print the mutants and run nothing")
    parser.add_argument("--jobs", type=int, default=2, help="how many at a time; default: 2")
    parser.add_argument("--limit", type=float, default=120, metavar="SECONDS", help="for one mutant; default: 120")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where all of it is written to")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code: 1 if the suite has a hole, or a reason is stale."""
    given = _parser().parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 160)
    everything = mutants_of(given.file or TARGETS, OPERATORS)
    mutants = [mutant for mutant in everything if mutant.operator in (given.operator or OPERATORS)]
    if given.sample is not None:
        mutants = sample(mutants, given.sample, given.seed)
    if given.list:
        for mutant in mutants:
            show(mutant, console)
        console.print(f"{len(mutants)} mutants")
        return 0

    start = time.perf_counter()
    judged = list(run(mutants, given.jobs, given.limit, console))
    seconds = time.perf_counter() - start
    wrong = stale(everything, judged)
    console.print(kill_table(judged), killers(judged))
    for each in judged:
        if each.verdict.outcome == "survived":
            show(each.mutant, console, f"equivalent: {each.reason}" if each.reason else "SURVIVED: the suite has a hole")
    for key, message in wrong:
        console.print(Text(f"stale reason: {key.file}, {key.operator}: {message}"), soft_wrap=True)
        console.print(Text(f"  - {key.before}\n  + {key.after}"), soft_wrap=True)
    counts = Counter(each.verdict.outcome for each in judged)
    holes = sum(each.is_hole for each in judged)
    console.print(
        f"{len(judged)} mutants: {counts['killed']} killed, {counts['error']} not even importable, "
        f"{counts['timeout']} too slow, {counts['survived'] - holes} equivalent, {holes} survived; "
        f"{len(wrong)} stale reasons; {seconds:.0f} s",
        style="bold",
    )
    if given.json is not None:
        given.json.write_text(json.dumps(as_data(judged, wrong, seconds), indent=1) + "\n", encoding="utf-8")
    return int(holes > 0 or bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
