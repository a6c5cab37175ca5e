"""Train the same network with NumPy and with torch, and score both and simpler methods.

    pip install torch scikit-learn
    python compare.py [--seeds 5]           # a few minutes; writes scores.json, weights.npz and held_out.npz
    python compare.py --choose              # how the settings of train.py were chosen

Both trainings begin with the same weights, and get the same batches and dropout.  What is chosen is chosen
on the last 500 of the 2500 recordings, by networks that know the first 2000; the 500 held out are only scored.
"""

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from train import (
    FEATURES,
    HERE,
    Array,
    Model,
    Recordings,
    Settings,
    Step,
    draw_model,
    draw_steps,
    judge,
    load,
    save,
    train,
)

import lstm_xp as lx

FIT, VALID = slice(2000), slice(2000, None)  # of the 2500
WHO = ("NumPy", "torch")
EVERY = 10  # steps from one point of a curve to the next


class Twin(nn.Module):
    """The same network of torch's own modules."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        weights = lx.LSTM.from_weights(model.lstm).state_dict()
        self.lstm = nn.LSTM(FEATURES, weights["weight_hh_l0"].shape[1], bidirectional=True)
        self.head = nn.Linear(*model.head.T.shape)
        self.double()
        self.lstm.load_state_dict({name: torch.tensor(array) for name, array in weights.items()})
        self.head.load_state_dict({"weight": torch.tensor(model.head), "bias": torch.tensor(model.bias)})

    def forward(self, x: Tensor, lengths: Tensor, keep: Tensor | float = 1.0) -> Tensor:
        """Return a score for each recording and digit."""
        packed, _ = self.lstm(pack_padded_sequence(x, lengths, enforce_sorted=False))
        output, _ = pad_packed_sequence(packed)
        scores: Tensor = self.head(output.sum(dim=0) / lengths[:, None] * keep)
        return scores

    def judge(self, data: Recordings) -> tuple[float, int]:
        """Return the cross entropy, and how many recordings are named right."""
        x, lengths, digits = map(torch.as_tensor, data)
        with torch.no_grad():
            scores = self(x, lengths)
        return float(nn.functional.cross_entropy(scores, digits)), int((scores.argmax(dim=1) == digits).sum())


def train_twin(model: Model, steps: Iterator[Step]) -> Iterator[tuple[Twin, float]]:
    """Train with torch; after each step yield the network, and the loss before the step."""
    twin = Twin(model)
    optimiser = torch.optim.Adam(twin.parameters())
    for data, keep, rate in steps:
        x, lengths, digits = map(torch.as_tensor, data)
        loss = nn.functional.cross_entropy(twin(x, lengths, torch.as_tensor(keep)), digits)
        optimiser.param_groups[0]["lr"] = rate
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        yield twin, loss.item()


def choose(known: Recordings) -> None:
    """Print what validation says of settings: the mean of three seeds."""
    found = []
    for hidden, drop_input, drop_mean in itertools.product((16, 32), (0.0, 0.2, 0.4, 0.6), (0.0, 0.3)):
        settings = Settings(hidden=hidden, drop_input=drop_input, drop_mean=drop_mean)
        results = []
        for seed in range(3):
            *_, (model, _) = train(draw_model(seed, hidden), draw_steps(seed, known.at(FIT), settings))
            results.append(judge(model, known.at(VALID)))
        loss, right = map(statistics.fmean, zip(*results, strict=True))
        found.append((loss, f"loss {loss:.4f}  right {right:.1f}  {settings}"))
        print(found[-1][1], flush=True)
    print(f"The least loss:\n{min(found)[1]}")


def each(data: Recordings) -> list[Array]:
    """List the recordings, each (time, 13)."""
    return [x[:length] for x, length in zip(data.x.swapaxes(0, 1), data.lengths, strict=True)]


def resampled(count: int) -> Callable[[Recordings], Array]:
    """Return what makes `count` frames of each recording, whatever its length, and a row of these."""

    def view(data: Recordings) -> Array:
        return np.array(
            [
                np.concatenate(
                    [np.interp(np.linspace(0, len(x) - 1, count), np.arange(len(x)), channel) for channel in x.T]
                )
                for x in each(data)
            ]
        )

    return view


def statistics_of(data: Recordings) -> Array:
    """Return mean, deviation, least and greatest of each channel, a row for each recording."""
    return np.array([np.concatenate([x.mean(0), x.std(0), x.min(0), x.max(0)]) for x in each(data)])


def logistic_regression(
    views: dict[str, Callable[[Recordings], Array]], known: Recordings, unseen: Recordings
) -> dict[str, Any]:
    """Score logistic regression; validation chooses what it sees of a recording, and its penalty."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def right(view: Callable[[Recordings], Array], strength: float, fit: Recordings, score: Recordings) -> int:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=5000))
        model.fit(view(fit), fit.digits)
        return int((model.predict(view(score)) == score.digits).sum())

    best: dict[str, Any] = {"valid": -1}
    for (name, view), strength in itertools.product(views.items(), (0.001, 0.01, 0.1, 1.0, 10.0, 100.0)):
        valid = right(view, strength, known.at(FIT), known.at(VALID))
        if valid > best["valid"]:  # at a tie the stronger penalty, which came first, stays
            best = {"valid": valid, "view": name, "C": strength}
    return best | {"right": right(views[best["view"]], best["C"], known, unseen)}


def follow(
    trained: Iterator[tuple[Any, float]], measure: Callable[[Any], list[float]]
) -> tuple[Any, Array, list[list[float]], float]:
    """Train; return the network, the losses, a measurement every few steps, and the seconds without these."""
    losses, curve, seconds, start = [], [], 0.0, time.perf_counter()
    for count, (model, loss) in enumerate(trained, 1):
        seconds += time.perf_counter() - start
        losses.append(loss)
        if count % EVERY == 0:
            curve.append([round(each, 4) for each in measure(model)])
        start = time.perf_counter()
    return model, np.array(losses), curve, round(seconds, 1)


def train_both(seed: int, known: Recordings, unseen: Recordings) -> tuple[Model, dict[str, Any]]:
    """Train with NumPy and with torch; return NumPy's network, and what is to be told of both."""
    settings, result, losses = Settings(), {}, {}
    begin = draw_model(seed, settings.hidden)
    model = begin
    for who, trained, judged in (("torch", train_twin, Twin.judge), ("NumPy", train, judge)):

        def measure(model: Any, judged: Any = judged) -> list[float]:
            return [judged(model, data)[0] for data in (known, unseen)]

        model, losses[who], curve, seconds = follow(trained(begin, draw_steps(seed, known, settings)), measure)
        result[who] = {"right": judged(model, unseen)[1], "seconds": seconds, "curve": curve}
    apart = np.abs(losses["NumPy"] - losses["torch"]).reshape(-1, EVERY).max(axis=1)
    return model, result | {"apart": [float(f"{gap:.1e}") for gap in apart]}


def save_held_out(unseen: Recordings) -> None:
    """Write what is held out for `train.load_held_out`."""
    small = {"lengths": unseen.lengths.astype(np.int8), "digits": unseen.digits.astype(np.int8)}
    sixteenths = np.round(np.concatenate(each(unseen)) * 16).astype(np.int8)
    np.savez_compressed(HERE / "held_out.npz", sixteenths=sixteenths.T, **small)


def main() -> None:
    """Train, compare, print a table and write the files."""
    parser = argparse.ArgumentParser(description="Train the same network with NumPy and with torch.")
    parser.add_argument("--seeds", type=int, default=5, help="how many networks (default 5)")
    parser.add_argument("--choose", action="store_true", help="try settings instead")
    options = parser.parse_args()
    known, unseen, mean, std = load()
    if options.choose:
        choose(known)
        return
    scores: dict[str, Any] = {"held out": len(unseen.digits), "every": EVERY, "seeds": []}
    for name, views in (
        ("statistics", {"mean, deviation, least, greatest": statistics_of}),
        ("resampled", {f"{count} frames": resampled(count) for count in (3, 5, 8, 12, 20, 30)}),
    ):
        scores[name] = logistic_regression(views, known, unseen)
        print(f"logistic regression: {scores[name]}", flush=True)
    for seed in range(options.seeds):
        model, result = train_both(seed, known, unseen)
        scores["seeds"].append(result)
        if seed == 0:
            save(HERE / "weights.npz", model, mean, std)
            save_held_out(unseen)
        print(f"seed {seed}:", *(f"{who} {result[who]['right']} right in {result[who]['seconds']} s," for who in WHO))
        print(f"        losses at most {max(result['apart']):.0e} apart", flush=True)
    table = {
        f"logistic regression, {scores[kind]['view']}": [scores[kind]["right"]] for kind in ("statistics", "resampled")
    }
    table |= {f"LSTM, {who}": [one[who]["right"] for one in scores["seeds"]] for who in WHO}
    for name, right in table.items():
        mean_right = statistics.fmean(right)
        print(f"{name:<54} {mean_right:6.1f} of {len(unseen.digits)}  {mean_right / len(unseen.digits):.1%}  {right}")
    (HERE / "scores.json").write_text(json.dumps(scores) + "\n")


if __name__ == "__main__":
    main()
