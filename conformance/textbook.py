"""
The equations once more: one row, one step, one number after the other, as papers and ONNX's documents have them.

For the variants of the cell that no oracle knows. Slow, in float64, and by other formulas than the package's wherever
there are two.
"""

from collections.abc import Callable
from math import exp, log, tanh
from typing import Any

import numpy as np

import lstm_xp as lx
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


def answer(case: Case, options: lx.CellOptions) -> tuple[np.ndarray, ...]:
    """
    Return what the equations give.

    Parameters
    ----------
    case : Case
        The case: layers in one direction, forward, time first, a state given, every step valid.
    options : CellOptions
        The variant of the cell, in place of the case's.

    Returns
    -------
    tuple of numpy.ndarray
        output, h_n and c_n in float64.
    """
    x, (h_0, c_0) = case.x().astype("float64"), (array.astype("float64") for array in case.state())
    finals = []
    for (weights,), h, c in zip(case.weights(), h_0, c_0, strict=True):
        state, outputs = (h, c), []
        for x_t in x:
            rows = [_step(*row, weights, options) for row in zip(x_t, *state, strict=True)]
            state = tuple(np.array(each) for each in zip(*rows, strict=True))
            outputs.append(state[0])
        x = np.stack(outputs)
        finals.append(state)
    return x, *(np.stack(each) for each in zip(*finals, strict=True))


def _step(
    x: np.ndarray, h: np.ndarray, c_old: np.ndarray, weights: lx.CellWeights, options: lx.CellOptions
) -> tuple[np.ndarray, np.ndarray]:
    """Return the next hidden and cell state of one row."""
    gate, candidate, squash = (_activation(spec) for spec in options.activations)
    w = {name: None if array is None else array.astype("float64") for name, array in weights._asdict().items()}
    n = c_old.size
    c, hidden = np.zeros(n), np.zeros(n)
    for unit in range(n):
        z = {}
        for k, name in enumerate("ifgo"):
            row = k * n + unit
            z[name] = float(w["weight_ih"][row] @ x + w["weight_hh"][row] @ h + w["bias_ih"][row] + w["bias_hh"][row])
        peep_i, peep_f, peep_o = (0.0, 0.0, 0.0) if w["peephole"] is None else w["peephole"][:, unit]
        i = gate(_clip(z["i"] + peep_i * c_old[unit], options.clip_gates))
        f = 1 - i if options.coupled else gate(_clip(z["f"] + peep_f * c_old[unit], options.clip_gates))
        g = candidate(_clip(z["g"], options.clip_gates))
        c[unit] = _clip(f * c_old[unit] + i * g, options.clip_cell)
        seen = c_old if options.peephole_output == "old" else c
        o = gate(_clip(z["o"] + peep_o * seen[unit], options.clip_gates))
        hidden[unit] = o * squash(float(c[unit]))
    if w["weight_hr"] is None:
        return hidden, c
    return np.array([_clip(float(row @ hidden), options.clip_proj) for row in w["weight_hr"]]), c


def _clip(z: float, bound: float | None) -> float:
    return float(z) if bound is None else min(max(float(z), -bound), bound)


def _activation(spec: Any) -> Callable[[float], float]:
    name, *parameters = (spec,) if isinstance(spec, str) else spec
    return lambda z: ACTIVATIONS[name](z, *parameters)
