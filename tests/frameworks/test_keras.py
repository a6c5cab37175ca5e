"""Keras 3 on PyTorch and on JAX."""

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lstm_xp as lx
from tests.frameworks import keras_process
from tests.frameworks.agreement import Sizes, assert_close, assert_same_arrays, draw, few, sizes, state

Run = Callable[..., Any]


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("torch", marks=pytest.mark.needs("keras", "torch")),
        pytest.param("jax", marks=pytest.mark.needs("keras", "jax")),
    ],
)
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """Return a function that calls one of keras_process in the process of a backend."""
    pool = ProcessPoolExecutor(1, get_context("spawn"), keras_process.choose, (request.param,))
    yield lambda function, *arguments: pool.submit(function, *arguments).result()
    pool.shutdown()


def layers_of(s: Sizes, num_layers: int, bidirectional: bool, **arguments: Any) -> list[dict[str, Any]]:
    return [{"lstm": {"units": s.H, **arguments}, "both": bidirectional}] * num_layers


@pytest.mark.parametrize("use_bias", [True, False])
@few
@given(s=sizes, num_layers=st.integers(1, 2), bidirectional=st.booleans())
def test_keras(run: Run, use_bias: bool, s: Sizes, num_layers: int, bidirectional: bool) -> None:
    layers = layers_of(s, num_layers, bidirectional, use_bias=use_bias)
    x, start = draw(s.N, s.T, s.I, scale=2), state(num_layers * (1 + bidirectional), s)
    configs, weights, expected = run(keras_process.run, layers, x, *start)
    net = lx.convert.from_keras(weights, configs[0])
    assert (net.num_layers, net.bidirectional, net.bias) == (num_layers, bidirectional, use_bias)
    assert_close(net(x, start), expected)
    assert_same_arrays(lx.convert.to_keras(net), weights if num_layers > 1 else weights[0])
    if num_layers == 1:
        assert_same_arrays(lx.convert.to_keras(lx.convert.from_keras(weights[0], configs[0])), weights[0])


@pytest.mark.parametrize("zero_output_for_mask", [True, False])
@pytest.mark.parametrize("go_backwards", [True, False])
def test_masks_and_direction(run: Run, go_backwards: bool, zero_output_for_mask: bool) -> None:
    """Keras leaves the output of `go_backwards` in processing order."""
    s = Sizes(7, 3, 5, 4)
    x, start = draw(s.N, s.T, s.I, scale=2), state(1, s)
    mask = draw(s.N, s.T, seed=7) > -0.2
    # Before the first valid step Keras's backends differ: zeros on PyTorch, as here, and the initial state on JAX.
    mask[:, [0, -1]] = True
    layers = layers_of(s, 1, False, go_backwards=go_backwards, zero_output_for_mask=zero_output_for_mask)
    (config,), (weights,), (output, last) = run(keras_process.run, layers, x, *start, mask)
    net = lx.convert.from_keras(weights, config)
    assert (net.reverse, net.masked_output) == (go_backwards, "zero" if zero_output_for_mask else "hold")
    assert_close(net(x, start, mask=mask), (output[:, ::-1] if go_backwards else output, last))


@pytest.mark.parametrize(
    ("activation", "recurrent_activation"),
    [
        ("tanh", "hard_sigmoid"),
        ("softsign", "linear"),
        ("leaky_relu", "softplus"),
        ("elu", "relu"),
        ("relu", "sigmoid"),
        (None, "hard_sigmoid"),
    ],
)
def test_activations(run: Run, activation: str | None, recurrent_activation: str) -> None:
    s = Sizes(3, 2, 5, 4)
    x, start = draw(s.N, s.T, s.I, scale=0.5), state(1, s)
    layers = layers_of(s, 1, False, activation=activation, recurrent_activation=recurrent_activation)
    (config,), (weights,), expected = run(keras_process.run, layers, x, *start)
    net = lx.convert.from_keras(weights, config)
    assert_close(net(x, start), expected)
    output = run(keras_process.run_from_config, lx.convert.keras_config(net), lx.convert.to_keras(net), x)
    np.testing.assert_allclose(net(x)[0], output, rtol=0, atol=1e-6)


def test_a_layer_as_it_is(run: Run) -> None:
    ours, expected = run(keras_process.run_layer, {"units": 4, "recurrent_activation": "hard_sigmoid"}, draw(3, 7, 5))
    assert ours.shape == (3, 7, 8)
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-6)
