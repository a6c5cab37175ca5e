"""`lstm_vjp` as its callers see it: shapes, what may be left out, what is refused. The numbers are conformance's."""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import lstm_xp as lx
from conformance.cases import Case, map_arrays
from conformance.compare import flat
from conformance.derivatives import loss_weights

CASE = Case(num_layers=2, bidirectional=True, proj_size=2, bias=("bias_hh",))


def vjp(case: Case = CASE, **settings: Any) -> tuple[Any, Callable[..., Any]]:
    return lx.lstm_vjp(weights=case.weights(), **(case.arguments() | case.settings | settings))


def arrays_of(tree: Any) -> list[np.ndarray]:
    """Return the arrays in nested tuples."""
    if tree is None:
        return []
    return [array for each in tree for array in arrays_of(each)] if isinstance(tree, tuple) else [tree]


def pulled(pullback: Callable[..., Any], case: Case = CASE) -> list[np.ndarray]:
    d_output, *d_state = loss_weights(case)
    return arrays_of(pullback(d_output, tuple(d_state)))


def test_derivatives_have_the_shapes_of_the_arguments() -> None:
    for case in (CASE, CASE.replace(batch_first=True), CASE.replace(batch=None), CASE.replace(start="one")):
        result, pullback = vjp(case)
        expected = lx.lstm(weights=case.weights(), **(case.arguments() | case.settings))
        for a, e in zip(flat(result), flat(expected), strict=True):
            np.testing.assert_allclose(a, e, rtol=0, atol=1e-14)
        d_x, d_weights, d_state = pullback(result[0], result[1])
        assert d_x.shape == case.x().shape
        assert [d.shape for d in d_state] == [s.shape for s in case.state()]
        for d_cell, cell in zip(sum(d_weights, ()), sum(case.weights(), ()), strict=True):
            assert [d is None for d in d_cell] == [w is None for w in cell]
            assert all(d.shape == w.shape for d, w in zip(d_cell, cell, strict=True) if w is not None)


@pytest.mark.parametrize("engine", ["standard", "auto"])
def test_weights_are_nested_as_they_were_given(engine: str) -> None:
    case = Case(num_layers=2)
    (first,), (second,) = case.weights()
    x = case.x()
    nestings = [((first,), (second,)), (first, second), [first, [second]], (first,), first]
    for weights in nestings:
        (output, _), pullback = lx.lstm_vjp(x, weights, engine=engine)
        _, d_weights, _ = pullback(output)
        if isinstance(weights, lx.CellWeights):
            assert isinstance(d_weights, lx.CellWeights)
            continue
        assert isinstance(d_weights, tuple)
        assert [isinstance(d, lx.CellWeights) for d in d_weights] == [isinstance(w, lx.CellWeights) for w in weights]


@pytest.mark.parametrize("engine", ["standard", "numpy"])
def test_a_cotangent_that_is_none_is_zeros(engine: str) -> None:
    _, pullback = vjp(engine=engine)
    cotangents = loss_weights(CASE)
    for which in range(8):
        given = [None if which >> k & 1 else array for k, array in enumerate(cotangents)]
        zeros = [np.zeros_like(a) if g is None else g for a, g in zip(cotangents, given, strict=True)]
        some = arrays_of(pullback(given[0], (given[1], given[2])))
        for a, e in zip(some, arrays_of(pullback(zeros[0], (zeros[1], zeros[2]))), strict=True):
            np.testing.assert_allclose(a, e, rtol=0, atol=1e-15)
    for a, e in zip(arrays_of(pullback(cotangents[0])), arrays_of(pullback(cotangents[0], None)), strict=True):
        np.testing.assert_array_equal(a, e)
    assert not any(array.any() for array in arrays_of(pullback()))


@pytest.mark.parametrize("engine", ["standard", "numpy"])
@pytest.mark.parametrize("remat", [None, 3])
def test_a_pullback_is_a_function(engine: str, remat: int | None) -> None:
    """Whatever it is called with between, after other calls and in other threads: the same numbers, new arrays."""
    _, pullback = vjp(engine=engine, remat=remat)
    first = pulled(pullback)
    kept = [array.copy() for array in first]
    for array in first:
        array[...] = np.nan
    vjp(CASE.replace(seed=1), engine=engine)[1](loss_weights(CASE)[0] * 3)
    found: list[list[np.ndarray]] = [[], []]

    def call(k: int) -> None:
        found[k] = pulled(pullback)

    threads = [threading.Thread(target=call, args=(k,)) for k in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for again in found:
        for a, e in zip(again, kept, strict=True):
            np.testing.assert_array_equal(a, e)


def test_no_two_derivatives_share_their_memory() -> None:
    arrays = pulled(vjp(CASE.replace(bias=("bias_ih", "bias_hh")))[1])
    assert not any(np.shares_memory(a, b) for k, a in enumerate(arrays) for b in arrays[:k])


def test_of_an_lstm() -> None:
    net = CASE.lstm(batch_first=True)
    x = CASE.x().swapaxes(0, 1)
    result, pullback = net.vjp(x, CASE.state(), remat=2)
    for a, e in zip(flat(result), flat(net(x, CASE.state())), strict=True):
        np.testing.assert_allclose(a, e, rtol=0, atol=1e-14)
    d_x, d_weights, _ = pullback(result[0])
    assert d_x.shape == x.shape
    assert lx.LSTM.from_weights(d_weights).state_dict().keys() == net.state_dict().keys()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            (np.ones((7, 3, 5)),),
            ValueError,
            r"`d_output` has shape \(7, 3, 5\), expected \(time, batch, num_directions\*",
        ),
        ((np.ones((7, 3, 4), np.float32),), TypeError, "`d_output` has dtype float32, expected float64 as `x`"),
        ((1.0,), TypeError, "`d_output` is a float, expected an array"),
        ((None, np.ones((4, 3, 2))), TypeError, r"`d_state` is a ndarray, expected a tuple \(d_h_n, d_c_n\)"),
        ((None, (np.ones((4, 3, 4)), None)), ValueError, r"`d_h_n` has shape \(4, 3, 4\), expected \(num_layers\*num_"),
        ((None, (None, np.ones((4, 1, 4)))), ValueError, r"`d_c_n` has shape \(4, 1, 4\), expected .* = \(4, 3, 4\)"),
    ],
)
def test_cotangents_that_do_not_fit(arguments: tuple[Any, ...], error: type[Exception], message: str) -> None:
    _, pullback = vjp()
    with pytest.raises(error, match=message):
        pullback(*arguments)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"remat": 0}, ValueError, "`remat` is 0, expected at least 1"),
        ({"remat": 2.0}, TypeError, r"`remat` is 2\.0, expected an integer"),
        ({"remat": True}, TypeError, "`remat` is True, expected an integer"),
        ({"remat": 2, "reset": np.zeros((7, 3), bool)}, ValueError, "`remat` is 2, expected None with `reset`"),
        (
            {"remat": 2, "lengths": np.array([7, 3, 1]), "masked_output": "hold"},
            ValueError,
            "`remat` is 2, expected None with `masked_output='hold'`",
        ),
        ({"engine": "nobody"}, ValueError, "`engine` is 'nobody'"),
    ],
)
def test_settings_that_do_not_fit(settings: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        vjp(**settings)


def test_who_would_run_it_can_be_asked() -> None:
    case = Case(peephole=True)
    arguments = {"weights": case.weights(), **case.arguments(), "options": lx.CellOptions(clip_cell=1.0)}
    assert lx.select_engine(**arguments, pullback=True).name in ("standard", "numpy")
    assert "bptt" in lx.select_engine(**arguments, pullback=True).rejected


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((np.ones((3, 5)), None), ValueError, r"`d_h` has shape \(3, 5\)"),
        ((None, np.ones((3, 4), np.float32)), TypeError, "`d_c` has dtype float32, expected float64 as `x`"),
    ],
)
def test_cotangents_of_a_cell_that_do_not_fit(arguments: tuple[Any, ...], error: type[Exception], message: str) -> None:
    ((weights,),) = Case().weights()
    _, pullback = lx.lstm_cell_vjp(Case().x()[0], weights)
    with pytest.raises(error, match=message):
        pullback(*arguments)


@pytest.mark.needs("jax")
def test_as_a_whole_under_jit() -> None:
    import jax

    jax.config.update("jax_enable_x64", True)
    case = CASE.replace(time=2)
    arrays = map_arrays(jax.numpy.asarray, (case.x(), case.weights(), case.state(), loss_weights(case)))

    def gradients(x: Any, weights: Any, state: Any, cotangents: Any, engine: str) -> Any:
        _, pullback = lx.lstm_vjp(x, weights, state, engine=engine)
        return pullback(cotangents[0], cotangents[1:])

    expected = pulled(vjp(case, engine="standard")[1], case)
    for engine in ("auto", "standard"):
        found = jax.jit(gradients, static_argnums=4)(*arrays, engine)
        for a, e in zip(jax.tree.leaves(found), expected, strict=True):
            np.testing.assert_allclose(a, e, rtol=0, atol=1e-13)


@pytest.mark.needs("torch")
def test_torchs_results_are_detached_and_its_transforms_get_the_reference() -> None:
    import torch

    tensors = map_arrays(lambda array: torch.tensor(array, requires_grad=True), (CASE.x(), CASE.weights()))
    (output, _), pullback = lx.lstm_vjp(*tensors)
    assert not output.requires_grad
    assert not any(d.requires_grad for d in arrays_of(pullback(output)))
    # The derivative of a derivative.
    weights = map_arrays(lambda array: array.detach(), tensors[1])

    def slope(x: Any) -> Any:
        (output, _), pullback = lx.lstm_vjp(x, weights)
        return pullback(torch.ones_like(output))[0].square().sum()

    x = tensors[0].detach()
    found = torch.func.grad(slope)(x)
    step = torch.zeros_like(x)
    step[2, 1, 3] = 1e-6
    quotient = (slope(x + step) - slope(x - step)) / 2e-6
    torch.testing.assert_close(found[2, 1, 3], quotient, rtol=1e-6, atol=1e-10)


@pytest.mark.needs("torch")
@pytest.mark.parametrize("engine", ["auto", "standard"])
def test_torch_records_nothing_whoever_runs_it(engine: str) -> None:
    import torch

    tensors = map_arrays(lambda array: torch.tensor(array, requires_grad=True), (CASE.x(), CASE.weights()))
    (cell,) = map_arrays(lambda array: torch.tensor(array, requires_grad=True), Case().weights()[0])
    mask = torch.ones(7, 3, dtype=torch.bool) if engine == "standard" else None
    result, pullback = lx.lstm_vjp(*tensors, mask=mask, engine=engine)
    (h, c), pull_cell = lx.lstm_cell_vjp(tensors[0][0].detach(), cell)
    for array in (*flat(result), *arrays_of(pullback(result[0])), h, c, *arrays_of(pull_cell(h, c))):
        assert not array.requires_grad


@pytest.mark.needs("torch")
def test_torchs_inference_mode() -> None:
    import torch

    expected = pulled(vjp(engine="standard")[1])
    cotangents = map_arrays(torch.tensor, loss_weights(CASE))
    with torch.inference_mode():
        inside = map_arrays(torch.tensor, (CASE.x(), CASE.weights(), CASE.state()))
        _, pullback = lx.lstm_vjp(*inside)
        found = arrays_of(pullback(cotangents[0], cotangents[1:]))
    _, pullback = lx.lstm_vjp(*inside)
    for a, e in zip([*found, *arrays_of(pullback(cotangents[0], cotangents[1:]))], expected * 2, strict=True):
        np.testing.assert_allclose(a, e, rtol=0, atol=1e-14)
    # Asked for outside, and called inside.
    outside = map_arrays(torch.tensor, (CASE.x(), CASE.weights(), CASE.state()))
    _, pullback = lx.lstm_vjp(*outside)
    with torch.inference_mode():
        found = arrays_of(pullback(cotangents[0], cotangents[1:]))
    for a, e in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, e, rtol=0, atol=1e-14)


@pytest.mark.needs("dask")
def test_on_dask_it_is_the_reference_and_lazy() -> None:
    import dask
    import dask.array as da

    case = Case(time=2)
    x, weights, cotangents = map_arrays(
        lambda a: da.from_array(a, chunks=-1), (case.x(), case.weights(), loss_weights(case))
    )
    _, pullback = lx.lstm_vjp(x, weights, map_arrays(da.from_array, case.state()))
    lazy = arrays_of(pullback(cotangents[0], cotangents[1:]))
    assert all(isinstance(array, da.Array) for array in lazy)
    for a, e in zip(dask.compute(*lazy), pulled(vjp(case, engine="standard")[1], case), strict=True):
        np.testing.assert_allclose(a, e, rtol=0, atol=1e-14)
