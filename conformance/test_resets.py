"""Episodes: a reset starts a row afresh in mid-sequence, and no state passes from one episode to another."""

from typing import Any

import numpy as np
import pytest

from conformance import oracle
from conformance.backends import Backend
from conformance.cases import Case, map_arrays
from conformance.compare import TOLERANCE, tolerance_of
from conformance.running import Checker, as_numpy, fit, forward, run

CASES = [
    Case(num_layers=2, dtype="float32"),
    Case(num_layers=2, bidirectional=True, proj_size=2, start="one"),
    Case(batch_first=True, reverse=True, start="absent", bias=("bias_hh",)),
    Case(batch=None, num_layers=3, bidirectional=True, bias=()),
    Case(batch=4, num_layers=2, bidirectional=True, valid="lengths", dtype="float32"),
    Case(num_layers=2, reverse=True, valid="mask", masked_output="hold", batch_first=True),
    Case(num_layers=2, bidirectional=True, proj_size=3, valid="mask", masked_output="hold"),
    Case(batch=None, valid="mask", seed=6),
    Case(num_layers=2, bidirectional=True, variant="peephole"),
]
CASES = [case.replace(resets=True) for case in CASES]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_each_episode_by_itself(backend: Backend, case: Case, check: Checker) -> None:
    """Of `torch.nn.LSTM` or ONNX Runtime, which have no resets."""
    case = fit(case, backend)
    check(run(case, backend), oracle.truth(case), tolerance_of(case))


@pytest.mark.parametrize("case", CASES[1::4], ids=str)
def test_no_reset_is_the_call_without(backend: Backend, case: Case, check: Checker) -> None:
    """Bit for bit by one engine (tests/test_options.py); some libraries take another one for resets."""
    case = fit(case.replace(dtype=backend.dtypes[0]), backend)
    never = lambda given: given | {"reset": np.zeros_like(given["reset"])}
    check(run(case, backend, never), run(case.replace(resets=False), backend), TOLERANCE[case.dtype])


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "backward"])
def test_a_reset_at_every_step_is_a_call_for_each_step(backend: Backend, reverse: bool) -> None:
    case = fit(Case(time=3, num_layers=2, proj_size=2, reverse=reverse, resets=True), backend)
    output, *final = run(case, backend, lambda given: given | {"reset": np.ones_like(given["reset"])})
    weights, state = map_arrays(backend.array, (case.weights(), case.state()))
    frames = [backend.array(frame[None]) for frame in case.x()]
    one = case.replace(resets=False)
    alone = [as_numpy(backend, forward(one, backend, weights, {"x": x, "state": state}), x) for x in frames]
    expected = np.concatenate([h for h, _, _ in alone]), *alone[0 if reverse else -1][1:]
    for a, e in zip((output, *final), expected, strict=True):
        np.testing.assert_allclose(a, e, rtol=0, atol=TOLERANCE[case.dtype])


def test_a_reset_at_a_hole_counts_from_the_next_valid_step(backend: Backend) -> None:
    case = fit(
        Case(num_layers=2, bidirectional=True, resets=True, valid="mask", dtype=backend.dtypes[0]),
        backend,
    )
    mask = np.resize([[True, False], [False, True], [True, True]], (case.time, 2))
    reset = np.zeros_like(mask)
    reset[1, 0] = reset[0, 1] = True  # at holes; later is the same
    later = np.zeros_like(mask)
    later[2:3, 0] = later[1:2, 1] = True

    def with_(resets: np.ndarray) -> Any:
        x, state = case.x()[:, :2], tuple(a[:, :2] for a in case.state())
        return run(case, backend, lambda _: {"x": x, "state": state, "mask": mask, "reset": resets})

    at_holes, moved, never = with_(reset), with_(later), with_(np.zeros_like(mask))
    for a, b in zip(at_holes, moved, strict=True):
        np.testing.assert_array_equal(a, b)
    if case.time > 2:
        assert np.abs(at_holes[0] - never[0]).max() > 1e-3


def test_resets_at_more_holes_than_8_bits_count(backend: Backend) -> None:
    """256 of them, where sequences are so long: the next valid step is in another episode, as after one reset."""
    case = fit(Case(time=259, resets=True, valid="mask", dtype=backend.dtypes[0]), backend)
    mask, reset, one = (np.zeros((case.time, case.batch), "bool") for _ in range(3))
    holes = slice(2, -1)
    mask[:2] = mask[-1:] = True
    reset[holes] = True
    one[holes][:1] = True
    with_ = lambda resets: run(case, backend, lambda given: given | {"mask": mask, "reset": resets})
    many, single, never = with_(reset), with_(one), with_(np.zeros_like(mask))
    for a, b in zip(many, single, strict=True):
        np.testing.assert_array_equal(a, b)
    if case.time > 3:
        assert np.abs(many[0] - never[0]).max() > 1e-3


def test_a_reset_in_the_padding_does_not_matter(backend: Backend) -> None:
    case = Case(batch=4, num_layers=2, bidirectional=True, valid="lengths", resets=True, dtype=backend.dtypes[0])
    case = fit(case, backend)
    flipped = case.reset() ^ ~case.valid_steps()
    assert (flipped != case.reset()).any()
    for a, b in zip(run(case, backend, lambda given: given | {"reset": flipped}), run(case, backend), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_reset_at_the_first_step_changes_nothing(backend: Backend) -> None:
    case = fit(Case(num_layers=2, bidirectional=True, resets=True, dtype=backend.dtypes[0]), backend)
    results = []
    for first in (False, True):
        reset = case.reset()
        reset[0] = first
        results.append(run(case, backend, lambda given, reset=reset: given | {"reset": reset}))
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


def test_nothing_of_an_episode_is_left_in_the_next(backend: Backend) -> None:
    """NaN in the first half of the steps: the rest is as if it had never been, in both directions."""
    case = fit(Case(time=6, num_layers=2, bidirectional=True, resets=True, dtype=backend.dtypes[0]), backend)
    half = case.time // 2
    reset = np.zeros((case.time, case.batch), bool)
    reset[half] = True
    poisoned = case.x()
    poisoned[:half] = np.nan
    given = {"state": case.state(), "reset": reset}
    clean, dirty = (run(case, backend, lambda _, x=x: given | {"x": x}) for x in (case.x(), poisoned))
    np.testing.assert_array_equal(dirty[0][half:], clean[0][half:])
    assert np.isfinite(clean[0]).all()
    assert np.isnan(dirty[0][:half]).all()
    for a, b in zip(dirty[1:], clean[1:], strict=True):  # forward rows are of the last episode, backward of the first
        np.testing.assert_array_equal(a[0::2], b[0::2])
        assert np.isnan(a[1::2]).all()
