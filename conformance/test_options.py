"""The variants of the cell: peepholes, coupled gates, clipping, activations."""

from typing import Any

import numpy as np
import pytest

import lstm_xp as lx
from conformance import oracle, textbook
from conformance.backends import Backend
from conformance.cases import Case, map_arrays
from conformance.compare import TOLERANCE, tolerance_of
from conformance.running import Checker, as_numpy, fit, forward, run


@pytest.mark.cases(lambda case: case.variant != "torch" and case.time < 1000)
def test_equals_onnx_runtime(backend: Backend, case: Case, check: Checker) -> None:
    check(run(case, backend), oracle.truth(case), tolerance_of(case))


# What ONNX's LSTM does not have, or not together.
BESIDE_ONNX: dict[str, dict[str, Any]] = {
    "clip_cell, clip_proj": {"clip_cell": 0.3, "clip_proj": 0.2},
    "peephole on the old cell state": {"peephole_output": "old"},
    "all clippings, all else than sigmoid and tanh": {
        "activations": ("hard_sigmoid", "softsign", "scaled_tanh"),
        "clip_gates": 0.3,
        "clip_cell": 0.5,
        "clip_proj": 0.2,
    },
    "elu, leaky_relu": {"activations": ("sigmoid", "elu", "leaky_relu"), "coupled": True},
    "affine, relu, thresholded_relu": {"activations": ("affine", "relu", ("thresholded_relu", 0.1))},
    "alpha and beta, a threshold by default": {"activations": ("sigmoid", ("affine", 0.6, 0.3), "thresholded_relu")},
    "alpha alone": {"activations": (("hard_sigmoid", 0.3), ("scaled_tanh", 0.8), ("affine", 0.7))},
    "a clip before coupled gates": {"coupled": True, "clip_gates": 0.2},
    "leaky_relu that rises": {"activations": ("sigmoid", ("leaky_relu", 1.5), "tanh")},
    "softplus": {"activations": ("softplus",) * 3},
}


@pytest.mark.parametrize("name", BESIDE_ONNX)
def test_equals_the_textbook(backend: Backend, dtype: str, name: str, check: Checker) -> None:
    case = fit(Case(time=3, num_layers=2, proj_size=2, peephole=True, scale=0.5, dtype=dtype), backend)
    expected = textbook.answer(case, textbook.Variant(**BESIDE_ONNX[name]))
    arrays, weights = map_arrays(backend.array, (case.arguments(), case.weights()))
    result = forward(case, backend, weights, arrays, options=lx.CellOptions(**BESIDE_ONNX[name]))
    check(as_numpy(backend, result, arrays["x"]), expected, TOLERANCE[dtype])


def test_the_threshold_itself_is_below_it(backend: Backend) -> None:
    """Zero weights halve the cell state: 2 becomes 1, of which nothing is left, 4 becomes 2, half of which is h."""
    case = Case(time=1, batch=2, dtype=backend.dtypes[0])
    weights, x = map_arrays(lambda array: backend.array(np.zeros_like(array)), (case.weights(), case.x()))
    h_0, c_0 = case.state()
    c_0[:, 0], c_0[:, 1] = 2, 4
    arrays = {"x": x, "state": map_arrays(backend.array, (h_0, c_0))}
    options = lx.CellOptions(activations=("sigmoid", "tanh", "thresholded_relu"))
    output, _, _ = as_numpy(backend, forward(case, backend, weights, arrays, options=options), x)
    assert (output[0, 0] == 0).all()
    assert (output[0, 1] == 1).all()


def test_elu_overflows_nowhere(backend: Backend, dtype: str) -> None:
    """Not in the branch that is not taken either: NumPy would warn, a derivative would be NaN."""
    case = fit(Case(time=2, numbers="saturated", dtype=dtype), backend)
    arrays, weights = map_arrays(backend.array, (case.arguments(), case.weights()))
    options = lx.CellOptions(activations=("sigmoid", "elu", "tanh"))
    result = as_numpy(backend, forward(case, backend, weights, arrays, options=options), arrays["x"])
    assert all(np.isfinite(array).all() for array in result)
    assert result[2].max() > 1e3
