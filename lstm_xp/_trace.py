"""`trace`: a look inside, at every gate and every state of every step."""

from typing import Any, NamedTuple, TypeAlias

from lstm_xp import engines
from lstm_xp._cell import Moment
from lstm_xp._noise import Noise
from lstm_xp._options import CellOptions, Options
from lstm_xp._sequence import Call, Settings, make_request
from lstm_xp._typing import Array
from lstm_xp._weights import Network, Weights, read_network
from lstm_xp.engines._request import MaskedOutput

# [layer][direction]
ByLayer: TypeAlias = tuple[tuple[Array, ...], ...]


class Trace(NamedTuple):
    """
    What went into an LSTM, what came out, and what was in between. A pytree.

    The fields h to o are indexed ``[layer][direction]``, direction 1 being backward in time; each is laid out as the
    input and timed like it, and None where it was not kept. At a step that is not valid, h and c are the state that
    stays as it was, and the gates are 0.

    Parameters
    ----------
    x : array, shape (time, batch, input_size)
        The input as it was given; (batch, time, input_size) with `batch_first`, (time, input_size) without a batch.
    output : array, shape (time, batch, num_directions*(proj_size or hidden_size))
        As `lstm` returns it.
    state : tuple of two arrays
        ``(h_n, c_n)``, as `lstm` returns them.
    h : tuple of tuple of array, shape (time, batch, proj_size or hidden_size), or None
        The hidden states.
    c : tuple of tuple of array, shape (time, batch, hidden_size), or None
        The cell states, as they are carried on. The last is that of `state`, on torch up to rounding.
    i, f, g, o : tuple of tuple of array, shape (time, batch, hidden_size), or None
        Input gate, forget gate, candidate and output gate, after their activations.
    """

    x: Array
    output: Array
    state: tuple[Array, Array]
    h: ByLayer | None = None
    c: ByLayer | None = None
    i: ByLayer | None = None
    f: ByLayer | None = None
    g: ByLayer | None = None
    o: ByLayer | None = None


def trace(
    x: Array,
    weights: Weights,
    state: tuple[Any, Any] | None = None,
    *,
    lengths: Any | None = None,
    mask: Any | None = None,
    masked_output: MaskedOutput = "zero",
    reset: Any | None = None,
    noise: Noise | None = None,
    reverse: bool = False,
    batch_first: bool = False,
    options: Options = CellOptions(),
    engine: str = "auto",
    threads: int = 1,
    keep: tuple[str, ...] = Moment._fields,
) -> Trace:
    """
    Run an LSTM over sequences and keep what is inside: gates, cell states and hidden states of every layer.

    Parameters
    ----------
    x, weights, state, lengths, mask, masked_output, reset, noise, reverse, batch_first, options, engine, threads
        As in `lstm`.
    keep : tuple of str, optional
        What to keep, of ``"h"``, ``"c"``, ``"i"``, ``"f"``, ``"g"``, ``"o"``. Cell and hidden states cost little but on
        torch, whose kernel does not tell them; all may need another engine, as `select_engine` says.

    Returns
    -------
    Trace
        All of it.

    Raises
    ------
    TypeError, ValueError
        As in `lstm`, or `keep` has a name that is none of these.

    Examples
    --------
    >>> import numpy as np
    >>> import lstm_xp as lx
    >>> net = lx.LSTM(5, 4, num_layers=2, bidirectional=True, seed=0)
    >>> trace = lx.trace(np.ones((7, 3, 5), np.float32), net.weights)
    >>> trace.c[1][0].shape  # of the second layer, forward
    (7, 3, 4)
    >>> bool(np.all(trace.c[1][0][-1] == trace.state[1][2]))
    True
    """
    settings = Settings(batch_first=batch_first, masked_output=masked_output, reverse=reverse, options=options)
    call = Call(x, state, lengths, mask, reset, noise, engine, threads)
    return run_trace(read_network(weights), settings, call, keep)


def run_trace(network: Network, settings: Settings, call: Call, keep: tuple[str, ...]) -> Trace:
    """Do what `trace` does, with weights that were already checked."""
    request, layout = make_request(network, settings, call, keep)
    result = engines.run(request, engines.choose(request, call.engine).name)
    output, state = layout.restore(result, request.xp)
    kept = {
        name: tuple(tuple(layout.restore_sequence(array, request.xp) for array in layer) for layer in layers)
        for name, layers in (result.trace or {}).items()
    }
    return Trace(call.x, output, state, **kept)
