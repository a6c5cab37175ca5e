"""What an engine is asked and what it answers."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Self, TypeAlias, TypeVar

from lstm_xp._noise import Noise
from lstm_xp._options import CellOptions
from lstm_xp._typing import Array, Namespace
from lstm_xp._weights import Layers

MaskedOutput: TypeAlias = Literal["zero", "hold"]
T = TypeVar("T")


class Request(NamedTuple):
    """
    One forward pass, with all that the caller may leave open filled in, and whether its derivative is wanted.

    Everything fits: shapes, dtypes, libraries and devices were checked.

    Parameters
    ----------
    xp : array namespace
        The library of `x`.
    x : array, shape (time, batch, input_size)
        The input.
    weights : tuple of tuple of CellWeights
        Each layer's directions.
    state : tuple of two arrays or None
        ``(h_0, c_0)``, shapes (num_layers*num_directions, batch or 1, proj_size or hidden_size) and (..., hidden_size);
        None is zeros.
    lengths : array, shape (batch,), or None
        Integers. The steps before them are valid.
    mask : array, shape (time, batch), or None
        Booleans. True is valid. Never given together with `lengths`.
    reset : array, shape (time, batch), or None
        Booleans. True where an episode begins: `episodes` tells what that means.
    masked_output : {"zero", "hold"}
        What the output is at a step that is not valid.
    reverse : bool
        Run every layer backward in time (one direction only).
    options : tuple of CellOptions
        One for each direction.
    keep : tuple of str
        What the result's trace is to hold: names of the fields of `Moment`.
    threads : int
        How many threads of its own an engine may use.
    prepared : dict or None
        What engines have made of these weights, to be found there again; None where weights may change.
    noise : Noise or None
        What `with_noise` was given. Engines have to do with its fields `between`, `hidden`, `zoneout_h` and `zoneout_c`
        alone: the others are in x and the weights already.
    pullback : bool
        Whether the derivative is wanted, too: whether it is for an engine's ``run_vjp``.

    Notes
    -----
    The weights of a Dask request may be of the library of x's blocks.
    """

    xp: Namespace
    x: Array
    weights: Layers
    state: tuple[Array, Array] | None
    lengths: Array | None
    mask: Array | None
    reset: Array | None
    masked_output: MaskedOutput
    reverse: bool
    options: tuple[CellOptions, ...]
    keep: tuple[str, ...] = ()
    threads: int = 1
    prepared: dict[Any, Any] | None = None
    noise: Noise | None = None
    pullback: bool = False

    def prepare(self, key: Any, make: Callable[[], T]) -> T:
        """Return what an engine makes of the weights, made anew only where it is not kept."""
        if self.prepared is None:
            return make()
        if key not in self.prepared:  # two threads may both make it: the same
            self.prepared[key] = make()
        made: T = self.prepared[key]
        return made

    def with_noise(self, noise: Noise) -> Self:
        """Return the request with noise, which has a batch axis, in its input and its weights."""
        x, weights, prepared = self.x, self.weights, self.prepared
        if noise.inputs is not None:
            x = x * noise.inputs
        if noise.weight_hh is not None:
            weights, prepared = times_weight_hh(weights, noise.weight_hh), None  # these weights are for this once
        return self._replace(x=x, weights=weights, prepared=prepared, noise=noise)


def times_weight_hh(layers: Layers, factors: Array) -> Layers:
    """Return weights, or derivatives by them, of which `weight_hh` is multiplied by a row of factors for each cell."""
    rows = iter(factors[row, :, :] for row in range(factors.shape[0]))
    return tuple(tuple(cell._replace(weight_hh=cell.weight_hh * next(rows)) for cell in layer) for layer in layers)


# trace[name][layer][direction], name being a field of `Moment`.
Traces: TypeAlias = dict[str, tuple[tuple[Array, ...], ...]]


class Result(NamedTuple):
    """
    What an engine returns.

    Parameters
    ----------
    output : array, shape (time, batch, num_directions*(proj_size or hidden_size))
        The last layer's hidden states.
    h_n : array, shape (num_layers*num_directions, batch, proj_size or hidden_size)
        The final hidden states.
    c_n : array, shape (num_layers*num_directions, batch, hidden_size)
        The final cell states.
    trace : dict or None
        For each name that the request keeps, a tuple of layers, each a tuple of directions, of arrays of shape (time,
        batch, hidden_size), that of h (time, batch, proj_size or hidden_size). Where a step is not valid, h and c are
        the state that stays and the gates are 0.
    """

    output: Array
    h_n: Array
    c_n: Array
    trace: Traces | None = None


class Cotangents(NamedTuple):
    """The derivatives of a loss by the arrays of a `Result`, in their shapes; None is zeros."""

    output: Array | None = None
    h_n: Array | None = None
    c_n: Array | None = None


class Gradients(NamedTuple):
    """
    The derivatives of a loss by what is in a `Request`.

    Parameters
    ----------
    x : array, shape (time, batch, input_size)
        By the input.
    weights : tuple of tuple of CellWeights
        By the weights; None where there is none.
    h_0 : array, shape (num_layers*num_directions, batch, proj_size or hidden_size)
        By the initial hidden states of each row, also where one is the state of all, or there is none.
    c_0 : array, shape (num_layers*num_directions, batch, hidden_size)
        By the initial cell states.
    """

    x: Array
    weights: Layers
    h_0: Array
    c_0: Array


# It may be called several times, in any thread.
Pullback: TypeAlias = Callable[[Cotangents], Gradients]


class Stepper(NamedTuple):
    """
    What runs one time step after the other, as `make_stepper` of an engine returns it for a request.

    Of the request, x tells dtype, device and batch; its numbers and the state are not looked at. It has one direction,
    no lengths, no mask and no resets. Arguments were checked, and calls never overlap.

    Parameters
    ----------
    push : callable
        ``push(x) -> h``, from a frame of shape (batch, input_size) to the last layer's new hidden state, an array that
        nothing else holds; without a batch axis in both where `make_stepper` is told so.
    get_state : callable
        ``get_state() -> (h, c)``, copies of the states as `Result` has them.
    set_state : callable
        ``set_state(h, c)`` copies them. It is called before the first push.
    """

    push: Callable[[Array], Array]
    get_state: Callable[[], tuple[Array, Array]]
    set_state: Callable[[Array, Array], None]
