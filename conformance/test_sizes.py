"""The edges: an empty batch, sizes of 1, and what no LSTM can do."""

import numpy as np
import pytest

import lstm_xp as lx
from conformance import oracle
from conformance.backends import Backend
from conformance.cases import Case, map_arrays
from conformance.compare import tolerance_of
from conformance.running import Checker, as_numpy, fit, forward, run


@pytest.mark.parametrize(
    "case",
    [
        Case(time=3, hidden_size=1),
        Case(time=3, input_size=1),
        Case(time=3, batch=1),
        Case(time=3, proj_size=1),
        Case(time=2, proj_size=1, num_layers=2, bidirectional=True, valid="lengths"),
        Case(time=1, batch=1, input_size=1, hidden_size=1),
        Case(time=1, batch=1, input_size=1, hidden_size=1, num_layers=2, bidirectional=True, valid="mask"),
        Case(time=1, batch=None, input_size=1, hidden_size=1),
        Case(time=2, hidden_size=19, input_size=33, batch=20),
        # Where all sizes are the same, special cases could lurk.
        Case(time=3, batch=3, input_size=3, hidden_size=3, num_layers=2),
        Case(time=3, batch=3, input_size=3, hidden_size=3, num_layers=2, variant="peephole"),
    ],
    ids=str,
)
def test_one(backend: Backend, dtype: str, case: Case, check: Checker) -> None:
    case = fit(case.replace(dtype=dtype), backend)
    check(run(case, backend), oracle.truth(case), tolerance_of(case))


@pytest.mark.parametrize(
    "case",
    [
        Case(time=2, batch=0),
        Case(time=2, batch=0, num_layers=2, bidirectional=True, proj_size=3, batch_first=True),
        Case(time=2, batch=0, valid="lengths", masked_output="hold"),
        Case(time=2, batch=0, valid="mask", start="absent"),
    ],
    ids=str,
)
def test_an_empty_batch(backend: Backend, case: Case) -> None:
    case = case.replace(dtype=backend.dtypes[0])
    output, h_n, c_n = run(case, backend)
    rows, width = case.num_layers * case.num_directions, case.num_directions * case.output_size
    assert output.shape == ((0, 2, width) if case.batch_first else (2, 0, width))
    assert h_n.shape == (rows, 0, case.output_size)
    assert c_n.shape == (rows, 0, case.hidden_size)


def test_no_time_step_is_refused(backend: Backend) -> None:
    case = Case(time=1, dtype=backend.dtypes[0])
    weights, x = map_arrays(backend.array, (case.weights(), np.zeros((0, 3, 5), case.dtype)))
    with pytest.raises(ValueError, match="`x` has no time steps, expected at least one"):
        lx.lstm(x, weights)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("x", (2, 3, 6), r"`x` has shape \(2, 3, 6\), expected .* = \(.*5\)"),
        ("x", (2, 3, 4, 5), r"`x` has shape \(2, 3, 4, 5\), expected \(time, batch, input_size\)"),
        ("h_0", (1, 2, 4), r"`h_0` has shape \(1, 2, 4\), expected .* = \(1, 3, 4\)"),
        ("c_0", (2, 3, 4), r"`c_0` has shape \(2, 3, 4\), expected .* = \(1, 3, 4\)"),
        ("lengths", (2,), r"`lengths` has shape \(2,\), expected \(batch,\) = \(3,\)"),
        ("mask", (3, 2), r"`mask` has shape \(3, 2\), expected \(time, batch\) = \(2, 3\)"),
    ],
)
def test_a_wrong_shape_is_refused_by_name(backend: Backend, name: str, shape: tuple[int, ...], message: str) -> None:
    case = Case(time=2, dtype=backend.dtypes[0])
    dtype = {"lengths": "int32", "mask": "bool"}.get(name, case.dtype)
    arrays = case.arguments()
    h_0, c_0 = arrays.pop("state")
    changed = {"h_0": h_0, "c_0": c_0} | arrays | {name: np.ones(shape, dtype)}
    changed["state"] = (changed.pop("h_0"), changed.pop("c_0"))
    with pytest.raises(ValueError, match=message):
        forward(case, backend, *map_arrays(backend.array, (case.weights(), changed)))


def test_the_tuple_has_torchs_form(backend: Backend) -> None:
    case = Case(time=2, dtype=backend.dtypes[0])
    arrays, weights = map_arrays(backend.array, (case.arguments(), case.weights()))
    output, (h_n, c_n) = lx.LSTM.from_weights(weights)(**arrays)
    as_numpy(backend, (output, h_n, c_n), arrays["x"])
    output, state = lx.lstm(**arrays, weights=weights[0][0])
    assert isinstance(state, tuple)
