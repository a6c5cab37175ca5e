"""
The equations once more: one row, one step, one number after the other, as papers and ONNX's documents have them.

For the variants of the cell that no oracle knows. Slow, in float64, and by other formulas than the package's wherever
there are two.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import exp, log, tanh
from typing import Any

import numpy as np

from conformance.cases import Case

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


def answer(case: Case, variant: Variant) -> tuple[np.ndarray, ...]:
    """
    Return what the equations give.

    Parameters
    ----------
    case : Case
        The case: layers in one direction, forward, time first, a state given, every step valid.
    variant : Variant
        The variant of the cell, in place of the case's.

    Returns
    -------
    tuple of numpy.ndarray
        The output, h_n and c_n in float64.
    """
    x, (h_0, c_0) = case.x().astype("float64"), (array.astype("float64") for array in case.state())
    finals = []
    for (weights,), h, c in zip(case.weights(), h_0, c_0, strict=True):
        w = {name: array.astype("float64") for name, array in weights._asdict().items() if array is not None}
        state, outputs = (h, c), []
        for x_t in x:
            rows = [_step(*row, w, variant) for row in zip(x_t, *state, strict=True)]
            state = tuple(np.array(each) for each in zip(*rows, strict=True))
            outputs.append(state[0])
        x = np.stack(outputs)
        finals.append(state)
    return x, *(np.stack(each) for each in zip(*finals, strict=True))


def _step(
    x: np.ndarray, h: np.ndarray, c_old: np.ndarray, w: dict[str, np.ndarray], variant: Variant
) -> tuple[np.ndarray, np.ndarray]:
    """Return the next hidden and cell state of one row."""
    gate, candidate, squash = (_activation(spec) for spec in variant.activations)
    n = c_old.size
    c, hidden = np.zeros(n), np.zeros(n)
    for unit in range(n):
        z_i, z_f, z_g, z_o = (
            w["weight_ih"][row] @ x + w["weight_hh"][row] @ h + w["bias_ih"][row] + w["bias_hh"][row]
            for row in (unit, n + unit, 2 * n + unit, 3 * n + unit)
        )
        p_i, p_f, p_o = w["peephole"][:, unit] if "peephole" in w else (0.0, 0.0, 0.0)
        i = gate(_clip(z_i + p_i * c_old[unit], variant.clip_gates))
        f = 1 - i if variant.coupled else gate(_clip(z_f + p_f * c_old[unit], variant.clip_gates))
        g = candidate(_clip(z_g, variant.clip_gates))
        c[unit] = _clip(f * c_old[unit] + i * g, variant.clip_cell)
        seen = c_old[unit] if variant.peephole_output == "old" else c[unit]
        o = gate(_clip(z_o + p_o * seen, variant.clip_gates))
        hidden[unit] = o * squash(float(c[unit]))
    if "weight_hr" not in w:
        return hidden, c
    return np.array([_clip(row @ hidden, variant.clip_proj) for row in w["weight_hr"]]), c


def _clip(z: float, bound: float | None) -> float:
    return float(z) if bound is None else min(max(float(z), -bound), bound)


def _activation(spec: Any) -> Callable[[float], float]:
    name, *parameters = (spec,) if isinstance(spec, str) else spec
    return lambda z: ACTIVATIONS[name](z, *parameters)
