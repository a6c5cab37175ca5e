"""Give mutants to the tests that can notice them, several at a time."""

import ast
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from queue import SimpleQueue
from threading import Lock

from conformance.mutate.judge import Run, Verdict, copy_to, judge, survey
from conformance.mutate.reach import Reach, lines_of_statement
from conformance.mutate.source import Mutant

Stages = Sequence[Sequence[str]]


class Surveys:
    """What the tests of each stage do on the source as it is, found out when it is first asked."""

    def __init__(self, folder: Path, limit: float) -> None:
        self._folder, self._limit = folder, limit
        self._lock = Lock()
        self._known: dict[tuple[str, ...], list[Reach]] = {}

    def __contains__(self, stage: tuple[str, ...]) -> bool:
        return stage in self._known

    def __getitem__(self, stage: tuple[str, ...]) -> list[Reach]:
        if stage not in self._known:
            with self._lock:  # one mutant finds out, the others wait
                if stage not in self._known:
                    self._known[stage] = survey(self._folder, stage, self._limit)
        return self._known[stage]


class Judge:
    """
    Runs, on one mutant, the tests that come to its line.

    First those that noticed another one before. What survives them without an excuse is given to the others: that they
    do not come to the line was seen in one run, in which what is kept between tests may have hidden it. A line to which
    no test comes is a hole without that.

    Parameters
    ----------
    untouched : pathlib.Path
        A copy of the source as it is.
    limit : float
        The seconds after which a mutant is stopped.
    excused : callable
        Whether it is known why a mutant cannot be noticed.
    """

    def __init__(self, untouched: Path, limit: float, excused: Callable[[Mutant], bool]) -> None:
        self._untouched, self._limit, self._excused = untouched, limit, excused
        self._surveys = Surveys(untouched, 10 * limit)
        self._killers: deque[str] = deque(maxlen=200)  # the latest at the end, and not only once
        self._tree = cache(self._parsed)

    def __call__(self, mutant: Mutant, folder: Path, stages: Stages) -> Verdict:
        """Return what the tests say of a mutant that was written into a folder."""
        lines = lines_of_statement(self._tree(mutant.file), mutant.line)
        left = [tuple(stage) for stage in stages]
        everything = tuple(left)
        seen, verdict = False, Verdict("survived")
        while left and verdict.outcome == "survived":
            ready = [stage for stage in left if stage in self._surveys] or left[:1]
            left = [stage for stage in left if stage not in ready]
            if runs := self._runs(ready, mutant.file, lines):
                seen, verdict = True, judge(folder, runs, self._limit)
        if not seen:
            return Verdict("survived", message="no test comes to it")
        if verdict.outcome == "survived" and not self._excused(mutant):
            verdict = judge(folder, self._others(everything, mutant.file, lines), self._limit)
        if verdict.outcome == "killed":
            self._killers.append(verdict.test)
        return verdict

    def _parsed(self, file: str) -> ast.Module:
        return ast.parse((self._untouched / "lstm_xp" / file).read_text(encoding="utf-8"))

    def _runs(self, stages: Sequence[tuple[str, ...]], file: str, lines: range | None) -> list[Run]:
        able = {stage: [t.id for t in self._surveys[stage] if t.comes_to(file, lines)] for stage in stages}
        likely = [*dict.fromkeys(reversed(tuple(self._killers)))]  # others append meanwhile
        runs = [(stage, [test for test in likely if test in set(tests)][:5]) for stage, tests in able.items()]
        first = {test for _, tests in runs for test in tests}
        runs += [(stage, [test for test in tests if test not in first]) for stage, tests in able.items()]
        return [Run(stage, tuple(tests)) for stage, tests in runs if tests]

    def _others(self, stages: Sequence[tuple[str, ...]], file: str, lines: range | None) -> list[Run]:
        others = {stage: [t.id for t in self._surveys[stage] if not t.comes_to(file, lines)] for stage in stages}
        return [Run(stage, tuple(tests)) for stage, tests in others.items() if tests]


def run(
    mutants: Sequence[Mutant],
    targets: Mapping[str, Stages],
    jobs: int,
    limit: float,
    excused: Callable[[Mutant], bool],
) -> Iterator[Verdict]:
    """
    Run the suite on each mutant.

    Parameters
    ----------
    mutants : sequence of Mutant
        The mutants.
    targets : mapping
        What judges a file's: arguments of pytest, one run after the other.
    jobs : int
        How many mutants at a time.
    limit : float
        The seconds after which one is stopped.
    excused : callable
        Whether it is known why a mutant cannot be noticed.

    Yields
    ------
    Verdict
        What the suite said of each, in their order.

    Raises
    ------
    SystemExit
        The suite does not pass on the source as it is.
    """
    with tempfile.TemporaryDirectory() as temporary, ThreadPoolExecutor(jobs) as pool:
        untouched = copy_to(Path(temporary).resolve() / "untouched")
        say = Judge(untouched, limit, excused)
        folders: SimpleQueue[Path] = SimpleQueue()
        for k in range(jobs):
            folders.put(Path(shutil.copytree(untouched, untouched.with_name(f"copy_{k}"))))

        def in_a_copy(mutant: Mutant) -> Verdict:
            folder = folders.get()
            changed = folder / "lstm_xp" / mutant.file
            changed.write_text(mutant.source, encoding="utf-8")
            verdict = say(mutant, folder, targets[mutant.file])
            shutil.copy2(untouched / "lstm_xp" / mutant.file, changed)
            folders.put(folder)
            return verdict

        try:
            yield from pool.map(in_a_copy, mutants)
        finally:
            pool.shutdown(cancel_futures=True)
