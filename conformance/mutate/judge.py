"""Run the suite on a copy of the source, in a process of its own, and tell what it found."""

import compileall
import importlib
import os
import shutil
import sys
from collections.abc import Iterable
from multiprocessing import get_all_start_methods, get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pytest

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


def judge(folder: Path, stages: Iterable[list[str]], limit: float) -> Verdict:
    """
    Run the suite on the copy in a folder.

    Parameters
    ----------
    folder : pathlib.Path
        Where the copy is.
    stages : iterable of list of str
        What pytest is given, one run after the other, until a test fails.
    limit : float
        The seconds after which it is stopped.

    Returns
    -------
    Verdict
        What came of it.
    """
    ours, theirs = _CONTEXT.Pipe(duplex=False)
    process = _CONTEXT.Process(target=_be_the_process, args=(folder, list(stages), theirs))
    process.start()
    theirs.close()
    try:
        if not ours.poll(limit):
            return Verdict("timeout", message=f"not done after {limit:g} s")
        return Verdict(*ours.recv())
    except EOFError:
        return Verdict("error", message="the process died")
    finally:
        process.kill()
        process.join()
        ours.close()


def _be_the_process(folder: Path, stages: list[list[str]], answer: Connection) -> None:
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
        verdict = _first_failure(folder, stages)
    except BaseException as error:  # of any kind: it is a wrong package that is imported
        verdict = Verdict("error", "import", f"{type(error).__name__}: {error}")
    answer.send(tuple(verdict))  # the class may be that of the copy by now


def _first_failure(folder: Path, stages: list[list[str]]) -> Verdict:
    package = importlib.import_module("lstm_xp")
    assert Path(str(package.__file__)).is_relative_to(folder), f"{package.__file__} is not in {folder}"
    importlib.import_module("conformance.cases")
    for arguments in stages:
        watcher = _Watcher()
        # No rewriting of assertions, no plugins: they take longer than most mutants live.
        settings = ["-x", "-q", "--assert=plain", "-p", "no:cacheprovider", "-p", "no:unraisableexception"]
        code = pytest.main([*arguments, *settings], plugins=[watcher])
        if watcher.first is not None:
            return watcher.first
        if code != pytest.ExitCode.OK:
            return Verdict("error", "pytest", f"exit code {code}")
    return Verdict("survived")


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
