"""Whether somebody speaks: ONNX, and the same weights as a safetensors file of an LSTMCell."""

import numpy as np
import pytest

import lstm_xp as lx
from tests.models.onnx_nodes import run
from tests.models.packages import assert_close, packaged
from tests.models.speech import voice

pytestmark = pytest.mark.needs("onnx", "onnxruntime", "safetensors", "torch")
DATA = "silero_vad/data/silero_vad"


def frames() -> np.ndarray:
    """Return a voice as the model wants it: frames of 512 samples, each behind the last 64 of the one before."""
    sound = voice((0.4, False), (1.1, True), (0.3, False))[: 55 * 512].reshape(-1, 512)
    return np.hstack([np.vstack([np.zeros((1, 64), "f4"), sound[:-1, -64:]]), sound])


def test_a_sequence_from_a_state() -> None:
    path = packaged("silero-vad", f"{DATA}_16k_sequence.onnx")
    rng = np.random.default_rng(1)
    h, c = (rng.uniform(-0.5, 0.5, (1, 1, 128)).astype("f4") for _ in range(2))
    node = run(path, {"input": frames(), "h": h, "c": c})
    assert node.model[0].min() < 0.1
    assert node.model[0].max() > 0.9  # it hears the voice
    assert_close(lx.load(path)(node.x, node.state), (node.output, node.states))


@pytest.mark.parametrize(
    ("file", "prefixes"),
    [
        ("_16k_op15.onnx", ["/model/decoder/rnn/LSTM", "/model/decoder/rnn_1/LSTM"]),
        (".onnx", [f"If_0_then_branch__Inline_0__/decoder/{rnn}/LSTM" for rnn in ("rnn", "rnn_1")]),
    ],
)
def test_the_same_weights_in_every_file(file: str, prefixes: list[str]) -> None:
    """In the branches of an If too."""
    expected = lx.load(packaged("silero-vad", f"{DATA}_16k_sequence.onnx")).state_dict()
    for prefix in prefixes:
        arrays = lx.load(packaged("silero-vad", DATA + file), prefix=prefix).state_dict()
        assert arrays.keys() == expected.keys()
        for name, array in expected.items():
            assert arrays[name].tobytes() == array.tobytes()


def test_a_cell_of_torch() -> None:
    """The safetensors file has the names of an LSTMCell; its weights are those of an earlier version."""
    import torch
    from safetensors.torch import load_file

    path = packaged("silero-vad", f"{DATA}_16k.safetensors")
    cell = torch.nn.LSTMCell(128, 128)
    named = {name.removeprefix("lstm_cell."): array for name, array in load_file(path).items() if "lstm_cell" in name}
    cell.load_state_dict(named)
    x, h, c = (np.random.default_rng(k).uniform(-1, 1, (3, 128)).astype("f4") for k in range(3))
    with torch.no_grad():
        expected = cell(torch.from_numpy(x), (torch.from_numpy(h), torch.from_numpy(c)))
    output, (h_n, c_n) = lx.load(path)(x[None], (h[None], c[None]))
    assert_close((output[0], h_n[0], c_n[0]), (expected[0], *expected))
