"""MLX's `nn.LSTM`, on the CPU."""

from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlx import nn

import lstm_xp as lx
from tests.frameworks.agreement import Sizes, assert_agrees, assert_same_arrays, draw, few, fill, sizes

pytestmark = pytest.mark.needs("mlx")


@pytest.mark.parametrize("bias", [True, False])
@few
@given(sizes)
def test_mlx(bias: bool, s: Sizes) -> None:
    mx.set_default_device(mx.cpu)
    own = nn.LSTM(s.I, s.H, bias=bias)
    weights = fill({name: np.empty(array.shape) for name, array in own.parameters().items()})
    own.update({name: mx.array(array) for name, array in weights.items()})

    def run(x: Any, h_0: Any, c_0: Any) -> Any:
        h, c = own(mx.array(x), mx.array(h_0[0]), mx.array(c_0[0]))
        h, c = np.array(h), np.array(c)
        return h, (h[None, :, -1], c[None, :, -1])

    net = lx.convert.from_mlx(weights)
    assert net.batch_first
    assert_agrees(net, run, s, back=lx.convert.to_mlx, weights=weights)


@few
@given(sizes, st.integers(1, 3))
def test_its_own_arrays(s: Sizes, num_layers: int) -> None:
    """They stay MLX's, on the way in and out."""
    mx.set_default_device(mx.cpu)
    layers = [nn.LSTM(s.H if k else s.I, s.H) for k in range(num_layers)]
    weights = [layer.parameters() for layer in layers]
    net = lx.convert.from_mlx(layers)
    x = mx.array(draw(s.N, s.T, s.I))
    y = x
    for layer in layers:
        y, _ = layer(y)
    output, _ = net(x)
    assert isinstance(output, mx.array)
    np.testing.assert_allclose(np.array(output), np.array(y), rtol=0, atol=1e-6)
    back = lx.convert.to_mlx(net)
    assert_same_arrays(back if num_layers > 1 else [back], weights)
