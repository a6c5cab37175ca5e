"""The example that learns an initial state: a batch of 1, broadcast, with its gradient."""

import runpy
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.needs("torch")

EXAMPLE = Path(__file__).parent.parent / "examples" / "learned_initial_state" / "learn.py"


def test_a_learned_state_is_worth_something_in_the_first_second() -> None:
    example = runpy.run_path(str(EXAMPLE))
    network, known, unseen = example["Recogniser"](), example["cut"](0, 125, 15), example["cut"](125, 250, 15)
    before = {name: np.asarray(array).copy() for name, array in network.lstm.state_dict().items()}
    state = example["learn"](network, known, 40)
    assert [tuple(each.shape) for each in state] == [(2, 1, 32)] * 2
    zeros, learned = (network.right(unseen, each)[:25].mean() for each in (None, state))
    assert learned > zeros + 0.05  # 0.13 was measured
    for name, array in network.lstm.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_a_batch_of_1_has_the_summed_gradient_of_one_for_each_row() -> None:
    import torch

    example = runpy.run_path(str(EXAMPLE))
    network, windows = example["Recogniser"](), example["cut"](0, 125, 60)
    one = torch.full((2, 1, 32), 0.1, requires_grad=True)
    each = torch.full((2, windows.x.shape[1], 32), 0.1, requires_grad=True)
    for state in (one, each):
        network.loss(windows, (state, state)).backward()
    np.testing.assert_allclose(one.grad, each.grad.sum(dim=1, keepdim=True), rtol=0, atol=1e-6)
    assert float(one.grad.abs().max()) > 1e-3
