"""The reference: a Python loop over time, in the array API standard, on any library."""

from __future__ import annotations  # torch.compile cannot trace the annotations of inner functions

from lstm_xp._cell import State
from lstm_xp._namespace import unstack
from lstm_xp._typing import Array
from lstm_xp.engines._request import Request, Result
from lstm_xp.engines._stack import Body, run_stacked


def supports(_request: Request) -> str | None:
    """Return None: it does everything on everything."""
    return None


def run(request: Request) -> Result:
    """Run a request."""
    xp = request.xp

    def loop(step: Body, carry: State, xs: tuple[Array, ...], reverse: bool) -> tuple[State, Array]:
        # unstack, not x[t]: the gradient of T indexings in torch is T arrays of full size.
        steps = list(zip(*(unstack(array, xp) for array in xs), strict=True))
        ys = []
        for inputs in reversed(steps) if reverse else steps:
            carry, y = step(carry, inputs)
            ys.append(y)
        return carry, xp.stack(ys[::-1] if reverse else ys, axis=0)

    return run_stacked(request, loop)
