"""A plugin of pytest: write down which tests call which function of tinyarrays, as JSON, to the file CALLS names."""

import json
import os
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
import tinyarrays

CALLED: dict[str, set[str]] = {}
RUNNING: list[str] = []


def noted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that is the same, and is written down."""

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        CALLED.setdefault(name, set()).update(RUNNING)
        return function(*args, **kwargs)

    return call


for _name, _function in vars(tinyarrays).copy().items():
    if not _name.startswith("_") and callable(_function):
        setattr(tinyarrays, _name, noted(_name, _function))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Tell which test is running."""
    RUNNING.append(item.nodeid)
    try:
        return (yield)
    finally:
        RUNNING.clear()


def pytest_sessionfinish() -> None:
    """Write what was called."""
    Path(os.environ["CALLS"]).write_text(json.dumps({name: sorted(tests) for name, tests in CALLED.items()}))
