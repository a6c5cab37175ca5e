"""
Derivatives of a loss with respect to input, initial states and weights: what ours are compared by.

They are torch's or, for variants of the cell that torch does not have, the textbook's difference quotients.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

import lstm_xp as lx
from conformance import oracle, textbook
from conformance.cases import Case
from conformance.compare import Difference, compare, flat

# Relative to the largest derivative; of a difference quotient half of the digits are lost.
TOLERANCE = {"float64": 1e-12, "float32": 2e-5, "difference": 1e-8}

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
    by_output, *by_state = (case.draw(f"loss {k}", shape) for k, shape in enumerate(shapes))
    return (by_output.swapaxes(0, 1) if case.batch_first and batch else by_output, *by_state)


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
    masks = {name: asarray(np.asarray(array)) for name, array in case.arguments().items() if name not in ("x", "state")}
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


@dataclass(frozen=True)
class _Elsewhere(Case):
    """A case with other numbers for what there is to differentiate by."""

    tree: dict[str, np.ndarray] = field(default_factory=dict)

    def x(self) -> np.ndarray:
        return self.tree["x"]

    def state(self) -> tuple[np.ndarray, np.ndarray]:
        return self.tree["h_0"], self.tree["c_0"]

    def weights(self) -> tuple[tuple[lx.CellWeights, ...], ...]:
        weights = {name: array for name, array in self.tree.items() if name not in ARGUMENTS}
        return lx.LSTM.from_state_dict(weights, **self.settings).weights


def directions(case: Case) -> dict[str, np.ndarray]:
    """Draw a direction for each array in which it is to be moved."""
    return {name: case.draw(f"direction {name}", array.shape) for name, array in tree_of(case).items()}


@cache
def slopes(case: Case, variant: textbook.Variant, step: float = 1e-5) -> dict[str, float]:
    """
    Return the difference quotients of the loss, by the equations, where one array after the other is moved.

    Parameters
    ----------
    case : Case
        The case: float64, time first, with a batch.
    variant : Variant
        The variant of the cell.
    step : float, optional
        How far, in the directions that `directions` returns.

    Returns
    -------
    dict
        The slope for each array.
    """
    tree, weights = tree_of(case), loss_weights(case)

    def loss(name: str, by: np.ndarray) -> float:
        moved = _Elsewhere(**vars(case), tree=tree | {name: tree[name] + by})
        return sum(float(np.sum(w * a)) for w, a in zip(weights, textbook.answer(moved, variant), strict=True))

    def quotient(name: str, by: np.ndarray) -> float:
        return (loss(name, step * by) - loss(name, -step * by)) / (2 * step)

    # Richardson's extrapolation: of steps as long and twice as long, without the error that is the square of the step.
    return {name: (4 * quotient(name, d) - quotient(name, 2 * d) / 2) / 3 for name, d in directions(case).items()}


def compare_gradients(actual: dict[str, Any], expected: dict[str, np.ndarray], dtype: str = "float64") -> Difference:
    """Compare relative to the largest derivative; raise AssertionError where one differs by more."""
    largest = max(float(np.max(np.abs(gradient))) for gradient in expected.values())
    assert largest > 0.1
    names = tuple(f"d {name}" for name in expected)
    arrays = [np.asarray(actual[name]) for name in expected]
    error, bound = compare(arrays, list(expected.values()), TOLERANCE[dtype] * largest, names)
    return Difference(error / largest, bound / largest)
