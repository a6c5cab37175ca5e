"""Cases: weights and inputs as NumPy arrays, all sizes different, no state zero. And torch's answer to them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import lstm_xp as lx


@dataclass(frozen=True)
class Case:
    """One configuration. Arrays are drawn from its seed."""

    time: int = 7
    batch: int | None = 3  # None: unbatched
    input_size: int = 5
    hidden_size: int = 4
    num_layers: int = 1
    bidirectional: bool = False
    bias: tuple[str, ...] = ("bias_ih", "bias_hh")
    proj_size: int = 0
    peephole: bool = False
    batch_first: bool = False
    dtype: str = "float64"
    scale: float = 1.0  # of the weights, relative to torch's own
    seed: int = 0

    def __str__(self) -> str:
        default = Case()
        shown = {k: v for k, v in vars(self).items() if v != getattr(default, k)}
        return ",".join(f"{k}={v}" for k, v in shown.items()) or "default"

    @property
    def num_directions(self) -> int:
        return 1 + self.bidirectional

    @property
    def output_size(self) -> int:
        return self.proj_size or self.hidden_size

    def rng(self, what: str) -> np.random.Generator:
        return np.random.default_rng([self.seed, *what.encode()])

    def weights(self) -> tuple[tuple[lx.CellWeights, ...], ...]:
        rng, n = self.rng("weights"), self.hidden_size

        def draw(*shape: int) -> np.ndarray:
            bound = self.scale / np.sqrt(n)
            return rng.uniform(-bound, bound, shape).astype(self.dtype)

        def cell(layer: int) -> lx.CellWeights:
            inputs = self.input_size if layer == 0 else self.num_directions * self.output_size
            return lx.CellWeights(
                draw(4 * n, inputs),
                draw(4 * n, self.output_size),
                draw(4 * n) if "bias_ih" in self.bias else None,
                draw(4 * n) if "bias_hh" in self.bias else None,
                draw(self.proj_size, n) if self.proj_size else None,
                draw(3, n) if self.peephole else None,
            )

        return tuple(tuple(cell(k) for _ in range(self.num_directions)) for k in range(self.num_layers))

    def x(self) -> np.ndarray:
        x = self.rng("x").standard_normal((self.time, self.batch or 1, self.input_size)).astype(self.dtype)
        if self.batch is None:
            return x[:, 0]
        return np.ascontiguousarray(x.swapaxes(0, 1)) if self.batch_first else x

    def state(self) -> tuple[np.ndarray, np.ndarray]:
        rng, rows = self.rng("state"), self.num_layers * self.num_directions
        batch = () if self.batch is None else (self.batch,)
        h = rng.uniform(-0.9, 0.9, (rows, *batch, self.output_size)).astype(self.dtype)
        return h, rng.standard_normal((rows, *batch, self.hidden_size)).astype(self.dtype)

    def lengths(self) -> np.ndarray:
        """Lengths that are sorted neither way, the full one and 1 among them."""
        return np.resize([(self.time + 1) // 2, self.time, 1], self.batch)

    def mask(self) -> np.ndarray:
        """A mask with holes, a row with no valid step among its rows."""
        mask = self.rng("mask").random((self.time, self.batch)) < 0.6
        mask[:, 0] = False
        return np.ascontiguousarray(mask.T) if self.batch_first else mask

    def lstm(self, asarray: Callable[[np.ndarray], Any] = np.asarray, **settings: Any) -> lx.LSTM:
        weights = map_arrays(asarray, self.weights())
        return lx.LSTM.from_weights(weights, batch_first=self.batch_first, **settings)

    def replace(self, **changes: Any) -> "Case":
        return replace(self, **changes)


def map_arrays(function: Callable[[Any], Any], tree: Any) -> Any:
    """Apply a function to each array in nested tuples, which stay what they are."""
    if tree is None:
        return None
    if isinstance(tree, lx.CellWeights):
        return lx.CellWeights(*(map_arrays(function, each) for each in tree))
    if isinstance(tree, tuple):
        return tuple(map_arrays(function, each) for each in tree)
    return function(tree)


def flat(result: Any) -> tuple[Any, Any, Any]:
    """Return (output, h_n, c_n) of what an LSTM returns."""
    output, (h_n, c_n) = result
    return output, h_n, c_n


def torch_module(case: Case) -> Any:
    """Return `torch.nn.LSTM` with the weights of a case."""
    import torch

    module = torch.nn.LSTM(
        case.input_size,
        case.hidden_size,
        case.num_layers,
        bias=bool(case.bias),
        batch_first=case.batch_first,
        bidirectional=case.bidirectional,
        proj_size=case.proj_size,
        dtype=getattr(torch, case.dtype),
    ).eval()
    zeros = {name: torch.zeros_like(value) for name, value in module.state_dict().items()}
    ours = lx.LSTM.from_weights(case.weights()).state_dict()
    module.load_state_dict(zeros | {name: torch.tensor(value) for name, value in ours.items()})
    return module


def torch_answer(case: Case, *, state: bool = True, lengths: np.ndarray | None = None) -> tuple[np.ndarray, ...]:
    """Return what `torch.nn.LSTM` gives for a case: output, h_n, c_n."""
    import torch

    module = torch_module(case)
    x = torch.tensor(case.x())
    hx = tuple(torch.tensor(array) for array in case.state()) if state else None
    with torch.no_grad():
        if lengths is None:
            output, (h_n, c_n) = module(x, hx)
        else:
            packed = torch.nn.utils.rnn.pack_padded_sequence(
                x, torch.tensor(lengths), batch_first=case.batch_first, enforce_sorted=False
            )
            packed, (h_n, c_n) = module(packed, hx)
            output, _ = torch.nn.utils.rnn.pad_packed_sequence(
                packed, batch_first=case.batch_first, total_length=case.time
            )
    return output.numpy(), h_n.numpy(), c_n.numpy()


def torch_masked_answer(
    case: Case, valid: np.ndarray, *, masked_output: str = "zero", reverse: bool = False
) -> tuple[np.ndarray, ...]:
    """
    Return what steps that are not valid (False in `valid`, laid out as x) should lead to, by torch.

    Each row goes through `torch.nn.LSTM` by itself, its valid steps alone, as if there were no others.
    """
    import torch

    module = torch_module(case.replace(batch_first=False))
    x, valid = (a.swapaxes(0, 1) if case.batch_first else a for a in (case.x(), valid))
    h_n, c_n = (array.copy() for array in case.state())
    width, size = case.num_directions * case.output_size, case.output_size
    output = np.zeros((case.time, case.batch or 1, width), case.dtype)
    for row in range(case.batch or 1):
        steps = np.flatnonzero(valid[:, row])
        if reverse:
            steps = steps[::-1]
        if not steps.size:
            continue
        one = slice(row, row + 1)
        with torch.no_grad():
            y, (h, c) = module(
                torch.tensor(x[steps, one].copy()), (torch.tensor(h_n[:, one]), torch.tensor(c_n[:, one]))
            )
        h_n[:, one], c_n[:, one] = h.numpy(), c.numpy()
        output[steps, row] = y[:, 0].numpy()
        if masked_output == "hold":
            for direction in range(case.num_directions):
                backward = reverse or direction == 1
                features = slice(direction * size, (direction + 1) * size)
                last = np.zeros(size, case.dtype)
                for t in range(case.time)[:: -1 if backward else 1]:
                    last = output[t, row, features].copy() if valid[t, row] else last
                    output[t, row, features] = last
    return (output.swapaxes(0, 1) if case.batch_first else output), h_n, c_n


TOLERANCE = {"float64": 1e-14, "float32": 1e-6}


def assert_equal(actual: Any, expected: Any, tolerance: float) -> None:
    """Compare output, h_n and c_n, or any tuples of NumPy arrays, by the largest absolute difference."""
    for name, a, e in zip(("output", "h_n", "c_n"), actual, expected, strict=True):
        assert a.shape == e.shape, f"{name} has shape {a.shape}, expected {e.shape}"
        assert a.dtype == e.dtype, f"{name} has dtype {a.dtype}, expected {e.dtype}"
        difference = np.max(np.abs(a.astype("float64") - e.astype("float64")), initial=0.0)
        assert difference <= tolerance, f"{name} differs by {difference:.2e}, more than {tolerance:.0e}"
