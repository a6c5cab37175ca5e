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
    from onnx import TensorProto, helper, numpy_helper

    if net.masked_output != "zero":
        msg = f"`net` has masked_output={net.masked_output!r}, which ONNX cannot express"
        raise ValueError(msg)
    tensors, attributes = to_onnx(net), onnx_attributes(net)
    directions, layers, n = 1 + net.bidirectional, net.num_layers, net.hidden_size
    nodes, initialisers = [], []

    def constant(name: str, value: Any, dtype: Any = "int64") -> str:
        initialisers.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def node(kind: str, inputs: list[str], outputs: list[str], **given: Any) -> str:
        nodes.append(helper.make_node(kind, inputs, outputs, name=given.pop("name", outputs[0]), **given))
        return outputs[0]

    x = node("Transpose", ["x"], ["x_by_time"], perm=[1, 0, 2]) if net.batch_first else "x"
    node("Shape", [x], ["shape"])
    node("Gather", ["shape", constant("batch_axis", [1])], ["N"])
    node("Gather", ["shape", constant("time_axis", [0])], ["T"])
    # Outside 0..T they are clipped, as where ours cannot be seen.
    node("Cast", ["T"], ["most"], to=TensorProto.INT32)
    node("Min", ["lengths", "most"], ["at_most"])
    node("Max", ["at_most", constant("least", 0, "int32")], ["within"])
    node("Expand", ["within", "N"], ["sequence_lens"])
    node("Equal", ["sequence_lens", constant("zero", 0, "int32")], ["is_empty"])
    node("Unsqueeze", ["is_empty", constant("last_axis", [1])], ["is_empty_row"])
    node("Concat", [constant("rows", [layers * directions]), "N", constant("hidden_size", [n])], ["state_shape"], axis=0)
    for name in ("h", "c"):
        node("Expand", [f"{name}_0", "state_shape"], [f"{name}_initial"])
        parts = [f"{name}_0_l{k}" for k in range(layers)]
        node("Split", [f"{name}_initial"], parts, axis=0, name=f"{name}_by_layer")

    for k, arrays in enumerate([tensors] if layers == 1 else tensors):
        names = {key: constant(f"{prefix}{key}_l{k}", array, array.dtype) for key, array in arrays.items()}
        inputs = [x, names["W"], names["R"], names.get("B", ""), "sequence_lens", f"h_0_l{k}", f"c_0_l{k}"]
        outputs = [f"Y_l{k}", f"Y_h_l{k}", f"Y_c_l{k}"]
        inputs += [names["P"]] if "P" in names else []
        node("LSTM", inputs, outputs, name=f"{prefix}{NODE}{k}", **attributes)
        # (T, D, N, H) to (T, N, D*H), also where N is 0 and -1 could be anything.
        node("Transpose", [f"Y_l{k}"], [f"Y_l{k}_by_batch"], perm=[0, 2, 1, 3])
        last = k == layers - 1 and not net.batch_first
        features = constant("features", [0, 0, directions * n]) if k == 0 else "features"
        x = node("Reshape", [f"Y_l{k}_by_batch", features], ["output" if last else f"output_l{k}"])
        for name in ("h", "c"):
            # An empty sequence ends where it began. ONNX leaves that open, and ONNX Runtime returns zeros.
            node("Where", ["is_empty_row", f"{name}_0_l{k}", f"Y_{name}_l{k}"], [f"{name}_n_l{k}"])
    if net.batch_first:
        node("Transpose", [x], ["output"], perm=[1, 0, 2])
    for name in ("h", "c"):
        node("Concat", [f"{name}_n_l{k}" for k in range(layers)], [f"{name}_n"], axis=0)

    dtype = helper.np_dtype_to_tensor_dtype(net.dtype)
    constant("lengths", [np.iinfo("int32").max], "int32")
    for name in ("h_0", "c_0"):
        constant(name, np.zeros((layers * directions, 1, n)), net.dtype)

    def info(name: str, shape: list[int | str], dtype: int = dtype) -> Any:
        return helper.make_tensor_value_info(name, dtype, shape)

    by = ["N", "T"] if net.batch_first else ["T", "N"]
    states = [layers * directions, "N", n]
    graph = helper.make_graph(
        nodes,
        "lstm",
        [
            info("x", [*by, net.input_size]),
            info("lengths", ["N of lengths"], TensorProto.INT32),
            *(info(name, [states[0], f"N of {name}", n]) for name in ("h_0", "c_0")),
        ],
        [info("output", [*by, directions * n]), *(info(name, states) for name in ("h_n", "c_n"))],
        initialisers,
    )
    model = helper.make_model(
        graph, producer_name="lstm_xp", opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )
    cell = net.weights[0][0]
    biases = [field for field in ("bias_ih", "bias_hh") if getattr(cell, field) is not None]
    helper.set_model_props(model, encode_settings(net, prefix) | {BIASES_KEY: json.dumps(biases)})
    return model
