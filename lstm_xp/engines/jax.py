"""JAX: the same step under `jax.lax.scan`, compiled once whatever the number of time steps."""

from dataclasses import replace
from functools import partial
from typing import Any

import jax

from lstm_xp._options import CellOptions
from lstm_xp._typing import Array
from lstm_xp._weights import Layers
from lstm_xp.engines._request import Request, Result, Stepper
from lstm_xp.engines._stack import States, make_advance, run_stacked, stepper_of


def supports(_request: Request) -> str | None:
    """Return None: it does everything on JAX's arrays."""
    return None


def run(request: Request) -> Result:
    """Run a request."""
    arrays = {name: getattr(request, name) for name in ("x", "weights", "state", "lengths", "mask")}
    without: dict[str, Any] = dict.fromkeys(arrays)
    result: Result = _run(arrays, replace(request, **without))
    return result


# Compiled as a whole, so that a call outside of the caller's own jit is not a new scan, compiled anew, each time.
@partial(jax.jit, static_argnums=1)
def _run(arrays: dict[str, Any], rest: Request) -> Result:
    return run_stacked(
        replace(rest, **arrays),
        lambda step, carry, xs, reverse: jax.lax.scan(step, carry, xs, reverse=reverse),
    )


def make_stepper(request: Request, batched: bool) -> Stepper:
    """Return what runs one time step after the other."""
    turned = jax.tree.map(_turned, request.weights)
    return stepper_of(partial(_advance, request.options[0], turned), request.xp, batched)


# Of the module, so that a second stream, a copy say, compiles nothing. The matrices come turned round, as the step
# multiplies by them: XLA would do that anew for each frame, which took five times as long as the rest.
@partial(jax.jit, static_argnums=0)
def _advance(options: CellOptions, turned: Layers, x: Array, states: States) -> tuple[Array, States]:
    return make_advance(jax.tree.map(_turned, turned), options, jax.numpy)(x, states)


def _turned(array: Array) -> Array:
    return array.T
