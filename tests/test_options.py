"""Options: neutral ones change nothing, and those that ONNX does not have do what they say. On NumPy."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lstm_xp as lx
from conformance import textbook
from conformance.cases import Case
from conformance.compare import assert_equal, flat
from conformance.strategies import cases
from lstm_xp._options import is_neutral

settings.register_profile("lstm_xp", deadline=None, max_examples=60, derandomize=True)
settings.load_profile("lstm_xp")


NEUTRAL = [
    {"clip_gates": np.inf},
    {"clip_cell": np.inf},
    {"clip_gates": 1e30, "clip_cell": 1e30},
    {"activations": ("Sigmoid", "TANH", "tan_h")},
    {"activations": ("sigmoid", ("scaled_tanh", 1.0, 1.0), "scaled_tanh")},
    {"peephole_output": "old"},
    {"norm_carry": True, "norm_gates": "each", "norm_eps": 1e-3},
]


@pytest.mark.parametrize("neutral", NEUTRAL, ids=str)
@given(case=cases(peephole=False))
@settings(max_examples=15)
def test_neutral_options_are_the_plain_lstm_bit_for_bit(case: Case, neutral: dict[str, Any]) -> None:
    plain = flat(case.lstm()(case.x(), case.state()))
    assert_equal(flat(case.lstm(options=lx.CellOptions(**neutral))(case.x(), case.state())), plain, 0.0)
    if case.proj_size:
        options = lx.CellOptions(clip_proj=1e30)
        assert_equal(flat(case.lstm(options=options)(case.x(), case.state())), plain, 0.0)


@pytest.mark.parametrize("engine", ["standard", "numpy"])
@given(case=cases(resets=True), valid=st.sampled_from(["all", "lengths", "mask"]))
@settings(max_examples=30)
def test_resets_that_never_happen_are_the_call_without_bit_for_bit(engine: str, case: Case, valid: str) -> None:
    case = case.replace(valid=valid)
    arguments = case.arguments()
    never = arguments | {"reset": np.zeros_like(arguments.pop("reset"))}
    net = case.lstm(engine=engine)
    assert_equal(flat(net(**never)), flat(net(**arguments)), 0.0)


VARIANTS = st.fixed_dictionaries(
    {
        "clip_gates": st.sampled_from([None, 0.4]),
        "clip_cell": st.sampled_from([None, 0.6]),
        "coupled": st.booleans(),
        "peephole_output": st.sampled_from(["new", "old"]),
        "norm_carry": st.booleans(),
        "norm_eps": st.sampled_from([1e-5, 1e-3]),
        "activations": st.sampled_from([("sigmoid", "tanh", "tanh"), ("hard_sigmoid", "softsign", "tanh")]),
    }
)


@given(
    case=cases(["float64"], steps=4, batch=2, resets=True),
    norm=st.sampled_from([None, "joint", "each"]),
    valid=st.sampled_from(["all", "lengths", "mask"]),
    variant=VARIANTS,
)
def test_any_options_together_are_the_textbooks(
    case: Case, norm: str | None, valid: str, variant: dict[str, Any]
) -> None:
    """A norm divides by no less than sqrt(eps), 1/300: so much can what was rounded grow in a step."""
    case = case.replace(norm=norm, valid=valid, masked_output="hold")
    variant |= {"norm_gates": norm or "joint"} | ({"clip_proj": 0.2} if case.proj_size else {})
    expected = textbook.answer(case, textbook.Variant(**variant))
    assert_equal(flat(case.lstm(options=lx.CellOptions(**variant))(**case.arguments())), expected, 1e-10)


@given(case=cases(peephole=False))
def test_neutral_weights_are_the_plain_lstm(case: Case) -> None:
    zeros = {"peephole": np.zeros((3, case.hidden_size), case.dtype)}
    for bias in ("bias_ih", "bias_hh"):
        if bias not in case.bias:
            zeros[bias] = np.zeros(4 * case.hidden_size, case.dtype)
    weights = tuple(tuple(cell._replace(**zeros) for cell in layer) for layer in case.weights())
    plain = flat(case.lstm()(case.x(), case.state()))
    assert_equal(flat(lx.lstm(case.x(), weights, case.state())), plain, 0.0)


@given(cases(bidirectional=False, num_layers=1, peephole=True))
def test_the_clippings_that_onnx_does_not_have(case: Case) -> None:
    """Step by step with the plain cell, clipped from outside where nothing else depends on it."""
    case = case.replace(proj_size=0)
    ((weights,),) = case.weights()
    h, c = (a[0] for a in case.state())
    bound = 0.2
    clipped = lx.lstm_cell(case.x()[0], weights, (h, c), options=lx.CellOptions(clip_cell=bound, peephole_output="old"))
    plain = lx.lstm_cell(case.x()[0], weights, (h, c), options=lx.CellOptions(peephole_output="old"))
    expected_c = np.clip(plain[1], -bound, bound)
    np.testing.assert_array_equal(clipped[1], expected_c)
    o = plain[0] / np.tanh(plain[1])
    np.testing.assert_allclose(clipped[0], o * np.tanh(expected_c), rtol=1e-3, atol=0)
    projection = case.draw("projection", (3, case.hidden_size), -2, 2)
    wide = weights._replace(weight_hr=projection, weight_hh=np.zeros((4 * case.hidden_size, 3), case.dtype))
    x, zeros = case.x()[0], np.zeros((case.batch, 3), case.dtype)
    whole = lx.lstm_cell(x, wide, (zeros, c))
    cut = lx.lstm_cell(x, wide, (zeros, c), options=lx.CellOptions(clip_proj=0.05))
    np.testing.assert_array_equal(cut[0], np.clip(whole[0], -0.05, 0.05))
    np.testing.assert_array_equal(cut[1], whole[1])


def test_options_compare_and_hash_by_meaning() -> None:
    assert lx.CellOptions(activations=("HardSigmoid", "tanh", "tanh")) == lx.CellOptions(
        activations=(("hard_sigmoid", 0.2, 0.5), "Tanh", ("tanh",))
    )
    assert len({lx.CellOptions(), lx.CellOptions(clip_cell=float("inf"))}) == 1


def test_options_show_what_is_not_torchs() -> None:
    assert repr(lx.CellOptions()) == "CellOptions()"
    assert repr(lx.CellOptions(coupled=True, norm_eps=1e-3)) == "CellOptions(coupled=True, norm_eps=0.001)"


def test_eps_may_be_zero_and_is_a_python_number() -> None:
    assert lx.CellOptions(norm_eps=0).norm_eps == 0.0
    assert type(lx.CellOptions(norm_eps=np.float32(0.5)).norm_eps) is float


@pytest.mark.parametrize("neutral", [{}, *NEUTRAL[-2:]], ids=str)
def test_what_changes_nothing_is_left_to_kernels_without_options(neutral: dict[str, Any]) -> None:
    assert is_neutral(lx.CellOptions(**neutral))


@pytest.mark.parametrize(
    "variant",
    [
        {"activations": ("hard_sigmoid", "tanh", "tanh")},
        {"clip_gates": 0.4},
        {"clip_cell": 0.6},
        {"clip_proj": 0.2},
        {"coupled": True},
    ],
    ids=str,
)
def test_each_variant_is_kept_from_kernels_without_options(variant: dict[str, Any]) -> None:
    assert not is_neutral(lx.CellOptions(**variant))
