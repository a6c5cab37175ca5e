"""Pictures of what is inside an LSTM, with matplotlib."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lstm_xp._inside import ENDS, NAMES, Inside, Order, Panel, look_inside
from lstm_xp._trace import Trace

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap, Normalize
    from matplotlib.figure import Figure

__all__ = ["gates"]

TITLES = {
    "x": "input",
    "i": "input gate",
    "f": "forget gate",
    "o": "output gate",
    "g": "candidate",
    "c": "cell state",
    "h": "hidden state",
}
ORDERED = {"similar": "similar ones side by side", "peak": "by the step of their highest peak", "index": ""}
INK, FAINT, EDGE = "#222222", "#6B7078", "#B9BDC3"
BETWEEN, NOT_VALID, NOT_FINITE = "#ECEDEF", "#C3C8CF", "#E0218A"
LINES = ("#1B4F8A", "#C2601D", "#5F9E6E")
# Brown and blue of the same lightness, which falls evenly on both sides of white.
DIVERGING = ("#7A4100", "#F7F7F5", "#1B4F8A")
# Inches, from left to right: names, heat maps, shares of steps, colour bars; from top to bottom: titles, panels, time.
LEFT, WIDE, BESIDE, BAR, RIGHT = 1.35, 6.0, 0.85, 0.09, 0.5
GAP, FAR = 0.09, 0.34
HEAD, FOOT = 0.62, 0.5
SIZE = 8.5  # of letters, in points


def gates(
    trace: Trace,
    *,
    layer: int = -1,
    direction: int = 0,
    row: int = 0,
    batch_first: bool = False,
    units: Sequence[int] | None = None,
    order: Order = "similar",
    columns: int = 400,
) -> "Figure":
    """
    Draw the gates, the cell state and the hidden state of one layer in one direction over time, under the input.

    Every gate and state is a heat map, units by time, with the same units in the same order in all of them. Beside it
    stands, for every unit, the share of the steps at which it is saturated: in the colour of the lower end from the
    left, in that of the upper end from the right. Gates count as saturated below 0.1 and above 0.9, the others below
    -0.8 and above 0.8, the cell state by its tanh. What is not kept in the trace is left out.

    Steps that are not valid are hatched, if all four gates were kept: a trace tells such steps by those, which are 0
    there in every unit. A value that is not finite is pink.

    Parameters
    ----------
    trace : Trace
        What `lstm_xp.trace` or `LSTM.trace` returned, of any library. Tensors that require grad are drawn by their
        values.
    layer : int, optional
        Which layer, from the input up; -1, the last one, if absent.
    direction : int, optional
        0 for the first direction, 1 for the backward one of two.
    row : int, optional
        Which row of the batch.
    batch_first : bool, optional
        Whether the trace was made with `batch_first`.
    units : sequence of int, optional
        Which units to draw; all if absent.
    order : {"similar", "peak", "index"}, optional
        How to order the units, by the cell state: those side by side that rise and fall together, or by when they are
        farthest from 0, or as `units` has them.
    columns : int, optional
        The most columns to draw: 400 are a point wide, which the eye still tells apart. Where there are more steps,
        each column is the mean over so many of them, as the figure says; the shares are those of all steps.

    Returns
    -------
    matplotlib.figure.Figure
        The figure, of no backend and not known to pyplot: ``figure.savefig("gates.svg")`` writes it, a notebook shows
        it.

    Raises
    ------
    ImportError
        There is no matplotlib: ``pip install 'lstm_xp[plot]'``.
    TypeError
        The trace is none, or its values are not there yet (a tracer).
    ValueError
        The trace has kept nothing, or an index is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> import lstm_xp as lx
    >>> net = lx.LSTM(input_size=5, hidden_size=4, seed=0)
    >>> figure = lx.plot.gates(net.trace(np.ones((7, 3, 5), np.float32)), row=1)
    >>> type(figure)
    <class 'matplotlib.figure.Figure'>
    """
    inside = look_inside(trace, layer, direction, row, batch_first, units, order, columns)
    try:
        return _draw(inside)
    except ImportError as error:
        msg = f"a picture needs the extra lstm_xp[plot]: {error}"
        raise ImportError(msg, name=error.name) from error


class _Scale(NamedTuple):
    """How values become colours, and which of them the colour bar names."""

    colours: "Colormap"
    norm: "Normalize"
    ticks: tuple[float, ...]


def _scale(name: str, panels: Sequence[np.ndarray]) -> _Scale:
    """Return the scale of panels that share it: what is known of the range of a name, and more if the values ask it."""
    from matplotlib import colormaps
    from matplotlib.colors import AsinhNorm, LinearSegmentedColormap, Normalize

    values = np.concatenate([panel.ravel() for panel in panels])
    values = values[np.isfinite(values)]
    least, most = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    if name in "ifo":
        least, most = -_rounded_up(-least) if least < 0 else 0.0, _rounded_up(most) if most > 1 else 1.0
        return _Scale(colormaps["viridis"], Normalize(least, most), (least, most))
    colours = LinearSegmentedColormap.from_list("diverging", DIVERGING)
    limit = _rounded_up(max(-least, most)) or 1.0
    limit = max(limit, 1.0) if name == "g" else limit
    if limit <= 4:
        return _Scale(colours, Normalize(-limit, limit), (-limit, 0.0, limit))
    half = float(f"{math.sinh(math.asinh(limit) / 2):.0e}")  # what the eye takes for the middle
    return _Scale(colours, AsinhNorm(1.0, -limit, limit), (-limit, -half, 0.0, half, limit))


def _rounded_up(value: float) -> float:
    """Return the next number of two digits, or 0 where there is hardly one."""
    if value < 1e-300:
        return 0.0
    digit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.ceil(value / digit - 1e-9) * digit:.1e}")


class _Page:
    """A figure whose axes have their places in inches from the upper left."""

    def __init__(self, width: float, height: float) -> None:
        from matplotlib.figure import Figure

        self.width, self.height = width, height
        self.figure = Figure(figsize=(width, height), facecolor="white")

    def add(self, label: str, left: float, top: float, wide: float, high: float, **like: Any) -> "Axes":
        """Add axes."""
        place = (left / self.width, 1 - (top + high) / self.height, wide / self.width, high / self.height)
        axes = self.figure.add_axes(place, label=label, facecolor="white", **like)
        axes.spines[:].set(color=EDGE, linewidth=0.6)
        axes.tick_params(length=2, width=0.6, pad=2, color=FAINT, labelcolor=INK, labelsize=SIZE - 1.5)
        return axes

    def add_bar(self, label: str, scale: _Scale, top: float, high: float) -> None:
        """Add a colour bar at the right."""
        from matplotlib.cm import ScalarMappable

        bar = self.add(label, self.width - RIGHT - BAR, top, BAR, high)
        self.figure.colorbar(ScalarMappable(scale.norm, scale.colours), cax=bar, ticks=scale.ticks, format=_number)
        bar.minorticks_off()
        bar.spines[:].set_visible(False)
        lowest, *_, highest = bar.get_yticklabels()
        lowest.set(va="bottom")  # clear of the next bar's
        highest.set(va="top")

    def write(self, text: str, down: float, **style: Any) -> None:
        """Write a line at the left."""
        self.figure.text(0.15 / self.width, 1 - down / self.height, text, va="center", **style)


def _draw(inside: Inside) -> "Figure":
    from matplotlib.ticker import MaxNLocator

    rows = {"x": inside.x} | {name: inside.panels[name].values for name in NAMES if name in inside.panels}
    heights = {name: min(max(0.15 * len(values), 0.6), 1.1) for name, values in rows.items()}
    groups = [group for each in ("x", "ifo", "gch") if (group := [name for name in each if name in rows])]
    page = _Page(
        LEFT + WIDE + GAP + BESIDE + 2 * GAP + BAR + RIGHT,
        HEAD + FOOT + sum(heights.values()) + GAP * (len(rows) - len(groups)) + FAR * (len(groups) - 1),
    )
    _write_titles(page, inside)
    over_time: list[Axes] = []
    shares: list[Axes] = []
    top = HEAD
    for group in groups:
        gates_scale = _scale(group[0], [rows[name] for name in group]) if group[0] in "ifo" else None
        begin = top
        for name in group:
            axes = page.add(name, LEFT, top, WIDE, heights[name], sharex=over_time[0] if over_time else None)
            over_time.append(axes)
            scale = gates_scale or _scale(name, [rows[name]])
            if name == "x" and len(inside.x) <= len(LINES):
                _draw_lines(axes, inside)
            else:
                _draw_heat(axes, inside, rows[name], scale)
                _name_rows(axes, inside.panels[name].units if name != "x" else np.arange(len(inside.x)))
                if not gates_scale:
                    page.add_bar(f"{name} colours", scale, top, heights[name])
            _write_name(axes, name)
            _cover(axes, inside, ~inside.valid, facecolor=NOT_VALID, edgecolor="white", hatch="////")
            if name != "x":
                beside = page.add(f"{name} shares", LEFT + WIDE + GAP, top, BESIDE, heights[name], sharey=axes)
                shares.append(beside)
                _draw_shares(beside, inside.panels[name], scale)
                _write_ends(beside, name, scale, over=name == group[0])
            top += heights[name] + GAP
        if gates_scale:
            page.add_bar("gates colours", gates_scale, begin, top - GAP - begin)
        top += FAR - GAP
    for column, text in ((over_time, "step"), (shares, "share of steps")):
        for axes in column[:-1]:
            axes.tick_params(labelbottom=False, bottom=False)
        column[-1].set_xlabel(text, fontsize=SIZE, color=INK, labelpad=2)
    over_time[-1].xaxis.set_major_locator(MaxNLocator(8, steps=(1, 2, 2.5, 5, 10), integer=True))
    return page.figure


def _write_titles(page: _Page, inside: Inside) -> None:
    row = "" if inside.row is None else f", row {inside.row}"
    units = len(next(iter(inside.panels.values())).units)
    notes = [
        f"{inside.steps} steps" + (f", each column the mean of {inside.width}" if inside.width > 1 else ""),
        ", ".join(filter(None, (f"{units} units", ORDERED[inside.order]))),
    ]
    if not inside.valid.all():
        notes.append("hatched: not valid")
    shown = (inside.x, *(panel.values for panel in inside.panels.values()))
    if not all(np.isfinite(values[:, inside.valid]).all() for values in shown):
        notes.append("pink: not finite")
    title = f"Layer {inside.layer}, direction {inside.direction}{row}"
    page.write(title, 0.2, fontsize=SIZE + 3, fontweight="bold", color=INK)
    page.write(" · ".join(notes), 0.42, fontsize=SIZE, color=FAINT)


def _write_name(axes: "Axes", name: str) -> None:
    """Write what a panel shows to its left, clear of the numbers of its rows."""
    place: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points", "ha": "right", "va": "center"}
    axes.annotate(TITLES[name], (0, 0.5), (-25, 6), **place, fontsize=SIZE + 0.5, color=INK)
    axes.annotate(name, (0, 0.5), (-25, -7), **place, fontsize=SIZE + 0.5, color=FAINT, fontstyle="italic")


def _edges(inside: Inside) -> np.ndarray:
    return np.arange(len(inside.valid) + 1) * inside.width - 0.5


def _draw_lines(axes: "Axes", inside: Inside) -> None:
    """Draw the input's features, flat over each step."""
    for feature, (values, colour) in enumerate(zip(inside.x, LINES, strict=False)):
        shown = np.where(np.isfinite(values), values, np.nan)
        axes.stairs(shown, _edges(inside), baseline=None, color=colour, linewidth=0.9)
        place = 0.5 if len(inside.x) == 1 else 0.82 - 0.64 * feature / (len(inside.x) - 1)
        axes.text(
            1.015, place, f"feature {feature}", color=colour, fontsize=SIZE, transform=axes.transAxes, va="center"
        )
    _cover(axes, inside, inside.valid & ~np.isfinite(inside.x).all(axis=0), facecolor=NOT_FINITE)
    axes.margins(y=0.08)
    axes.locator_params(axis="y", nbins=3)
    axes.set_xlim(-0.5, inside.steps - 0.5)


def _draw_heat(axes: "Axes", inside: Inside, values: np.ndarray, scale: _Scale) -> None:
    """Draw units by time; what is not finite by a colour of its own."""
    from matplotlib.colors import ListedColormap

    finite = np.isfinite(values)
    layers: list[tuple[np.ndarray, dict[str, Any]]] = [
        (np.ma.masked_where(~finite, values), {"cmap": scale.colours, "norm": scale.norm})
    ]
    if not finite[:, inside.valid].all():
        wrong = np.ma.masked_where(finite | ~inside.valid, np.zeros_like(values))
        layers.append((wrong, {"cmap": ListedColormap([NOT_FINITE])}))
    for shown, colours in layers:
        axes.imshow(
            shown,
            aspect="auto",
            interpolation="antialiased",
            interpolation_stage="rgba",  # as the eye blurs what is finer than it sees
            extent=(-0.5, len(inside.valid) * inside.width - 0.5, len(values) - 0.5, -0.5),
            **colours,
        )
    axes.set_xlim(-0.5, inside.steps - 0.5)


def _name_rows(axes: "Axes", units: np.ndarray) -> None:
    """Number the rows if there is room."""
    few = len(units) <= 8
    axes.set_yticks(range(len(units)) if few else [], [str(unit) for unit in units] if few else [])
    axes.tick_params(axis="y", length=0)


def _cover(axes: "Axes", inside: Inside, columns: np.ndarray, **style: Any) -> None:
    """Cover some of the columns from top to bottom."""
    changes = np.flatnonzero(np.diff(columns, prepend=False, append=False))
    starts, stops = _edges(inside)[changes].reshape(-1, 2).T
    if len(starts):
        spans = list(zip(starts, stops - starts, strict=True))
        axes.broken_barh(spans, (0, 1), transform=axes.get_xaxis_transform(), linewidth=0, **style)


def _draw_shares(axes: "Axes", panel: Panel, scale: _Scale) -> None:
    """Draw at which share of the steps each unit is low, from the left, and high, from the right."""
    axes.set_facecolor(BETWEEN)
    rows = np.arange(len(panel.units) + 1) - 0.5
    low, high = scale.colours(0.0), scale.colours(1.0)
    axes.stairs(panel.low, rows, orientation="horizontal", fill=True, color=low)
    axes.stairs(1 - panel.high, rows, baseline=1.0, orientation="horizontal", fill=True, color=high)
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.5, 1], ["0", "½", "1"])
    axes.tick_params(axis="y", left=False, labelleft=False)


def _write_ends(axes: "Axes", name: str, scale: _Scale, *, over: bool) -> None:
    """Write what counts as low and high: over the first of a group, and of what."""
    place: dict[str, Any] = {"transform": axes.transAxes, "fontsize": SIZE - 1.5}
    lower, upper = ENDS[name]
    for left, end, text in ((0.0, 0.0, f"< {_number(lower)}"), (0.6, 1.0, f"> {_number(upper)}")) if over else ():
        axes.text(left, 1.07, "■", color=scale.colours(end), **place)
        axes.text(left + 0.13, 1.07, text, color=INK, **place)
    if name == "c":
        axes.text(1.03, 0.5, "of tanh c", rotation=90, va="center", color=FAINT, **place)


def _number(value: float, _: object = None) -> str:
    text = f"{value:.2g}" if abs(value) < 100 or abs(value) >= 1e5 else f"{value:.0f}"
    return text.replace("-", "\N{MINUS SIGN}")
