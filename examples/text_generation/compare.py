"""Beside the original: the same probabilities from the package's own model in Keras, and how long each takes a letter.

    python compare.py

``pip install tf_keras``.  Everybody has one thread.  The package as it is no longer imports (TensorFlow has no
``multi_gpu_model`` any more); the module that makes the model does, with Keras 2.
"""

import os

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"), "1")
os.environ |= {"TF_NUM_INTEROP_THREADS": "1", "TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}

import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

WINDOW = 40


def keras_model(weights: Path) -> Any:
    """Return the model with its weights, by the package's own `textgenrnn_model`."""
    package = ModuleType("textgenrnn")  # without what its __init__ imports
    package.__path__ = [str(weights.parent)]
    sys.modules["textgenrnn"] = package
    from textgenrnn.model import textgenrnn_model

    sizes = {"rnn_layers": 2, "rnn_size": 128, "max_length": WINDOW, "dim_embeddings": 100}
    return textgenrnn_model(465, sizes | {"rnn_bidirectional": False}, weights_path=str(weights))


def numbered(text: list[str], numbers: dict[str, int]) -> np.ndarray:
    """Return the last letters as the model takes them, filled up with 0 at their left."""
    last = [numbers.get(letter, 0) for letter in text[-WINDOW:]]
    return np.array([[0] * (WINDOW - len(last)) + last])


def main() -> None:
    """Print the largest difference, and the times of the best of several runs."""
    from write import Writer, find_files

    files = find_files()
    writer, model = Writer(*files), keras_model(files[0])
    text = list("Pack my box with five dozen liquor jugs, they said.")
    x = numbered(text, writer.numbers)
    ways = {
        "NumPy": lambda: writer(text),
        "Keras, called": lambda: np.asarray(model(x))[0],
        "Keras, predict (the original)": lambda: model.predict(x, batch_size=1, verbose=0)[0],
    }
    seconds = dict.fromkeys(ways, np.inf)
    for _ in range(20):
        for name, way in ways.items():
            start = time.perf_counter()
            result = way()
            seconds[name] = min(seconds[name], time.perf_counter() - start)
            difference = np.abs(result - ways["NumPy"]()).max()
            if difference > 5e-6:
                sys.exit(f"{name} differs by {difference:.1e}")
    for name, each in seconds.items():
        print(f"{name}: {each * 1e3:.1f} ms a letter")
    print(f"largest difference {difference:.1e}")


if __name__ == "__main__":
    main()
