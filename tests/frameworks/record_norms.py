"""
Record what the layer normalisations compute that run in old TensorFlows only.

It needs nothing of this project, and an environment of its own: with Python 3.7, for the cells of tf.contrib.rnn,

    pip install tensorflow-cpu==1.15.0 "protobuf<3.21" "numpy<1.19"
    python tests/frameworks/record_norms.py

and with Python 3.11, for those of TensorFlow Addons and of Haste,

    pip install tensorflow-cpu==2.15.1 tensorflow-addons==0.23.0 "numpy<2"
    python tests/frameworks/record_norms.py HASTE

where HASTE is where the sources of haste_tf 0.5.0rc0 are unpacked: its cell, unlike its layer, needs no GPU. Each runs
in float64 on weights and states that are drawn here; what it was given and what it returned goes to recorded/*.npz.
"""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

T, N, I, H, P = 7, 3, 5, 4, 2  # noqa: E741


def draw(seed, *shape, scale=0.7, about=0.0):
    return about + scale * np.random.default_rng([seed, *shape]).uniform(-1, 1, shape)


def drawn_like(shapes):
    """Return an array for each named shape; what multiplies a normalised number is about 1."""
    return {
        name: draw(k, *shape, scale=0.5, about=float("gamma" in name)) for k, (name, shape) in enumerate(shapes.items())
    }


def keep(name, weights, output, h_n, c_n, h_0, c_0, x):
    arrays = {"x": x, "h_0": h_0, "c_0": c_0, "output": np.stack(output), "h_n": h_n, "c_n": c_n}
    target = Path(__file__).parent / "recorded" / (name + ".npz")
    np.savez_compressed(str(target), **arrays, **{"weights/" + key: array for key, array in weights.items()})
    print(name, {key: array.shape for key, array in weights.items()})  # noqa: T201


def run_in_a_graph(name, make_cell, features):
    """Run a cell of TensorFlow 1, which makes its variables when it is called."""
    v1 = tf.compat.v1
    x, h, c = draw(100, T, N, I, scale=2.0), draw(101, N, features, scale=1.0), draw(102, N, H, scale=1.5)
    h_0, c_0, output = h, c, []
    with v1.Graph().as_default(), v1.Session() as session:
        given = [v1.placeholder("float64", (N, size)) for size in (I, H, features)]
        with v1.variable_scope("cell", dtype=tf.float64, reuse=v1.AUTO_REUSE):
            state = v1.nn.rnn_cell.LSTMStateTuple(given[1], given[2])
            y, after = make_cell()(given[0], state)
        variables = {each.name.split(":")[0].split("/", 1)[1]: each for each in v1.global_variables()}
        weights = drawn_like({key: each.shape.as_list() for key, each in sorted(variables.items())})
        for key, each in variables.items():
            each.load(weights[key], session)
        for x_t in x:
            y_t, (c, h) = session.run([y, after], dict(zip(given, (x_t, c, h))))  # noqa: B905 (Python of the time)
            output.append(y_t)
    keep(name, weights, output, h, c, h_0, c_0, x)


def contrib():
    from tensorflow.contrib import rnn
    from tensorflow.contrib.rnn.python.ops.rnn_cell import LayerNormLSTMCell

    run_in_a_graph("tf1_layer_norm_basic", lambda: rnn.LayerNormBasicLSTMCell(H, forget_bias=0.7), H)
    run_in_a_graph(
        "tf1_layer_norm",
        lambda: LayerNormLSTMCell(
            H, use_peepholes=True, cell_clip=0.6, num_proj=P, proj_clip=0.3, forget_bias=0.7, layer_norm=True
        ),
        P,
    )
    run_in_a_graph(
        "tf1_layer_norm_coupled",
        lambda: rnn.CoupledInputForgetGateLSTMCell(H, use_peepholes=True, num_proj=P, forget_bias=0.7, layer_norm=True),
        P,
    )


def haste(sources):
    path = Path(sources) / "frameworks" / "tf" / "layer_norm_lstm_cell.py"
    specification = importlib.util.spec_from_file_location("layer_norm_lstm_cell", str(path))
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    run_in_a_graph("haste_layer_norm", lambda: module.LayerNormLSTMCell(H, dtype=tf.float64, name="lstm"), H)


def addons():
    import tensorflow_addons as tfa

    tf.keras.backend.set_floatx("float64")
    x, h_0, c_0 = draw(100, T, N, I, scale=2.0), draw(101, N, H, scale=1.0), draw(102, N, H, scale=1.5)
    cell = tfa.rnn.LayerNormLSTMCell(H)
    cell.build((N, I))
    names = [each.name.split(":")[0] for each in cell.weights]
    weights = drawn_like(dict(zip(names, (each.shape.as_list() for each in cell.weights))))  # noqa: B905
    cell.set_weights(list(weights.values()))
    state, output = [tf.constant(h_0), tf.constant(c_0)], []
    for x_t in x:
        y_t, state = cell(tf.constant(x_t), state)
        output.append(y_t.numpy())
    keep("tfa_layer_norm", weights, output, *(each.numpy() for each in state), h_0, c_0, x)


if __name__ == "__main__":
    if tf.__version__.startswith("1."):
        contrib()
    else:
        addons()
        haste(sys.argv[1])
