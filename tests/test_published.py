"""
The layer normalisations that are published, as those who defined them compute them.

TensorFlow 1.15's tf.contrib.rnn, TensorFlow Addons 0.23 and Haste 0.5 do not run beside a NumPy of today: their answers
were recorded by tests/frameworks/record_norms.py, in float64. PyTorch's example and the paper are equations.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lstm_xp as lx
from conformance.cases import Case, map_arrays
from conformance.compare import assert_equal, flat

RECORDED = Path(__file__).parent / "frameworks" / "recorded"
TOLERANCE = 1e-13

Arrays = dict[str, np.ndarray]
ROWS = ("gamma", "beta")


def by_gate(array: np.ndarray, order: str) -> dict[str, np.ndarray]:
    """Return what lies along the last axis, by gate."""
    return dict(zip(order, np.split(array, len(order), axis=-1), strict=True))


def in_order(array: np.ndarray, order: str) -> np.ndarray:
    """Return gates that lie along the last axis in the order i, f, g, o."""
    gates = by_gate(array, order)
    return np.concatenate([gates[gate] for gate in "ifgo"], axis=-1)


def from_addons(w: Arrays) -> lx.CellWeights:
    """TensorFlow Addons' LayerNormLSTMCell: https://github.com/tensorflow/addons/pull/210."""
    parts = ("kernel_norm", "recurrent_norm", "state_norm")
    return lx.CellWeights(
        weight_ih=w["kernel"].T,
        weight_hh=w["recurrent_kernel"].T,
        bias_ih=w["bias"],
        norm=np.stack([np.concatenate([w[f"{part}/{row}"] for part in parts]) for row in ROWS]),
    )


def from_haste(w: Arrays) -> lx.CellWeights:
    """Haste's LayerNormLSTM: https://github.com/lmnt-com/haste/issues/1. The products' norms have no beta."""
    w = {name.removeprefix("lstm/"): array for name, array in w.items()}
    kernel, gamma = in_order(w["kernel"], "igfo").T, in_order(w["gamma"], "igfo").ravel()
    hidden = w["gamma_h"].size
    return lx.CellWeights(
        weight_ih=kernel[:, :-hidden],
        weight_hh=kernel[:, -hidden:],
        bias_ih=in_order(w["bias"], "igfo"),
        norm=np.stack([np.append(gamma, w["gamma_h"]), np.append(np.zeros_like(gamma), w["beta_h"])]),
    )


SCOPES = {"i": "input", "f": "forget", "g": "transform", "o": "output"}
FORGET_BIAS = 0.7


def from_contrib(w: Arrays) -> lx.CellWeights:
    """
    TensorFlow 1's LayerNormBasicLSTMCell and LayerNormLSTMCell: the forget bias is added behind the norm, no other is.

    https://github.com/tensorflow/tensorflow/blob/v1.15.0/tensorflow/contrib/rnn/python/ops/rnn_cell.py
    """
    w = {name.partition("/")[2]: array for name, array in w.items()}
    hidden = w["state/gamma"].size
    projection = w["projection/kernel"].T if "projection/kernel" in w else None
    width = hidden if projection is None else len(projection)
    kernel = in_order(w["kernel"], "igfo").T
    return lx.CellWeights(
        weight_ih=kernel[:, :-width],
        weight_hh=kernel[:, -width:],
        bias_ih=np.repeat([0.0, FORGET_BIAS, 0.0, 0.0], hidden),
        weight_hr=projection,
        peephole=np.stack([w[f"w_{gate}_diag"] for gate in "ifo"]) if "w_i_diag" in w else None,
        norm=np.stack([np.concatenate([w[f"{scope}/{row}"] for scope in (*SCOPES.values(), "state")]) for row in ROWS]),
    )


def from_contrib_coupled(w: Arrays) -> lx.CellWeights:
    """
    TensorFlow 1's CoupledInputForgetGateLSTMCell, where i = 1 - f: with f = 1 - i, the gate i is of what f is, negated.

    So is what is normalised: a norm of negated numbers is negated, and so are its gamma and beta.
    """
    w = {name.partition("/")[2]: array for name, array in w.items()}
    hidden, width = w["state/gamma"].size, w["W_P_0"].shape[1]
    kernels, scopes = by_gate(w["W_0"], "gfo"), ("forget", "transform", "output", "state")
    kernel = np.concatenate([kernels[gate] for gate in "ffgo"], axis=1).T
    norm = [np.concatenate([-w[f"forget/{row}"], *(w[f"{scope}/{row}"] for scope in scopes)]) for row in ROWS]
    return lx.CellWeights(
        weight_ih=kernel[:, :-width],
        weight_hh=kernel[:, -width:],
        bias_ih=np.repeat([-FORGET_BIAS, 0.0, 0.0, 0.0], hidden),
        weight_hr=w["W_P_0"].T,
        peephole=np.stack([-w["W_F_diag"], np.zeros(hidden), w["W_O_diag"]]),
        norm=np.stack(norm),
    )


RECORDS: dict[str, tuple[Callable[[Arrays], lx.CellWeights], dict[str, Any]]] = {
    "tfa_layer_norm": (from_addons, {"norm_carry": True, "norm_eps": 1e-3}),
    "haste_layer_norm": (from_haste, {}),
    "tf1_layer_norm_basic": (from_contrib, {"norm_gates": "each", "norm_carry": True, "norm_eps": 1e-12}),
    "tf1_layer_norm": (
        from_contrib,
        {"norm_gates": "each", "norm_carry": True, "norm_eps": 1e-12, "clip_cell": 0.6, "clip_proj": 0.3},
    ),
    "tf1_layer_norm_coupled": (
        from_contrib_coupled,
        {"norm_gates": "each", "norm_carry": True, "norm_eps": 1e-12, "coupled": True},
    ),
}


def recorded(name: str) -> tuple[lx.CellWeights, tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
    """Return our weights, what the cell was given and what it returned."""
    with np.load(RECORDED / f"{name}.npz") as file:
        arrays = dict(file)
    read, _ = RECORDS[name]
    weights = read({key.removeprefix("weights/"): a for key, a in arrays.items() if key.startswith("weights/")})
    x, *state = (arrays[key] for key in ("x", "h_0", "c_0"))
    output, *final = (arrays[key] for key in ("output", "h_n", "c_n"))
    return weights, (x, *(a[None] for a in state)), (output, *(a[None] for a in final))


@pytest.mark.parametrize("name", RECORDS)
def test_recorded(name: str) -> None:
    weights, (x, *state), expected = recorded(name)
    options = lx.CellOptions(**RECORDS[name][1])
    assert_equal(flat(lx.lstm(x, weights, tuple(state), options=options)), expected, TOLERANCE)


@pytest.mark.parametrize("name", RECORDS)
def test_another_form_is_another_function(name: str) -> None:
    """So that none of the comparisons above could pass in the wrong form, or with eps or a clip elsewhere."""
    weights, (x, *state), expected = recorded(name)
    right = RECORDS[name][1]
    others = [{"norm_carry": not right.get("norm_carry", False)}, {"norm_eps": 0.1}]
    others += [{key: None} for key in ("clip_cell", "clip_proj") if key in right]
    others += [{"coupled": False}] if "coupled" in right else []
    for other in others:
        result = flat(lx.lstm(x, weights, tuple(state), options=lx.CellOptions(**right | other)))
        assert max(np.max(np.abs(a - e)) for a, e in zip(result, expected, strict=True)) > 1e-3, other


def equations(x: Any, weights: lx.CellWeights, state: Any, norm: Any, *, carry: bool) -> Any:
    """
    PyTorch's example and the paper, from their equations; `norm(v, gamma, beta)` is given.

    The example's LayerNormLSTMCell carries the normalised cell state on
    (https://github.com/pytorch/pytorch/blob/main/benchmarks/fastrnns/custom_lstms.py), the paper's equations 20 to 22
    do not (https://arxiv.org/abs/1607.06450, page 13).
    """
    (h, c), outputs = state, []
    n = c.shape[-1]
    of_x, of_h, of_c = ([row[part] for row in weights.norm] for part in np.split(np.arange(9 * n), [4 * n, 8 * n]))
    bias = 0 if weights.bias_ih is None else weights.bias_ih
    for x_t in x:
        z = norm(x_t @ weights.weight_ih.T, *of_x) + norm(h @ weights.weight_hh.T, *of_h) + bias
        i, f, g, o = (z[:, k * n : (k + 1) * n] for k in range(4))
        c = 1 / (1 + np.exp(-f)) * c + np.tanh(g) / (1 + np.exp(-i))
        normalised = norm(c, *of_c)
        c = normalised if carry else c
        h = np.tanh(normalised) / (1 + np.exp(-o))
        outputs.append(h)
    return np.stack(outputs), h[None], c[None]


@pytest.mark.parametrize("carry", [True, False], ids=["fastrnns", "paper"])
@pytest.mark.needs("torch")
def test_the_example_of_torch_and_the_paper(carry: bool) -> None:
    """With torch's own `layer_norm`; the example has no bias besides."""
    import torch

    def norm(v: np.ndarray, gamma: np.ndarray, beta: np.ndarray) -> np.ndarray:
        v, gamma, beta = map_arrays(torch.tensor, (v, gamma, beta))
        return torch.nn.functional.layer_norm(v, v.shape[-1:], gamma, beta, eps=1e-5).numpy()

    case = Case(norm="joint", bias=() if carry else ("bias_ih",))
    ((weights,),), (h_0, c_0) = case.weights(), case.state()
    expected = equations(case.x(), weights, (h_0[0], c_0[0]), norm, carry=carry)
    options = lx.CellOptions(norm_carry=carry)
    assert_equal(flat(lx.lstm(case.x(), weights, (h_0, c_0), options=options)), expected, TOLERANCE)


def test_the_decomposed_norm_of_torchs_example_has_no_eps() -> None:
    """`script_lnlstm(decompose_layernorm=True)` divides by the standard deviation alone."""

    def norm(v: np.ndarray, gamma: np.ndarray, beta: np.ndarray) -> np.ndarray:
        return (v - v.mean(-1, keepdims=True)) / v.std(-1, keepdims=True) * gamma + beta

    case = Case(norm="joint", bias=())
    ((weights,),), (h_0, c_0) = case.weights(), case.state()
    expected = equations(case.x(), weights, (h_0[0], c_0[0]), norm, carry=True)
    options = lx.CellOptions(norm_carry=True, norm_eps=0)
    assert_equal(flat(lx.lstm(case.x(), weights, (h_0, c_0), options=options)), expected, TOLERANCE)
