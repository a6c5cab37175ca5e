"""
The oracles: who knows the right answer.

`torch.nn.LSTM` on the CPU in float64, and ONNX Runtime (float32, all it has) for the variants that torch does not have.
They are asked live where they are installed; otherwise their answers are read from ``reference/``, where
``python -m conformance.freeze`` put them.
"""

from collections.abc import Callable
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np

import lstm_xp as lx
from conformance.cases import Case, map_arrays
from conformance.onnx_oracle import run_layers

Answer = tuple[np.ndarray, ...]
# (x, state, reverse) -> (output, h_n, c_n): time-major, every step valid. Where a case has noise, one that knows of it
# is given the masks behind these.
Whole = Callable[..., Answer]

REFERENCE = Path(__file__).parent / "reference"
NEEDS = {"torch": ("torch",), "onnxruntime": ("onnx", "onnxruntime")}

# How they are asked: "live", "frozen" or, where installed live, "auto".
mode: Literal["auto", "live", "frozen"] = "auto"

# What they were asked, and what they answered, by oracle: for `conformance.freeze`.
asked: dict[str, dict[str, Answer]] = {oracle: {} for oracle in NEEDS}


class UnknownAnswerError(Exception):
    """An oracle is not there to be asked, and its answer is not among the frozen ones."""

    def __init__(self, oracle: str, question: str) -> None:
        self.summary = f"{oracle} was not there to be asked, and its answer is not among the frozen ones"
        super().__init__(f"{self.summary}: {question}; install {' and '.join(NEEDS[oracle])}")


def is_live(oracle: str) -> bool:
    """Tell whether an oracle is asked, rather than its frozen answers read."""
    return mode == "live" or (mode == "auto" and all(find_spec(module) for module in NEEDS[oracle]))


def ask(oracle: str, question: str, answer: Callable[[], Answer]) -> Answer:
    """
    Return the answer to a question.

    Parameters
    ----------
    oracle : str
        A key of `NEEDS`.
    question : str
        The name under which the answer is frozen.
    answer : callable
        Asks the oracle.

    Returns
    -------
    tuple of numpy.ndarray
        The answer.

    Raises
    ------
    UnknownAnswerError
        The oracle is not installed, or not to be asked, and the answer is not frozen.
    """
    if is_live(oracle):
        if question not in asked[oracle]:
            asked[oracle][question] = answer()
        return asked[oracle][question]
    try:
        return frozen(oracle)[question]
    except KeyError:
        raise UnknownAnswerError(oracle, question) from None


@cache
def frozen(oracle: str) -> dict[str, Answer]:
    """Return an oracle's frozen answers, by question."""
    answers: dict[str, list[np.ndarray]] = {}
    with np.load(REFERENCE / f"{oracle}.npz") as file:
        for name in file.files:  # in the order in which they were written
            if name != "version":
                answers.setdefault(name.rpartition("/")[0], []).append(file[name])
    return {question: tuple(arrays) for question, arrays in answers.items()}


def version(oracle: str) -> str:
    """Return the version of an oracle that is asked, or that was."""
    if is_live(oracle):
        return metadata.version(oracle)
    with np.load(REFERENCE / f"{oracle}.npz") as file:
        return str(file["version"])


def oracle_of(case: Case) -> str:
    """Return which oracle knows a case."""
    return "torch" if case.variant == "torch" and not case.peephole else "onnxruntime"


def truth(case: Case) -> Answer:
    """
    Return the right answer to a case, whatever its dtype.

    Parameters
    ----------
    case : Case
        The case.

    Returns
    -------
    tuple of numpy.ndarray
        The output, h_n and c_n, laid out as the case is: float64 from torch, float32 from ONNX Runtime.
    """
    oracle = oracle_of(case)
    return ask(oracle, str(case), lambda: answer(case, torch_whole(case) if oracle == "torch" else onnx_whole(case)))


def torch_answer(case: Case) -> Answer:
    """Return what `torch.nn.LSTM` gives in float64, rounded to the case's dtype."""
    return tuple(array.astype(case.dtype) for array in answer(case, torch_whole(case)))


def answer(case: Case, whole: Whole) -> Answer:
    """
    Return a case's answer, by who knows that of whole sequences.

    Parameters
    ----------
    case : Case
        The case.
    whole : callable
        Runs time-major sequences, every step of which is valid, from a state.

    Returns
    -------
    tuple of numpy.ndarray
        The output, h_n and c_n, laid out as the case is.
    """
    plain = case.replace(batch_first=False, batch=1 if case.batch is None else case.batch)
    x, batch = plain.x(), plain.batch
    rows = case.num_layers * case.num_directions
    if case.start == "absent":
        state = tuple(np.zeros((rows, batch, size), case.dtype) for size in (case.output_size, case.hidden_size))
    else:
        state = tuple(np.repeat(a, batch, axis=1) if case.start == "one" else a for a in plain.state())
    noise = plain.masks() if case.noise else None
    if case.valid == "all" and not case.resets:
        output, h_n, c_n = whole(x, state, case.reverse, *([] if noise is None else [noise]))
    else:
        output, h_n, c_n = _by_rows(case, whole, x, state, noise)
    if case.batch is None:
        return output[:, 0], h_n[:, 0], c_n[:, 0]
    return (output.swapaxes(0, 1) if case.batch_first else output), h_n, c_n


def _of_steps(noise: lx.Noise, steps: np.ndarray, rows: slice) -> lx.Noise:
    """Return the masks for some steps of some rows of a batch."""

    def at(array: np.ndarray | None, *, in_time: bool) -> np.ndarray | None:
        if array is None:
            return None
        array = array[..., rows, :]
        # One mask may be for all steps.
        return np.take(array, steps, axis=-3) if in_time and array.shape[-3] > 1 else array

    return lx.Noise(
        inputs=at(noise.inputs, in_time=True),
        between=at(noise.between, in_time=True),
        hidden=at(noise.hidden, in_time=False),
        zoneout_h=at(noise.zoneout_h, in_time=True),
        zoneout_c=at(noise.zoneout_c, in_time=True),
        weight_hh=noise.weight_hh,
    )


def _by_rows(case: Case, whole: Whole, x: np.ndarray, state: tuple[np.ndarray, ...], noise: lx.Noise | None) -> Answer:
    """Return what steps that are not valid and resets lead to: each episode of each row by itself, its valid steps."""
    h_n, c_n = (array.astype("float64") for array in state)
    size, rows = case.output_size, range(len(h_n))
    output = np.zeros((*x.shape[:2], case.num_directions * size))
    valid, episodes = case.valid_steps(), case.episodes()
    valid = np.full(x.shape[:2], True) if valid is None else valid
    episodes = np.zeros(x.shape[:2], int) if episodes is None else episodes
    for row in range(x.shape[1]):
        one, start = slice(row, row + 1), tuple(a[:, row : row + 1] for a in state)
        numbers = np.unique(episodes[valid[:, row], row])
        for number in numbers:
            steps = np.flatnonzero(valid[:, row] & (episodes[:, row] == number))
            masks = [] if noise is None else [_of_steps(noise, steps, one)]
            y, *final = whole(x[steps, one], start, case.reverse, *masks)
            output[steps, row] = y[:, 0]
            backward = [case.reverse or k % case.num_directions == 1 for k in rows]
            ends_here = [k for k in rows if number == numbers[0 if backward[k] else -1]]
            h_n[ends_here, one], c_n[ends_here, one] = (a[ends_here] for a in final)
        if case.masked_output == "hold":
            for direction in range(case.num_directions):
                features = slice(direction * size, (direction + 1) * size)
                last = np.zeros(size)
                for t in range(case.time)[:: -1 if case.reverse or direction == 1 else 1]:
                    last = output[t, row, features].copy() if valid[t, row] else last
                    output[t, row, features] = last
    return output, h_n, c_n


def torch_module(case: Case, dtype: str | None = None) -> Any:
    """Return `torch.nn.LSTM` with the weights of a case, in its dtype unless another is named."""
    import torch

    module = torch.nn.LSTM(
        case.input_size,
        case.hidden_size,
        case.num_layers,
        bias=bool(case.bias),
        batch_first=case.batch_first,
        bidirectional=case.bidirectional,
        proj_size=case.proj_size,
        dtype=getattr(torch, dtype or case.dtype),
    ).eval()
    zeros = {name: torch.zeros_like(value) for name, value in module.state_dict().items()}
    ours = case.lstm().state_dict()
    module.load_state_dict(zeros | {name: torch.tensor(value) for name, value in ours.items()})
    return module


def torch_whole(case: Case, dtype: str = "float64") -> Whole:
    """Return `torch.nn.LSTM` as a function of NumPy arrays."""

    def whole(x: np.ndarray, state: tuple[np.ndarray, np.ndarray], reverse: bool) -> Answer:
        import torch

        module = torch_module(case.replace(batch_first=False), dtype)
        given = map_arrays(lambda array: torch.tensor(array.astype(dtype)), (_in_time(x, reverse), state))
        with torch.no_grad():
            output, (h_n, c_n) = module(*given)
        return _in_time(output.numpy(), reverse), h_n.numpy(), c_n.numpy()

    return whole


def onnx_whole(case: Case) -> Whole:
    """Return ONNX Runtime's LSTM as a function of NumPy arrays."""

    def whole(x: np.ndarray, state: tuple[np.ndarray, np.ndarray], reverse: bool) -> Answer:
        arrays = map_arrays(lambda array: array.astype("float32"), (x, case.weights(), state))
        return run_layers(*arrays, case.options, reverse=reverse)

    return whole


def _in_time(x: np.ndarray, reverse: bool) -> np.ndarray:
    return x[::-1].copy() if reverse else x
