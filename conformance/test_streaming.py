"""A sequence in pieces, the state carried from one to the next, is the whole; so are its frames in a stream."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import lstm_xp as lx
from conformance import oracle, textbook
from conformance.backends import Backend
from conformance.cases import Case, map_arrays
from conformance.compare import NORMALISED, tolerance_of
from conformance.running import Checker, as_numpy, fit, forward, skipping_what_is_refused


@pytest.mark.parametrize("cuts", [(1, 2), (3, 4, 6)], ids=str)
@pytest.mark.parametrize(
    "case",
    [
        Case(num_layers=2, proj_size=2),
        Case(num_layers=2, start="absent", batch_first=True),
        Case(batch=None, bias=()),
        Case(valid="mask"),
        Case(variant="coupled"),
    ],
    ids=str,
)
def test_chunks(backend: Backend, dtype: str, case: Case, cuts: tuple[int, ...], check: Checker) -> None:
    case = fit(case.replace(dtype=dtype), backend)
    weights = map_arrays(backend.array, case.weights())
    whole = case.arguments()
    axis = 1 if case.batch_first else 0
    state, outputs = map_arrays(backend.array, whole.pop("state", None)), []
    for start, stop in pairwise(sorted({0, case.time, *(cut for cut in cuts if cut < case.time)})):
        steps = range(start, stop)
        arrays = {
            name: backend.array(np.take(array, steps, axis=axis if name == "x" else 0)) for name, array in whole.items()
        }
        arrays |= {} if state is None else {"state": state}
        output, *state = forward(case, backend, weights, arrays)
        state = tuple(state)
        outputs += as_numpy(backend, (output,), arrays["x"], ("output",))
        if stop == case.time:
            final = as_numpy(backend, state, arrays["x"], ("h_n", "c_n"))
    check((np.concatenate(outputs, axis=axis), *final), oracle.truth(case), tolerance_of(case))


@pytest.mark.parametrize(
    "case",
    [
        Case(num_layers=3, input_size=3, hidden_size=6, batch=4),
        Case(num_layers=2, proj_size=2, start="one"),
        Case(batch=1, num_layers=2, bias=("bias_hh",), start="absent", batch_first=True),
        Case(batch=1, num_layers=2, proj_size=3, hidden_size=5, input_size=6),
        Case(batch=None, num_layers=2, proj_size=2),
        Case(batch=None, bias=()),
        *(Case(num_layers=2, variant=variant) for variant in ("peephole", "coupled", "clipped", "activations")),
        *(Case(batch=1, num_layers=2, variant=variant) for variant in ("peephole", "coupled", "clipped")),
    ],
    ids=str,
)
def test_frames(backend: Backend, dtype: str, case: Case, check: Checker) -> None:
    case = fit(case.replace(dtype=dtype), backend)
    check(frame_by_frame(case, backend), oracle.truth(case), tolerance_of(case))


@pytest.mark.parametrize("carry", [False, True], ids=["shown", "carried"])
@pytest.mark.parametrize("gates", ["joint", "each"])
def test_frames_normalised(backend: Backend, gates: str, carry: bool, check: Checker) -> None:
    case = fit(Case(time=3, num_layers=2, proj_size=2, peephole=True, norm=gates, dtype=backend.dtypes[0]), backend)
    options = {"norm_carry": carry, "norm_gates": gates}
    actual = frame_by_frame(case, backend, options=lx.CellOptions(**options))
    check(actual, textbook.answer(case, textbook.Variant(**options)), NORMALISED[case.dtype])


def frame_by_frame(case: Case, backend: Backend, **settings: Any) -> tuple[np.ndarray, ...]:
    """Return the output, h_n and c_n of a stream that is given a case's x."""
    state = map_arrays(backend.array, case.arguments().get("state"))
    with skipping_what_is_refused(backend):
        stream = case.lstm(backend.array, engine=backend.engine, **settings).stream(state, case.batch)
    x = case.x().swapaxes(0, 1) if case.batch_first else case.x()
    frames = [backend.array(frame) for frame in x]
    outputs = as_numpy(backend, [stream(frame) for frame in frames], frames[0], ("output",) * len(frames))
    final = as_numpy(backend, stream.state, frames[0], ("h_n", "c_n"))
    return np.stack(outputs, axis=1 if case.batch_first else 0), *final
