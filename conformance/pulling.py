"""How the suite differentiates an LSTM on a library by `lstm_vjp`."""

from collections.abc import Callable, Sequence
from functools import cache
from itertools import chain
from typing import Any

import numpy as np

import lstm_xp as lx
from conformance.backends import Backend
from conformance.cases import Case, map_arrays
from conformance.compare import NAMES, flat
from conformance.derivatives import ARGUMENTS, loss_weights
from conformance.running import as_numpy, skipping_what_is_refused

Tree = dict[str, np.ndarray]


def flat_gradients(gradients: Any) -> tuple[Any, ...]:
    """Return what a pullback returns as the arrays that it is, in the order of `tree_of`."""
    d_x, d_weights, d_state = gradients
    d_cells = [d_weights] if isinstance(d_weights, lx.CellWeights) else chain(*d_weights)
    return d_x, *d_state, *(array for cell in d_cells for array in cell if array is not None)


def names_of(case: Case) -> tuple[str, ...]:
    """Return by what derivatives are taken, in their order."""
    return (*ARGUMENTS, *case.lstm().state_dict())


def call(backend: Backend, case: Case, function: Callable[..., Any], names: Sequence[str], *trees: Any) -> list[Any]:
    """Call a function of a library's arrays, which returns a flat tuple of such; return them as NumPy's."""
    with skipping_what_is_refused(backend):
        result = backend.call(function, *map_arrays(backend.array, trees))
    return list(as_numpy(backend, result, backend.array(np.zeros(1, case.dtype)), tuple(names)))


@cache  # a compiler knows a function that it has seen
def _function(settings: tuple[tuple[str, Any], ...]) -> Callable[..., tuple[Any, ...]]:
    def function(weights: Any, arrays: dict[str, Any], cotangents: tuple[Any, ...]) -> tuple[Any, ...]:
        result, pullback = lx.lstm_vjp(weights=weights, **arrays, **dict(settings))
        return *flat(result), *flat_gradients(pullback(cotangents[0], cotangents[1:]))

    return function


def settings_of(backend: Backend, case: Case, **more: Any) -> dict[str, Any]:
    return case.settings | {"engine": backend.engine} | more


def run(
    backend: Backend,
    case: Case,
    change: Callable[[Tree], Tree] = lambda given: given,
    cotangents: tuple[Any, ...] | None = None,
    **more: Any,
) -> tuple[tuple[np.ndarray, ...], Tree]:
    """Return what `lstm_vjp` gives for a case, output, h_n and c_n, and what its pullback gives, by name."""
    function = _function(tuple(settings_of(backend, case, **more).items()))
    trees = case.weights(), change(case.arguments()), loss_weights(case) if cotangents is None else cotangents
    names = names_of(case)
    found = call(backend, case, function, (*NAMES, *(f"d {name}" for name in names)), *trees)
    return tuple(found[:3]), dict(zip(names, found[3:], strict=True))
