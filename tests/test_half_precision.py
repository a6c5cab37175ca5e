"""float16 and bfloat16, where the caller's library has them: the dtype stays, the error is of its size."""

from importlib import import_module
from typing import Any

import numpy as np
import pytest

from conformance.cases import Case
from conformance.compare import flat
from conformance.oracle import torch_answer

CASE = Case(time=100, input_size=32, hidden_size=64, batch=4, num_layers=2)
# Two to three times what was measured: 8e-4 and 6e-3 (torch.nn.LSTM's own: 6e-4 and 2e-3).
TOLERANCE = {"float16": 2e-3, "bfloat16": 1.5e-2}


@pytest.mark.needs("torch")
@pytest.mark.parametrize(
    ("library", "dtype"),
    [
        ("numpy", "float16"),
        ("torch", "float16"),
        ("torch", "bfloat16"),
        pytest.param("jax.numpy", "float16", marks=pytest.mark.needs("jax")),
        pytest.param("jax.numpy", "bfloat16", marks=pytest.mark.needs("jax")),
    ],
)
def test_half_precision(library: str, dtype: str) -> None:
    xp = import_module(library)
    half = getattr(xp, dtype)
    net = CASE.replace(dtype="float32").lstm().to(xp).to(dtype=dtype)
    asarray = lambda a: xp.asarray(a.astype("float32"), dtype=half)
    result = flat(net(asarray(CASE.x()), tuple(map(asarray, CASE.state()))))
    for actual, expected in zip(result, torch_answer(CASE), strict=True):
        assert actual.dtype == half
        difference = np.max(np.abs(as_float32(actual) - expected))
        assert difference < TOLERANCE[dtype]


def as_float32(array: Any) -> np.ndarray:
    return np.asarray(array.float() if hasattr(array, "float") else array.astype("float32"))


@pytest.mark.needs("jax")
def test_bfloat16_that_numpy_does_not_have_is_refused() -> None:
    """NumPy has it as a foreign dtype, whose products come out as float32."""
    from jax import numpy as jnp

    foreign = np.dtype(jnp.bfloat16)
    with pytest.raises(TypeError, match="`weight_ih_l0` has dtype bfloat16, expected a dtype of kind 'real floating'"):
        type(CASE.lstm()).from_weights(CASE.lstm().weights[0][0]._replace(weight_ih=np.ones((256, 32), foreign)))


@pytest.mark.needs("torch")
def test_bfloat16_cannot_become_numpy() -> None:
    import torch

    net = CASE.replace(dtype="float32").lstm().to(torch, dtype="float32").to(dtype=torch.bfloat16)
    with pytest.raises(TypeError, match="`dtype` is 'bfloat16', expected a real floating dtype of numpy"):
        net.to(np)
    assert net.to(np, dtype="float32").dtype == np.float32
