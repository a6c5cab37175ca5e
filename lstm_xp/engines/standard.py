"""The reference: a Python loop over time, in the array API standard, on any library."""

from __future__ import annotations  # torch.compile cannot trace the annotations of inner functions

from lstm_xp._namespace import without_autocast, without_grad
from lstm_xp._typing import Array
from lstm_xp.engines._request import Pullback, Request, Result, Stepper
from lstm_xp.engines._stack import Arrays, Body, Inputs, States, make_advance, run_stacked, stepper_of
from lstm_xp.engines._stack_vjp import run_stacked_vjp, steps_of


def supports(_request: Request) -> str | None:
    """Return None: it does everything on everything."""
    return None


def run(request: Request) -> Result:
    """Run a request."""
    xp = request.xp

    def loop(step: Body, carry: Arrays, xs: Inputs, reverse: bool) -> tuple[Arrays, Arrays]:
        steps = steps_of(xs, xp)
        ys = []
        for inputs in reversed(steps) if reverse else steps:
            carry, y = step(carry, inputs)
            ys.append(y)
        return carry, tuple(xp.stack(column, axis=0) for column in zip(*(ys[::-1] if reverse else ys), strict=True))

    return run_stacked(request, loop)


def run_vjp(request: Request) -> tuple[Result, Pullback]:
    """Run a request; return its result and its pullback, from the equations' derivative."""
    return run_stacked_vjp(request, run)


def make_stepper(request: Request, batched: bool) -> Stepper:
    """Return what runs one time step after the other."""
    xp = request.xp
    with without_grad(request.x):
        advance = make_advance(request.weights, request.options[0], xp)

    def advance_and_copy(x: Array, states: States) -> tuple[Array, States]:
        with without_autocast(x), without_grad(x):
            h, states = advance(x, states)
            # A copy for the caller, who may write into it: h is the state, too.
            return xp.asarray(h, copy=True), states

    return stepper_of(advance_and_copy, xp, batched)
