"""The model that the package textgenrnn makes: its own code, on Keras 2, less the parts that no longer import."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any


def keras_model(weights: Path) -> Any:
    """Return the model with its weights, by the package's `textgenrnn_model`."""
    package = ModuleType("textgenrnn")
    package.__path__ = [str(weights.parent)]
    sys.modules["textgenrnn"] = package
    from textgenrnn.model import textgenrnn_model

    config = {
        "rnn_layers": 2,
        "rnn_size": 128,
        "rnn_bidirectional": False,
        "max_length": 40,
        "dim_embeddings": 100,
    }
    return textgenrnn_model(465, config, weights_path=str(weights))
