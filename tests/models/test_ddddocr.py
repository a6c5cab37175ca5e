"""A reader of captchas: an ONNX model whose last layer but one is an LSTM in both directions, 512 units each."""

import numpy as np
import pytest

import lstm_xp as lx
from tests.models.onnx_nodes import run
from tests.models.packages import assert_close, packaged

pytestmark = pytest.mark.needs("onnx", "onnxruntime", "PIL")


def picture(text: str) -> np.ndarray:
    """Return a text as the model wants it: one line, 64 pixels high, between -1 and 1."""
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("L", (30 * len(text) + 20, 64), 255)
    ImageDraw.Draw(image).text((10, 8), text, fill=0, font=ImageFont.load_default(size=44))
    return (np.asarray(image, "f4")[None, None] / 255 - 0.5) / 0.5


@pytest.mark.parametrize("text", ["k7Rw3", "lstm2026"])
def test_both_directions(text: str) -> None:
    path = packaged("ddddocr", "ddddocr/common.onnx")
    node = run(path, {"input1": picture(text)})
    assert len(node.x) > 20
    assert_close(lx.load(path)(node.x, node.state), (node.output, node.states))


def test_its_quantised_model_is_refused_by_name() -> None:
    path = packaged("ddddocr", "ddddocr/common_old.onnx")
    with pytest.raises(ValueError, match=r"common_old\.onnx .+ its LSTM is quantised \(DynamicQuantizeLSTM\)"):
        lx.load(path)
