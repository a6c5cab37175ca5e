"""
The LSTM nodes of an ONNX model.

Their weights are followed back through the operations that exporters leave before constants. Nodes that stand on top of
one another, with nothing in between but a change of layout, are the layers of one LSTM; every other one is an LSTM by
itself, in branches and loops too.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from lstm_xp._lstm import LSTM
from lstm_xp.convert._attributes import onnx_attributes
from lstm_xp.convert._contents import Held, Model, check_expansion, decode_settings, errors_about
from lstm_xp.convert._frameworks import from_onnx
from lstm_xp.convert._onnx_write import BIASES_KEY, NODE

_DOMAINS = ("", "ai.onnx")
# None of them makes more numbers than it is given, but Mul, which is for the numbers in a shape.
_FOLDED = {
    *("Cast", "Concat", "Constant", "Identity", "Mul", "Reshape", "Shape", "Slice", "Split", "Squeeze"),
    *("Transpose", "Unsqueeze"),
}
_BETWEEN_LAYERS = {"Dropout", "Identity", "Reshape", "Squeeze", "Transpose"}
_DEEPEST = 100
# How often the output of a node is used, by its graph and its name.
_Uses: TypeAlias = Counter[tuple[int, str]]


class _Room:
    """How much may be made of a file, and of those beside it that hold its weights: all constants count."""

    def __init__(self, path: Path) -> None:
        self.folder, self._sizes, self._made = path.parent, {"": path.stat().st_size}, 0

    def take(self, nbytes: int, name: str) -> None:
        """Count an array, before or as soon as it is made."""
        self._made += nbytes
        check_expansion(self._made, sum(self._sizes.values()), f"{name!r} and the constants before it")

    def load(self, tensor: Any) -> None:
        """Read the data of a tensor, if they are in a file beside."""
        from onnx.external_data_helper import ExternalDataInfo, load_external_data_for_tensor, uses_external_data

        if uses_external_data(tensor):
            location = ExternalDataInfo(tensor).location
            load_external_data_for_tensor(tensor, str(self.folder))  # which refuses what is not in the folder
            tensor.data_location = tensor.DEFAULT  # so that nobody looks for the file in the current folder
            self._sizes[location] = (self.folder / location).stat().st_size
            self.take(len(tensor.raw_data), tensor.name)


@dataclass
class _Scope:
    """A graph, or the graph of a branch or loop, which sees the names of those around it."""

    graph: Any
    opsets: Any
    room: _Room
    outer: "_Scope | None" = None
    initialisers: dict[str, Any] = field(default_factory=dict)
    producers: dict[str, Any] = field(default_factory=dict)
    folded: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.initialisers = {tensor.name: tensor for tensor in self.graph.initializer}
        self.producers = {name: node for node in self.graph.node for name in node.output if name}

    def constant(self, name: str, depth: int = 0) -> np.ndarray:
        """Return the constant of a name."""
        from onnx import numpy_helper

        if name in self.folded:
            return self.folded[name]
        if depth > _DEEPEST:
            msg = f"{name!r} is more than {_DEEPEST} operations from a constant, or one of itself"
            raise ValueError(msg)
        if name in self.initialisers:
            tensor = self.initialisers[name]
            self.room.load(tensor)
            array: np.ndarray = numpy_helper.to_array(tensor)
        elif name in self.producers:
            array = self._fold(self.producers[name], name, depth)
        elif self.outer is not None:
            return self.outer.constant(name, depth)
        else:
            msg = f"{name!r} is an input of the model, expected a constant"
            raise ValueError(msg)
        self.folded[name] = array
        return array

    def _fold(self, node: Any, name: str, depth: int) -> np.ndarray:
        """Return an output of a node of constants."""
        from onnx import helper
        from onnx.reference import ReferenceEvaluator

        if node.op_type not in _FOLDED or node.domain not in _DOMAINS:
            known = ", ".join(sorted(_FOLDED))
            msg = f"{name!r} is computed by {node.op_type}, expected a constant, or one after {known}"
            raise ValueError(msg)
        for attribute in node.attribute:
            self.room.load(attribute.t)
        given = {each: self.constant(each, depth + 1) for each in node.input if each}
        if node.op_type == "Mul" and any(array.ndim > 1 or array.size > 8 for array in given.values()):
            msg = f"{name!r} is a product, expected a constant"
            raise ValueError(msg)
        if node.op_type == "Concat":  # of one array many times, which is given to another Concat many times
            self.room.take(sum(given[each].nbytes for each in node.input if each), name)
        infos = [helper.make_empty_tensor_value_info(each) for each in given]
        graph = helper.make_graph([node], "folded", infos, [helper.make_empty_tensor_value_info(name)])
        # The library knows what every operation meant in every version.
        model = helper.make_model(graph, opset_imports=self.opsets)
        (array,) = map(np.asarray, ReferenceEvaluator(model).run(None, given))
        if node.op_type != "Concat":
            self.room.take(array.nbytes, name)
        return array

    def owner(self, name: str) -> "_Scope | None":
        """Return the scope in which a node makes what a name stands for."""
        if name in self.producers or self.outer is None:
            return self if name in self.producers else None
        return self.outer.owner(name)


@dataclass(frozen=True)
class _Node:
    """An LSTM node."""

    scope: _Scope
    proto: Any

    @property
    def name(self) -> str:
        return self.proto.name or next(filter(None, self.proto.output), "LSTM")

    @property
    def attributes(self) -> dict[str, Any]:
        return _attributes(self.proto)

    def input(self, k: int) -> str:
        """Return the name of an input, empty if it is absent."""
        return self.proto.input[k] if k < len(self.proto.input) else ""

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the weights, under ONNX's names."""
        names = {key: self.input(k) for key, k in (("W", 1), ("R", 2), ("B", 3), ("P", 7))}
        return {key: self.scope.constant(name) for key, name in names.items() if name or key in "WR"}


def read(path: Path) -> Model:
    """Read the LSTM nodes of a file."""
    import onnx

    model = onnx.load_model(path, load_external_data=False)
    scope = _Scope(model.graph, model.opset_import, _Room(path))
    nodes, uses = [], _Uses()
    for each in _scopes(scope):
        uses.update((id(each), output.name) for output in each.graph.output)
        for node in each.graph.node:
            if node.op_type != "Shape":  # which looks at no number
                uses.update((id(each.owner(name)), name) for name in node.input)
            if node.op_type == "LSTM" and node.domain in _DOMAINS:
                nodes.append(_Node(each, node))
    if not nodes and any(node.op_type == "LSTM" for function in model.functions for node in function.node):
        msg = "its LSTM is in a function; onnx.inliner.inline_local_functions puts it into the graph"
        raise ValueError(msg)
    if not nodes and any(node.op_type == "DynamicQuantizeLSTM" for each in _scopes(scope) for node in each.graph.node):
        msg = "its LSTM is quantised (DynamicQuantizeLSTM); the model that it was made of has an LSTM node"
        raise ValueError(msg)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    stored, readers = decode_settings(metadata), dict[str, Callable[[], Held]]()
    for chain in _chains(nodes, uses):
        name = chain[0].name
        prefix = name.removesuffix(f"{NODE}0")
        if prefix != name and prefix in stored:
            biases = tuple(json.loads(metadata[BIASES_KEY]))
            reader = partial(_read_ours, chain, stored[prefix], biases)
        else:
            prefix, reader = _unused(name, readers), partial(_read_chain, chain)
        readers[prefix] = reader
    return Model(readers)


def _scopes(scope: _Scope) -> Iterator[_Scope]:
    """Yield a graph, and those of its branches and loops."""
    from onnx import AttributeProto

    yield scope
    for node in scope.graph.node:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                yield from _scopes(_Scope(attribute.g, scope.opsets, scope.room, scope))


def _read_chain(chain: list[_Node]) -> Held:
    """Return the LSTM whose layers are nodes."""
    with errors_about(f"the LSTM node {chain[0].name!r}"):
        arrays = [node.arrays() for node in chain]
        dtype = None
        if all(array.dtype.name == "bfloat16" for layer in arrays for array in layer.values()):
            arrays = [{key: array.astype("f4") for key, array in layer.items()} for layer in arrays]
            dtype = "bfloat16"
        return Held(from_onnx(arrays[0] if len(arrays) == 1 else arrays, chain[0].attributes), dtype)


def _read_ours(chain: list[_Node], settings: Mapping[str, Any], biases: tuple[str, ...]) -> Held:
    """Return an LSTM that `save` wrote: the nodes do not say all, and say numbers in float32."""
    net = _read_chain(chain).net
    absent = {name: None for name in ("bias_ih", "bias_hh") if name not in biases}
    weights = tuple(tuple(cell._replace(**absent) for cell in layer) for layer in net.weights)
    ours = LSTM.from_weights(weights, **settings)
    written, found = _rounded(onnx_attributes(ours)), chain[0].attributes
    if written != found or len(chain) != ours.num_layers:
        msg = f"its nodes have the attributes {found}, but its settings are those of {written}"
        raise ValueError(msg)
    return Held(ours)


def _chains(nodes: list[_Node], uses: _Uses) -> list[list[_Node]]:
    """Return the LSTMs, each as the nodes that are its layers."""
    above: dict[int, _Node] = {}
    by_output = {(id(node.scope), node.proto.output[0]): node for node in nodes if len(node.proto.output)}
    tops = set()
    for node in nodes:
        below = _layer_below(node, by_output, uses)
        if below is not None and id(below) not in above and _alike(below, node):
            above[id(below)] = node
            tops.add(id(node))
    chains = []
    for node in nodes:
        if id(node) not in tops:
            chain = [node]
            while id(chain[-1]) in above:
                chain.append(above[id(chain[-1])])
            chains.append(chain)
    return chains


def _alike(below: _Node, above: _Node) -> bool:
    """Tell whether two nodes can be layers of one LSTM."""
    inputs = [{k: node.input(k) if k == 4 else bool(node.input(k)) for k in (3, 4, 7)} for node in (below, above)]
    return inputs[0] == inputs[1] and below.attributes == above.attributes and not _starts_from_a_layer(above)


def _starts_from_a_layer(node: _Node) -> bool:
    """Tell whether an initial state comes from another LSTM, as that of a decoder: those of layers are independent."""
    todo, seen = [node.input(5), node.input(6)], set()
    while todo:
        name = todo.pop()
        owner = node.scope.owner(name)
        if owner is None or (id(owner), name) in seen:
            continue
        seen.add((id(owner), name))
        producer = owner.producers[name]
        if producer.op_type == "LSTM":
            return True
        if producer.op_type != "Shape":  # torch makes zeros for as many rows as what is below has
            todo += producer.input
    return False


def _layer_below(node: _Node, by_output: Mapping[tuple[int, str], _Node], uses: _Uses) -> _Node | None:
    """Return the node whose output is this one's input in another layout, and is used for nothing else."""
    scope, name, between = node.scope, node.input(0), list[Any]()
    while uses[id(scope), name] == 1 and len(between) <= _DEEPEST:
        below = by_output.get((id(scope), name))
        if below is not None:
            return below if _joins(below, between[::-1]) else None
        producer = scope.producers.get(name)
        if producer is None or producer.op_type not in _BETWEEN_LAYERS or name != producer.output[0]:
            return None
        if len(producer.input) == 0 or (producer.op_type == "Dropout" and len(producer.input) > 2):
            return None  # a Dropout that may be told to train
        between.append(producer)
        name = producer.input[0]
    return None


def _joins(below: _Node, between: list[Any]) -> bool:
    """Tell whether the output (T, D, N, H) becomes (T, N, D*H), the input of a next layer, or so with N before T."""
    batch_first = bool(below.attributes.get("layout", 0))
    directions = 2 if below.attributes.get("direction") == "bidirectional" else 1
    axes, wanted = ["T", "D", "N", "H"], ["T", "N", "H"]
    if batch_first:
        axes, wanted = ["N", "T", "D", "H"], ["N", "T", "H"]
    for node in between:
        attributes = _attributes(node)
        try:
            if node.op_type == "Transpose":
                axes = [axes[k] for k in attributes.get("perm", range(len(axes))[::-1])]
            elif node.op_type == "Squeeze":
                given = attributes["axes"] if "axes" in attributes else below.scope.constant(node.input[1]).tolist()
                if [axes[k] for k in given] != ["D"] or directions != 1:
                    return False
                axes.remove("D")
            elif node.op_type == "Reshape":
                sizes = directions, int(below.attributes["hidden_size"])
                if axes[2:] != ["D", "H"] or not _merges_last_axes(below.scope, node, sizes):
                    return False
                axes = [*axes[:2], "H"]
        except (ValueError, LookupError, TypeError):  # nothing is known of what is not constant
            return False
    return axes == wanted


def _merges_last_axes(scope: _Scope, node: Any, sizes: tuple[int, int]) -> bool:
    """Tell whether a Reshape makes one axis of the last two of four, and leaves the others."""
    data, features = node.input[0], sizes[0] * sizes[1]
    # The new shape may be computed from the old one: try one that stands for all.
    first = [1009, 1013]
    example = np.broadcast_to(np.float32(0), (*first, *sizes))
    shape = _attributes(node).get("shape") or replace(scope, folded={data: example}).constant(node.input[1]).tolist()
    declared = [info for info in scope.graph.value_info if info.name == data]
    known = [[axis.dim_value for axis in info.type.tensor_type.shape.dim[:2]] for info in declared]
    return shape[2:] in ([-1], [features]) and shape[:2] in ([0, 0], first, *(each for each in known if 0 not in each))


def _attributes(node: Any) -> dict[str, Any]:
    """Return a node's attributes, with numbers as they were written: 0.2, not 0.20000000298023224."""
    from onnx import helper

    given = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    return _rounded({name: _text(value) for name, value in given.items()})


def _rounded(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return attributes with the numbers that are left when they have been float32."""

    def rounded(value: Any) -> Any:
        if isinstance(value, list):
            return [rounded(each) for each in value]
        return float(str(np.float32(value))) if isinstance(value, float) else value

    return {name: rounded(value) for name, value in attributes.items()}


def _text(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    return [_text(each) for each in value] if isinstance(value, list) else value


def _unused(name: str, names: Mapping[str, Any]) -> str:
    """Return a name that is not taken: nodes in different branches may be called alike."""
    k, unused = 1, name
    while unused in names:
        k += 1
        unused = f"{name}#{k}"
    return unused
