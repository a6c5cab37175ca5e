"""Flax (Linen and NNX), Haiku, Equinox and `jax.experimental.rnn`: each runs its own cell."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lstm_xp as lx
from tests.frameworks.agreement import Sizes, assert_agrees, assert_close, cells, draw, few, fill, sizes, state

pytestmark = pytest.mark.needs("jax")


def nested(layers: list[list[Any]]) -> Any:
    """Return cells as `from_X` takes them: a lone one by itself, a lone direction by itself."""
    if len(layers) == 1 == len(layers[0]):
        return layers[0][0]
    return tuple(layer[0] if len(layer) == 1 else tuple(layer) for layer in layers)


def each_cell(s: Sizes, num_layers: int, num_directions: int, make: Any) -> list[list[Any]]:
    """Return `make(input_size)` for each layer and direction, with arrays of its own."""
    return [
        [fill(make(num_directions * s.H if k else s.I), 1 + 97 * (2 * k + d)) for d in range(num_directions)]
        for k in range(num_layers)
    ]


@pytest.mark.needs("flax")
@pytest.mark.parametrize("name", ["LSTMCell", "OptimizedLSTMCell"])
@few
@given(sizes, st.integers(1, 2), st.integers(1, 2))
def test_linen(name: str, s: Sizes, num_layers: int, num_directions: int) -> None:
    import flax.linen as nn

    rnn = nn.RNN(getattr(nn, name)(s.H), time_major=True, return_carry=True)

    def make(features: int) -> Any:
        return jax.eval_shape(rnn.init, jax.random.key(0), jnp.zeros((1, 1, features)))["params"]["cell"]

    def run(weights: Any, x: Any, h: Any, c: Any) -> Any:
        (c, h), output = rnn.apply({"params": {"cell": weights}}, x, initial_carry=(c, h))
        return output, h, c

    layers = each_cell(s, num_layers, num_directions, make)
    net = lx.convert.from_flax(nested(layers))
    assert_agrees(
        net, lambda *given: cells(run, layers, *given, xp=jnp), s, back=lx.convert.to_flax, weights=nested(layers)
    )


@pytest.mark.needs("flax")
def test_linen_takes_the_variables_as_they_are() -> None:
    import flax.linen as nn

    rnn = nn.RNN(nn.LSTMCell(4))
    variables = rnn.init(jax.random.key(0), jnp.ones((3, 7, 5)))
    net = lx.convert.from_flax(variables, batch_first=True)
    x = np.random.default_rng(0).standard_normal((3, 7, 5)).astype("float32")
    np.testing.assert_allclose(net(jnp.asarray(x))[0], rnn.apply(variables, x), rtol=0, atol=1e-6)


@pytest.mark.needs("flax")
@pytest.mark.parametrize("optimized", [False, True])
@few
@given(sizes, st.integers(1, 2), st.integers(1, 2))
def test_nnx(optimized: bool, s: Sizes, num_layers: int, num_directions: int) -> None:
    from flax import nnx

    def cell(features: int) -> Any:
        return (nnx.OptimizedLSTMCell if optimized else nnx.LSTMCell)(features, s.H, rngs=nnx.Rngs(0))

    def make(features: int) -> Any:
        return nnx.to_pure_dict(nnx.state(cell(features), nnx.Param))

    def run(weights: Any, x: Any, h: Any, c: Any) -> Any:
        own = cell(x.shape[-1])
        nnx.update(own, nnx.State(weights))
        outputs = []
        for x_t in x:
            (c, h), output = own((jnp.asarray(c), jnp.asarray(h)), x_t)
            outputs.append(output)
        return jnp.stack(outputs), h, c

    layers = each_cell(s, num_layers, num_directions, make)
    assert_agrees(
        lx.convert.from_nnx(nested(layers)),
        lambda *given: cells(run, layers, *map(jnp.asarray, given), xp=jnp),
        s,
        back=lambda net: lx.convert.to_nnx(net, optimized=optimized),
        weights=nested(layers),
    )


@pytest.mark.needs("haiku")
@few
@given(sizes, st.integers(1, 2), st.integers(1, 2))
def test_haiku(s: Sizes, num_layers: int, num_directions: int) -> None:
    import haiku as hk

    @hk.without_apply_rng
    @hk.transform
    def unroll(x: Any, h: Any, c: Any) -> Any:
        return hk.dynamic_unroll(hk.LSTM(s.H), x, hk.LSTMState(h, c))

    def make(features: int) -> Any:
        states = (jnp.zeros((1, s.H)),) * 2
        return jax.eval_shape(unroll.init, jax.random.key(0), jnp.zeros((1, 1, features)), *states)

    def run(weights: Any, x: Any, h: Any, c: Any) -> Any:
        output, last = unroll.apply(weights, x, h, c)
        return output, last.hidden, last.cell

    layers = each_cell(s, num_layers, num_directions, make)
    net = lx.convert.from_haiku(nested(layers))
    np.testing.assert_array_equal(net.weights[-1][-1].bias_hh, np.repeat([0, 1, 0, 0], s.H))
    assert_agrees(
        net,
        lambda *given: cells(run, layers, *map(jnp.asarray, given), xp=jnp),
        s,
        back=lx.convert.to_haiku,
        weights=nested(layers),
    )


@pytest.mark.needs("haiku")
@pytest.mark.parametrize("from_zeros", [True, False])
@few
@given(sizes, st.integers(1, 2))
def test_haiku_reset_core(from_zeros: bool, s: Sizes, num_layers: int) -> None:
    """It starts an episode from its core's initial state; that of Haiku's own is zeros."""
    import haiku as hk

    reset = draw(s.T, s.N, seed=7) > 0.2
    h_0, c_0 = (0 * array if from_zeros else array for array in state(num_layers, s))
    start = tuple(hk.LSTMState(*map(jnp.asarray, row)) for row in zip(h_0, c_0, strict=True))

    class Started(hk.DeepRNN):
        def initial_state(self, batch_size: int | None) -> Any:
            return super().initial_state(batch_size) if from_zeros else start

    @hk.without_apply_rng
    @hk.transform
    def unroll(x: Any, reset: Any) -> Any:
        core = hk.ResetCore(Started([hk.LSTM(s.H) for _ in range(num_layers)]))
        return hk.dynamic_unroll(core, (x, reset), start)

    x = draw(s.T, s.N, s.I, seed=4, scale=2)
    weights = fill(jax.eval_shape(unroll.init, jax.random.key(0), jnp.asarray(x), jnp.asarray(reset)))
    output, last = unroll.apply(weights, jnp.asarray(x), jnp.asarray(reset))
    net = lx.convert.from_haiku(tuple({name: arrays} for name, arrays in weights.items()))
    h_n, c_n = (np.stack([getattr(each, name) for each in last]) for name in ("hidden", "cell"))
    assert_close(net(x, (h_0, c_0), reset=reset), (output, (h_n, c_n)))


@pytest.mark.needs("equinox")
@pytest.mark.parametrize("bias", [True, False])
@few
@given(sizes, st.integers(1, 2), st.integers(1, 2))
def test_equinox(bias: bool, s: Sizes, num_layers: int, num_directions: int) -> None:
    import equinox as eqx

    names = ("weight_ih", "weight_hh", "bias")[: 2 + bias]

    def cell(features: int) -> Any:
        return eqx.nn.LSTMCell(features, s.H, use_bias=bias, key=jax.random.key(0))

    def own(weights: Any) -> Any:
        """Return the framework's cell with these arrays."""
        made = cell(weights["weight_ih"].shape[1])
        return eqx.tree_at(lambda c: [getattr(c, name) for name in names], made, list(weights.values()))

    def run(weights: Any, x: Any, h: Any, c: Any) -> Any:
        def step(carry: Any, x_t: Any) -> Any:
            carry = jax.vmap(own(weights))(x_t, carry)
            return carry, carry[0]

        (h, c), output = jax.lax.scan(step, (h, c), x)
        return output, h, c

    layers = each_cell(s, num_layers, num_directions, lambda features: {n: getattr(cell(features), n) for n in names})
    net = lx.convert.from_equinox(nested(layers))
    assert net.bias == bias
    assert_agrees(
        net,
        lambda *given: cells(run, layers, *map(jnp.asarray, given), xp=jnp),
        s,
        back=lx.convert.to_equinox,
        weights=nested(layers),
    )
    objects = nested([[own(weights) for weights in layer] for layer in layers])
    same = lx.convert.from_equinox(objects).to(np)
    for name, array in net.state_dict().items():
        np.testing.assert_array_equal(same.state_dict()[name], array)


@few
@given(sizes, st.integers(1, 3), st.booleans())
def test_jax_experimental_rnn(s: Sizes, num_layers: int, bidirectional: bool) -> None:
    """The order of cuDNN's users, by the reference that JAX compares cuDNN with."""
    from jax.experimental import rnn

    count = rnn.get_num_params_in_lstm(s.I, s.H, num_layers, bidirectional)
    (vector,) = fill([np.empty(count)])
    net = lx.convert.from_cudnn(vector, s.I, s.H, num_layers, bidirectional=bidirectional, batch_first=True)

    def run(x: Any, h_0: Any, c_0: Any) -> Any:
        w_ih, w_hh, b_ih, b_hh = rnn.unpack_lstm_weights(vector, s.I, s.H, num_layers, bidirectional)
        lengths = jnp.full((s.N,), s.T, "int32")
        y, h_n, c_n = rnn.lstm_ref(
            x, h_0, c_0, w_ih, w_hh, b_ih, b_hh, lengths, s.I, s.H, num_layers, 0.0, bidirectional
        )
        return y, (h_n, c_n)

    assert_agrees(net, run, s, back=lx.convert.to_cudnn, weights=vector)
