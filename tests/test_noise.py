"""Dropout and its kin: what is drawn, what is refused, and that it is what torch and the papers say."""

from typing import Any

import numpy as np
import pytest

import lstm_xp as lx
from conformance.cases import Case, map_arrays
from conformance.compare import flat

NET = lx.LSTM(5, 4, num_layers=3, bidirectional=True, proj_size=2, dropout=0.4, seed=0, dtype="float64")
RATES = {"inputs": 0.3, "hidden": 0.25, "zoneout_h": 0.2, "zoneout_c": 0.15, "weight_hh": 0.1}


def draw(net: lx.LSTM = NET, seed: int = 0, time: int = 50, batch: int | None = 40, **rates: Any) -> lx.Noise:
    return lx.draw_noise(net, np.random.default_rng(seed), time, batch, **rates)


def test_factors_are_zero_or_make_good_for_it_and_as_many_as_the_rate_says() -> None:
    noise = draw(**RATES)
    for name, rate in (RATES | {"between": 0.4}).items():
        values, counts = np.unique(getattr(noise, name), return_counts=True)
        ones = 1.0 if name.startswith("zoneout") else 1 / (1 - rate)
        np.testing.assert_allclose(values, [0, ones], rtol=1e-15)
        share = counts[1 if name.startswith("zoneout") else 0] / counts.sum()
        # Four standard deviations; the smallest has 200 numbers.
        assert abs(share - rate) < 4 * np.sqrt(rate * (1 - rate) / counts.sum()), name


def test_shapes() -> None:
    noise = draw(time=7, batch=3, **RATES)
    assert [array.shape for array in noise] == [
        (1, 3, 5),
        (2, 7, 3, 4),
        (6, 3, 2),
        (6, 7, 3, 2),
        (6, 7, 3, 4),
        (6, 16, 2),
    ]
    assert draw(time=7, batch=3, variational=True).between.shape == (2, 1, 3, 4)
    noise = draw(time=7, batch=None, **RATES)
    assert [array.shape for array in noise] == [(1, 5), (2, 7, 4), (6, 2), (6, 7, 2), (6, 7, 4), (6, 16, 2)]


def test_nothing_is_drawn_at_rate_zero() -> None:
    assert draw(dropout=0.0) == lx.Noise()
    assert draw(lx.LSTM(5, 4, dropout=0.4)) == lx.Noise()  # one layer: there is nothing between
    assert [name for name, array in draw(hidden=0.1)._asdict().items() if array is not None] == ["between", "hidden"]
    assert not draw(dropout=1.0).between.any()
    assert draw(zoneout_h=1.0).zoneout_h.all()


@pytest.mark.parametrize(
    "library",
    ["torch", *(pytest.param(each, marks=pytest.mark.needs(each)) for each in ("jax.numpy", "array_api_strict"))],
)
def test_the_same_masks_in_every_library(library: str) -> None:
    xp = pytest.importorskip(library)
    net = NET.to(xp, dtype="float32")
    for ours, theirs in zip(draw(**RATES), draw(net, **RATES), strict=True):
        assert type(theirs) is type(net.weights[0][0].weight_ih)
        assert theirs.dtype == net.weights[0][0].weight_ih.dtype
        np.testing.assert_array_equal(np.asarray(theirs), ours.astype("float32"))


def test_another_draw_is_another() -> None:
    rng = np.random.default_rng(0)
    first, second = (lx.draw_noise(NET, rng, 7, 3) for _ in range(2))
    assert (first.between != second.between).any()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"rng": 0}, TypeError, "`rng` is a int, expected numpy.random.Generator"),
        ({"time": 0}, ValueError, "`time` is 0, expected at least 1"),
        ({"batch": 2.5}, TypeError, r"`batch` is 2\.5, expected an integer"),
        ({"dropout": 1.1}, ValueError, r"`dropout` is 1\.1, expected a number from 0 to 1"),
        ({"hidden": 1.0}, ValueError, r"`hidden` is 1\.0, expected a number from 0 to 1, less than 1"),
        ({"zoneout_c": float("nan")}, ValueError, "`zoneout_c` is nan, expected a number from 0 to 1"),
        ({"weight_hh": "a"}, ValueError, "`weight_hh` is 'a', expected a number from 0 to 1"),
        ({"variational": 1}, TypeError, "`variational` is 1, expected True or False"),
        ({"net": lx.LSTM(5, 4), "dropout": 7.0}, ValueError, r"`dropout` is 7\.0, expected a number from 0 to 1"),
        ({"net": 1}, TypeError, "`net` is a int, expected LSTM"),
    ],
)
def test_what_cannot_be_drawn(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    given = {"net": NET, "rng": np.random.default_rng(0), "time": 7, "batch": 3} | arguments
    with pytest.raises(error, match=message):
        lx.draw_noise(**given)


@pytest.mark.parametrize(
    ("noise", "error", "message"),
    [
        ((None,), TypeError, "`noise` is a tuple of 1, expected Noise, as `draw_noise` returns it"),
        (
            lx.Noise(inputs=np.ones((2, 3, 5))),
            ValueError,
            r"`noise.inputs` has shape \(2, 3, 5\), expected \(time or 1, b",
        ),
        (lx.Noise(between=np.ones((1, 7, 3, 4))), ValueError, r"`noise.between` has shape .* = \(2, 7, 3, 4\)"),
        (
            lx.Noise(hidden=np.ones((6, 1, 2))),
            ValueError,
            r"`noise.hidden` has shape \(6, 1, 2\), expected .* = \(6, 3, 2\)",
        ),
        (lx.Noise(zoneout_c=np.ones((6, 7, 3, 2))), ValueError, r"`noise.zoneout_c` has shape"),
        (
            lx.Noise(weight_hh=np.ones((6, 16, 2), np.float32)),
            TypeError,
            "`noise.weight_hh` has dtype float32, expected f",
        ),
    ],
)
def test_noise_that_does_not_fit(noise: Any, error: type[Exception], message: str) -> None:
    for call in (NET, NET.vjp, NET.trace):
        with pytest.raises(error, match=message):
            call(np.ones((7, 3, 5)), noise=noise)


def test_noise_of_ones_and_zeros_changes_nothing() -> None:
    case = Case(num_layers=2, bidirectional=True, proj_size=2, valid="mask", masked_output="hold")
    net, arguments = case.lstm(engine="standard"), case.arguments()
    noise = draw(net, time=case.time, batch=case.batch, dropout=0.5, **RATES)
    neutral = lx.Noise(*(np.full_like(a, 0.0 if name.startswith("z") else 1.0) for name, a in noise._asdict().items()))
    for a, e in zip(flat(net(**arguments, noise=neutral)), flat(net(**arguments)), strict=True):
        np.testing.assert_allclose(a, e, rtol=0, atol=1e-16)


def test_zoneout_of_everything_keeps_the_state() -> None:
    case = Case(num_layers=2)
    net, state = case.lstm(), case.state()
    noise = draw(net, time=case.time, batch=case.batch, zoneout_h=1.0, zoneout_c=1.0)
    output, final = net(case.x(), state, noise=noise)
    np.testing.assert_array_equal(output, np.broadcast_to(state[0][1], output.shape))
    for a, e in zip(final, state, strict=True):
        np.testing.assert_array_equal(a, e)


@pytest.mark.needs("torch")
def test_dropout_between_layers_is_torchs() -> None:
    """With the masks that torch draws in its own training mode, the numbers are the same."""
    import torch

    torch.manual_seed(0)
    theirs = torch.nn.LSTM(5, 4, num_layers=3, bidirectional=True, dropout=0.4, dtype=torch.float64).train()
    net = lx.LSTM.from_state_dict(theirs.state_dict(), dropout=0.4)
    x = torch.randn(7, 3, 5, dtype=torch.float64)
    torch.manual_seed(1)
    with torch.no_grad():
        expected = flat(theirs(x))
    torch.manual_seed(1)
    between = torch.stack(
        [torch.nn.functional.dropout(torch.ones(7, 3, 8, dtype=torch.float64), 0.4) for _ in range(2)]
    )
    for engine in ("torch", "standard"):
        for a, e in zip(flat(net(x, noise=lx.Noise(between=between), engine=engine)), expected, strict=True):
            torch.testing.assert_close(a, e, rtol=0, atol=1e-14)
    drawn = lx.draw_noise(net, np.random.default_rng(0), 7, 3).between
    assert set(drawn.unique().tolist()) == set(between.unique().tolist())


@pytest.mark.needs("torch")
@pytest.mark.parametrize("keep", [(), ("h", "c", "f")])
def test_noise_between_layers_with_all_else(keep: tuple[str, ...]) -> None:
    """torch's kernel layer by layer, against the reference."""
    import torch

    for case in (
        Case(num_layers=3, bidirectional=True, proj_size=2),
        Case(num_layers=2, valid="lengths", masked_output="hold", start="one"),
        Case(num_layers=2, reverse=True, resets=True, start="absent"),
    ):
        if keep and (case.valid != "all" or case.resets):
            continue
        tensor = lambda array: torch.tensor(np.array(array))
        net, arguments = case.lstm(tensor), map_arrays(tensor, case.arguments())
        arguments["noise"] = draw(net, time=case.time, batch=case.batch, dropout=0.5, inputs=0.3, weight_hh=0.2)
        found = [_leaves(net.trace(**arguments, engine=engine, keep=keep)[1:]) for engine in ("torch", "standard")]
        for a, e in zip(*found, strict=True):
            torch.testing.assert_close(a, e, rtol=0, atol=1e-14)


def _leaves(tree: Any) -> list[Any]:
    """Return the arrays in nested tuples."""
    if tree is None:
        return []
    return [leaf for each in tree for leaf in _leaves(each)] if isinstance(tree, tuple) else [tree]


@pytest.mark.needs("torch")
def test_variational_dropout_is_a_loop_over_cells_with_one_mask() -> None:
    """Gal and Ghahramani: x and h are multiplied by the same mask at every step, and h is what it was elsewhere."""
    import torch

    torch.manual_seed(0)
    cell = torch.nn.LSTMCell(5, 4, dtype=torch.float64)
    weights = lx.CellWeights(*(parameter.detach() for parameter in cell.parameters()))
    x, h, c = (torch.randn(*shape, dtype=torch.float64) for shape in ((7, 3, 5), (3, 4), (3, 4)))
    net = lx.LSTM.from_weights(weights)
    noise = draw(net, time=7, batch=3, inputs=0.3, hidden=0.4, weight_hh=0.2)
    output, (h_n, c_n) = net(x, (h[None], c[None]), noise=noise)
    dropped = dict(cell.named_parameters()) | {"weight_hh": cell.weight_hh * noise.weight_hh[0]}
    outputs = []
    for x_t in x:
        # What the gates read of h is masked; of the cell state nothing is.
        h, c = torch.func.functional_call(cell, dropped, (x_t * noise.inputs[0], (h * noise.hidden[0], c)))
        outputs.append(h)
    torch.testing.assert_close(output, torch.stack(outputs).detach(), rtol=0, atol=1e-14)
    torch.testing.assert_close(h_n[0], h.detach(), rtol=0, atol=1e-14)
    torch.testing.assert_close(c_n[0], c.detach(), rtol=0, atol=1e-14)


@pytest.mark.needs("torch")
def test_zoneout_is_what_the_paper_says() -> None:
    """Krueger et al., equation 5: each unit of c and of h is, at random, what it was before the step."""
    import torch

    torch.manual_seed(0)
    cell = torch.nn.LSTMCell(5, 4, dtype=torch.float64)
    weights = lx.CellWeights(*(parameter.detach() for parameter in cell.parameters()))
    x, h, c = (torch.randn(*shape, dtype=torch.float64) for shape in ((7, 3, 5), (3, 4), (3, 4)))
    net = lx.LSTM.from_weights(weights)
    noise = draw(net, time=7, batch=3, zoneout_h=0.3, zoneout_c=0.6)
    output, (_, c_n) = net(x, (h[None], c[None]), noise=noise)
    outputs = []
    for t in range(7):
        new_h, new_c = cell(x[t], (h, c))
        h, c = torch.where(noise.zoneout_h[0, t] == 1, h, new_h), torch.where(noise.zoneout_c[0, t] == 1, c, new_c)
        outputs.append(h)
    torch.testing.assert_close(output, torch.stack(outputs).detach(), rtol=0, atol=1e-14)
    torch.testing.assert_close(c_n[0], c.detach(), rtol=0, atol=1e-14)


@pytest.mark.needs("jax")
def test_under_jit_noise_is_an_argument_and_drawing_is_refused() -> None:
    import jax

    net = NET.to(jax.numpy, dtype="float32")
    x = jax.numpy.ones((7, 3, 5), "float32")
    run = jax.jit(lambda x, weights, noise: lx.lstm(x, weights, noise=noise)[0])
    results = [run(x, net.weights, draw(net, seed, 7, 3, **RATES)) for seed in range(2)]
    for seed, result in enumerate(results):
        np.testing.assert_allclose(result, net(x, noise=draw(net, seed, 7, 3, **RATES))[0], rtol=0, atol=1e-6)
    assert (results[0] != results[1]).any()

    @jax.jit
    def draws_inside(weights: Any) -> Any:
        return draw(lx.LSTM.from_weights(weights, dropout=0.5), time=7, batch=3)

    with pytest.raises(TypeError, match="masks that are drawn there are the same at every call"):
        draws_inside(net.weights)
    with pytest.raises(TypeError, match="masks that are drawn there are the same at every call"):
        jax.jit(lambda x: net(x, noise=draw(net, time=7, batch=3))[0])(x)
