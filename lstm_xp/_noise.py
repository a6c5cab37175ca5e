"""`Noise`: the masks of dropout and of what is like it, drawn outside of whatever is compiled or differentiated."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lstm_xp._checks import Shape, describe, integer, real_number
from lstm_xp._namespace import device_of, dtype_name, is_tracer
from lstm_xp._transfer import from_numpy
from lstm_xp._typing import Array

if TYPE_CHECKING:
    from lstm_xp._lstm import LSTM
    from lstm_xp._weights import Sizes


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
        recurrent state [1]_, with tied weights; Keras's `recurrent_dropout` has a mask for each gate.
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

    @property
    def is_recurrent(self) -> bool:
        """Whether there is any on the recurrent state, which a loop over time has to know of."""
        return any(array is not None for array in (self.hidden, self.zoneout_h, self.zoneout_c))


def noise_shapes(sizes: Sizes, time: int, batch: int | None) -> dict[str, Shape]:
    """
    Return the shapes of `Noise`.

    Parameters
    ----------
    sizes : Sizes
        The network's sizes.
    time : int
        The number of time steps.
    batch : int or None
        The number of rows; None without a batch.

    Returns
    -------
    dict
        For each field, in their order, the shape that it has if it is there.
    """
    rows = sizes.num_layers * sizes.num_directions
    n, symbol = ((), "") if batch is None else ((batch,), "batch, ")
    out, hidden, name = sizes.output_size, sizes.hidden_size, sizes.output_symbol
    all_rows = "num_layers*num_directions"
    return {
        "inputs": Shape((time, *n, sizes.input_size), f"(time or 1, {symbol}input_size)", slice(0, 1)),
        "between": Shape(
            (sizes.num_layers - 1, time, *n, sizes.num_directions * out),
            f"(num_layers - 1, time or 1, {symbol}num_directions*{name})",
            slice(1, 2),
        ),
        "hidden": Shape((rows, *n, out), f"({all_rows}, {symbol}{name})"),
        "zoneout_h": Shape((rows, time, *n, out), f"({all_rows}, time, {symbol}{name})"),
        "zoneout_c": Shape((rows, time, *n, hidden), f"({all_rows}, time, {symbol}hidden_size)"),
        "weight_hh": Shape((rows, 4 * hidden, out), f"({all_rows}, 4*hidden_size, {name})"),
    }


def draw_noise(
    net: LSTM,
    rng: np.random.Generator,
    time: int,
    batch: int | None,
    *,
    dropout: float | None = None,
    inputs: float = 0.0,
    hidden: float = 0.0,
    zoneout_h: float = 0.0,
    zoneout_c: float = 0.0,
    weight_hh: float = 0.0,
    variational: bool = False,
) -> Noise:
    """
    Draw masks for one training step: dropout, variational dropout, zoneout and DropConnect.

    Draw them outside of what `jax.jit` compiles, and pass them in: inside they would be drawn once, when it is traced,
    and be the same at every call.

    Parameters
    ----------
    net : LSTM
        The LSTM that they are for: its sizes, its library, its dtype and device.
    rng : numpy.random.Generator
        What draws: from the same state the same masks in every library and dtype.
    time : int
        The number of time steps.
    batch : int or None
        The number of rows; None without a batch axis.
    dropout : float, optional
        The rate at which numbers between layers are dropped, as `torch.nn.LSTM` does; `net.dropout` if absent.
    inputs : float, optional
        The rate at which features of the input are dropped, each for all time steps.
    hidden : float, optional
        The rate at which numbers of the recurrent state are dropped, each for all time steps.
    zoneout_h, zoneout_c : float, optional
        The rate at which numbers of the hidden and of the cell state stay what they were.
    weight_hh : float, optional
        The rate at which recurrent weights are dropped.
    variational : bool, optional
        Whether what is dropped between layers is dropped for all time steps.

    Returns
    -------
    Noise
        The masks; None where a rate is 0.

    Raises
    ------
    TypeError, ValueError
        An argument is not what it has to be; a rate is not from 0 to 1, or is 1 where all would be dropped.

    Examples
    --------
    >>> import numpy as np
    >>> import lstm_xp as lx
    >>> net = lx.LSTM(5, 4, num_layers=2, dropout=0.5, seed=0)
    >>> noise = lx.draw_noise(net, np.random.default_rng(0), 7, 3, hidden=0.25)
    >>> noise.between.shape, noise.hidden.shape
    ((1, 7, 3, 4), (2, 3, 4))
    >>> output, state = net(np.ones((7, 3, 5), np.float32), noise=noise)
    """
    if not hasattr(net, "_network"):
        msg = f"`net` is {describe(net)}, expected LSTM"
        raise TypeError(msg)
    if not isinstance(rng, np.random.Generator):
        msg = f"`rng` is {describe(rng)}, expected numpy.random.Generator"
        raise TypeError(msg)
    if not isinstance(variational, bool):
        msg = f"`variational` is {variational!r}, expected True or False"
        raise TypeError(msg)
    time, batch = integer(time, "time", 1), None if batch is None else integer(batch, "batch", 0)
    rates = {
        "inputs": inputs,
        "between": net.dropout if dropout is None else dropout,
        "hidden": hidden,
        "zoneout_h": zoneout_h,
        "zoneout_c": zoneout_c,
        "weight_hh": weight_hh,
    }
    for name, rate in rates.items():
        _check_rate(
            rate, "dropout" if name == "between" else name, with_one=name in ("between", "zoneout_h", "zoneout_c")
        )
    network = net._network
    like = network.first_array
    if is_tracer(1.0 * like[:1, :1]):  # whatever is computed is a tracer where JAX is tracing
        msg = "JAX is tracing a function: masks that are drawn there are the same at every call, pass them in"
        raise TypeError(msg)

    def draw(name: str, rate: float, shape: tuple[int, ...]) -> Array:
        stays = name.startswith("zoneout")
        # Of zeros and ones: in every dtype the same.
        share = float(rate)
        drawn = rng.random(shape) < share
        factors = drawn * 1.0 if stays else ~drawn / max(1.0 - share, math.ulp(0.0))
        return from_numpy(factors, network.xp, dtype=dtype_name(like.dtype), device=device_of(like))

    arrays = []
    for name, shape in noise_shapes(network.sizes, time, batch).items():
        sizes = list(shape.sizes)
        if name == "inputs" or (name == "between" and variational):
            sizes[shape.batch] = [1]
        nothing = rates[name] == 0 or (name == "between" and network.sizes.num_layers == 1)
        arrays.append(None if nothing else draw(name, rates[name], tuple(sizes)))
    return Noise(*arrays)


def _check_rate(value: float, name: str, *, with_one: bool) -> None:
    """Refuse what is no rate; 1 is one only where that is allowed."""
    expected = f"a number from 0 to 1{'' if with_one else ', less than 1'}"
    rate = real_number(value, name, expected)
    if not 0 <= rate <= 1 or (rate == 1 and not with_one):
        msg = f"`{name}` is {value!r}, expected {expected}"
        raise ValueError(msg)
