"""The way of weights from one library to another and back: bit for bit."""

from typing import Any

import numpy as np
import pytest

import lstm_xp as lx
from conformance.backends import BACKENDS, Backend
from conformance.cases import Case
from conformance.selection import fits

CASE = Case(num_layers=2, bidirectional=True, proj_size=2, peephole=True)

# One row for each library that is installed.
LIBRARIES = {row.module: row for row in reversed(BACKENDS) if row.is_installed and not row.not_run}


def assert_same(actual: lx.LSTM, expected: lx.LSTM) -> None:
    """Compare two networks on NumPy, bit for bit."""
    for name, array in expected.state_dict().items():
        theirs = actual.state_dict()[name]
        assert theirs.dtype == array.dtype
        np.testing.assert_array_equal(theirs, array)


@pytest.mark.parametrize("other", LIBRARIES.values(), ids=list(LIBRARIES))
def test_there_and_back(backend: Backend, dtype: str, other: Backend) -> None:
    """From NumPy to this library, to the other one, back to this one, and to NumPy."""
    for gap in other.gaps:
        if fits(gap, "test_transfer.py::test_there_and_back"):
            pytest.skip(f"{other.title}: {gap.reason} ({gap.link})")
    if dtype not in other.dtypes:
        dtype = other.dtypes[0]
    net = CASE.replace(dtype=dtype).lstm()
    with other.context():
        here = net.to(backend.library, **backend.device_keyword)
        array = backend.array(np.ones(2, dtype))
        assert all(type(each) is type(array) for each in here.state_dict().values())
        there = here.to(other.library, **other.device_keyword)
        back = there.to(backend.library, **backend.device_keyword)
        for each in (here, there, back):
            assert_same(each.to(np), net)


def test_init_gives_the_same_numbers(backend: Backend) -> None:
    settings: dict[str, Any] = {"num_layers": 2, "bidirectional": True, "proj_size": 2, "seed": 5}
    for init in ("uniform", "glorot"):
        theirs = lx.LSTM(5, 4, xp=backend.library, **backend.device_keyword, **settings, init=init)
        assert_same(theirs.to(np), lx.LSTM(5, 4, **settings, init=init))


def test_to_another_dtype(backend: Backend) -> None:
    if len(backend.dtypes) < 2:
        pytest.skip("it has no second dtype")
    net = CASE.replace(dtype="float32").lstm()
    there = net.to(backend.library, **backend.device_keyword)
    assert_same(there.to(dtype="float64").to(np), net.to(dtype="float64"))
