"""`Noise`: the masks of dropout and of what is like it, drawn once, outside of whatever is compiled or differentiated."""

from __future__ import annotations

from typing import NamedTuple

from lstm_xp._typing import Array


class Noise(NamedTuple):
    """
    The masks that regularise an LSTM while it is trained, as arrays. A pytree.

    `draw_noise` makes them; whoever wants others makes them otherwise. All are of x's library, dtype and device. They
    begin with the time whatever `batch_first` says, and have no batch axis where x has none. Factors are 0 or, where a
    number was not dropped, 1/(1 - rate).

    Parameters
    ----------
    inputs : array, shape (time or 1, batch, input_size), or None
        Factors on the input: one mask over time (variational dropout, Gal and Ghahramani [1]_), or one for each step.
    between : array, shape (num_layers - 1, time or 1, batch, num_directions*(proj_size or hidden_size)), or None
        Factors on what a layer hands to the next one: one for each step is the dropout of `torch.nn.LSTM`.
    hidden : array, shape (num_layers*num_directions, batch, proj_size or hidden_size), or None
        Factors on the hidden state where `weight_hh` reads it, one mask over time: the variational dropout of the
        recurrent state [1]_, the `recurrent_dropout` of Keras.
    zoneout_h : array, shape (num_layers*num_directions, time, batch, proj_size or hidden_size), or None
        The share of the old hidden state that stays (zoneout, Krueger et al. [2]_): 0 or 1; the rate, for all alike, is
        its expectation, for inference.
    zoneout_c : array, shape (num_layers*num_directions, time, batch, hidden_size), or None
        The share of the old cell state that stays.
    weight_hh : array, shape (num_layers*num_directions, 4*hidden_size, proj_size or hidden_size), or None
        Factors on the recurrent weights (DropConnect, as Merity, Keskar and Socher [3]_ use it).

    References
    ----------
    .. [1] Y. Gal, Z. Ghahramani, "A theoretically grounded application of dropout in recurrent neural networks", 2015,
       https://arxiv.org/abs/1512.05287.
    .. [2] D. Krueger et al., "Zoneout: regularizing RNNs by randomly preserving hidden activations", 2016,
       https://arxiv.org/abs/1606.01305.
    .. [3] S. Merity, N. S. Keskar, R. Socher, "Regularizing and optimizing LSTM language models", 2017,
       https://arxiv.org/abs/1708.02182.
    """

    inputs: Array | None = None
    between: Array | None = None
    hidden: Array | None = None
    zoneout_h: Array | None = None
    zoneout_c: Array | None = None
    weight_hh: Array | None = None
