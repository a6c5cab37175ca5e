"""Properties that need no oracle, over drawn sizes and settings, on NumPy."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from cases import Case, assert_equal, flat
from hypothesis import given, settings
from hypothesis import strategies as st

import lstm_xp as lx

settings.register_profile("lstm_xp", deadline=None, max_examples=60, derandomize=True)
settings.load_profile("lstm_xp")


@st.composite
def cases(draw: st.DrawFn, **fixed: Any) -> Case:
    """Draw a configuration."""
    hidden = draw(st.integers(1, 6))
    drawn = {
        "time": draw(st.integers(1, 9)),
        "batch": draw(st.integers(1, 4)),
        "input_size": draw(st.integers(1, 6)),
        "hidden_size": hidden,
        "num_layers": draw(st.integers(1, 3)),
        "bidirectional": draw(st.booleans()),
        "bias": draw(st.sampled_from([(), ("bias_ih",), ("bias_hh",), ("bias_ih", "bias_hh")])),
        "proj_size": draw(st.integers(0, hidden + 1)),  # wider than the cell, too: TensorFlow 1 had that
        "peephole": draw(st.booleans()),
        "dtype": draw(st.sampled_from(["float32", "float64"])),
        "seed": draw(st.integers(0, 99)),
    }
    return Case(**drawn | fixed)


def rounding(case: Case) -> float:
    """Return what another order of adding up may change."""
    return {"float32": 1e-6, "float64": 1e-14}[case.dtype]


@given(cases(bidirectional=False), st.data())
def test_a_chunked_run_with_carried_state_equals_the_whole(case: Case, data: st.DataObject) -> None:
    x, mask = case.x(), case.mask()
    cuts = sorted(data.draw(st.sets(st.integers(1, 8))) | {0, case.time})
    net, state, outputs = case.lstm(), case.state(), []
    whole = flat(net(x, state, mask=mask))
    for start, stop in pairwise(cuts):
        if start < case.time:
            output, state = net(x[start:stop], state, mask=mask[start:stop])
            outputs.append(output)
    assert_equal((np.concatenate(outputs), *state), whole, rounding(case))


@given(cases(bidirectional=True, num_layers=1), st.sampled_from(["zero", "hold"]))
def test_bidirectional_equals_two_one_way_runs(case: Case, masked_output: Any) -> None:
    ((forward, backward),) = case.weights()
    settings_ = {"lengths": case.lengths(), "masked_output": masked_output}
    both = flat(lx.lstm(case.x(), case.weights(), case.state(), **settings_))
    one_way = [
        flat(lx.lstm(case.x(), weights, tuple(a[k : k + 1] for a in case.state()), reverse=bool(k), **settings_))
        for k, weights in enumerate((forward, backward))
    ]
    outputs, h_n, c_n = zip(*one_way, strict=True)
    assert_equal(both, (np.concatenate(outputs, axis=2), np.concatenate(h_n), np.concatenate(c_n)), 0.0)


@given(cases())
def test_layers_are_one_on_top_of_the_other(case: Case) -> None:
    rows = case.num_directions
    x, finals = case.x(), []
    for k, layer in enumerate(case.weights()):
        x, final = lx.lstm(x, (layer,), tuple(a[k * rows : (k + 1) * rows] for a in case.state()))
        finals.append(final)
    stacked = (x, *(np.concatenate(each) for each in zip(*finals, strict=True)))
    assert_equal(flat(lx.lstm(case.x(), case.weights(), case.state())), stacked, 0.0)


@given(cases(), st.data())
def test_rows_of_a_batch_are_independent_and_can_be_permuted(case: Case, data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(case.batch)))
    net, x, state, mask = case.lstm(), case.x(), case.state(), case.mask()
    together = flat(net(x, state, mask=mask))
    permuted = flat(net(x[:, order], tuple(a[:, order] for a in state), mask=mask[:, order]))
    assert_equal(permuted, [a[:, order] for a in together], rounding(case))
    row = order[0]
    alone = flat(net(x[:, row], tuple(a[:, row] for a in state), mask=mask[:, row]))
    assert_equal(alone, [a[:, row] for a in together], rounding(case))
    poisoned = x.copy()
    poisoned[:, row] = np.nan
    others = [k for k in range(case.batch) if k != row]
    with np.errstate(invalid="ignore"):
        actual = flat(net(poisoned, state))
    assert_equal([a[:, others] for a in actual], [a[:, others] for a in flat(net(x, state))], rounding(case))


@given(cases(), st.sampled_from(["lengths", "mask"]), st.sampled_from(["zero", "hold"]))
def test_what_lies_in_the_padding_changes_nothing(case: Case, kind: str, masked_output: Any) -> None:
    given_ = getattr(case, kind)()
    valid = given_ if kind == "mask" else np.arange(case.time)[:, None] < given_
    net = case.lstm(masked_output=masked_output)
    for junk in (np.nan, np.inf, 1e30):
        dirty = np.where(valid[..., None], case.x(), junk).astype(case.dtype)
        actual = flat(net(dirty, case.state(), **{kind: given_}))
        assert_equal(actual, flat(net(case.x(), case.state(), **{kind: given_})), 0.0)


@given(cases())
def test_lengths_are_the_mask_of_their_steps(case: Case) -> None:
    mask = np.arange(case.time)[:, None] < case.lengths()
    net = case.lstm()
    actual = flat(net(case.x(), case.state(), lengths=case.lengths()))
    assert_equal(actual, flat(net(case.x(), case.state(), mask=mask)), 0.0)
    full = flat(net(case.x(), case.state(), mask=np.ones_like(mask)))
    assert_equal(full, flat(net(case.x(), case.state())), 0.0)


@given(cases())
def test_read_only_and_strided_inputs_work_and_stay_unchanged(case: Case) -> None:
    x, state, lengths = case.x(), case.state(), case.lengths()
    strided = np.empty((case.time, 2, case.batch, 3, case.input_size), case.dtype)[:, 1, :, 1].swapaxes(0, 1)
    strided[...] = x.swapaxes(0, 1)
    strided = strided.swapaxes(0, 1)
    before = [a.copy() for a in (strided, *state, lengths)]
    for array in (strided, *state, lengths):
        array.flags.writeable = False
    actual = flat(case.lstm()(strided, state, lengths=lengths))
    assert_equal(actual, flat(case.lstm()(x, state, lengths=lengths)), rounding(case))
    for array, old in zip((strided, *state, lengths), before, strict=True):
        np.testing.assert_array_equal(array, old)


NEUTRAL = [
    {"clip_gates": np.inf},
    {"clip_cell": np.inf},
    {"clip_gates": 1e30, "clip_cell": 1e30},
    {"activations": ("Sigmoid", "TANH", "tan_h")},
    {"activations": ("sigmoid", ("scaled_tanh", 1.0, 1.0), "scaled_tanh")},
    {"peephole_output": "old"},
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
    projection = case.rng("projection").standard_normal((3, case.hidden_size)).astype(case.dtype)
    wide = weights._replace(weight_hr=projection, weight_hh=np.zeros((4 * case.hidden_size, 3), case.dtype))
    x, zeros = case.x()[0], np.zeros((case.batch, 3), case.dtype)
    whole = lx.lstm_cell(x, wide, (zeros, c))
    cut = lx.lstm_cell(x, wide, (zeros, c), options=lx.CellOptions(clip_proj=0.05))
    np.testing.assert_array_equal(cut[0], np.clip(whole[0], -0.05, 0.05))
    np.testing.assert_array_equal(cut[1], whole[1])


def test_saturated_and_infinite_inputs_stay_finite() -> None:
    case = Case(dtype="float32", num_layers=2, bidirectional=True)
    for scale in (1e3, 1e30):
        output, _ = case.lstm()((scale * case.x()).astype("float32"))
        assert np.isfinite(output).all()
        assert np.abs(output).max() <= 1
    subnormal = flat(case.lstm()(case.x() * np.float32(1e-40)))
    assert_equal(subnormal, flat(case.lstm()(0 * case.x())), 1e-6)


def test_options_compare_and_hash_by_meaning() -> None:
    assert lx.CellOptions(activations=("HardSigmoid", "tanh", "tanh")) == lx.CellOptions(
        activations=(("hard_sigmoid", 0.2, 0.5), "Tanh", ("tanh",))
    )
    assert len({lx.CellOptions(), lx.CellOptions(clip_cell=float("inf"))}) == 1
