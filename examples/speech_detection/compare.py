"""Beside the original: the same probabilities from ONNX Runtime, and how long each takes.

python compare.py recording.wav [more.wav ...]

``pip install onnxruntime``.  Everybody has one thread, and gets the recording in pieces of the same length: once frame
by frame, as it comes from a microphone, and once as a whole.
"""

import os

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from detect import BEFORE, FRAME, RATE, Array, Detector, find_model, read_wav


def original(path: Path) -> Callable[[Array], Array]:
    """Return the network in ONNX Runtime, which takes frames and goes on where it was."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    state: dict[str, Any] = {name: np.zeros((1, 1, 128), "f4") for name in "hc"}
    before = np.zeros(BEFORE, "f4")

    def run(samples: Array) -> Array:
        nonlocal before
        frames = samples.reshape(-1, FRAME)
        inputs = np.hstack([np.vstack([before, frames[:-1, -BEFORE:]]), frames])
        before = frames[-1, -BEFORE:]
        speech, state["h"], state["c"] = session.run(None, {"input": inputs, **state})
        return speech

    return run


def main() -> None:
    """Print the largest difference, and the times of the best of several runs."""
    parser = argparse.ArgumentParser(description="Compare with ONNX Runtime.")
    parser.add_argument("recordings", type=Path, nargs="+")
    samples = np.concatenate([read_wav(path) for path in parser.parse_args().recordings])
    whole = np.pad(samples, (0, -len(samples) % FRAME))
    path = find_model()
    for name, pieces in (("frame by frame", len(whole) // FRAME), ("as a whole", 1)):
        parts = np.split(whole, pieces)
        results, seconds = {}, {}
        for _ in range(5):
            for who, run in (("NumPy", Detector(path)), ("ONNX Runtime", original(path))):
                start = time.perf_counter()
                results[who] = np.concatenate([run(part) for part in parts])
                seconds[who] = min(seconds.get(who, np.inf), time.perf_counter() - start)
        difference = np.abs(results["NumPy"] - results["ONNX Runtime"]).max()
        times = ", ".join(f"{who} {each * 1e3:.1f} ms" for who, each in seconds.items())
        print(f"{len(samples) / RATE:.1f} s {name}: {times}; largest difference {difference:.1e}")


if __name__ == "__main__":
    main()
