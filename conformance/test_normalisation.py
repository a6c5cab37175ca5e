"""Layer normalisation: of joint gates or of each, with the normalised cell state carried on or only shown."""

from typing import Any

import numpy as np
import pytest

import lstm_xp as lx
from conformance import textbook
from conformance.backends import Backend
from conformance.cases import Case, map_arrays
from conformance.compare import NORMALISED
from conformance.running import Checker, as_numpy, fit, forward

FORMS = [(gates, carry) for gates in ("joint", "each") for carry in (False, True)]


def in_forms(*forms: tuple[str, bool]) -> Any:
    """Run a test with normalisations of these gates, and the normalised cell state only shown or carried on."""
    ids = [f"{gates}-{'carried' if carry else 'shown'}" for gates, carry in forms]
    return pytest.mark.parametrize(("gates", "carry"), forms, ids=ids)


def expected_and_actual(backend: Backend, case: Case, **options: Any) -> tuple[Any, Any]:
    """Return what the equations give for a case, and what a library does."""
    case = fit(case, backend)
    options = {"norm_gates": case.norm} | options
    arrays, weights = map_arrays(backend.array, (case.arguments(), case.weights()))
    result = forward(case, backend, weights, arrays, options=lx.CellOptions(**options))
    return textbook.answer(case, textbook.Variant(**options)), as_numpy(backend, result, arrays["x"])


# Each form of the norm with two of these, in each dtype.
CASES = (
    (False, Case(time=3, num_layers=2, norm="joint")),
    (True, Case(time=3, num_layers=2, norm="each", dtype="float32")),
    (True, Case(time=3, batch=None, bias=("bias_hh",), start="absent", norm="joint", dtype="float32")),
    (False, Case(time=3, batch=None, bias=("bias_ih",), start="absent", norm="each")),
    (True, Case(time=3, proj_size=2, peephole=True, batch_first=True, start="one", reverse=True, norm="joint")),
    (
        False,
        Case(time=3, num_layers=2, bidirectional=True, proj_size=3, valid="lengths", batch=4, bias=(), norm="joint"),
    ),
    (True, Case(time=3, num_layers=2, bidirectional=True, valid="lengths", batch=4, bias=(), norm="each")),
    (False, Case(time=3, peephole=True, valid="mask", masked_output="hold", resets=True, norm="each", dtype="float32")),
)


@pytest.mark.parametrize(("carry", "case"), CASES, ids=[f"{'carried' if c else 'shown'},{case}" for c, case in CASES])
def test_equals_the_textbook(backend: Backend, case: Case, carry: bool, check: Checker) -> None:
    case = fit(case, backend)
    expected, actual = expected_and_actual(backend, case, norm_carry=carry)
    check(actual, expected, NORMALISED[case.dtype])


# Beside the form: what stands before or behind a norm, and what is seen of it.
WITH: dict[str, dict[str, Any]] = {
    "coupled gates": {"coupled": True},
    "a peephole on the old cell state": {"peephole_output": "old"},
    "clips": {"clip_gates": 0.4, "clip_cell": 0.6, "clip_proj": 0.2},
    "another eps": {"norm_eps": 1e-3},
    "other activations": {"activations": ("sigmoid", "softsign", ("scaled_tanh", 0.8, 1.3))},
}


@pytest.mark.parametrize("name", WITH)
def test_with_other_options(backend: Backend, name: str, check: Checker) -> None:
    # The clip is of what is carried on.
    gates, carry = ("joint", False) if name in ("coupled gates", "another eps") else ("each", True)
    case = Case(time=3, num_layers=2, proj_size=2, peephole=True, norm=gates, dtype=backend.dtypes[0])
    expected, actual = expected_and_actual(backend, case, norm_carry=carry, **WITH[name])
    check(actual, expected, NORMALISED[case.dtype])


@pytest.mark.parametrize("batch", [(), (6,), (2, 3)], ids=str)
@in_forms(*FORMS)
def test_one_step(backend: Backend, gates: str, carry: bool, batch: tuple[int, ...], check: Checker) -> None:
    case = Case(time=1, batch=6 if batch else 1, norm=gates, peephole=True, dtype=backend.dtypes[0])
    options = {"norm_carry": carry, "norm_gates": gates}
    ((weights,),) = map_arrays(backend.array, case.weights())
    shaped = lambda array: array.reshape(*batch, array.shape[-1])
    x, h, c = (backend.array(shaped(array[0])) for array in (case.x(), *case.state()))
    step = lambda x, h, c: lx.lstm_cell(x, weights, (h, c), options=lx.CellOptions(**options))
    expected = [shaped(array[0]) for array in textbook.answer(case, textbook.Variant(**options))[1:]]
    actual = as_numpy(backend, backend.call(step, x, h, c), x, ("h", "c"))
    check(actual, expected, NORMALISED[case.dtype], ("h", "c"))


def test_nothing_said_is_joint_gates_and_the_cell_state_shown(backend: Backend, check: Checker) -> None:
    case = fit(Case(time=2, norm="joint", dtype=backend.dtypes[0]), backend)
    arrays, weights = map_arrays(backend.array, (case.arguments(), case.weights()))
    result = as_numpy(backend, forward(case, backend, weights, arrays, options=lx.CellOptions()), arrays["x"])
    variant = textbook.Variant(norm_gates="joint", norm_carry=False, norm_eps=1e-5)
    check(result, textbook.answer(case, variant), NORMALISED[case.dtype])


@in_forms(("joint", True), ("each", False))
def test_the_size_of_the_products_does_not_matter(backend: Backend, gates: str, carry: bool) -> None:
    """Give the same with weights a thousand times as large, with hardly any eps."""
    case = fit(Case(time=2, norm=gates, dtype=backend.dtypes[0]), backend)
    options = lx.CellOptions(norm_carry=carry, norm_gates=gates, norm_eps=1e-20)
    arrays = map_arrays(backend.array, case.arguments())
    results = []
    for factor in (1, 1024):
        ((cell,),) = case.weights()
        larger = cell._replace(weight_ih=factor * cell.weight_ih, weight_hh=factor * cell.weight_hh)
        result = forward(case, backend, map_arrays(backend.array, ((larger,),)), arrays, options=options)
        results.append(as_numpy(backend, result, arrays["x"]))
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=NORMALISED[case.dtype])


@pytest.mark.parametrize("gates", ["joint", "each"])
def test_the_shape_for_other_gates_is_refused(backend: Backend, gates: str) -> None:
    case = fit(Case(time=2, norm=gates, dtype=backend.dtypes[0]), backend)
    arrays, weights = map_arrays(backend.array, (case.arguments(), case.weights()))
    other = "each" if gates == "joint" else "joint"
    with pytest.raises(ValueError, match=f"`norm_gates` is '{other}', expected '{gates}' with `norm` of its shape"):
        forward(case, backend, weights, arrays, options=lx.CellOptions(norm_gates=other))
