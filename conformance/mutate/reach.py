"""Which tests come to which lines: only they can notice what is changed there."""

import ast
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import pytest

Place = tuple[str, int]  # a file of the package and a line


class Reach(NamedTuple):
    """
    What a test does on the source as it is.

    Parameters
    ----------
    id : str
        Its name.
    seconds : float
        How long it takes.
    places : frozenset of tuple
        The lines that it comes to.
    """

    id: str
    seconds: float
    places: frozenset[Place]

    def comes_to(self, file: str, lines: range | None) -> bool:
        """Tell whether it comes to any of some lines; to None, which is run on import, comes every test."""
        return lines is None or any((file, line) in self.places for line in lines)


def lines_of_statement(tree: ast.Module, line: int) -> range | None:
    """
    Return the lines of the innermost statement on a line, without what is nested in it.

    Parameters
    ----------
    tree : ast.Module
        The file.
    line : int
        The line.

    Returns
    -------
    range or None
        None for what is run on import: outside of functions, and in their heads.
    """
    kinds = (ast.stmt, ast.ExceptHandler)
    # From the outside in: that is the order of `walk`.
    around = [n for n in ast.walk(tree) if isinstance(n, kinds) and n.lineno <= line <= (n.end_lineno or n.lineno)]
    *outer, inner = around
    definitions = (ast.FunctionDef, ast.ClassDef)
    if isinstance(inner, definitions) or not any(isinstance(each, ast.FunctionDef) for each in outer):
        return None
    body = getattr(inner, "body", None)
    last = body[0].lineno - 1 if body else inner.end_lineno
    return range(inner.lineno, max(last, inner.lineno) + 1)


class Tracer:
    """
    A plugin of pytest that sees where each test comes.

    Parameters
    ----------
    package : pathlib.Path
        The folder of the files that count.
    """

    def __init__(self, package: Path) -> None:
        self.tests: list[Reach] = []
        self._prefix = f"{package}/"
        self._places: set[Place] = set()
        self._seconds = 0.0

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[Any]:
        self._places, self._seconds = set(), 0.0
        threading.settrace(self._enter)
        sys.settrace(self._enter)
        try:
            return (yield)
        finally:
            sys.settrace(None)
            self.tests.append(Reach(item.nodeid, self._seconds, frozenset(self._places)))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._seconds += report.duration

    def _enter(self, frame: FrameType, _event: str, _argument: Any) -> Any:
        return self._step if frame.f_code.co_filename.startswith(self._prefix) else None

    def _step(self, frame: FrameType, event: str, _: Any) -> Any:
        if event == "line":
            self._places.add((frame.f_code.co_filename.removeprefix(self._prefix), frame.f_lineno))
        return self._step
