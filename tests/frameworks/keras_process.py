"""Keras in a process of its own: its backend is chosen once, when it is imported."""

import os
from typing import Any

import numpy as np


def choose(backend: str) -> None:
    """Choose the backend; before Keras is imported."""
    os.environ["KERAS_BACKEND"] = backend


def run(layers: list[dict[str, Any]], x: np.ndarray, h_0: np.ndarray, c_0: np.ndarray, mask: Any = None) -> Any:
    """
    Build layers, fill their weights, run them on x.

    Each layer is {"lstm": its arguments, "both": whether it is Bidirectional}. Returns the configurations, the weights,
    and (output, (h_n, c_n)).
    """
    import keras

    rng = np.random.default_rng(5)
    configs, weights, h_n, c_n = [], [], [], []
    y = x
    for each in layers:
        layer = keras.layers.LSTM(**each["lstm"], return_sequences=True, return_state=True)
        if each["both"]:
            layer = keras.layers.Bidirectional(layer)
        layer.build(y.shape)
        layer.set_weights([rng.uniform(-0.7, 0.7, w.shape).astype("float32") for w in layer.get_weights()])
        rows = range(len(h_n), len(h_n) + 1 + each["both"])
        initial = [keras.ops.convert_to_tensor(states[row]) for row in rows for states in (h_0, c_0)]
        more = {} if mask is None else {"mask": keras.ops.convert_to_tensor(mask)}
        y, *last = layer(keras.ops.convert_to_tensor(y), initial_state=initial, **more)
        y = keras.ops.convert_to_numpy(y)
        h_n += [keras.ops.convert_to_numpy(h) for h in last[::2]]
        c_n += [keras.ops.convert_to_numpy(c) for c in last[1::2]]
        configs.append(layer.get_config())
        weights.append(layer.get_weights())
    return configs, weights, (y, (np.stack(h_n), np.stack(c_n)))


def run_layer(arguments: dict[str, Any], x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what lx gives for a layer as it is, and what the layer gives."""
    import keras

    import lstm_xp as lx

    layer = keras.layers.Bidirectional(keras.layers.LSTM(**arguments, return_sequences=True))
    expected = keras.ops.convert_to_numpy(layer(x))
    return lx.convert.from_keras(layer)(x)[0], expected


def run_from_config(net_config: dict[str, Any], weights: list[np.ndarray], x: np.ndarray) -> np.ndarray:
    """Return what a layer gives that is made of `keras_config` and `to_keras`."""
    import keras

    layer = keras.layers.LSTM(**net_config)
    layer.build(x.shape)
    layer.set_weights(weights)
    return keras.ops.convert_to_numpy(layer(x))


def save_model(folder: str, x: np.ndarray) -> dict[str, np.ndarray]:
    """Save a model in every form; return what its layers give, one after the other."""
    import keras

    layers = keras.layers
    inner = keras.Sequential([layers.LSTM(6, return_sequences=True, name="deep")], name="inner")
    lstms = [
        layers.LSTM(4, return_sequences=True, activation="softsign", name="first"),
        layers.Bidirectional(layers.LSTM(3, return_sequences=True, recurrent_activation="hard_sigmoid"), name="both"),
        layers.RNN(layers.LSTMCell(2, use_bias=False), return_sequences=True, name="rnn"),
        inner,
    ]
    model = keras.Sequential([layers.Input(x.shape[1:]), *lstms, layers.Dense(2)])
    model.compile("adam", "mse")
    model.save(f"{folder}/model.keras")
    model.save(f"{folder}/model.h5")
    model.save_weights(f"{folder}/model.weights.h5")
    outputs = {}
    for layer in lstms:
        x = keras.ops.convert_to_numpy(layer(keras.ops.convert_to_tensor(x)))
        outputs["deep" if layer is inner else layer.name] = x
    return outputs
