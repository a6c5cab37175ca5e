"""Thinc's `LSTM.v1`, on sequences of different lengths."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from thinc.api import LSTM, with_padded

import lstm_xp as lx
from tests.frameworks.agreement import Sizes, assert_same_arrays, draw, few, fill, sizes

pytestmark = pytest.mark.needs("thinc")


def assert_predicts(own: Any, net: lx.LSTM, s: Sizes, given: tuple[Any, Any] | None) -> None:
    x = [draw(T, s.I, seed=T, scale=2) for T in (s.T, s.T + 2, 1)]
    for sequence, expected in zip(x, with_padded(own).predict(x), strict=True):
        np.testing.assert_allclose(net(sequence, given)[0], expected, rtol=0, atol=1e-6)


@few
@given(sizes, st.integers(1, 3), st.booleans())
def test_thinc(s: Sizes, depth: int, bidirectional: bool) -> None:
    own = LSTM(nO=s.H * (1 + bidirectional), nI=s.I, bi=bidirectional, depth=depth)
    own.initialize()
    (vector,) = fill([np.empty(own.get_param("LSTM").shape)])
    own.set_param("LSTM", vector)
    net = lx.convert.from_thinc(vector, s.I, s.H, depth, bidirectional)
    assert_predicts(own, net, s, None)
    assert_same_arrays(lx.convert.to_thinc(net), vector)
    # Its parameter for the initial state, which is zero and is never trained: what it calls H0 goes in as c.
    # https://github.com/explosion/thinc/blob/v9.1.1/thinc/layers/lstm.py and backends/ops.py, lstm_forward_inference
    states = draw(2, depth, 1 + bidirectional, s.H, seed=9)
    own.set_param("HC0", states)
    c_0, h_0 = states.reshape(2, -1, s.H)
    assert_predicts(own, net, s, (h_0, c_0))
