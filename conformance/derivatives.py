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
from conformance.cases import NOISE, Case
from conformance.compare import Difference, compare, flat

# Relative to the largest derivative; of a difference quotient half of the digits are lost.
TOLERANCE = {"float64": 1e-12, "float32": 2e-5, "difference": 1e-8}

# What is compared with torch's.
TORCH = (
    Case(time=4),
    Case(time=4, num_layers=2, bidirectional=True, proj_size=2),
    Case(time=4, batch=None, bias=(), num_layers=3),
    Case(time=4, num_layers=2, bidirectional=True, valid="lengths"),
)

SMALL = Case(time=3, batch=2, hidden_size=6, proj_size=4)
# What is compared with difference quotients: a case and the options. No number lies near the kink of a clip.
THROUGH: dict[str, tuple[Case, dict[str, Any]]] = {
    **{
        f"normalised, {gates}{', carried' if carry else ''}": (
            SMALL.replace(norm=gates, peephole=True),
            {"norm_gates": gates, "norm_carry": carry},
        )
        for gates in ("joint", "each")
        for carry in (False, True)
    },
    "normalised, carried, clipped": (
        SMALL.replace(norm="joint", peephole=True, valid="lengths"),
        {"norm_carry": True, "clip_cell": 0.9, "peephole_output": "old"},
    ),
    "peepholes": (SMALL.replace(peephole=True, bidirectional=True), {}),
    "coupled gates": (SMALL.replace(peephole=True), {"coupled": True}),
    "clips": (SMALL, {"clip_gates": 0.8, "clip_cell": 0.35, "clip_proj": 0.05}),
    "other activations": (SMALL, {"activations": ("sigmoid", "softsign", ("scaled_tanh", 0.8, 1.3))}),
    "other activations of peepholes": (
        SMALL.replace(peephole=True, valid="lengths"),
        {"activations": ("softplus", "tanh", "tanh")},
    ),
    "resets": (SMALL.replace(resets=True, num_layers=2, bidirectional=True), {}),
    "a mask that holds": (SMALL.replace(valid="mask", masked_output="hold", num_layers=2), {}),
    "all of it": (
        SMALL.replace(norm="joint", peephole=True, resets=True, valid="mask", bidirectional=True),
        {"coupled": True, "clip_cell": 0.9, "peephole_output": "old"},
    ),
}

# Noise of each kind by itself; and all that may be at once, in episodes and with steps that are not valid.
_NOISY = SMALL.replace(num_layers=2, bidirectional=True)
_EVERY_STEP = tuple(name for name in NOISE if "once" not in name)
WITH_NOISE = {
    **{name: _NOISY.replace(noise=(name,)) for name in NOISE},
    "all": _NOISY.replace(noise=_EVERY_STEP, bidirectional=False),
    "all, a mask that holds, resets": _NOISY.replace(
        noise=_EVERY_STEP, batch=4, valid="mask", masked_output="hold", resets=True
    ),
}

ARGUMENTS = ("x", "h_0", "c_0")


def tree_of(case: Case) -> dict[str, np.ndarray]:
    """Return what there is to differentiate by: input, initial states and the state dict."""
    state = case.state()
    if case.start == "absent":
        batch = () if case.batch is None else (case.batch,)
        state = tuple(np.zeros((len(array), *batch, array.shape[-1]), case.dtype) for array in state)
    return dict(zip(ARGUMENTS, (case.x(), *state), strict=True)) | case.lstm().state_dict()


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
    """Return the derivatives through `torch.nn.LSTM` in float64: of each episode of each row by itself, valid steps."""
    tree = tree_of(case)
    found = oracle.ask("torch", f"gradients {case}", lambda: _by_torch(case, tree))
    return dict(zip(tree, found, strict=True))


def _by_torch(case: Case, tree: dict[str, np.ndarray]) -> tuple[np.ndarray, ...]:
    import torch

    module = oracle.torch_module(case.replace(batch_first=False), "float64")
    leaves = {name: torch.tensor(tree[name].astype("float64"), requires_grad=True) for name in ARGUMENTS}
    x, *state = leaves.values()
    by_output, by_h, by_c = (torch.tensor(w.astype("float64")) for w in loss_weights(case))
    if case.batch is None:
        x, by_output, by_h, by_c, *state = (array[..., None, :] for array in (x, by_output, by_h, by_c, *state))
    elif case.batch_first:
        x, by_output = x.swapaxes(0, 1), by_output.swapaxes(0, 1)
    by_output = torch.tensor(_by_hidden(case, by_output.numpy()))
    h_0, c_0 = (array.expand(-1, x.shape[1], -1) for array in state)
    valid, episodes = case.valid_steps(), case.episodes()
    valid = np.full(x.shape[:2], True) if valid is None else valid
    episodes = np.zeros(x.shape[:2], int) if episodes is None else episodes
    loss = torch.zeros((), dtype=torch.float64)
    for row in range(x.shape[1]):
        one, numbers = slice(row, row + 1), np.unique(episodes[valid[:, row], row])
        if numbers.size == 0:
            loss = loss + (by_h[:, one] * h_0[:, one]).sum() + (by_c[:, one] * c_0[:, one]).sum()
        for number in numbers:
            steps = np.flatnonzero(valid[:, row] & (episodes[:, row] == number))
            order = steps[::-1].copy() if case.reverse else steps
            y, (h, c) = module(x[order, one], (h_0[:, one].contiguous(), c_0[:, one].contiguous()))
            loss = loss + (by_output[order, one] * y).sum()
            for k in range(len(h)):
                backward = case.reverse or k % case.num_directions == 1
                if number == numbers[0 if backward else -1]:  # the state at its end is the final one
                    loss = loss + (by_h[k, row] * h[k, 0]).sum() + (by_c[k, row] * c[k, 0]).sum()
    names = [name for name in tree if name not in ARGUMENTS]
    parameters = dict(module.named_parameters())
    # Where no step is valid, nothing depends on the weights.
    found = torch.autograd.grad(loss, [*leaves.values(), *(parameters[name] for name in names)], materialize_grads=True)
    return tuple(gradient.numpy() for gradient in found)


def _by_hidden(case: Case, by_output: np.ndarray) -> np.ndarray:
    """Return the derivatives by the hidden states: an output that is held counts where its state was made."""
    by_output, valid = by_output.copy(), case.valid_steps()
    if valid is None:
        return by_output
    for row in range(valid.shape[1]):
        for direction in range(case.num_directions):
            part = by_output[:, row, direction * case.output_size : (direction + 1) * case.output_size]
            last = None
            for t in in_order(case, direction):
                if valid[t, row]:
                    last = t
                elif last is not None and case.masked_output == "hold":
                    part[last] += part[t]
    return by_output


def in_order(case: Case, direction: int) -> range:
    """Return the time steps in the order in which a direction processes them."""
    return range(case.time)[:: -1 if case.reverse or direction == 1 else 1]


def shown_steps(case: Case) -> np.ndarray:
    """Return where an output shows a hidden state, shape (time, batch, num_directions*size); elsewhere it is 0."""
    valid = case.valid_steps()
    if valid is None:
        valid = np.full((case.time, case.batch or 1), True)
    shown = []
    for direction in range(case.num_directions):
        order = in_order(case, direction)
        own = np.logical_or.accumulate(valid[order])[np.argsort(order)] if case.masked_output == "hold" else valid
        shown.append(np.repeat(own[..., None], case.output_size, axis=2))
    return np.concatenate(shown, axis=2)


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
def slopes(case: Case, variant: textbook.Variants, step: float = 1e-5) -> dict[str, float]:
    """
    Return the difference quotients of the loss, by the equations, where one array after the other is moved.

    Parameters
    ----------
    case : Case
        The case: float64, time first, with a batch.
    variant : Variant or tuple of two of them
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


def compare_slopes(actual: dict[str, Any], case: Case, variant: textbook.Variants) -> Difference:
    """Compare derivatives along the directions with the difference quotients that `slopes` returns."""
    along = {name: np.sum(actual[name] * each) for name, each in directions(case).items()}
    expected = {name: np.asarray(slope) for name, slope in slopes(case, variant).items()}
    return compare_gradients(along, expected, "difference")


def compare_gradients(actual: dict[str, Any], expected: dict[str, np.ndarray], dtype: str = "float64") -> Difference:
    """Compare relative to the largest derivative; raise AssertionError where one differs by more."""
    largest = max(float(np.max(np.abs(gradient))) for gradient in expected.values())
    assert largest > 0.1
    names = tuple(f"d {name}" for name in expected)
    arrays = [np.asarray(actual[name]) for name in expected]
    error, bound = compare(arrays, list(expected.values()), TOLERANCE[dtype] * largest, names)
    return Difference(error / largest, bound / largest)
