"""
The equations once more: one row, one step, one number after the other, as papers and ONNX's documents have them.

For the variants of the cell that no oracle knows. Slow, in float64, and by other formulas than the package's wherever
there are two. Layer normalisation is that of Ba et al. (https://arxiv.org/abs/1607.06450, equations 20 to 22) or, where
that is asked for, of TensorFlow 1 (tf.contrib.rnn.LayerNormLSTMCell); tests/test_published.py has them run. Zoneout is
that of Krueger et al. (https://arxiv.org/abs/1606.01305: h is made of the new cell state, of which no part is old); one
mask of the recurrent state for all steps is that of Gal and Ghahramani (https://arxiv.org/abs/1512.05287); DropConnect,
of the recurrent weights, that of Merity, Keskar and Socher (https://arxiv.org/abs/1708.02182).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp, fsum, log, sqrt, tanh
from statistics import fmean, pvariance
from typing import Any

import numpy as np

import lstm_xp as lx
from conformance import oracle
from conformance.cases import Case
from conformance.oracle import Answer

Arrays = dict[str, np.ndarray]
State = tuple[np.ndarray, np.ndarray]
NO_NOISE = lx.Noise()

# https://onnx.ai/onnx/operators/onnx__LSTM.html, with the defaults of alpha and beta.
ACTIVATIONS: dict[str, Callable[..., float]] = {
    "affine": lambda z, alpha=1.0, beta=0.0: alpha * z + beta,
    "elu": lambda z, alpha=1.0: z if z >= 0 else alpha * (exp(z) - 1),
    "hard_sigmoid": lambda z, alpha=0.2, beta=0.5: min(max(alpha * z + beta, 0.0), 1.0),
    "leaky_relu": lambda z, alpha=0.01: z if z >= 0 else alpha * z,
    "relu": lambda z: max(z, 0.0),
    "scaled_tanh": lambda z, alpha=1.0, beta=1.0: alpha * tanh(beta * z),
    "sigmoid": lambda z: 1 / (1 + exp(-z)),
    "softplus": lambda z: log(1 + exp(z)),
    "softsign": lambda z: z / (1 + abs(z)),
    "tanh": tanh,
    "thresholded_relu": lambda z, alpha=1.0: z if z > alpha else 0.0,
}


@dataclass(frozen=True, kw_only=True)
class Variant:
    """What `lstm_xp.CellOptions` takes, as it is given."""

    activations: tuple[Any, Any, Any] = ("sigmoid", "tanh", "tanh")
    clip_gates: float | None = None
    clip_cell: float | None = None
    clip_proj: float | None = None
    coupled: bool = False
    peephole_output: str = "new"
    norm_carry: bool = False
    norm_gates: str = "joint"
    norm_eps: float = 1e-5


Variants = Variant | tuple[Variant, Variant]


def answer(case: Case, variant: Variants) -> Answer:
    """
    Return what the equations give.

    Parameters
    ----------
    case : Case
        The case.
    variant : Variant or tuple of two of them
        The variant of the cell, in place of the case's; two are for the directions.

    Returns
    -------
    tuple of numpy.ndarray
        The output, h_n and c_n in float64, laid out as the case is.
    """

    variants = variant if isinstance(variant, tuple) else (variant, variant)

    def whole(x: np.ndarray, state: State, reverse: bool, noise: lx.Noise = NO_NOISE) -> Answer:
        x, finals = _dropped(x, noise.inputs), []
        for k, layer in enumerate(case.weights()):
            x = x if k == 0 or noise.between is None else _dropped(x, noise.between[k - 1])
            outputs = []
            for direction, cell in enumerate(layer):
                row = len(finals)
                masks = lx.Noise(*(None if mask is None else mask[row] for mask in (None, None, *noise[2:])))
                w = {name: array.astype("float64") for name, array in cell._asdict().items() if array is not None}
                w["weight_hh"] = _dropped(w["weight_hh"], masks.weight_hh)
                start = tuple(array[row].astype("float64") for array in state)
                output, final = _over_time(x, start, w, variants[direction], masks, backward=reverse or direction == 1)
                outputs.append(output)
                finals.append(final)
            x = np.concatenate(outputs, axis=2)
        return x, *(np.stack(each) for each in zip(*finals, strict=True))

    return oracle.answer(case, whole)


def _over_time(
    x: np.ndarray, state: State, w: Arrays, variant: Variant, masks: lx.Noise, *, backward: bool
) -> tuple[np.ndarray, State]:
    """Return the hidden states of one layer in one direction, each at its time, and the final state."""
    output = np.empty((*x.shape[:2], state[0].shape[-1]))
    for t in range(len(x))[:: -1 if backward else 1]:
        rows = [_step(*row, w, variant) for row in zip(x[t], _dropped(state[0], masks.hidden), state[1], strict=True)]
        h, c = (np.array(each) for each in zip(*rows, strict=True))
        zoneouts = (None if mask is None else mask[t] for mask in (masks.zoneout_h, masks.zoneout_c))
        h, c = (_kept(mask, *each) for mask, *each in zip(zoneouts, state, (h, c), strict=True))
        state, output[t] = (h, c), h
    return output, state


def _dropped(array: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    return array.astype("float64") if mask is None else array * mask.astype("float64")


def _kept(mask: np.ndarray | None, old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Return d * old + (1 - d) * new, as zoneout's paper has it."""
    return new if mask is None else mask * old + (1 - mask) * new


def _step(x: np.ndarray, h: np.ndarray, c_old: np.ndarray, w: Arrays, variant: Variant) -> State:
    """Return the next hidden and cell state of one row."""
    gate, candidate, squash = (_activation(spec) for spec in variant.activations)
    n = c_old.size
    z = _preactivations(x, h, w, n, variant)
    c, z_o = np.zeros(n), np.zeros(n)
    for unit in range(n):
        z_i, z_f, z_g, z_o[unit] = (z[row] for row in (unit, n + unit, 2 * n + unit, 3 * n + unit))
        p_i, p_f = w["peephole"][:2, unit] if "peephole" in w else (0.0, 0.0)
        i = gate(_clip(z_i + p_i * c_old[unit], variant.clip_gates))
        f = 1 - i if variant.coupled else gate(_clip(z_f + p_f * c_old[unit], variant.clip_gates))
        g = candidate(_clip(z_g, variant.clip_gates))
        c[unit] = f * c_old[unit] + i * g
    normalise = "norm" in w
    if normalise and variant.norm_carry:
        c = _normalised(c, w["norm"][:, -n:], variant)
    c = np.array([_clip(each, variant.clip_cell) for each in c])
    shown = _normalised(c, w["norm"][:, -n:], variant) if normalise and not variant.norm_carry else c
    hidden = np.zeros(n)
    for unit in range(n):
        seen = c_old[unit] if variant.peephole_output == "old" else c[unit]
        p_o = w["peephole"][2, unit] if "peephole" in w else 0.0
        hidden[unit] = gate(_clip(z_o[unit] + p_o * seen, variant.clip_gates)) * squash(float(shown[unit]))
    if "weight_hr" not in w:
        return hidden, c
    return np.array([_clip(row @ hidden, variant.clip_proj) for row in w["weight_hr"]]), c


def _preactivations(x: np.ndarray, h: np.ndarray, w: Arrays, n: int, variant: Variant) -> np.ndarray:
    """Return what the gates are made of, without the peepholes: i, f, g, o."""
    from_x, from_h = (
        np.array([fsum(row * vector) for row in w[name]]) for name, vector in (("weight_ih", x), ("weight_hh", h))
    )
    if "norm" not in w:
        z = from_x + from_h
    elif variant.norm_gates == "joint":
        z = _normalised(from_x, w["norm"][:, : 4 * n], variant) + _normalised(
            from_h, w["norm"][:, 4 * n : 8 * n], variant
        )
    else:
        gates = (slice(k * n, (k + 1) * n) for k in range(4))
        z = np.concatenate([_normalised((from_x + from_h)[gate], w["norm"][:, gate], variant) for gate in gates])
    return z + w.get("bias_ih", 0.0) + w.get("bias_hh", 0.0)


def _normalised(v: Sequence[float], norm: np.ndarray, variant: Variant) -> np.ndarray:
    """Return (v - mean) / sqrt(variance + eps), times the first row, plus the second."""
    mean, deviation = fmean(v), sqrt(pvariance(v) + variant.norm_eps)
    return np.array([gamma * (each - mean) / deviation + beta for each, gamma, beta in zip(v, *norm, strict=True)])


def _clip(z: float, bound: float | None) -> float:
    return float(z) if bound is None else min(max(float(z), -bound), bound)


def _activation(spec: Any) -> Callable[[float], float]:
    name, *parameters = (spec,) if isinstance(spec, str) else spec
    return lambda z: ACTIVATIONS[name](z, *parameters)
