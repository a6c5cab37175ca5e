"""What must hold whatever the numbers are: properties that need no oracle, over drawn sizes and settings."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable

import lstm_xp as lx
from conformance.backends import Backend
from conformance.cases import Case, map_arrays
from conformance.compare import TOLERANCE
from conformance.running import Checker, fit, forward, run
from conformance.strategies import cases


def over(backend: Backend, **strategies: Any) -> Callable[[Callable[..., None]], None]:
    """
    Run a function at once, with what is drawn.

    Derandomised: a run that passed passes again. A library that is slow gets fewer examples.
    """
    few = settings(
        max_examples=backend.examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate, *([Phase.shrink] if backend.examples > 10 else [])],
    )

    def attempt(function: Callable[..., None]) -> None:
        try:
            few(given(**strategies)(function))()
        except Unsatisfiable:
            if backend.engine == "auto":
                raise
            pytest.skip(f"the engine {backend.engine!r} can run none of what was drawn")

    return attempt


def drawn(backend: Backend, **fixed: Any) -> st.SearchStrategy[Case]:
    """Draw configurations that a library can run."""
    return cases(backend.dtypes, backend.steps, **fixed)


def test_a_sequence_in_chunks_is_the_whole(backend: Backend, check: Checker) -> None:
    @over(backend, case=drawn(backend, bidirectional=False, valid="mask"), data=st.data())
    def holds(case: Case, data: st.DataObject) -> None:
        x, mask, state, outputs = case.x(), case.mask(), case.state(), []
        cuts = sorted(data.draw(st.sets(st.integers(1, max(1, case.time - 1)))) | {0, case.time})
        for start, stop in pairwise(cuts):
            chunk = {"x": x[start:stop], "state": state, "mask": mask[start:stop]}
            output, *state = run(case, backend, lambda _, chunk=chunk: chunk)
            state = tuple(state)
            outputs.append(output)
        check((np.concatenate(outputs), *state), run(case, backend), TOLERANCE[case.dtype])


def test_two_directions_are_two_runs(backend: Backend, check: Checker) -> None:
    @over(
        backend,
        case=drawn(backend, bidirectional=True, num_layers=1, valid="lengths"),
        held=st.booleans(),
    )
    def holds(case: Case, held: bool) -> None:
        case = case.replace(masked_output="hold" if held else "zero")
        ((forward_cell, backward_cell),) = map_arrays(backend.array, case.weights())
        both = run(case, backend)
        one_way = []
        for k, cell in enumerate((forward_cell, backward_cell)):
            arrays = case.arguments() | {"state": tuple(a[k : k + 1] for a in case.state())}
            one = case.replace(bidirectional=False, reverse=bool(k))
            one_way.append(backend.to_numpy(forward(one, backend, cell, map_arrays(backend.array, arrays))))
        outputs, h_n, c_n = zip(*one_way, strict=True)
        expected = np.concatenate(outputs, axis=2), np.concatenate(h_n), np.concatenate(c_n)
        check(both, expected, TOLERANCE[case.dtype])


def test_layers_are_one_on_top_of_the_other(backend: Backend, check: Checker) -> None:
    @over(backend, case=drawn(backend, num_layers=2))
    def holds(case: Case) -> None:
        x, finals = case.x(), []
        for k, layer in enumerate(map_arrays(backend.array, case.weights())):
            rows = slice(k * case.num_directions, (k + 1) * case.num_directions)
            arrays = {"x": x, "state": tuple(a[rows] for a in case.state())}
            x, *final = backend.to_numpy(forward(case, backend, (layer,), map_arrays(backend.array, arrays)))
            finals.append(final)
        expected = (x, *(np.concatenate(each) for each in zip(*finals, strict=True)))
        check(run(case, backend), expected, TOLERANCE[case.dtype])


def test_rows_of_a_batch_are_independent(backend: Backend, check: Checker) -> None:
    @over(backend, case=drawn(backend, valid="mask"), data=st.data())
    def holds(case: Case, data: st.DataObject) -> None:
        order = data.draw(st.permutations(range(case.batch)))
        shuffled = {
            "x": case.x()[:, order],
            "state": tuple(a[:, order] for a in case.state()),
            "mask": case.mask()[:, order],
        }
        together = run(case, backend)
        permuted = run(case, backend, lambda _: shuffled)
        check(permuted, [a[:, order] for a in together], TOLERANCE[case.dtype])
        row = order[0]
        alone = {name: map_arrays(lambda a: a[:, :1], each) for name, each in shuffled.items()}
        check(run(case, backend, lambda _: alone), [a[:, [row]] for a in together], TOLERANCE[case.dtype])


def test_lengths_are_the_mask_of_their_steps(backend: Backend, check: Checker) -> None:
    @over(backend, case=drawn(backend, valid="lengths"))
    def holds(case: Case) -> None:
        as_mask = {"x": case.x(), "state": case.state(), "mask": np.array(case.valid_steps())}
        check(run(case, backend), run(case, backend, lambda _: as_mask), TOLERANCE[case.dtype])
        everything = as_mask | {"mask": np.ones_like(as_mask["mask"])}
        plain = run(case.replace(valid="all"), backend)
        check(run(case, backend, lambda _: everything), plain, TOLERANCE[case.dtype])


def test_reversed_in_time_twice_is_itself(backend: Backend, check: Checker) -> None:
    @over(backend, case=drawn(backend, bidirectional=False))
    def holds(case: Case) -> None:
        flipped = {"x": case.x()[::-1].copy(), "state": case.state()}
        output, *state = run(case.replace(reverse=True), backend, lambda _: flipped)
        check((output[::-1], *state), run(case, backend), TOLERANCE[case.dtype])


def test_zero_weights_leave_half_of_the_cell_state_at_each_step(backend: Backend, check: Checker) -> None:
    """With gates sigmoid(0) = 1/2 and the candidate tanh(0) = 0, c_t = c_0 / 2**t and h_t = tanh(c_t) / 2."""

    @over(
        backend,
        case=drawn(backend, num_layers=1, bidirectional=False, proj_size=0, peephole=False),
    )
    def holds(case: Case) -> None:
        weights = map_arrays(lambda array: backend.array(np.zeros_like(array)), case.weights())
        arrays = map_arrays(backend.array, case.arguments())
        actual = backend.to_numpy(forward(case, backend, weights, arrays))
        halves = 0.5 ** np.arange(1, case.time + 1)
        c = case.state()[1].astype("float64") * halves[:, None, None]
        check(actual, (np.tanh(c) / 2, np.tanh(c[-1:]) / 2, c[-1:]), TOLERANCE[case.dtype])


NEUTRAL = [
    {"clip_gates": np.inf},
    {"clip_cell": np.inf},
    {"activations": ("sigmoid", ("scaled_tanh", 1.0, 1.0), "scaled_tanh")},
    {"peephole_output": "old"},
    {"norm_carry": True, "norm_gates": "each", "norm_eps": 0.5},
]


@pytest.mark.parametrize("neutral", NEUTRAL, ids=str)
def test_neutral_options_are_the_plain_lstm_bit_for_bit(backend: Backend, neutral: dict[str, Any]) -> None:
    case = fit(Case(time=2, num_layers=2, dtype=backend.dtypes[0]), backend)
    weights, arrays = map_arrays(backend.array, (case.weights(), case.arguments()))
    results = [
        backend.to_numpy(forward(case, backend, weights, arrays, options=options))
        for options in (lx.CellOptions(**neutral), lx.CellOptions())
    ]
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)
