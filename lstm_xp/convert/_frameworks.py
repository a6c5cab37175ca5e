"""
The public pairs: ``from_X`` makes an LSTM of what a framework holds, ``to_X`` returns it.

Where a row of the table is all there is to know, the pair is made from it, its documentation too.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import accumulate, pairwise, product
from math import prod
from textwrap import fill
from typing import Any

from lstm_xp._checks import Shape, check_shape, describe
from lstm_xp._lstm import LSTM
from lstm_xp._namespace import array_namespace
from lstm_xp._options import CellOptions, options_by_direction
from lstm_xp._typing import Array
from lstm_xp._weights import Sizes, cell_shapes, state_dict_name
from lstm_xp.convert._attributes import (
    check_keras_directions,
    keras_activations,
    onnx_attributes,
    settings_from_keras,
    settings_from_onnx,
)
from lstm_xp.convert._codec import array_shape, check_expressible, decode, encode, flatten, place_name
from lstm_xp.convert._layouts import (
    CHAINER,
    CHAINER_NSTEP,
    CONCATENATED,
    CUDNN,
    EQUINOX,
    FLAX,
    HAIKU,
    KERAS,
    MADMOM,
    MLX,
    MXNET,
    NNX,
    NNX_OPTIMIZED,
    NUMPY_ML,
    ONNX,
    OPENVINO,
    SONNET,
    TF1,
    THINC,
    WEBNN,
    WEBNN_IFGO,
    Layout,
)

_FROM = """
    Make an LSTM of {what}.
{more}
    Parameters
    ----------
    mapping : {kind}
{arrays}
    **settings
        What the arrays do not say, as `LSTM.from_weights` takes it: batch_first, options and so on.

    Returns
    -------
    LSTM
        The LSTM.

    Raises
    ------
    TypeError
        Something is not an array, or libraries or dtypes differ.
    ValueError
        A name is unknown or missing, or a shape does not fit.
{example}    """

_TO = """
    Return {what}, as `{other}` reads them.

    Parameters
    ----------
    net : LSTM
{net}

    Returns
    -------
{returns}

    Raises
    ------
    TypeError
        It is no LSTM.
    ValueError
        It has what {framework} cannot express: {refused}`reverse` or options.
    """

_NESTING = {
    "cell": (
        "What comes before the names, as the name of a module, does not matter. For several layers or directions, a "
        "sequence of layers from the input up, each the mapping of a cell or a pair of them (forward, backward)."
    ),
    "stacked": "The first axis is the direction. For several layers a sequence of mappings, from the input up.",
    "layered": "Further layers and directions are inferred from the names.",
}


def _fill(text: str) -> str:
    """Return a paragraph of a parameter's description."""
    return fill(text, 118, initial_indent=" " * 8, subsequent_indent=" " * 8, break_on_hyphens=False)


def _describe_arrays(layout: Layout) -> str:
    """Return the names of a layout's arrays and their shapes, in words."""
    texts = []
    sizes = Sizes(1, 1, 1, 2 if layout.stacked else 1, int("weight_hr" in layout.fields))
    for names, fields in layout.parts:
        symbols = array_shape(len(names), fields, layout, sizes).symbols
        if fields != ("weight_hr",):
            symbols = symbols.replace("proj_size", "proj_size or hidden_size")
        optional = {"peephole", "weight_hr"} | ({"bias_ih", "bias_hh"} if layout.bias_optional else set())
        joined = ", ".join(f"``{place_name(name, layout, 0, 0, 1)}``" for name in names)
        texts.append(f"{joined} {symbols}{', which may be absent' if optional.issuperset(fields) else ''}")
    interleaved = ", the four of a unit next to each other" if layout.interleaved else ""
    return f"{'; '.join(texts)}. The gates are in the order {', '.join(layout.gates)}{interleaved}."


def _decoded(mapping: Any, layout: Layout, settings: dict[str, Any], **places: Any) -> LSTM:
    layers = decode(mapping, layout, **places)
    peephole = layers[0][0].peephole is not None
    options = CellOptions(peephole_output=layout.peephole_output) if peephole else CellOptions()
    return LSTM.from_weights(layers, **({"options": options} | settings))


def _encoded(net: LSTM, layout: Layout, *elsewhere: str) -> Any:
    check_expressible(net, layout, elsewhere)
    return encode(net.weights, layout)


def _pair(
    layout: Layout, name: str, what: str, more: str = "", example: str = "", **defaults: Any
) -> tuple[Callable[..., LSTM], Callable[[LSTM], Any]]:
    """Return ``from_X`` and ``to_X`` for a layout of which the row is all there is to know."""

    def from_framework(mapping: Any, **settings: Any) -> LSTM:
        return _decoded(mapping, layout, defaults | settings)

    def to_framework(net: LSTM) -> Any:
        return _encoded(net, layout)

    nesting = "layered" if layout.layered else "stacked" if layout.stacked else "cell"
    from_framework.__doc__ = _FROM.format(
        what=what,
        more=f"\n    {more}\n" if more else "",
        kind="mapping of str to array" + ("" if layout.layered else ", or sequence of layers"),
        arrays=_fill(f"{_describe_arrays(layout)} {_NESTING[nesting]}"),
        example=example,
    )
    bias, returns = "A bias that is missing becomes zeros.", "The arrays by their names"
    if "bias_hh" not in layout.fields:
        bias = "Two biases become their sum, which is the same function."
    if layout.forget_bias:
        bias += f" What the framework adds as it runs is subtracted: exactly if `from_{name}` put it there."
    if not layout.layered:
        returns += f"; of several layers or directions a tuple, as `from_{name}` takes it"
    returns += ". They may be views of the LSTM's own"
    to_framework.__doc__ = _TO.format(
        what=what,
        other=f"from_{name}",
        net=_fill(f"The LSTM. {bias} How sequences are read (batch_first, masked_output) is no part of the arrays."),
        returns=f"    dict{' of str to array' if layout.layered else ' or tuple'}\n" + _fill(f"{returns}."),
        framework=layout.framework,
        refused="layer norm, "
        + "a projection, " * ("weight_hr" not in layout.fields)
        + "peepholes, " * ("peephole" not in layout.fields),
    )
    for function, prefix in ((from_framework, "from"), (to_framework, "to")):
        function.__name__ = function.__qualname__ = f"{prefix}_{name}"
    return from_framework, to_framework


from_chainer, to_chainer = _pair(
    CHAINER,
    "chainer",
    "the parameters of Chainer's ``L.LSTM`` or ``L.StatelessLSTM``",
    "They are what ``chainer.serializers.save_npz`` writes. Several links on top of each other are a sequence.",
)
from_equinox, to_equinox = _pair(
    EQUINOX,
    "equinox",
    "an ``equinox.nn.LSTMCell``",
    "The cell itself is taken too, for it has the arrays as attributes.",
)
from_flax, to_flax = _pair(
    FLAX,
    "flax",
    "the parameters of Flax Linen's ``LSTMCell`` or ``OptimizedLSTMCell``",
    "For Flax NNX there is `from_nnx`.",
)
from_haiku, to_haiku = _pair(
    HAIKU,
    "haiku",
    "the parameters of a Haiku ``LSTM``",
    "Haiku adds 1 to the forget gate as it runs, which becomes the second bias, ``bias_hh = (0, 1, 0, 0)``.",
)
from_madmom, to_madmom = _pair(
    MADMOM,
    "madmom",
    "a madmom ``LSTMLayer``",
    "The layer itself is taken too, for it has the arrays as attributes.",
)
from_mlx, to_mlx = _pair(
    MLX,
    "mlx",
    "the parameters of MLX's ``nn.LSTM``",
    "It is batch-first, as MLX's is.",
    batch_first=True,
)
from_mxnet, to_mxnet = _pair(
    MXNET,
    "mxnet",
    "the parameters of MXNet's ``gluon.rnn.LSTM``",
    "In a name, l is forward and r backward, and the number is the layer. For one vector of all there is `from_cudnn`.",
)
from_numpy_ml, to_numpy_ml = _pair(
    NUMPY_ML,
    "numpy_ml",
    "the parameters of numpy-ml's ``LSTM`` or ``LSTMCell``",
    "Its update gate u is the input gate.",
)
from_openvino, to_openvino = _pair(
    OPENVINO,
    "openvino",
    "the constant inputs of OpenVINO's ``LSTMSequence``",
    "An ``LSTMCell`` has no axis for directions: put one of size 1 in front.",
)
from_sonnet, to_sonnet = _pair(
    SONNET,
    "sonnet",
    "the variables of a Sonnet 2 ``LSTM``",
    "As NumPy's arrays, ``variable.numpy()``: TensorFlow's do not follow the array API standard.",
)
from_concatenated, to_concatenated = _pair(
    CONCATENATED,
    "concatenated",
    "the eight arrays that most people write from a blog post",
    """It computes ``f = sigmoid(Wf [h; x] + bf)`` and so on, hidden state and input below each other, as in C. Olah,
    "Understanding LSTM networks", 2015, https://colah.github.io/posts/2015-08-Understanding-LSTMs/. There, vectors are
    columns: its h of shape (hidden_size, 1) is our h of shape (hidden_size,). ``C`` is the candidate.""",
    """
    Examples
    --------
    >>> import numpy as np
    >>> import lstm_xp as lx
    >>> blog = {name: np.ones((4, 4 + 5)) for name in ("Wf", "Wi", "WC", "Wo")}
    >>> blog |= {name: np.zeros((4, 1)) for name in ("bf", "bi", "bC", "bo")}
    >>> lx.convert.from_concatenated(blog)
    LSTM(5, 4)
""",
)


def from_nnx(mapping: Any, **settings: Any) -> LSTM:
    """
    Make an LSTM of the parameters of Flax NNX's ``LSTMCell`` or ``OptimizedLSTMCell``.

    Parameters
    ----------
    mapping : mapping of str to array, or sequence of layers
        ``nnx.to_pure_dict(nnx.state(cell, nnx.Param))``: either ``ii.kernel``, ``if_.kernel`` and so on to ``ho.bias``,
        each gate by itself, or ``dense_i.kernel`` (input_size, 4*hidden_size), ``dense_h.kernel`` and ``dense_h.bias``
        in the gate order i, f, g, o. What comes before the names does not matter. For several layers or directions, a
        sequence of layers from the input up, each the mapping of a cell or a pair of them (forward, backward).
    **settings
        What the arrays do not say, as `LSTM.from_weights` takes it: batch_first, options and so on.

    Returns
    -------
    LSTM
        The LSTM.

    Raises
    ------
    TypeError
        Something is not an array, or libraries or dtypes differ.
    ValueError
        A name is unknown or missing, or a shape does not fit.
    """
    first = mapping
    while isinstance(first, (tuple, list)) and first:
        first = first[0]
    optimized = isinstance(first, Mapping) and any("dense_h" in name for name, _ in flatten(first))
    return _decoded(mapping, NNX_OPTIMIZED if optimized else NNX, settings)


def to_nnx(net: LSTM, *, optimized: bool = False) -> Any:
    """
    Return the parameters of Flax NNX's ``LSTMCell`` or ``OptimizedLSTMCell``, as `from_nnx` reads them.

    ``nnx.update(cell, nnx.State(parameters))`` sets them.

    Parameters
    ----------
    net : LSTM
        The LSTM. Two biases become their sum, which is the same function.
    optimized : bool, optional
        Whether they are for the ``OptimizedLSTMCell``.

    Returns
    -------
    dict or tuple
        The arrays by their names; of several layers or directions a tuple, as `from_nnx` takes it.

    Raises
    ------
    TypeError
        It is no LSTM.
    ValueError
        It has what this layout cannot express: layer norm, a projection, peepholes, `reverse` or options.
    """
    return _encoded(net, NNX_OPTIMIZED if optimized else NNX)


def from_tf1(mapping: Any, *, forget_bias: float = 1.0, **settings: Any) -> LSTM:
    """
    Make an LSTM of the variables of a TensorFlow 1 LSTM.

    That is, of ``BasicLSTMCell``, ``LSTMCell``, ``LSTMBlockCell`` or ``LSTMBlockFusedCell``.

    Parameters
    ----------
    mapping : mapping of str to array, or sequence of layers
        ``kernel`` (input_size + hidden_size, 4*hidden_size) in the gate order i, g, f, o, ``bias`` (4*hidden_size,),
        and where they are there ``w_i_diag``, ``w_f_diag``, ``w_o_diag`` (hidden_size,), the peepholes, and
        ``projection/kernel`` (hidden_size, proj_size), as NumPy's arrays. What comes before the names does not matter.
        For several layers or directions, a sequence of layers from the input up, each the mapping of a cell or a pair
        of them (forward, backward).
    forget_bias : float, optional
        What the cell was made with. It is added to the forget gate as TensorFlow runs, and becomes the second bias,
        ``bias_hh = (0, forget_bias, 0, 0)``.
    **settings
        What the arrays do not say, as `LSTM.from_weights` takes it: ``cell_clip`` is ``CellOptions(clip_cell=...)``,
        ``proj_clip`` is ``CellOptions(clip_proj=...)``.

    Returns
    -------
    LSTM
        The LSTM.

    Raises
    ------
    TypeError
        Something is not an array, or libraries or dtypes differ.
    ValueError
        A name is unknown or missing, or a shape does not fit.
    """
    return _decoded(mapping, replace(TF1, forget_bias=forget_bias), settings)


def to_tf1(net: LSTM, *, forget_bias: float = 1.0) -> Any:
    """
    Return the variables of a TensorFlow 1 LSTM, as `from_tf1` reads them.

    Parameters
    ----------
    net : LSTM
        The LSTM. Two biases become their sum, less the forget bias: exactly if `from_tf1` put it there.
    forget_bias : float, optional
        What the cell is made with.

    Returns
    -------
    dict or tuple
        The arrays by their names; of several layers or directions a tuple, as `from_tf1` takes it.

    Raises
    ------
    TypeError
        It is no LSTM.
    ValueError
        It has what the variables cannot express: layer norm, `reverse` or options.
    """
    return _encoded(net, replace(TF1, forget_bias=forget_bias))


def from_webnn(mapping: Any, *, layout: str = "iofg", **settings: Any) -> LSTM:
    """
    Make an LSTM of the operands of WebNN's ``lstm``.

    With peepholes it is one with ``peephole_output="old"``, as the specification has it.

    Parameters
    ----------
    mapping : mapping of str to array, or sequence of mappings
        ``weight`` (num_directions, 4*hidden_size, input_size), ``recurrentWeight`` (num_directions, 4*hidden_size,
        hidden_size), and where they are there ``bias`` and ``recurrentBias`` (num_directions, 4*hidden_size) and
        ``peepholeWeight`` (num_directions, 3*hidden_size), in the order i, o, f. For several layers a sequence of
        mappings, from the input up.
    layout : {"iofg", "ifgo"}, optional
        The gate order, as in ``MLLstmOptions``.
    **settings
        What the arrays do not say, as `LSTM.from_weights` takes it: batch_first, options and so on.

    Returns
    -------
    LSTM
        The LSTM.

    Raises
    ------
    TypeError
        Something is not an array, or libraries or dtypes differ.
    ValueError
        A name is unknown or missing, or a shape does not fit.
    """
    return _decoded(mapping, _webnn(layout), settings)


def to_webnn(net: LSTM, *, layout: str = "iofg") -> Any:
    """
    Return the operands of WebNN's ``lstm``, as `from_webnn` reads them.

    Parameters
    ----------
    net : LSTM
        The LSTM.
    layout : {"iofg", "ifgo"}, optional
        The gate order, as in ``MLLstmOptions``.

    Returns
    -------
    dict or tuple of dict
        The arrays by their names; of several layers a tuple.

    Raises
    ------
    TypeError
        It is no LSTM.
    ValueError
        It has what the operands cannot express: layer norm, a projection, `reverse` or options, or peepholes with the
        output gate looking at the new cell state.
    """
    return _encoded(net, _webnn(layout))


def _webnn(layout: str) -> Layout:
    """Return the row for one of WebNN's own names of layouts."""
    rows = {row.gates: row for row in (WEBNN, WEBNN_IFGO)}
    if layout not in rows:
        msg = f"`layout` is {layout!r}, expected 'iofg' or 'ifgo'"
        raise ValueError(msg)
    return rows[layout]


def from_chainer_nstep(mapping: Any, *, bidirectional: bool = False, **settings: Any) -> LSTM:
    """
    Make an LSTM of the parameters of Chainer's ``NStepLSTM`` or ``NStepBiLSTM``.

    Parameters
    ----------
    mapping : mapping of str to array
        ``0/w0`` to ``0/w3`` (hidden_size, input_size), ``0/w4`` to ``0/w7`` (hidden_size, hidden_size), ``0/b0`` to
        ``0/b7`` (hidden_size,), then ``1/w0`` and so on, as ``chainer.serializers.save_npz`` writes them. The gates
        are in the order i, f, g, o.
    bidirectional : bool, optional
        Whether they are an ``NStepBiLSTM``'s: the names do not tell layers from directions.
    **settings
        What the arrays do not say, as `LSTM.from_weights` takes it: batch_first, options and so on.

    Returns
    -------
    LSTM
        The LSTM.

    Raises
    ------
    TypeError
        Something is not an array, or libraries or dtypes differ.
    ValueError
        A name is unknown or missing, or a shape does not fit.
    """
    return _decoded(mapping, CHAINER_NSTEP, settings, num_directions=1 + bidirectional)


def to_chainer_nstep(net: LSTM) -> dict[str, Array]:
    """
    Return the parameters of Chainer's ``NStepLSTM`` or ``NStepBiLSTM``, as `from_chainer_nstep` reads them.

    Parameters
    ----------
    net : LSTM
        The LSTM. A bias that is missing becomes zeros.

    Returns
    -------
    dict of str to array
        The arrays by their names.

    Raises
    ------
    TypeError
        It is no LSTM.
    ValueError
        It has what this layout cannot express: layer norm, a projection, peepholes, `reverse` or options.
    """
    parameters: dict[str, Array] = _encoded(net, CHAINER_NSTEP)
    return parameters


def from_onnx(mapping: Any, attributes: Mapping[str, Any] | None = None, **settings: Any) -> LSTM:
    """
    Make an LSTM of the tensors of ONNX LSTM nodes.

    Parameters
    ----------
    mapping : mapping of str to array, or sequence of mappings
        ``W`` (num_directions, 4*hidden_size, input_size) in the gate order i, o, f, g, ``R`` (num_directions,
        4*hidden_size, hidden_size), and where they are there ``B`` (num_directions, 8*hidden_size), both biases one
        behind the other, and ``P`` (num_directions, 3*hidden_size), the peepholes in the order i, o, f. For several
        layers a sequence of mappings, from the input up.
    attributes : mapping, optional
        The nodes' attributes by their names, alike in all layers: ``direction``, ``activations`` and so on.
    **settings
        Further settings, as `LSTM.from_weights` takes them.

    Returns
    -------
    LSTM
        The LSTM.

    Raises
    ------
    TypeError
        Something is not an array, or libraries or dtypes differ.
    ValueError
        A name is unknown or missing, a shape does not fit, or an attribute cannot be expressed or does not go with
        the arrays.
    """
    given = {} if attributes is None else attributes
    found = settings_from_onnx(given)
    net = _decoded(mapping, ONNX, found | settings)
    if (size := given.get("hidden_size", net.hidden_size)) != net.hidden_size:
        msg = f"`hidden_size` is {size}, expected {net.hidden_size} as the arrays have it"
        raise ValueError(msg)
    if "direction" in given and net.bidirectional != (given["direction"] in ("bidirectional", b"bidirectional")):
        msg = f"`direction` is {given['direction']!r}, but the arrays have {1 + net.bidirectional} direction(s)"
        raise ValueError(msg)
    return net


def to_onnx(net: LSTM) -> Any:
    """
    Return the tensors of ONNX LSTM nodes, as `from_onnx` reads them.

    Parameters
    ----------
    net : LSTM
        The LSTM. What the tensors do not say, `reverse` and options, is in `onnx_attributes`.

    Returns
    -------
    dict or tuple of dict
        ``W``, ``R``, and where they are there ``B`` and ``P``; of several layers a tuple.

    Raises
    ------
    TypeError
        It is no LSTM.
    ValueError
        It has what ONNX cannot express: layer norm, a projection, or some of the options.
    """
    tensors = _encoded(net, ONNX, "reverse", "options")
    onnx_attributes(net)
    return tensors


def from_keras(weights: Any, config: Mapping[str, Any] | None = None, *, version: int = 3, **settings: Any) -> LSTM:
    """
    Make an LSTM of Keras layers or their weights.

    It is batch-first and holds its output at masked steps, as Keras does, unless `config` or `settings` say otherwise.
    With ``go_backwards`` its output is aligned with its input, where Keras's is reversed in time.

    Parameters
    ----------
    weights : Keras layer, list of array, mapping of str to array, or sequence of layers
        A layer (``LSTM``, ``LSTMCell``, ``Bidirectional``), which is asked for its weights and its configuration; or
        what its ``get_weights()`` returns: ``kernel`` (input_size, 4*hidden_size), ``recurrent_kernel`` (hidden_size,
        4*hidden_size) and, unless there is none, ``bias`` (4*hidden_size,), for two directions one behind the other; or
        the arrays by these names. The gates are in the order i, f, g, o. For several layers a sequence of any of these,
        from the input up.
    config : mapping, optional
        What ``layer.get_config()`` returns, alike in all layers: activations, direction, masking.
    version : int, optional
        The major version of Keras that wrote `config`: before Keras 3 the slope of ``hard_sigmoid`` was 0.2, not 1/6.
    **settings
        Further settings, as `LSTM.from_weights` takes them.

    Returns
    -------
    LSTM
        The LSTM. A recurrent dropout, which Keras has in training alone, is left out.

    Raises
    ------
    TypeError
        Something is not an array, or libraries or dtypes differ.
    ValueError
        A name is unknown or missing, a shape does not fit, or the configuration says something that cannot be
        expressed: a `merge_mode` other than "concat", another activation, layers that differ.
    """
    several = isinstance(weights, (tuple, list)) and not all(hasattr(each, "shape") for each in weights)
    layers = list(weights) if several else [weights]
    configs = [layer.get_config() if hasattr(layer, "get_config") else config or {} for layer in layers]
    found = [settings_from_keras(each, version=version) for each in configs]
    for k, each in enumerate(found):
        if each != found[0]:
            msg = f"layer {k} has the settings {each}, expected {found[0]} as layer 0"
            raise ValueError(msg)
    if found[0]["reverse"] and len(layers) > 1:
        msg = "`go_backwards` is True in several layers, each of which would undo what the one below did; expected one"
        raise ValueError(msg)
    cells = [_keras_cells(layer) for layer in layers]
    return _decoded(cells if several or isinstance(cells[0], list) else cells[0], KERAS, found[0] | settings)


def _keras_cells(layer: Any) -> Any:
    """Return the cell of a Keras layer, or a pair of them, by its names."""
    if hasattr(layer, "get_weights"):
        layer = layer.get_weights()
    if not isinstance(layer, (tuple, list)) or not all(hasattr(array, "shape") for array in layer):
        return layer
    count = {2: 2, 3: 3, 4: 2, 6: 3}.get(len(layer))
    if count is None:
        msg = f"`weights` is {describe(layer)}, expected 2 or 3 arrays for each direction"
        raise ValueError(msg)
    cells = [dict(zip(KERAS_NAMES, layer[k : k + count], strict=False)) for k in range(0, len(layer), count)]
    return cells[0] if len(cells) == 1 else cells


KERAS_NAMES = ("kernel", "recurrent_kernel", "bias")


def to_keras(net: LSTM) -> Any:
    """
    Return the weights of Keras layers, as ``layer.set_weights`` takes them.

    Parameters
    ----------
    net : LSTM
        The LSTM. Two biases become their sum, which is the same function. What the arrays do not say is in
        `keras_config`.

    Returns
    -------
    list of array, or tuple of lists
        ``[kernel, recurrent_kernel, bias]``, for two directions (a ``Bidirectional``) six of them; of several layers a
        tuple of such lists.

    Raises
    ------
    TypeError
        It is no LSTM.
    ValueError
        It has what Keras cannot express: layer norm, a projection, peepholes, some of the options, or several layers
        that run backward.
    """
    check_expressible(net, KERAS, ("reverse", "options"))
    check_keras_directions(net)
    for options in options_by_direction(net.options, 1 + net.bidirectional):
        keras_activations(options)
    layers = [[list(encode(((cell,),), KERAS).values()) for cell in layer] for layer in net.weights]
    lists = tuple([array for cell in layer for array in cell] for layer in layers)
    return lists[0] if len(lists) == 1 else lists


def from_cudnn(
    vector: Array,
    input_size: int,
    hidden_size: int,
    num_layers: int = 1,
    bias: bool = True,
    bidirectional: bool = False,
    **settings: Any,
) -> LSTM:
    """
    Make an LSTM of one vector of parameters, in the order that cuDNN's users have.

    These are ``jax.experimental.rnn`` and MXNet's ``RNN`` operator: for each layer, and in it for each direction, the
    input weights and the recurrent weights, gates in the order i, f, g, o; behind them all, so again, both biases.

    Parameters
    ----------
    vector : array, shape (num_parameters,)
        The parameters.
    input_size, hidden_size, num_layers, bias, bidirectional
        As in `LSTM`: a vector does not tell them.
    **settings
        Further settings, as `LSTM.from_weights` takes them.

    Returns
    -------
    LSTM
        The LSTM.

    Raises
    ------
    TypeError
        It is not an array of real floating numbers.
    ValueError
        It has another length.
    """
    sizes = Sizes(input_size, hidden_size, num_layers, 1 + bidirectional, 0)
    return _decoded(_cut(vector, CUDNN, sizes, bias=bias), CUDNN, settings)


def to_cudnn(net: LSTM) -> Array:
    """
    Return the parameters as one vector, as `from_cudnn` reads it.

    Parameters
    ----------
    net : LSTM
        The LSTM. If it has one bias, the other becomes zeros.

    Returns
    -------
    array, shape (num_parameters,)
        The parameters.

    Raises
    ------
    TypeError
        It is no LSTM.
    ValueError
        It has what the vector cannot express: layer norm, a projection, peepholes, `reverse` or options.
    """
    return _join(net, CUDNN)


def from_thinc(
    vector: Array, input_size: int, hidden_size: int, num_layers: int = 1, bidirectional: bool = False, **settings: Any
) -> LSTM:
    """
    Make an LSTM of Thinc's one vector of parameters.

    Its parameter ``HC0``, the initial state, is no part of it.

    Parameters
    ----------
    vector : array, shape (num_parameters,)
        The parameter ``LSTM``: for each layer, and in it for each direction, input weights, bias, recurrent weights,
        bias, gates in the order f, i, o, g.
    input_size, hidden_size, num_layers, bidirectional
        As in `LSTM`: a vector does not tell them. Here `hidden_size` is that of one direction.
    **settings
        Further settings, as `LSTM.from_weights` takes them.

    Returns
    -------
    LSTM
        The LSTM.

    Raises
    ------
    TypeError
        It is not an array of real floating numbers.
    ValueError
        It has another length.
    """
    sizes = Sizes(input_size, hidden_size, num_layers, 1 + bidirectional, 0)
    return _decoded(_cut(vector, THINC, sizes), THINC, settings)


def to_thinc(net: LSTM) -> Array:
    """
    Return the parameters as one vector, as `from_thinc` reads it.

    Parameters
    ----------
    net : LSTM
        The LSTM. A bias that is missing becomes zeros.

    Returns
    -------
    array, shape (num_parameters,)
        The parameters.

    Raises
    ------
    TypeError
        It is no LSTM.
    ValueError
        It has what the vector cannot express: layer norm, a projection, peepholes, `reverse` or options.
    """
    return _join(net, THINC)


def _places(layout: Layout, sizes: Sizes) -> Iterator[tuple[str, Shape]]:
    """Yield the names and shapes of the arrays that lie in a vector, in their order."""
    for group in layout.vector:
        for k, d, field in product(range(sizes.num_layers), range(sizes.num_directions), group):
            yield state_dict_name(field, k, d), cell_shapes(sizes, k)[field]


def _cut(vector: Array, layout: Layout, sizes: Sizes, *, bias: bool = True) -> dict[str, Array]:
    """Return the arrays that lie in a vector, by their names."""
    xp = array_namespace(vector, "vector")
    places = [(name, shape.sizes) for name, shape in _places(layout, sizes) if bias or not name.startswith("bias")]
    edges = list(accumulate((prod(shape) for _, shape in places), initial=0))
    check_shape(vector, "vector", Shape((edges[-1],), "(num_parameters,)"))
    return {
        name: xp.reshape(vector[start:stop], shape)
        for (name, shape), (start, stop) in zip(places, pairwise(edges), strict=True)
    }


def _join(net: LSTM, layout: Layout) -> Array:
    """Return all arrays in one vector."""
    arrays = _encoded(net, layout)
    xp = array_namespace(net.weights[0][0].weight_ih, "weight_ih")
    sizes = Sizes(net.input_size, net.hidden_size, net.num_layers, 1 + net.bidirectional, net.proj_size)
    return xp.concat([xp.reshape(arrays[name], (-1,)) for name, _ in _places(layout, sizes) if name in arrays])
