"""PyTorch's modules, in and out."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lstm_xp as lx
from conformance.cases import Case
from conformance.compare import flat

pytestmark = pytest.mark.needs("torch")


def module_of(**arguments: Any) -> Any:
    import torch

    return torch.nn.LSTM(5, 4, dtype=torch.float64, **arguments).eval()


def assert_gives_the_same(net: lx.LSTM, module: Any, case: Case) -> None:
    """Assert that the LSTM on NumPy gives what torch's own module does."""
    import torch

    x, states = case.x(), case.state()
    output, (h_n, c_n) = module(torch.tensor(x), tuple(map(torch.tensor, states)))
    ours = net.to(np, detach=True)(x, states)
    for a, e in zip(flat(ours), (output, h_n, c_n), strict=True):
        np.testing.assert_allclose(a, e.detach().numpy(), rtol=0, atol=1e-14)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 3), st.booleans(), st.booleans(), st.booleans(), st.sampled_from([0, 2]))
def test_a_module_as_it_is(num_layers: int, bias: bool, batch_first: bool, bidirectional: bool, proj_size: int) -> None:
    arguments = {"num_layers": num_layers, "batch_first": batch_first, "bidirectional": bidirectional}
    arguments |= {"proj_size": proj_size}
    module = module_of(bias=bias, dropout=0.5 if num_layers > 1 else 0.0, **arguments)
    net = lx.convert.from_torch(module)
    assert (net.bias, net.dropout) == (bias, module.dropout)
    assert_gives_the_same(net, module, Case(**arguments))
    back = lx.convert.to_torch(net)
    assert repr(back) == repr(module)
    assert not back.training
    assert_gives_the_same(net, back, Case(**arguments))
    for name, array in module.state_dict().items():
        assert back.state_dict()[name].numpy().tobytes() == array.numpy().tobytes()
    # Its arrays by their names, of whatever library, and in a model.
    for mapping in (
        {name: array.numpy() for name, array in module.state_dict().items()},
        {f"model.encoder.{name}": array for name, array in module.state_dict().items()},
    ):
        assert_gives_the_same(lx.convert.from_torch(mapping, batch_first=batch_first), module, Case(**arguments))


@pytest.mark.parametrize("bias", [True, False])
def test_a_cell(bias: bool) -> None:
    import torch

    cell = torch.nn.LSTMCell(5, 4, bias=bias, dtype=torch.float64)
    net = lx.convert.from_torch(cell)
    case = Case(time=1)
    h_0, c_0 = case.state()
    expected = cell(torch.tensor(case.x()[0]), (torch.tensor(h_0[0]), torch.tensor(c_0[0])))
    _, (h_n, c_n) = net.to(np)(case.x(), (h_0, c_0))
    for a, e in zip((h_n[0], c_n[0]), expected, strict=True):
        np.testing.assert_allclose(a, e.detach().numpy(), rtol=0, atol=1e-14)
    back = lx.convert.to_torch(net, cell=True)
    assert repr(back) == repr(cell)
    for name, array in cell.state_dict().items():
        assert back.state_dict()[name].numpy().tobytes() == array.numpy().tobytes()


def test_what_changes_the_module_changes_the_lstm() -> None:
    import torch

    module = module_of()
    net = lx.convert.from_torch(module)
    with torch.no_grad():
        module.weight_hh_l0.fill_(0.25)
    assert bool(torch.all(net.weights[0][0].weight_hh == 0.25))
    assert not net.weights[0][0].weight_hh.requires_grad


def test_a_module_of_an_lstm_is_its_own() -> None:
    """It is trainable, shares nothing with the LSTM, and torch's random numbers are not touched."""
    import torch

    net = Case(bias=("bias_hh",)).lstm()
    torch.manual_seed(3)
    before = torch.get_rng_state()
    module = lx.convert.to_torch(net)
    assert torch.equal(torch.get_rng_state(), before)
    assert_gives_the_same(net, module, Case())
    assert torch.equal(module.bias_ih_l0, torch.zeros(16, dtype=torch.float64))
    module(torch.ones(2, 3, 5, dtype=torch.float64))[0].sum().backward()
    assert module.weight_ih_l0.grad is not None
    with torch.no_grad():
        module.weight_ih_l0.zero_()
    assert np.all(net.weights[0][0].weight_ih != 0)


def test_it_takes_tensors_that_require_grad() -> None:
    import torch

    module = module_of()
    net = lx.LSTM.from_state_dict(dict(module.named_parameters()))
    assert torch.equal(lx.convert.to_torch(net).weight_ih_l0, module.weight_ih_l0)


@pytest.mark.parametrize("enforce_sorted", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
def test_packed_sequences(enforce_sorted: bool, batch_first: bool) -> None:
    import torch
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    case = Case(num_layers=2, bidirectional=True, batch_first=batch_first)
    lengths = [7, 4, 1] if enforce_sorted else [4, 1, 7]
    packed = pack_padded_sequence(torch.tensor(case.x()), lengths, batch_first, enforce_sorted)
    module = lx.convert.to_torch(case.lstm())
    output, (h_n, c_n) = module(packed, tuple(map(torch.tensor, case.state())))
    output, _ = pad_packed_sequence(output, batch_first)
    x, given_lengths = lx.convert.from_packed(packed, batch_first=batch_first)
    assert given_lengths.tolist() == lengths
    ours = lx.convert.from_torch(module)(x, tuple(map(torch.tensor, case.state())), lengths=given_lengths)
    for a, e in zip(flat(ours), (output, h_n, c_n), strict=True):
        np.testing.assert_allclose(a.detach().numpy(), e.detach().numpy(), rtol=0, atol=1e-14)


def test_mistakes_are_named() -> None:
    import torch

    with pytest.raises(TypeError, match="`module` is a GRU, expected a torch.nn.LSTM"):
        lx.convert.from_torch(torch.nn.GRU(5, 4))
    broken = lx.convert.to_torch(Case(num_layers=2).lstm()).state_dict()
    broken["weight_ih_l1"] = torch.ones(16, 5, dtype=torch.float64)
    with pytest.raises(
        ValueError, match="`weight_ih_l1` has shape .* expected .4.hidden_size, num_directions.hidden_size."
    ):
        lx.convert.from_torch(broken)
    with pytest.raises(ValueError, match=r"`net` has 2 layer\(s\) and 1 direction\(s\), expected one of each"):
        lx.convert.to_torch(Case(num_layers=2).lstm(), cell=True)
    with pytest.raises(ValueError, match="`net` has a projection, which torch.nn.LSTMCell cannot express"):
        lx.convert.to_torch(Case(proj_size=2).lstm(), cell=True)
    with pytest.raises(ValueError, match="`net` has peepholes, which PyTorch cannot express"):
        lx.convert.to_torch(Case(peephole=True).lstm())
    with pytest.raises(TypeError, match="`packed` is a Tensor, expected a torch.nn.utils.rnn.PackedSequence"):
        lx.convert.from_packed(torch.ones(3))
