"""Keras, on the backend that KERAS_BACKEND names."""

from typing import Any

import numpy as np

from benchmarks.problems import Problem


def keras_layers(problem: Problem) -> list[Any]:
    """Return the problem's layers, of Keras."""
    import keras  # prints, and takes seconds

    def rows(array: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(array.T)  # Keras has torch's order of gates

    layers = []
    for cells in problem.net.weights:
        layer: Any = keras.layers.LSTM(problem.H, return_sequences=True)
        if len(cells) == 2:
            layer = keras.layers.Bidirectional(layer)
        layer.build((problem.N, problem.T, cells[0].weight_ih.shape[1]))
        layer.set_weights(
            [w for cell in cells for w in (rows(cell.weight_ih), rows(cell.weight_hh), cell.bias_ih + cell.bias_hh)]
        )
        layers.append(layer)
    return layers


def run_keras(layers: list[Any], x: Any) -> Any:
    """Run layer upon layer; x is (batch, time, features)."""
    for layer in layers:
        x = layer(x)
    return x
