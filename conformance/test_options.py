"""The variants of the cell: peepholes, coupled gates, clipping, activations."""

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
BESIDE_ONNX = {
    "clip_cell, clip_proj": lx.CellOptions(clip_cell=0.3, clip_proj=0.2),
    "peephole on the old cell state": lx.CellOptions(peephole_output="old"),
    "all clippings, all else than sigmoid and tanh": lx.CellOptions(
        activations=("hard_sigmoid", "softsign", "scaled_tanh"), clip_gates=1.0, clip_cell=0.5, clip_proj=0.2
    ),
    "elu, leaky_relu": lx.CellOptions(activations=("sigmoid", "elu", "leaky_relu"), coupled=True),
    "affine, relu, thresholded_relu": lx.CellOptions(activations=("affine", "relu", ("thresholded_relu", 0.1))),
    "softplus": lx.CellOptions(activations=("softplus",) * 3),
}


@pytest.mark.parametrize("name", BESIDE_ONNX)
def test_equals_the_textbook(backend: Backend, dtype: str, name: str, check: Checker) -> None:
    case = fit(Case(time=3, num_layers=2, proj_size=2, peephole=True, scale=0.5, dtype=dtype), backend)
    expected = textbook.answer(case, BESIDE_ONNX[name])
    arrays, weights = map_arrays(backend.array, (case.arguments(), case.weights()))
    result = forward(case, backend, weights, arrays, options=BESIDE_ONNX[name])
    check(as_numpy(backend, result, arrays["x"]), expected, TOLERANCE[dtype])
