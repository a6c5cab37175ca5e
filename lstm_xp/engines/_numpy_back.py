"""
NumPy's way back through one layer in one direction: five calls a step.

All that does not wait for the step after, the slopes, is made for many steps at once. A step is then two
multiplications, by the slopes of the output gate and of what tanh shows, and by those of the other gates and the forget
gate itself; two sums; and the product with the transposed weights. What many steps make is one matrix, of which one
product each makes the derivatives by the weights and by the input.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeAlias

import numpy as np

from lstm_xp._options import CellOptions
from lstm_xp._weights import CellWeights
from lstm_xp.engines._blas import count_blocks, transposed
from lstm_xp.engines._host import Array
from lstm_xp.engines._host_vjp import Dot, StepsBack

# Elements of what there is for some steps of the way back; so many numbers, or more, a product of theirs adds up.
BUFFER_BACK, DEEP = 2**18, 512


class PreparedBack(NamedTuple):
    """
    A cell's weights as the way back wants them: those of the gates as they are.

    `w` is `weight_hh`, transposed for several rows.
    """

    w: Array
    w_x: Array
    w_hr: Array | None


def prepare_back(weights: CellWeights, _options: CellOptions, batch: int) -> PreparedBack:
    """Return the weights for the way back through one row, or through several."""
    w = weights.weight_hh
    return PreparedBack(
        w if batch == 1 else transposed(w), np.require(weights.weight_ih, None, ("C", "A")), weights.weight_hr
    )


# walk(times, d_h) goes back over some steps. d_h, shape (time, rows, batch), has what the output's derivative is and
# is overwritten by that by the hidden state. It returns that by the pre-activations, i, f, g and o, shape
# (4*hidden_size, time*batch), and the hidden state before its projection, (hidden_size, time*batch), if there is one.
Walk: TypeAlias = Callable[[slice, Array], tuple[Array, Array | None]]


def length_of_round(steps: StepsBack) -> int:
    """Return how many steps of the way back are taken at once."""
    return min(len(steps.x), max(1, BUFFER_BACK // (6 * steps.c.size), DEEP // len(steps.c)))


def pull_steps(prepared: PreparedBack, steps: StepsBack, walk: Walk, dot: Dot = np.dot) -> None:
    """
    Go back through one layer in one direction, in as many rounds as the buffer wants.

    Parameters
    ----------
    prepared : PreparedBack
        The weights.
    steps : StepsBack
        The steps.
    walk : callable
        Goes back over those of a round.
    dot : callable, optional
        Multiplies matrices: an engine has one BLAS for all, whose threads do not wait for those of another.
    """
    (time, batch, _), size, sums = steps.x.shape, steps.h.shape[1], steps.sums
    length = length_of_round(steps)
    d_h = np.empty((length, size, batch), steps.h.dtype)
    for stop in range(time, 0, -length):
        times = slice(max(0, stop - length), stop)
        x, d_x, hidden = steps.x[times], steps.d_x[times], steps.hidden[max(0, times.start - 1) : stop - 1]
        if times.start == 0:
            hidden = np.concatenate([steps.h[None], hidden])
        count = len(x)
        np.copyto(d_h[:count], steps.d_output[times].transpose(0, 2, 1))
        d_z, projected = walk(times, d_h[:count])
        sums.weight_ih.add(dot, d_z, np.require(x, None, ("C", "A")).reshape(count * batch, -1))
        sums.weight_hh.add(dot, d_z, np.ascontiguousarray(hidden).reshape(count * batch, size))
        if sums.bias is not None:
            sums.bias.add(_sum_of_columns, d_z)
        if sums.weight_hr is not None and projected is not None:
            d_projection = d_h[:count].transpose(1, 0, 2)
            if steps.mask is not None:
                d_projection = np.where(steps.mask[times], d_projection, 0)
            sums.weight_hr.add(dot, np.ascontiguousarray(d_projection).reshape(size, -1), projected.T)
        out = d_x if d_x.flags.c_contiguous else np.empty(d_x.shape, d_x.dtype)
        dot(d_z.T, prepared.w_x, out.reshape(count * batch, -1))
        if out is not d_x:
            d_x[...] = out


def _sum_of_columns(matrix: Array, out: Array) -> None:
    np.sum(matrix, axis=1, out=out)


def loop_back(prepared: PreparedBack, steps: StepsBack, one_thread: bool) -> None:
    """Go back through one layer in one direction."""
    w, _, w_hr = prepared
    (batch, n), size, dtype, inside = steps.c.shape, steps.h.shape[1], steps.c.dtype, steps.kept
    length = length_of_round(steps)
    slopes, cells = np.empty((length, 6, n, batch), dtype), np.empty((length, n, batch), dtype)
    vector = batch == 1
    add, multiply = np.add, np.multiply
    d_h, d_c = steps.d_h.T.copy(), steps.d_c.T.copy()
    d_hidden = np.empty_like(d_c)
    if vector:
        d_h, d_c, d_hidden = d_h[:, 0], d_c[:, 0], d_hidden[:, 0]
    product, d_h_parts = (w.T if vector else w).dot, d_h
    blocks = 1 if vector else count_blocks(size, 4 * n, batch, one_thread)
    if blocks > 1:
        product, d_h_parts = partial(np.matmul, w.reshape(blocks, -1, 4 * n)), d_h.reshape(blocks, -1, batch)

    def walk(times: slice, d_output: Array) -> tuple[Array, Array | None]:
        count = len(d_output)
        some, hidden = slopes[:count], cells[:count]
        before = steps.c.T if times.start == 0 else inside[times.start - 1, 4]
        write_slopes(inside[times], before, some, hidden)
        invalid = None
        if steps.mask is not None:
            invalid = np.logical_not(steps.mask[times], order="C")[:, None]
            np.copyto(some, 0, where=invalid[:, None])
            np.copyto(some[:, 0], 1, where=invalid)
        rows = some[..., 0] if vector else some
        of_h, of_c = (list(part) for part in (rows[:, 4:], rows[:, :4]))
        new, d_gates = list(rows[:, 5]), list(rows[:, 1:5].reshape(count, 4 * n, *rows.shape[3:]))
        carried, d_now = list(rows[:, 0]), list(d_output[..., 0] if vector else d_output)
        after = d_c
        for t in range(count - 1, -1, -1):
            d = d_now[t]
            add(d, d_h, d)
            d_hid = d if w_hr is None else w_hr.T.dot(d, d_hidden)
            multiply(d_hid, of_h[t], of_h[t])
            add(new[t], after, new[t])
            multiply(new[t], of_c[t], of_c[t])
            after = carried[t]
            product(d_gates[t], d_h_parts)
            if invalid is not None:
                add(d_h, d, d_h, where=invalid[t, 0])
        d_c[...] = after
        d_z = some.reshape(count, 6 * n, batch)[:, n : 5 * n]
        d_z = d_z[..., 0].T if vector else d_z.transpose(1, 0, 2).reshape(4 * n, count * batch)
        if w_hr is None:
            return d_z, None
        multiply(hidden, inside[times, 0], hidden)
        multiply(hidden, dtype.type(0.5), hidden)
        return d_z, hidden.transpose(1, 0, 2).reshape(n, count * batch)

    pull_steps(prepared, steps, walk)
    steps.d_h[...], steps.d_c[...] = d_h.reshape(size, batch).T, d_c.reshape(n, batch).T


def write_slopes(inside: Array, before: Array, slopes: Array, tanh_c: Array) -> None:
    r"""
    Write the slopes of some steps.

    Parameters
    ----------
    inside : array, shape (time, 5, hidden_size, batch)
        What `Run` writes.
    before : array, shape (hidden_size, batch)
        The cell state before the first step.
    slopes : array, shape (time, 6, hidden_size, batch)
        To be overwritten: by which the derivative by the cell state is to be multiplied for that by the old one and by
        the pre-activations of i, f and g; by which the derivative by the hidden state is for the one by the
        pre-activation of o and for what it adds to that by the cell state.
    tanh_c : array, shape (time, hidden_size, batch)
        To be overwritten.
    """
    o, i, f, g, c = (inside[:, k] for k in range(5))
    _, s_i, s_f, s_g, s_o, s_h = (slopes[:, k] for k in range(6))
    np.tanh(c, tanh_c)
    # A sigmoid's slope is s(1 - s), that of tanh 1 - t^2. Sigmoids are doubled: the factors come last.
    for sigmoids, slope in ((inside[:, 1:3], slopes[:, 1:3]), (o, s_o)):
        np.subtract(2, sigmoids, slope)
        np.multiply(slope, sigmoids, slope)
    for tanh, sigmoid, slope in ((g, i, s_g), (tanh_c, o, s_h)):
        np.multiply(tanh, tanh, slope)
        np.subtract(1, slope, slope)
        np.multiply(slope, sigmoid, slope)
    np.multiply(s_i, g, s_i)
    np.multiply(s_f[0], before, s_f[0])
    np.multiply(s_f[1:], c[:-1], s_f[1:])
    np.multiply(s_o, tanh_c, s_o)
    slopes[:, 0] = f
    np.multiply(slopes, np.array([0.5, 0.25, 0.25, 0.5, 0.25, 0.5], slopes.dtype)[:, None, None], slopes)
