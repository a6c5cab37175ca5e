"""What a picture of a trace shows, as NumPy arrays: one row of the batch, its units in order, its time in columns."""

import math
from collections.abc import Sequence
from numbers import Integral
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from lstm_xp._checks import describe, integer
from lstm_xp._trace import Trace
from lstm_xp._transfer import move
from lstm_xp._typing import Array

Order: TypeAlias = Literal["similar", "peak", "index"]
ORDERS: tuple[Order, ...] = ("similar", "peak", "index")
# What `Trace` may keep of one layer in one direction, from the top of the picture down.
NAMES = ("i", "f", "o", "g", "c", "h")
# A value beyond these is saturated. For the gates they are those of Karpathy, Johnson and Fei-Fei, "Visualizing and
# understanding recurrent networks", arXiv:1506.02078: the outer tenths of a sigmoid's range; for the others, of tanh's.
ENDS = dict.fromkeys("ifo", (0.1, 0.9)) | dict.fromkeys("gch", (-0.8, 0.8))


class Panel(NamedTuple):
    """
    One gate or state.

    Parameters
    ----------
    units : numpy.ndarray of int, shape (units,)
        Which units these are, in the order of the rows.
    values : numpy.ndarray, shape (units, columns)
        The mean over the valid steps of each column; NaN where a step is not finite, and where there is none.
    low, high : numpy.ndarray, shape (units,)
        The share of the valid steps at which a unit is near the lower or upper end of its range.
    """

    units: np.ndarray
    values: np.ndarray
    low: np.ndarray
    high: np.ndarray


class Inside(NamedTuple):
    """
    All of one layer in one direction, for one row.

    Parameters
    ----------
    layer, direction, row : int
        Which these are, counted from 0; row is None without a batch.
    order : str
        How the units are ordered.
    steps : int
        The number of steps.
    width : int
        How many of them are one column.
    valid : numpy.ndarray of bool, shape (columns,)
        Whether a column has a valid step.
    x : numpy.ndarray, shape (input_size, columns)
        The input, as the panels' values.
    panels : dict of str to Panel
        What the trace has, by its names.
    """

    layer: int
    direction: int
    row: int | None
    order: Order
    steps: int
    width: int
    valid: np.ndarray
    x: np.ndarray
    panels: dict[str, Panel]


def look_inside(
    trace: Trace,
    layer: int,
    direction: int,
    row: int,
    batch_first: bool,
    units: Sequence[int] | None,
    order: Order,
    columns: int,
) -> Inside:
    """Take out of a trace what `lstm_xp.plot.gates` draws; the arguments are its own."""
    if not isinstance(trace, Trace):
        msg = f"`trace` is {describe(trace)}, expected an lstm_xp.Trace"
        raise TypeError(msg)
    kept = {name: getattr(trace, name) for name in NAMES if getattr(trace, name) is not None}
    if not kept:
        msg = "`trace` has kept nothing, expected at least one of h, c, i, f, g, o"
        raise ValueError(msg)
    if order not in ORDERS:
        msg = f"`order` is {order!r}, expected one of {', '.join(map(repr, ORDERS))}"
        raise ValueError(msg)
    columns = integer(columns, "columns", 1)
    layers = next(iter(kept.values()))
    layer = _place(layer, "layer", len(layers), "layers")
    direction = _place(direction, "direction", len(layers[layer]), "directions")
    batched = trace.x.ndim == 3
    row = _place(row, "row", trace.x.shape[0 if batch_first else 1] if batched else 1, "rows")

    def read(array: Array, name: str) -> np.ndarray:
        """Return the row's values, (steps, features)."""
        array = array if not batched else array[row, ...] if batch_first else array[:, row, ...]
        values: np.ndarray = move(array, name, np, dtype="float64", detach=True)
        return values

    x = read(trace.x, "trace.x")
    arrays = {name: read(each[layer][direction], f"trace.{name}") for name, each in kept.items()}
    steps = x.shape[0]
    valid = _valid(arrays, steps)
    width = math.ceil(steps / columns)
    # The cell state orders the units for all panels; only a projected hidden state has units of its own.
    leading = arrays.get("c", next(iter(arrays.values())))
    shown = {leading.shape[1]: _ordered(leading[valid], units, order)}
    panels = {}
    for name, values in arrays.items():
        if values.shape[1] not in shown:
            shown[values.shape[1]] = _ordered(values[valid], None, order)
        chosen = shown[values.shape[1]]
        low, high = _saturation(name, values[valid][:, chosen])
        panels[name] = Panel(chosen, _columns(values[:, chosen], valid, width), low, high)
    return Inside(
        layer=layer,
        direction=direction,
        row=row if batched else None,
        order=order,
        steps=steps,
        width=width,
        valid=np.logical_or.reduceat(valid, np.arange(0, steps, width)),
        x=_columns(x, valid, width),
        panels=panels,
    )


def _place(value: int, name: str, count: int, what: str) -> int:
    """Return an index, counted from the end where it is negative."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        msg = f"`{name}` is {value!r}, expected an integer"
        raise TypeError(msg)
    if count == 0:
        msg = f"the trace has no {what}, expected at least one to look at"
        raise ValueError(msg)
    if not -count <= value < count:
        msg = f"`{name}` is {value}, expected one of {count} {what}, {-count} to {count - 1}"
        raise ValueError(msg)
    return int(value) % count


def _valid(arrays: dict[str, np.ndarray], steps: int) -> np.ndarray:
    """Tell which steps are valid: at the others a trace has all four gates 0, in every unit."""
    if not arrays.keys() >= set("ifog"):
        return np.ones(steps, dtype=bool)
    valid: np.ndarray = np.any([np.any(arrays[name] != 0, axis=1) for name in "ifog"], axis=0)
    return valid


def _ordered(values: np.ndarray, units: Sequence[int] | None, order: Order) -> np.ndarray:
    """Return the chosen units in order; values are (valid steps, all units)."""
    count = values.shape[1]
    if units is None:
        chosen = np.arange(count)
    else:
        if not isinstance(units, (Sequence, np.ndarray)) or isinstance(units, str):
            msg = f"`units` is {units!r}, expected a sequence of integers"
            raise TypeError(msg)
        chosen = np.asarray([_unit(unit, count) for unit in units], dtype=int)
        if not chosen.size or len(set(chosen.tolist())) < chosen.size:
            msg = f"`units` is {units!r}, expected at least one, each of them once"
            raise ValueError(msg)
    values = np.nan_to_num(values[:, chosen], posinf=0.0, neginf=0.0)  # what is not finite orders nothing
    if order == "similar" and len(values):
        chosen = chosen[_by_similarity(values)]
    if order == "peak" and len(values):
        chosen = chosen[np.argsort(np.argmax(np.abs(values), axis=0), kind="stable")]
    return chosen


def _unit(unit: int, count: int) -> int:
    if isinstance(unit, bool) or not isinstance(unit, Integral):
        msg = f"`units` has {unit!r}, expected integers"
        raise TypeError(msg)
    if not 0 <= unit < count:
        msg = f"`units` has {unit}, expected 0 to {count - 1}"
        raise ValueError(msg)
    return int(unit)


def _by_similarity(values: np.ndarray) -> np.ndarray:
    """
    Return the units so that those that rise and fall together are side by side, and those that never change last.

    The two groups most alike, by the mean of their units' correlations, become one, until one is left; they are joined
    at the ends that are most alike (Gruvaeus and Wainer, "Two additions to hierarchical cluster analysis", 1972).
    """
    values = values / np.maximum(np.max(np.abs(values), axis=0), 1e-300)  # lest squares overflow
    values = values - values.mean(axis=0)
    norms = np.sqrt(np.sum(values**2, axis=0))
    still = norms <= 1e-12 * len(values)
    moving = np.flatnonzero(~still)
    values = values[:, moving] / norms[moving]
    alike = values.T @ values
    between = alike - np.diag(np.full(len(moving), np.inf))  # of groups, each in the place of its first one
    groups = {place: [place] for place in range(len(moving))}
    while len(groups) > 1:
        a, b = divmod(int(np.argmax(between)), len(between))
        one, other = groups[a], groups.pop(b)
        sizes = np.asarray([len(one), len(other)]) / (len(one) + len(other))
        between[a] = between[:, a] = sizes @ between[[a, b]]
        between[b] = between[:, b] = -np.inf
        between[a, a] = -np.inf
        ends = [(x, y) for x in (one, one[::-1]) for y in (other, other[::-1])]
        one, other = max(ends, key=lambda pair: alike[pair[0][-1], pair[1][0]])
        groups[a] = one + other
    (joined,) = groups.values() or [[]]
    return np.concatenate([moving[np.asarray(joined, dtype=int)], np.flatnonzero(still)])


def _columns(values: np.ndarray, valid: np.ndarray, width: int) -> np.ndarray:
    """Return the mean over the valid steps of each column, (features, columns)."""
    starts = np.arange(0, len(values), width)
    with np.errstate(invalid="ignore"):  # a mean of nothing, or of infinities, is NaN
        sums = np.add.reduceat(np.where(valid[:, None], values, 0.0), starts, axis=0)
        return (sums / np.add.reduceat(valid.astype(int), starts)[:, None]).T


def _saturation(name: str, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return at which share of the steps each unit is near the lower and the upper end of its range."""
    lower, upper = ENDS[name]
    values = np.tanh(values) if name == "c" else values
    steps = max(len(values), 1)
    return np.sum(values < lower, axis=0) / steps, np.sum(values > upper, axis=0) / steps
