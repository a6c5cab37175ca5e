"""The weights of a network: data, with torch's names, shapes and gate order."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

from lstm_xp._checks import Shape, check_dtype, check_like, check_shape, describe, is_known
from lstm_xp._namespace import accepted_libraries, array_namespace, is_alike, library_name
from lstm_xp._options import CellOptions
from lstm_xp._typing import Array, Namespace


class CellWeights(NamedTuple):
    """
    The weights of one layer in one direction, as `torch.nn.LSTM` has them.

    The gates lie in the order i, f, g, o. Further fields may be appended: read them by name. As a tuple it is a pytree,
    so that `jax.grad`, `jax.vmap` and `jax.jit` take it as it is.

    Parameters
    ----------
    weight_ih : array, shape (4*hidden_size, input_size)
        Input weights.
    weight_hh : array, shape (4*hidden_size, proj_size or hidden_size)
        Recurrent weights.
    bias_ih : array, shape (4*hidden_size,), optional
        First bias.
    bias_hh : array, shape (4*hidden_size,), optional
        Second bias; what counts is the sum.
    weight_hr : array, shape (proj_size, hidden_size), optional
        Projection of the hidden state.
    peephole : array, shape (3, hidden_size), optional
        What the gates i, f, o see of the cell state, unit by unit.
    norm : array, shape (2, 9*hidden_size) or (2, 5*hidden_size), optional
        Layer normalisation: first what multiplies the normalised numbers, then what is added to them. With the option
        ``norm_gates="joint"`` for the product with the input, the four gates i, f, g, o, for the product with the
        hidden state, likewise, and for the cell state; with ``"each"`` for the sum of both products and the cell state.
        Squares are summed in the weights' own dtype: in float16, numbers more than 256 away from their mean overflow.
    """

    weight_ih: Array
    weight_hh: Array
    bias_ih: Array | None = None
    bias_hh: Array | None = None
    weight_hr: Array | None = None
    peephole: Array | None = None
    norm: Array | None = None


def total_bias(weights: CellWeights) -> Array | None:
    """Return the one bias that stands for those there are."""
    if weights.bias_ih is None or weights.bias_hh is None:
        return weights.bias_hh if weights.bias_ih is None else weights.bias_ih
    return weights.bias_ih + weights.bias_hh


Layers: TypeAlias = tuple[tuple[CellWeights, ...], ...]
Weights: TypeAlias = CellWeights | Sequence[CellWeights | Sequence[CellWeights]]
Naming: TypeAlias = Callable[[str, int, int], str]


def state_dict_name(field: str, layer: int, direction: int) -> str:
    """Return torch's name for a field of one layer in one direction."""
    return f"{field}_l{layer}{'_reverse' if direction else ''}"


@dataclass(frozen=True)
class Sizes:
    """
    The sizes of a network, under torch's names; `proj_size` is 0 without projection.

    `norm_gates` is the option that the shape of the normalisation is for; None without.
    """

    input_size: int
    hidden_size: int
    num_layers: int
    num_directions: int
    proj_size: int
    norm_gates: Literal["joint", "each"] | None = None

    @property
    def output_size(self) -> int:
        """The features of a hidden state."""
        return self.proj_size or self.hidden_size

    @property
    def output_symbol(self) -> str:
        """What `output_size` is called."""
        return "proj_size" if self.proj_size else "hidden_size"

    @property
    def state_sizes(self) -> tuple[tuple[int, str], tuple[int, str]]:
        """The features of h and of c, and what they are called."""
        return (self.output_size, self.output_symbol), (self.hidden_size, "hidden_size")


class Network(NamedTuple):
    """
    Weights that were found to fit together, their sizes and their library.

    `prepared` is where engines keep what they make of them; None where the weights may change.
    """

    layers: Layers
    sizes: Sizes
    xp: Namespace
    prepared: dict[Any, Any] | None = None

    @property
    def first_array(self) -> Array:
        """The array that tells dtype and device of all."""
        return self.layers[0][0].weight_ih

    def named_arrays(self) -> list[tuple[str, Array]]:
        """Return the arrays under torch's names, in torch's order."""
        return [
            (state_dict_name(field, k, d), array)
            for k, layer in enumerate(self.layers)
            for d, cell in enumerate(layer)
            for field, array in cell._asdict().items()
            if array is not None
        ]


def cell_shapes(sizes: Sizes, layer: int) -> dict[str, Shape]:
    """
    Return the shapes of a cell's weights.

    Parameters
    ----------
    sizes : Sizes
        The network's sizes.
    layer : int
        Which layer the cell is in.

    Returns
    -------
    dict
        For each field, in their order, the shape that it has if it is there.
    """
    rows, hidden, out = 4 * sizes.hidden_size, sizes.hidden_size, sizes.output_size
    symbol = sizes.output_symbol
    if layer == 0:
        inputs = Shape((rows, sizes.input_size), "(4*hidden_size, input_size)")
    else:
        inputs = Shape((rows, sizes.num_directions * out), f"(4*hidden_size, num_directions*{symbol})")
    return {
        "weight_ih": inputs,
        "weight_hh": Shape((rows, out), f"(4*hidden_size, {symbol})"),
        "bias_ih": Shape((rows,), "(4*hidden_size,)"),
        "bias_hh": Shape((rows,), "(4*hidden_size,)"),
        "weight_hr": Shape((sizes.proj_size, hidden), "(proj_size, hidden_size)"),
        "peephole": Shape((3, hidden), "(3, hidden_size)"),
        "norm": Shape((2, 5 * hidden), "(2, 5*hidden_size)")
        if sizes.norm_gates == "each"
        else Shape((2, 9 * hidden), "(2, 9*hidden_size)"),
    }


def read_network(weights: Weights, naming: Naming = state_dict_name, xp: Namespace | None = None) -> Network:
    """
    Check that weights fit together and read their sizes off them.

    Parameters
    ----------
    weights : CellWeights or sequence
        A lone cell, or layers, each a lone cell or a sequence of one or two (forward, backward).
    naming : callable, optional
        ``naming(field, layer, direction)`` is what messages call a weight.
    xp : array namespace, optional
        The library, given by a caller who answers for the arrays; if absent it is asked of them.

    Returns
    -------
    Network
        The weights and their sizes.

    Raises
    ------
    TypeError
        Something is not an array, or libraries or dtypes differ, or the dtype is not real floating.
    ValueError
        Structure, shapes or devices do not fit.
    """
    layers = _as_layers(weights)
    first, first_name = layers[0][0], naming("weight_ih", 0, 0)
    own_xp = array_namespace(first.weight_ih, first_name) if xp is None else xp
    libraries = (own_xp,) if xp is None else None
    check_like(first.weight_ih, first_name, first.weight_ih, first_name, libraries)
    check_dtype(first.weight_ih, first_name, own_xp, "real floating")
    present = [field for field, array in first._asdict().items() if array is not None]
    num_directions = len(layers[0])

    for k, layer in enumerate(layers):
        if len(layer) != num_directions:
            msg = f"layer {k} of `weights` has {len(layer)} direction(s), expected {num_directions} as layer 0"
            raise ValueError(msg)
        for d, cell in enumerate(layer):
            for field, array in cell._asdict().items():
                if array is None and field in ("weight_ih", "weight_hh"):
                    msg = f"`{naming(field, k, d)}` is None, expected an array"
                    raise TypeError(msg)
                if (array is not None) != (field in present):
                    state, other = ("absent", "there") if array is None else ("there", "absent")
                    msg = f"`{naming(field, k, d)}` is {state}, but `{naming(field, 0, 0)}` is {other}"
                    raise ValueError(msg)
                if array is not None and not is_alike(array, first.weight_ih):
                    check_like(array, naming(field, k, d), first.weight_ih, first_name, libraries)

    sizes = _read_sizes(layers, naming)
    for k, layer in enumerate(layers):
        shapes = cell_shapes(sizes, k)
        for d, cell in enumerate(layer):
            for field in present:
                check_shape(getattr(cell, field), naming(field, k, d), shapes[field])
    return Network(layers, sizes, own_xp)


def check_input(x: Array, network: Network, xp: Namespace | None = None) -> Namespace:
    """
    Refuse an input that does not go with the weights, by its library, dtype, device and number of features.

    Parameters
    ----------
    x : array, shape (..., input_size)
        The input.
    network : Network
        The weights.
    xp : array namespace, optional
        The library, given by a caller who answers for the arrays.

    Returns
    -------
    array namespace
        The library that computes: that of `x`.

    Raises
    ------
    TypeError, ValueError
        It does not.
    """
    if xp is None and is_alike(x, network.first_array):
        own_xp = network.xp
    elif xp is None:
        own_xp = array_namespace(x, "x")
        if network.xp not in accepted_libraries(x, own_xp):
            msg = f"`x` is an array of {library_name(own_xp)}, expected {library_name(network.xp)} as the weights"
            raise TypeError(msg)
        check_like(x, "x", network.first_array, "weights", (own_xp,))
    else:
        own_xp = xp
        check_like(x, "x", network.first_array, "weights", None)
    size = network.sizes.input_size
    if x.ndim == 0 or (x.shape[-1] != size and is_known(x.shape[-1])):
        msg = f"`x` has shape {tuple(x.shape)}, expected (..., input_size) = (..., {size})"
        raise ValueError(msg)
    return own_xp


def check_options(options: CellOptions, network: Network) -> None:
    """Raise ValueError if options ask for what the weights do not have."""
    if options.clip_proj is not None and not network.sizes.proj_size:
        msg = f"`clip_proj` is {options.clip_proj}, expected None without a projection (`weight_hr`)"
        raise ValueError(msg)
    norm_gates = network.sizes.norm_gates
    if norm_gates not in (None, options.norm_gates):
        msg = f"`norm_gates` is {options.norm_gates!r}, expected {norm_gates!r} with `norm` of its shape"
        raise ValueError(msg)


def read_state_dict(mapping: Mapping[str, Array], prefix: str) -> Layers:
    """
    Build layers from arrays under torch's names; the structure is inferred from the names.

    Parameters
    ----------
    mapping : mapping of str to array
        A state dict. Names outside `prefix` are ignored.
    prefix : str
        What the names begin with, with or without the dot at its end.

    Returns
    -------
    tuple of tuple of CellWeights
        Each layer's directions.

    Raises
    ------
    TypeError
        It is no mapping of names to arrays, or the prefix is no str.
    ValueError
        A name inside the prefix is unknown, or one is missing.
    """
    prefix = dotted(prefix)
    if not hasattr(mapping, "items"):
        msg = f"`mapping` is {describe(mapping)}, expected a mapping of names to arrays"
        raise TypeError(msg)
    found: dict[tuple[int, int], dict[str, Array]] = {}
    for full_name, array in mapping.items():
        if not isinstance(full_name, str):
            msg = f"`mapping` has the name {full_name!r}, expected a str"
            raise TypeError(msg)
        if not full_name.startswith(prefix):
            continue
        match = _NAME.fullmatch(full_name[len(prefix) :])
        if match is None:
            msg = f"`{full_name}` is not a name of an LSTM's weight" + _hint(mapping, prefix)
            raise ValueError(msg)
        if array is None:
            msg = f"`{full_name}` is None, expected an array"
            raise TypeError(msg)
        field, layer, direction = match["field"], int(match["layer"]), int(match["reverse"] is not None)
        found.setdefault((layer, direction), {})[field] = array
    if not found:
        msg = f"no LSTM under the prefix {prefix!r}" + _hint(mapping, prefix)
        raise ValueError(msg)

    num_layers = 1 + max(layer for layer, _ in found)
    num_directions = 1 + max(direction for _, direction in found)
    present = [field for field in CellWeights._fields if any(field in fields for fields in found.values())]
    for k in range(num_layers):
        for d in range(num_directions):
            for field in dict.fromkeys(["weight_ih", "weight_hh", *present]):
                if field not in found.get((k, d), {}):
                    msg = f"`{prefix}{state_dict_name(field, k, d)}` is missing"
                    raise ValueError(msg)
    return tuple(tuple(CellWeights(**found[k, d]) for d in range(num_directions)) for k in range(num_layers))


def find_prefixes(names: Iterable[str]) -> tuple[str, ...]:
    """Return the prefixes under which a state dict holds LSTMs, in the order of its names."""
    heads = [name.rpartition(".") for name in names]
    return tuple(dict.fromkeys(head + dot for head, dot, tail in heads if _FIRST.fullmatch(tail)))


def dotted(prefix: str) -> str:
    """Return a prefix with the dot at its end that separates it from the names."""
    if not isinstance(prefix, str):
        msg = f"`prefix` is {prefix!r}, expected a str"
        raise TypeError(msg)
    return prefix if not prefix or prefix.endswith(".") else prefix + "."


_NAME = re.compile(rf"(?P<field>{'|'.join(CellWeights._fields)})_l(?P<layer>0|[1-9]\d{{0,8}})(?P<reverse>_reverse)?")
_FIRST = re.compile(r"weight_hh_l0")


def _hint(mapping: Mapping[str, Array], prefix: str) -> str:
    """Return what to say of the prefixes that would be right."""
    others = [other for other in find_prefixes(mapping) if other != prefix]
    return f"; there are LSTMs under the prefixes {', '.join(map(repr, others))}" if others else ""


def _as_layers(weights: Weights) -> Layers:
    """Return weights as a tuple of layers, each a tuple of directions."""
    given = (weights,) if isinstance(weights, CellWeights) else weights
    if not isinstance(given, (tuple, list)) or not given:
        msg = f"`weights` is {describe(weights)}, expected CellWeights or a sequence of layers"
        raise TypeError(msg)
    layers = []
    for k, layer in enumerate(given):
        cells = (layer,) if isinstance(layer, CellWeights) else layer
        if not isinstance(cells, (tuple, list)) or not all(isinstance(cell, CellWeights) for cell in cells):
            msg = f"layer {k} of `weights` is {describe(layer)}, expected CellWeights or a tuple of one or two"
            raise TypeError(msg)
        if len(cells) not in (1, 2):
            msg = f"layer {k} of `weights` has {len(cells)} directions, expected one or two"
            raise ValueError(msg)
        layers.append(tuple(cells))
    return tuple(layers)


def _read_sizes(layers: Layers, naming: Naming) -> Sizes:
    """Read the sizes off the first cell, whose shapes are not yet known to fit."""
    cell = layers[0][0]
    for field, symbols in (
        ("weight_ih", "(4*hidden_size, input_size)"),
        ("weight_hh", "(4*hidden_size, proj_size or hidden_size)"),
        ("weight_hr", "(proj_size, hidden_size)"),
    ):
        array = getattr(cell, field)
        if array is not None and (array.ndim != 2 or 0 in array.shape):
            msg = f"`{naming(field, 0, 0)}` has shape {tuple(array.shape)}, expected {symbols}, all at least 1"
            raise ValueError(msg)
    rows, input_size = cell.weight_ih.shape
    if rows % 4:
        msg = (
            f"`{naming('weight_ih', 0, 0)}` has shape {tuple(cell.weight_ih.shape)}, "
            "expected (4*hidden_size, input_size), with a number of rows that 4 divides"
        )
        raise ValueError(msg)
    return Sizes(
        input_size=input_size,
        hidden_size=rows // 4,
        num_layers=len(layers),
        num_directions=len(layers[0]),
        proj_size=0 if cell.weight_hr is None else cell.weight_hr.shape[0],
        norm_gates=None if cell.norm is None else _norm_gates(cell.norm, rows // 4, naming),
    )


def _norm_gates(norm: Array, hidden: int, naming: Naming) -> Literal["joint", "each"]:
    """Tell by its shape which normalisation it is."""
    if norm.shape == (2, 5 * hidden):
        return "each"
    if norm.shape != (2, 9 * hidden):
        msg = (
            f"`{naming('norm', 0, 0)}` has shape {tuple(norm.shape)}, expected (2, 9*hidden_size) = {(2, 9 * hidden)} "
            f"or, with norm_gates='each', (2, 5*hidden_size) = {(2, 5 * hidden)}"
        )
        raise ValueError(msg)
    return "joint"
