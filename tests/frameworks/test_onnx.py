"""ONNX Runtime's LSTM node, with every attribute."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lstm_xp as lx
from conformance.onnx_oracle import run_node
from tests.frameworks.agreement import Sizes, assert_agrees, few, fill, sizes

pytestmark = pytest.mark.needs("onnx", "onnxruntime")

ATTRIBUTES: dict[str, dict[str, Any]] = {
    "default": {},
    "reverse": {"direction": "reverse"},
    "clip": {"clip": 0.5},
    "coupled": {"input_forget": 1},
    "activations": {
        "activations": ["HardSigmoid", "LeakyRelu", "ScaledTanh"],
        "activation_alpha": [0.3, 0.1, 0.8],
        "activation_beta": [0.4, 1.2],
    },
}


@pytest.mark.parametrize("attributes", ATTRIBUTES.values(), ids=ATTRIBUTES)
@pytest.mark.parametrize("names", ["WR", "WRB", "WRBP"])
@few
@given(sizes, st.booleans())
def test_onnx(attributes: dict[str, Any], names: str, s: Sizes, bidirectional: bool) -> None:
    attributes = {"hidden_size": s.H, **attributes}
    if bidirectional:
        attributes["direction"] = "bidirectional"
        attributes |= {"activations": attributes["activations"] * 2} if "activations" in attributes else {}
        attributes |= {k: v * 2 for k, v in attributes.items() if k in ("activation_alpha", "activation_beta")}
    directions = 1 + bidirectional
    shapes = {"W": (4 * s.H, s.I), "R": (4 * s.H, s.H), "B": (8 * s.H,), "P": (3 * s.H,)}
    tensors = fill({name: np.empty((directions, *shapes[name])) for name in names})

    def run(x: Any, h_0: Any, c_0: Any, given: dict[str, Any] = tensors, attributes: Any = attributes) -> Any:
        inputs = {"X": x, "W": given["W"], "R": given["R"], "B": given.get("B"), "sequence_lens": None}
        y, h, c = run_node(inputs | {"initial_h": h_0, "initial_c": c_0, "P": given.get("P")}, attributes)
        return y, (h, c)

    net = lx.convert.from_onnx(tensors, attributes)
    assert_agrees(net, run, s, back=lx.convert.to_onnx, weights=tensors)
    # What `onnx_attributes` says means the same.
    assert lx.convert.from_onnx(tensors, lx.convert.onnx_attributes(net)).options == net.options
    assert_agrees(net, lambda *a: run(*a, lx.convert.to_onnx(net), lx.convert.onnx_attributes(net)), s)
