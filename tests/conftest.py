"""Which libraries the tests may use."""

import os

import pytest

# The arrays are tiny: threads of BLAS and oneDNN that wait for each other made torch's answers 20 times slower.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--with",
        dest="with_modules",
        action="append",
        metavar="MODULE",
        help="only the tests that need no library beside these (and NumPy); may be repeated; default: all tests",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(*modules): libraries beside NumPy without which a test cannot run")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect what --with leaves out. A library that is wanted but not installed is an error, never a skip."""
    given = config.getoption("with_modules")
    if given is None:
        return
    allowed = {"numpy", *given}
    chosen = [item for item in items if {m for mark in item.iter_markers("needs") for m in mark.args} <= allowed]
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = chosen
