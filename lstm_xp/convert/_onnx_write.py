"""
An LSTM as an ONNX model: one LSTM node for each layer.

Lengths and initial states are inputs with a default, which a caller may leave out: all steps, and zeros. They are
broadcast over the batch, as ours are.
"""

import json
from typing import IO, Any

import numpy as np

from lstm_xp._lstm import LSTM
from lstm_xp.convert._attributes import onnx_attributes
from lstm_xp.convert._contents import encode_settings
from lstm_xp.convert._frameworks import to_onnx

# The oldest that has what is used, so that old runtimes read it.
OPSET, IR_VERSION = 14, 7
# Which biases there are stands in the metadata: B always has both.
BIASES_KEY = "lstm_xp.biases"
NODE = "lstm_l"


def write(file: IO[bytes], net: LSTM, prefix: str) -> None:
    """Write an LSTM with NumPy's weights."""
    import onnx

    model = make_model(net, prefix)
    onnx.checker.check_model(model, full_check=True)
    file.write(model.SerializeToString())


def make_model(net: LSTM, prefix: str) -> Any:
    """
    Return an LSTM as an ONNX model.

    Parameters
    ----------
    net : LSTM
        The LSTM, with NumPy's weights.
    prefix : str
        What the nodes' names begin with.

    Returns
    -------
    onnx.ModelProto
        The model.

    Raises
    ------
    ValueError
        ONNX cannot express the LSTM.
    """
    from onnx import TensorProto, helper

    tensors, attributes = to_onnx(net), onnx_attributes(net)
    layers, directions, n = net.num_layers, 1 + net.bidirectional, net.hidden_size
    graph = _Graph()
    x = graph.node("Transpose", ["x"], ["x_by_time"], perm=[1, 0, 2]) if net.batch_first else "x"
    x = _read_rows(graph, x)
    _read_lengths(graph)
    _read_states(graph, layers, directions, n)

    features = graph.constant("features", [0, 0, directions * n])
    for k, arrays in enumerate([tensors] if layers == 1 else tensors):
        names = {key: graph.constant(f"{prefix}{key}_l{k}", array, array.dtype) for key, array in arrays.items()}
        inputs = [x, names["W"], names["R"], names.get("B", ""), "sequence_lens", f"h_0_l{k}", f"c_0_l{k}"]
        inputs += [names["P"]] if "P" in names else []
        graph.node("LSTM", inputs, [f"Y_l{k}", f"Y_h_l{k}", f"Y_c_l{k}"], name=f"{prefix}{NODE}{k}", **attributes)
        # (T, D, N, H) to (T, N, D*H)
        graph.node("Transpose", [f"Y_l{k}"], [f"Y_l{k}_by_batch"], perm=[0, 2, 1, 3])
        x = graph.node("Reshape", [f"Y_l{k}_by_batch", features], [f"output_l{k}"])
        for name in ("h", "c"):
            # An empty sequence ends where it began. ONNX leaves that open, and ONNX Runtime returns zeros.
            graph.node("Where", ["is_empty", f"{name}_0_l{k}", f"Y_{name}_l{k}"], [f"{name}_n_l{k}"])

    if net.masked_output == "hold" and not net.reverse:
        x = _hold(graph, x, n, bidirectional=net.bidirectional)
    x = _cut_rows(graph, x, "output_by_time" if net.batch_first else "output")
    if net.batch_first:
        graph.node("Transpose", [x], ["output"], perm=[1, 0, 2])
    for name in ("h", "c"):
        rows = graph.node("Concat", [f"{name}_n_l{k}" for k in range(layers)], [f"{name}_n_rows"], axis=0)
        _cut_rows(graph, rows, f"{name}_n")

    dtype = helper.np_dtype_to_tensor_dtype(net.dtype)
    graph.constant("lengths", [np.iinfo("int32").max], "int32")
    for name in ("h_0", "c_0"):
        graph.constant(name, np.zeros((layers * directions, 1, n)), net.dtype)

    def info(name: str, *shape: int | str, dtype: int = dtype) -> Any:
        return helper.make_tensor_value_info(name, dtype, shape)

    by = ("N", "T") if net.batch_first else ("T", "N")
    proto = helper.make_graph(
        graph.nodes,
        "lstm",
        [
            info("x", *by, net.input_size),
            info("lengths", "N of lengths", dtype=TensorProto.INT32),
            *(info(name, layers * directions, f"N of {name}", n) for name in ("h_0", "c_0")),
        ],
        [info("output", *by, directions * n), *(info(name, layers * directions, "N", n) for name in ("h_n", "c_n"))],
        graph.initialisers,
    )
    model = helper.make_model(
        proto, producer_name="lstm_xp", opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )
    cell = net.weights[0][0]
    biases = [field for field in ("bias_ih", "bias_hh") if getattr(cell, field) is not None]
    helper.set_model_props(model, encode_settings(net, prefix) | {BIASES_KEY: json.dumps(biases)})
    return model


class _Graph:
    """Nodes and initialisers in the making; each method returns the name of what it made."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.initialisers: list[Any] = []

    def constant(self, name: str, value: Any, dtype: Any = "int64") -> str:
        """Add an array."""
        from onnx import numpy_helper

        self.initialisers.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def node(self, kind: str, inputs: list[str], outputs: list[str], *, name: str = "", **attributes: Any) -> str:
        """Add a node."""
        from onnx import helper

        self.nodes.append(helper.make_node(kind, inputs, outputs, name=name or outputs[0], **attributes))
        return outputs[0]


def _read_rows(graph: _Graph, x: str) -> str:
    """
    Make `T` and `N`, and return x with at least one row.

    An LSTM node without a row ends the process in ONNX Runtime (1.32). So an empty batch gets a row, of length 0,
    which is cut off at the end; to others none is added.
    """
    graph.node("Shape", [x], ["shape"])
    graph.node("Slice", ["shape", graph.constant("first", [0]), graph.constant("second", [1])], ["T"])
    graph.node("Slice", ["shape", "second", graph.constant("third", [2])], ["N"])
    graph.node("Max", ["N", "second"], ["rows_there"])
    graph.node("Sub", ["rows_there", "N"], ["rows_added"])
    graph.node("Concat", [graph.constant("none_ahead", [0] * 4), "rows_added", "first"], ["padding"], axis=0)
    return graph.node("Pad", [x, "padding"], ["x_rows"])


def _cut_rows(graph: _Graph, array: str, name: str) -> str:
    """Return an array without the row that was added."""
    return graph.node("Slice", [array, "first", "N", "second"], [name])


def _read_lengths(graph: _Graph) -> None:
    """Make `sequence_lens` of the lengths, and `is_empty` of those that are 0."""
    from onnx import TensorProto

    # Outside 0..T they are clipped, as where ours cannot be seen.
    graph.node("Cast", ["T"], ["T_int32"], to=TensorProto.INT32)
    graph.node("Min", ["lengths", "T_int32"], ["lengths_to_T"])
    graph.node("Max", ["lengths_to_T", graph.constant("zero_int32", 0, "int32")], ["lengths_from_0_to_T"])
    graph.node("Expand", ["lengths_from_0_to_T", "N"], ["lengths_of_rows"])
    graph.node("Concat", ["first", "rows_added"], ["lengths_padding"], axis=0)
    graph.node("Pad", ["lengths_of_rows", "lengths_padding"], ["sequence_lens"])
    graph.node("Equal", ["sequence_lens", "zero_int32"], ["is_empty_row"])
    graph.node("Unsqueeze", ["is_empty_row", "second"], ["is_empty"])


def _read_states(graph: _Graph, layers: int, directions: int, n: int) -> None:
    """Make `h_0_l0`, `c_0_l0` and so on of the initial states."""
    graph.constant("rows", [layers * directions])
    graph.node("Concat", ["rows", "N", graph.constant("hidden_size", [n])], ["state_shape"], axis=0)
    for name in ("h_0", "c_0"):
        graph.node("Expand", [name, "state_shape"], [f"{name}_of_rows"])
        graph.node("Pad", [f"{name}_of_rows", "padding"], [f"{name}_rows"])
        graph.node("Split", [f"{name}_rows"], [f"{name}_l{k}" for k in range(layers)], axis=0)


def _hold(graph: _Graph, output: str, n: int, *, bidirectional: bool) -> str:
    """Put the last valid output where ONNX has zeros. What runs backward has nothing to hold there."""
    from onnx import TensorProto

    ahead = output
    if bidirectional:
        ahead = graph.node("Split", [output, graph.constant("halves", [n, n])], ["ahead", "back"], axis=2)
    # Of every step and row, min(t, length - 1). An empty row is zeros everywhere.
    graph.node("Squeeze", ["T"], ["T_scalar"])
    graph.node("Range", [graph.constant("zero", 0), "T_scalar", graph.constant("one", 1)], ["steps"])
    graph.node("Unsqueeze", ["steps", "second"], ["steps_by_row"])
    graph.node("Cast", ["sequence_lens"], ["lengths_int64"], to=TensorProto.INT64)
    graph.node("Sub", ["lengths_int64", "one"], ["last_valid"])
    graph.node("Min", ["steps_by_row", "last_valid"], ["held_or_less"])
    graph.node("Max", ["held_or_less", "zero"], ["held_steps"])
    graph.node("Unsqueeze", ["held_steps", "third"], ["held_rows"])
    graph.node("Concat", ["T", "rows_there", "hidden_size"], ["held_shape"], axis=0)
    graph.node("Expand", ["held_rows", "held_shape"], ["held"])
    held = graph.node("GatherElements", [ahead, "held"], ["output_held"], axis=0)
    return graph.node("Concat", [held, "back"], ["output_both"], axis=2) if bidirectional else held
