"""Contestants in keeping the cell states of every step: each engine's trace, and its plain call."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

import lstm_xp as lx
from benchmarks.problems import Problem
from benchmarks.race import Contestant

KEEP = ("c",)


def contestants(problem: Problem) -> Iterator[tuple[Contestant, Contestant]]:
    """Yield pairs: the plain call, and the trace, on each library and engine that keeps cell states."""
    for engine in ("numpy", "standard"):
        yield _pair(engine, problem.net, problem.x)
    yield _pair("torch", problem.net.to(torch), torch.asarray(problem.x))

    net, x = problem.net.to(jnp), jnp.asarray(problem.x)
    plain = jax.jit(lx.lstm)
    trace = jax.jit(lambda x, weights: lx.trace(x, weights, keep=KEEP))
    yield _named(
        "jax",
        lambda: jax.block_until_ready(plain(x, net.weights)),
        lambda: jax.block_until_ready(trace(x, net.weights)),
    )


def _pair(engine: str, net: lx.LSTM, x: Any) -> tuple[Contestant, Contestant]:
    return _named(engine, lambda: net(x, engine=engine), lambda: net.trace(x, engine=engine, keep=KEEP))


def _named(engine: str, plain: Callable[[], Any], trace: Callable[[], Any]) -> tuple[Contestant, Contestant]:
    return (
        Contestant(f"{engine}, plain call", plain, lambda answer: [np.asarray(answer[0])]),
        Contestant(f"lstm_xp {engine}, c kept", trace, lambda answer: [np.asarray(answer.output)]),
    )
