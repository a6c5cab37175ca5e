"""`lstm`: what the caller gave becomes one plain request; what comes back gets its shape."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from lstm_xp import engines
from lstm_xp._cell import Moment
from lstm_xp._checks import Shape, check_like, check_shape, describe, is_known, read_state
from lstm_xp._namespace import accepted_libraries, join, visible_values
from lstm_xp._noise import Noise, noise_shapes
from lstm_xp._options import CellOptions, Options, options_by_direction
from lstm_xp._typing import Array, ArrayT, Namespace
from lstm_xp._weights import Network, Sizes, Weights, check_input, check_options, read_network
from lstm_xp.engines import Choice
from lstm_xp.engines._request import MaskedOutput, Request, Result


@dataclass(frozen=True)
class Settings:
    """How sequences are read, beside the weights: `lstm`'s arguments of the same names."""

    batch_first: bool
    masked_output: MaskedOutput
    reverse: bool
    options: Options

    def __post_init__(self) -> None:
        if isinstance(self.options, list):  # lest it be changed later
            object.__setattr__(self, "options", tuple(self.options))


class Call(NamedTuple):
    """What is given anew at each call: `lstm`'s arguments of the same names."""

    x: Array
    state: tuple[Any, Any] | None = None
    lengths: Any | None = None
    mask: Any | None = None
    reset: Any | None = None
    noise: Noise | None = None
    engine: str = "auto"
    threads: int = 1


class Layout(NamedTuple):
    """How the caller's arrays lie; a request's are time-major and batched."""

    batched: bool
    batch_first: bool

    def to_time_major(self, array: Array, xp: Namespace) -> Array:
        """Return x or its mask or resets as (time, batch, ...)."""
        if not self.batched:
            return xp.expand_dims(array, axis=1)
        return _with_first_axes_swapped(array, xp) if self.batch_first else array

    def restore(self, result: Result, xp: Namespace) -> tuple[Array, tuple[Array, Array]]:
        """Return output and final states as the caller's arrays lie."""
        output, h_n, c_n = self.restore_sequence(result.output, xp), result.h_n, result.c_n
        return output, ((h_n, c_n) if self.batched else (h_n[:, 0, :], c_n[:, 0, :]))

    def restore_sequence(self, array: Array, xp: Namespace) -> Array:
        """Return what has x's time steps as x lies."""
        if not self.batched:
            return array[:, 0, :]
        return _with_first_axes_swapped(array, xp) if self.batch_first else array

    def shape_of_steps(self, time: int, batch: int) -> Shape:
        """Return the shape of x without its features."""
        if not self.batched:
            return Shape((time,), "(time,)")
        return Shape((batch, time), "(batch, time)") if self.batch_first else Shape((time, batch), "(time, batch)")


def _with_first_axes_swapped(array: Array, xp: Namespace) -> Array:
    return xp.permute_dims(array, (1, 0, *range(2, array.ndim)))


def lstm(
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
) -> tuple[ArrayT, tuple[ArrayT, ArrayT]]:
    """
    Run an LSTM over sequences.

    With torch's weights it computes what `torch.nn.LSTM` computes in eval mode. The arrays' own library does the work,
    and the results come back in its namespace, in their dtype and on their device. The equations are those of
    `lstm_xp.lstm_cell`.

    Parameters
    ----------
    x : array, shape (time, batch, input_size)
        The input; (batch, time, input_size) with `batch_first`; (time, input_size) without a batch. Any real floating
        dtype. There must be at least one time step.
    weights : CellWeights or sequence
        A lone cell, or layers from the input up, each a lone cell or a pair (forward, backward). Of x's library, dtype
        and device.
    state : tuple of two arrays, optional
        ``(h_0, c_0)``: the initial hidden states, shape (num_layers*num_directions, batch, proj_size or hidden_size),
        and cell states, (num_layers*num_directions, batch, hidden_size); row layer*num_directions + direction. Zeros
        if absent. A batch of 1 is broadcast. Without a batch in x, without one here.
    lengths : array of integers, shape (batch,), optional
        The steps before them are valid, from 0 to all. In any order, on x's device; 0-d without a batch. Values out
        of range are refused in NumPy arrays and clipped elsewhere, where looking at them would cost or break something.
    mask : array of booleans, shape (time, batch), optional
        True where a step is valid; holes are allowed. Laid out as x without its features. Not together with `lengths`.
    masked_output : {"zero", "hold"}, optional
        The output at a step that is not valid: zeros, as torch's packed sequences are padded, or the last valid output
        in the order of processing, as Keras has it (zeros before the first). The state always stays as it was.
    reset : array of booleans, shape (time, batch), optional
        True where a new episode begins, as in reinforcement learning. Each episode starts from the initial state, and
        nothing passes from one to another: also where time runs backward. Laid out as `mask`.
    noise : Noise, optional
        Masks of dropout and the like, as `draw_noise` draws them for training.
    reverse : bool, optional
        Run every layer backward in time. Outputs stay aligned with the input. Not with two directions.
    batch_first : bool, optional
        Whether x, `mask` and the output begin with the batch. The states never do.
    options : CellOptions or pair of them, optional
        The variant of the cell; a pair is (forward, backward).
    engine : str, optional
        Who computes: ``"auto"`` or one of `lstm_xp.available_engines`.
    threads : int, optional
        Threads over the batch, or else over the two directions, for engines that run on NumPy's arrays. They pay where
        BLAS is held to one thread of its own.

    Returns
    -------
    output : array, shape (time, batch, num_directions*(proj_size or hidden_size))
        The hidden states of the last layer, directions side by side, laid out as x.
    state : tuple of two arrays
        ``(h_n, c_n)``, the states after the last valid step, in the shapes of the initial ones.

    Raises
    ------
    TypeError
        An argument is not an array, or not of the same library or dtype as the others.
    ValueError
        A shape or size does not fit, a device differs, T is 0, or arguments contradict each other.

    Examples
    --------
    >>> import numpy as np
    >>> import lstm_xp as lx
    >>> net = lx.LSTM(input_size=5, hidden_size=4, seed=0)
    >>> output, (h_n, c_n) = lx.lstm(np.ones((7, 3, 5), np.float32), net.weights)
    >>> output.shape, h_n.shape, c_n.shape
    ((7, 3, 4), (1, 3, 4), (1, 3, 4))
    """
    settings = Settings(batch_first=batch_first, masked_output=masked_output, reverse=reverse, options=options)
    return forward(read_network(weights), settings, Call(x, state, lengths, mask, reset, noise, engine, threads))


def select_engine(
    x: Any,
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
    keep: tuple[str, ...] = (),
    pullback: bool = False,
) -> Choice:
    """
    Tell which engine `lstm`, `trace` or `lstm_vjp` would take for the same arguments, and why.

    Parameters
    ----------
    x, weights, state, lengths, mask, masked_output, reset, noise, reverse, batch_first, options, engine, threads
        As in `lstm`. Nothing is computed.
    keep : tuple of str, optional
        As in `trace`.
    pullback : bool, optional
        Whether the pullback is wanted, too, as from `lstm_vjp`.

    Returns
    -------
    Choice
        ``(name, reason, rejected)``, rejected being the reason against each other engine.

    Raises
    ------
    TypeError, ValueError
        As in `lstm`.

    Examples
    --------
    >>> import numpy as np
    >>> import lstm_xp as lx
    >>> net = lx.LSTM(input_size=5, hidden_size=4, seed=0)
    >>> lx.select_engine(np.ones((7, 3, 5), np.float32), net.weights).name
    'numpy'
    """
    network = read_network(weights)
    settings = Settings(batch_first=batch_first, masked_output=masked_output, reverse=reverse, options=options)
    call = Call(x, state, lengths, mask, reset, noise, engine, threads)
    request, _ = make_request(network, settings, call, keep, pullback=pullback)
    return engines.explain(request, engine)


def check_settings(settings: Settings, network: Network) -> tuple[CellOptions, ...]:
    """
    Refuse settings that do not go with each other or with the weights.

    Parameters
    ----------
    settings : Settings
        The settings.
    network : Network
        The weights.

    Returns
    -------
    tuple of CellOptions
        One for each direction.

    Raises
    ------
    TypeError, ValueError
        They do not.
    """
    for name in ("batch_first", "reverse"):
        if not isinstance(getattr(settings, name), bool):
            msg = f"`{name}` is {getattr(settings, name)!r}, expected True or False"
            raise TypeError(msg)
    if not isinstance(settings.masked_output, str) or settings.masked_output not in ("zero", "hold"):
        msg = f"`masked_output` is {settings.masked_output!r}, expected 'zero' or 'hold'"
        raise ValueError(msg)
    if settings.reverse and network.sizes.num_directions == 2:
        msg = "`reverse` is True, expected False with two directions"
        raise ValueError(msg)
    options = options_by_direction(settings.options, network.sizes.num_directions)
    for each in options:
        check_options(each, network)
    return options


def forward(
    network: Network, settings: Settings, call: Call, options: tuple[CellOptions, ...] | None = None
) -> tuple[Array, tuple[Array, Array]]:
    """Do what `lstm` does, with weights that were already checked; and settings, where `options` came of that."""
    request, layout = make_request(network, settings, call, options=options)
    return layout.restore(engines.run(request, engines.choose(request, call.engine).name), request.xp)


def make_request(
    network: Network,
    settings: Settings,
    call: Call,
    keep: tuple[str, ...] = (),
    options: tuple[CellOptions, ...] | None = None,
    pullback: bool = False,
) -> tuple[Request, Layout]:
    """Check a call's arguments and return the one request that they make, and how they lay."""
    x, state, lengths, mask, reset, noise, _, threads = call
    options = check_settings(settings, network) if options is None else options
    if not isinstance(keep, (tuple, list)) or not all(name in Moment._fields for name in keep):
        msg = f"`keep` is {keep!r}, expected a tuple of {', '.join(map(repr, Moment._fields))}"
        raise ValueError(msg)
    if isinstance(threads, bool) or not hasattr(threads, "__index__") or threads < 1:
        msg = f"`threads` is {threads!r}, expected an integer of at least 1"
        raise ValueError(msg)
    xp = check_input(x, network)
    if x.ndim not in (2, 3):
        msg = f"`x` has shape {tuple(x.shape)}, expected (time, batch, input_size) or, unbatched, (time, input_size)"
        raise ValueError(msg)
    layout = Layout(x.ndim == 3, settings.batch_first)
    x = layout.to_time_major(x, xp)
    time, batch = x.shape[:2]
    if time == 0 or not is_known(time):
        msg = f"`x` has {'no' if time == 0 else 'an unknown number of'} time steps, expected at least one"
        raise ValueError(msg)
    if batch is not None and not is_known(batch):
        # ndonnx's None goes through as it is; NaN, Dask's, does not stack.
        msg = f"`x` has shape {tuple(x.shape)}, expected sizes that are known"
        raise ValueError(msg)
    if lengths is not None and mask is not None:
        msg = "`lengths` and `mask` were both given, expected one of them"
        raise ValueError(msg)
    libraries = accepted_libraries(x, xp)
    request = Request(
        xp=xp,
        x=x,
        weights=network.layers,
        state=None if state is None else _read_state(state, network, layout, x, xp, libraries),
        lengths=None if lengths is None else _read_lengths(lengths, layout, x, xp, libraries),
        mask=None if mask is None else _read_steps(mask, "mask", layout, x, xp, libraries),
        reset=None if reset is None else _read_steps(reset, "reset", layout, x, xp, libraries),
        masked_output=settings.masked_output,
        reverse=settings.reverse,
        options=options,
        keep=tuple(dict.fromkeys(keep)) if keep else (),
        threads=int(threads),
        prepared=network.prepared,
        pullback=pullback,
    )
    if noise is None:
        return request, layout
    return request.with_noise(_read_noise(noise, network.sizes, layout, request, libraries)), layout


def _read_state(
    state: Any, network: Network, layout: Layout, x: Array, xp: Namespace, libraries: tuple[Namespace, ...]
) -> tuple[Array, Array]:
    """Check ``(h_0, c_0)``; return them with a batch axis."""
    rows = network.sizes.num_layers * network.sizes.num_directions
    batch, symbol = (x.shape[1:2], "batch, ") if layout.batched else ((), "")
    shapes = [
        Shape((rows, *batch, size), f"(num_layers*num_directions, {symbol}{name})", slice(1, 1 + len(batch)))
        for size, name in network.sizes.state_sizes
    ]
    h_0, c_0 = read_state(state, shapes, x, xp, libraries)
    return (h_0, c_0) if layout.batched else (xp.expand_dims(h_0, axis=1), xp.expand_dims(c_0, axis=1))


def _read_noise(
    noise: Noise, sizes: Sizes, layout: Layout, request: Request, libraries: tuple[Namespace, ...]
) -> Noise:
    """Check the noise; return it with a batch axis."""
    if not isinstance(noise, Noise):
        msg = f"`noise` is {describe(noise)}, expected Noise, as `draw_noise` returns it"
        raise TypeError(msg)
    time, batch = request.x.shape[:2]
    arrays = []
    for name, shape in noise_shapes(sizes, time, batch if layout.batched else None).items():
        array = getattr(noise, name)
        if array is not None:
            check_like(array, f"noise.{name}", request.x, "x", libraries)
            check_shape(array, f"noise.{name}", shape)
            array = join(array, request.xp)
            if not layout.batched and name != "weight_hh":
                array = request.xp.expand_dims(array, axis=array.ndim - 1)
        arrays.append(array)
    return Noise(*arrays)


def _read_lengths(lengths: Array, layout: Layout, x: Array, xp: Namespace, libraries: tuple[Namespace, ...]) -> Array:
    """Check the lengths; return them with a batch axis."""
    check_like(lengths, "lengths", x, "x", libraries, kind="integral")
    check_shape(lengths, "lengths", Shape((x.shape[1],), "(batch,)") if layout.batched else Shape((), "()"))
    values = visible_values(lengths)
    if values is not None and values.size and not (values.min() >= 0 and values.max() <= x.shape[0]):
        msg = f"`lengths` has values from {values.min()} to {values.max()}, expected 0 to {x.shape[0]}"
        raise ValueError(msg)
    lengths = join(lengths, xp)
    if xp.isdtype(lengths.dtype, "unsigned integer"):  # which the standard does not compare with signed ones
        # Nor does torch compare them with each other. Rounding calls nothing too large that is not.
        too_large = xp.astype(lengths, xp.float32) > x.shape[0]
        lengths = xp.astype(lengths, xp.int32)
        lengths = xp.where(too_large, xp.zeros_like(lengths) + x.shape[0], lengths)
    return lengths if layout.batched else xp.expand_dims(lengths, axis=0)


def _read_steps(
    array: Array, name: str, layout: Layout, x: Array, xp: Namespace, libraries: tuple[Namespace, ...]
) -> Array:
    """Check what says yes or no of each step, the mask or resets; return it as (time, batch)."""
    check_like(array, name, x, "x", libraries, kind="bool")
    check_shape(array, name, layout.shape_of_steps(x.shape[0], x.shape[1]))
    return layout.to_time_major(join(array, xp), xp)
