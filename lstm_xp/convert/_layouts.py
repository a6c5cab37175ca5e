"""
Other programs' weight layouts, as data: one row each, and one codec that reads and writes them.

A row says which matrices there are and how they lie; torch's gate order i, f, g, o is what they are brought to.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lstm_xp._checks import Shape, check_dtype, check_like, check_shape, describe
from lstm_xp._lstm import LSTM
from lstm_xp._namespace import array_namespace
from lstm_xp._options import CellOptions
from lstm_xp._typing import Array
from lstm_xp._weights import CellWeights, total_bias

GATES = "ifgo"


@dataclass(frozen=True)
class Layout:
    """
    A layout with one matrix and one bias for each gate.

    Parameters
    ----------
    matrices : dict
        The names of the matrices, by gate. Each acts on hidden state and input, one below the other.
    biases : dict
        The names of the biases, by gate.
    column_bias : bool
        Whether a bias is a column, (hidden_size, 1).
    """

    matrices: Mapping[str, str]
    biases: Mapping[str, str]
    column_bias: bool


CONCATENATED = Layout(
    matrices={"f": "Wf", "i": "Wi", "g": "WC", "o": "Wo"},
    biases={"f": "bf", "i": "bi", "g": "bC", "o": "bo"},
    column_bias=True,
)


def from_concatenated(mapping: Mapping[str, Any]) -> LSTM:
    """
    Make an LSTM of the eight arrays that most people write from a blog post.

    It computes ``f = sigmoid(Wf [h; x] + bf)`` and so on, hidden state and input below each other, as in C. Olah,
    "Understanding LSTM networks", 2015, https://colah.github.io/posts/2015-08-Understanding-LSTMs/. There, vectors are
    columns: its h of shape (hidden_size, 1) is our h of shape (hidden_size,).

    Parameters
    ----------
    mapping : mapping of str to array
        ``Wf``, ``Wi``, ``WC``, ``Wo`` of shape (hidden_size, hidden_size + input_size), and the biases ``bf``, ``bi``,
        ``bC``, ``bo`` of shape (hidden_size, 1). ``C`` is the candidate.

    Returns
    -------
    LSTM
        One layer in one direction, with the biases as ``bias_ih`` and no ``bias_hh``.

    Raises
    ------
    TypeError
        Something is not an array, or libraries or dtypes differ.
    ValueError
        A name is unknown or missing, or a shape does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> import lstm_xp as lx
    >>> blog = {name: np.ones((4, 4 + 5)) for name in ("Wf", "Wi", "WC", "Wo")}
    >>> blog |= {name: np.zeros((4, 1)) for name in ("bf", "bi", "bC", "bo")}
    >>> lx.convert.from_concatenated(blog)
    LSTM(5, 4)
    """
    return LSTM.from_weights(_decode(mapping, CONCATENATED))


def to_concatenated(net: LSTM) -> dict[str, Array]:
    """
    Return the eight arrays that `from_concatenated` reads.

    Parameters
    ----------
    net : LSTM
        One layer in one direction. Two biases become their sum, which is the same function. How sequences are read
        (batch_first, masked_output) is no part of the arrays.

    Returns
    -------
    dict of str to array
        The arrays.

    Raises
    ------
    ValueError
        The LSTM has what this layout cannot express: several layers, two directions, a projection, peepholes,
        `reverse` or options.
    """
    if not isinstance(net, LSTM):
        msg = f"`net` is {describe(net)}, expected an lstm_xp.LSTM"
        raise TypeError(msg)
    cell = net.weights[0][0]
    for what, there in (
        (f"{net.num_layers} layers", net.num_layers > 1),
        ("two directions", net.bidirectional),
        ("a projection", bool(net.proj_size)),
        ("peepholes", cell.peephole is not None),
        ("reverse=True", net.reverse),
        ("options", net.options != CellOptions()),
    ):
        if there:
            msg = f"`net` has {what}, which the concatenated layout cannot express"
            raise ValueError(msg)
    return _encode(cell, CONCATENATED)


def _decode(mapping: Mapping[str, Array], layout: Layout) -> CellWeights:
    """Return arrays of a layout as torch has them."""
    if not isinstance(mapping, Mapping):
        msg = f"`mapping` is {describe(mapping)}, expected a mapping of names to arrays"
        raise TypeError(msg)
    expected = [*layout.matrices.values(), *layout.biases.values()]
    for name in mapping:
        if name not in expected:
            msg = f"`{name}` is not one of the names {', '.join(expected)}"
            raise ValueError(msg)
    for name in expected:
        if name not in mapping:
            msg = f"`{name}` is missing"
            raise ValueError(msg)

    first_name = layout.matrices["i"]
    first = mapping[first_name]
    xp = array_namespace(first, first_name)
    check_dtype(first, first_name, xp, "real floating")
    if first.ndim != 2 or not 0 < first.shape[0] < first.shape[1]:
        msg = (
            f"`{first_name}` has shape {tuple(first.shape)}, expected (hidden_size, hidden_size + input_size), "
            "all at least 1"
        )
        raise ValueError(msg)
    n = first.shape[0]
    bias_shape = Shape((n, 1), "(hidden_size, 1)") if layout.column_bias else Shape((n,), "(hidden_size,)")
    for names, shape in (
        (layout.matrices, Shape(tuple(first.shape), "(hidden_size, hidden_size + input_size)")),
        (layout.biases, bias_shape),
    ):
        for name in names.values():
            check_like(mapping[name], name, first, first_name, (xp,))
            check_shape(mapping[name], name, shape)

    matrix = xp.concat([mapping[layout.matrices[gate]] for gate in GATES], axis=0)
    biases = [mapping[layout.biases[gate]] for gate in GATES]
    bias = xp.concat([b[:, 0] if layout.column_bias else b for b in biases], axis=0)
    return CellWeights(weight_ih=matrix[:, n:], weight_hh=matrix[:, :n], bias_ih=bias)


def _encode(cell: CellWeights, layout: Layout) -> dict[str, Array]:
    """Return torch's arrays as a layout has them; the inverse of `_decode`."""
    xp = array_namespace(cell.weight_ih, "weight_ih")
    n = cell.weight_hh.shape[1]
    matrix = xp.concat([cell.weight_hh, cell.weight_ih], axis=1)
    bias = total_bias(cell)
    if bias is None:
        bias = xp.zeros_like(cell.weight_hh[:, 0])
    arrays = {}
    for k, gate in enumerate(GATES):
        block = slice(k * n, (k + 1) * n)
        arrays[layout.matrices[gate]] = matrix[block, :]
        arrays[layout.biases[gate]] = xp.expand_dims(bias[block], axis=1) if layout.column_bias else bias[block]
    return {name: arrays[name] for name in (*layout.matrices.values(), *layout.biases.values())}
