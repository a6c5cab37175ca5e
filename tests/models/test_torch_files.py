"""Two files of torch.save by others: of the old kind, with two directions; and with two LSTMs, one after the other."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lstm_xp as lx
from tests.models.packages import assert_close, linked, packaged

pytestmark = pytest.mark.needs("torch")


def module(weights: Any, prefix: str, **settings: Any) -> Any:
    """Return torch's own LSTM with the weights under a prefix, in two layers."""
    import torch

    own = {name.removeprefix(prefix): array for name, array in weights.items() if name.startswith(prefix)}
    rows, columns = own["weight_ih_l0"].shape
    lstm = torch.nn.LSTM(columns, rows // 4, 2, **settings)
    lstm.load_state_dict(own)
    return lstm.eval()


def test_which_language_a_text_is_in(tmp_path: Path) -> None:
    """From letters to the scores of languages, both directions in each of two layers."""
    import torch

    file = packaged("LanguageIdentifier", "LanguageIdentifier/LID_mixed_model.pkl")
    held = torch.load(file, map_location="cpu", weights_only=True)
    weights, numbers = held["model_state_dict"], held["char_to_idx"]
    net = lx.load(linked(file, "language.pt", tmp_path), prefix="model_state_dict.lstm")
    assert (net.num_layers, net.bidirectional) == (2, True)
    embeddings = weights["char_embeddings.weight"].numpy()
    head, bias = weights["hidden2lang.weight"].numpy(), weights["hidden2lang.bias"].numpy()
    lstm = module(weights, "lstm.", bidirectional=True)
    for text in ("Où est la bibliothèque ?", "Wo ist die Bibliothek?", "Where is the library?"):
        x = embeddings[[numbers.get(letter, len(numbers)) for letter in text]]
        state = tuple(np.random.default_rng(k).uniform(-1, 1, (4, net.hidden_size)).astype("f4") for k in (1, 2))
        with torch.no_grad():
            output, states = lstm(torch.from_numpy(x), tuple(map(torch.from_numpy, state)))
            expected = output.numpy() @ head.T + bias
        actual, ours = net(x, state)
        assert_close((actual, ours), (output, states))
        assert_close(actual @ head.T + bias, expected)


def test_persian_letters_to_sounds(tmp_path: Path) -> None:
    """An encoder's last states are where the decoder starts, which goes on with what it said."""
    import torch

    file = packaged("g2p_fa", "g2p_fa/data/weights")
    weights = torch.load(file, map_location="cpu", weights_only=True)
    path = linked(file, "sounds.pt", tmp_path)
    encoder, decoder = (lx.load(path, prefix=f"{name}.rnn") for name in ("encoder", "decoder"))
    arrays = {name: array.numpy() for name, array in weights.items()}
    letters = arrays["encoder.embedding.weight"][[3, 17, 8, 29, 12, 5, 1]]
    _, state = encoder(letters)
    with torch.no_grad():
        _, expected = module(weights, "encoder.rnn.")(torch.from_numpy(letters))
    assert_close(state, expected)
    speaker, sound, sounds = module(weights, "decoder.rnn."), 1, []
    stream = decoder.stream(state, batch_size=None)
    for _ in range(6):
        x = arrays["decoder.embedding.weight"][sound]
        with torch.no_grad():
            output, expected = speaker(torch.from_numpy(x[None]), expected)
        actual = stream(x)
        assert_close((actual, stream.state), (output[0], expected))
        sound = int((actual @ arrays["decoder.fc_out.weight"].T + arrays["decoder.fc_out.bias"]).argmax())
        sounds.append(sound)
    assert len(set(sounds)) > 2  # it is a word, not one sound
