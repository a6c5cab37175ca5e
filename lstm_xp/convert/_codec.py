"""
The codec: weights that lie as a row of the table says, to `CellWeights` and back, on the arrays of any library.

Reading has two halves. First the arrays are found by their names and their shapes checked, under the names that the
caller knows; then each is cut into the blocks of its gates, which are put in torch's order.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from lstm_xp._checks import Shape, check_dtype, check_like, check_shape, describe
from lstm_xp._lstm import LSTM
from lstm_xp._namespace import array_namespace
from lstm_xp._options import CellOptions
from lstm_xp._typing import Array, Namespace
from lstm_xp._weights import CellWeights, Layers, Sizes, total_bias
from lstm_xp.convert._layouts import GATES, PEEPHOLES, Layout


class _Named(NamedTuple):
    """An array, and what the caller knows it by."""

    name: str
    array: Array


_Cell: TypeAlias = dict[str, _Named]  # by the name in the row

# What is said of fields for which not every layout has a place; of others their name.
_CALLED = {"weight_hr": "a projection", "peephole": "peepholes", "norm": "layer norm"}


def decode(mapping: Any, layout: Layout, *, num_directions: int | None = None) -> Layers:
    """
    Return the weights that lie in a layout.

    Parameters
    ----------
    mapping : mapping, object or sequence
        The arrays of one cell by their names, nested or joined by ``/``, or an object that has them as attributes; or
        a sequence of layers, each a cell or a pair of them (forward, backward). Where the names tell the layers, one
        mapping of all; where directions are stacked, one mapping for each layer.
    layout : Layout
        The layout.
    num_directions : int, optional
        How many there are, where ``{cell}`` counts both layers and directions.

    Returns
    -------
    tuple of tuple of CellWeights
        Each layer's directions.

    Raises
    ------
    TypeError
        Something is no array, or libraries or dtypes differ.
    ValueError
        A name is unknown or missing, or a shape does not fit.
    """
    if layout.layered:
        layers = _collect_network(mapping, layout, num_directions)
    elif isinstance(mapping, (tuple, list)) and mapping:
        layers = [
            [_collect(cell, layout, f"[{k}][{d}].") for d, cell in enumerate(layer)]
            if isinstance(layer, (tuple, list)) and not layout.stacked
            else [_collect(layer, layout, f"[{k}].")]
            for k, layer in enumerate(mapping)
        ]
    else:
        layers = [[_collect(mapping, layout, "")]]
    for k, layer in enumerate(layers):
        if len(layer) not in (1, 2):
            msg = f"layer {k} of `mapping` has {len(layer)} directions, expected one or two"
            raise ValueError(msg)
    xp, sizes = _read_sizes(layers, layout)
    first = layers[0][0][layout.names[0]]
    for k, layer in enumerate(layers):
        for cell in layer:
            for names, fields in _present(cell, layout):
                for named in (cell[name] for name in names):
                    check_like(named.array, named.name, first.array, first.name, (xp,))
                    check_shape(named.array, named.name, array_shape(len(names), fields, layout, sizes, k))
    if layout.stacked:
        layers = [
            [
                {key: _Named(named.name, named.array[d, ...]) for key, named in cell.items()}
                for d in range(sizes.num_directions)
            ]
            for (cell,) in layers
        ]
    return tuple(tuple(_decode_cell(cell, layout, sizes, xp) for cell in layer) for layer in layers)


def encode(layers: Layers, layout: Layout) -> Any:
    """
    Return weights as they lie in a layout, the inverse of `decode`.

    Parameters
    ----------
    layers : tuple of tuple of CellWeights
        Each layer's directions.
    layout : Layout
        The layout.

    Returns
    -------
    dict or tuple
        What `decode` reads: one mapping where there is one cell, or where the names tell the layers, else a tuple of
        layers.
    """
    xp = array_namespace(layers[0][0].weight_ih, "weight_ih")
    cells = [[_encode_cell(cell, layout, xp) for cell in layer] for layer in layers]
    if layout.layered:
        return _nest(
            {
                place_name(name, layout, k, d, len(layer)): array
                for k, layer in enumerate(cells)
                for d, cell in enumerate(layer)
                for name, array in cell.items()
            }
        )
    if layout.stacked:
        by_layer = [{name: xp.stack([cell[name] for cell in layer]) for name in layer[0]} for layer in cells]
        return by_layer[0] if len(by_layer) == 1 else tuple(by_layer)
    nested = [tuple(_nest({layout.prefix + name: array for name, array in cell.items()}) for cell in c) for c in cells]
    if len(nested) == 1 == len(nested[0]):
        return nested[0][0]
    return tuple(layer[0] if len(layer) == 1 else layer for layer in nested)


def check_expressible(net: LSTM, layout: Layout, elsewhere: tuple[str, ...] = ()) -> None:
    """
    Refuse an LSTM that a layout cannot express.

    Parameters
    ----------
    net : LSTM
        The LSTM.
    layout : Layout
        The layout.
    elsewhere : tuple of str, optional
        What is said elsewhere than in the arrays: ``"reverse"``, ``"options"``.

    Raises
    ------
    TypeError
        It is none.
    ValueError
        It has something that the layout has no place for.
    """
    if not isinstance(net, LSTM):
        msg = f"`net` is {describe(net)}, expected an lstm_xp.LSTM"
        raise TypeError(msg)
    held = {field for field, array in net.weights[0][0]._asdict().items() if array is not None}
    options = CellOptions(peephole_output=layout.peephole_output) if "peephole" in held else CellOptions()
    for what, there in (
        # Biases are never refused: they are added up.
        *((_CALLED.get(each, each), True) for each in sorted(held - {*layout.fields, "bias_ih", "bias_hh"})),
        ("reverse=True", net.reverse and "reverse" not in elsewhere),
        ("options", net.options not in (options, (options, options)) and "options" not in elsewhere),
    ):
        if there:
            msg = f"`net` has {what}, which {layout.framework} cannot express"
            raise ValueError(msg)


def array_shape(num_names: int, fields: tuple[str, ...], layout: Layout, sizes: Sizes, layer: int = 0) -> Shape:
    """
    Return the shape of an array in a layout.

    Parameters
    ----------
    num_names : int
        In how many arrays the gates are.
    fields : tuple of str
        What it holds.
    layout : Layout
        The layout.
    sizes : Sizes
        The network's sizes.
    layer : int, optional
        Which layer the array belongs to.

    Returns
    -------
    Shape
        The shape.
    """
    n, out, directions = sizes.hidden_size, sizes.output_size, sizes.num_directions
    hidden, projected = (n, "hidden_size"), (sizes.proj_size, "proj_size")
    columns = {
        "weight_ih": (sizes.input_size, "input_size") if layer == 0
        else (directions * out, f"num_directions*{sizes.output_symbol}"),
        "weight_hh": (out, sizes.output_symbol),
    }  # fmt: skip
    count = (3 if fields == ("peephole",) else 4) if num_names == 1 else 1
    if fields == ("weight_hr",):
        dims = [projected, hidden]
    elif fields[0] in columns:
        widths, symbols = zip(*(columns[field] for field in fields), strict=True)
        dims = [_times(count, hidden), (sum(widths), " + ".join(symbols))]
    else:
        dims = [_times(count * len(fields), hidden)]
    if len(dims) == 2 and layout.transposed:
        dims.reverse()
    elif len(dims) == 1 and layout.bias != "vector":
        dims = [(1, "1"), *dims] if layout.bias == "row" else [*dims, (1, "1")]
    if layout.stacked:
        dims = [(directions, "num_directions"), *dims]
    numbers, names = zip(*dims, strict=True)
    return Shape(numbers, f"({', '.join(names)}{',' * (len(names) == 1)})")


def _times(count: int, size: tuple[int, str]) -> tuple[int, str]:
    return size if count == 1 else (count * size[0], f"{count}*{size[1]}")


def _spell(name: str) -> str:
    """Return a name as it is compared: levels of nesting joined by ``/``, without TensorFlow's number of an output."""
    return name.replace(".", "/").removesuffix(":0")


def place_name(name: str, layout: Layout, layer: int, direction: int, num_directions: int) -> str:
    """Return a name, filled in with where a cell is."""
    cell = layer * num_directions + direction
    return name.format(layer=layer, direction=layout.directions[direction], cell=cell)


def flatten(mapping: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Array]]:
    """Yield the arrays of nested mappings and their names; None is no array."""
    for key, value in mapping.items():
        name = path + _spell(str(key))
        if isinstance(value, Mapping):
            yield from flatten(value, name + "/")
        elif value is not None:
            yield name, value


def _nest(arrays: Mapping[str, Array]) -> dict[str, Any]:
    """Return nested mappings, a level for each dot in a name."""
    nested: dict[str, Any] = {}
    for name, array in arrays.items():
        *path, last = name.split(".")
        inner = nested
        for key in path:
            inner = inner.setdefault(key, {})
        inner[last] = array
    return nested


def _attributes(source: object, layout: Layout) -> Iterator[tuple[str, Array]]:
    """Yield the arrays that an object has under the names of a layout."""
    for names, _ in layout.parts:
        for name in names:
            value = source
            for key in name.split("."):
                value = getattr(value, key, None)
            if value is not None:
                yield _spell(name), value


def _ends(name: str, tail: str) -> bool:
    """Tell whether a name is another one, with or without something before it."""
    return name == tail or name.endswith("/" + tail)


def _flat(source: Any, layout: Layout, first_names: list[str], where: str) -> dict[str, _Named]:
    """
    Return the arrays that the caller gave by their names, without the prefix that they have in common.

    What it is is told by the array that has the first of the names, the others being those that go with it.
    """
    if isinstance(source, Mapping):
        flat = dict(flatten(source))
    else:
        flat = {} if layout.layered else dict(_attributes(source, layout))
        if not flat:
            msg = f"`mapping` is {describe(source)}, expected a mapping of names to arrays"
            raise TypeError(msg)
    first, *others = map(_spell, first_names)
    prefixes = [
        name.removesuffix(first)
        for name in flat
        if _ends(name, first) and not any(_ends(name, other) and len(other) > len(first) for other in others)
    ]
    if not prefixes:
        msg = f"`{where}{first}` is missing"
        raise ValueError(msg)
    if len(prefixes) > 1:
        msg = f"`mapping` holds {len(prefixes)} LSTMs, under {', '.join(map(repr, prefixes))}; expected one"
        raise ValueError(msg)
    return {name.removeprefix(prefixes[0]): _Named(where + name, array) for name, array in flat.items()}


def _refuse_unknown(flat: Mapping[str, _Named], known: Mapping[str, Any], layout: Layout) -> None:
    for name, named in flat.items():
        if name not in known:
            msg = f"`{named.name}` is not one of the names {', '.join(map(_spell, layout.names))}"
            raise ValueError(msg)


def _collect(source: Any, layout: Layout, where: str) -> _Cell:
    """Return the arrays of one cell by the row's names."""
    known = {_spell(name): name for name in layout.names}
    flat = _flat(source, layout, layout.names, where)
    _refuse_unknown(flat, known, layout)
    return _complete({known[name]: named for name, named in flat.items()}, layout, lambda name: where + _spell(name))


def _collect_network(source: Any, layout: Layout, num_directions: int | None) -> list[list[_Cell]]:
    """Return the arrays of all cells, whose names tell where they belong."""
    names = layout.names
    anchor = names[0]
    flat = _flat(source, layout, [place_name(name, layout, 0, 0, 1) for name in names], "")
    if num_directions is None:
        num_directions = 1 + (_spell(place_name(anchor, layout, 0, 1, 2)) in flat and "{direction}" in anchor)
    num_layers = 1
    while _spell(place_name(anchor, layout, num_layers, 0, num_directions)) in flat:
        num_layers += 1
    places = [[(k, d, num_directions) for d in range(num_directions)] for k in range(num_layers)]
    known = {_spell(place_name(name, layout, *place)) for row in places for place in row for name in names}
    _refuse_unknown(flat, dict.fromkeys(known), layout)

    def cell(place: tuple[int, int, int]) -> _Cell:
        spelled = {name: _spell(place_name(name, layout, *place)) for name in names}
        found = {name: flat[key] for name, key in spelled.items() if key in flat}
        return _complete(found, layout, spelled.__getitem__)

    return [[cell(place) for place in row] for row in places]


def _complete(cell: _Cell, layout: Layout, full_name: Callable[[str], str]) -> _Cell:
    """Return the arrays of a cell, none of which is missing."""
    for names, fields in layout.parts:
        optional = {"peephole", "weight_hr"} | ({"bias_ih", "bias_hh"} if layout.bias_optional else set())
        if any(name in cell for name in names) or not optional.issuperset(fields):
            for name in names:
                if name not in cell:
                    msg = f"`{full_name(name)}` is missing"
                    raise ValueError(msg)
    return cell


def _present(cell: _Cell, layout: Layout) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    return [(names, fields) for names, fields in layout.parts if names[0] in cell]


def _read_sizes(layers: Sequence[Sequence[_Cell]], layout: Layout) -> tuple[Namespace, Sizes]:
    """Read library and sizes off the first cell, whose shapes are not yet known to fit."""
    cell = layers[0][0]
    anchor = cell[layout.names[0]]
    xp = array_namespace(anchor.array, anchor.name)
    check_dtype(anchor.array, anchor.name, xp, "real floating")
    held = {field for _, fields in _present(cell, layout) for field in fields}
    symbols = Sizes(1, 1, 1, 1, int("weight_hr" in held))

    def rows_and_columns(field: str) -> tuple[int, int]:
        """Return the rows of a gate and the columns, less those of other fields, that a matrix has as torch's lie."""
        names, fields = layout.part_of(field)
        named = cell[names[0]]
        check_like(named.array, named.name, anchor.array, anchor.name, (xp,))
        shape = tuple(named.array.shape)
        rows = columns = 0
        if len(shape) == 2 + layout.stacked:
            rows, columns = shape[-1:-3:-1] if layout.transposed else shape[-2:]
        gates = 4 if len(names) == 1 and field != "weight_hr" else 1
        if field == "weight_ih" and len(fields) > 1:
            columns -= proj_size or hidden_size
        if rows < 1 or columns < 1 or (field == "weight_hh" and rows % gates):
            expected = array_shape(len(names), fields, layout, symbols).symbols
            msg = f"`{named.name}` has shape {shape}, expected {expected}, all at least 1"
            raise ValueError(msg)
        return rows // gates, columns

    hidden_size, _ = rows_and_columns("weight_hh")
    proj_size = rows_and_columns("weight_hr")[0] if "weight_hr" in held else 0
    _, input_size = rows_and_columns("weight_ih")
    num_directions = anchor.array.shape[0] if layout.stacked else len(layers[0])
    if num_directions not in (1, 2):
        msg = f"`{anchor.name}` has shape {tuple(anchor.array.shape)}, expected one or two directions"
        raise ValueError(msg)
    return xp, Sizes(input_size, hidden_size, len(layers), num_directions, proj_size)


def _decode_cell(cell: _Cell, layout: Layout, sizes: Sizes, xp: Namespace) -> CellWeights:
    """Return the arrays of one cell as torch has them."""
    fields: dict[str, Array] = {}
    for names, held in _present(cell, layout):
        arrays = [cell[name].array for name in names]
        if held[0] in ("weight_ih", "weight_hh"):
            rows = _from_blocks([_turn(array, layout, xp) for array in arrays], layout.gates, GATES, layout, xp)
            if len(held) == 1:
                fields[held[0]] = rows
            else:
                edge = rows.shape[1] - sizes.output_size if held[0] == "weight_ih" else sizes.output_size
                fields |= dict(zip(held, (rows[:, :edge], rows[:, edge:]), strict=True))
        elif held == ("weight_hr",):
            fields["weight_hr"] = _turn(arrays[0], layout, xp)
        elif held == ("peephole",):
            rows = _from_blocks(arrays, layout.peepholes, PEEPHOLES, layout, xp)
            fields["peephole"] = xp.reshape(rows, (3, sizes.hidden_size))
        else:
            flat = [xp.reshape(array, (-1,)) for array in arrays]
            biases = [flat] if len(held) == 1 else [[half] for half in _split(flat[0], len(held))]
            parts = [_from_blocks(bias, layout.gates, GATES, layout, xp) for bias in biases]
            fields |= dict(zip(held, parts, strict=True))
    if layout.forget_bias:
        fields["bias_hh"] = _run_time_bias(fields["bias_ih"], layout, xp)
    return CellWeights(**fields)


def _encode_cell(cell: CellWeights, layout: Layout, xp: Namespace) -> dict[str, Array]:
    """Return the arrays of one cell as a layout has them, by the row's names."""
    arrays: dict[str, Array] = {}
    zeros = xp.zeros_like(cell.weight_hh[:, 0])
    biases = {"bias_ih": cell.bias_ih, "bias_hh": cell.bias_hh}
    if "bias_hh" not in layout.fields:
        biases = {"bias_ih": _lone_bias(cell, layout, xp), "bias_hh": None}
    for names, held in layout.parts:
        parts: list[Array]
        if held[0] in ("weight_ih", "weight_hh"):
            rows = xp.concat([getattr(cell, field) for field in held], axis=1)
            parts = [
                _turn(array, layout, xp) for array in _to_blocks(rows, GATES, layout.gates, len(names), layout, xp)
            ]
        elif held == ("weight_hr",):
            parts = [] if cell.weight_hr is None else [_turn(cell.weight_hr, layout, xp)]
        elif held == ("peephole",):
            rows = None if cell.peephole is None else xp.reshape(cell.peephole, (-1,))
            parts = [] if rows is None else _to_blocks(rows, PEEPHOLES, layout.peepholes, len(names), layout, xp)
        elif layout.bias_optional and all(bias is None for bias in biases.values()):
            parts = []
        else:
            given = [zeros if (bias := biases[field]) is None else bias for field in held]
            halves = [_to_blocks(bias, GATES, layout.gates, len(names), layout, xp) for bias in given]
            parts = halves[0] if len(held) == 1 else [xp.concat([half for (half,) in halves])]
            axis = {"row": 0, "column": 1}.get(layout.bias)
            parts = parts if axis is None else [xp.expand_dims(part, axis=axis) for part in parts]
        arrays |= dict(zip(names, parts, strict=True)) if parts else {}
    return arrays


def _run_time_bias(like: Array, layout: Layout, xp: Namespace) -> Array:
    """Return what the framework adds to the gates as it runs: (0, forget_bias, 0, 0)."""
    zeros, *others = (xp.zeros_like(block) for block in _split(like, 4))
    return xp.concat([zeros, zeros + layout.forget_bias, *others[1:]])


def _lone_bias(cell: CellWeights, layout: Layout, xp: Namespace) -> Array | None:
    """Return the one bias of a layout that has only one."""
    if not layout.forget_bias:
        return total_bias(cell)
    zeros = xp.zeros_like(cell.weight_hh[:, 0])
    bias, other = (zeros if each is None else each for each in (cell.bias_ih, cell.bias_hh))
    # In this order, where the second bias is the framework's own, this is `bias - 0.0`: the same bit for bit, -0.0 too.
    return bias - (_run_time_bias(zeros, layout, xp) - other)


def _turn(matrix: Array, layout: Layout, xp: Namespace) -> Array:
    return xp.matrix_transpose(matrix) if layout.transposed else matrix


def _split(array: Array, count: int) -> list[Array]:
    """Return the equal parts of an array's first axis."""
    n = array.shape[0] // count
    return [array[k * n : (k + 1) * n, ...] for k in range(count)]


def _from_blocks(arrays: list[Array], order: str, wanted: str, layout: Layout, xp: Namespace) -> Array:
    """Return the gates below each other in the order that is wanted."""
    blocks = arrays
    if len(arrays) == 1:
        if order == wanted and not layout.interleaved:
            return arrays[0]
        count = len(order)
        blocks = [arrays[0][k::count, ...] for k in range(count)] if layout.interleaved else _split(arrays[0], count)
    return xp.concat([blocks[order.index(gate)] for gate in wanted])


def _to_blocks(rows: Array, order: str, wanted: str, count: int, layout: Layout, xp: Namespace) -> list[Array]:
    """Return the gates, in the order that is wanted, in one array or in one for each."""
    blocks = _split(rows, len(order))
    blocks = [blocks[order.index(gate)] for gate in wanted]
    if count > 1:
        return blocks
    return [xp.reshape(xp.stack(blocks, axis=1), rows.shape) if layout.interleaved else xp.concat(blocks)]
