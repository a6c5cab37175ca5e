"""Find where somebody speaks in a recording: Silero VAD on NumPy, without the framework that it was trained in.

Prints the beginning and the end of each utterance in seconds::

    python detect.py recording.wav [more.wav ...] [--picture speech.svg]

The network comes from the package silero-vad, whose file is read and whose code is not run:
``pip install --no-deps silero-vad``.  Of what reads and runs it only NumPy and onnx are needed.
"""

import argparse
import importlib.metadata
import sys
import wave
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

import lstm_xp as lx

RATE = 16_000
FRAME, BEFORE = 512, 64  # samples: what is judged at once, and how many of those before are seen with it
BLOCK = 1024  # frames that are worked on at once, so that a long recording takes no more memory than a short one

Array = NDArray[np.float32]


def find_model() -> Path:
    """Return where the package silero-vad has put the network for 16 kHz."""
    try:
        package = importlib.metadata.distribution("silero-vad")
    except importlib.metadata.PackageNotFoundError:
        sys.exit("the network is in the package silero-vad: pip install --no-deps silero-vad")
    return Path(str(package.locate_file("silero_vad/data/silero_vad_16k_sequence.onnx")))


def read_wav(path: Path) -> Array:
    """Return a recording of 16 bits as one channel at 16 kHz, between -1 and 1."""
    with wave.open(str(path)) as file:
        rate, width, channels = file.getframerate(), file.getsampwidth(), file.getnchannels()
        data = file.readframes(file.getnframes())
    if width != 2 or rate % RATE:
        sys.exit(f"{path} has {8 * width} bits at {rate} Hz, expected 16 bits at a multiple of {RATE} Hz")
    samples = np.frombuffer(data, "<i2").reshape(-1, channels).mean(axis=1, dtype="f4") / 2**15
    return samples[:: rate // RATE]  # as the original does: without a filter


def matrix(weight: Array) -> Array:
    """Return the weight of a convolution (channels out, channels, width) as `convolve` takes it."""
    return np.ascontiguousarray(weight.transpose(2, 1, 0).reshape(-1, len(weight)))


def convolve(x: Array, weight: Array, stride: int, padding: int = 0) -> Array:
    """Convolve (frames, time, channels) with (width*channels, channels out)."""
    if padding:
        x = np.concatenate([(zeros := np.zeros_like(x[:, :padding])), x, zeros], axis=1)
    width = len(weight) // x.shape[2]
    starts = range(0, x.shape[1] - width + 1, stride)
    return np.stack([x[:, t : t + width].reshape(len(x), -1) @ weight for t in starts], axis=1)


class Detector:
    """
    Tells how likely it is that somebody speaks, for each frame of 32 ms.

    Convolutions make 128 features of a frame's spectrum, the LSTM remembers what was before, and one unit on top
    decides.  It may be called with one piece after the other: it goes on where it was.
    """

    def __init__(self, path: Path) -> None:
        self.lstm = lx.load(path)
        arrays: dict[str, Any] = {each.name: numpy_helper.to_array(each) for each in onnx.load(path).graph.initializer}
        self.spectrum = matrix(arrays["stft.forward_basis_buffer"])
        self.encoder = [(matrix(arrays[f"encoder.{k}.weight"]), arrays[f"encoder.{k}.bias"]) for k in range(4)]
        self.weight, self.bias = arrays["output.weight"][0, :, 0], arrays["output.bias"]
        self.reset()

    def reset(self) -> None:
        """Forget what was heard."""
        self.stream = self.lstm.stream(batch_size=None)
        self.before = np.zeros(BEFORE, "f4")

    def features(self, frames: Array) -> Array:
        """Return what the LSTM sees of frames (frames, BEFORE + FRAME): (frames, 128)."""
        frames = np.hstack([frames, frames[:, -2:-66:-1]])  # mirrored at its end
        x = np.hypot(*np.split(convolve(frames[:, :, None], self.spectrum, 128), 2, axis=2))
        for (weight, bias), stride in zip(self.encoder, (1, 2, 2, 1), strict=True):
            x = np.maximum(convolve(x, weight, stride, padding=1) + bias, 0)
        return x[:, 0]

    def __call__(self, samples: Array) -> Array:
        """Return the probability of speech in each frame of (samples,), a multiple of FRAME."""
        frames = samples.reshape(-1, FRAME)
        before = np.vstack([self.before, frames[:-1, -BEFORE:]])
        self.before = frames[-1, -BEFORE:]
        x = self.features(np.hstack([before, frames]))
        if len(x) == 1:  # as it comes from a microphone
            output = self.stream(x[0])[None]
        else:
            output, self.stream.state = self.lstm(x, self.stream.state)
        return 1 / (1 + np.exp(-(np.maximum(output, 0) @ self.weight + self.bias)))


def probabilities(samples: Array, detector: Detector) -> Array:
    """Return the probability of speech in each frame of a recording."""
    detector.reset()
    whole = np.pad(samples, (0, -len(samples) % FRAME))
    return np.concatenate([detector(part) for part in np.split(whole, range(BLOCK * FRAME, len(whole), BLOCK * FRAME))])


def utterances(speech: Array, length: int) -> list[tuple[int, int]]:
    """
    Return the first and the last sample of each utterance, as Silero's own rule has it.

    One begins above 0.5 and ends below 0.35, when it stays below 0.5 for 100 ms.  One of less than 250 ms is none;
    the others get 30 ms before and after, where there is room.
    """
    found: list[tuple[int, int]] = []
    start = end = None
    for sample, p in zip(range(0, FRAME * len(speech), FRAME), speech, strict=True):
        if p >= 0.5:
            start, end = sample if start is None else start, None
        elif p < 0.35 and start is not None:
            end = sample if end is None else end
            if sample - end >= 0.1 * RATE:
                found.append((start, end))
                start = end = None
    found += [] if start is None else [(start, length)]
    found = [(start, end) for start, end in found if end - start > 0.25 * RATE]
    # Half of the silence before and after, where it is short.
    rooms = [
        2 * found[0][0] if found else 0,
        *(b[0] - a[1] for a, b in pairwise(found)),
        10 * length,
    ]
    margins = [min(room // 2, round(0.03 * RATE)) for room in rooms]
    return [(s - margins[k], min(e + margins[k + 1], length)) for k, (s, e) in enumerate(found)]


def draw(path: Path, samples: Array, speech: Array, found: list[tuple[int, int]]) -> None:
    """Draw a recording, the probabilities and the utterances."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams |= {"svg.fonttype": "path", "svg.hashsalt": "speech_detection", "font.size": 9.3}
    from matplotlib import pyplot as plt

    figure, (upper, lower) = plt.subplots(
        2, 1, figsize=(9.6, 3.4), sharex=True, height_ratios=(1.2, 1), layout="constrained"
    )
    step = max(1, len(samples) // 1200)
    cut = samples[: len(samples) // step * step].reshape(-1, step)
    seconds = np.arange(len(cut)) * step / RATE
    upper.fill_between(seconds, cut.min(axis=1), cut.max(axis=1), color="#8C929B", linewidth=0)
    lower.plot((np.arange(len(speech)) + 1) * FRAME / RATE, speech, color="#1B4F8A", linewidth=1)
    for start, end in found:
        for axes in (upper, lower):
            axes.axvspan(start / RATE, end / RATE, color="#DDAA33", alpha=0.3, linewidth=0)
    upper.set_ylabel("signal")
    lower.set_ylabel("probability\nof speech")
    lower.set_xlabel("seconds")
    lower.set_ylim(-0.03, 1.03)
    lower.set_xlim(0, len(samples) / RATE)
    for axes in (upper, lower):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Print where somebody speaks."""
    parser = argparse.ArgumentParser(description="Find where somebody speaks in a recording.")
    parser.add_argument("recordings", type=Path, nargs="+", help=".wav files of 16 bits at 16 kHz, or a multiple of it")
    parser.add_argument("--picture", type=Path, help="where to draw it; needs matplotlib")
    arguments = parser.parse_args()
    samples = np.concatenate([read_wav(path) for path in arguments.recordings])  # as one
    speech = probabilities(samples, Detector(find_model()))
    found = utterances(speech, len(samples))
    for start, end in found:
        print(f"{start / RATE:8.2f} {end / RATE:8.2f}")
    if arguments.picture:
        draw(arguments.picture, samples, speech, found)


if __name__ == "__main__":
    main()
