"""Derivatives of a loss with respect to input, initial states and weights: torch's, and what ours are compared by."""

from collections.abc import Callable
from typing import Any

import numpy as np

import lstm_xp as lx
from conformance import oracle
from conformance.cases import Case
from conformance.compare import Difference, compare, flat

# Relative to the largest derivative.
TOLERANCE = {"float64": 1e-12, "float32": 2e-5}

ARGUMENTS = ("x", "h_0", "c_0")


def tree_of(case: Case) -> dict[str, np.ndarray]:
    """Return what there is to differentiate by: input, initial states and the state dict."""
    return dict(zip(ARGUMENTS, (case.x(), *case.state()), strict=True)) | case.lstm().state_dict()


def loss_weights(case: Case) -> tuple[np.ndarray, ...]:
    """Draw the weights of the loss: one for each number that comes out."""
    batch = () if case.batch is None else (case.batch,)
    rows = case.num_layers * case.num_directions
    shapes = (
        (case.time, *batch, case.num_directions * case.output_size),
        (rows, *batch, case.output_size),
        (rows, *batch, case.hidden_size),
    )
    return tuple(case.draw(f"loss {k}", shape) for k, shape in enumerate(shapes))


def loss_of(
    case: Case, asarray: Callable[[np.ndarray], Any], total: Callable[[Any], Any], **settings: Any
) -> Callable[[dict[str, Any]], Any]:
    """
    Return the loss as a function of a tree as `tree_of` returns it.

    Parameters
    ----------
    case : Case
        The case.
    asarray : callable
        Makes a library's array of NumPy's.
    total : callable
        The library's sum over all.
    **settings
        What the network takes, beside the case's own settings.

    Returns
    -------
    callable
        Of a dict of the library's arrays.
    """
    masks = {} if case.valid == "all" else {case.valid: asarray(np.asarray(getattr(case, case.valid)()))}
    weights_of_loss = [asarray(array) for array in loss_weights(case)]

    def loss(tree: dict[str, Any]) -> Any:
        weights = {name: array for name, array in tree.items() if name not in ARGUMENTS}
        net = lx.LSTM.from_state_dict(weights, **(case.settings | settings))
        x, h_0, c_0 = (tree[name] for name in ARGUMENTS)
        result = flat(net(x, (h_0, c_0), **masks))
        return sum(total(w * a) for w, a in zip(weights_of_loss, result, strict=True))

    return loss


def torch_gradients(case: Case) -> dict[str, np.ndarray]:
    """Return the derivatives through `torch.nn.LSTM` in float64."""
    tree = tree_of(case)
    found = oracle.ask("torch", f"gradients {case}", lambda: _by_torch(case, tuple(tree)))
    return dict(zip(tree, found, strict=True))


def _by_torch(case: Case, names: tuple[str, ...]) -> tuple[np.ndarray, ...]:
    import torch
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    module = oracle.torch_module(case, "float64")
    x, h_0, c_0 = (torch.tensor(a.astype("float64"), requires_grad=True) for a in (case.x(), *case.state()))
    if case.valid == "all":
        result = module(x, (h_0, c_0))
    else:
        packed = pack_padded_sequence(x, torch.tensor(case.lengths()), enforce_sorted=False)
        packed, state = module(packed, (h_0, c_0))
        result = pad_packed_sequence(packed, total_length=case.time)[0], state
    weights = (torch.tensor(w.astype("float64")) for w in loss_weights(case))
    sum((w * a).sum() for w, a in zip(weights, flat(result), strict=True)).backward()
    gradients = {"x": x.grad, "h_0": h_0.grad, "c_0": c_0.grad}
    gradients |= {name: parameter.grad for name, parameter in module.named_parameters()}
    return tuple(gradients[name].numpy() for name in names)


def compare_gradients(actual: dict[str, Any], expected: dict[str, np.ndarray], dtype: str = "float64") -> Difference:
    """Compare relative to the largest derivative; raise AssertionError where one differs by more."""
    largest = max(float(np.max(np.abs(gradient))) for gradient in expected.values())
    assert largest > 0.1
    names = tuple(f"d {name}" for name in expected)
    arrays = [np.asarray(actual[name]) for name in expected]
    error, bound = compare(arrays, list(expected.values()), TOLERANCE[dtype] * largest, names)
    return Difference(error / largest, bound / largest)
