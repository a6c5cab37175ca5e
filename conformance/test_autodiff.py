"""
Derivatives with respect to input, states and weights by the library's own means, where it has them.

They are those of `torch.nn.LSTM` or, for variants of the cell, the equations' difference quotients.
"""

from typing import Any

import numpy as np
import pytest

import lstm_xp as lx
from conformance import textbook
from conformance.backends import Backend
from conformance.cases import Case, map_arrays
from conformance.derivatives import (
    THROUGH,
    TORCH,
    compare_gradients,
    compare_slopes,
    loss_of,
    torch_gradients,
    tree_of,
)
from conformance.running import Checker, skipping_what_is_refused


@pytest.fixture(autouse=True)
def _differentiates(backend: Backend) -> None:
    if backend.gradients is None:
        pytest.skip("the library does not differentiate")


def gradients(backend: Backend, case: Case, *trees: dict[str, np.ndarray], **given: Any) -> list[dict[str, np.ndarray]]:
    """Return the derivatives of the loss through our LSTM on a library, at some points."""
    loss = loss_of(case, backend.array, backend.namespace.sum, engine=backend.engine, **given)
    with skipping_what_is_refused(backend):
        found = [backend.gradients(loss, map_arrays(backend.array, tree)) for tree in trees]
    return [dict(zip(each, backend.to_numpy(tuple(each.values())), strict=True)) for each in found]


@pytest.mark.parametrize("case", TORCH, ids=str)
def test_equals_torch(backend: Backend, dtype: str, case: Case, check: Checker) -> None:
    case = case.replace(dtype=dtype)
    (actual,) = gradients(backend, case, tree_of(case))
    check.note(compare_gradients(actual, torch_gradients(case), dtype))


@pytest.mark.parametrize("masked_output", ["zero", "hold"])
@pytest.mark.parametrize("valid", ["lengths", "mask"])
def test_nan_in_the_padding_harms_no_derivative(
    backend: Backend, valid: str, masked_output: str, check: Checker
) -> None:
    case = Case(time=4, num_layers=2, bidirectional=True, valid=valid, masked_output=masked_output)
    case = case.replace(dtype=backend.dtypes[0])
    tree, padding = tree_of(case), ~case.valid_steps()[..., None]
    points = [tree | {"x": np.where(padding, np.asarray(junk, case.dtype), tree["x"])} for junk in (0.0, np.nan)]
    clean, dirty = gradients(backend, case, *points)
    check.note(compare_gradients(dirty, clean, case.dtype))


def test_saturated_inputs_give_finite_derivatives(backend: Backend, dtype: str) -> None:
    case = Case(time=4, num_layers=2, bidirectional=True, proj_size=2, dtype=dtype, numbers="saturated")
    (found,) = gradients(backend, case, tree_of(case))
    for name, gradient in found.items():
        assert np.isfinite(gradient).all(), f"d {name} is not finite"


@pytest.mark.parametrize("name", THROUGH)
def test_through_every_option(backend: Backend, name: str, check: Checker) -> None:
    case, options = THROUGH[name]
    if case.dtype not in backend.dtypes:
        pytest.skip("difference quotients need float64")
    (actual,) = gradients(backend, case, tree_of(case), options=lx.CellOptions(**options))
    check.note(compare_slopes(actual, case, textbook.Variant(**options)))
