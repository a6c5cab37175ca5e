"""Run tests on a copy of the source, in a process of its own, and tell what they found."""

import compileall
import importlib
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from multiprocessing import get_all_start_methods, get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pytest

from conformance.mutate.reach import Reach, Tracer

ROOT = Path(__file__).parent.parent.parent
COPIED = ("lstm_xp", "conformance", "tests", "pyproject.toml")

# Where the platform can fork, processes find these imported: they start in milliseconds. torch and JAX, whose threads a
# fork loses, are left to those that need them.
_CONTEXT: Any = get_context("forkserver" if "forkserver" in get_all_start_methods() else "spawn")
_CONTEXT.set_forkserver_preload(["array_api_compat", "array_api_strict", "hypothesis", "numpy", __name__])

Outcome = Literal["survived", "killed", "error", "timeout"]


class Verdict(NamedTuple):
    """
    What a run of the suite said.

    Parameters
    ----------
    outcome : {"survived", "killed", "error", "timeout"}
        All tests passed; one failed; they could not even be collected; it took too long.
    test : str
        The first test that failed.
    message : str
        Why it did.
    """

    outcome: Outcome
    test: str = ""
    message: str = ""


def copy_to(folder: Path) -> Path:
    """
    Copy what the suite needs to run.

    Parameters
    ----------
    folder : pathlib.Path
        Where to; it is made.

    Returns
    -------
    pathlib.Path
        That folder.
    """
    folder.mkdir()
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(ROOT / name, folder)
    compileall.compile_dir(folder, quiet=2)
    return folder


class Run(NamedTuple):
    """
    What pytest is asked to do.

    Parameters
    ----------
    stage : tuple of str
        Its arguments: files and options.
    tests : tuple of str, optional
        The tests of these files that are run, in this order; all of them if absent.
    """

    stage: tuple[str, ...]
    tests: tuple[str, ...] | None = None

    @property
    def arguments(self) -> list[str]:
        """The arguments, without the files of which no test is run."""
        if self.tests is None:
            return [*self.stage]
        is_file = lambda argument: argument.partition("::")[0].endswith(".py")
        files = dict.fromkeys(test.partition("::")[0] for test in self.tests)
        return [*files, *(argument for argument in self.stage if not is_file(argument))]

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Leave the tests, in their order, as a plugin; where some are gone, for a mutant's sake, leave all."""
        by_id = {item.nodeid: item for item in items}
        if self.tests is not None and by_id.keys() >= set(self.tests):
            items[:] = [by_id[test] for test in self.tests]


def judge(folder: Path, runs: Iterable[Run], limit: float) -> Verdict:
    """
    Run tests on the copy in a folder.

    Parameters
    ----------
    folder : pathlib.Path
        Where the copy is.
    runs : iterable of Run
        What is run, one after the other, until a test fails.
    limit : float
        The seconds after which it is stopped.

    Returns
    -------
    Verdict
        What came of it.
    """
    return Verdict(*_in_a_process(_first_failure, folder, [*runs], limit))


def survey(folder: Path, stage: tuple[str, ...], limit: float) -> list[Reach]:
    """
    Run all tests of a stage on the copy in a folder and see where they come.

    Parameters
    ----------
    folder : pathlib.Path
        Where the copy is.
    stage : tuple of str
        The arguments of pytest.
    limit : float
        The seconds after which it is stopped.

    Returns
    -------
    list of Reach
        The tests, those that take less time first.

    Raises
    ------
    SystemExit
        One fails: they are to judge others.
    """
    outcome, *rest = _in_a_process(_traced, folder, stage, limit)
    if outcome != "survived":
        msg = f"the suite does not pass on the source as it is: {' '.join(stage)}: {outcome}: {': '.join(rest)}"
        raise SystemExit(msg)
    return sorted((Reach(*each) for each in rest), key=lambda test: test.seconds)


def _in_a_process(function: Callable[..., Sequence[Any]], folder: Path, given: Any, limit: float) -> Sequence[Any]:
    """Return what a function makes of a copy, or a verdict where it does not come to its end."""
    ours, theirs = _CONTEXT.Pipe(duplex=False)
    process = _CONTEXT.Process(target=_be_the_process, args=(function, folder, given, theirs))
    process.start()
    theirs.close()
    try:
        timeout = Verdict("timeout", message=f"not done after {limit:g} s")
        return ours.recv() if ours.poll(limit) else timeout
    except EOFError:
        return Verdict("error", message="the process died")
    finally:
        process.kill()
        process.join()
        ours.close()


def _be_the_process(function: Callable[..., Sequence[Any]], folder: Path, given: Any, answer: Connection) -> None:
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    sys.dont_write_bytecode = True  # that of a mutant could be taken for the next one's
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    for name in [name for name in sys.modules if name.partition(".")[0] in ("lstm_xp", "conformance")]:
        del sys.modules[name]
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    try:
        package = importlib.import_module("lstm_xp")
        assert Path(str(package.__file__)).is_relative_to(folder), f"{package.__file__} is not in {folder}"
        importlib.import_module("conformance.cases")
        found = function(folder, given)
    except BaseException as error:  # of any kind: it is a wrong package that is imported
        found = Verdict("error", "import", f"{type(error).__name__}: {error}")
    answer.send(tuple(found))  # the class may be that of the copy by now


def _first_failure(_: Path, runs: Iterable[Run]) -> Verdict:
    for run in runs:
        verdict = _run(run)
        if verdict.outcome != "survived":
            return verdict
    return Verdict("survived")


def _traced(folder: Path, stage: tuple[str, ...]) -> Sequence[Any]:
    tracer = Tracer(folder / "lstm_xp")
    verdict = _run(Run(stage), tracer)
    return verdict if verdict.outcome != "survived" else ("survived", *map(tuple, tracer.tests))


def _run(run: Run, *plugins: Any) -> Verdict:
    watcher = _Watcher()
    # No rewriting of assertions, no plugins: they take longer than most mutants live.
    settings = ["-x", "-q", "--assert=plain", "-p", "no:cacheprovider", "-p", "no:unraisableexception"]
    code = pytest.main([*run.arguments, *settings], plugins=[watcher, run, *plugins])
    if watcher.first is not None:
        return watcher.first
    return Verdict("survived") if code == pytest.ExitCode.OK else Verdict("error", "pytest", f"exit code {code}")


class _Watcher:
    """Keeps the first failure of a run."""

    first: Verdict | None = None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._keep("killed", report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._keep("error", report)

    def _keep(self, outcome: Outcome, report: Any) -> None:
        if report.failed and self.first is None:
            crash = getattr(report.longrepr, "reprcrash", None)
            message = str(report.longrepr if crash is None else crash.message).strip()
            self.first = Verdict(outcome, report.nodeid, message.partition("\n")[0])
