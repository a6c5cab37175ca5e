"""
Other programs' weight layouts, as data: one row each.

A row says how the arrays of a cell are called and how they lie; `_codec` reads and writes them all. What they are
brought to is `CellWeights`: torch's names, shapes and gate order i, f, g, o. To add a framework is to add a row.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

GATES = "ifgo"
PEEPHOLES = "ifo"

Names: TypeAlias = str | tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """
    How a framework lays out the weights of an LSTM.

    Parameters
    ----------
    framework : str
        What messages call it.
    arrays : mapping of names to fields
        For each array its name, and the fields of `CellWeights` that it holds, separated by spaces: matrices side by
        side on the same gates, biases one behind the other. A tuple of names is one array for each gate, in the order
        of `gates` or `peepholes`. A dot in a name is a level of nesting; in names, ``{layer}``, ``{direction}`` and
        ``{cell}``, which counts both, stand for where a cell is. A lone bias is ``bias_ih`` and holds the sum.
    gates : str, optional
        The order of the gates; g is the candidate.
    peepholes : str, optional
        The order of the peepholes.
    transposed : bool, optional
        Whether matrices are multiplied from the right, so that gates are columns.
    interleaved : bool, optional
        Whether the four gates of a unit are neighbours, and not the units of a gate.
    bias : {"vector", "row", "column"}, optional
        The shape of a bias.
    bias_optional : bool, optional
        Whether there may be none.
    forget_bias : float, optional
        What the framework adds to the forget gate as it runs.
    peephole_output : {"new", "old"}, optional
        Which cell state the output gate's peephole sees, as in `CellOptions`.
    stacked : bool, optional
        Whether the directions are the first axis of each array.
    directions : tuple of two str, optional
        What ``{direction}`` stands for.
    prefix : str, optional
        What comes before the names. In reading, any other is taken too.
    vector : tuple of tuple of str, optional
        For a layout in which all arrays lie in one vector: in groups, one behind the other, the fields that each layer
        and direction has in a group.
    """

    framework: str
    arrays: Mapping[Names, str]
    gates: str = GATES
    peepholes: str = PEEPHOLES
    transposed: bool = False
    interleaved: bool = False
    bias: Literal["vector", "row", "column"] = "vector"
    bias_optional: bool = False
    forget_bias: float = 0.0
    peephole_output: Literal["new", "old"] = "new"
    stacked: bool = False
    directions: tuple[str, str] = ("", "")
    prefix: str = ""
    vector: tuple[tuple[str, ...], ...] = ()

    @property
    def parts(self) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
        """The names of the arrays that belong together, and the fields that they hold."""
        return [((n,) if isinstance(n, str) else n, tuple(fields.split())) for n, fields in self.arrays.items()]

    @property
    def fields(self) -> set[str]:
        """The fields that the layout can hold."""
        return {field for _, fields in self.parts for field in fields}

    def part_of(self, field: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the one of `parts` that holds a field."""
        return next(part for part in self.parts if field in part[1])

    @property
    def names(self) -> list[str]:
        """The names of all arrays; the first holds recurrent weights."""
        parts = sorted(self.parts, key=lambda part: "weight_hh" not in part[1])
        return [name for names, _ in parts for name in names]

    @property
    def layered(self) -> bool:
        """Whether the names tell the layers."""
        return "{" in self.names[0]


TORCH = Layout(
    framework="PyTorch",
    arrays={
        f"{field}_l{{layer}}{{direction}}": field
        for field in ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
    },
    directions=("", "_reverse"),
    bias_optional=True,
)
TORCH_CELL = Layout(
    framework="torch.nn.LSTMCell",
    arrays={field: field for field in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")},
    bias_optional=True,
)
KERAS = Layout(
    framework="Keras",
    arrays={"kernel": "weight_ih", "recurrent_kernel": "weight_hh", "bias": "bias_ih"},
    transposed=True,
    bias_optional=True,
)
FLAX = Layout(
    framework="Flax",
    arrays={
        tuple(f"i{gate}.kernel" for gate in GATES): "weight_ih",
        tuple(f"h{gate}.kernel" for gate in GATES): "weight_hh",
        tuple(f"h{gate}.bias" for gate in GATES): "bias_ih",
    },
    transposed=True,
)
NNX = Layout(
    framework="Flax NNX",
    arrays={
        ("ii.kernel", "if_.kernel", "ig.kernel", "io.kernel"): "weight_ih",  # `if` is a keyword
        tuple(f"h{gate}.kernel" for gate in GATES): "weight_hh",
        tuple(f"h{gate}.bias" for gate in GATES): "bias_ih",
    },
    transposed=True,
)
NNX_OPTIMIZED = Layout(
    framework="Flax NNX",
    arrays={"dense_i.kernel": "weight_ih", "dense_h.kernel": "weight_hh", "dense_h.bias": "bias_ih"},
    transposed=True,
)
HAIKU = Layout(
    framework="Haiku",
    arrays={"w": "weight_ih weight_hh", "b": "bias_ih"},
    gates="igfo",
    transposed=True,
    forget_bias=1.0,
    prefix="lstm/linear.",
)
EQUINOX = Layout(
    framework="Equinox",
    arrays={"weight_ih": "weight_ih", "weight_hh": "weight_hh", "bias": "bias_ih"},
    bias_optional=True,
)
MLX = Layout(
    framework="MLX",
    arrays={"Wx": "weight_ih", "Wh": "weight_hh", "bias": "bias_ih"},
    bias_optional=True,
)
ONNX = Layout(
    framework="ONNX",
    arrays={"W": "weight_ih", "R": "weight_hh", "B": "bias_ih bias_hh", "P": "peephole"},
    gates="iofg",
    peepholes="iof",
    bias_optional=True,
    stacked=True,
)
WEBNN = Layout(
    framework="WebNN",
    arrays={
        "weight": "weight_ih",
        "recurrentWeight": "weight_hh",
        "bias": "bias_ih",
        "recurrentBias": "bias_hh",
        "peepholeWeight": "peephole",
    },
    gates="iofg",
    peepholes="iof",
    bias_optional=True,
    peephole_output="old",
    stacked=True,
)
WEBNN_IFGO = replace(WEBNN, gates="ifgo")
OPENVINO = Layout(
    framework="OpenVINO",
    arrays={"W": "weight_ih", "R": "weight_hh", "B": "bias_ih"},
    gates="figo",
    stacked=True,
)
TF1 = Layout(
    framework="TensorFlow 1",
    arrays={
        "kernel": "weight_ih weight_hh",
        "bias": "bias_ih",
        ("w_i_diag", "w_f_diag", "w_o_diag"): "peephole",
        "projection/kernel": "weight_hr",
    },
    gates="igfo",
    transposed=True,
    forget_bias=1.0,
)
SONNET = Layout(
    framework="Sonnet",
    arrays={"w_i": "weight_ih", "w_h": "weight_hh", "b": "bias_ih", "projection": "weight_hr"},
    transposed=True,
)
MXNET = Layout(
    framework="MXNet",
    arrays={
        "{direction}{layer}_i2h_weight": "weight_ih",
        "{direction}{layer}_h2h_weight": "weight_hh",
        "{direction}{layer}_i2h_bias": "bias_ih",
        "{direction}{layer}_h2h_bias": "bias_hh",
        "{direction}{layer}_h2r_weight": "weight_hr",
    },
    directions=("l", "r"),
)
CUDNN = replace(
    TORCH,
    framework="cuDNN",
    arrays={name: field for name, field in TORCH.arrays.items() if field != "weight_hr"},
    vector=(("weight_ih", "weight_hh"), ("bias_ih", "bias_hh")),
)
THINC = replace(
    CUDNN,
    framework="Thinc",
    gates="fiog",
    bias_optional=False,
    vector=(("weight_ih", "bias_ih", "weight_hh", "bias_hh"),),
)
CHAINER = Layout(
    framework="Chainer",
    arrays={"upward/W": "weight_ih", "upward/b": "bias_ih", "lateral/W": "weight_hh"},
    gates="gifo",
    interleaved=True,
)
# The order of the code, `_stack_weight([w[2], w[0], w[1], w[3]])` into (a, i, f, o); its docstring says i, f, o, a.
# https://github.com/chainer/chainer/blob/v7.8.1/chainer/functions/rnn/n_step_lstm.py
CHAINER_NSTEP = Layout(
    framework="Chainer",
    arrays={
        tuple(f"{{cell}}/w{k}" for k in range(4)): "weight_ih",
        tuple(f"{{cell}}/w{k}" for k in range(4, 8)): "weight_hh",
        tuple(f"{{cell}}/b{k}" for k in range(4)): "bias_ih",
        tuple(f"{{cell}}/b{k}" for k in range(4, 8)): "bias_hh",
    },
)
NUMPY_ML = Layout(
    framework="numpy-ml",
    arrays={("Wf", "Wu", "Wc", "Wo"): "weight_hh weight_ih", ("bf", "bu", "bc", "bo"): "bias_ih"},
    gates="figo",
    transposed=True,
    bias="row",
)
_MADMOM_GATES = ("input_gate", "forget_gate", "cell", "output_gate")
MADMOM = Layout(
    framework="madmom",
    arrays={
        tuple(f"{gate}.weights" for gate in _MADMOM_GATES): "weight_ih",
        tuple(f"{gate}.recurrent_weights" for gate in _MADMOM_GATES): "weight_hh",
        tuple(f"{gate}.bias" for gate in _MADMOM_GATES): "bias_ih",
        tuple(f"{gate}.peephole_weights" for gate in _MADMOM_GATES if gate != "cell"): "peephole",
    },
    transposed=True,
)
CONCATENATED = Layout(
    framework="the concatenated layout",
    arrays={("Wf", "Wi", "WC", "Wo"): "weight_hh weight_ih", ("bf", "bi", "bC", "bo"): "bias_ih"},
    gates="figo",
    bias="column",
)
