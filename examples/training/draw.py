"""Draw how the losses fell, with NumPy and with torch, and what the network says of each recording held out.

    pip install matplotlib
    python draw.py [training.svg]

Only the files of this folder are read.
"""

import argparse
import json
import re
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle
from train import DIGITS, HERE, Model, load_held_out, log_probabilities

import lstm_xp as lx

INK, FAINT, GRID = "#222222", "#6B7078", "#E3E5E8"
# From Paul Tol's muted scheme, made for all kinds of colour vision.
COLOURS = ("#332288", "#CC6677", "#117733", "#88CCEE", "#AA4499", "#DDAA33", "#44AA99", "#882255", "#999933", "#8C929B")
CURVES = (("trained on", "#D9822B"), ("held out", "#1B4F8A"))


def read_model() -> Model:
    """Return the trained network."""
    path = HERE / "weights.npz"
    with np.load(path) as file:
        return Model(lx.load(path, prefix="lstm.").weights, file["head.weight"], file["head.bias"])


def draw_losses(axes: Axes, scores: dict[str, Any]) -> None:
    """Draw the losses of every seed: NumPy's as a wide line, torch's as dots on it."""
    for number, seed in enumerate(scores["seeds"]):
        steps = scores["every"] * np.arange(1, len(seed["apart"]) + 1)
        for k, (name, colour) in enumerate(CURVES):
            ours, theirs = (np.array(seed[who]["curve"])[:, k] for who in ("NumPy", "torch"))
            first = number == 0
            axes.plot(steps, ours, color=colour, linewidth=3.2 if first else 1.0, alpha=0.45 if first else 0.22)
            if first:
                axes.plot(steps[::2], theirs[::2], "o", color=colour, markersize=2.4, markeredgewidth=0)
                axes.text(steps[-1] + 9, ours[-1], name, color=colour, va="center", fontweight="bold")
    axes.set_yscale("log")
    axes.set_yticks([0.01, 0.03, 0.1, 0.3, 1], ["0.01", "0.03", "0.1", "0.3", "1"])
    axes.minorticks_off()
    axes.set_ylabel("loss")
    axes.plot([], [], color=FAINT, linewidth=3.2, alpha=0.5, label="NumPy, lx.lstm_vjp")
    axes.plot([], [], "o", color=FAINT, markersize=2.4, markeredgewidth=0, label="torch.nn.LSTM")
    axes.plot([], [], color=FAINT, linewidth=1.0, alpha=0.5, label=f"{len(scores['seeds']) - 1} more seeds")
    axes.legend(frameon=False, loc="upper right", labelcolor=INK, handlelength=1.6)


def draw_gaps(axes: Axes, scores: dict[str, Any]) -> None:
    """Draw how far NumPy's losses are from torch's, on the same batches."""
    for number, seed in enumerate(scores["seeds"]):
        steps = scores["every"] * np.arange(1, len(seed["apart"]) + 1)
        axes.plot(
            steps, seed["apart"], color=INK, linewidth=1.2 if number == 0 else 0.8, alpha=1 if number == 0 else 0.3
        )
    axes.set_yscale("log")
    axes.set_ylim(1e-17, 2e-3)
    axes.set_yticks([1e-16, 1e-12, 1e-8, 1e-4])
    axes.minorticks_off()
    axes.set_ylabel("apart")
    axes.set_xlabel("steps of Adam", labelpad=2)
    axes.text(596, 3e-4, "|loss of NumPy − loss of torch|, same batch, float64", ha="right", va="center", color=FAINT)


def draw_answers(axes: Axes) -> int:
    """Draw the probabilities of the digits, a column for each recording; return how many are named right."""
    data = load_held_out()
    order = np.lexsort((data.lengths, data.digits))
    data = data.at(order)
    strength = np.exp(log_probabilities(read_model(), data)).T[:, :, None]
    # Each row fades from white to the colour of its digit as the probability grows.
    tints = np.array([to_rgb(colour) for colour in COLOURS])
    shown = 1 - strength * (1 - tints[:, None, :])
    axes.imshow(shown, aspect="auto", extent=(0, len(data.digits), DIGITS - 0.5, -0.5), interpolation="nearest")
    for digit in range(DIGITS):
        start, stop = np.searchsorted(data.digits, [digit, digit + 1])
        # The box says where the probability ought to be.
        axes.add_patch(
            Rectangle((start, digit - 0.5), stop - start, 1, fill=False, edgecolor=INK, linewidth=1.1, clip_on=False)
        )
    named = strength[:, :, 0].argmax(axis=0)
    wrong = np.flatnonzero(named != data.digits)
    axes.plot(
        wrong + 0.5, named[wrong], "o", markersize=9, markerfacecolor="none", markeredgecolor=INK, markeredgewidth=0.8
    )
    axes.set_yticks(range(DIGITS))
    axes.tick_params(length=0)
    axes.set_xticks([])
    axes.set_yticks(np.arange(0.5, DIGITS - 1), minor=True)
    axes.grid(axis="y", which="minor", color=GRID, linewidth=0.6)
    axes.tick_params(axis="y", which="minor", length=0)
    axes.spines[:].set_color("#C9CCD1")
    return len(named) - len(wrong)


def draw(path: Path) -> None:
    """Write the picture to `path`."""
    scores = json.loads((HERE / "scores.json").read_text())
    mpl.rcParams |= {
        "svg.fonttype": "path",  # the same letters in every viewer
        "svg.hashsalt": "training",  # and the same file at every run
        "font.family": "DejaVu Sans",
        "font.size": 8.8,
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.edgecolor": FAINT,
        "axes.linewidth": 0.6,
        "xtick.color": FAINT,
        "ytick.color": FAINT,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
    }
    figure = plt.figure(figsize=(9.6, 5.2), facecolor="white")
    left = figure.add_gridspec(
        2, 1, height_ratios=(2.5, 1), left=0.075, right=0.468, top=0.845, bottom=0.09, hspace=0.12
    )
    losses = figure.add_subplot(left[0])
    gaps = figure.add_subplot(left[1], sharex=losses)
    answers = figure.add_subplot(figure.add_gridspec(1, 1, left=0.605, right=0.982, top=0.845, bottom=0.09)[0])
    draw_losses(losses, scores)
    draw_gaps(gaps, scores)
    right, total = draw_answers(answers), scores["held out"]
    for axes in (losses, gaps):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color=GRID, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.set_xlim(0, 600)
    losses.tick_params(axis="x", labelbottom=False, length=0)
    figure.align_ylabels([losses, gaps])
    figure.text(
        0.018, 0.957, "Which digit was spoken? Trained with NumPy alone", fontsize=13.5, fontweight="bold", va="center"
    )
    figure.text(
        0.018,
        0.905,
        "an LSTM, its backward pass and Adam on NumPy, and the same training with torch",
        color=FAINT,
        va="center",
    )
    figure.text(0.605, 0.905, f"{total} recordings held out, {right} named right", color=FAINT, va="center")
    answers.set_ylabel("probability of digit")
    answers.set_xlabel("recordings, by what was said (box); circle: named wrong", labelpad=6)
    # Without a date the file is the same at every run.
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=150)
    plt.close(figure)
    if path.suffix == ".svg":
        # A tenth of a point is finer than anybody sees.
        def rounded(places: re.Match[str]) -> str:
            return re.sub(r"\d+\.\d{2,}", lambda number: f"{float(number[0]):.1f}", places[0])

        text = re.sub(r'\b[dxy]="[^"]*"', rounded, path.read_text())
        path.write_text(re.sub(r"\s*\n\s*", "\n", text))
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Draw the losses and the answers.")
    parser.add_argument("path", nargs="?", type=Path, default=HERE / "training.svg", help="where to")
    draw(parser.parse_args().path)
