"""The sizes, and for each the weights, the inputs and torch's answers."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

import lstm_xp as lx


@dataclass(frozen=True)
class Problem:
    """A batch of N sequences of T steps, I features and H hidden ones."""

    N: int
    T: int
    I: int
    H: int
    layers: int = 1
    directions: int = 1
    ragged: bool = False

    def __str__(self) -> str:
        """Return the sizes in the order N, T, I, H."""
        sizes = ", ".join(map(str, (self.N, self.T, self.I, self.H)))
        kind = ["2 layers"] * (self.layers == 2) + ["bidirectional"] * (self.directions == 2) + ["ragged"] * self.ragged
        return f"({sizes}) {', '.join(kind)}".strip()

    @cached_property
    def module(self) -> torch.nn.LSTM:
        """The LSTM of torch; its weights are everybody's."""
        torch.manual_seed(0)
        return torch.nn.LSTM(self.I, self.H, self.layers, bidirectional=self.directions == 2)

    @cached_property
    def x(self) -> np.ndarray:
        """The input, (T, N, I)."""
        return np.random.default_rng(1).standard_normal((self.T, self.N, self.I), np.float32)

    @cached_property
    def lengths(self) -> np.ndarray | None:
        """How long each sequence is."""
        return np.random.default_rng(2).integers(1, self.T + 1, self.N) if self.ragged else None

    @cached_property
    def net(self) -> lx.LSTM:
        """The weights on NumPy."""
        return lx.LSTM.from_state_dict({name: array.numpy() for name, array in self.module.state_dict().items()})

    @cached_property
    def output(self) -> np.ndarray:
        """What torch answers, (T, N, D*H)."""
        x = torch.asarray(self.x)
        with torch.no_grad():
            if self.lengths is None:
                return self.module(x)[0].numpy()
            packed = torch.nn.utils.rnn.pack_padded_sequence(x, torch.asarray(self.lengths), enforce_sorted=False)
            return torch.nn.utils.rnn.pad_packed_sequence(self.module(packed)[0], total_length=self.T)[0].numpy()

    @cached_property
    def gradient(self) -> list[np.ndarray]:
        """What torch has for the gradient of the output's sum of squares, by `summary`."""
        x = torch.asarray(self.x).requires_grad_()
        matrices = [weight for weight in self.module.parameters() if weight.ndim == 2]
        dx, *dw = torch.autograd.grad(self.module(x)[0].square().sum(), [x, *matrices])
        return summary(dx, dw)


def summary(dx: object, matrices: list[object]) -> list[np.ndarray]:
    """Return the input's gradient, and the norm of all matrices', which no weight layout changes."""
    squares = [np.sum(np.asarray(each, np.float64) ** 2) for each in matrices]
    return [np.asarray(dx), np.sqrt(sum(squares))]


GRID = (
    Problem(1, 100, 16, 16),
    Problem(1, 100, 64, 64),
    Problem(1, 100, 64, 128),
    Problem(1, 100, 256, 512),
    Problem(1, 50, 512, 1024),
    Problem(8, 100, 64, 128),
    Problem(32, 100, 64, 128),
    Problem(32, 100, 256, 512),
    Problem(128, 50, 128, 256),
    Problem(256, 50, 512, 512),
    Problem(16, 200, 80, 256, layers=2, directions=2),
)
RAGGED = Problem(64, 200, 64, 128, ragged=True)
STEPS = tuple(Problem(1, 20, I, H) for I, H in ((16, 16), (64, 64), (128, 128), (256, 512)))
# Small ones: that everything works, not how fast.
QUICK = (Problem(1, 20, 16, 32), Problem(4, 10, 5, 7, layers=2, directions=2))
