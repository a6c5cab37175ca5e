"""
Training without autodiff: the derivatives that `lstm_vjp` and `lstm_cell_vjp` give, on any library.

They are those of `torch.nn.LSTM` or, for variants of the cell and noise, the equations' difference quotients.
"""

from itertools import chain, islice
from typing import Any

import numpy as np
import pytest

import lstm_xp as lx
from conformance import oracle, textbook
from conformance.backends import Backend
from conformance.cases import Case
from conformance.compare import tolerance_of
from conformance.derivatives import (
    ARGUMENTS,
    SMALL,
    THROUGH,
    TORCH,
    WITH_NOISE,
    compare_gradients,
    compare_slopes,
    loss_weights,
    shown_steps,
    torch_gradients,
    tree_of,
)
from conformance.pulling import Tree, call, flat_gradients, names_of, run, settings_of
from conformance.running import Checker, fit


@pytest.mark.few(lambda case, **_: case.num_layers == 1 or case.valid == "lengths")
@pytest.mark.parametrize("case", TORCH, ids=str)
def test_equals_torch(backend: Backend, dtype: str, case: Case, check: Checker) -> None:
    case = fit(case.replace(dtype=dtype), backend)
    _, gradients = run(backend, case)
    check.note(compare_gradients(gradients, torch_gradients(case), dtype))


@pytest.mark.few(lambda case, **_: False)
@pytest.mark.cases(lambda case: case.variant == "torch" and case.time < 1000)
def test_equals_torch_in_every_setting(backend: Backend, case: Case, check: Checker) -> None:
    """With masks and resets, which torch does not have, each episode of each row by itself."""
    result, gradients = run(backend, case)
    check(result, oracle.truth(case), tolerance_of(case))
    check.note(compare_gradients(gradients, torch_gradients(case), case.dtype))


@pytest.mark.few(lambda **_: False)
@pytest.mark.parametrize(
    "case",
    [
        Case(num_layers=2, bidirectional=True, proj_size=2, resets=True, start="one"),
        Case(num_layers=2, reverse=True, valid="mask", masked_output="hold", resets=True, batch_first=True),
        Case(time=1, resets=True),
    ],
    ids=str,
)
def test_episodes_equal_torch(backend: Backend, case: Case, check: Checker) -> None:
    case = fit(case, backend)
    _, gradients = run(backend, case)
    check.note(compare_gradients(gradients, torch_gradients(case), case.dtype))


def with_float64(backend: Backend, case: Case) -> Case:
    """Return a case as a library can run it whose derivatives are compared with difference quotients."""
    if case.dtype not in backend.dtypes:
        pytest.skip("difference quotients need float64")
    return fit(case, backend)


# JAX's are those of its own autodiff: test_autodiff.py goes through all of them.
@pytest.mark.few(lambda backend, name, **_: name == "all of it" and backend.module != "jax.numpy")
@pytest.mark.parametrize("name", THROUGH)
def test_through_every_option(backend: Backend, name: str, check: Checker) -> None:
    case, options = THROUGH[name]
    case = with_float64(backend, case)
    _, gradients = run(backend, case, options=lx.CellOptions(**options))
    check.note(compare_slopes(gradients, case, textbook.Variant(**options)))


@pytest.mark.few(lambda **_: False)
def test_through_an_option_of_each_direction(backend: Backend, check: Checker) -> None:
    case = with_float64(backend, SMALL.replace(bidirectional=True, num_layers=2))
    pair = {}, {"clip_gates": 0.8}
    _, gradients = run(backend, case, options=tuple(lx.CellOptions(**options) for options in pair))
    check.note(compare_slopes(gradients, case, tuple(textbook.Variant(**options) for options in pair)))


def test_options_of_what_is_not_there_change_no_derivative(backend: Backend, check: Checker) -> None:
    case = fit(Case(time=2, dtype=backend.dtypes[0]), backend)
    options = lx.CellOptions(norm_carry=True, norm_gates="each", peephole_output="old")
    check.note(compare_gradients(run(backend, case, options=options)[1], torch_gradients(case), case.dtype))


# Of a scale at which no number lies near a kink.
ACTIVATIONS = (
    ("hard_sigmoid", "elu", "leaky_relu"),
    (("hard_sigmoid", 0.6, 0.4), ("elu", 0.45), ("leaky_relu", 1.5)),
    ("sigmoid", ("affine", 0.6, 0.3), "relu"),
    ("softplus", "softsign", ("thresholded_relu", 0.1)),
)


@pytest.mark.few(lambda **_: False)
@pytest.mark.parametrize(
    "activations", ACTIVATIONS, ids=lambda specs: "-".join(s if isinstance(s, str) else s[0] for s in specs)
)
def test_through_every_activation(backend: Backend, activations: tuple[Any, ...], check: Checker) -> None:
    case = with_float64(backend, Case(time=3, batch=2, num_layers=2))
    _, gradients = run(backend, case, options=lx.CellOptions(activations=activations))
    check.note(compare_slopes(gradients, case, textbook.Variant(activations=activations)))


@pytest.mark.few(lambda name, **_: name == "all")
@pytest.mark.parametrize("name", WITH_NOISE)
def test_through_noise(backend: Backend, name: str, check: Checker) -> None:
    case = with_float64(backend, WITH_NOISE[name])
    result, gradients = run(backend, case)
    check(result, textbook.answer(case, textbook.Variant()), tolerance_of(case))
    check.note(compare_slopes(gradients, case, textbook.Variant()))


@pytest.mark.few(lambda steps, case, **_: steps == 2 and case.num_layers == 1)
@pytest.mark.parametrize("steps", [1, 2, 100])
@pytest.mark.parametrize(
    "case",
    [
        Case(time=5, num_layers=2, proj_size=2, reverse=True, valid="mask", noise=("between once", "zoneout_c")),
        Case(
            time=5,
            bidirectional=True,
            num_layers=3,
            batch=4,
            valid="lengths",
            start="absent",
            noise=WITH_NOISE["all"].noise,
        ),
        Case(time=5, batch=None, bidirectional=True, num_layers=2, peephole=True, bias=()),
        Case(time=4, valid="lengths", noise=("hidden", "zoneout_h")),
    ],
    ids=str,
)
def test_what_is_run_again_gives_the_same(backend: Backend, case: Case, steps: int, check: Checker) -> None:
    case = fit(case.replace(dtype=backend.dtypes[0]), backend)
    (result, kept), (again, made_again) = run(backend, case), run(backend, case, remat=min(steps, backend.steps - 1))
    check(again, result, tolerance_of(case))
    check.note(compare_gradients(made_again, kept, case.dtype))


@pytest.mark.few(lambda **_: False)
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "backward"])
def test_chunks_give_the_derivatives_of_the_whole(backend: Backend, reverse: bool, check: Checker) -> None:
    """Backpropagation through time, truncated nowhere: the state is carried on, its derivative back."""
    case = fit(Case(time=4, num_layers=2, proj_size=2, reverse=reverse, dtype=backend.dtypes[0]), backend)
    half = case.time // 2
    settings = settings_of(backend, case)

    def in_chunks(weights: Any, arrays: dict[str, Any], cotangents: tuple[Any, ...]) -> tuple[Any, ...]:
        x, state, (d_output, *d_state) = arrays["x"], arrays["state"], cotangents
        parts = [slice(half), slice(half, case.time)][:: -1 if reverse else 1]
        pullbacks, found = [], []
        for part in parts:
            (_, state), pullback = lx.lstm_vjp(x[part, :, :], weights, state, **settings)
            pullbacks.append((part, pullback))
        for part, pullback in reversed(pullbacks):
            d_x, d_weights, d_state = pullback(d_output[part, :, :], d_state)
            found += flat_gradients((d_x, d_weights, d_state))
        return tuple(found)

    names = names_of(case)
    found = call(backend, case, in_chunks, names * 2, case.weights(), case.arguments(), loss_weights(case))
    last, first = (dict(zip(names, part, strict=True)) for part in (found[: len(names)], found[len(names) :]))
    together = {name: last[name] + first[name] for name in names if name not in ARGUMENTS}
    together["x"] = np.concatenate([last["x"], first["x"]] if reverse else [first["x"], last["x"]])
    together |= {name: first[name] for name in ("h_0", "c_0")}
    check.note(compare_gradients(together, run(backend, case)[1], case.dtype))


def test_a_pullback_may_be_called_again_and_with_less(backend: Backend, check: Checker) -> None:
    """After another forward pass, too; what is None counts as zeros, and the parts add up to the whole."""
    case = fit(Case(time=2, proj_size=2, start="one", valid="lengths", dtype=backend.dtypes[0]), backend)
    settings = settings_of(backend, case)

    def several(weights: Any, arrays: dict[str, Any], cotangents: tuple[Any, ...]) -> tuple[Any, ...]:
        _, pullback = lx.lstm_vjp(weights=weights, **arrays, **settings)
        lx.lstm_vjp(weights=weights, **(arrays | {"x": -arrays["x"]}), **settings)
        d_output, d_h, d_c = cotangents
        everything = d_output, (d_h, d_c)
        asked = (everything, (d_output,), (None, (d_h, None)), (None, (None, d_c)), (None, None), (), everything)
        return tuple(chain(*(flat_gradients(pullback(*each)) for each in asked)))

    names = names_of(case)
    found = iter(call(backend, case, several, names * 7, case.weights(), case.arguments(), loss_weights(case)))
    whole, by_output, by_h, by_c, nothing, neither, again = (list(islice(found, len(names))) for _ in range(7))
    parts = {name: a + b + c for name, a, b, c in zip(names, by_output, by_h, by_c, strict=True)}
    check.note(compare_gradients(parts, dict(zip(names, whole, strict=True)), case.dtype))
    for a, b in zip(again, whole, strict=True):
        np.testing.assert_array_equal(a, b)
    for array in (*nothing, *neither):
        assert not array.any()
    for part in (by_output, by_h, by_c):
        assert any(array.any() for array in part)


@pytest.mark.few(lambda case, **_: case.num_layers == 1)
@pytest.mark.parametrize(
    "case",
    [
        Case(time=3, valid="mask", masked_output="hold"),
        *(
            Case(time=4, num_layers=2, bidirectional=True, valid=valid, masked_output=masked_output)
            for valid in ("lengths", "mask")
            for masked_output in ("zero", "hold")
        ),
    ],
    ids=str,
)
def test_nan_where_nothing_is_shown_harms_no_derivative(backend: Backend, case: Case, check: Checker) -> None:
    """In the padding, and in the derivatives by outputs there."""
    case = fit(case.replace(dtype=backend.dtypes[0]), backend)
    padding, hidden = ~case.valid_steps()[..., None], ~shown_steps(case)
    assert padding.any()
    assert hidden.any()

    def with_(junk: float) -> Tree:
        d_output, *d_state = loss_weights(case)
        put = lambda where, array: np.where(where, np.asarray(junk, case.dtype), array)
        _, gradients = run(
            backend, case, lambda given: given | {"x": put(padding, given["x"])}, (put(hidden, d_output), *d_state)
        )
        return gradients

    clean, dirty = with_(0.0), with_(np.nan)
    assert not dirty["x"][np.broadcast_to(padding, dirty["x"].shape)].any()
    check.note(compare_gradients(dirty, clean, case.dtype))


def test_saturated_inputs_give_finite_derivatives(backend: Backend) -> None:
    case = Case(time=3, proj_size=2, dtype=backend.dtypes[-1], numbers="saturated")
    _, gradients = run(backend, fit(case, backend))
    for name, gradient in gradients.items():
        assert np.isfinite(gradient).all(), f"d {name} is not finite"


@pytest.mark.few(lambda **_: False)
def test_of_an_empty_batch_the_weights_have_no_derivative(backend: Backend) -> None:
    case = fit(Case(batch=0, num_layers=2, bidirectional=True, proj_size=2, dtype=backend.dtypes[0]), backend)
    _, gradients = run(backend, case)
    for name, gradient in gradients.items():
        assert gradient.shape == tree_of(case)[name].shape
        assert not gradient.any()


# One cell


def run_cell(
    backend: Backend, case: Case, batch: tuple[int, ...] | None = None, options: lx.CellOptions = lx.CellOptions()
) -> Tree:
    """Return the derivatives that `lstm_cell_vjp` gives for a case of one step, with other batch dimensions."""
    by_output, by_h, by_c = loss_weights(case)
    tree = {"x": case.x()[0], "h": case.state()[0][0], "c": case.state()[1][0], "d_h": by_output[0] + by_h[0]}
    tree |= {"d_c": by_c[0]}
    if batch is not None:
        ones = (1,) * len(batch) if case.start == "one" else batch
        tree = {k: a.reshape(*(ones if k in ("h", "c") else batch), a.shape[-1]) for k, a in tree.items()}

    def function(weights: Any, given: dict[str, Any]) -> tuple[Any, ...]:
        state = None if case.start == "absent" else (given["h"], given["c"])
        _, pullback = lx.lstm_cell_vjp(given["x"], weights, state, options=options)
        return flat_gradients(pullback(given["d_h"], given["d_c"]))

    ((weights,),), names = case.weights(), names_of(case)
    found = dict(zip(names, call(backend, case, function, names, weights, tree), strict=True))
    state = zip(("h_0", "c_0"), case.state(), strict=True)
    shapes = {name: (case.batch if case.start == "absent" else array.shape[1], array.shape[2]) for name, array in state}
    shaped = {"x": case.x()[0].shape} | shapes
    if batch is not None:
        expected = (1,) * len(batch) if case.start == "one" else batch
        assert found["h_0"].shape[:-1] == found["c_0"].shape[:-1] == expected
        assert found["x"].shape[:-1] == batch
    return found | {name: found[name].reshape(1, *shape) for name, shape in shaped.items()}


CELL = Case(time=1, batch=6, proj_size=2)


@pytest.mark.few(lambda batch, start, **_: (batch, start) in (((2, 3), "one"), ((), "absent")))
@pytest.mark.parametrize("batch", [(), (6,), (2, 3)], ids=str)
@pytest.mark.parametrize("start", ["given", "one", "absent"])
def test_a_cell_equals_torch(backend: Backend, dtype: str, batch: tuple[int, ...], start: str, check: Checker) -> None:
    case = CELL.replace(dtype=dtype, start=start, batch=6 if batch else 1)
    check.note(compare_gradients(run_cell(backend, case, batch), torch_gradients(case), dtype))


@pytest.mark.few(lambda **_: False)
@pytest.mark.parametrize("name", [name for name, (case, options) in THROUGH.items() if options or case.peephole])
def test_a_cell_with_every_option(backend: Backend, name: str, check: Checker) -> None:
    case, options = THROUGH[name]
    case = with_float64(backend, case.replace(time=1, bidirectional=False, resets=False, valid="all"))
    found = run_cell(backend, case, options=lx.CellOptions(**options))
    check.note(compare_slopes(found, case, textbook.Variant(**options)))
