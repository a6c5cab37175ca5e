"""The example that finds speech, from a .wav file to seconds, beside ONNX Runtime and Silero's own rule."""

import subprocess
import sys
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models.packages import assert_close, example, packaged
from tests.models.speech import RATE, voice

pytestmark = pytest.mark.needs("onnx", "onnxruntime", "torch")
PIECES = [(0.6, False), (1.2, True), (1.4, False), (1.5, True), (0.05, False), (1.0, True)]


@pytest.fixture(scope="module")
def detect() -> Any:
    packaged("silero-vad", "silero_vad")
    return example("speech_detection/detect.py")


@pytest.fixture(scope="module")
def sound() -> np.ndarray:
    return voice(*PIECES, seed=3)


def original(sound: np.ndarray) -> np.ndarray:
    """Return what the package's ONNX model for streams says, frame by frame."""
    import onnxruntime

    path = packaged("silero-vad", "silero_vad/data/silero_vad.onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    state, before, speech = np.zeros((2, 1, 128), "f4"), np.zeros(64, "f4"), []
    for frame in np.pad(sound, (0, -len(sound) % 512)).reshape(-1, 512):
        inputs = {"input": np.concatenate([before, frame])[None], "state": state, "sr": np.array(RATE)}
        probability, state = session.run(None, inputs)
        speech.append(probability[0, 0])
        before = frame[-64:]
    return np.asarray(speech)


def test_probabilities(detect: Any, sound: np.ndarray) -> None:
    detector, expected = detect.Detector(detect.find_model()), original(sound)
    assert expected.min() < 0.1
    assert expected.max() > 0.9
    assert_close(detect.probabilities(sound, detector), expected)
    # In pieces, and frame by frame.
    detector.reset()
    whole = sound[: len(sound) // 512 * 512]
    parts = np.split(whole, [512, 1024, 5 * 512, 40 * 512])
    assert_close(np.concatenate([detector(part) for part in parts]), expected[: len(whole) // 512])


def test_the_rule(detect: Any) -> None:
    """On walks that cross its thresholds, Silero's own function is right."""
    from silero_vad.utils_vad import get_speech_timestamps_from_probs

    rng, found = np.random.default_rng(0), set()
    for _ in range(300):
        speech = np.clip(0.45 + np.cumsum(rng.normal(0, 0.15, 60)) * rng.uniform(0.2, 1), 0, 1)
        length = 60 * 512 - int(rng.integers(0, 512))
        expected = get_speech_timestamps_from_probs(list(speech), audio_length_samples=length)
        assert detect.utterances(speech, length) == [(each["start"], each["end"]) for each in expected]
        found.add(len(expected))
    assert found >= {0, 1, 2, 3}


def test_the_program(detect: Any, sound: np.ndarray, tmp_path: Path) -> None:
    """At 48 kHz in two channels, in a process that imports neither torch nor ONNX Runtime."""
    stereo = np.repeat(np.repeat(sound, 3)[:, None], 2, axis=1)
    with wave.open(str(tmp_path / "voice.wav"), "wb") as file:
        file.setparams((2, 2, 3 * RATE, 0, "NONE", ""))
        file.writeframes((stereo * 2**15).astype("<i2").tobytes())
    program = (
        "import runpy, sys\n"
        f"runpy.run_path({detect.__file__!r}, run_name='__main__')\n"
        "assert not {'torch', 'onnxruntime', 'silero_vad'} & sys.modules.keys()"
    )
    command = [sys.executable, "-c", program, tmp_path / "voice.wav"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = [tuple(map(float, line.split())) for line in printed.splitlines()]
    edges = np.cumsum([0, *(seconds for seconds, _ in PIECES)])
    # A pause of 50 ms is none. The network lets an utterance fade out, and the rule adds 30 ms.
    np.testing.assert_allclose(found, [(edges[1], edges[2]), (edges[3], edges[6])], atol=0.25)
