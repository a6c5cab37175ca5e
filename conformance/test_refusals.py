"""What does not go together is refused by name: dtypes, devices, libraries. Nothing is promoted or moved."""

from typing import Any

import numpy as np
import pytest

import lstm_xp as lx
from conformance.backends import Backend
from conformance.cases import Case, map_arrays
from conformance.running import forward

CASE = Case(time=2)


def arguments(backend: Backend) -> tuple[Case, Any, dict[str, Any]]:
    """Return a case, its weights and its arrays."""
    case = CASE.replace(dtype=backend.dtypes[0])
    return case, *map_arrays(backend.array, (case.weights(), case.arguments()))


def another_dtype(backend: Backend, array: np.ndarray) -> Any:
    """Return an array in another dtype: of the same kind, where the library has two."""
    return backend.array(array.astype(backend.dtypes[1] if len(backend.dtypes) == 2 else "int32"))


def test_an_input_of_another_dtype(backend: Backend) -> None:
    case, weights, arrays = arguments(backend)
    with pytest.raises(TypeError, match="`x` has dtype"):
        forward(case, backend, weights, arrays | {"x": another_dtype(backend, case.x())})


@pytest.mark.parametrize("row", [0, 1])
def test_a_state_of_another_dtype(backend: Backend, row: int) -> None:
    case, weights, arrays = arguments(backend)
    state = list(arrays["state"])
    state[row] = another_dtype(backend, case.state()[row])
    with pytest.raises(TypeError, match=f"`{'hc'[row]}_0` has dtype .*, expected {case.dtype} as `x`"):
        forward(case, backend, weights, arrays | {"state": tuple(state)})


FIELDS = ("weight_hh", "bias_ih", "bias_hh", "weight_hr", "peephole", "norm")


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("name", FIELDS)
def test_weights_of_another_dtype(backend: Backend, name: str, layer: int) -> None:
    case = CASE.replace(dtype=backend.dtypes[0], num_layers=2, proj_size=3, peephole=True, norm="joint")
    weights, arrays = map_arrays(backend.array, (case.weights(), case.arguments()))
    layers = [*weights]
    mixed = another_dtype(backend, getattr(case.weights()[layer][0], name))
    layers[layer] = (layers[layer][0]._replace(**{name: mixed}),)
    with pytest.raises(TypeError, match=f"`{name}_l{layer}` has dtype .*, expected {case.dtype} as `weight_ih_l0`"):
        forward(case, backend, tuple(layers), arrays)


@pytest.mark.parametrize(("name", "wrong"), [("lengths", "float32"), ("mask", "int32"), ("reset", "int32")])
def test_lengths_that_are_no_integers_and_steps_that_are_not_boolean(backend: Backend, name: str, wrong: str) -> None:
    case, weights, arrays = arguments(backend)
    given = np.ones(3 if name == "lengths" else (2, 3), wrong)
    with pytest.raises(TypeError, match=f"`{name}` has dtype {wrong}, expected a dtype of kind"):
        forward(case, backend, weights, arrays | {name: backend.array(given)})


def test_an_array_of_another_library(backend: Backend) -> None:
    class Foreign:
        """An array of nobody's."""

        shape, ndim, dtype = (2, 3, 5), 3, "float32"

    case, weights, arrays = arguments(backend)
    for name in ("x", "state"):
        given = Foreign() if name == "x" else (Foreign(), arrays["state"][1])
        with pytest.raises(TypeError, match="is a Foreign, expected an array of a library that follows the array API"):
            # Not through `call`: what compiles a function refuses such a thing before we can.
            forward_uncompiled(case, backend, weights, arrays | {name: given})


def test_a_numpy_array_among_others(backend: Backend) -> None:
    if backend.module in ("numpy", "dask.array"):
        pytest.skip("it is one of NumPy's, or goes with Dask's, as its blocks do")
    case, weights, arrays = arguments(backend)
    with pytest.raises(TypeError, match="`h_0` is an array of numpy, expected"):
        forward_uncompiled(case, backend, weights, arrays | {"state": case.state()})
    with pytest.raises(TypeError, match="`h_0` is an array of numpy, expected"):
        lx.lstm_cell(backend.array(case.x()[0]), weights[0][0], tuple(array[0] for array in case.state()))


def test_another_device(backend: Backend) -> None:
    elsewhere = {"array_api_strict": "CPU_DEVICE", "torch": "meta"}.get(backend.module)
    if elsewhere is None or backend.device == elsewhere:
        pytest.skip("the library has no second device here")
    case = CASE.replace(dtype=backend.dtypes[0], valid="lengths")
    drawn, moved = case.arguments() | {"weights": case.weights()[0][0]}, backend.on(elsewhere)
    arrays = map_arrays(backend.array, drawn)
    h_0, c_0 = arrays["state"]
    weights = arrays["weights"]
    wrong = {
        "h_0": {"state": (moved.array(drawn["state"][0]), c_0)},
        "c_0": {"state": (h_0, moved.array(drawn["state"][1]))},
        "lengths": {"lengths": moved.array(drawn["lengths"])},
        "weight_hh_l0": {"weights": weights._replace(weight_hh=moved.array(drawn["weights"].weight_hh))},
        "bias_hh_l0": {"weights": weights._replace(bias_hh=moved.array(drawn["weights"].bias_hh))},
    }
    for name, changed in wrong.items():
        given = arrays | changed
        with pytest.raises(ValueError, match=f"`{name}` is on another device than"):
            forward_uncompiled(case, backend, given.pop("weights"), given)


def forward_uncompiled(case: Case, backend: Backend, weights: Any, arrays: dict[str, Any]) -> Any:
    """Return what the LSTM gives where the row's compiler is left out."""
    return lx.lstm(weights=weights, **arrays, **case.settings, engine=backend.engine)
