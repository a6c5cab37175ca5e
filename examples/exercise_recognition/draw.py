"""Draw a watch's signals and what the LSTM makes of them, on plain NumPy.

Reads the files of this folder, runs the trained network with ``lstm_xp`` and writes one picture::

    python draw.py [exercise_recognition.svg]

torch is not needed.
"""

import argparse
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

import lstm_xp as lx

HERE = Path(__file__).parent
RATE = 25  # frames per second

NAMES = (
    "pendulum",
    "abduction",
    "forward elevation",
    "internal rotation",
    "external rotation",
    "trapezius row",
    "bent-over row",
)
INK, FAINT = "#222222", "#6B7078"
# From Paul Tol's muted scheme, made for all kinds of colour vision.
COLOURS = ("#332288", "#CC6677", "#117733", "#88CCEE", "#AA4499", "#DDAA33", "#44AA99")
ON_COLOUR = ("white", INK, "white", INK, "white", INK, INK)
AXES = (("x", "#1B4F8A"), ("y", "#D9822B"), ("z", "#8C929B"))
DIVERGING = LinearSegmentedColormap.from_list("state", ["#8C510A", "#F7F7F5", "#1B4F8A"])

Array = NDArray[np.floating[Any]]


def softmax(scores: Array) -> Array:
    """Turn scores into probabilities along the last axis."""
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    shares: Array = powers / powers.sum(axis=-1, keepdims=True)
    return shares


def spans(labels: NDArray[np.int8]) -> list[tuple[int, float, float]]:
    """List each exercise of the stream with its start and end in seconds."""
    cuts = [0, *(np.flatnonzero(np.diff(labels)) + 1).tolist(), len(labels)]
    return [(int(labels[a]), a / RATE, b / RATE) for a, b in pairwise(cuts)]


def label_panel(axes: Axes, text: str, x: float) -> None:
    """Write the name of a panel to its left, `x` in units of the panel's width."""
    axes.text(x, 0.5, text, transform=axes.transAxes, ha="right", va="center", linespacing=1.35)


def draw_signals(axes: Axes, seconds: Array, signals: Array, name: str) -> None:
    """Draw three channels of a sensor as lines."""
    for channel, (_, colour) in zip(signals.T, AXES, strict=True):
        axes.plot(seconds, channel, color=colour, linewidth=0.55)
    limit = 1.08 * float(np.abs(signals).max())
    axes.set_ylim(-limit, limit)
    label_panel(axes, name, -0.042)
    axes.tick_params(axis="y", labelsize=8.3)


def draw(path: Path) -> None:
    """Run the network on the stream and write the picture to `path`."""
    x = np.load(HERE / "input.npy")
    labels = np.load(HERE / "labels.npy")
    expected = np.load(HERE / "output.npy")
    with np.load(HERE / "weights.npz") as weights:
        head, bias = weights["head.weight"], weights["head.bias"]
        mean, std = weights["scale.mean"], weights["scale.std"]

    net = lx.load(HERE / "weights.npz", prefix="lstm.")
    output, _ = net(x)
    print(f"largest difference from torch: {np.abs(output - expected).max():.1e}")
    probabilities = softmax(output @ head.T + bias)
    right = (probabilities.argmax(axis=1) == labels).mean()
    print(f"frames named right: {right:.1%}")

    seconds = np.arange(len(x), dtype=np.float32) / RATE
    end = len(x) / RATE
    signals = x * std + mean
    mpl.rcParams |= {
        "path.simplify_threshold": 0.35,  # in pixels; the lines are wider
        "svg.fonttype": "path",  # the same letters in every viewer
        "svg.hashsalt": "exercise_recognition",  # and the same file at every run
        "font.family": "DejaVu Sans",
        "font.size": 9.3,
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.edgecolor": FAINT,
        "axes.linewidth": 0.6,
        "xtick.color": FAINT,
        "ytick.color": FAINT,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
    }
    figure, (band, accel, gyro, grid, state) = plt.subplots(
        5,
        1,
        figsize=(9.6, 7.0),
        sharex=True,
        facecolor="white",
        height_ratios=(0.62, 1.15, 1.15, 2.5, 1.5),
        gridspec_kw={"left": 0.165, "right": 0.972, "top": 0.905, "bottom": 0.068, "hspace": 0.16},
    )
    figure.text(
        0.018,
        0.968,
        "Which exercise is it? Answered at every frame, as the signal comes in",
        fontsize=13.5,
        fontweight="bold",
        va="center",
    )
    figure.text(
        0.018,
        0.934,
        f"seven recordings of one person never seen in training, joined · {right:.0%} of {len(x)} "
        "frames right · trained with torch, run on NumPy",
        fontsize=9.3,
        color=FAINT,
        va="center",
    )

    for label, start, stop in spans(labels):
        band.add_patch(Rectangle((start, 0), stop - start, 1, facecolor=COLOURS[label], edgecolor="white"))
        band.text(
            (start + stop) / 2,
            0.48,
            NAMES[label].replace(" ", "\n"),
            color=ON_COLOUR[label],
            ha="center",
            va="center",
            linespacing=1.15,
        )
        for axes in (accel, gyro, state) if start > 0 else ():
            axes.axvline(start, color=FAINT, linewidth=0.6, linestyle=(0, (2, 2)))
        # The box says where the probability ought to be.
        grid.add_patch(
            Rectangle(
                (start, label - 0.5),
                stop - start,
                1,
                fill=False,
                edgecolor=INK,
                linewidth=1.1,
                zorder=5,
                clip_on=False,
            )
        )
    band.set_ylim(0, 1)
    band.set_yticks([])
    band.spines[:].set_visible(False)
    band.tick_params(axis="x", length=0)
    label_panel(band, "true exercise", -0.007)

    draw_signals(accel, seconds, signals[:, :3], "acceleration\n(g)")
    draw_signals(gyro, seconds, signals[:, 3:], "turning rate\n(rad/s)")
    for axes in (accel, gyro):
        for place, (name, colour) in zip((0.80, 0.5, 0.20), AXES, strict=True):
            axes.text(
                1.008,
                place,
                name,
                color=colour,
                fontweight="bold",
                transform=axes.transAxes,
                va="center",
            )

    # Each row fades from white to the colour of its exercise as the probability grows.
    tints = np.array([to_rgb(colour) for colour in COLOURS])
    strength = probabilities.T[:, :, None]
    grid.imshow(
        1 - strength * (1 - tints[:, None, :]),
        aspect="auto",
        extent=(0, end, len(NAMES) - 0.5, -0.5),
        interpolation="nearest",
    )
    grid.set_yticks(range(len(NAMES)), NAMES)
    grid.tick_params(axis="y", length=0)
    grid.set_yticks(np.arange(0.5, len(NAMES) - 1), minor=True)
    grid.text(
        end - 0.9,
        0,
        "full colour: probability 1      white: 0      box: true exercise",
        color=FAINT,
        fontsize=8.3,
        ha="right",
        va="center_baseline",
    )
    grid.grid(axis="y", which="minor", color="#E3E5E8", linewidth=0.6)
    grid.tick_params(axis="y", which="minor", length=0)

    # Units side by side that like the same exercise; three frames to a column are enough to see.
    by_exercise = np.stack([output[labels == label].mean(axis=0) for label in range(len(NAMES))])
    order = np.lexsort((-by_exercise.max(axis=0), by_exercise.argmax(axis=0)))
    columns = len(output) // 3
    coarse = output[: 3 * columns, order].reshape(columns, 3, -1).mean(axis=1)
    state.imshow(
        coarse.T,
        aspect="auto",
        extent=(0, 3 * columns / RATE, len(order), 0),
        cmap=DIVERGING,
        vmin=-1,
        vmax=1,
        interpolation="nearest",
    )
    state.set_yticks([])
    label_panel(state, f"hidden state\n({len(order)} units)", -0.007)
    state.set_xlim(0, end)
    state.set_xticks(np.arange(0, end + 1, 10))
    state.set_xlabel("seconds", labelpad=2)
    figure.text(0.972, 0.018, "brown −1      white 0      blue +1", color=FAINT, fontsize=8.3, ha="right")
    for axes in (accel, gyro, grid):
        axes.tick_params(axis="x", length=0)
    for axes in (accel, gyro):
        axes.spines[["top", "right", "bottom"]].set_visible(False)
    for axes in (grid, state):
        axes.spines[:].set_color("#C9CCD1")

    # Without a date the file is the same at every run.
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=150)
    plt.close(figure)
    if path.suffix == ".svg":
        # A tenth of a point is finer than anybody sees, and halves the file.
        text = path.read_text()
        text = re.sub(
            r'\bd="[^"]*"',
            lambda found: re.sub(r"-?\d+\.\d{2,}", lambda n: f"{float(n[0]):.1f}", found[0].replace(" \n", "\n")),
            text,
        )
        path.write_text(text)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Draw the LSTM's answer to a watch's signals.")
    parser.add_argument("path", nargs="?", type=Path, default=HERE / "exercise_recognition.svg", help="where to")
    draw(parser.parse_args().path)
