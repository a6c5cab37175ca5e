"""
The second oracle: LSTM nodes in ONNX Runtime, for peepholes, coupled gates, clipping and activations.

ONNX Runtime's CPU kernel computes in float32 only ("LSTM operator does not support double yet"). It was written by
others from the same text (https://onnx.ai/onnx/operators/onnx__LSTM.html). `onnx.reference` is no oracle: it ignores
sequence_lens, clip, input_forget and activations.
"""

from typing import Any

import numpy as np

import lstm_xp as lx

Answer = tuple[np.ndarray, np.ndarray, np.ndarray]

# What ONNX calls them, and the parameters they take, with ONNX's defaults: those of the operators of the same names,
# for Affine and ScaledTanh, which have none today, those that change nothing. Not read off lstm_xp on purpose.
ONNX_ACTIVATIONS = {
    "affine": ("Affine", (1.0, 0.0)),
    "elu": ("Elu", (1.0,)),
    "hard_sigmoid": ("HardSigmoid", (0.2, 0.5)),
    "leaky_relu": ("LeakyRelu", (0.01,)),
    "relu": ("Relu", ()),
    "scaled_tanh": ("ScaledTanh", (1.0, 1.0)),
    "sigmoid": ("Sigmoid", ()),
    "softplus": ("Softplus", ()),
    "softsign": ("Softsign", ()),
    "tanh": ("Tanh", ()),
    "thresholded_relu": ("ThresholdedRelu", (1.0,)),
}


def onnx_activations(options: tuple[lx.CellOptions, ...]) -> dict[str, list[Any]]:
    """
    Return the attributes that stand for the activations of all directions.

    The lists of alphas and betas are two queues: each function takes from a queue what it has a use for, and nothing
    otherwise. All parameters are written out, so that no default of the runtime matters.
    """
    names, alphas, betas = [], [], []
    for spec in (spec for each in options for spec in each.activations):
        given = (spec,) if isinstance(spec, str) else spec
        name, defaults = ONNX_ACTIVATIONS[given[0]]
        parameters = (*given[1:], *defaults[len(given) - 1 :])
        names.append(name)
        alphas += parameters[:1]
        betas += parameters[1:]
    lists = {"activations": names, "activation_alpha": alphas, "activation_beta": betas}
    return {name: values for name, values in lists.items() if values}


def onnx_rows(array: np.ndarray, order: str) -> np.ndarray:
    """Return a cell's rows, which are in the order i, f, g, o or, of peepholes, i, f, o, in another order."""
    blocks = dict(zip("ifgo" if len(order) == 4 else "ifo", np.split(array, len(order)), strict=True))
    return np.concatenate([blocks[gate] for gate in order])


def run_node(inputs: dict[str, np.ndarray | None], attributes: dict[str, Any]) -> Answer:
    """Run one LSTM node, without the inputs that are None."""
    import onnx
    import onnxruntime

    given = {name: array for name, array in inputs.items() if array is not None}
    node = onnx.helper.make_node(
        "LSTM", [name if name in given else "" for name in inputs], ["Y", "Y_h", "Y_c"], **attributes
    )
    infos = [
        onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in given.items()
    ]
    outputs = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None] * rank)
        for name, rank in {"Y": 4, "Y_h": 3, "Y_c": 3}.items()
    ]
    model = onnx.helper.make_model(
        onnx.helper.make_graph([node], "lstm", infos, outputs),
        opset_imports=[onnx.helper.make_opsetid("", 22)],
        ir_version=10,
    )
    onnx.checker.check_model(model)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])
    y, y_h, y_c = session.run(None, given)
    return np.concatenate(np.unstack(y, axis=1), axis=-1), y_h, y_c


def onnx_answer(
    x: np.ndarray,
    cells: tuple[lx.CellWeights, ...],
    state: tuple[np.ndarray, np.ndarray] | None,
    options: tuple[lx.CellOptions, ...],
    *,
    reverse: bool = False,
    lengths: np.ndarray | None = None,
) -> Answer:
    """Return what one LSTM node gives, in our shapes: (T, N, D*H), (D, N, H), (D, N, H)."""
    (clip,) = {each.clip_gates for each in options}
    (coupled,) = {each.coupled for each in options}
    attributes = {
        "hidden_size": cells[0].weight_hh.shape[1],
        "direction": "bidirectional" if len(cells) == 2 else "reverse" if reverse else "forward",
        "input_forget": int(coupled),
        **onnx_activations(options),
        **({} if clip is None else {"clip": clip}),
    }

    def biases(cell: lx.CellWeights) -> np.ndarray:
        both = (cell.bias_ih, cell.bias_hh)
        zeros = np.zeros_like(cell.weight_hh[:, 0])
        return np.concatenate([onnx_rows(zeros if bias is None else bias, "iofg") for bias in both])

    first = cells[0]
    no_bias = first.bias_ih is None and first.bias_hh is None
    h_0, c_0 = (None, None) if state is None else state
    inputs = {
        "X": x,
        "W": np.stack([onnx_rows(cell.weight_ih, "iofg") for cell in cells]),
        "R": np.stack([onnx_rows(cell.weight_hh, "iofg") for cell in cells]),
        "B": None if no_bias else np.stack([biases(cell) for cell in cells]),
        "sequence_lens": None if lengths is None else np.asarray(lengths, "int32"),
        "initial_h": h_0,
        "initial_c": c_0,
        "P": None if first.peephole is None else np.stack([onnx_rows(c.peephole, "iof").ravel() for c in cells]),
    }
    return run_node(inputs, attributes)


def run_layers(
    x: np.ndarray,
    layers: tuple[tuple[lx.CellWeights, ...], ...],
    state: tuple[np.ndarray, np.ndarray],
    options: tuple[lx.CellOptions, ...],
    *,
    reverse: bool = False,
    lengths: np.ndarray | None = None,
    nodes: int = 1,
) -> Answer:
    """Return what layers of nodes give, in the shapes of `lstm_xp.lstm`: one node each, or one for each direction."""
    output, h_n, c_n = x, [], []
    directions = len(layers[0])
    for k, cells in enumerate(layers):
        answers = []
        for n in range(nodes):
            part = slice(None) if nodes == 1 else slice(n, n + 1)
            rows = slice(k * directions, (k + 1) * directions)
            answers.append(
                onnx_answer(
                    output,
                    cells[part],
                    tuple(array[rows][part] for array in state),
                    options[part],
                    reverse=reverse if nodes == 1 else n == 1,
                    lengths=lengths,
                )
            )
        output = np.concatenate([answer[0] for answer in answers], axis=-1)
        h_n += [answer[1] for answer in answers]
        c_n += [answer[2] for answer in answers]
    return output, np.concatenate(h_n), np.concatenate(c_n)
