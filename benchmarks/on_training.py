"""Contestants in going forward and back on NumPy's arrays: ours. Torch's own module is in `on_torch`."""

from collections.abc import Iterator
from typing import Any

import numpy as np

import lstm_xp as lx
from benchmarks.problems import Problem, summary
from benchmarks.race import Contestant


def ours(problem: Problem, engine: str) -> Iterator[Contestant]:
    """Yield an engine: the output, and its sum of squares' gradient over input, states and weights."""
    # As one has them who trains: writable, and prepared anew at each call.
    weights = tuple(tuple(lx.CellWeights(*map(np.array, cell[:4])) for cell in layer) for layer in problem.net.weights)

    def run() -> tuple[Any, ...]:
        (output, _), pullback = lx.lstm_vjp(problem.x, weights, engine=engine)
        return pullback(2 * output)

    def read(gradients: tuple[Any, ...]) -> list[np.ndarray]:
        dx, dweights, _ = gradients
        return summary(dx, [matrix for layer in dweights for cell in layer for matrix in cell[:2]])

    yield Contestant(f"lstm_xp {engine}", run, read)
