"""Contestants in taking one step at a time."""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch

import lstm_xp as lx
from benchmarks.on_numpy import onnx_session
from benchmarks.problems import Problem
from benchmarks.race import Contestant

Step = Callable[[np.ndarray], np.ndarray]


def contestant(name: str, problem: Problem, start: Callable[[], Step]) -> Contestant:
    """Return a stream of frames (1, I), the state carried from one to the next; checked over a whole sequence."""
    step, frame = start(), problem.x[0]

    def read(_: np.ndarray) -> list[np.ndarray]:
        anew = start()
        return [np.stack([np.array(anew(x_t)).reshape(1, problem.H) for x_t in problem.x])]

    return Contestant(name, lambda: step(frame), read)


def ours(problem: Problem) -> Iterator[Contestant]:
    """Yield `LSTM.stream` on each engine that runs on NumPy's arrays and streams."""
    for engine in ("numpy", "numba", "standard"):
        if engine in lx.available_engines():
            start = partial(problem.net.stream, engine=engine)
            yield contestant(f"lstm_xp stream, {engine}", problem, start)


def onnx_runtime(problem: Problem, threads: int) -> Iterator[Contestant]:
    """Yield ONNX Runtime's `run` of one step."""
    session = onnx_session(problem, threads, step=True)

    def start() -> Step:
        h = c = np.zeros((1, 1, problem.H), np.float32)

        def step(x: np.ndarray) -> np.ndarray:
            nonlocal h, c
            h, c = session.run(None, {"x": x[None], "h": h, "c": c})
            return h

        return step

    yield contestant("ONNX Runtime", problem, start)


def modules(problem: Problem) -> Iterator[Contestant]:
    """Yield `torch.nn.LSTM` and `torch.nn.LSTMCell`, on arrays of NumPy."""
    cell = torch.nn.LSTMCell(problem.I, problem.H)
    cell.load_state_dict({name.removesuffix("_l0"): array for name, array in problem.module.state_dict().items()})

    def start_lstm() -> Step:
        state = None

        @torch.inference_mode()
        def step(x: np.ndarray) -> np.ndarray:
            nonlocal state
            output, state = problem.module(torch.from_numpy(x)[None], state)
            return output.numpy()

        return step

    def start_cell() -> Step:
        state = None

        @torch.inference_mode()
        def step(x: np.ndarray) -> np.ndarray:
            nonlocal state
            state = cell(torch.from_numpy(x), state)
            return state[0].numpy()

        return step

    yield contestant("torch.nn.LSTM", problem, start_lstm)
    yield contestant("torch.nn.LSTMCell", problem, start_cell)
