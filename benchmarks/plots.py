"""Plots, as SVG: how time grows, and how much memory long sequences take."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from benchmarks.records import Record

OURS = {
    "lstm_xp numpy": "#0b5fa5",
    "lstm_xp numba": "#c2410c",
    "lstm_xp stream": "#15803d",
    "lstm_xp numpy, remat=100": "#6d28d9",
}
MEMORY = {"peak": "forward", "training, peak": "forward and back"}
OTHERS = "#8a8a8a"
STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#555555",
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "svg.hashsalt": "lstm_xp",  # the same file for the same figures
}


def draw(found: Sequence[Record], folder: Path) -> list[Path]:
    """Draw what there is into a folder; return the files."""
    files = []
    with mpl.rc_context(STYLE):
        for threads in sorted({record.threads for record in found if record.question == "scaling"}):
            some = [r for r in found if r.question == "scaling" and r.threads == threads]
            figure, panels = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained")
            for panel, size in zip(panels, "TNH", strict=True):
                lines(panel, [r for r in some if r.what == size], size)
                fixed = ", ".join(f"{name} = {value}" for name, value in some[0].sizes.items() if name == "I")
                panel.set(title=f"growing {size}", xlabel=f"{size} ({_fixed(some, size)}, {fixed})")
            panels[0].set_ylabel(f"seconds, {threads} thread{'s' * (threads > 1)}")
            files.append(save(figure, folder / f"scaling-{threads}.svg"))
        if memory := [r for r in found if r.question == "memory"]:
            figure, panels = plt.subplots(1, 2, figsize=(12, 3.8), layout="constrained")
            for panel, (what, title) in zip(panels, MEMORY.items(), strict=True):
                lines(panel, [r for r in memory if r.what == what], "T", scale=2**20)
                panel.set(title=title, xlabel="T (N = 8, I = 64, H = 128)")
            panels[0].set_ylabel("MiB above what was there before the call")
            files.append(save(figure, folder / "memory.svg"))
    return files


def _fixed(some: Iterable[Record], size: str) -> str:
    """Return the sizes that stay as they are while one grows."""
    sizes = next(r.sizes for r in some if r.what == size)
    return ", ".join(f"{name} = {sizes[name]}" for name in "TNH" if name != size)


def lines(panel: Axes, found: Sequence[Record], size: str, scale: float = 1.0) -> None:
    """Draw a line for each contestant against a size, with the quartiles as a band and the name at its end."""
    ends = []
    for name in dict.fromkeys(record.name for record in found):
        mine = sorted((r for r in found if r.name == name), key=lambda r: r.sizes[size])
        x = [r.sizes[size] for r in mine]
        median, q1, q3 = ([getattr(r, key) / scale for r in mine] for key in ("median", "q1", "q3"))
        color = OURS.get(name, OTHERS)
        front = name in OURS
        panel.plot(x, median, color=color, linewidth=2 if front else 1, marker="o", markersize=3, zorder=2 + front)
        panel.fill_between(x, q1, q3, color=color, alpha=0.15, linewidth=0)
        ends.append((median[-1], x[-1], name, color))
    panel.set(xscale="log", yscale="log")
    panel.set_xticks(sorted({r.sizes[size] for r in found}), minor=False)
    panel.get_xaxis().set_major_formatter(mpl.ticker.FormatStrFormatter("%d"))
    panel.minorticks_off()
    label(panel, ends)


def label(panel: Axes, ends: list[tuple[float, float, str, str]]) -> None:
    """Write names at the ends of lines, none over another."""
    low, high = panel.get_ylim()
    step = (high / low) ** 0.055  # the height of a line of text
    at = 0.0
    for y, x, name, color in sorted(ends):
        at = max(y, at * step)
        panel.annotate(
            name,
            (x, y),
            color=color,
            va="center",
            fontsize=8,
            xytext=(panel.get_xlim()[1], at),
            textcoords="data",
            annotation_clip=False,
        )


def save(figure: plt.Figure, path: Path) -> Path:
    """Write a figure."""
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    return path
