"""JAX: the same step under `jax.lax.scan`, compiled once whatever the number of time steps."""

from dataclasses import replace
from functools import partial
from typing import Any

import jax

from lstm_xp.engines._request import Request, Result
from lstm_xp.engines._stack import run_stacked


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
