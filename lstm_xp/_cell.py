r"""
The LSTM, once: one step of one cell.

With the input :math:`x_t`, the hidden state :math:`h_{t-1}` and the cell state :math:`c_{t-1}`,

.. math::

    i_t &= \sigma(W_{ii} x_t + b_{ii} + W_{hi} h_{t-1} + b_{hi} + p_i \odot c_{t-1}) \\
    f_t &= \sigma(W_{if} x_t + b_{if} + W_{hf} h_{t-1} + b_{hf} + p_f \odot c_{t-1}) \\
    g_t &= \tanh(W_{ig} x_t + b_{ig} + W_{hg} h_{t-1} + b_{hg}) \\
    c_t &= f_t \odot c_{t-1} + i_t \odot g_t \\
    o_t &= \sigma(W_{io} x_t + b_{io} + W_{ho} h_{t-1} + b_{ho} + p_o \odot c_t) \\
    h_t &= W_{hr} (o_t \odot \tanh(c_t))

where the peepholes :math:`p` and the projection :math:`W_{hr}` are optional. The four input matrices lie below one
another in ``weight_ih``, in torch's order i, f, g, o; the recurrent matrices so in ``weight_hh``.

With layer normalisation, :math:`N(v) = \gamma \odot (v - \bar v) / \sqrt{\overline{(v - \bar v)^2} + \epsilon} + \beta`
with the means over the features, the pre-activations of all gates are :math:`N(W_i x_t) + N(W_h h_{t-1}) + b` or, gate
by gate, :math:`N(W_i x_t + W_h h_{t-1}) + b`; and the output is :math:`o_t \odot \tanh(N(c_t))`, where either
:math:`c_t` or :math:`N(c_t)` is carried on.

The cell is that of Hochreiter and Schmidhuber [1]_ with the forget gate of Gers, Schmidhuber and Cummins [2]_, the
peepholes of Gers, Schraudolph and Schmidhuber [3]_, the projection of Sak, Senior and Beaufays [4]_ and the layer
normalisation of Ba, Kiros and Hinton [6]_. Coupled gates and the other variants are compared by Greff et al. [5]_.

References
----------
.. [1] S. Hochreiter, J. Schmidhuber, "Long short-term memory", Neural Computation 9(8), 1997.
.. [2] F. A. Gers, J. Schmidhuber, F. Cummins, "Learning to forget: continual prediction with LSTM", Neural Computation
   12(10), 2000.
.. [3] F. A. Gers, N. N. Schraudolph, J. Schmidhuber, "Learning precise timing with LSTM recurrent networks", Journal of
   Machine Learning Research 3, 2002.
.. [4] H. Sak, A. Senior, F. Beaufays, "Long short-term memory based recurrent neural network architectures for large
   vocabulary speech recognition", 2014, https://arxiv.org/abs/1402.1128.
.. [5] K. Greff et al., "LSTM: a search space odyssey", IEEE Transactions on Neural Networks and Learning Systems
   28(10), 2017, https://arxiv.org/abs/1503.04069.
.. [6] J. L. Ba, J. R. Kiros, G. E. Hinton, "Layer normalization", 2016, https://arxiv.org/abs/1607.06450.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from lstm_xp._checks import Shape, describe, read_state
from lstm_xp._namespace import accepted_libraries, standard_namespace, without_autocast
from lstm_xp._options import CellOptions, activation_function, clip_function
from lstm_xp._typing import Array, ArrayT, Namespace
from lstm_xp._weights import CellWeights, check_input, check_options, read_network, total_bias

State: TypeAlias = tuple[Array, Array]


class Moment(NamedTuple):
    """All that one step makes: the new hidden and cell state, and the gates after their activations."""

    h: Array
    c: Array
    i: Array
    f: Array
    g: Array
    o: Array


class Cell(NamedTuple):
    """
    The cell in two halves: what reads the hidden state, and what reads the cell state.

    Parameters
    ----------
    add_up : callable
        ``add_up(z, h) -> z``: the pre-activations of all gates, without peepholes, of what `project_input` returns for
        one time step, shape (..., 4*hidden_size), and the hidden state, (..., proj_size or hidden_size).
    activate : callable
        ``activate(z, c) -> Moment`` of these and the cell state, shape (..., hidden_size).
    """

    add_up: Callable[[Array, Array], Array]
    activate: Callable[[Array, Array], Moment]


Step: TypeAlias = Callable[[Array, State], Moment]


def project_input(x: Array, weights: CellWeights, options: CellOptions, xp: Namespace) -> Array:
    """
    Return what the input contributes to the pre-activations, for all time steps at once.

    Parameters
    ----------
    x : array, shape (..., input_size)
        The input.
    weights : CellWeights
        The weights.
    options : CellOptions
        The variant of the cell.
    xp : array namespace
        The library that computes.

    Returns
    -------
    array, shape (..., 4*hidden_size)
        ``W_ih x + b_ih + b_hh``, gates in torch's order.
    """
    # tensordot, not a reshape to two dimensions: it keeps a sharded or unknown batch size as it is.
    return make_completion(weights, options, xp)(xp.tensordot(x, weights.weight_ih, axes=((x.ndim - 1,), (1,))))


def make_completion(weights: CellWeights, options: CellOptions, xp: Namespace) -> Callable[[Array], Array]:
    """Return the function that makes what `project_input` returns of ``W_ih x``."""
    norm_x = _make_norms(weights, options, xp).x
    bias = None if _adds_biases_late(weights, options) else total_bias(weights)
    return lambda z: norm_x(z) if bias is None else norm_x(z) + bias


def make_cell(weights: CellWeights, options: CellOptions, xp: Namespace) -> Cell:
    """
    Return the cell.

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
    Cell
        Its two halves.
    """
    gate, candidate, squash = (activation_function(spec, xp) for spec in options.activations)
    clip_gates, clip_cell, clip_proj = (
        clip_function(bound, xp) for bound in (options.clip_gates, options.clip_cell, options.clip_proj)
    )
    w_hh = xp.matrix_transpose(weights.weight_hh)
    w_hr = None if weights.weight_hr is None else xp.matrix_transpose(weights.weight_hr)
    p_i, p_f, p_o = peepholes(weights)
    n = weights.weight_hh.shape[0] // 4
    _, norm_h, norm_sum, norm_c = _make_norms(weights, options, xp)
    bias = total_bias(weights) if _adds_biases_late(weights, options) else None

    def add_up(z: Array, h_old: Array) -> Array:
        z = norm_sum(z + norm_h(h_old @ w_hh))
        return z if bias is None else z + bias

    def activate(z: Array, c_old: Array) -> Moment:
        z_i, z_f, z_g, z_o = (z[..., k * n : (k + 1) * n] for k in range(4))

        i = gate(clip_gates(peep(p_i, z_i, c_old)))
        f = 1.0 - i if options.coupled else gate(clip_gates(peep(p_f, z_f, c_old)))
        g = candidate(clip_gates(z_g))
        c = f * c_old + i * g
        c = clip_cell(norm_c(c) if options.norm_carry else c)
        shown = c if options.norm_carry else norm_c(c)
        o = gate(clip_gates(peep(p_o, z_o, c if options.peephole_output == "new" else c_old)))
        h = o * squash(shown)
        return Moment(h if w_hr is None else clip_proj(h @ w_hr), c, i, f, g, o)

    return Cell(add_up, activate)


def make_step(weights: CellWeights, options: CellOptions, xp: Namespace) -> Step:
    """
    Return the cell as a function of the projected input and the state.

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
    callable
        ``step(z, (h, c)) -> Moment`` with z of shape (..., 4*hidden_size), what `project_input` returns for one time
        step, h of shape (..., proj_size or hidden_size), and c and the gates of shape (..., hidden_size).
    """
    add_up, activate = make_cell(weights, options, xp)
    return lambda z, state: activate(add_up(z, state[0]), state[1])


def peepholes(weights: CellWeights) -> tuple[Array | None, Array | None, Array | None]:
    """Return the peepholes of i, f and o, or None for each."""
    p = weights.peephole
    return (None, None, None) if p is None else (p[0, :], p[1, :], p[2, :])


def peep(peephole: Array | None, z: Array, c: Array) -> Array:
    """Add what a gate sees of the cell state."""
    return z if peephole is None else z + peephole * c


class _Norms(NamedTuple):
    """What normalises the products with the input and the hidden state, their sum, and the cell state."""

    x: Callable[[Array], Array]
    h: Callable[[Array], Array]
    sum: Callable[[Array], Array]
    c: Callable[[Array], Array]


def _unchanged(array: Array) -> Array:
    return array


def _make_norms(weights: CellWeights, options: CellOptions, xp: Namespace) -> _Norms:
    """Return the layer normalisations that a cell has; elsewhere nothing is changed."""
    norm, n = weights.norm, weights.weight_hh.shape[0] // 4
    if norm is None:
        return _Norms(_unchanged, _unchanged, _unchanged, _unchanged)

    def normalise(z: Array, first: int, count: int = 1) -> Array:
        """Normalise over the last axis, by so many blocks of the columns of `norm`."""
        gamma, beta = (norm[row, first * n : (first + count) * n] for row in range(2))
        return gamma * standardise(z, options, xp)[0] + beta

    def normalise_each(z: Array) -> Array:
        return xp.concat([normalise(z[..., k * n : (k + 1) * n], k) for k in range(4)], axis=-1)

    if options.norm_gates == "joint":
        return _Norms(lambda z: normalise(z, 0, 4), lambda z: normalise(z, 4, 4), _unchanged, lambda c: normalise(c, 8))
    return _Norms(_unchanged, _unchanged, normalise_each, lambda c: normalise(c, 4))


def standardise(z: Array, options: CellOptions, xp: Namespace) -> tuple[Array, Array]:
    """Return numbers with a mean of 0 and a variance of 1 over the last axis, and what they were divided by."""
    centred = z - xp.mean(z, axis=-1, keepdims=True)
    deviation = xp.sqrt(xp.mean(centred * centred, axis=-1, keepdims=True) + options.norm_eps)
    return centred / deviation, deviation


def _adds_biases_late(weights: CellWeights, options: CellOptions) -> bool:
    """Tell whether the biases are added to what was normalised of both products' sum, not to the input's product."""
    return weights.norm is not None and options.norm_gates == "each"


def zero_state(z: Array, weights: CellWeights, xp: Namespace) -> State:
    """
    Return zeros for the state before the first step.

    They are made like something computed, so that dtype, device and even an unknown batch size come along.

    Parameters
    ----------
    z : array, shape (..., 4*hidden_size)
        The projected input of one time step.
    weights : CellWeights
        The weights.
    xp : array namespace
        The library that computes.

    Returns
    -------
    tuple of array
        ``(h_0, c_0)``.
    """
    c = xp.zeros_like(z[..., : weights.weight_hh.shape[0] // 4])
    if weights.weight_hr is None:
        return c, c
    return xp.zeros_like(c @ xp.matrix_transpose(weights.weight_hr)), c


def lstm_cell(
    x: ArrayT,
    weights: CellWeights,
    state: tuple[Any, Any] | None = None,
    *,
    options: CellOptions = CellOptions(),
    xp: Namespace | None = None,
) -> tuple[ArrayT, ArrayT]:
    """
    Run one step of one LSTM cell.

    Parameters
    ----------
    x : array, shape (..., input_size)
        The input of one time step, with any number of batch dimensions.
    weights : CellWeights
        The weights, of x's library, dtype and device.
    state : tuple of two arrays, optional
        ``(h, c)``: the hidden state, shape (..., proj_size or hidden_size), and the cell state, (..., hidden_size).
        Zeros if absent. Batch dimensions that are all 1 are broadcast.
    options : CellOptions, optional
        The variant of the cell.
    xp : array namespace, optional
        The library that computes. It spares asking the arrays for it, and with it their libraries and devices are not
        checked: a caller that passes it answers for them.

    Returns
    -------
    h : array, shape (..., proj_size or hidden_size)
        The new hidden state, which is the output.
    c : array, shape (..., hidden_size)
        The new cell state.

    Raises
    ------
    TypeError
        An argument is not an array, or not of the same library or dtype as the others.
    ValueError
        A shape or size does not fit, or a device differs.

    Examples
    --------
    >>> import numpy as np
    >>> import lstm_xp as lx
    >>> (weights,) = lx.LSTM(input_size=5, hidden_size=4, seed=0).weights[0]
    >>> h, c = lx.lstm_cell(np.ones((3, 5), np.float32), weights)
    >>> h.shape, c.shape
    ((3, 4), (3, 4))
    """
    own_xp, given = read_cell_call(x, weights, state, options, xp)
    with without_autocast(x):
        z = project_input(x, weights, options, own_xp)
        start = zero_state(z, weights, own_xp) if given is None else given
        h, c, *_ = make_step(weights, options, own_xp)(z, start)
        return h, c


def read_cell_call(
    x: Array, weights: CellWeights, state: tuple[Any, Any] | None, options: CellOptions, xp: Namespace | None
) -> tuple[Namespace, State | None]:
    """
    Check the arguments of `lstm_cell`.

    Parameters
    ----------
    x, weights, state, options, xp
        Those.

    Returns
    -------
    xp : array namespace
        The library that computes.
    state : tuple of two arrays or None
        The state, in that library.

    Raises
    ------
    TypeError, ValueError
        They do not fit.
    """
    if not isinstance(weights, CellWeights):
        msg = f"`weights` is {describe(weights)}, expected CellWeights"
        raise TypeError(msg)
    if not isinstance(options, CellOptions):
        msg = f"`options` is {options!r}, expected CellOptions"
        raise TypeError(msg)
    if xp is not None:
        xp = standard_namespace(xp)
    network = read_network(weights, lambda field, *_: field, xp)
    check_options(options, network)
    own_xp = check_input(x, network, xp)
    if state is None:
        return own_xp, None
    batch = tuple(x.shape[:-1])
    shapes = [Shape((*batch, n), f"(..., {name})", slice(len(batch))) for n, name in network.sizes.state_sizes]
    libraries = None if xp is not None else accepted_libraries(x, own_xp)
    return own_xp, read_state(state, shapes, x, own_xp, libraries)
