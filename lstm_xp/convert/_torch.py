"""PyTorch's modules and packed sequences. torch is imported here only when something is made for it."""

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lstm_xp._checks import describe
from lstm_xp._lstm import LSTM
from lstm_xp._namespace import array_namespace, library_name
from lstm_xp._typing import Array
from lstm_xp.convert._codec import check_expressible, decode, encode
from lstm_xp.convert._layouts import TORCH, TORCH_CELL

if TYPE_CHECKING:
    import torch


def from_torch(module: "torch.nn.Module | Mapping[str, Array]", **settings: Any) -> LSTM:
    """
    Make an LSTM of a `torch.nn.LSTM` or `torch.nn.LSTMCell`.

    The tensors are not copied: what changes the module's weights in place changes the LSTM's. They are detached; for
    gradients see `LSTM.from_state_dict`, given the module's ``named_parameters()``.

    Parameters
    ----------
    module : torch.nn.Module or mapping of str to array
        The module; or the arrays of its state dict, of whatever library. What comes before the names does not matter.
    **settings
        Settings as `LSTM.from_weights` takes them. A module tells ``batch_first`` and ``dropout`` itself.

    Returns
    -------
    LSTM
        The LSTM.

    Raises
    ------
    TypeError
        It is neither, or libraries or dtypes differ.
    ValueError
        A name is unknown or missing, or a shape does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> import lstm_xp as lx
    >>> lx.convert.from_torch({"weight_ih_l0": np.ones((16, 5)), "weight_hh_l0": np.ones((16, 4))})
    LSTM(5, 4, bias=False)
    """
    arrays = module
    if not isinstance(module, Mapping):
        torch = sys.modules.get("torch")
        if torch is None or not isinstance(module, (torch.nn.LSTM, torch.nn.LSTMCell)):
            msg = f"`module` is {describe(module)}, expected a torch.nn.LSTM, a torch.nn.LSTMCell or a state dict"
            raise TypeError(msg)
        arrays = module.state_dict()
        settings = {
            name: getattr(module, name) for name in ("batch_first", "dropout") if hasattr(module, name)
        } | settings
    cell = any(name.rpartition(".")[2] == "weight_hh" for name in arrays)
    return LSTM.from_weights(decode(arrays, TORCH_CELL if cell else TORCH), **settings)


def to_torch(net: LSTM, *, cell: bool = False) -> "torch.nn.LSTM | torch.nn.LSTMCell":
    """
    Return a `torch.nn.LSTM` or `torch.nn.LSTMCell` with these weights.

    Parameters
    ----------
    net : LSTM
        The LSTM. Its weights are copied, those of other libraries to the CPU. Torch has both biases or none: one that
        is missing becomes zeros. How masked outputs look (masked_output) is no part of a module.
    cell : bool, optional
        Return an `torch.nn.LSTMCell`, of one layer in one direction.

    Returns
    -------
    torch.nn.LSTM or torch.nn.LSTMCell
        The module, in eval mode: its `dropout` has no effect until ``train()`` is called.

    Raises
    ------
    TypeError
        It is no LSTM, or torch does not have its dtype.
    ValueError
        It has what torch cannot express: layer norm, peepholes, `reverse` or options, or in a cell several layers, two
        directions or a projection.
    """
    import torch

    layout = TORCH_CELL if cell else TORCH
    check_expressible(net, layout)
    if cell and (net.num_layers > 1 or net.bidirectional):
        msg = f"`net` has {net.num_layers} layer(s) and {1 + net.bidirectional} direction(s), expected one of each"
        raise ValueError(msg)
    own = library_name(array_namespace(net.weights[0][0].weight_ih, "weight_ih")) == "torch"
    copy = net.to(None if own else torch, detach=True)
    arrays = encode(copy.weights, layout)
    first = arrays["weight_hh" if cell else "weight_hh_l0"]
    # On no device first, so that no random numbers are drawn: torch's own generator stays where it is.
    where = {"bias": net.bias, "device": "meta", "dtype": first.dtype}
    if cell:
        module: torch.nn.LSTM | torch.nn.LSTMCell = torch.nn.LSTMCell(net.input_size, net.hidden_size, **where)
    else:
        module = torch.nn.LSTM(
            net.input_size,
            net.hidden_size,
            net.num_layers,
            batch_first=net.batch_first,
            dropout=net.dropout,
            bidirectional=net.bidirectional,
            proj_size=net.proj_size,
            **where,
        )
    module.to_empty(device=first.device)
    module.load_state_dict(arrays)
    return module.eval()


def from_packed(packed: "torch.nn.utils.rnn.PackedSequence", *, batch_first: bool = False) -> tuple[Array, Array]:
    """
    Return the input and the lengths that stand for a packed sequence of torch.

    Parameters
    ----------
    packed : torch.nn.utils.rnn.PackedSequence
        The packed sequence, sorted or not.
    batch_first : bool, optional
        Whether the input shall be (batch, time, features).

    Returns
    -------
    x : array, shape (time, batch, input_size)
        The input, padded with zeros, its batch in the order from before packing.
    lengths : array, shape (batch,)
        How many steps of each row are valid, on the input's device.

    Raises
    ------
    TypeError
        It is no packed sequence.
    """
    from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

    if not isinstance(packed, PackedSequence):
        msg = f"`packed` is {describe(packed)}, expected a torch.nn.utils.rnn.PackedSequence"
        raise TypeError(msg)
    x, lengths = pad_packed_sequence(packed, batch_first=batch_first)
    return x, lengths.to(x.device)
