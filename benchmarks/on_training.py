"""Contestants in going forward and back on NumPy's arrays: ours. Torch's own module is in `on_torch`."""

from collections.abc import Iterator
from typing import Any

import numpy as np

import lstm_xp as lx
from benchmarks.problems import Problem, summary
from benchmarks.race import Contestant


def ours(problem: Problem, engine: str, threads: int) -> Iterator[Contestant]:
    """
    Yield an engine with BLAS's threads, and with as many of its own instead.

    It gives the gradient of the output's sum of squares over input, states and weights.
    """
    # As one has them who trains: writable, and prepared anew at each call.
    weights = tuple(tuple(lx.CellWeights(*map(np.array, cell[:4])) for cell in layer) for layer in problem.net.weights)

    def run(own: int) -> tuple[Any, ...]:
        (output, _), pullback = lx.lstm_vjp(problem.x, weights, engine=engine, threads=own)
        return pullback(2 * output)

    def read(gradients: tuple[Any, ...]) -> list[np.ndarray]:
        dx, dweights, _ = gradients
        return summary(dx, [matrix for layer in dweights for cell in layer for matrix in cell[:2]])

    yield Contestant(f"lstm_xp {engine}", lambda: run(1), read)
    if threads > 1:
        yield Contestant(f"lstm_xp {engine}, threads={threads}", lambda: run(threads), read, 1)
