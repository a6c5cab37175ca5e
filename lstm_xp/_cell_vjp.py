r"""
The derivative of the LSTM, once: one step of one cell, backward.

With :math:`\bar a` for the derivative of a loss by :math:`a`, and the names of `lstm_xp._cell`, what comes back to a
step is :math:`\bar h_t` and :math:`\bar c_t`. With :math:`y_t = \tanh(c_t)`,

.. math::

    \bar y_t &= o_t \odot (W_{hr}^\top \bar h_t), \qquad
    \bar o_t = y_t \odot (W_{hr}^\top \bar h_t), \\
    \bar c_t &\mathrel{+}= (1 - y_t^2) \odot \bar y_t, \\
    \bar i_t &= g_t \odot \bar c_t, \qquad \bar f_t = c_{t-1} \odot \bar c_t, \qquad \bar g_t = i_t \odot \bar c_t, \\
    \bar z_t &= (i'_t \odot \bar i_t,\ f'_t \odot \bar f_t,\ g'_t \odot \bar g_t,\ o'_t \odot \bar o_t), \\
    \bar c_{t-1} &= f_t \odot \bar c_t, \qquad \bar h_{t-1} = W_{hh}^\top \bar z_t,

where :math:`i'_t` is the slope of the activation there. It is linear in what comes back: all that is multiplied by is
known beforehand, for all steps at once (`linearise`). Only that product and a few multiplications go step by step
(`pull`); the derivatives by the input and the weights are one product each for all steps (`gather`).

The transposed normalisation is, with :math:`\hat v = (v - \bar v)/s`, the mean :math:`\langle\cdot\rangle` and
:math:`d = \gamma \odot \bar N`, :math:`(d - \langle d \rangle - \hat v \langle d \hat v \rangle)/s`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from lstm_xp._cell import State, make_cell, peep, peepholes, project_input, standardise
from lstm_xp._options import DEFAULT, CellOptions, activation_function, activation_slope, clip_function, clip_slope
from lstm_xp._typing import Array, Namespace
from lstm_xp._weights import CellWeights

# i, f, g and o, after their activations.
Gates: TypeAlias = tuple[Array, ...]


class Slopes(NamedTuple):
    """
    What a step multiplies by when it goes backward; None where there is nothing to be multiplied.

    Parameters
    ----------
    i, f, g : array, shape (..., hidden_size)
        The derivatives of the new cell state, before it is normalised or clipped, by the pre-activations; that of f is
        None with coupled gates.
    o, c : array, shape (..., hidden_size)
        Those of the hidden state, before it is projected, by the pre-activation of o and by the cell state that it
        shows.
    kept : array, shape (..., hidden_size)
        The share of the old cell state that is kept: the forget gate.
    clip_cell, clip_proj : array or None
        1 where nothing was clipped, else 0.
    z_scaled, z_deviation : array or None
        What was normalised of the gates (of the product with the hidden state, or of the sum), standardised, shape
        (..., 4*hidden_size), and its deviations, (..., 1) or (..., 4).
    c_scaled, c_deviation : array or None
        The same of the cell state.
    """

    i: Array
    f: Array | None
    g: Array
    o: Array
    c: Array
    kept: Array
    clip_cell: Array | None = None
    clip_proj: Array | None = None
    z_scaled: Array | None = None
    z_deviation: Array | None = None
    c_scaled: Array | None = None
    c_deviation: Array | None = None


class Values(NamedTuple):
    """
    What the weights were multiplied by.

    Parameters
    ----------
    x, h, c : array
        The input, and the hidden and the cell state before the step.
    seen : array, shape (..., hidden_size)
        The cell state that the output gate's peephole sees.
    hidden : array, shape (..., hidden_size)
        What is projected.
    x_scaled, x_deviation : array or None
        The product with the input, standardised, and its deviation, where that is normalised by itself.
    """

    x: Array
    h: Array
    c: Array
    seen: Array
    hidden: Array
    x_scaled: Array | None
    x_deviation: Array | None


class Inner(NamedTuple):
    """
    Derivatives of the loss by what is inside of a step, and is multiplied by weights.

    Parameters
    ----------
    z : array, shape (..., 4*hidden_size)
        By the pre-activations.
    projected : array, shape (..., proj_size), or None
        By the projected hidden state before it is clipped.
    normed : array, shape (..., hidden_size), or None
        By the normalised cell state.
    """

    z: Array
    projected: Array | None
    normed: Array | None


class CellVjp(NamedTuple):
    """
    The derivative of a cell.

    Parameters
    ----------
    linearise : callable
        ``linearise(x, h, c, gates) -> (Slopes, Values)``: of the input, the state before a step and the gates, of any
        number of steps. Gates that are None are made again.
    pull : callable
        ``pull(slopes, d_h, d_c) -> ((d_h, d_c), Inner)``: one step backward, from the derivatives by the new states to
        those by the old ones.
    gather : callable
        ``gather(slopes, values, inner) -> (d_x, d_weights)``: of any number of steps.
    """

    linearise: Callable[[Array, Array, Array, Gates | None], tuple[Slopes, Values]]
    pull: Callable[[Slopes, Array, Array], tuple[State, Inner]]
    gather: Callable[[Slopes, Values, Inner], tuple[Array, CellWeights]]


def make_cell_vjp(weights: CellWeights, options: CellOptions, xp: Namespace) -> CellVjp:
    """
    Return the derivative of a cell.

    Parameters
    ----------
    weights : CellWeights
        The weights.
    options : CellOptions
        The variant of the cell.
    xp : array namespace
        The library that computes.

    Returns
    -------
    CellVjp
        Its three parts.
    """
    cell = make_cell(weights, options, xp)
    squash, bound_cell = activation_function(options.activations[2], xp), clip_function(options.clip_cell, xp)
    gate_slope, candidate_slope, squash_slope = (activation_slope(spec, xp) for spec in options.activations)
    clip_gates, clip_cell, clip_proj = (
        clip_slope(bound, xp) for bound in (options.clip_gates, options.clip_cell, options.clip_proj)
    )
    w_ih, w_hh, w_hr, norm = weights.weight_ih, weights.weight_hh, weights.weight_hr, weights.norm
    p_i, p_f, p_o = peepholes(weights)
    n = w_hh.shape[0] // 4
    joint, carry, late = options.norm_gates == "joint", options.norm_carry, options.peephole_output == "new"
    # The columns of the normalisation's weights: for the input, for the hidden state or the sum, for the cell state.
    of_x, of_z, of_c = _columns(n, joint)

    def linearise(x: Array, h: Array, c: Array, gates: Gates | None) -> tuple[Slopes, Values]:
        # The pre-activations: those with peepholes in the end. Where slopes do not look at them, there are none.
        v_i = v_f = v_g = v_o = z = None
        if gates is None or not gates_tell_slopes(options):
            z = cell.add_up(project_input(x, weights, options, xp), h)
            gates = cell.activate(z, c)[2:]
        i, f, g, o = gates
        raw = f * c + i * g
        x_scaled = x_deviation = z_scaled = z_deviation = c_scaled = c_deviation = None
        if norm is not None:
            from_x, from_h = xp.tensordot(x, w_ih, axes=((x.ndim - 1,), (1,))), h @ xp.matrix_transpose(w_hh)
            if joint:
                x_scaled, x_deviation = standardise(from_x, options, xp)
                z_scaled, z_deviation = standardise(from_h, options, xp)
            else:
                z_scaled, z_deviation = _standardise_each(from_x + from_h, n, options, xp)
            c_scaled, c_deviation = standardise(raw if carry else bound_cell(raw), options, xp)
            normed = norm[0, of_c] * c_scaled + norm[1, of_c]
            raw = normed if carry else raw
        new = bound_cell(raw)
        shown = new if norm is None or carry else normed
        y = squash(shown)
        seen, hidden = new if late else c, o * y
        if z is not None:
            v_i, v_f, v_g, v_o = _four(z, n)
            v_i, v_f, v_o = peep(p_i, v_i, c), peep(p_f, v_f, c), peep(p_o, v_o, seen)

        def slope(of: Callable[[Any, Array], Array], v: Array | None, gate: Array) -> Array:
            return of(v, gate) if v is None else _times(of(v, gate), clip_gates(v))

        slopes = Slopes(
            i=slope(gate_slope, v_i, i) * (g - c if options.coupled else g),
            f=None if options.coupled else slope(gate_slope, v_f, f) * c,
            g=slope(candidate_slope, v_g, g) * i,
            o=slope(gate_slope, v_o, o) * y,
            c=squash_slope(shown, y) * o,
            kept=f,
            clip_cell=clip_cell(raw),
            clip_proj=None if w_hr is None else clip_proj(hidden @ xp.matrix_transpose(w_hr)),
            z_scaled=z_scaled,
            z_deviation=z_deviation,
            c_scaled=c_scaled,
            c_deviation=c_deviation,
        )
        return slopes, Values(x, h, c, seen, hidden, x_scaled, x_deviation)

    def pull_z(slopes: Slopes, d_z: Array) -> Array:
        """Go back through the normalisation that the product with the hidden state has a part in."""
        if norm is None:
            return d_z
        gamma, scaled, deviation = norm[0, of_z], slopes.z_scaled, slopes.z_deviation
        if joint:
            return _unscale(gamma * d_z, scaled, deviation, xp)
        parts = zip(_four(gamma * d_z, n), _four(scaled, n), _four(deviation, 1), strict=True)
        return xp.concat([_unscale(*part, xp) for part in parts], axis=-1)

    def pull(slopes: Slopes, d_h: Array, d_c: Array) -> tuple[State, Inner]:
        d_h = _times(d_h, slopes.clip_proj)
        d_hidden = d_h if w_hr is None else d_h @ w_hr
        d_o = d_hidden * slopes.o
        d_shown = d_hidden * slopes.c
        d_normed = None
        if norm is not None and not carry:
            d_normed = d_shown
            d_shown = _unscale(norm[0, of_c] * d_normed, slopes.c_scaled, slopes.c_deviation, xp)
        d_c = d_c + d_shown
        if late:
            d_c = peep(p_o, d_c, d_o)
        d_c = _times(d_c, slopes.clip_cell)
        if norm is not None and carry:
            d_normed = d_c
            d_c = _unscale(norm[0, of_c] * d_normed, slopes.c_scaled, slopes.c_deviation, xp)
        d_i, d_g = d_c * slopes.i, d_c * slopes.g
        d_f = xp.zeros_like(d_i) if slopes.f is None else d_c * slopes.f
        d_c = peep(p_f, peep(p_i, d_c * slopes.kept, d_i), d_f)
        if not late:
            d_c = peep(p_o, d_c, d_o)
        d_z = xp.concat([d_i, d_f, d_g, d_o], axis=-1)
        return (pull_z(slopes, d_z) @ w_hh, d_c), Inner(d_z, None if w_hr is None else d_h, d_normed)

    def gather(slopes: Slopes, values: Values, inner: Inner) -> tuple[Array, CellWeights]:
        steps = tuple(range(inner.z.ndim - 1))

        def total(array: Array) -> Array:
            return xp.sum(array, axis=steps)

        d_sum = pull_z(slopes, inner.z)
        d_x, d_norm = d_sum, None
        if norm is not None:
            normalised = [(inner.z, slopes.z_scaled), (inner.normed, slopes.c_scaled)]
            if joint:
                normalised = [(inner.z, values.x_scaled), *normalised]
                d_x = _unscale(norm[0, of_x] * inner.z, values.x_scaled, values.x_deviation, xp)
            d_gamma = xp.concat([total(d * scaled) for d, scaled in normalised])
            d_norm = xp.stack([d_gamma, xp.concat([total(d) for d, _ in normalised])])
        d_peephole = None
        if weights.peephole is not None:
            d_i, d_f, _, d_o = _four(inner.z, n)
            d_peephole = xp.stack([total(d_i * values.c), total(d_f * values.c), total(d_o * values.seen)])
        d_weights = CellWeights(
            weight_ih=xp.tensordot(d_x, values.x, axes=(steps, steps)),
            weight_hh=xp.tensordot(d_sum, values.h, axes=(steps, steps)),
            # An array for each of them: they may be written into.
            bias_ih=None if weights.bias_ih is None else total(inner.z),
            bias_hh=None if weights.bias_hh is None else total(inner.z),
            weight_hr=None if w_hr is None else xp.tensordot(inner.projected, values.hidden, axes=(steps, steps)),
            peephole=d_peephole,
            norm=d_norm,
        )
        return xp.tensordot(d_x, w_ih, axes=((d_x.ndim - 1,), (0,))), d_weights

    return CellVjp(linearise, pull, gather)


def gates_tell_slopes(options: CellOptions) -> bool:
    """Tell whether the slopes of the gates follow from the gates: those of a sigmoid and a tanh without bounds do."""
    return options.activations[:2] == DEFAULT.activations[:2] and options.clip_gates is None


def _times(array: Array, slope: Array | None) -> Array:
    return array if slope is None else array * slope


def _four(array: Array, n: int) -> tuple[Array, Array, Array, Array]:
    """Return the parts for the four gates."""
    return array[..., :n], array[..., n : 2 * n], array[..., 2 * n : 3 * n], array[..., 3 * n :]


def _columns(n: int, joint: bool) -> tuple[slice, slice, slice]:
    first = 4 * n if joint else 0
    return slice(4 * n), slice(first, first + 4 * n), slice(first + 4 * n, first + 5 * n)


def _standardise_each(z: Array, n: int, options: CellOptions, xp: Namespace) -> tuple[Array, Array]:
    """Standardise gate by gate; return all four side by side, and their deviations."""
    each = [standardise(part, options, xp) for part in _four(z, n)]
    return xp.concat([scaled for scaled, _ in each], axis=-1), xp.concat([by for _, by in each], axis=-1)


def _unscale(d: Array, scaled: Array, deviation: Array, xp: Namespace) -> Array:
    """Go back through `standardise`."""
    mean, slope = xp.mean(d, axis=-1, keepdims=True), xp.mean(d * scaled, axis=-1, keepdims=True)
    return (d - mean - scaled * slope) / deviation
