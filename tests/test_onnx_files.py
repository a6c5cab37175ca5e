"""ONNX both ways: what we write, in ONNX Runtime; what exporters leave, and what a graph may say beside."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lstm_xp as lx
from conformance.cases import GENTLE, OTHER, Case
from conformance.compare import assert_equal, flat
from conformance.onnx_oracle import onnx_activations, onnx_rows
from conformance.oracle import torch_answer, torch_module

pytestmark = pytest.mark.needs("onnx", "onnxruntime")
CASE = Case(num_layers=2, bidirectional=True, dtype="float32")
GIVEN = lx.CellOptions(activations=GENTLE, clip_gates=0.4, coupled=True)
BOTH = (lx.CellOptions(activations=GENTLE), lx.CellOptions(activations=OTHER))
WRITTEN: dict[str, tuple[Case, dict[str, Any]]] = {
    "plain": (Case(dtype="float32"), {}),
    "three layers": (CASE.replace(num_layers=3, batch_first=True), {}),
    "reverse": (Case(dtype="float32", num_layers=2), {"reverse": True}),
    "peepholes": (CASE.replace(peephole=True), {}),
    "options": (CASE.replace(peephole=True), {"options": GIVEN}),
    "options by direction": (CASE, {"options": BOTH}),
    "others": (
        CASE,
        {"options": lx.CellOptions(activations=(("affine", 0.2, 0.3), ("thresholded_relu", 0.1), "softsign"))},
    ),
    "one bias": (CASE.replace(bias=("bias_hh",)), {}),
    "no bias": (CASE.replace(bias=()), {"dropout": 0.5}),
    "hold": (CASE.replace(batch_first=True), {"masked_output": "hold"}),
    "hold forward": (Case(dtype="float32", num_layers=2), {"masked_output": "hold"}),
    "hold backward": (Case(dtype="float32"), {"masked_output": "hold", "reverse": True}),
}


def session(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # it warns of inputs with a default
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def assert_same_weights(actual: lx.LSTM, expected: lx.LSTM) -> None:
    assert list(actual.state_dict()) == list(expected.state_dict())
    for name, array in expected.state_dict().items():
        assert actual.state_dict()[name].dtype == array.dtype
        assert actual.state_dict()[name].tobytes() == array.tobytes()


@pytest.mark.parametrize("kind", WRITTEN)
@pytest.mark.parametrize("prefix", ["", "enc", "a.b."])
def test_there_and_back_is_bit_for_bit(tmp_path: Path, kind: str, prefix: str) -> None:
    case, settings = WRITTEN[kind]
    for dtype in ("float32", "float64", "float16"):
        net = case.replace(dtype=dtype).lstm(**settings)
        lx.save(tmp_path / "net.onnx", net, prefix=prefix)
        for back in (lx.load(tmp_path / "net.onnx"), lx.load(tmp_path / "net.onnx", prefix=prefix)):
            assert repr(back) == repr(net)
            assert_same_weights(back, net)
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]


@pytest.mark.parametrize("kind", WRITTEN)
@pytest.mark.parametrize("lengths", [None, (7, 0, 3), (0, 0, 0), (2,), (-3, 9, 1)], ids=str)
@pytest.mark.parametrize("start", ["given", "one", "absent"])
def test_onnx_runtime_runs_it(tmp_path: Path, kind: str, lengths: Sequence[int] | None, start: str) -> None:
    """Also with lengths of 0, and with those outside 0..T, which the graph clips."""
    case, settings = WRITTEN[kind]
    net, x, state = case.lstm(**settings), case.x(), case.replace(start=start).arguments().get("state")
    lx.save(tmp_path / "net.onnx", net)
    given = {"x": x}
    clipped = None
    if lengths is not None:
        given["lengths"] = np.asarray(lengths, "int32")
        clipped = np.clip(np.broadcast_to(lengths, (3,)), 0, 7)
    if state is not None:
        given |= {"h_0": state[0], "c_0": state[1]}
    actual = session(tmp_path / "net.onnx").run(["output", "h_n", "c_n"], given)
    assert_equal(actual, flat(net(x, state, lengths=clipped)), 1e-6)


@pytest.mark.parametrize("kind", WRITTEN)
@pytest.mark.parametrize("given", ["x", "x lengths", "x h_0 c_0", "x lengths h_0 c_0"])
def test_onnx_runtime_runs_an_empty_batch(tmp_path: Path, kind: str, given: str) -> None:
    """Its own LSTM node ends the process there: if this test does, the graph lets an empty batch through."""
    case, settings = WRITTEN[kind]
    case = case.replace(batch=0)
    net, state = case.lstm(**settings), case.state()
    lx.save(tmp_path / "net.onnx", net)
    inputs = {"x": case.x(), "lengths": np.zeros(0, "int32"), "h_0": state[0], "c_0": state[1]}
    actual = session(tmp_path / "net.onnx").run(
        ["output", "h_n", "c_n"], {name: inputs[name] for name in given.split()}
    )
    assert [each.shape for each in actual] == [each.shape for each in flat(net(case.x(), state))]


@pytest.mark.needs("torch")
def test_against_torch_and_in_a_stream(tmp_path: Path) -> None:
    case = Case(num_layers=2, dtype="float32", time=9, batch=4)
    lx.save(tmp_path / "net.onnx", case.lstm())
    run, (h, c), outputs = session(tmp_path / "net.onnx").run, case.state(), []
    for part in np.split(case.x(), [1, 2, 6]):
        output, h, c = run(None, {"x": part, "h_0": h, "c_0": c})
        outputs.append(output)
    assert_equal((np.concatenate(outputs), h, c), torch_answer(case), 1e-6)


def test_what_the_model_says_of_itself(tmp_path: Path) -> None:
    import onnx

    lx.save(tmp_path / "net.onnx", CASE.lstm(), prefix="enc")
    model = onnx.load(tmp_path / "net.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert [node.name for node in model.graph.node if node.op_type == "LSTM"] == ["enc.lstm_l0", "enc.lstm_l1"]
    assert [value.name for value in model.graph.input] == ["x", "lengths", "h_0", "c_0"]
    assert [value.name for value in model.graph.output] == ["output", "h_n", "c_n"]
    opened = session(tmp_path / "net.onnx")
    assert [(value.name, value.shape) for value in opened.get_inputs()] == [("x", ["T", "N", 5])]
    assert [value.name for value in opened.get_overridable_initializers()] == ["lengths", "h_0", "c_0"]
    assert [value.shape for value in opened.get_outputs()] == [["T", "N", 8], [4, "N", 4], [4, "N", 4]]


@pytest.mark.parametrize(
    ("case", "settings", "message"),
    [
        (CASE.replace(proj_size=2), {}, "a projection"),
        (CASE, {"options": lx.CellOptions(clip_cell=0.5)}, "clip_cell=0.5"),
        (CASE.replace(proj_size=2), {"options": lx.CellOptions(clip_proj=0.5)}, "projection|clip_proj=0.5"),
        (CASE.replace(peephole=True), {"options": lx.CellOptions(peephole_output="old")}, "peephole_output='old'"),
        (CASE, {"options": (lx.CellOptions(coupled=True), lx.CellOptions())}, "coupled=True"),
        (CASE, {"options": (lx.CellOptions(clip_gates=1.0), lx.CellOptions())}, "clip_gates=1.0"),
    ],
    ids=str,
)
def test_what_onnx_cannot_express_is_refused(tmp_path: Path, case: Case, settings: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lx.save(tmp_path / "net.onnx", case.lstm(**settings))
    assert not list(tmp_path.iterdir())


def test_settings_that_do_not_go_with_the_nodes_are_refused(tmp_path: Path) -> None:
    import onnx

    lx.save(tmp_path / "net.onnx", CASE.lstm(options=GIVEN))
    model = onnx.load(tmp_path / "net.onnx")
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "clip":
                attribute.f = 0.5
    onnx.save(model, tmp_path / "net.onnx")
    with pytest.raises(
        ValueError, match="net.onnx: its nodes have the attributes .*'clip': 0.5.*, but its settings are"
    ):
        lx.load(tmp_path / "net.onnx")


@pytest.mark.needs("torch")
@pytest.mark.filterwarnings("ignore")  # of tracing, and that there is a newer exporter
@pytest.mark.parametrize("folded", [True, False])
@pytest.mark.parametrize(
    "case",
    [
        Case(dtype="float32"),
        Case(dtype="float32", num_layers=3, bias=()),
        Case(dtype="float32", num_layers=2, bidirectional=True),
        Case(dtype="float32", num_layers=2, start="absent"),
    ],
    ids=str,
)
def test_what_torchs_exporter_leaves(tmp_path: Path, case: Case, folded: bool) -> None:
    import torch

    for batch_first in (False, True):
        module = torch_module(case.replace(batch_first=batch_first)).eval()
        x, given = torch.tensor(case.x()), case.arguments().get("state")
        state = [] if given is None else [tuple(map(torch.tensor, given))]
        torch.onnx.export(module, (x.swapaxes(0, 1) if batch_first else x, *state), str(tmp_path / "net.onnx"),
                          dynamo=False, do_constant_folding=folded)  # fmt: skip
        net = lx.load(tmp_path / "net.onnx")
        assert net.num_layers == case.num_layers
        assert_equal(flat(net(case.x(), given)), torch_answer(case), 1e-6)


def layers_of(case: Case) -> list[dict[str, np.ndarray]]:
    """Return the inputs of LSTM nodes, written by the conformance suite's own hand."""
    layers = []
    for cells in case.weights():
        rows = [
            {
                "W": onnx_rows(cell.weight_ih, "iofg"),
                "R": onnx_rows(cell.weight_hh, "iofg"),
                "B": np.concatenate([onnx_rows(b, "iofg") for b in (cell.bias_ih, cell.bias_hh)]),
                **({} if cell.peephole is None else {"P": onnx_rows(cell.peephole, "iof").ravel()}),
            }
            for cell in cells
        ]
        layers.append({key: np.stack([row[key] for row in rows]) for key in rows[0]})
    return layers


def write_graph(path: Path, nodes: Sequence[Any], constants: dict[str, Any], output: str = "Y", **more: Any) -> None:
    """Write a graph of nodes over the input x."""
    from onnx import TensorProto, helper, numpy_helper, save

    initialisers = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["T", "N", 5])],
        [helper.make_empty_tensor_value_info(output)],
        initialisers,
        **more,
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def stacked(
    path: Path, case: Case, between: Sequence[Any], last: str, constants: Any = None, **attributes: Any
) -> None:
    """Write two LSTM nodes with others in between, from `Y` to the name that the second one reads."""
    from onnx import helper

    first, second = layers_of(case)
    common = {"hidden_size": case.hidden_size} | attributes
    if case.bidirectional:
        common["direction"] = "bidirectional"
    more = [name for name in ("", "", "", "P") if "P" in first]
    nodes = [
        helper.make_node("LSTM", ["x", "W", "R", "B", *more], ["Y"], name="one", **common),
        *between,
        helper.make_node(
            "LSTM",
            [last, *(f"{name}1" if name else "" for name in ("W", "R", "B", *more))],
            ["Z"],
            name="two",
            **common,
        ),
    ]
    arrays = first | {f"{name}1": array for name, array in second.items()}
    write_graph(path, nodes, arrays | (constants or {}), "Z")


def node(kind: str, inputs: str, outputs: str, **attributes: Any) -> Any:
    from onnx import helper

    return helper.make_node(kind, inputs.split(), outputs.split(), **attributes)


ONE, TWO = Case(dtype="float32", num_layers=2), CASE
SHAPE = {"zero": [0], "one": [1], "two": [2], "three": [3], "four": [4]}
JOINED: dict[str, tuple[Case, Sequence[Any], dict[str, Any]]] = {
    "squeeze": (ONE, (("Squeeze", "Y axes", "y", {}),), {"axes": [1]}),
    "through time and back": (
        ONE,
        (
            ("Squeeze", "Y axes", "a", {}),
            ("Transpose", "a", "b", {"perm": [1, 0, 2]}),
            ("Dropout", "b", "c", {}),
            ("Identity", "c", "d", {}),
            ("Transpose", "d", "y", {"perm": [1, 0, 2]}),
        ),
        {"axes": [1]},
    ),
    "reshape": (
        TWO,
        (("Transpose", "Y", "a", {"perm": [0, 2, 1, 3]}), ("Reshape", "a shape", "y", {})),
        {"shape": [0, 0, -1]},
    ),
    "a shape that is computed, as torch's newer exporter does": (
        TWO,
        (
            ("Transpose", "Y", "a", {"perm": [0, 2, 1, 3]}),
            ("Shape", "a", "s", {}),
            ("Slice", "s zero one", "T", {}),
            ("Slice", "s one two", "N", {}),
            ("Slice", "s two three", "D", {}),
            ("Slice", "s three four", "H", {}),
            ("Mul", "D H", "F", {}),
            ("Concat", "T N F", "shape", {"axis": 0}),
            ("Reshape", "a shape", "y", {}),
        ),
        SHAPE,
    ),
}


@pytest.mark.parametrize("kind", JOINED)
@pytest.mark.parametrize("peephole", [False, True])
def test_nodes_on_top_of_one_another_are_layers(tmp_path: Path, kind: str, peephole: bool) -> None:
    case, between, constants = JOINED[kind]
    case = case.replace(peephole=peephole)
    nodes = [node(kind, inputs, outputs, **more) for kind, inputs, outputs, more in between]
    stacked(tmp_path / "net.onnx", case, nodes, "y", constants)
    net = lx.load(tmp_path / "net.onnx")
    assert_same_weights(net, case.lstm())
    assert repr(lx.load(tmp_path / "net.onnx", prefix="one")) == repr(net)


APART: dict[str, tuple[Case, Sequence[Any], dict[str, Any]]] = {
    "something in between": (ONE, (("Squeeze", "Y axes", "a", {}), ("Relu", "a", "y", {})), {"axes": [1]}),
    "time and batch swapped": (
        ONE,
        (("Squeeze", "Y axes", "a", {}), ("Transpose", "a", "y", {"perm": [1, 0, 2]})),
        {"axes": [1]},
    ),
    "used elsewhere too": (
        ONE,
        (("Squeeze", "Y axes", "y", {}), ("Relu", "y", "a", {})),
        {"axes": [1]},
    ),
    "directions in the wrong place": (TWO, (("Reshape", "Y shape", "y", {}),), {"shape": [0, 0, -1]}),
    "steps put together": (
        TWO,
        (("Transpose", "Y", "a", {"perm": [0, 2, 1, 3]}), ("Reshape", "a shape", "y", {})),
        {"shape": [-1, 3, 8]},
    ),
    "a dropout that may train": (
        ONE,
        (("Squeeze", "Y axes", "a", {}), ("Dropout", "a ratio training", "y", {})),
        {"axes": [1], "ratio": np.float32(0.5), "training": True},
    ),
}


@pytest.mark.parametrize("kind", APART)
def test_other_nodes_are_lstms_by_themselves(tmp_path: Path, kind: str) -> None:
    case, between, constants = APART[kind]
    nodes = [node(kind, inputs, outputs, **more) for kind, inputs, outputs, more in between]
    stacked(tmp_path / "net.onnx", case, nodes, "y", constants)
    with pytest.raises(ValueError, match="net.onnx holds 2 LSTMs, expected a `prefix` out of 'one', 'two'"):
        lx.load(tmp_path / "net.onnx")
    for k, name in enumerate(("one", "two")):
        (cells,) = lx.load(tmp_path / "net.onnx", prefix=name).weights
        assert np.array_equal(cells[0].weight_hh, case.weights()[k][0].weight_hh)
    with pytest.raises(ValueError, match="net.onnx: no LSTM under the prefix 'three'; there are 'one', 'two'"):
        lx.load(tmp_path / "net.onnx", prefix="three")


def test_a_decoder_is_no_layer(tmp_path: Path) -> None:
    """It starts from the last state of what is below."""
    first, second = layers_of(ONE)
    nodes = [
        node("LSTM", "x W R B", "Y h c", name="encoder", hidden_size=4),
        node("Squeeze", "Y axes", "y"),
        node("Identity", "h", "start"),
        node("LSTM", "y W1 R1 B1 none start c", "Z", name="decoder", hidden_size=4),
    ]
    nodes[-1].input[4] = ""
    arrays = first | {f"{name}1": array for name, array in second.items()} | {"axes": [1]}
    write_graph(tmp_path / "net.onnx", nodes, arrays, "Z")
    with pytest.raises(ValueError, match="holds 2 LSTMs, expected a `prefix` out of 'encoder', 'decoder'"):
        lx.load(tmp_path / "net.onnx")


def test_attributes_become_options(tmp_path: Path) -> None:
    """As ONNX Runtime reads them; layout=1, which it refuses, is batch_first."""
    case = Case(dtype="float32", bidirectional=True)
    (arrays,) = layers_of(case)
    attributes = {"direction": "bidirectional", "clip": 0.4, "input_forget": 1, "hidden_size": 4}
    attributes |= onnx_activations(BOTH)
    write_graph(tmp_path / "net.onnx", [node("LSTM", "x W R B", "Y a b", **attributes)], arrays)
    net = lx.load(tmp_path / "net.onnx")
    (y,) = session(tmp_path / "net.onnx").run(None, {"x": case.x()})
    np.testing.assert_allclose(np.concatenate(np.unstack(y, axis=1), axis=-1), net(case.x())[0], rtol=0, atol=1e-6)
    assert net.options[0].activations == lx.CellOptions(activations=GENTLE).activations
    write_graph(tmp_path / "net.onnx", [node("LSTM", "x W R B", "Y", layout=1, direction="bidirectional")], arrays)
    assert lx.load(tmp_path / "net.onnx").batch_first
    write_graph(tmp_path / "net.onnx", [node("LSTM", "x W R B", "Y", direction="reverse")],
                {name: array[:1] for name, array in arrays.items()})  # fmt: skip
    assert lx.load(tmp_path / "net.onnx").reverse


def test_nodes_in_branches(tmp_path: Path) -> None:
    """Two layers each, of the same names, with weights from around and from inside."""
    from onnx import helper, numpy_helper

    layers = layers_of(ONE)
    outer: dict[str, Any] = {"flag": True, "axes": [1], "B1": layers[1]["B"]}
    outer |= {f"{name}{k}": layers[k][name] for k in range(2) for name in ("W", "R")}
    branches = {}
    for k, name in enumerate(("else_branch", "then_branch")):
        bias = numpy_helper.from_array(layers[0]["B"] + np.float32(k), "B0")
        nodes = [
            node("Identity", "W0", "V"),
            node("LSTM", "x V R0 B0", "Y0", name="rnn", hidden_size=4),
            node("Squeeze", "Y0 axes", "y"),
            node("LSTM", "y W1 R1 B1", "Y1", hidden_size=4),
        ]
        branches[name] = helper.make_graph(nodes, name, [], [helper.make_empty_tensor_value_info("Y1")], [bias])
    write_graph(tmp_path / "net.onnx", [node("If", "flag", "Y", **branches)], outer)
    for k, prefix in enumerate(("rnn", "rnn#2")):
        (cell,), (second,) = lx.load(tmp_path / "net.onnx", prefix=prefix).weights
        (expected,), (above,) = ONE.weights()
        assert np.array_equal(cell.weight_ih, expected.weight_ih)
        assert np.array_equal(cell.bias_ih, expected.bias_ih + np.float32(k))
        assert np.array_equal(second.weight_ih, above.weight_ih)


def test_bfloat16(tmp_path: Path) -> None:
    import ml_dtypes

    (arrays,) = layers_of(Case(dtype="float32"))
    halves = {name: array.astype(ml_dtypes.bfloat16) for name, array in arrays.items()}
    write_graph(tmp_path / "net.onnx", [node("LSTM", "x W R B", "Y", hidden_size=4)], halves)
    with pytest.raises(TypeError, match="`dtype` is 'bfloat16', expected a real floating dtype of numpy"):
        lx.load(tmp_path / "net.onnx")
    ((cell,),) = lx.load(tmp_path / "net.onnx", dtype="float32").weights
    assert np.array_equal(onnx_rows(cell.weight_hh, "iofg"), halves["R"][0].astype("f4"))


def test_weights_in_a_file_beside(tmp_path: Path) -> None:
    import onnx

    (arrays,) = layers_of(Case(dtype="float32"))
    write_graph(tmp_path / "plain.onnx", [node("LSTM", "x W R B", "Y", hidden_size=4)], arrays)
    model = onnx.load(tmp_path / "plain.onnx")
    onnx.save(model, tmp_path / "net.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert_same_weights(lx.load(tmp_path / "net.onnx"), Case(dtype="float32").lstm())
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(10**4))
    (tmp_path / "in").mkdir()
    model = onnx.load(tmp_path / "net.onnx", load_external_data=False)
    for tensor in model.graph.initializer:
        tensor.external_data[0].value = "../secret"
    (tmp_path / "in" / "net.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match="net.onnx"):
        lx.load(tmp_path / "in" / "net.onnx")


@pytest.mark.parametrize("constants", ["initialisers", "nodes"])
def test_the_file_beside_is_the_models_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, constants: str) -> None:
    """Not one of that name where the caller happens to be. How much may be read of it is counted by its own size."""
    import onnx

    case = Case(dtype="float32", hidden_size=40)
    (arrays,) = layers_of(case)
    nodes = [node("LSTM", "x W R B", "Y", hidden_size=40)]
    if constants == "nodes":
        values = {name: onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()}
        nodes, arrays = [*(node("Constant", "", name, value=value) for name, value in values.items()), *nodes], {}
    write_graph(tmp_path / "plain.onnx", nodes, arrays)
    onnx.save(onnx.load(tmp_path / "plain.onnx"), tmp_path / "net.onnx", save_as_external_data=True,
              location="weights.bin", size_threshold=0, convert_attribute=True)  # fmt: skip
    decoy = tmp_path / "elsewhere" / "weights.bin"
    decoy.parent.mkdir()
    decoy.write_bytes(bytes((tmp_path / "weights.bin").stat().st_size))
    monkeypatch.chdir(decoy.parent)
    monkeypatch.setattr("lstm_xp.convert._contents.EXPANSION", 2)
    monkeypatch.setattr("lstm_xp.convert._contents.ALWAYS_ALLOWED", 0)
    assert_same_weights(lx.load(tmp_path / "net.onnx"), case.lstm())


REFUSED: dict[str, tuple[Sequence[Any], dict[str, Any], str]] = {
    "unknown attribute": (
        (("LSTM", "x W R B", "Y", {"zoneout": 0.1}),),
        {},
        "the LSTM node 'Y': `zoneout` is not an at",
    ),
    "unknown activation": (
        (("LSTM", "x W R B", "Y", {"activations": ["Sigmoid", "Gelu", "Tanh"]}),),
        {},
        "the LSTM node 'Y': `activations` has 'Gelu', expected one of",
    ),
    "hidden_size": ((("LSTM", "x W R B", "Y", {"hidden_size": 3}),), {}, "`hidden_size` is 3, expected 4"),
    "directions": ((("LSTM", "x W R B", "Y", {"direction": "bidirectional"}),), {}, "`direction` is 'bidirectional'"),
    "an input for weights": ((("LSTM", "x x R B", "Y", {}),), {}, "'x' is an input of the model, expected a constant"),
    "no weights": ((("LSTM", "x", "Y", {}),), {}, "the LSTM node 'Y'"),
    "computed weights": (
        (("MatMul", "W W", "V", {}), ("LSTM", "x V R B", "Y", {})),
        {},
        "'V' is computed by MatMul, expected a constant, or one after Cast, Concat",
    ),
    "wrong shapes": ((("LSTM", "x R W B", "Y", {}),), {}, "the LSTM node 'Y'"),
    "wrong dtypes": ((("LSTM", "x W R I", "Y", {}),), {"I": np.ones((1, 32), "i4")}, "the LSTM node 'Y'"),
    "a cycle": (
        (("Identity", "U", "V", {}), ("Identity", "V", "U", {}), ("LSTM", "x V R B", "Y", {})),
        {},
        "'[UV]' is more than 100 operations from a constant, or one of itself",
    ),
    "a cycle of layers": (
        (("Squeeze", "Z axes", "z", {}), ("LSTM", "z W R B", "Z Y", {"hidden_size": 4})),
        {"axes": [1]},
        "holds no LSTM",
    ),
    "doubled and doubled": (
        (*(("Concat", f"V{k} V{k}", f"V{k + 1}", {"axis": 0}) for k in range(60)), ("LSTM", "x V60 R B", "Y", {})),
        {"V0": np.ones((1000, 16), "f4")},
        r"'V\d+' and the constants before it would take \d+ bytes, more than 32 times the file's",
    ),
    "a product that grows": (
        (("Mul", "column row", "V", {}), ("LSTM", "x V R B", "Y", {})),
        {"column": np.ones((10**4, 1), "f4"), "row": np.ones((1, 10**4), "f4")},
        "'V' is a product, expected a constant",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_refused(tmp_path: Path, kind: str) -> None:
    nodes, constants, message = REFUSED[kind]
    (arrays,) = layers_of(Case(dtype="float32"))
    made = [node(kind, inputs, outputs, **more) for kind, inputs, outputs, more in nodes]
    write_graph(tmp_path / "odd.onnx", made, arrays | constants)
    start = time.monotonic()
    with pytest.raises((ValueError, TypeError), match=f"odd.onnx.*{message}"):
        lx.load(tmp_path / "odd.onnx")
    assert time.monotonic() - start < 5


def test_functions_and_graphs_without_lstms(tmp_path: Path) -> None:
    import onnx
    from onnx import helper

    (arrays,) = layers_of(Case(dtype="float32"))
    write_graph(tmp_path / "net.onnx", [node("Relu", "x", "Y")], {})
    with pytest.raises(ValueError, match="net.onnx holds no LSTM: there is no node or layer of that kind"):
        lx.load(tmp_path / "net.onnx")
    write_graph(tmp_path / "net.onnx", [node("DynamicQuantizeLSTM", "x W R", "Y", domain="com.microsoft")], arrays)
    with pytest.raises(
        ValueError, match=r"its LSTM is quantised \(DynamicQuantizeLSTM\); the model that it was made of"
    ):
        lx.load(tmp_path / "net.onnx")
    write_graph(tmp_path / "net.onnx", [node("Mine", "x W R B", "Y", domain="mine")], arrays)
    model = onnx.load(tmp_path / "net.onnx")
    opsets = [helper.make_opsetid("", 17)]
    model.functions.append(
        helper.make_function("mine", "Mine", ["x", "W", "R", "B"], ["Y"], [node("LSTM", "x W R B", "Y")], opsets)
    )
    onnx.save(model, tmp_path / "net.onnx")
    with pytest.raises(ValueError, match="its LSTM is in a function; onnx.inliner.inline_local_functions puts it into"):
        lx.load(tmp_path / "net.onnx")


def test_metadata_that_cannot_be(tmp_path: Path) -> None:
    import onnx

    lx.save(tmp_path / "net.onnx", CASE.lstm())
    model = onnx.load(tmp_path / "net.onnx")
    for entry in model.metadata_props:
        if entry.key == "lstm_xp":
            entry.value = json.dumps({"": {"reverse": 1}})
    onnx.save(model, tmp_path / "net.onnx")
    with pytest.raises(ValueError, match="net.onnx is not a readable .onnx file: its settings cannot be read"):
        lx.load(tmp_path / "net.onnx")
