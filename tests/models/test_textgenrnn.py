"""A writer: the file of an old Keras 2, with layers made for cuDNN; and the example that writes with it."""

from typing import Any

import numpy as np
import pytest

import lstm_xp as lx
from tests.models.packages import assert_close, example, packaged

pytestmark = [
    pytest.mark.needs("h5py", "tf_keras"),
    pytest.mark.filterwarnings("ignore"),  # TensorFlow, of its own age
]
TEXTS = [["<s>"], ["<s>", *"How to "], list("Pack my box with five dozen liquor jugs, they said.")]


@pytest.fixture(scope="module")
def model() -> Any:
    weights = packaged("textgenrnn", "textgenrnn/textgenrnn_weights.hdf5")
    return example("text_generation/compare.py").keras_model(weights)


@pytest.fixture(scope="module")
def writer() -> Any:
    packaged("textgenrnn", "textgenrnn")
    module = example("text_generation/write.py")
    return module.Writer(*module.find_files())


def test_layers(model: Any, writer: Any) -> None:
    """On three texts, from states that are not zero, which Keras's layers take as a second input."""
    import tensorflow as tf

    path = packaged("textgenrnn", "textgenrnn/textgenrnn_weights.hdf5")
    rng = np.random.default_rng(0)
    letters = (TEXTS[2] * 2)[:54]
    x = np.stack([writer.embeddings[[writer.numbers[each] for each in letters[k : k + 40]]] for k in (0, 7, 14)])
    for name in ("rnn_1", "rnn_2"):
        net, layer = lx.load(path, prefix=name), model.get_layer(name)
        h, c = (rng.uniform(-0.5, 0.5, (3, 128)).astype("f4") for _ in range(2))
        start = [tf.constant(h), tf.constant(c)]
        output, (h_n, _) = net(x, (h[None], c[None]))
        assert_close(output, layer(tf.constant(x), initial_state=start))
        assert_close(h_n[0], output[:, -1])
        # The layer keeps its cell state to itself; its cell does not.
        _, expected = layer.cell(tf.constant(x[:, 0]), start)
        _, (h_1, c_1) = net(x[:, :1], (h[None], c[None]))
        assert_close((h_1[0], c_1[0]), tuple(expected))
        x = output


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: f"{len(text)} letters")
def test_the_next_letter(model: Any, writer: Any, text: list[str]) -> None:
    numbers = example("text_generation/compare.py").numbered(text, writer.numbers)
    assert_close(writer(text), model.predict(numbers, verbose=0)[0])


def test_the_likeliest_text(model: Any, writer: Any) -> None:
    """Forty letters, each chosen by what was chosen before."""
    numbered = example("text_generation/compare.py").numbered
    text = ["<s>", *"The "]
    while len(text) < 41:
        text.append(writer.letters[int(model(numbered(text, writer.numbers))[0].numpy().argmax())])
    assert writer.write("The ", 0, np.random.default_rng(0))[:40] == "".join(text[1:])
