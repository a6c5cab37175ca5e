"""An LSTM node in the middle of a model: what goes in there and comes out, as ONNX Runtime has it."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


class Node(NamedTuple):
    """What an LSTM node was given, and what it returned, in our shapes; and the model's own outputs."""

    x: np.ndarray
    state: tuple[np.ndarray, np.ndarray]
    output: np.ndarray
    states: tuple[np.ndarray, np.ndarray]
    model: list[np.ndarray]


def run(path: Path, inputs: dict[str, Any]) -> Node:
    """Run a model of one LSTM node with ONNX Runtime, and look at the node."""
    import onnx
    import onnxruntime

    model = onnx.load(path)
    (node,) = (node for node in model.graph.node if node.op_type == "LSTM")
    own = [output.name for output in model.graph.output]
    inner = [node.input[0], node.input[5], node.input[6], *node.output]
    given = {each.name for each in model.graph.input}
    for name in inner:
        if name not in own and name not in given:
            model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    values = inputs | dict(zip(names, session.run(names, inputs), strict=True))
    x, h_0, c_0, y, h_n, c_n = (values[name] for name in inner)
    output = y.transpose(0, 2, 1, 3).reshape(*x.shape[:2], -1)
    return Node(x, (h_0, c_0), output, (h_n, c_n), [values[name] for name in own])
