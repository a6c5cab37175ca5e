"""Files that Keras itself wrote: Keras 3, and TensorFlow's Keras 2."""

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

import lstm_xp as lx
from tests.frameworks import keras_process
from tests.frameworks.agreement import draw

FILES = ("model.keras", "model.h5", "model.weights.h5")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, np.ndarray, dict[str, np.ndarray]]]:
    """Return a folder of files, an input, and what each layer gives."""
    folder, x = tmp_path_factory.mktemp("keras"), draw(3, 7, 5, scale=2)
    with ProcessPoolExecutor(1, get_context("spawn"), keras_process.choose, ("torch",)) as pool:
        yield folder, x, pool.submit(keras_process.save_model, str(folder), x).result()


@pytest.mark.needs("keras", "torch", "h5py")
@pytest.mark.parametrize("file", FILES)
def test_keras_3(saved: tuple[Path, np.ndarray, dict[str, np.ndarray]], file: str) -> None:
    folder, x, outputs = saved
    for name, expected in outputs.items():
        net = lx.load(folder / file, prefix=name)
        if file != "model.weights.h5" or name in ("rnn", "deep"):  # the others' activations are not Keras's defaults
            np.testing.assert_allclose(net(x)[0], expected, rtol=0, atol=1e-6)
        x = expected


TF_KERAS = """
import sys, numpy as np, tf_keras as keras
folder = sys.argv[1]
x = np.load(f"{folder}/x.npy")
layers = keras.layers
lstms = [
    layers.LSTM(4, return_sequences=True, recurrent_activation="hard_sigmoid", name="first"),
    layers.Bidirectional(layers.LSTM(3, return_sequences=True, activation="softsign"), name="both"),
    layers.LSTM(2, return_sequences=True, use_bias=False, name="last"),
]
model = keras.Sequential([layers.Input(x.shape[1:]), *lstms, layers.Dense(2)])
for file in ("model.keras", "model.h5"):
    model.save(f"{folder}/{file}")
for layer in lstms:
    x = layer(x).numpy()
    np.save(f"{folder}/{layer.name}.npy", x)
"""


@pytest.mark.needs("tf_keras", "h5py")
def test_keras_2(tmp_path: Path) -> None:
    x = draw(3, 7, 5, scale=2)
    np.save(tmp_path / "x.npy", x)
    subprocess.run([sys.executable, "-c", TF_KERAS, str(tmp_path)], check=True, capture_output=True,
                   env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"})  # fmt: skip
    for name in ("first", "both", "last"):
        expected = np.load(tmp_path / f"{name}.npy")
        for file in ("model.keras", "model.h5"):
            np.testing.assert_allclose(lx.load(tmp_path / file, prefix=name)(x)[0], expected, rtol=0, atol=1e-6)
        x = expected
