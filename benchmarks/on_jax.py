"""Contestants under `jax.jit`: ours, Flax's two, Equinox, Haiku and Keras."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import equinox as eqx
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen, nnx

import lstm_xp as lx
from benchmarks.on_keras import keras_layers
from benchmarks.problems import Problem, summary
from benchmarks.race import Contestant

# layer(parameters, x, reverse) -> output, both (time, batch, features) and aligned.
Layer = Callable[[Any, jax.Array, bool], jax.Array]


class Peer(NamedTuple):
    """Parameters, and a pure function of them and of x."""

    name: str
    parameters: Any
    apply: Callable[[Any, jax.Array], jax.Array]
    batch_first: bool = False


def peers(problem: Problem) -> Iterator[Peer]:
    """Yield everybody, ours first."""
    yield ours(problem)
    yield from others(problem)


def ours(problem: Problem) -> Peer:
    """Return ours."""
    net = problem.net.to(jnp)
    lengths = None if problem.lengths is None else jnp.asarray(problem.lengths)
    return Peer("lstm_xp jax", net.weights, lambda weights, x: lx.lstm(x, weights, lengths=lengths)[0])


def others(problem: Problem) -> Iterator[Peer]:
    """Yield the libraries of layers."""
    for name, make in {
        "Flax nnx": flax_nnx,
        "Flax linen": flax_linen,
        "Equinox": equinox,
        "Haiku": haiku,
    }.items():
        layers = [[make(cell) for cell in layer] for layer in problem.net.weights]
        parameters = [[parameters for parameters, _ in layer] for layer in layers]
        yield Peer(name, parameters, stacked([[apply for _, apply in layer] for layer in layers]))
    yield keras(problem)


def stacked(layers: list[list[Layer]]) -> Callable[[Any, jax.Array], jax.Array]:
    """Return layer upon layer, directions side by side."""

    def apply(parameters: Any, x: jax.Array) -> jax.Array:
        for directions, own in zip(layers, parameters, strict=True):
            outputs = [layer(p, x, d == 1) for d, (layer, p) in enumerate(zip(directions, own, strict=True))]
            x = outputs[0] if len(outputs) == 1 else jnp.concatenate(outputs, axis=2)
        return x

    return apply


def flax_nnx(cell: lx.CellWeights) -> tuple[Any, Layer]:
    """Return Flax's nnx.RNN over its OptimizedLSTMCell."""
    size, features = cell.weight_hh.shape[1], cell.weight_ih.shape[1]
    rnn = nnx.RNN(nnx.OptimizedLSTMCell(features, size, rngs=nnx.Rngs(0)), time_major=True)
    rnn.cell.dense_i.kernel.set_value(jnp.asarray(cell.weight_ih.T))
    rnn.cell.dense_h.kernel.set_value(jnp.asarray(cell.weight_hh.T))
    rnn.cell.dense_h.bias.set_value(jnp.asarray(cell.bias_ih + cell.bias_hh))
    graph, parameters, rest = nnx.split(rnn, nnx.Param, ...)

    def layer(parameters: Any, x: jax.Array, reverse: bool) -> jax.Array:
        zeros = jnp.zeros((x.shape[1], size), x.dtype)  # else it asks for random ones
        rnn = nnx.merge(graph, parameters, rest)
        return rnn(x, initial_carry=(zeros, zeros), reverse=reverse, keep_order=True)

    return parameters, layer


def flax_linen(cell: lx.CellWeights) -> tuple[Any, Layer]:
    """Return Flax's linen.RNN over its OptimizedLSTMCell."""
    parameters = {}
    gates = (np.split(each, 4) for each in (cell.weight_ih, cell.weight_hh, cell.bias_ih + cell.bias_hh))
    for gate, w_ih, w_hh, bias in zip("ifgo", *gates, strict=True):
        parameters[f"i{gate}"] = {"kernel": jnp.asarray(w_ih.T)}
        parameters[f"h{gate}"] = {"kernel": jnp.asarray(w_hh.T), "bias": jnp.asarray(bias)}

    def layer(parameters: Any, x: jax.Array, reverse: bool) -> jax.Array:
        cell_of_flax = linen.OptimizedLSTMCell(cell.weight_hh.shape[1])
        rnn = linen.RNN(cell_of_flax, time_major=True, reverse=reverse, keep_order=True)
        return rnn.apply({"params": {"cell": parameters}}, x)

    return parameters, layer


def equinox(cell: lx.CellWeights) -> tuple[Any, Layer]:
    """Return a scan over Equinox's cell, which is for one sequence, under vmap: as its documentation has it."""
    size, features = cell.weight_hh.shape[1], cell.weight_ih.shape[1]
    module = eqx.nn.LSTMCell(features, size, key=jax.random.key(0))
    new = [jnp.asarray(each) for each in (cell.weight_ih, cell.weight_hh, cell.bias_ih + cell.bias_hh)]
    module = eqx.tree_at(lambda m: (m.weight_ih, m.weight_hh, m.bias), module, new)
    parameters, static = eqx.partition(module, eqx.is_array)

    def layer(parameters: Any, x: jax.Array, reverse: bool) -> jax.Array:
        own = eqx.combine(parameters, static)

        def step(state: Any, x_t: jax.Array) -> Any:
            state = own(x_t, state)
            return state, state[0]

        def one(x: jax.Array) -> jax.Array:
            zeros = jnp.zeros(size, x.dtype)
            return jax.lax.scan(step, (zeros, zeros), x, reverse=reverse)[1]

        return jax.vmap(one, in_axes=1, out_axes=1)(x)

    return parameters, layer


def haiku(cell: lx.CellWeights) -> tuple[Any, Layer]:
    """Return Haiku's dynamic_unroll of its LSTM, whose gates are i, g, f, o, and whose forget bias is one less."""
    size = cell.weight_hh.shape[1]

    def rows(array: np.ndarray) -> np.ndarray:
        i, f, g, o = np.split(array, 4)
        return np.concatenate([i, g, f, o])

    forget = np.repeat(np.asarray([0, 0, 1, 0], np.float32), size)
    w = np.concatenate([rows(cell.weight_ih).T, rows(cell.weight_hh).T])
    linear = {"w": jnp.asarray(w), "b": jnp.asarray(rows(cell.bias_ih + cell.bias_hh) - forget)}

    def layer(parameters: Any, x: jax.Array, reverse: bool) -> jax.Array:
        def unroll(x: jax.Array) -> jax.Array:
            lstm = hk.LSTM(size)
            return hk.dynamic_unroll(lstm, x, lstm.initial_state(x.shape[1]), reverse=reverse)[0]

        return hk.without_apply_rng(hk.transform(unroll)).apply(parameters, x)

    return {"lstm/linear": linear}, layer


def keras(problem: Problem) -> Peer:
    """Return Keras on JAX, by its stateless_call."""
    layers = keras_layers(problem)
    parameters = [[variable.value for variable in layer.trainable_variables] for layer in layers]
    rest = [[variable.value for variable in layer.non_trainable_variables] for layer in layers]

    def apply(parameters: Any, x: jax.Array) -> jax.Array:
        for layer, own, others in zip(layers, parameters, rest, strict=True):
            x, _ = layer.stateless_call(own, others, x)
        return x

    return Peer("Keras on JAX", parameters, apply, batch_first=True)


def function(peer: Peer, *, gradient: bool) -> Any:
    """Return the forward pass, or the gradient of the output's sum of squares over parameters and x; compiled."""
    if not gradient:
        return jax.jit(peer.apply)
    return jax.jit(jax.grad(lambda parameters, x: jnp.sum(peer.apply(parameters, x) ** 2), argnums=(0, 1)))


def given(peer: Peer, problem: Problem) -> jax.Array:
    """Return x as a peer takes it."""
    return jnp.asarray(np.ascontiguousarray(problem.x.swapaxes(0, 1)) if peer.batch_first else problem.x)


def contestant(peer: Peer, problem: Problem, *, gradient: bool) -> Contestant:
    """Return a peer as a contestant; its first call compiles."""
    compiled, x = function(peer, gradient=gradient), given(peer, problem)

    def read(answer: Any) -> list[np.ndarray]:
        array = answer[1] if gradient else answer
        array = np.asarray(array.swapaxes(0, 1) if peer.batch_first else array)
        if not gradient:
            return [array]
        return summary(array, [leaf for leaf in jax.tree.leaves(answer[0]) if leaf.ndim == 2])

    return Contestant(peer.name, lambda: jax.block_until_ready(compiled(peer.parameters, x)), read)


def compilation(peer: Peer, problem: Problem, *, gradient: bool) -> Contestant:
    """Return the compiling of a peer, which computes nothing."""
    x = given(peer, problem)

    def run() -> Any:
        jax.clear_caches()
        return function(peer, gradient=gradient).lower(peer.parameters, x).compile()

    return Contestant(peer.name, run, None)
