"""
Layouts: what every row of the table goes through, and what only some frameworks have.

The frameworks themselves run in tests/frameworks; here are their recorded answers.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lstm_xp as lx
from conformance.cases import Case, map_arrays
from conformance.compare import flat
from lstm_xp.convert import _layouts
from lstm_xp.convert._codec import decode, encode
from lstm_xp.convert._layouts import Layout

LAYOUTS = {name.lower(): row for name, row in vars(_layouts).items() if isinstance(row, Layout)}
RECORDED = Path(__file__).parent / "frameworks" / "recorded"


def leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the arrays of nested mappings and sequences, with where they are."""
    pairs = tree.items() if isinstance(tree, Mapping) else enumerate(tree) if isinstance(tree, (tuple, list)) else None
    if pairs is None:
        yield path, tree
    else:
        for key, value in pairs:
            yield from leaves(value, f"{path}[{key}]")


def assert_same(actual: Any, expected: Any) -> None:
    """Assert that two trees hold the same arrays, bit for bit, under the same names."""
    a, e = dict(leaves(actual)), dict(leaves(expected))
    assert list(a) == list(e)
    for name, array in e.items():
        assert (a[name].shape, a[name].dtype) == (array.shape, array.dtype), name
        assert a[name].tobytes() == array.tobytes(), name


@st.composite
def cases(draw: Any, layout: Layout) -> Case:
    """Return a case that a layout can express."""
    n, i, p = draw(st.permutations(range(1, 7)))[:3]
    one_cell = layout is LAYOUTS["torch_cell"]
    return Case(
        time=3,
        batch=2,
        input_size=i,
        hidden_size=n + 1,
        num_layers=1 if one_cell else draw(st.integers(1, 3)),
        bidirectional=False if one_cell else draw(st.booleans()),
        bias=draw(st.sampled_from([(), ("bias_ih",), ("bias_hh",), ("bias_ih", "bias_hh")])),
        proj_size=min(p, n) if "weight_hr" in layout.fields and draw(st.booleans()) else 0,
        peephole="peephole" in layout.fields and draw(st.booleans()),
        dtype=draw(st.sampled_from(["float32", "float64"])),
    )


@pytest.mark.parametrize("name", LAYOUTS)
@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_there_and_back(name: str, data: Any) -> None:
    """The arrays come back bit for bit; whatever was put into them is the same function."""
    layout = LAYOUTS[name]
    case = data.draw(cases(layout))
    arrays = encode(case.weights(), layout)
    weights = decode(arrays, layout, num_directions=case.num_directions)
    assert_same(encode(weights, layout), arrays)
    for a, e in zip(
        flat(lx.lstm(case.x(), weights, case.state())), flat(case.lstm()(case.x(), case.state())), strict=True
    ):
        np.testing.assert_allclose(a, e, rtol=0, atol={"float32": 1e-6, "float64": 1e-14}[case.dtype])


@pytest.mark.parametrize("name", LAYOUTS)
def test_two_biases_or_one(name: str) -> None:
    """Only where there is one is anything lost, and that is how the sum is split."""
    layout = LAYOUTS[name]
    case = Case(peephole="peephole" in layout.fields, proj_size=2 * ("weight_hr" in layout.fields))
    weights = decode(encode(case.weights(), layout), layout, num_directions=1)
    ((ours,),), ((given_,),) = weights, case.weights()
    for field in lx.CellWeights._fields:
        if "bias_hh" in layout.fields or not field.startswith("bias"):
            np.testing.assert_array_equal(getattr(ours, field), getattr(given_, field))


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("pair", list(combinations("ifgo", 2)))
def test_another_order_of_the_gates_is_another_function(name: str, pair: tuple[str, str]) -> None:
    """So that no comparison above or below could pass with two gates swapped."""
    layout = LAYOUTS[name]
    swapped = replace(layout, gates=layout.gates.translate(str.maketrans("".join(pair), "".join(reversed(pair)))))
    case = Case(peephole=False)
    arrays = encode(case.weights(), layout)
    right, wrong = (lx.lstm(case.x(), decode(arrays, each), case.state())[0] for each in (layout, swapped))
    assert np.max(np.abs(right - wrong)) > 1e-3


# What was recorded by tests/frameworks/record.py, and what reads and writes it.
RECORDS: dict[str, tuple[Callable[..., lx.LSTM], Callable[[lx.LSTM], Any], dict[str, Any]]] = {
    "chainer": (lx.convert.from_chainer, lx.convert.to_chainer, {}),
    "chainer_nstep": (lx.convert.from_chainer_nstep, lx.convert.to_chainer_nstep, {}),
    "chainer_nstep_bidirectional": (
        lx.convert.from_chainer_nstep,
        lx.convert.to_chainer_nstep,
        {"bidirectional": True},
    ),
    "madmom": (lx.convert.from_madmom, lx.convert.to_madmom, {}),
    "mxnet": (lx.convert.from_mxnet, lx.convert.to_mxnet, {}),
    "mxnet_vector": (
        lambda mapping, **given: lx.convert.from_cudnn(mapping["vector"], **given),
        lambda net: {"vector": lx.convert.to_cudnn(net)},
        {"input_size": 5, "hidden_size": 4, "num_layers": 2, "bidirectional": True},
    ),
    "numpy_ml": (lx.convert.from_numpy_ml, lx.convert.to_numpy_ml, {}),
}


@pytest.mark.parametrize("name", RECORDS)
def test_recorded(name: str) -> None:
    """Chainer 7.8.1, madmom 0.16.1, MXNet 1.9.1, numpy-ml 0.1.2, which do not run beside a NumPy of today."""
    read, write, settings = RECORDS[name]
    with np.load(RECORDED / f"{name}.npz") as file:
        arrays = dict(file)
    weights: Any = {key.removeprefix("weights/"): a for key, a in arrays.items() if key.startswith("weights/")}
    if name == "chainer":  # two links on top of each other
        weights = [{key[2:]: a for key, a in weights.items() if key.startswith(f"{k}/")} for k in range(2)]
    net = read(weights, **settings)
    result = net(arrays["x"], (arrays["h_0"], arrays["c_0"]))
    for key, a in zip(("output", "h_n", "c_n"), flat(result), strict=True):
        np.testing.assert_allclose(a, arrays[key], rtol=0, atol=1e-6)
    assert_same(
        {k: dict(sorted(leaves_of(v).items())) for k, v in enumerate(as_list(write(net)))},
        {k: dict(sorted(leaves_of(v).items())) for k, v in enumerate(as_list(weights))},
    )


def as_list(tree: Any) -> list[Any]:
    return list(tree) if isinstance(tree, (tuple, list)) else [tree]


def leaves_of(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested mappings as one, levels joined by ``/``."""
    return {path[1:-1].replace("][", "/"): array for path, array in leaves(tree)}


@pytest.mark.parametrize("layout", ["iofg", "ifgo"])
@pytest.mark.parametrize("peephole", [True, False])
def test_webnn(layout: str, peephole: bool) -> None:
    """Nothing runs it here: these are the equations of https://www.w3.org/TR/webnn/#api-mlgraphbuilder-lstmcell."""
    n, features = 4, 5
    rng = np.random.default_rng(0)
    shapes = {"weight": (4 * n, features), "recurrentWeight": (4 * n, n), "bias": (4 * n,), "recurrentBias": (4 * n,)}
    shapes |= {"peepholeWeight": (3 * n,)} if peephole else {}
    given_ = {name: rng.standard_normal((1, *shape)) for name, shape in shapes.items()}
    x, h, c = (rng.standard_normal((3, size)) for size in (features, n, n))

    w, r, b, b_r = (given_[name][0] for name in ("weight", "recurrentWeight", "bias", "recurrentBias"))
    p = given_["peepholeWeight"][0] if peephole else np.zeros(3 * n)
    z = {gate: (x @ w.T + h @ r.T + b + b_r)[:, k * n : (k + 1) * n] for k, gate in enumerate(layout)}
    peep = {gate: c * p[k * n : (k + 1) * n] for k, gate in enumerate("iof")}  # all three see the old cell state
    i, f, o = (1 / (1 + np.exp(-z[gate] - peep[gate])) for gate in "ifo")
    c_n = f * c + i * np.tanh(z["g"])
    h_n = o * np.tanh(c_n)

    net = lx.convert.from_webnn(given_, layout=layout)
    ours = net(x[None], (h[None], c[None]))[1]
    np.testing.assert_allclose(ours[0][0], h_n, rtol=0, atol=1e-14)
    np.testing.assert_allclose(ours[1][0], c_n, rtol=0, atol=1e-14)
    assert_same(lx.convert.to_webnn(net, layout=layout), given_)


FORGET_BIAS = [(lx.convert.from_haiku, lx.convert.to_haiku), (lx.convert.from_tf1, lx.convert.to_tf1)]


@pytest.mark.parametrize(("read", "write"), FORGET_BIAS, ids=["haiku", "tf1"])
def test_the_run_time_forget_bias_is_exact(read: Callable[..., lx.LSTM], write: Callable[[lx.LSTM], Any]) -> None:
    """Of no bias is a bit lost, though adding and subtracting 1 would lose some."""
    arrays = dict(leaves(write(Case(hidden_size=3, dtype="float32").lstm())))
    for name, array in arrays.items():
        if name.endswith(("[b]", "[bias]")):
            array[...] = np.resize([-0.0, 1e-30, 3e8, np.inf, -1.0, 0.1, 1e-8], 12)
    named = {path.rpartition("[")[2][:-1]: array for path, array in arrays.items()}
    net = read(named)
    np.testing.assert_array_equal(net.weights[0][0].bias_hh, np.repeat(np.float32([0, 1, 0, 0]), 3))
    for path, array in leaves(write(net)):
        assert array.tobytes() == arrays[path].tobytes()


def test_a_second_bias_that_is_not_the_frameworks() -> None:
    net = Case(bias=("bias_ih", "bias_hh")).lstm()
    cell = net.weights[0][0]
    b = lx.convert.to_haiku(net)["lstm/linear"]["b"]
    i, f, g, o = np.split(cell.bias_ih + cell.bias_hh, 4)
    np.testing.assert_allclose(b, np.concatenate([i, g, f - 1, o]), rtol=0, atol=1e-15)


def test_names_before_the_names() -> None:
    """Whatever a model calls the module, nested or joined."""
    w, b = np.ones((9, 16)), np.zeros(16)
    for given_ in (
        {"w": w, "b": b},
        {"lstm/linear": {"w": w, "b": b}},
        {"params": {"my_core": {"linear": {"w": w, "b": b}}}},
        {"my_core/linear/w": w, "my_core/linear/b": b, "other": None},
    ):
        assert repr(lx.convert.from_haiku(given_)) == "LSTM(5, 4)"
    names = {"rnn/lstm_cell/kernel:0": np.ones((7, 16)), "rnn/lstm_cell/bias:0": b}
    names |= {"rnn/lstm_cell/projection/kernel:0": np.ones((4, 2))}
    assert repr(lx.convert.from_tf1(names)) == "LSTM(5, 4, proj_size=2)"


def test_objects_with_attributes() -> None:
    class Cell:
        weight_ih, weight_hh, bias, hidden_size = np.ones((16, 5)), np.ones((16, 4)), None, 4

    assert repr(lx.convert.from_equinox(Cell())) == "LSTM(5, 4, bias=False)"
    gates = ("input_gate", "forget_gate", "cell", "output_gate")
    arrays = {"weights": np.ones((5, 4)), "recurrent_weights": np.ones((4, 4)), "bias": np.ones(4)}
    layer = SimpleNamespace(**{gate: SimpleNamespace(**arrays, peephole_weights=None) for gate in gates})
    assert repr(lx.convert.from_madmom(layer)) == "LSTM(5, 4)"
    with pytest.raises(TypeError, match="`mapping` is a int, expected a mapping of names to arrays"):
        lx.convert.from_equinox(3)
    with pytest.raises(TypeError, match="`mapping` is a tuple of 0"):
        lx.convert.from_equinox(())


def keras(**changes: Any) -> dict[str, Any]:
    arrays = {"kernel": np.ones((5, 16)), "recurrent_kernel": np.ones((4, 16)), "bias": np.ones(16)} | changes
    return {name: array for name, array in arrays.items() if array is not None}


def onnx(**changes: Any) -> dict[str, Any]:
    return {"W": np.ones((2, 16, 5)), "R": np.ones((2, 16, 4)), "B": np.ones((2, 32))} | changes


def mxnet(**changes: Any) -> dict[str, Any]:
    arrays = encode(Case(num_layers=2).weights(), LAYOUTS["mxnet"]) | changes
    return {name: array for name, array in arrays.items() if array is not None}


MISTAKES: list[tuple[str, Any, str]] = [
    ("keras", keras(kernels=np.ones(3)), "`kernels` is not one of the names recurrent_kernel, kernel, bias"),
    ("keras", keras(kernel=None), "`kernel` is missing"),
    ("keras", keras(recurrent_kernel=None), "`recurrent_kernel` is missing"),
    (
        "keras",
        keras(kernel=np.ones((5, 15))),
        "`kernel` has shape (5, 15), expected (input_size, 4*hidden_size) = (5, 16)",
    ),
    (
        "keras",
        keras(kernel=np.ones((5, 12))),
        "`kernel` has shape (5, 12), expected (input_size, 4*hidden_size) = (5, 16)",
    ),
    (
        "keras",
        keras(kernel=np.ones(16)),
        "`kernel` has shape (16,), expected (input_size, 4*hidden_size), all at least 1",
    ),
    ("keras", keras(recurrent_kernel=np.ones((4, 18))), "expected (hidden_size, 4*hidden_size), all at least 1"),
    ("keras", keras(recurrent_kernel=np.ones((0, 0))), "expected (hidden_size, 4*hidden_size), all at least 1"),
    ("keras", keras(recurrent_kernel=np.ones((3, 16))), "expected (hidden_size, 4*hidden_size) = (4, 16)"),
    ("keras", keras(bias=np.ones((2, 16))), "`bias` has shape (2, 16), expected (4*hidden_size,) = (16,)"),
    ("keras", keras(bias=np.ones(16, "float32")), "`bias` has dtype float32, expected float64"),
    ("keras", keras(kernel=[1.0]), "`kernel` is a list, expected an array"),
    ("keras", keras(recurrent_kernel=np.ones((4, 16), int)), "`recurrent_kernel` has dtype int64, expected"),
    ("keras", [np.ones(3)], "`weights` is a list of 1, expected 2 or 3 arrays for each direction"),
    (
        "keras",
        [keras(), keras()],
        "`[1].kernel` has shape (5, 16), expected (num_directions*hidden_size, 4*hidden_size)",
    ),
    ("keras", {"a": keras(), "b": keras()}, "`mapping` holds 2 LSTMs, under 'a/', 'b/'; expected one"),
    ("haiku", [[]], "layer 0 of `mapping` has 0 directions, expected one or two"),
    ("keras", [[keras()] * 3], "layer 0 of `mapping` has 3 directions, expected one or two"),
    ("keras", [[keras()] * 2, keras(kernel=np.ones((8, 16)))], "layer 1 of `weights` has 1 direction(s), expected 2"),
    ("haiku", {"w": np.ones((4, 16)), "b": np.ones(16)}, "expected (input_size + hidden_size, 4*hidden_size), all at"),
    ("haiku", {"w": np.ones((9, 16))}, "`b` is missing"),
    ("flax", {"hi": {"kernel": np.ones((4, 4))}}, "`ii/kernel` is missing"),
    ("chainer", {"lateral/W": np.ones((16, 4)), "upward/W": np.ones((16, 5))}, "`upward/b` is missing"),
    (
        "onnx",
        onnx(W=np.ones((1, 16, 5))),
        "`W` has shape (1, 16, 5), expected (num_directions, 4*hidden_size, input_size)",
    ),
    ("onnx", onnx(R=np.ones((3, 16, 4))), "`R` has shape (3, 16, 4), expected one or two directions"),
    ("onnx", onnx(R=np.ones((16, 4))), "expected (num_directions, 4*hidden_size, hidden_size), all at least 1"),
    ("mxnet", mxnet(l1_h2h_bias=None), "`l1_h2h_bias` is missing"),
    ("mxnet", mxnet(r1_h2h_bias=np.ones(16)), "`r1_h2h_bias` is not one of the names"),
    ("mxnet", mxnet(l1_i2h_weight=np.ones((16, 5))), "expected (4*hidden_size, num_directions*hidden_size) = (16, 4)"),
    ("mxnet", mxnet(l0_h2h_weight=None), "`l0_h2h_weight` is missing"),
    ("mxnet", [1, 2], "`mapping` is a list of 2, expected a mapping of names to arrays"),
]


@pytest.mark.parametrize(("name", "mapping", "message"), MISTAKES)
def test_mistakes_are_named(name: str, mapping: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        getattr(lx.convert, f"from_{name}")(mapping)


def test_a_vector_of_another_length() -> None:
    with pytest.raises(ValueError, match=r"`vector` has shape \(3,\), expected \(num_parameters,\) = \(176,\)"):
        lx.convert.from_cudnn(np.ones(3), 5, 4)
    net = lx.convert.from_cudnn(np.ones(144), 5, 4, bias=False)
    assert not net.bias
    assert lx.convert.to_cudnn(net).shape == (144,)


PROJECTED, PEEPHOLED = Case(proj_size=2).lstm(), Case(peephole=True).lstm()
REVERSED, COUPLED = Case().lstm(reverse=True), Case().lstm(options=lx.CellOptions(coupled=True))
REFUSALS: list[tuple[str, lx.LSTM, str]] = [
    *(
        (name, PROJECTED, "a projection")
        for name in ("keras", "flax", "nnx", "haiku", "equinox", "mlx", "onnx", "webnn")
    ),
    *(
        (name, PROJECTED, "a projection")
        for name in ("openvino", "cudnn", "thinc", "chainer", "chainer_nstep", "madmom")
    ),
    *((name, PEEPHOLED, "peepholes") for name in ("torch", "keras", "flax", "haiku", "sonnet", "mxnet", "numpy_ml")),
    *((name, REVERSED, "reverse=True") for name in ("torch", "flax", "openvino", "tf1", "cudnn", "webnn")),
    *((name, COUPLED, "options") for name in ("torch", "flax", "tf1", "sonnet", "thinc", "madmom", "concatenated")),
    ("webnn", PEEPHOLED, "options"),  # its output gate sees the old cell state
    *((f, "no LSTM", "`net` is a str, expected an lstm_xp.LSTM") for f in ("keras", "onnx", "cudnn", "flax")),
]  # type: ignore[list-item]


@pytest.mark.parametrize(("name", "net", "what"), REFUSALS)
def test_what_a_layout_cannot_express_is_refused(name: str, net: Any, what: str) -> None:
    with pytest.raises((TypeError, ValueError), match=what):
        getattr(lx.convert, f"to_{name}")(net)


@pytest.mark.parametrize("name", [name for name in lx.convert.__all__ if name.startswith("to_")])
def test_layer_norm_is_refused_by_name_by_every_layout(name: str) -> None:
    first, *others = (layer[0] for layer in Case().lstm().weights)
    cells = [cell._replace(norm=np.ones((2, 9 * 4))) for cell in (first, *others)]
    with pytest.raises(ValueError, match=r"^`net` has layer norm, which .+ cannot express$"):
        getattr(lx.convert, name)(lx.LSTM.from_weights(cells))


def config(**changes: Any) -> dict[str, Any]:
    return {"activation": "tanh", "recurrent_activation": "sigmoid", "use_bias": True, "units": 4} | changes


def test_keras_configurations() -> None:
    read = lambda **changes: lx.convert.from_keras(keras(), config(**changes))
    assert read().options == lx.CellOptions()
    assert (read().batch_first, read().masked_output, read().reverse) == (True, "hold", False)
    assert read(zero_output_for_mask=True).masked_output == "zero"
    assert read(go_backwards=True).reverse
    hard = read(recurrent_activation="hard_sigmoid")
    assert hard.options.activations == (("hard_sigmoid", 1 / 6, 0.5), "tanh", "tanh")
    old = lx.convert.from_keras(keras(), config(recurrent_activation="hard_sigmoid"), version=2)
    assert old.options.activations == ("hard_sigmoid", "tanh", "tanh")
    function = {"module": "builtins", "class_name": "function", "config": "relu"}
    assert read(activation=function).options.activations == ("sigmoid", "relu", "relu")
    with pytest.raises(ValueError, match="`activation` is 'gelu', expected one of elu, hard_sigmoid"):
        read(activation="gelu")
    layer = {"module": "keras.layers", "class_name": "LeakyReLU", "config": {"negative_slope": 0.3}}
    with pytest.raises(ValueError, match="`activation` is {.*'LeakyReLU'.*}, expected one of elu, hard_sigmoid"):
        read(activation=layer)
    with pytest.raises(ValueError, match="`go_backwards` is True in several layers"):
        lx.convert.from_keras([keras(), keras(kernel=np.ones((4, 16)))], config(go_backwards=True))


def test_keras_in_both_directions() -> None:
    arrays = list(keras().values())
    forward = {"class_name": "LSTM", "config": config()}
    backward = {"class_name": "LSTM", "config": config(activation="relu", go_backwards=True)}
    read = lambda **changes: lx.convert.from_keras(
        arrays + arrays, {"layer": forward, "merge_mode": "concat"} | changes
    )
    assert read().bidirectional
    assert read().options == lx.CellOptions()
    relu = lx.CellOptions(activations=("sigmoid", "relu", "relu"))
    assert read(backward_layer=backward).options == (lx.CellOptions(), relu)
    for changes, message in (
        ({"merge_mode": "sum"}, "`merge_mode` is 'sum', expected 'concat'"),
        ({"layer": backward}, "`go_backwards` of the forward layer is True"),
        ({"backward_layer": {"config": config(zero_output_for_mask=True)}}, "`zero_output_for_mask` differs"),
    ):
        with pytest.raises(ValueError, match=message):
            read(**changes)
    with pytest.raises(ValueError, match="options that differ by direction"):
        lx.convert.keras_config(read(backward_layer=backward))
    assert_same(lx.convert.to_keras(read(backward_layer=backward)), arrays + arrays)


@pytest.mark.parametrize(
    "options", [{"coupled": True}, {"clip_cell": 1.0}, {"activations": ("sigmoid", "tanh", "relu")}]
)
def test_keras_cannot_express(options: dict[str, Any]) -> None:
    net = Case().lstm(options=lx.CellOptions(**options))
    for refuse in (lx.convert.keras_config, lx.convert.to_keras):
        with pytest.raises(ValueError, match="`net` has options that Keras cannot express"):
            refuse(net)


def test_keras_cannot_run_several_layers_backward() -> None:
    """As `from_keras` says of them."""
    for refuse in (lx.convert.keras_config, lx.convert.to_keras):
        with pytest.raises(ValueError, match="`net` has reverse=True in 2 layers, which Keras cannot express"):
            refuse(Case(num_layers=2).lstm(reverse=True))
        refuse(REVERSED)


def test_an_activation_that_keras_does_not_have() -> None:
    net = Case().lstm(options=lx.CellOptions(activations=(("hard_sigmoid", 0.3, 0.5), "tanh", "tanh")))
    with pytest.raises(
        ValueError, match="`net` has the activation .'hard_sigmoid', 0.3, 0.5., which Keras cannot express"
    ):
        lx.convert.keras_config(net)


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"directions": 2}, "`directions` is not an attribute of ONNX's LSTM"),
        ({"direction": "both"}, "`direction` is 'both', expected 'forward', 'reverse' or 'bidirectional'"),
        ({"direction": "forward"}, "`direction` is 'forward', but the arrays have 2 direction"),
        ({"direction": b"bidirectional", "hidden_size": 5}, "`hidden_size` is 5, expected 4 as the arrays have it"),
        ({"activations": ["Sigmoid"]}, "`activations` has 1 names, expected 3"),
        ({"activations": ["Sigmoid", "Tanh", "Gelu"]}, "`activations` has 'Gelu', expected one of Affine, Elu"),
        ({"activation_alpha": [0.1]}, "`activation_alpha` or `activation_beta` has 1 values more than"),
    ],
)
def test_onnx_attributes_that_cannot_be(attributes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lx.convert.from_onnx(onnx(), attributes)


def test_onnx_attributes_of_two_directions() -> None:
    attributes = {
        "direction": b"bidirectional",
        "activations": [b"HardSigmoid", b"Elu", b"Tanh", b"LeakyRelu", b"ScaledTanh", b"Relu"],
        "activation_alpha": [0.3, 0.7, 0.2, 0.8],
        "activation_beta": [0.4, 1.1],
        "layout": 1,
    }
    net = lx.convert.from_onnx(onnx(), attributes)
    assert net.batch_first
    assert net.options == (
        lx.CellOptions(activations=(("hard_sigmoid", 0.3, 0.4), ("elu", 0.7), "tanh")),
        lx.CellOptions(activations=(("leaky_relu", 0.2), ("scaled_tanh", 0.8, 1.1), "relu")),
    )
    assert lx.convert.from_onnx(onnx(), lx.convert.onnx_attributes(net)).options == net.options


@pytest.mark.parametrize(
    "options",
    [
        lx.CellOptions(clip_cell=1.0),
        lx.CellOptions(peephole_output="old"),
        (lx.CellOptions(clip_gates=1.0), lx.CellOptions()),
    ],
)
def test_onnx_cannot_express(options: Any) -> None:
    net = Case(bidirectional=isinstance(options, tuple), peephole=True).lstm(options=options)
    with pytest.raises(ValueError, match="`net` has options that ONNX cannot express"):
        lx.convert.to_onnx(net)


def test_webnn_has_two_orders() -> None:
    with pytest.raises(ValueError, match="`layout` is 'ifog', expected 'iofg' or 'ifgo'"):
        lx.convert.to_webnn(Case().lstm(), layout="ifog")


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize(
    "library",
    [
        pytest.param("array_api_strict", marks=pytest.mark.needs("array_api_strict")),
        pytest.param("torch", marks=pytest.mark.needs("torch")),
        pytest.param("jax.numpy", marks=pytest.mark.needs("jax")),
    ],
)
def test_arrays_stay_in_their_library(name: str, library: str) -> None:
    from importlib import import_module

    asarray = import_module(library).asarray
    layout = LAYOUTS[name]
    case = Case(dtype="float32", peephole="peephole" in layout.fields)
    expected = encode(case.weights(), layout)
    arrays = encode(map_arrays(asarray, case.weights()), layout)
    kind = type(asarray(1.0))
    assert all(isinstance(array, kind) for _, array in leaves(arrays))
    ((cell,),) = decode(arrays, layout)
    assert all(array is None or isinstance(array, kind) for array in cell)
    for (_, a), (_, e) in zip(leaves(arrays), leaves(expected), strict=True):
        np.testing.assert_array_equal(np.asarray(a), e)


@pytest.mark.needs("jax")
def test_it_can_be_traced() -> None:
    import jax

    case = Case(dtype="float32")
    for name in ("haiku", "chainer", "onnx"):
        layout = LAYOUTS[name]
        arrays = encode(case.weights(), layout)
        back = jax.jit(lambda a, layout=layout: encode(decode(a, layout), layout))(arrays)
        for path, array in leaves(arrays):
            np.testing.assert_array_equal(dict(leaves(back))[path], array)


@pytest.mark.parametrize("name", [name for name in lx.convert.__all__ if name.startswith(("from_", "to_"))])
def test_help_fits_a_page(name: str) -> None:
    text = getattr(lx.convert, name).__doc__
    assert max(map(len, text.splitlines())) <= 120
