"""`LSTM`: weights, with what a checkpoint says about them."""

from collections.abc import Callable, Mapping
from typing import Any, Self

import numpy as np

from lstm_xp._cell import Moment
from lstm_xp._checks import integer, real_number
from lstm_xp._initial import initial_layers
from lstm_xp._namespace import device_of, standard_namespace
from lstm_xp._noise import Noise
from lstm_xp._options import CellOptions, Options
from lstm_xp._sequence import Call, Settings, check_settings, forward
from lstm_xp._stream import Stream
from lstm_xp._trace import Trace, run_trace
from lstm_xp._transfer import from_numpy, move
from lstm_xp._typing import Array, ArrayT, Device, DType, Namespace
from lstm_xp._vjp import Pullback, run_vjp
from lstm_xp._weights import (
    CellWeights,
    Layers,
    Network,
    Sizes,
    Weights,
    dotted,
    read_network,
    read_state_dict,
    state_dict_name,
)
from lstm_xp.engines import check_engine
from lstm_xp.engines._request import MaskedOutput


class LSTM:
    """
    An LSTM, to be called as `torch.nn.LSTM` is in eval mode.

    It is immutable and may be shared between threads; equality and hash are by identity. NumPy weights are copied and
    made read-only; arrays of other libraries are kept as they are. The constructor draws new weights; `from_weights`
    and `from_state_dict` take given ones.

    Parameters
    ----------
    input_size : int
        Features of the input.
    hidden_size : int
        Features of the cell state, and of the hidden state without projection.
    num_layers : int, optional
        Layers, one on top of the other.
    bias : bool, optional
        Whether there are biases.
    batch_first : bool, optional
        Whether input and output are (batch, time, features). The states never are.
    dropout : float, optional
        Torch's dropout between layers: the rate at which `draw_noise` drops. A call without noise has none, as torch in
        eval mode.
    bidirectional : bool, optional
        Whether each layer also runs backward.
    proj_size : int, optional
        Features of the projected hidden state, smaller than `hidden_size`; 0 for none.
    options : CellOptions or pair of them, optional
        The variant of the cell; a pair is (forward, backward).
    reverse : bool, optional
        Run every layer backward in time, as in `lstm_xp.lstm`.
    masked_output : {"zero", "hold"}, optional
        The output at steps that are not valid, as in `lstm_xp.lstm`.
    engine : str, optional
        Who computes, unless a call says otherwise.
    init : {"uniform", "glorot"}, optional
        How weights are drawn. ``"uniform"``: torch's rule, everything within 1/sqrt(hidden_size). ``"glorot"``: gate by
        gate, Glorot-uniform input weights and projections and orthogonal recurrent weights; zero biases, but 1 on the
        forget gate.
    seed : int, optional
        Seed of the draw: the same numbers in every library. Without one they differ each time.
    xp : array namespace, optional
        The library of the weights. NumPy if absent.
    dtype : str or dtype, optional
        Their dtype. float32 if absent, in every library.
    device : device, optional
        Their device, as the library spells it.

    Raises
    ------
    TypeError, ValueError
        A size, rate, rule, dtype or option that cannot be.

    Examples
    --------
    >>> import numpy as np
    >>> import lstm_xp as lx
    >>> net = lx.LSTM(5, 4, num_layers=2, bidirectional=True, seed=0)
    >>> net
    LSTM(5, 4, num_layers=2, bidirectional=True)
    >>> output, (h_n, c_n) = net(np.ones((7, 3, 5), np.float32))
    >>> output.shape, h_n.shape, c_n.shape
    ((7, 3, 8), (4, 3, 4), (4, 3, 4))
    """

    __slots__ = ("__weakref__", "_dropout", "_engine", "_network", "_options", "_settings")

    _network: Network
    _settings: Settings
    _options: tuple[CellOptions, ...]
    _dropout: float
    _engine: str

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        *,
        options: Options = CellOptions(),
        reverse: bool = False,
        masked_output: MaskedOutput = "zero",
        engine: str = "auto",
        init: str = "uniform",
        seed: int | None = None,
        xp: Namespace | None = None,
        dtype: DType = None,
        device: Device = None,
    ) -> None:
        sizes = Sizes(
            input_size=integer(input_size, "input_size", 1),
            hidden_size=integer(hidden_size, "hidden_size", 1),
            num_layers=integer(num_layers, "num_layers", 1),
            num_directions=2 if _boolean(bidirectional, "bidirectional") else 1,
            proj_size=integer(proj_size, "proj_size", 0),
        )
        if sizes.proj_size >= sizes.hidden_size:
            msg = f"`proj_size` is {proj_size}, expected less than hidden_size = {hidden_size}"
            raise ValueError(msg)
        drawn = initial_layers(sizes, init, seed, bias=_boolean(bias, "bias"))
        library, dtype = np if xp is None else standard_namespace(xp), "float32" if dtype is None else dtype
        layers = _map_named(drawn, lambda array, _: from_numpy(array, library, dtype=dtype, device=device))
        settings = Settings(batch_first=batch_first, masked_output=masked_output, reverse=reverse, options=options)
        self._set(read_network(layers), settings, dropout, engine)

    @classmethod
    def from_weights(
        cls,
        weights: Weights,
        *,
        batch_first: bool = False,
        dropout: float = 0.0,
        options: Options = CellOptions(),
        reverse: bool = False,
        masked_output: MaskedOutput = "zero",
        engine: str = "auto",
    ) -> Self:
        """
        Make an LSTM of given weights. All sizes are read off them.

        Parameters
        ----------
        weights : CellWeights or sequence
            A lone cell, or layers from the input up, each a lone cell or a pair (forward, backward).
        batch_first, dropout, options, reverse, masked_output, engine
            As in the constructor.

        Returns
        -------
        LSTM
            The LSTM.

        Raises
        ------
        TypeError, ValueError
            The weights do not fit together, or the settings do not go with them.
        """
        settings = Settings(batch_first=batch_first, masked_output=masked_output, reverse=reverse, options=options)
        return cls._make(read_network(weights), settings, dropout, engine)

    @classmethod
    def from_state_dict(
        cls,
        mapping: Mapping[str, Any],
        *,
        prefix: str = "",
        batch_first: bool = False,
        dropout: float = 0.0,
        options: Options = CellOptions(),
        reverse: bool = False,
        masked_output: MaskedOutput = "zero",
        engine: str = "auto",
    ) -> Self:
        """
        Make an LSTM of arrays under torch's names, ``weight_ih_l0`` and so on. The structure is inferred from them.

        Parameters
        ----------
        mapping : mapping of str to array
            A state dict. Beside torch's, the other fields of `CellWeights` are names: ``peephole_l{layer}[_reverse]``
            and ``norm_l{layer}[_reverse]``.
        prefix : str, optional
            What the names begin with; ``"enc"`` and ``"enc."`` are the same. Names outside are ignored.
        batch_first, dropout, options, reverse, masked_output, engine
            As in the constructor.

        Returns
        -------
        LSTM
            The LSTM.

        Raises
        ------
        TypeError, ValueError
            A name inside the prefix is unknown or one is missing, the weights do not fit together, or the settings do
            not go with them.
        """
        layers = read_state_dict(mapping, prefix)
        network = read_network(layers, lambda *place: dotted(prefix) + state_dict_name(*place))
        settings = Settings(batch_first=batch_first, masked_output=masked_output, reverse=reverse, options=options)
        return cls._make(network, settings, dropout, engine)

    def __call__(
        self,
        x: ArrayT,
        state: tuple[Any, Any] | None = None,
        *,
        lengths: Any | None = None,
        mask: Any | None = None,
        reset: Any | None = None,
        noise: Noise | None = None,
        engine: str | None = None,
        threads: int = 1,
    ) -> tuple[ArrayT, tuple[ArrayT, ArrayT]]:
        """
        Run the LSTM over sequences.

        Parameters
        ----------
        x, state, lengths, mask, reset, noise
            As in `lstm_xp.lstm`.
        engine : str, optional
            Who computes; the LSTM's own setting if absent.
        threads : int, optional
            As in `lstm_xp.lstm`.

        Returns
        -------
        output : array
            As in `lstm_xp.lstm`.
        state : tuple of two arrays
            ``(h_n, c_n)``, as in `lstm_xp.lstm`.

        Raises
        ------
        TypeError, ValueError
            As in `lstm_xp.lstm`.
        """
        call = Call(x, state, lengths, mask, reset, noise, self._engine if engine is None else engine, threads)
        return forward(self._network, self._settings, call, self._options)

    def trace(
        self,
        x: Array,
        state: tuple[Any, Any] | None = None,
        *,
        lengths: Any | None = None,
        mask: Any | None = None,
        reset: Any | None = None,
        noise: Noise | None = None,
        engine: str | None = None,
        threads: int = 1,
        keep: tuple[str, ...] = Moment._fields,
    ) -> Trace:
        """
        Run the LSTM over sequences and keep what is inside.

        Parameters
        ----------
        x, state, lengths, mask, reset, noise
            As in `lstm_xp.lstm`.
        engine : str, optional
            Who computes; the LSTM's own setting if absent.
        threads : int, optional
            As in `lstm_xp.lstm`.
        keep : tuple of str, optional
            What to keep, as in `lstm_xp.trace`.

        Returns
        -------
        Trace
            Gates, cell states and hidden states of every layer, output and final state.

        Raises
        ------
        TypeError, ValueError
            As in `lstm_xp.trace`.
        """
        call = Call(x, state, lengths, mask, reset, noise, self._engine if engine is None else engine, threads)
        return run_trace(self._network, self._settings, call, keep)

    def vjp(
        self,
        x: ArrayT,
        state: tuple[Any, Any] | None = None,
        *,
        lengths: Any | None = None,
        mask: Any | None = None,
        reset: Any | None = None,
        noise: Noise | None = None,
        engine: str | None = None,
        threads: int = 1,
        remat: int | None = None,
    ) -> tuple[tuple[ArrayT, tuple[ArrayT, ArrayT]], Pullback]:
        """
        Run the LSTM over sequences, and be ready to go back.

        Parameters
        ----------
        x, state, lengths, mask, reset, noise
            As in `lstm_xp.lstm_vjp`.
        engine : str, optional
            Who computes; the LSTM's own setting if absent.
        threads, remat
            As in `lstm_xp.lstm_vjp`.

        Returns
        -------
        result : tuple
            What calling the LSTM returns: ``output, (h_n, c_n)``.
        pullback : callable
            As in `lstm_xp.lstm_vjp`; the weights' derivatives are nested as `weights` is.

        Raises
        ------
        TypeError, ValueError
            As in `lstm_xp.lstm_vjp`.
        """
        call = Call(x, state, lengths, mask, reset, noise, self._engine if engine is None else engine, threads)
        return run_vjp(self._network, self._settings, call, remat, self.weights)

    def stream(
        self, state: tuple[Any, Any] | None = None, batch_size: int | None = 1, *, engine: str | None = None
    ) -> Stream:
        """
        Return a stream: the LSTM, one time step at a time, with the state kept in between.

        Everything is checked and prepared here, so that a step costs as little as it can.

        Parameters
        ----------
        state : tuple of two arrays, optional
            ``(h_0, c_0)``, as in `lstm_xp.lstm`. Zeros if absent.
        batch_size : int or None, optional
            Rows of each frame; None for frames and states without a batch axis.
        engine : str, optional
            Who computes; the LSTM's own setting if absent.

        Returns
        -------
        Stream
            The stream.

        Raises
        ------
        TypeError, ValueError
            An argument does not fit, the LSTM does not run forward in time alone, or its arrays are lazy.

        Examples
        --------
        >>> import numpy as np
        >>> import lstm_xp as lx
        >>> stream = lx.LSTM(5, 4, seed=0).stream()
        >>> stream(np.ones((1, 5), np.float32)).shape
        (1, 4)
        """
        return Stream(self, state, batch_size, engine=engine)

    def state_dict(self) -> dict[str, Array]:
        """
        Return the weights under torch's names, in torch's order.

        Returns
        -------
        dict of str to array
            The arrays themselves, not copies. Both biases are kept apart.
        """
        return dict(self._network.named_arrays())

    def to(
        self, xp: Namespace | None = None, *, device: Device = None, dtype: DType = None, detach: bool = False
    ) -> Self:
        """
        Return a copy in another library, on another device or in another dtype.

        Parameters
        ----------
        xp : array namespace, optional
            The library; the same if absent.
        device : device, optional
            The device, as the library spells it. If absent it is kept within a library, else the library's default.
        dtype : str or dtype, optional
            The dtype; the same if absent.
        detach : bool, optional
            Copy the values of tensors that require grad, which is refused otherwise.

        Returns
        -------
        LSTM
            The copy.

        Raises
        ------
        TypeError
            A tensor requires grad, or the library does not have the dtype, as JAX float64 unless told otherwise.
        """
        layers = _map_named(
            self.weights, lambda array, name: move(array, name, xp, dtype=dtype, device=device, detach=detach)
        )
        return self._make(read_network(layers), self._settings, self._dropout, self._engine)

    @property
    def weights(self) -> Layers:
        """The weights: a tuple of layers, each a tuple of one or two directions."""
        return self._network.layers

    @property
    def input_size(self) -> int:
        """Number of features of the input."""
        return self._network.sizes.input_size

    @property
    def hidden_size(self) -> int:
        """Number of features of the cell state."""
        return self._network.sizes.hidden_size

    @property
    def num_layers(self) -> int:
        """Number of layers."""
        return self._network.sizes.num_layers

    @property
    def bias(self) -> bool:
        """Whether there is a bias, one or both."""
        cell = self.weights[0][0]
        return cell.bias_ih is not None or cell.bias_hh is not None

    @property
    def batch_first(self) -> bool:
        """Whether input and output are (batch, time, features)."""
        return self._settings.batch_first

    @property
    def dropout(self) -> float:
        """The rate between layers in training; without effect here."""
        return self._dropout

    @property
    def bidirectional(self) -> bool:
        """Whether each layer also runs backward."""
        return self._network.sizes.num_directions == 2

    @property
    def proj_size(self) -> int:
        """Number of features of the projected hidden state; 0 without projection."""
        return self._network.sizes.proj_size

    @property
    def options(self) -> Options:
        """The variant of the cell."""
        return self._settings.options

    @property
    def reverse(self) -> bool:
        """Whether every layer runs backward in time."""
        return self._settings.reverse

    @property
    def masked_output(self) -> MaskedOutput:
        """The output at steps that are not valid."""
        return self._settings.masked_output

    @property
    def engine(self) -> str:
        """Who computes, unless a call says otherwise."""
        return self._engine

    @property
    def dtype(self) -> DType:
        """The weights' dtype, their library's own."""
        return self._network.first_array.dtype

    @property
    def device(self) -> Device:
        """The weights' device, their library's own."""
        return device_of(self._network.first_array)

    def __repr__(self) -> str:
        """Return what torch prints, then what differs from our own defaults."""
        shown = [f"{self.input_size}, {self.hidden_size}"]
        for name, default in (
            ("proj_size", 0),  # torch's order
            ("num_layers", 1),
            ("bias", True),
            ("batch_first", False),
            ("dropout", 0.0),
            ("bidirectional", False),
            ("options", CellOptions()),
            ("reverse", False),
            ("masked_output", "zero"),
            ("engine", "auto"),
        ):
            if (value := getattr(self, name)) != default:
                shown.append(f"{name}={value!r}")
        return f"{type(self).__name__}({', '.join(shown)})"

    def __setattr__(self, name: str, value: object) -> None:
        msg = f"an LSTM is immutable, `{name}` cannot be set"
        raise AttributeError(msg)

    def __delattr__(self, name: str) -> None:
        msg = f"an LSTM is immutable, `{name}` cannot be deleted"
        raise AttributeError(msg)

    def __reduce__(self) -> tuple[Any, ...]:
        # Pickle and deepcopy come here. They rebuild through the checks, which make NumPy's copies read-only again.
        return _rebuild, (type(self), self.weights, self._settings, self._dropout, self._engine)

    @classmethod
    def _make(cls, network: Network, settings: Settings, dropout: float, engine: str) -> Self:
        net = cls.__new__(cls)
        net._set(network, settings, dropout, engine)
        return net

    def _set(self, network: Network, settings: Settings, dropout: float, engine: str) -> None:
        """Take checked weights into ownership; check the rest."""
        if hasattr(self, "_network"):
            msg = "an LSTM is immutable, it cannot be initialised again"
            raise AttributeError(msg)
        options = check_settings(settings, network)
        expected = "a number from 0 to 1"
        rate = real_number(dropout, "dropout", expected)
        if not 0 <= rate <= 1:
            msg = f"`dropout` is {dropout!r}, expected {expected}"
            raise ValueError(msg)
        check_engine(engine)
        owned = network._replace(
            layers=_map_named(network.layers, lambda array, _: _own(array)),
            prepared={} if network.xp is np else None,  # only NumPy's can be kept from changing
        )
        for name, value in (
            ("_network", owned),
            ("_settings", settings),
            ("_options", options),
            ("_dropout", rate),
            ("_engine", engine),
        ):
            object.__setattr__(self, name, value)


def _rebuild(cls: type[LSTM], layers: Layers, settings: Settings, dropout: float, engine: str) -> LSTM:
    return cls._make(read_network(layers), settings, dropout, engine)


def _own(array: Array) -> Array:
    """Return a read-only copy of a NumPy array; other libraries' arrays as they are."""
    if not isinstance(array, np.ndarray):
        return array
    copy = np.array(array, order="C")
    copy.flags.writeable = False
    return copy


def _map_named(layers: Layers, function: Callable[[Array, str], Array]) -> Layers:
    """Apply a function of an array and torch's name for it to every weight."""
    return tuple(
        tuple(
            CellWeights(
                **{
                    field: None if array is None else function(array, state_dict_name(field, k, d))
                    for field, array in cell._asdict().items()
                }
            )
            for d, cell in enumerate(layer)
        )
        for k, layer in enumerate(layers)
    )


def _boolean(value: bool, name: str) -> bool:
    """Return a boolean."""
    if not isinstance(value, bool):
        msg = f"`{name}` is {value!r}, expected True or False"
        raise TypeError(msg)
    return value
