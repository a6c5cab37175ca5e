"""OpenVINO's `LSTMSequence`, on its CPU device."""

from typing import Any

import numpy as np
import openvino
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openvino import opset10 as ops

import lstm_xp as lx
from tests.frameworks.agreement import Sizes, assert_agrees, few, fill, sizes

pytestmark = pytest.mark.needs("openvino")


@few
@given(sizes, st.integers(1, 2), st.booleans())
def test_openvino(s: Sizes, num_layers: int, bidirectional: bool) -> None:
    directions = 1 + bidirectional
    weights = [
        fill(
            {
                "W": np.empty((directions, 4 * s.H, directions * s.H if k else s.I)),
                "R": np.empty((directions, 4 * s.H, s.H)),
                "B": np.empty((directions, 4 * s.H)),
            },
            seed=10 * k,
        )
        for k in range(num_layers)
    ]

    def layer(arrays: Any, x: Any, h_0: Any, c_0: Any) -> Any:
        """Run one on (N, T, I), (N, D, H), (N, D, H) to (N, D, T, H) and the states."""
        inputs = [ops.parameter(given.shape, np.float32) for given in (x, h_0, c_0)]
        lengths = ops.constant(np.full(s.N, s.T, np.int32))
        direction = "BIDIRECTIONAL" if bidirectional else "FORWARD"
        node = ops.lstm_sequence(*inputs, lengths, *map(ops.constant, arrays.values()), s.H, direction)
        model = openvino.Model(node.outputs(), inputs)
        hint = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
        answer = openvino.compile_model(model, "CPU", hint)([x, h_0, c_0])
        return [answer[k] for k in range(3)]

    def run(x: Any, h_0: Any, c_0: Any) -> Any:
        h_n, c_n = [], []
        for k, arrays in enumerate(weights):
            rows = slice(k * directions, (k + 1) * directions)
            y, h, c = layer(arrays, x, *(np.ascontiguousarray(a[rows].swapaxes(0, 1)) for a in (h_0, c_0)))
            x = np.concatenate([y[:, d] for d in range(directions)], axis=-1)
            h_n.append(h.swapaxes(0, 1))
            c_n.append(c.swapaxes(0, 1))
        return x, (np.concatenate(h_n), np.concatenate(c_n))

    given_weights = weights[0] if num_layers == 1 else tuple(weights)
    net = lx.convert.from_openvino(given_weights, batch_first=True)
    assert_agrees(net, run, s, back=lx.convert.to_openvino, weights=given_weights)
