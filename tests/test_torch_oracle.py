"""Equality with `torch.nn.LSTM` over the whole grid of its configurations, on NumPy arrays."""

from itertools import product

import numpy as np
import pytest
from cases import TOLERANCE, Case, assert_equal, flat, torch_answer

import lstm_xp as lx

pytestmark = pytest.mark.needs("torch")

GRID = [
    Case(
        time=time,
        batch=batch,
        num_layers=layers,
        bidirectional=bidirectional,
        bias=bias,
        proj_size=proj,
        batch_first=batch_first,
        dtype=dtype,
    )
    for time, (batch, batch_first), layers, bidirectional, bias, proj, dtype in product(
        (1, 7, 1000),
        ((3, False), (3, True), (None, False), (1, False)),
        (1, 2, 3),
        (False, True),
        (("bias_ih", "bias_hh"), ()),
        (0, 2),
        ("float64", "float32"),
    )
    # A thousand steps in the plain layout only: layout and time do not touch each other.
    if time < 1000 or ((batch, batch_first) == (3, False) and layers == 2)
]


@pytest.mark.parametrize("case", GRID, ids=str)
@pytest.mark.parametrize("state", [True, False], ids=["state", "no-state"])
def test_equals_torch(case: Case, state: bool) -> None:
    actual = case.lstm()(case.x(), case.state() if state else None)
    assert_equal(flat(actual), torch_answer(case, state=state), TOLERANCE[case.dtype])


@pytest.mark.parametrize("case", [case for case in GRID if (case.batch or 1) > 1 and case.time > 1], ids=str)
def test_lengths_equal_torch_packed(case: Case) -> None:
    lengths = case.lengths()
    actual = case.lstm()(case.x(), case.state(), lengths=lengths)
    assert_equal(flat(actual), torch_answer(case, lengths=lengths), TOLERANCE[case.dtype])


@pytest.mark.parametrize("bias", [("bias_ih",), ("bias_hh",)], ids=str)
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_one_bias_alone(bias: tuple[str, ...], dtype: str) -> None:
    case = Case(bias=bias, num_layers=2, bidirectional=True, proj_size=2, dtype=dtype)
    assert_equal(flat(case.lstm()(case.x(), case.state())), torch_answer(case), TOLERANCE[dtype])


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 4e-14), ("float32", 2e-6)])
def test_weights_four_times_as_large(dtype: str, tolerance: float) -> None:
    """Errors no longer contract as fast: about 2e-15 and 6e-7 were measured at these sizes."""
    case = Case(time=1000, num_layers=2, bidirectional=True, scale=4.0, dtype=dtype)
    assert_equal(flat(case.lstm()(case.x(), case.state())), torch_answer(case), tolerance)


@pytest.mark.parametrize("case", [Case(batch=0), Case(batch=0, num_layers=2, bidirectional=True, proj_size=2)], ids=str)
def test_empty_batch(case: Case) -> None:
    x, state = np.empty((case.time, 0, case.input_size)), tuple(a[:, :0] for a in case.replace(batch=3).state())
    actual = flat(case.lstm()(x, state))
    import torch
    from cases import torch_module

    output, (h_n, c_n) = torch_module(case)(torch.tensor(x), tuple(map(torch.tensor, state)))
    assert_equal(actual, tuple(t.detach().numpy() for t in (output, h_n, c_n)), 0.0)


@pytest.mark.parametrize("case", [Case(), Case(batch=None), Case(batch=2)], ids=str)
@pytest.mark.parametrize("bias", [("bias_ih", "bias_hh"), ()], ids=str)
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_cell_equals_torch_cell(case: Case, bias: tuple[str, ...], dtype: str) -> None:
    import torch

    case = case.replace(bias=bias, dtype=dtype)
    ((weights,),) = case.weights()
    x, (h, c) = case.x()[0], (array[0] for array in case.state())
    cell = torch.nn.LSTMCell(case.input_size, case.hidden_size, bias=bool(bias), dtype=getattr(torch, dtype))
    cell.load_state_dict({name: torch.tensor(array) for name, array in weights._asdict().items() if array is not None})
    with torch.no_grad():
        expected = cell(torch.tensor(x), (torch.tensor(h), torch.tensor(c)))
        expected_from_zeros = cell(torch.tensor(x))
    for actual, expected_pair in (
        (lx.lstm_cell(x, weights, (h, c)), expected),
        (lx.lstm_cell(x, weights, (h, c), xp=np), expected),
        (lx.lstm_cell(x, weights), expected_from_zeros),
    ):
        for a, e in zip(actual, expected_pair, strict=True):
            assert a.dtype == dtype
            np.testing.assert_allclose(a, e.numpy(), rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.parametrize(
    "case",
    [Case(), Case(batch_first=True, num_layers=2), Case(proj_size=2, num_layers=2, bidirectional=True)],
    ids=str,
)
def test_state_of_batch_one_is_broadcast(case: Case) -> None:
    one = tuple(array[:, :1] for array in case.state())
    full = tuple(np.repeat(array, case.batch, axis=1) for array in one)
    assert_equal(flat(case.lstm()(case.x(), one)), flat(case.lstm()(case.x(), full)), 0.0)


def test_dropout_is_kept_and_has_no_effect() -> None:
    case = Case(num_layers=2)
    net = case.lstm(dropout=0.5)
    assert net.dropout == 0.5
    assert_equal(flat(net(case.x(), case.state())), torch_answer(case), TOLERANCE[case.dtype])


@pytest.mark.parametrize("bidirectional", [False, True])
def test_functional_equals_object(bidirectional: bool) -> None:
    case = Case(num_layers=2, bidirectional=bidirectional, batch_first=True)
    actual = lx.lstm(case.x(), case.weights(), case.state(), lengths=case.lengths(), batch_first=True)
    assert_equal(flat(actual), flat(case.lstm()(case.x(), case.state(), lengths=case.lengths())), 0.0)
