"""`CellOptions`: which LSTM it is, where it is not torch's."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Literal, TypeAlias

from lstm_xp._activations import ACTIVATIONS, Activation
from lstm_xp._checks import real_number
from lstm_xp._typing import Array, Namespace

ActivationSpec: TypeAlias = str | tuple[str, float] | tuple[str, float, float]

_CANONICAL_NAMES = {name.replace("_", ""): name for name in ACTIVATIONS}
_ROLES = ("gates", "candidate", "output")


@dataclass(frozen=True, kw_only=True)
class CellOptions:
    """
    The variants of the LSTM cell. The default is `torch.nn.LSTM`'s.

    Neutral values (``None``, ``False``, an infinite bound) give the numbers of the default bit for bit.

    Parameters
    ----------
    activations : tuple of three activations, optional
        For the gates, the candidate and the output. Each is a name or ``(name, alpha)`` or ``(name, alpha, beta)``.
        The names are those of ONNX's LSTM operator, ignoring case and underscores: ``affine``, ``elu``,
        ``hard_sigmoid`` (alpha 0.2 and beta 0.5, ONNX's; Keras's are 1/6 and 0.5), ``leaky_relu``, ``relu``,
        ``scaled_tanh``, ``sigmoid``, ``softplus``, ``softsign``, ``tanh``, ``thresholded_relu``.
    clip_gates : float or None, optional
        Bound on the absolute value of the pre-activations of all four gates, biases and peepholes included
        (ONNX's ``clip``).
    clip_cell : float or None, optional
        Bound on the absolute value of the cell state as it is carried on (TensorFlow 1's ``cell_clip``). The output
        gate's peephole and the output see the clipped value.
    clip_proj : float or None, optional
        Bound on the absolute value of the projected hidden state (TensorFlow 1's ``proj_clip``).
    coupled : bool, optional
        The forget gate is ``1 - i`` (ONNX's ``input_forget``); its weights are not used.
    peephole_output : {"new", "old"}, optional
        Which cell state the output gate's peephole sees: the new one (ONNX, TensorFlow) or the old one (WebNN).
    norm_carry : bool, optional
        With `CellWeights.norm`: whether the normalised cell state is the one that is carried on (TensorFlow Addons,
        TensorFlow 1, PyTorch's fastrnns) or only what the output sees of it (Ba et al., Haste).
    norm_gates : {"joint", "each"}, optional
        With `CellWeights.norm`: whether the products with the input and with the hidden state are normalised apart,
        each over all four gates (Ba et al. and most others), or their sum, gate by gate (TensorFlow 1).
    norm_eps : float, optional
        With `CellWeights.norm`: what is added to the variances. With 0, what is the same for all features, as zeros
        are, becomes NaN; so it does with what rounds to 0 in the weights' dtype.

    Raises
    ------
    TypeError, ValueError
        An activation or parameter that does not exist, or a bound that is not a positive number.
    """

    activations: tuple[ActivationSpec, ActivationSpec, ActivationSpec] = ("sigmoid", "tanh", "tanh")
    clip_gates: float | None = None
    clip_cell: float | None = None
    clip_proj: float | None = None
    coupled: bool = False
    peephole_output: Literal["new", "old"] = "new"
    norm_carry: bool = False
    norm_gates: Literal["joint", "each"] = "joint"
    norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        given = self.activations
        if isinstance(given, str) or not isinstance(given, Sequence) or len(given) != len(_ROLES):
            msg = f"`activations` is {given!r}, expected three activations, for {', '.join(_ROLES)}"
            raise ValueError(msg)
        canonical = tuple(_canonical(spec, f"activations[{k}]") for k, spec in enumerate(given))
        object.__setattr__(self, "activations", canonical)
        for name in ("clip_gates", "clip_cell", "clip_proj"):
            object.__setattr__(self, name, _bound(getattr(self, name), name))
        for name in ("coupled", "norm_carry"):
            if not isinstance(getattr(self, name), bool):
                msg = f"`{name}` is {getattr(self, name)!r}, expected True or False"
                raise TypeError(msg)
        for name, (one, other) in (("peephole_output", ("new", "old")), ("norm_gates", ("joint", "each"))):
            if not isinstance(getattr(self, name), str) or getattr(self, name) not in (one, other):
                msg = f"`{name}` is {getattr(self, name)!r}, expected {one!r} or {other!r}"
                raise ValueError(msg)
        expected = "a finite number of at least 0"
        eps = real_number(self.norm_eps, "norm_eps", expected)
        if not 0 <= eps < math.inf:
            msg = f"`norm_eps` is {self.norm_eps!r}, expected {expected}"
            raise ValueError(msg)
        object.__setattr__(self, "norm_eps", eps)

    def __repr__(self) -> str:
        """Return what differs from torch's LSTM."""
        shown = ((each.name, getattr(self, each.name), each.default) for each in fields(self))
        return f"CellOptions({', '.join(f'{name}={value!r}' for name, value, default in shown if value != default)})"


Options: TypeAlias = CellOptions | tuple[CellOptions, CellOptions]


def options_by_direction(options: Options, num_directions: int) -> tuple[CellOptions, ...]:
    """Return one `CellOptions` for each direction."""
    if isinstance(options, CellOptions):
        return (options,) * num_directions
    if not (isinstance(options, tuple) and all(isinstance(o, CellOptions) for o in options)):
        msg = f"`options` is {options!r}, expected CellOptions or a pair of them"
        raise TypeError(msg)
    if len(options) != 2 or num_directions != 2:
        msg = f"`options` is a tuple of {len(options)}, expected one CellOptions for {num_directions} direction(s)"
        raise ValueError(msg)
    return options


def activation_function(spec: ActivationSpec, xp: Namespace) -> Callable[[Array], Array]:
    """Return the function of one array that a canonical activation stands for."""
    row, parameters = _row(spec)
    return lambda z: row.function(z, xp, *parameters)


def activation_slope(spec: ActivationSpec, xp: Namespace) -> Callable[[Array, Array], Array]:
    """Return the derivative of a canonical activation, as a function of what it is given and what it returns."""
    row, parameters = _row(spec)
    return lambda z, y: row.slope(z, y, xp, *parameters)


def clip_function(bound: float | None, xp: Namespace) -> Callable[[Array], Array]:
    """Return the function that clips an array to ``[-bound, bound]``; no bound is no operation."""
    if bound is None:
        return lambda z: z
    return lambda z: xp.clip(z, -bound, bound)


def clip_slope(bound: float | None, xp: Namespace) -> Callable[[Array], Array | None]:
    """Return the derivative of `clip_function`; None where there is no bound."""
    if bound is None:
        return lambda _z: None
    return lambda z: xp.astype(xp.abs(z) <= bound, z.dtype)


def _row(spec: ActivationSpec) -> tuple[Activation, tuple[float, ...]]:
    """Return the table's row of a canonical activation, and all of its parameters."""
    name, parameters = _name_and_parameters(spec)
    row = ACTIVATIONS[name]
    return row, parameters + row.defaults[len(parameters) :]


def _name_and_parameters(spec: ActivationSpec) -> tuple[str, tuple[float, ...]]:
    return (spec, ()) if isinstance(spec, str) else (spec[0], spec[1:])


def _canonical(spec: ActivationSpec, where: str) -> ActivationSpec:
    """Spell an activation in the one way that makes equal options compare equal."""
    if not isinstance(spec, str) and not (isinstance(spec, (tuple, list)) and spec and isinstance(spec[0], str)):
        msg = f"`{where}` is {spec!r}, expected a name or a tuple (name, alpha, beta)"
        raise TypeError(msg)
    given, parameters = _name_and_parameters(spec)
    name = _CANONICAL_NAMES.get(given.replace("_", "").lower())
    if name is None:
        msg = f"`{where}` is {given!r}, expected one of {', '.join(ACTIVATIONS)}"
        raise ValueError(msg)
    defaults = ACTIVATIONS[name].defaults
    if len(parameters) > len(defaults):
        msg = f"`{where}` gives {name} {len(parameters)} parameter(s), expected at most {len(defaults)}"
        raise ValueError(msg)
    given_values = [real_number(parameter, where, "finite numbers as parameters") for parameter in parameters]
    if not all(map(math.isfinite, given_values)):
        msg = f"`{where}` is {spec!r}, expected finite numbers as parameters"
        raise ValueError(msg)
    values = (*given_values, *defaults[len(parameters) :])
    if name == "scaled_tanh" and values == defaults:
        return "tanh"
    return name if values == defaults else (name, *values)  # type: ignore[return-value]


def _bound(value: float | None, name: str) -> float | None:
    """Return a clipping bound as a float; an infinite one is none."""
    if value is None:
        return None
    expected = "a positive number or None"
    bound = real_number(value, name, expected)
    if not bound > 0:
        msg = f"`{name}` is {value!r}, expected {expected}"
        raise ValueError(msg)
    return None if math.isinf(bound) else bound


DEFAULT = CellOptions()


def is_neutral(options: CellOptions) -> bool:
    """Tell whether options give torch's cell: all do that speak of peepholes or norms only, where there are none."""
    bounds = options.clip_gates, options.clip_cell, options.clip_proj
    return options.activations == DEFAULT.activations and bounds == (None, None, None) and not options.coupled
