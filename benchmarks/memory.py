"""``python -m benchmarks.memory WHAT NAME T``: print by how many bytes one call raised the process's peak. Linux."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

import lstm_xp as lx

N, I, H = 8, 64, 128
LEAST = 2**20  # what allocators do below is noise
NAMES = {
    "peak": ("lstm_xp numpy", "lstm_xp stream", "torch.nn.LSTM", "ONNX Runtime"),
    "training, peak": (
        "lstm_xp numpy",
        "lstm_xp numpy, remat=100",
        "lstm_xp numba",
        "lstm_xp standard",
        "torch.nn.LSTM",
    ),
}


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


def prepare_training(name: str) -> Callable[[np.ndarray], object]:
    """Return what goes forward over an input and back, for the gradient of the output's sum of squares."""
    net = lx.LSTM(I, H, seed=0)
    if name.startswith("lstm_xp"):
        engine, _, remat = name.removeprefix("lstm_xp ").partition(", remat=")

        def train(x: np.ndarray) -> object:
            (output, _), pullback = net.vjp(x, engine=engine, remat=int(remat) if remat else None)
            return pullback(2 * output)

        return train
    import torch

    torch.set_num_threads(1)
    module = torch.nn.LSTM(I, H)
    module.load_state_dict({key: torch.tensor(array) for key, array in net.state_dict().items()})

    def train_torch(x: np.ndarray) -> object:
        leaf = torch.from_numpy(x).requires_grad_()
        return torch.autograd.grad(module(leaf)[0].square().sum(), [leaf, *module.parameters()])

    return train_torch


def main() -> None:
    """Warm up with few steps, forget that peak, and run all."""
    what, name, T = sys.argv[1], sys.argv[2], int(sys.argv[3])
    run = prepare(name, T) if what == "peak" else prepare_training(name)
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
