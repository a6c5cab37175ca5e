r"""
Layer normalisation on NumPy's arrays, in buffers that are there.

The mean that is subtracted from a product is the product with the mean of the weights' rows: weights from which that
was subtracted beforehand make products that are centred. What is left to do at each step is to divide by
:math:`\sqrt{\overline{v^2} + \epsilon}`, to scale and to shift; only the cell state has to be centred, too.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from lstm_xp._options import CellOptions
from lstm_xp.engines._host import Array


class Norms(NamedTuple):
    """
    What normalises a cell's products and its cell state; gates in the order o, i, f, g, halved where they are sigmoids.

    `gamma_x` is for the product with the input, where that is normalised by itself, else None; `gamma` for that with
    the hidden state, or their sum, of which so many `groups` of rows are normalised apart; `shift` is added in the end.
    """

    gamma_x: Array | None
    gamma: Array
    shift: Array
    groups: int
    gamma_c: Array
    beta_c: Array
    eps: float


def prepare_norms(norm: Array, bias: Array | None, options: CellOptions, gates: Callable[[Array], Array]) -> Norms:
    """
    Return a cell's norms.

    Parameters
    ----------
    norm : array
        `CellWeights.norm`.
    bias : array, shape (4*hidden_size,), or None
        The sum of the biases.
    options : CellOptions
        The variant of the cell.
    gates : callable
        It orders and scales the rows of an array of shape (4*hidden_size, ...).

    Returns
    -------
    Norms
        The norms.
    """
    joint = options.norm_gates == "joint"
    n = norm.shape[1] // (9 if joint else 5)
    gamma_c, beta_c = norm[:, -n:]
    blocks = [gates(norm[:, start : start + 4 * n].T).T.copy() for start in range(0, norm.shape[1] - n, 4 * n)]
    shift = np.sum([block[1] for block in blocks], axis=0)
    if bias is not None:
        shift += gates(bias)[:, 0]
    gamma_x = blocks[0][0] if joint else None
    return Norms(gamma_x, blocks[-1][0], shift, 1 if joint else 4, gamma_c, beta_c, options.norm_eps)


def centre(weights: Array, groups: int) -> Array:
    """Return weights whose products have a mean of 0 in each group of rows."""
    grouped = weights.reshape(groups, -1, weights.shape[1])
    mean = grouped.mean(axis=1, keepdims=True, dtype=np.float64).astype(weights.dtype)
    centred: Array = grouped - mean
    return centred.reshape(weights.shape)


def complete_input(z: Array, norms: Norms) -> None:
    """Make of ``W_ih x``, shape (..., 4*hidden_size), what is added to the product with the hidden state."""
    if norms.gamma_x is not None:
        variance = np.einsum("...k,...k->...", z, z)[..., None] / z.dtype.type(z.shape[-1])
        z /= np.sqrt(variance + z.dtype.type(norms.eps))
        z *= norms.gamma_x
        z += norms.shift


def norm_of_products(norms: Norms, z: Array) -> Callable[[], None]:
    """
    Return what normalises the products, which are centred, in place.

    Parameters
    ----------
    norms : Norms
        The norms.
    z : array, shape (4*hidden_size, batch) or (4*hidden_size,)
        The products with the hidden state, or the sums with those with the input.

    Returns
    -------
    callable
        The function.
    """
    shift = norms.shift if norms.gamma_x is None else None
    return _make_norm(z, norms.groups, norms.eps, norms.gamma, shift)


def norm_of_cells(norms: Norms, c: Array, out: Array) -> Callable[[], None]:
    """
    Return what writes the normalised cell state.

    Parameters
    ----------
    norms : Norms
        The norms.
    c : array, shape (hidden_size, batch) or (hidden_size,)
        The cell state.
    out : array, like c
        What is overwritten; it may be c itself.

    Returns
    -------
    callable
        The function.
    """
    normalise = _make_norm(out, 1, norms.eps, norms.gamma_c, norms.beta_c)
    average, mean = _make_mean(c.reshape(1, *c.shape))
    average_rest, rest = _make_mean(out.reshape(1, *out.shape))
    subtract = np.subtract

    def centre_and_normalise() -> None:
        average()
        subtract(c, mean[0], out)
        # The weights of a mean are rounded: of one that is large beside what varies, something is left.
        average_rest()
        subtract(out, rest[0], out)
        normalise()

    return centre_and_normalise


def _make_norm(z: Array, groups: int, eps: float, gamma: Array, beta: Array | None) -> Callable[[], None]:
    """Return what normalises centred numbers in place, each group of rows for itself."""
    shape = (groups, -1, *z.shape[1:])
    grouped, squares = z.reshape(shape), np.empty_like(z).reshape(shape)
    average, mean = _make_mean(squares)
    columns = (-1, 1) if z.ndim > 1 else -1
    scale, shift = gamma.reshape(columns), None if beta is None else beta.reshape(columns)
    small = np.array(eps, z.dtype)
    multiply, add, sqrt, divide = np.multiply, np.add, np.sqrt, np.divide

    def normalise() -> None:
        multiply(grouped, grouped, squares)
        average()
        add(mean, small, mean)
        sqrt(mean, mean)
        divide(grouped, mean, grouped)
        multiply(z, scale, z)
        if shift is not None:
            add(z, shift, z)

    return normalise


def _make_mean(array: Array) -> tuple[Callable[[], None], Array]:
    """Return what computes the means over the second axis, and where it writes them."""
    groups, count, *batch = array.shape
    weights, means = np.full(count, 1 / count, array.dtype), np.empty((groups, *batch), array.dtype)

    def of_vectors() -> None:
        array.dot(weights, means)

    def of_batches() -> None:
        np.matmul(weights, array, means)

    return of_batches if batch else of_vectors, means.reshape(groups, 1, *batch)
