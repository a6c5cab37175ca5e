"""`lstm_vjp`: training without autodiff. What `lstm` computes, and the way back."""

from collections.abc import Callable
from typing import Any, TypeAlias

from lstm_xp import engines
from lstm_xp._cell import make_step, project_input, read_cell_call, zero_state
from lstm_xp._cell_vjp import make_cell_vjp
from lstm_xp._checks import Shape, check_like, check_shape, describe, integer
from lstm_xp._namespace import accepted_libraries, join, without_autocast, without_recording
from lstm_xp._noise import Noise
from lstm_xp._options import CellOptions, Options
from lstm_xp._sequence import Call, Layout, Settings, make_request
from lstm_xp._typing import Array, ArrayT, Namespace
from lstm_xp._weights import CellWeights, Layers, Network, Weights, read_network
from lstm_xp.engines import Cotangents, Gradients, Request
from lstm_xp.engines._request import MaskedOutput, times_weight_hh

# pullback(d_output, (d_h_n, d_c_n)) -> (dx, dweights, (dh_0, dc_0))
Pullback: TypeAlias = Callable[..., tuple[Any, Any, tuple[Any, Any]]]


def lstm_vjp(
    x: ArrayT,
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
    remat: int | None = None,
) -> tuple[tuple[ArrayT, tuple[ArrayT, ArrayT]], Pullback]:
    """
    Run an LSTM over sequences, and be ready to go back: backpropagation through time, on any library.

    It returns what `lstm` returns, and a pullback: a function from the derivatives of a loss by the results to those by
    the arguments, a vector-Jacobian product. The library need not differentiate by itself.

    Parameters
    ----------
    x, weights, state, lengths, mask, masked_output, reset, noise, reverse, batch_first, options, engine, threads
        As in `lstm`.
    remat : int, optional
        Keep of the forward pass only the states after every so many time steps, and run the steps between two of them
        again on the way back. That bounds the memory for long sequences, at the price of one more forward pass; with
        two directions, the outputs of each layer are kept, too. Neither with `reset` nor with
        ``masked_output="hold"``.

    Returns
    -------
    result : tuple
        What `lstm` returns: ``output, (h_n, c_n)``.
    pullback : callable
        ``pullback(d_output, (d_h_n, d_c_n)) -> (dx, dweights, (dh_0, dc_0))``. Its arguments are the derivatives of a
        loss by the results, in their shapes; each may be None, which is zeros. So may the pair, which may be left out.
        It returns those by `x`, `weights` and `state`, in their shapes; `dweights` is nested as `weights`, None where a
        weight is None. Without a state, those by the zeros that stand for it. It may be called several times.

    Raises
    ------
    TypeError, ValueError
        As in `lstm`; or `remat` is no positive integer, or does not go with the other arguments. The pullback raises
        them if its arguments do not fit.

    Notes
    -----
    What is given is kept, not copied: until the way back nothing may be written into it.

    The equations stand in `lstm_xp._cell_vjp`. The engine ``"standard"`` follows them on every library; those for NumPy
    have their own code for them; JAX and torch differentiate their own. On torch all that is returned is detached from
    autograd, but under `torch.func`'s transforms: there one differentiates `lstm` itself, or, where the kernel cannot
    go, takes ``engine="bptt"``. On JAX a step is best compiled as a whole, by `jax.jit`.

    Examples
    --------
    >>> import numpy as np
    >>> import lstm_xp as lx
    >>> net = lx.LSTM(input_size=5, hidden_size=4, seed=0)
    >>> (output, (h_n, c_n)), pullback = lx.lstm_vjp(np.ones((7, 3, 5), np.float32), net.weights)
    >>> dx, dweights, (dh_0, dc_0) = pullback(output)  # of half the sum of the squares of all outputs
    >>> dx.shape, dweights[0][0].weight_hh.shape, dh_0.shape
    ((7, 3, 5), (16, 4), (1, 3, 4))
    """
    settings = Settings(batch_first=batch_first, masked_output=masked_output, reverse=reverse, options=options)
    call = Call(x, state, lengths, mask, reset, noise, engine, threads)
    return run_vjp(read_network(weights), settings, call, remat, weights)


def lstm_cell_vjp(
    x: ArrayT,
    weights: CellWeights,
    state: tuple[Any, Any] | None = None,
    *,
    options: CellOptions = CellOptions(),
    xp: Namespace | None = None,
) -> tuple[tuple[ArrayT, ArrayT], Pullback]:
    """
    Run one step of one LSTM cell, and be ready to go back.

    Parameters
    ----------
    x, weights, state, options, xp
        As in `lstm_cell`.

    Returns
    -------
    result : tuple of two arrays
        What `lstm_cell` returns: ``h, c``.
    pullback : callable
        ``pullback(d_h, d_c) -> (dx, dweights, (dh_0, dc_0))``, as that of `lstm_vjp`: from the derivatives of a loss by
        the new state, of which each may be None, to those by the arguments, in their shapes.

    Raises
    ------
    TypeError, ValueError
        As in `lstm_cell`. The pullback raises them if its arguments do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> import lstm_xp as lx
    >>> (weights,) = lx.LSTM(input_size=5, hidden_size=4, seed=0).weights[0]
    >>> (h, c), pullback = lx.lstm_cell_vjp(np.ones((3, 5), np.float32), weights)
    >>> dx, dweights, (dh_0, dc_0) = pullback(h, c)
    >>> dx.shape, dweights.bias_ih.shape
    ((3, 5), (16,))
    """
    own_xp, given = read_cell_call(x, weights, state, options, xp)
    with without_autocast(x), without_recording(x):
        z = project_input(x, weights, options, own_xp)
        start = zero_state(z, weights, own_xp) if given is None else given
        h, c, *gates = make_step(weights, options, own_xp)(z, start)

    def pullback(d_h: Any = None, d_c: Any = None) -> tuple[Array, CellWeights, tuple[Array, Array]]:
        libraries = None if xp is not None else accepted_libraries(x, own_xp)
        ends = []
        for name, d, like in (("d_h", d_h, h), ("d_c", d_c, c)):
            if d is not None:
                check_like(d, name, x, "x", libraries)
                check_shape(d, name, Shape(tuple(like.shape), "that of the result"))
            ends.append(own_xp.zeros_like(like) if d is None else join(d, own_xp))
        with without_autocast(x), without_recording(x):
            # With a batch axis, over which sums are taken.
            wide = (a + own_xp.zeros_like(like) for a, like in zip(start, (h, c), strict=True))
            row, h_0, c_0, d_h, d_c, i, f, g, o = (own_xp.expand_dims(a, axis=0) for a in (x, *wide, *ends, *gates))
            cell = make_cell_vjp(weights, options, own_xp)
            slopes, values = cell.linearise(row, h_0, c_0, (i, f, g, o))
            d_state, inner = cell.pull(slopes, d_h, d_c)
            d_x, d_weights = cell.gather(slopes, values, inner)
            summed = zip(d_state, given or start, strict=True)
            d_start = tuple(_summed_to(d[0, ...], tuple(a.shape), own_xp) for d, a in summed)
        return d_x[0, ...], d_weights, (d_start[0], d_start[1])

    return (h, c), pullback


def _summed_to(d: Array, shape: tuple[int, ...], xp: Namespace) -> Array:
    """Sum over batch dimensions that are all 1 in a shape."""
    if tuple(d.shape) == shape:
        return d
    return xp.sum(d, axis=tuple(range(d.ndim - 1)), keepdims=True)


def run_vjp(
    network: Network, settings: Settings, call: Call, remat: int | None, weights: Weights
) -> tuple[tuple[Array, tuple[Array, Array]], Pullback]:
    """Do what `lstm_vjp` does, with weights that were already checked."""
    request, layout = make_request(network, settings, call, pullback=True)
    name = engines.choose(request, call.engine).name
    result, pull = engines.run_vjp(request, name, None if remat is None else _chunk(remat, request))

    def pullback(d_output: Any = None, d_state: Any = (None, None)) -> tuple[Array, Weights, tuple[Array, Array]]:
        gradients = pull(_read_cotangents(d_output, d_state, network, layout, request))
        return _as_given(gradients, layout, request, weights)

    return layout.restore(result, request.xp), pullback


def _chunk(remat: Any, request: Request) -> int:
    """Check the number of steps between states that are kept."""
    steps = integer(remat, "remat", 1)
    padded = request.lengths is not None or request.mask is not None
    for name, given in (
        ("`reset`", request.reset is not None),
        ("`masked_output='hold'`", padded and request.masked_output == "hold"),
    ):
        if given:
            msg = f"`remat` is {remat}, expected None with {name}"
            raise ValueError(msg)
    return steps


def _read_cotangents(d_output: Any, d_state: Any, network: Network, layout: Layout, request: Request) -> Cotangents:
    """Check what a pullback is given; return it time-major and batched."""
    if d_state is None:
        d_state = (None, None)
    if not isinstance(d_state, (tuple, list)) or len(d_state) != 2:
        msg = f"`d_state` is {describe(d_state)}, expected a tuple (d_h_n, d_c_n)"
        raise TypeError(msg)
    xp, sizes = request.xp, network.sizes
    libraries = accepted_libraries(request.x, xp)
    steps = layout.shape_of_steps(*request.x.shape[:2])
    features, rows = sizes.num_directions * sizes.output_size, sizes.num_layers * sizes.num_directions
    batch, symbol = (request.x.shape[1:2], "batch, ") if layout.batched else ((), "")
    shapes = {
        "d_output": Shape(
            (*steps.sizes, features), f"({steps.symbols.strip('(,)')}, num_directions*{sizes.output_symbol})"
        ),
        **{
            name: Shape((rows, *batch, size), f"(num_layers*num_directions, {symbol}{size_name})")
            for name, (size, size_name) in zip(("d_h_n", "d_c_n"), sizes.state_sizes, strict=True)
        },
    }
    for (name, shape), array in zip(shapes.items(), (d_output, *d_state), strict=True):
        if array is not None:
            check_like(array, name, request.x, "x", libraries)
            check_shape(array, name, shape)
    d_output, d_h_n, d_c_n = (None if array is None else join(array, xp) for array in (d_output, *d_state))
    if d_output is not None:
        d_output = layout.to_time_major(d_output, xp)
    if not layout.batched:
        d_h_n, d_c_n = (None if array is None else xp.expand_dims(array, axis=1) for array in (d_h_n, d_c_n))
    return Cotangents(d_output, d_h_n, d_c_n)


def _as_given(
    gradients: Gradients, layout: Layout, request: Request, weights: Weights
) -> tuple[Array, Weights, tuple[Array, Array]]:
    """Return derivatives in the shapes of the arguments that they are by."""
    xp, noise = request.xp, Noise() if request.noise is None else request.noise
    d_x, d_layers = gradients.x, gradients.weights
    if noise.inputs is not None:
        d_x = d_x * noise.inputs
    if noise.weight_hh is not None:
        d_layers = times_weight_hh(d_layers, noise.weight_hh)
    h_0, c_0 = (None, None) if request.state is None else request.state
    d_h, d_c = _as_state(gradients.h_0, h_0, layout, xp), _as_state(gradients.c_0, c_0, layout, xp)
    return layout.restore_sequence(d_x, xp), _nested_as(weights, d_layers), (d_h, d_c)


def _as_state(d: Array, given: Array | None, layout: Layout, xp: Namespace) -> Array:
    """Return derivatives by the state of each row as those by the caller's, which may be one for all."""
    if given is not None and given.shape[1] == 1 and d.shape[1] != 1:
        d = xp.sum(d, axis=1, keepdims=True)
    return d if layout.batched else d[:, 0, :]


def _nested_as(weights: Weights, layers: Layers) -> Weights:
    """Return layers nested as the caller's weights are."""
    if isinstance(weights, CellWeights):
        return layers[0][0]
    return tuple(
        layer[0] if isinstance(given, CellWeights) else layer for given, layer in zip(weights, layers, strict=True)
    )
