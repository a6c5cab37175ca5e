"""Initial weights: drawn once with NumPy's generator, so that a seed means the same numbers in every library."""

from __future__ import annotations  # lest the annotations import numpy.random

import math
from typing import TYPE_CHECKING

import numpy as np

from lstm_xp._weights import CellWeights, Layers, Sizes, cell_shapes

if TYPE_CHECKING:
    from collections.abc import Callable

    Draw = Callable[[str, tuple[int, ...], Sizes, np.random.Generator], np.ndarray]


def initial_layers(sizes: Sizes, init: str, seed: int | None, *, bias: bool) -> Layers:
    """
    Draw the weights of a network, in float64, in the order of torch's state dict.

    Parameters
    ----------
    sizes : Sizes
        The network's sizes.
    init : {"uniform", "glorot"}
        The rule; see `lstm_xp.LSTM`.
    seed : int or None
        The seed of NumPy's default generator.
    bias : bool
        Whether there are biases.

    Returns
    -------
    tuple of tuple of CellWeights
        NumPy arrays.

    Raises
    ------
    ValueError
        There is no such rule, or no such seed.
    """
    if not isinstance(init, str) or init not in _RULES:
        msg = f"`init` is {init!r}, expected one of {', '.join(_RULES)}"
        raise ValueError(msg)
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0):
        msg = f"`seed` is {seed!r}, expected an integer of at least 0, or None"
        raise ValueError(msg)
    draw, rng = _RULES[init], np.random.default_rng(seed)
    fields = ["weight_ih", "weight_hh"] + ["bias_ih", "bias_hh"] * bias + ["weight_hr"] * bool(sizes.proj_size)
    return tuple(
        tuple(
            CellWeights(**{field: draw(field, cell_shapes(sizes, k)[field].sizes, sizes, rng) for field in fields})
            for _ in range(sizes.num_directions)
        )
        for k in range(sizes.num_layers)
    )


def _uniform(_field: str, shape: tuple[int, ...], sizes: Sizes, rng: np.random.Generator) -> np.ndarray:
    """Draw by torch's rule: everything uniform within 1/sqrt(hidden_size)."""
    bound = 1.0 / math.sqrt(sizes.hidden_size)
    return rng.uniform(-bound, bound, shape)


def _glorot(field: str, shape: tuple[int, ...], sizes: Sizes, rng: np.random.Generator) -> np.ndarray:
    """Draw each gate's block as the layer that it is."""
    if field == "weight_ih":
        return np.concatenate([_glorot_uniform((shape[0] // 4, shape[1]), rng) for _ in range(4)])
    if field == "weight_hh":
        return np.concatenate([_orthogonal((shape[0] // 4, shape[1]), rng) for _ in range(4)])
    if field == "weight_hr":
        return _glorot_uniform(shape, rng)
    return forget_bias(sizes.hidden_size, 1.0 if field == "bias_hh" else 0.0)


def forget_bias(hidden_size: int, value: float) -> np.ndarray:
    """Return a bias that is `value` on the forget gate and zero elsewhere."""
    return np.repeat([0.0, value, 0.0, 0.0], hidden_size)


def _glorot_uniform(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Draw by Glorot and Bengio, 2010, https://proceedings.mlr.press/v9/glorot10a.html, equation 16."""
    bound = math.sqrt(6.0 / sum(shape))
    return rng.uniform(-bound, bound, shape)


def _orthogonal(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Draw a matrix with orthonormal columns (or rows), uniformly: Mezzadri, 2007, https://arxiv.org/abs/math-ph/0609050."""
    rows, columns = shape
    q, r = np.linalg.qr(rng.standard_normal((max(shape), min(shape))))
    unique: np.ndarray = q * np.sign(np.diagonal(r))
    return unique if rows >= columns else unique.T


_RULES: dict[str, Draw] = {"uniform": _uniform, "glorot": _glorot}
