"""TensorFlow 1's cells, by the code of tf_keras and by the operators, and Sonnet 2."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lstm_xp as lx
from tests.frameworks.agreement import Sizes, assert_agrees, assert_same_arrays, cells, few, fill, sizes

pytestmark = [
    pytest.mark.needs("tensorflow"),
    pytest.mark.filterwarnings("ignore:`tf.nn.rnn_cell.* is deprecated:UserWarning"),
]


@pytest.mark.needs("tf_keras")
@pytest.mark.parametrize("use_peepholes", [False, True])
@few
@given(sizes, st.sampled_from([None, 0.6]), st.integers(0, 3), st.sampled_from([1.0, 0.0, 0.3]))
def test_lstm_cell(use_peepholes: bool, s: Sizes, clip: float | None, num_proj: int, forget_bias: float) -> None:
    import tensorflow as tf
    from tf_keras.src.layers.rnn.legacy_cells import LSTMCell, LSTMStateTuple

    clips = {"cell_clip": clip, "proj_clip": clip if num_proj else None}
    cell = LSTMCell(
        s.H, use_peepholes=use_peepholes, num_proj=num_proj or None, forget_bias=forget_bias, dtype="float32", **clips
    )
    cell.build((None, s.I))
    names = [variable.name.removesuffix(":0") for variable in cell.weights]
    weights = fill({name: np.empty(variable.shape) for name, variable in zip(names, cell.weights, strict=True)})
    cell.set_weights(list(weights.values()))

    def run(x: Any, h: Any, c: Any) -> Any:
        kept, outputs = LSTMStateTuple(tf.constant(c[0]), tf.constant(h[0])), []
        for x_t in tf.constant(x):
            output, kept = cell.call(x_t, kept)
            outputs.append(output.numpy())
        return np.stack(outputs), (kept.h.numpy()[None], kept.c.numpy()[None])

    options = lx.CellOptions(clip_cell=clip, clip_proj=clips["proj_clip"])
    net = lx.convert.from_tf1(weights, forget_bias=forget_bias, options=options)
    assert net.proj_size == num_proj
    assert (net.weights[0][0].peephole is not None) == use_peepholes
    assert_agrees(net, run, s)
    plain = lx.convert.from_tf1(weights, forget_bias=forget_bias)
    without_scope = {name.partition("/")[2]: array for name, array in weights.items()}
    assert_same_arrays(lx.convert.to_tf1(plain, forget_bias=forget_bias), without_scope)


@pytest.mark.needs("tf_keras")
@few
@given(sizes)
def test_basic_lstm_cell(s: Sizes) -> None:
    import tensorflow as tf
    from tf_keras.src.layers.rnn.legacy_cells import BasicLSTMCell, LSTMStateTuple

    cell = BasicLSTMCell(s.H, dtype="float32")
    cell.build((None, s.I))
    weights = fill({"kernel": np.empty((s.I + s.H, 4 * s.H)), "bias": np.empty(4 * s.H)})
    cell.set_weights(list(weights.values()))

    def run(x: Any, h: Any, c: Any) -> Any:
        kept, outputs = LSTMStateTuple(tf.constant(c[0]), tf.constant(h[0])), []
        for x_t in tf.constant(x):
            output, kept = cell.call(x_t, kept)
            outputs.append(output.numpy())
        return np.stack(outputs), (kept.h.numpy()[None], kept.c.numpy()[None])

    assert_agrees(lx.convert.from_tf1(weights), run, s, back=lx.convert.to_tf1, weights=weights)


@pytest.mark.parametrize("use_peephole", [False, True])
@few
@given(sizes, st.integers(1, 2), st.integers(1, 2), st.sampled_from([-1.0, 0.7]))
def test_block_lstm(use_peephole: bool, s: Sizes, num_layers: int, num_directions: int, cell_clip: float) -> None:
    """The operator of ``LSTMBlockFusedCell``; no clipping is -1 there."""
    import tensorflow as tf

    diagonals = ("w_i_diag", "w_f_diag", "w_o_diag")

    def make(features: int, seed: int) -> Any:
        shapes = {"kernel": np.empty((features + s.H, 4 * s.H)), "bias": np.empty(4 * s.H)}
        return fill(shapes | {name: np.empty(s.H) for name in diagonals if use_peephole}, seed)

    def run(weights: Any, x: Any, h: Any, c: Any) -> Any:
        zeros = np.zeros(s.H, "float32")
        wci, wcf, wco = (weights.get(name, zeros) for name in diagonals)
        _, cs, _, _, _, _, hs = tf.raw_ops.BlockLSTM(
            seq_len_max=len(x), x=x, cs_prev=c, h_prev=h, w=weights["kernel"], wci=wci, wcf=wcf, wco=wco,
            b=weights["bias"], forget_bias=1.0, cell_clip=cell_clip, use_peephole=use_peephole,
        )  # fmt: skip
        return hs.numpy(), hs[-1].numpy(), cs[-1].numpy()

    layers = [
        [make(num_directions * s.H if k else s.I, 50 * k + 10 * d) for d in range(num_directions)]
        for k in range(num_layers)
    ]
    nested = tuple(tuple(layer) if num_directions == 2 else layer[0] for layer in layers)
    given_weights = layers[0][0] if num_layers == num_directions == 1 else nested
    options = lx.CellOptions(clip_cell=cell_clip if cell_clip > 0 else None)
    net = lx.convert.from_tf1(given_weights, options=options)
    assert_agrees(net, lambda *given: cells(run, layers, *given), s)
    back = lx.convert.to_tf1 if cell_clip < 0 else None
    assert_agrees(net, lambda *given: cells(run, layers, *given), s, back=back, weights=given_weights)


@pytest.mark.needs("sonnet")
@few
@given(sizes, st.booleans())
def test_sonnet(s: Sizes, projected: bool) -> None:
    import sonnet
    import tensorflow as tf

    size = s.H + 1 if projected else None
    core = sonnet.LSTM(s.H, projection_size=size)
    sonnet.dynamic_unroll(core, tf.zeros((1, 1, s.I)), core.initial_state(1))
    weights = {}
    for variable in core.variables:
        name = variable.name.removesuffix(":0").rpartition("/")[2]
        weights[name] = fill([np.empty(variable.shape)], seed=len(name))[0]
        variable.assign(weights[name])

    def run(x: Any, h: Any, c: Any) -> Any:
        output, last = sonnet.dynamic_unroll(core, tf.constant(x), sonnet.LSTMState(h[0], c[0]))
        return output.numpy(), (last.hidden.numpy()[None], last.cell.numpy()[None])

    net = lx.convert.from_sonnet(weights)
    assert net.proj_size == (size or 0)
    assert_agrees(net, run, s, back=lx.convert.to_sonnet, weights=weights)
