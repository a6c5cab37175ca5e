"""Who speaks: three layers in torch's file, and a voice's mel spectrogram."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lstm_xp as lx
from tests.models.packages import assert_close, packaged
from tests.models.speech import RATE, voice

pytestmark = pytest.mark.needs("torch")


def mel_spectrogram(sound: np.ndarray) -> np.ndarray:
    """Return the power in 40 bands, every 10 ms, of a sound at -30 dB, as the network was trained with; (time, 40)."""
    sound = np.pad(sound * 10 ** (-30 / 20) / np.sqrt(np.mean(sound**2)), 200)
    windows = np.lib.stride_tricks.sliding_window_view(sound, 400)[::160] * np.hanning(401)[:-1]
    power = np.abs(np.fft.rfft(windows)) ** 2
    # Slaney's scale: linear up to 1 kHz, logarithmic above.
    mels = np.linspace(0, 15 + 27 * np.log(8) / np.log(6.4), 42)
    edges = np.where(mels < 15, mels * 200 / 3, 1000 * 6.4 ** ((mels - 15) / 27))[:, None]
    hertz = np.fft.rfftfreq(400, 1 / RATE)
    low, middle, high = edges[:-2], edges[1:-1], edges[2:]
    bands = np.minimum((hertz - low) / (middle - low), (high - hertz) / (high - middle)).clip(0) * 2 / (high - low)
    return (power @ bands.T).astype("f4")


def theirs(path: Path, dtype: Any) -> tuple[Any, Any]:
    """Return torch's own LSTM with the file's weights, and the layer above it."""
    import torch

    weights = torch.load(path, map_location="cpu", weights_only=True)["model_state"]
    lstm, linear = torch.nn.LSTM(40, 256, 3), torch.nn.Linear(256, 256)
    for name, module in (("lstm.", lstm), ("linear.", linear)):
        module.load_state_dict({k.removeprefix(name): v for k, v in weights.items() if k.startswith(name)})
    return lstm.to(dtype), linear.to(dtype)


def test_a_voice_to_its_embedding() -> None:
    import torch

    path = packaged("Resemblyzer", "resemblyzer/pretrained.pt")
    spectrogram = mel_spectrogram(voice((3.3, True), seed=1))
    x = np.stack([spectrogram[start : start + 160] for start in (0, 80, 160)], axis=1)  # pieces of 1.6 s
    state = tuple(np.random.default_rng(k).uniform(-0.5, 0.5, (3, 3, 256)).astype("f4") for k in (1, 2))
    lstm, linear = theirs(path, torch.float32)
    with torch.no_grad():
        output, (h, c) = lstm(torch.from_numpy(x), tuple(map(torch.from_numpy, state)))
        embedding = torch.nn.functional.normalize(linear(h[-1]).relu())
    actual = lx.load(path)(x, state)
    assert_close(actual, (output, (h, c)))
    mine = (actual[1][0][-1] @ linear.weight.detach().numpy().T + linear.bias.detach().numpy()).clip(0)
    assert_close(mine / np.linalg.norm(mine, axis=1, keepdims=True), embedding)


def test_noise_that_no_spectrogram_can_be() -> None:
    """
    We are as far from the truth as torch is, and so the two may be that far apart.

    Weights of up to 61 times normally distributed numbers drive cell states to 100 and gates back and forth across
    their whole range: the float32 that goes in is no better than 1e-5 by then. torch in float64 is the truth, float32
    is 1.9e-5 from it on torch and 1.8e-5 here, rms 6.8e-7 and 8.1e-7.
    """
    import torch

    path = packaged("Resemblyzer", "resemblyzer/pretrained.pt")
    x = np.random.default_rng(0).standard_normal((160, 3, 40)).astype("f4")
    with torch.no_grad():
        single, double = (
            theirs(path, dtype)[0](torch.from_numpy(x).to(dtype))[0].numpy() for dtype in (torch.float32, torch.float64)
        )
    net = lx.load(path)
    np.testing.assert_allclose(net.to(np, dtype=np.float64)(x.astype("f8"))[0], double, rtol=0, atol=1e-12)
    ours, others = (np.sqrt(np.mean((each - double) ** 2)) for each in (net(x)[0], single))
    assert ours < 1.5 * others
