"""Learn the state that an LSTM starts from, and see what it is worth in the first second.

The network of ``../exercise_recognition`` is kept as it is. It was trained without a loss in the
first second, in which it has to find its way from a state of zeros. Here gradient descent looks for a
better state, of batch size 1, that every row of every batch starts from::

    python learn.py [--steps 100]

Only the files of that folder are needed, with numpy, torch and lstm_xp.
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

import lstm_xp as lx

FOLDER = Path(__file__).parent.parent / "exercise_recognition"
RATE, RECORDING, WINDOW = 25, 250, 50  # frames a second, of one exercise, from one start

State = tuple[Tensor, Tensor]


class Windows(NamedTuple):
    """Pieces of the stream, each a start afresh, with the exercise at every frame."""

    x: Tensor  # (WINDOW, count, 6)
    labels: Tensor  # (WINDOW, count)


class Recogniser:
    """The trained network, which stays as it is."""

    def __init__(self) -> None:
        path = FOLDER / "weights.npz"
        self.lstm = lx.load(path, prefix="lstm.").to(torch)
        with np.load(path) as arrays:
            self.head, self.bias = torch.asarray(arrays["head.weight"]), torch.asarray(arrays["head.bias"])

    def scores(self, x: Tensor, state: State | None) -> Tensor:
        """Return the scores of the seven exercises at every frame."""
        output, _ = self.lstm(x, state)
        return output @ self.head.T + self.bias

    def loss(self, windows: Windows, state: State | None) -> Tensor:
        """Return the cross entropy, over all frames."""
        return torch.nn.functional.cross_entropy(self.scores(windows.x, state).flatten(0, 1), windows.labels.flatten())

    def right(self, windows: Windows, state: State | None) -> np.ndarray:
        """Return the share of the windows named right, at every frame from the start."""
        with torch.no_grad():
            named = self.scores(windows.x, state).argmax(dim=-1)
        return (named == windows.labels).double().mean(dim=1).numpy()


def cut(first: int, last: int, every: int) -> Windows:
    """Cut windows out of a part of each of the seven recordings."""
    x, labels = np.load(FOLDER / "input.npy"), np.load(FOLDER / "labels.npy").astype(np.int64)
    starts = [
        recording + offset
        for recording in range(0, len(x), RECORDING)
        for offset in range(first, last - WINDOW + 1, every)
    ]
    pieces = [np.stack([array[start : start + WINDOW] for start in starts], axis=1) for array in (x, labels)]
    return Windows(*map(torch.asarray, pieces))


def learn(network: Recogniser, windows: Windows, steps: int) -> State:
    """Learn ``(h_0, c_0)``, each (num_layers, 1, hidden_size): the batch of 1 is broadcast to that of the windows."""
    shape = (network.lstm.num_layers, 1, network.lstm.hidden_size)
    h_0, c_0 = torch.zeros(shape, requires_grad=True), torch.zeros(shape, requires_grad=True)
    optimiser = torch.optim.Adam([h_0, c_0], lr=0.05)
    for _ in range(steps):
        optimiser.zero_grad()
        network.loss(windows, (h_0, c_0)).backward()
        optimiser.step()
    return h_0.detach(), c_0.detach()


def mean_state(network: Recogniser, windows: Windows) -> State:
    """Return the mean of the states at the ends of the windows, which takes no learning."""
    _, (h_n, c_n) = network.lstm(windows.x)
    return h_n.mean(dim=1, keepdim=True), c_n.mean(dim=1, keepdim=True)


def main(steps: int) -> None:
    """Learn from the first half of each recording, and print what the second says."""
    network, known, unseen = Recogniser(), cut(0, RECORDING // 2, 3), cut(RECORDING // 2, RECORDING, 3)
    states = {"zeros": None, "mean state": mean_state(network, known), "learned": learn(network, known, steps)}
    fifths = [slice(begin, begin + RATE // 5) for begin in range(0, WINDOW, RATE // 5)]
    print(f"{unseen.x.shape[1]} windows of unseen frames: the share named right, in each fifth of a second")
    print(f"{'up to (s)':<12}{'loss':>6}", *(f"{each.stop / RATE:5.1f}" for each in fifths))
    for name, state in states.items():
        right = network.right(unseen, state)
        loss = float(network.loss(unseen, state).detach())
        print(f"{name:<12}{loss:6.3f}", *(f"{right[each].mean():5.0%}" for each in fifths))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Learn the state that an LSTM starts from.")
    parser.add_argument("--steps", type=int, default=100, help="of gradient descent (default 100)")
    main(parser.parse_args().steps)
