"""The blog post's forty-line class: its arithmetic, written out anew, beside ours."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lstm_xp as lx
from conformance.cases import Case

ROOTS = ("f", "i", "C", "o")


def draw(hidden: int, features: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Return the eight arrays, no bias zero."""
    rng = np.random.default_rng(seed)
    arrays = {f"W{k}": rng.standard_normal((hidden, hidden + features)) for k in ROOTS}
    return arrays | {f"b{k}": rng.standard_normal((hidden, 1)) for k in ROOTS}


def step(arrays: dict[str, np.ndarray], x: np.ndarray, h: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One step on column vectors."""
    below = np.concatenate([h, x])
    z = {k: arrays[f"W{k}"] @ below + arrays[f"b{k}"] for k in ROOTS}
    f, i, o = (1 / (1 + np.exp(-z[k])) for k in "fio")
    c = f * c + i * np.tanh(z["C"])
    return o * np.tanh(c), c


def sequence(arrays: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    """A sequence (time, input) from zero states, to (time, hidden)."""
    h = c = np.zeros((arrays["bf"].size, 1))
    rows = []
    for x_t in x:
        h, c = step(arrays, x_t[:, None], h, c)
        rows.append(h[:, 0])
    return np.array(rows)


def test_a_step() -> None:
    arrays = draw(5, 3)
    rng = np.random.default_rng(1)
    x, h, c = (rng.standard_normal((n, 1)) for n in (3, 5, 5))
    ((weights,),) = lx.convert.from_concatenated(arrays).weights
    ours = lx.lstm_cell(x[:, 0], weights, (h[:, 0], c[:, 0]))
    for a, e in zip(ours, step(arrays, x, h, c), strict=True):
        np.testing.assert_allclose(a[:, None], e, rtol=0, atol=1e-14)


@pytest.mark.parametrize("time", [1, 4, 1000])
def test_a_sequence(time: int) -> None:
    arrays = draw(5, 3)
    x = np.random.default_rng(1).standard_normal((time, 3))
    output, _ = lx.convert.from_concatenated(arrays)(x)
    assert output.shape == (time, 5)
    np.testing.assert_allclose(output, sequence(arrays, x), rtol=0, atol=1e-14)


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 99))
def test_there_and_back_is_exact(hidden: int, features: int, seed: int) -> None:
    arrays = draw(hidden, features, seed)
    back = lx.convert.to_concatenated(lx.convert.from_concatenated(arrays))
    assert back.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(back[name], array)


def test_two_biases_become_their_sum() -> None:
    case = Case(batch=None)
    arrays = lx.convert.to_concatenated(case.lstm())
    np.testing.assert_allclose(sequence(arrays, case.x()), case.lstm()(case.x())[0], rtol=0, atol=1e-14)


def test_no_bias_becomes_zeros() -> None:
    arrays = lx.convert.to_concatenated(Case(bias=()).lstm())
    np.testing.assert_array_equal(arrays["bf"], np.zeros((4, 1)))


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (Case(proj_size=2).lstm(), "a projection"),
        (Case(peephole=True).lstm(), "peepholes"),
        (Case().lstm(reverse=True), "reverse=True"),
        (Case().lstm(options=lx.CellOptions(coupled=True)), "options"),
    ],
)
def test_what_it_cannot_express_is_refused(net: lx.LSTM, message: str) -> None:
    with pytest.raises(ValueError, match=f"`net` has {message}, which the concatenated layout cannot express"):
        lx.convert.to_concatenated(net)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"Wx": np.ones((5, 8))}, "`Wx` is not one of the names"),
        ({"bo": None}, "`bo` is missing"),
        ({"Wi": np.ones((5, 5))}, r"`Wi` has shape \(5, 5\), expected \(hidden_size, hidden_size \+ input_size\)"),
        ({"Wo": np.ones((5, 7))}, r"`Wo` has shape \(5, 7\), expected .* = \(5, 8\)"),
        ({"bC": np.ones(5)}, r"`bC` has shape \(5,\), expected \(hidden_size, 1\) = \(5, 1\)"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, np.ndarray | None], message: str) -> None:
    arrays = {name: a for name, a in (draw(5, 3) | change).items() if a is not None}
    with pytest.raises(ValueError, match=message):
        lx.convert.from_concatenated(arrays)
