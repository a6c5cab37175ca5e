"""Train a small LSTM to recognise shoulder exercises from a smart watch.

The data set is the one inside the package ``seglearn`` (``pip install seglearn``); nothing is
downloaded.  The script trains one network per seed, scores it on people it has never seen, scores
three simpler methods on exactly the same windows, and writes the files of this folder:

==============  ===================================================================
scores.json     every number of the table, and the sizes of the splits
weights.npz     the trained network, under the names of torch's ``state_dict``
input.npy       a stream of one unseen person, standardised, shape ``(T, 6)``
labels.npy      the exercise done at each frame of the stream, shape ``(T,)``
output.npy      what ``torch.nn.LSTM`` answers to the stream, shape ``(T, hidden)``
==============  ===================================================================

Run ``python train.py`` for the committed files, ``python train.py --help`` for the options.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

HERE = Path(__file__).parent

# Whole people go to one side of the split: somebody who is scored was never trained on.  The
# numbers were fixed before the first training run.
TRAIN, VALID, TEST = (1, 2, 3, 4, 5), (6, 7), (8, 9, 10)

RATE = 25  # frames per second, half the rate of the recordings
WINDOW = 4 * RATE  # what is scored: four seconds, answered at the last frame
SPLICE = 10 * RATE  # what is trained on: ten seconds, with a change of exercise somewhere
GRACE = RATE  # no loss in the first second after a start or a change: nobody could tell yet
STREAM = 10 * RATE  # frames of each exercise in the committed stream

# The two arms mirror each other: swapping left and right turns round the accelerometer's x axis
# and the two turning rates whose axes lie in the mirror plane.
MIRROR = np.array([-1, 1, 1, 1, -1, -1], dtype=np.float32)

Array = NDArray[np.float32]
Labels = NDArray[np.int64]


@dataclass
class Recording:
    """About twenty repetitions of one exercise by one person with one arm."""

    frames: Array
    label: int
    subject: int
    side: int


def load_recordings() -> tuple[list[Recording], list[str]]:
    """Read seglearn's watch data set, halved to 25 frames per second.

    Returns
    -------
    recordings
        All recordings; ``frames`` has shape ``(T, 6)``: acceleration in g, then turning rate in
        rad/s.
    names
        The short name of each exercise.
    """
    # The package is found but not imported: its own modules ask for more than is needed here.
    spec = importlib.util.find_spec("seglearn")
    if spec is None or spec.origin is None:
        msg = "The data set comes with the package seglearn: pip install seglearn"
        raise SystemExit(msg)
    path = Path(spec.origin).parent / "data" / "watch_dataset.npy"
    # A pickled dictionary.  Unpickling runs code, so this is only for a file one trusts: here the
    # one that the installed package itself ships and loads in the same way.
    data = np.load(path, allow_pickle=True).item()
    recordings = []
    for x, label, subject, side in zip(data["X"], data["y"], data["subject"], data["side"], strict=True):
        # The mean of each pair of samples; it looks at no later sample, so it stays causal.
        halved = x[: len(x) // 2 * 2].reshape(-1, 2, x.shape[1]).mean(axis=1)
        recordings.append(Recording(halved.astype(np.float32), int(label), int(subject), int(side)))
    return recordings, [str(name) for name in data["y_labels"]]


def windows(recordings: Sequence[Recording], step: int) -> tuple[Array, Labels]:
    """Cut recordings into windows of `WINDOW` frames, one every `step` frames."""
    cut, labels = [], []
    for recording in recordings:
        for start in range(0, len(recording.frames) - WINDOW + 1, step):
            cut.append(recording.frames[start : start + WINDOW])
            labels.append(recording.label)
    return np.stack(cut), np.array(labels)


class Recogniser(nn.Module):
    """An LSTM with a linear head that scores every exercise at every frame."""

    def __init__(self, hidden: int, layers: int, classes: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(6, hidden, layers, batch_first=True)
        self.drop = nn.Dropout(0.3)  # on the way to the head only; it leaves the LSTM as it is
        self.head = nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, T, 6)`` to scores ``(N, T, classes)``."""
        output, _ = self.lstm(x)
        scores: Tensor = self.head(self.drop(output))
        return scores


def random_rotation(rng: np.random.Generator, degrees: float) -> Array:
    """Draw a rotation by at most about `degrees`: a watch never sits twice the same way."""
    x, y, z = rng.uniform(-1, 1, 3) * np.radians(degrees)
    turn = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    # The Cayley transform makes a true rotation out of the small turn.
    rotation = np.linalg.solve(np.eye(3) - turn / 2, np.eye(3) + turn / 2)
    return rotation.astype(np.float32)


def draw_piece(recording: Recording, length: int, rng: np.random.Generator) -> Array:
    """Draw `length` frames from a recording, played a little slower or faster."""
    speed = min(rng.uniform(0.75, 1.35), (len(recording.frames) - 1) / length)
    start = rng.uniform(0, len(recording.frames) - 1 - speed * (length - 1))
    at = start + speed * np.arange(length)
    grid = np.arange(len(recording.frames))
    piece = np.stack([np.interp(at, grid, channel) for channel in recording.frames.T], axis=1)
    piece[:, 3:] *= speed  # moving faster also means turning faster
    return piece.astype(np.float32)


def draw_batch(
    pairs: Sequence[tuple[Recording, Sequence[Recording]]], size: int, rng: np.random.Generator
) -> tuple[Array, Labels]:
    """Draw training sequences in which one person goes over from one exercise to another.

    Parameters
    ----------
    pairs
        Every recording with all those of the same person and arm.
    size
        Number of sequences.
    rng
        Source of all randomness.

    Returns
    -------
    frames
        Shape ``(size, SPLICE, 6)``.
    labels
        Shape ``(size, SPLICE)``; -1 at the frames that do not count.
    """
    frames = np.empty((size, SPLICE, 6), np.float32)
    labels = np.empty((size, SPLICE), np.int64)
    for n in range(size):
        first, others = pairs[int(rng.integers(len(pairs)))]
        second = others[int(rng.integers(len(others)))]
        cut = int(rng.integers(SPLICE // 4, SPLICE + 1))
        frames[n, :cut] = draw_piece(first, cut, rng)
        labels[n, :cut] = first.label
        labels[n, :GRACE] = -1
        if cut < SPLICE:
            frames[n, cut:] = draw_piece(second, SPLICE - cut, rng)
            labels[n, cut:] = second.label
            labels[n, cut : cut + GRACE] = -1
        rotation = random_rotation(rng, degrees=15)
        frames[n, :, :3] = frames[n, :, :3] @ rotation
        frames[n, :, 3:] = frames[n, :, 3:] @ rotation
        if rng.random() < 0.5:
            frames[n] *= MIRROR
    return frames, labels


def predict(model: Recogniser, x: Array) -> Labels:
    """Name the exercise of each window from the scores at its last frame."""
    model.eval()
    with torch.no_grad():
        named: Labels = model(torch.from_numpy(x))[:, -1].argmax(dim=1).numpy()
    return named


def train_one(
    seed: int,
    recordings: Sequence[Recording],
    mean: Array,
    std: Array,
    valid: tuple[Array, Labels],
    options: argparse.Namespace,
) -> tuple[Recogniser, float]:
    """Train one network; return it with its accuracy on the validation people.

    The learning rate falls to zero over a fixed number of steps and the last weights are taken:
    with two validation people, stopping at the best moment would mostly pick a lucky one.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    classes = 1 + max(recording.label for recording in recordings)
    model = Recogniser(options.hidden, options.layers, classes)
    optimiser = torch.optim.AdamW(model.parameters(), lr=options.rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, options.rate, total_steps=options.steps)
    loss_of = nn.CrossEntropyLoss(ignore_index=-1, label_smoothing=0.05)
    pairs = [
        (one, [two for two in recordings if (two.subject, two.side) == (one.subject, one.side)]) for one in recordings
    ]
    score = 0.0
    for step in range(1, options.steps + 1):
        frames, labels = draw_batch(pairs, options.batch, rng)
        model.train()
        scores = model(torch.from_numpy((frames - mean) / std))
        loss = loss_of(scores.flatten(0, 1), torch.from_numpy(labels).flatten())
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % 100 == 0 or step == options.steps:
            score = float((predict(model, valid[0]) == valid[1]).mean())
            print(f"  seed {seed} step {step:4d} loss {loss:.3f} valid {score:.4f}", flush=True)
    return model, score


def summaries(x: Array) -> Array:
    """Describe each window by ten plain statistics of each channel."""
    change = np.abs(np.diff(x, axis=1)).mean(axis=1)
    parts = [x.mean(1), x.std(1), x.min(1), x.max(1), np.abs(x).mean(1), change]
    parts += [np.quantile(x, q, axis=1) for q in (0.1, 0.25, 0.5, 0.75)]
    return np.concatenate(parts, axis=1).astype(np.float32)


def logistic(fit: tuple[Array, Labels], valid: tuple[Array, Labels], test: tuple[Array, Labels]) -> dict[str, Any]:
    """Score multinomial logistic regression, its strength of penalty chosen on `valid`."""
    best: dict[str, Any] = {"valid": -1.0}
    for c in np.logspace(-5, 1, 7):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=float(c), max_iter=3000))
        model.fit(*fit)
        score = float(model.score(*valid))
        if score > best["valid"]:  # at a tie the stronger penalty, which came first, stays
            best = {"valid": score, "test": float(model.score(*test)), "C": float(c)}
    return best


def baselines(
    fit: tuple[Array, Labels],
    valid: tuple[Array, Labels],
    test: tuple[Array, Labels],
) -> dict[str, dict[str, Any]]:
    """Score the majority class and logistic regression on the windows the LSTM is scored on.

    Logistic regression may, like the LSTM, learn from mirrored copies of the training windows;
    whether it does is one more choice made on the validation people.
    """
    majority = int(np.bincount(fit[1]).argmax())
    both = np.concatenate([fit[0], fit[0] * MIRROR]), np.concatenate([fit[1], fit[1]])
    table: dict[str, dict[str, Any]] = {
        "majority class": {
            "valid": float((valid[1] == majority).mean()),
            "test": float((test[1] == majority).mean()),
        }
    }
    for name, view in (
        ("logistic regression, raw window", lambda x: x.reshape(len(x), -1)),
        ("logistic regression, summary features", summaries),
    ):
        table[name] = {"valid": -1.0}
        for mirrored, (x, y) in ((False, fit), (True, both)):
            found = logistic((view(x), y), (view(valid[0]), valid[1]), (view(test[0]), test[1]))
            print(f"  {name}, mirrored {mirrored}: valid {found['valid']:.4f}", flush=True)
            if found["valid"] > table[name]["valid"]:
                table[name] = found | {"mirrored": mirrored}
    return table


def spread(values: Sequence[float]) -> dict[str, float]:
    """Give mean, standard deviation (of a sample), least and greatest."""
    return {
        "mean": statistics.fmean(values),
        "std": statistics.stdev(values) if len(values) > 1 else 0.0,
        "min": min(values),
        "max": max(values),
    }


def write_stream(
    model: Recogniser, recordings: Sequence[Recording], mean: Array, std: Array, folder: Path
) -> dict[str, Any]:
    """Write weights, the stream and torch's answer to it; return what is worth a note.

    The stream is a concatenation: the middle 10 seconds of each of the seven recordings of one
    arm, one after another in the order of the labels.  Of the arms in `recordings` it is the one
    on whose windows the network scores in the middle (the lower of the two middle ones), so that
    the picture made from it looks neither better nor worse than usual.
    """
    ranking = []
    for arm in sorted({(one.subject, one.side) for one in recordings}):
        own = [one for one in recordings if (one.subject, one.side) == arm]
        x, y = windows(own, WINDOW)
        ranking.append((float((predict(model, (x - mean) / std) == y).mean()), arm))
    ranking.sort()
    accuracy, (subject, side) = ranking[(len(ranking) - 1) // 2]
    chosen = sorted(
        (one for one in recordings if (one.subject, one.side) == (subject, side)),
        key=lambda one: one.label,
    )
    starts = [(len(one.frames) - STREAM) // 2 for one in chosen]
    frames = np.concatenate(
        [(one.frames[start : start + STREAM] - mean) / std for one, start in zip(chosen, starts, strict=True)]
    )
    labels = np.repeat([one.label for one in chosen], STREAM)
    model.eval()
    with torch.no_grad():
        output, _ = model.lstm(torch.from_numpy(frames))  # unbatched: (T, 6) to (T, hidden)
        predicted = model.head(output).argmax(dim=1).numpy()
    settled = np.arange(len(labels)) % STREAM >= GRACE
    right = predicted == labels
    weights: dict[str, Any] = {name: value.numpy() for name, value in model.state_dict().items()}
    weights |= {"scale.mean": mean, "scale.std": std}
    np.savez(folder / "weights.npz", **weights)
    np.save(folder / "input.npy", frames)
    np.save(folder / "labels.npy", labels.astype(np.int8))
    np.save(folder / "output.npy", output.numpy())
    return {
        "subject": subject,
        "side": "right" if side == 1 else "left",
        "window accuracy by arm": {f"{arm[0]} {'right' if arm[1] == 1 else 'left'}": score for score, arm in ranking},
        "window accuracy of this arm": accuracy,
        "frames": len(labels),
        "seconds": len(labels) / RATE,
        "frame accuracy": float(right.mean()),
        "frame accuracy without the first second of each exercise": float(right[settled].mean()),
    }


def main() -> None:
    """Train, score, print the table and write the files."""
    parser = argparse.ArgumentParser(description="Train the recogniser of shoulder exercises.")
    parser.add_argument("--seeds", type=int, default=5, help="number of networks")
    parser.add_argument("--hidden", type=int, default=32, help="size of the hidden state")
    parser.add_argument("--layers", type=int, default=2, help="number of LSTM layers")
    parser.add_argument("--steps", type=int, default=2000, help="training steps")
    parser.add_argument("--batch", type=int, default=32, help="sequences per step")
    parser.add_argument("--rate", type=float, default=0.01, help="highest learning rate")
    parser.add_argument("--out", type=Path, default=HERE, help="folder for the files")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # the same sums in the same order, run after run

    recordings, names = load_recordings()
    train, valid, test = ([one for one in recordings if one.subject in group] for group in (TRAIN, VALID, TEST))
    # Only training people, and their mirror images, tell what is a usual value.
    seen = np.concatenate([one.frames for one in train]).astype(np.float64)
    seen = np.concatenate([seen, seen * MIRROR])
    mean, std = seen.mean(axis=0).astype(np.float32), seen.std(axis=0).astype(np.float32)

    def cut(group: Sequence[Recording], step: int) -> tuple[Array, Labels]:
        x, y = windows(group, step)
        return (x - mean) / std, y

    fit_windows, valid_windows, test_windows = (
        cut(train, RATE),  # overlapping, for more of them
        cut(valid, WINDOW),
        cut(test, WINDOW),
    )
    subject_of = np.concatenate([np.repeat(one.subject, len(one.frames) // WINDOW) for one in test])
    print(f"windows: {len(fit_windows[1])} fit, {len(valid_windows[1])} valid, ", end="")
    print(f"{len(test_windows[1])} test", flush=True)

    runs: list[dict[str, Any]] = []
    models: list[Recogniser] = []
    for seed in range(options.seeds):
        began = time.perf_counter()
        model, score = train_one(seed, train, mean, std, valid_windows, options)
        predicted = predict(model, test_windows[0])
        right = predicted == test_windows[1]
        confusion = np.zeros((len(names), len(names)), dtype=int)
        np.add.at(confusion, (test_windows[1], predicted), 1)
        runs.append(
            {
                "seed": seed,
                "valid": score,
                "test": float(right.mean()),
                "test by subject": {str(s): float(right[subject_of == s].mean()) for s in TEST},
                "confusion": confusion.tolist(),
            }
        )
        models.append(model)
        print(f"  seed {seed}: {time.perf_counter() - began:.0f} s", flush=True)

    # The network to keep is the middle one on the validation people; the test people have no say.
    middle = sorted(runs, key=lambda run: run["valid"])[(len(runs) - 1) // 2]
    stream = write_stream(models[middle["seed"]], test, mean, std, options.out)
    simple = baselines(fit_windows, valid_windows, test_windows)

    report: dict[str, Any] = {
        "data": {
            "package": "seglearn",
            "version": importlib.metadata.version("seglearn"),
            "licence": "BSD-3-Clause",
            "exercises": names,
        },
        "split": {
            "subjects": {"train": TRAIN, "valid": VALID, "test": TEST},
            "recordings": {"train": len(train), "valid": len(valid), "test": len(test)},
            "windows": {
                "train (overlapping, for logistic regression)": len(fit_windows[1]),
                "valid": len(valid_windows[1]),
                "test": len(test_windows[1]),
            },
            "window seconds": WINDOW / RATE,
            "frames per second": RATE,
        },
        "lstm": {
            "hidden": options.hidden,
            "layers": options.layers,
            "steps": options.steps,
            "parameters": sum(value.numel() for value in models[0].parameters()),
            "valid": spread([run["valid"] for run in runs]),
            "test": spread([run["test"] for run in runs]),
            "runs": runs,
            "committed seed": middle["seed"],
        },
        "baselines": simple,
        "stream": stream,
        "torch": torch.__version__,
    }
    (options.out / "scores.json").write_text(json.dumps(report, indent=1) + "\n")

    print(f"\n{'accuracy on unseen people':40} {'valid':>7} {'test':>7}")
    for name, row in simple.items():
        print(f"{name:40} {row['valid']:7.4f} {row['test']:7.4f}")
    for run in runs:
        print(f"{'LSTM, seed ' + str(run['seed']):40} {run['valid']:7.4f} {run['test']:7.4f}")
    for key in ("mean", "std", "min", "max"):
        pair = report["lstm"]["valid"][key], report["lstm"]["test"][key]
        print(f"{'LSTM, ' + key:40} {pair[0]:7.4f} {pair[1]:7.4f}")
    print(f"\ncommitted: seed {middle['seed']}, test by subject {middle['test by subject']}")
    print(f"stream: {stream}")


if __name__ == "__main__":
    main()
