"""The picture of error against T: one small plot for each library, drawn as SVG whose text is text."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from conformance.report import figure

Points = Sequence[Sequence[float]]  # (T, largest error) each
Curves = Mapping[str, Points]  # by dtype

WIDTH, HEIGHT = 300, 200
LEFT, RIGHT, TOP, BOTTOM = 42, 284, 10, 168


@dataclass(frozen=True)
class Axes:
    """Decades of T and of the error, the same in every plot."""

    times: tuple[int, int]
    errors: tuple[int, int]

    def x(self, time: float) -> float:
        """Return where a T is drawn."""
        first, last = self.times
        return round(LEFT + (RIGHT - LEFT) * (math.log10(time) - first) / (last - first), 1)

    def y(self, error: float) -> float:
        """Return where an error is drawn; zero, which has no logarithm, at the bottom."""
        first, last = self.errors
        exponent = max(math.log10(error), first) if error > 0 else first
        return round(BOTTOM - (BOTTOM - TOP) * (exponent - first) / (last - first), 1)


def axes_of(curves: Iterable[Curves], tolerances: Mapping[str, float]) -> Axes:
    """Return axes in which all curves and tolerances have room."""
    points = [point for curve in curves for each in curve.values() for point in each]
    errors = [error for _, error in points if error > 0] + list(tolerances.values())
    times = [time for time, _ in points]
    last = max(1, math.ceil(math.log10(max(times, default=10))))
    return Axes((0, last), (math.floor(math.log10(min(errors)) - 0.5), math.ceil(math.log10(max(errors)) + 0.5)))


def plot(title: str, curves: Curves, tolerances: Mapping[str, float], axes: Axes) -> str:
    """
    Return the plot of one library.

    Parameters
    ----------
    title : str
        What it is of.
    curves : dict
        By dtype, (T, largest error) of each T.
    tolerances : dict
        By dtype.
    axes : Axes
        The axes.

    Returns
    -------
    str
        An ``svg`` element; its colours are left to the page's style sheet.
    """
    said = f"{title}: largest error against T, in {' and '.join(curves)}"
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(said)}">']
    for exponent in range(axes.times[0], axes.times[1] + 1):
        x = axes.x(10**exponent)
        parts.append(f'<path class="grid" d="M{x} {TOP}V{BOTTOM}"/>')
        parts.append(f'<text x="{x}" y="{BOTTOM + 13}" text-anchor="middle">{10**exponent}</text>')
    for exponent in range(axes.errors[0] + axes.errors[0] % 2, axes.errors[1] + 1, 2):
        y = axes.y(10.0**exponent)
        parts.append(f'<path class="grid" d="M{LEFT} {y}H{RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 5}" y="{y + 3}" text-anchor="end">1e{exponent}</text>')
    parts.append(f'<text x="{(LEFT + RIGHT) / 2}" y="{HEIGHT - 4}" text-anchor="middle">T</text>')
    for dtype, points in curves.items():
        parts += _curve(dtype, points, tolerances.get(dtype), axes)
    return "".join([*parts, "</svg>"])


def _curve(dtype: str, points: Points, tolerance: float | None, axes: Axes) -> list[str]:
    name = escape(dtype)
    parts = [f'<g class="{name}">']
    if tolerance is not None:
        y = axes.y(tolerance)
        parts.append(f'<path class="tolerance" d="M{LEFT} {y}H{RIGHT}"/>')
        parts.append(f'<text x="{RIGHT - 2}" y="{y - 4}" text-anchor="end">tolerance of {name}</text>')
    places = [(axes.x(time), axes.y(error), time, error) for time, error in points]
    if places:
        parts.append(f'<path class="curve" d="M{"L".join(f"{x} {y}" for x, y, _, _ in places)}"/>')
        # Below the curve, where its tolerance's name is not.
        lowest = max(y for _, y, _, _ in places)
        parts.append(f'<text x="{LEFT + 6}" y="{min(lowest + 14, BOTTOM - 3)}">{name}</text>')
    parts += [
        f'<circle cx="{x}" cy="{y}" r="2.2"><title>T = {time:g}: {figure(error)}</title></circle>'
        for x, y, time, error in places
    ]
    return [*parts, "</g>"]
