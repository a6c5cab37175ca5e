"""``python -m benchmarks.memory NAME T``: print by how many bytes one call raised the process's peak. Linux."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

import lstm_xp as lx

N, I, H = 8, 64, 128
LEAST = 2**20  # what allocators do below is noise
NAMES = "lstm_xp numpy", "lstm_xp stream", "torch.nn.LSTM", "ONNX Runtime"


def status(key: str) -> int:
    """Return a figure of the kernel's about this process, in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))


def prepare(name: str, T: int) -> Callable[[np.ndarray], object]:
    """Return what runs over an input."""
    net = lx.LSTM(I, H, seed=0)
    if name == "lstm_xp stream":
        stream = net.stream(batch_size=N)

        def run(x: np.ndarray) -> object:
            for x_t in x:
                stream(x_t)
            return stream.state

        return run
    if name.startswith("lstm_xp"):
        return lambda x: net(x, engine=name.split()[1])
    import torch

    from benchmarks.on_numpy import onnx_session
    from benchmarks.problems import Problem

    problem = Problem(N, T, I, H)
    if name == "ONNX Runtime":
        session = onnx_session(problem, 1)
        return lambda x: session.run(None, {"x": x})
    torch.set_num_threads(1)
    problem.module.load_state_dict({key: torch.tensor(array) for key, array in net.state_dict().items()})

    def forward(x: np.ndarray) -> object:
        with torch.no_grad():
            return problem.module(torch.from_numpy(x))

    return forward


def main() -> None:
    """Warm up with few steps, forget that peak, and run all."""
    name, T = sys.argv[1], int(sys.argv[2])
    run = prepare(name, T)
    x = np.random.default_rng(0).standard_normal((T, N, I), np.float32)
    if name != "ONNX Runtime":  # whose session is for T steps
        run(x[:10])
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    before = status("VmRSS")
    result = run(x)
    print(max(status("VmHWM") - before, LEAST))
    del result


if __name__ == "__main__":
    main()
