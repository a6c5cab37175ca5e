"""Which array libraries the tests run on."""

import os
from collections.abc import Iterator
from importlib import import_module

import pytest
from backends import BACKENDS, Backend

# The arrays are tiny: threads of BLAS and oneDNN that wait for each other made torch's answers 20 times slower.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--xp",
        action="append",
        help="only the tests that need no array library beside these (and NumPy); may be repeated; default: all",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(*modules): libraries beside NumPy without which a test cannot run")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect what --xp leaves out. A library that is wanted but not installed is an error, never a skip."""
    given = config.getoption("--xp")
    if given is None:
        return
    allowed = {"numpy", *given}
    chosen = [item for item in items if {m for mark in item.iter_markers("needs") for m in mark.args} <= allowed]
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = chosen


def backend_params(*, fast: bool = False) -> list[object]:
    """Return the backends as parameters, each marked with what it needs."""
    return [
        pytest.param(backend, id=backend.name, marks=pytest.mark.needs(backend.module))
        for backend in BACKENDS
        if backend.fast or not fast
    ]


@pytest.fixture(params=backend_params())
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """Every array library, in its context."""
    import_module(request.param.module)
    with request.param.context():
        yield request.param


@pytest.fixture(params=backend_params(fast=True))
def fast_backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """The array libraries on which a long loop is quick."""
    import_module(request.param.module)
    with request.param.context():
        yield request.param
