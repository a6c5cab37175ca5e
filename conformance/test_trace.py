"""
A look inside: gates, cell states and hidden states of every layer at every step.

What is told is put together again, one step after the other, in NumPy and float64: gates from the input, the weights
and the hidden state before; the cell state from the gates and the one before; the hidden state from both. With the
first state given and the last compared, nothing can be wrong and fit.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import lstm_xp as lx
from conformance.backends import Backend
from conformance.cases import Case, map_arrays
from conformance.compare import NAMES, tolerance_of
from conformance.running import Checker, as_numpy, fit, run, skipping_what_is_refused

EVERYTHING = ("h", "c", "i", "f", "g", "o")
GATES = ("i", "f", "g", "o")

CASES = (
    Case(time=4, num_layers=2, bidirectional=True, proj_size=2, bias=("bias_hh",)),
    Case(time=4, batch=None, reverse=True, dtype="float32", bias=("bias_ih",)),
    Case(time=4, num_layers=2, proj_size=2, batch_first=True, start="one", peephole=True),
    Case(time=4, batch=4, num_layers=2, bidirectional=True, valid="lengths", start="absent"),
    Case(time=4, num_layers=2, bidirectional=True, valid="mask", masked_output="hold", bias=()),
    Case(time=4, batch=4, batch_first=True, proj_size=3, valid="lengths", masked_output="hold", dtype="float32"),
    Case(time=4, num_layers=2, resets=True, variant="coupled", dtype="float32"),
)


def trace(case: Case, backend: Backend, keep: tuple[str, ...]) -> dict[Any, np.ndarray]:
    """Return what a trace has, as NumPy's arrays: output, h_n and c_n, and the rest by (name, layer, direction)."""
    keys = [(name, k, d) for name in keep for k in range(case.num_layers) for d in range(case.num_directions)]

    def flat(weights: Any, arrays: dict[str, Any]) -> tuple[Any, ...]:
        found = lx.trace(weights=weights, **arrays, **case.settings, engine=backend.engine, keep=keep)
        assert [name for name in EVERYTHING if getattr(found, name) is not None] == [n for n in EVERYTHING if n in keep]
        return found.output, *found.state, *(getattr(found, name)[k][d] for name, k, d in keys)

    arrays, weights = map_arrays(backend.array, (case.arguments(), case.weights()))
    with skipping_what_is_refused(backend):
        result = backend.call(flat, weights, arrays)
    names = (*NAMES, *(f"{name}[{k}][{d}]" for name, k, d in keys))
    return dict(zip((*NAMES, *keys), as_numpy(backend, result, arrays["x"], names), strict=True))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_is_told_makes_the_output(backend: Backend, case: Case, check: Checker) -> None:
    case = fit(case, backend)
    found = trace(case, backend, EVERYTHING)
    told, made, names = zip(*_made_again(case, found), strict=True)
    check(told, made, tolerance_of(case), names)
    check([found[name] for name in NAMES], run(case, backend), tolerance_of(case))


@pytest.mark.parametrize(
    ("case", "keep"),
    [(CASES[1], ("h", "c")), (CASES[4], ("c",)), (CASES[5], ("o", "c"))],
    ids=["h and c", "c", "o and c"],
)
def test_what_is_not_asked_for_changes_nothing(
    backend: Backend, case: Case, keep: tuple[str, ...], check: Checker
) -> None:
    case = fit(case, backend)
    everything, part = trace(case, backend, EVERYTHING), trace(case, backend, keep)
    check(list(part.values()), [everything[key] for key in part], tolerance_of(case), tuple(map(str, part)))


def _made_again(case: Case, found: dict[Any, np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray, str]]:
    """Yield what was told of each step, what it has to be, and its name."""
    inside = {key: _time_major(case, array) for key, array in found.items() if key not in ("h_n", "c_n")}
    # Zeros as well: a trace is the same whether they are given or not.
    given = case.state() if case.start != "absent" else tuple(map(np.zeros_like, case.state()))
    start = [array[:, None] if case.batch is None else array for array in given]
    h_n, c_n = (found[name][:, None] if case.batch is None else found[name] for name in ("h_n", "c_n"))
    valid = case.valid_steps()
    valid = np.ones(inside["output"].shape[:2], bool) if valid is None else valid
    below = _time_major(case, case.x())
    for k, layer in enumerate(case.weights()):
        for d, weights in enumerate(layer):
            row = k * case.num_directions + d
            state = tuple(np.broadcast_to(s[row], (below.shape[1], s.shape[2])) for s in start)
            backward = case.reverse or d == 1
            for t in reversed(range(case.time)) if backward else range(case.time):
                told = {name: inside[name, k, d][t] for name in EVERYTHING}
                if case.resets:
                    state = tuple(
                        np.where(case.reset()[t][:, None], s[row], now) for s, now in zip(start, state, strict=True)
                    )
                gates = _gates(case, weights, below[t], *state, told["c"])
                c = gates["f"] * state[1] + gates["i"] * gates["g"]
                h = gates["o"] * np.tanh(c)
                h = h if weights.weight_hr is None else h @ weights.weight_hr.T.astype("float64")
                now = valid[t][:, None]
                expected = {"h": np.where(now, h, state[0]), "c": np.where(now, c, state[1])}
                expected |= {name: np.where(now, gate, 0.0) for name, gate in gates.items()}
                for name in EVERYTHING:
                    yield told[name], expected[name], f"{name}[{k}][{d}] at {t}"
                # From what was told: each step is judged by itself.
                state = told["h"], told["c"]
            for name, last, final in (("h_n", state[0], h_n[row]), ("c_n", state[1], c_n[row])):
                yield last, final, f"{name}[{row}]"
        hidden = np.concatenate([inside["h", k, d] for d in range(case.num_directions)], axis=2)
        below = np.where(valid[..., None], hidden, 0)
    if case.masked_output == "zero":
        yield inside["output"], below, "output"


def _gates(
    case: Case, weights: Any, x: np.ndarray, h: np.ndarray, c_old: np.ndarray, c: np.ndarray
) -> dict[str, np.ndarray]:
    """Return the gates of one step, in float64."""
    w = {name: array.astype("float64") for name, array in weights._asdict().items() if array is not None}
    z = x @ w["weight_ih"].T + h @ w["weight_hh"].T + w.get("bias_ih", 0) + w.get("bias_hh", 0)
    z_i, z_f, z_g, z_o = np.split(z, 4, axis=1)
    p_i, p_f, p_o = w.get("peephole", np.zeros((3, 1)))
    sigmoid = lambda z: 1 / (1 + np.exp(-z))
    i = sigmoid(z_i + p_i * c_old)
    return {
        "i": i,
        "f": 1 - i if case.variant == "coupled" else sigmoid(z_f + p_f * c_old),
        "g": np.tanh(z_g),
        "o": sigmoid(z_o + p_o * c),
    }


def _time_major(case: Case, array: np.ndarray) -> np.ndarray:
    """Return what lies as the case's input as (time, batch, features)."""
    return array[:, None] if case.batch is None else array.swapaxes(0, 1) if case.batch_first else array
