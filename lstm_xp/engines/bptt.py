"""
The reference on torch's tensors, with the hand-written derivative in place of autograd's.

Autograd through a loop over time records every operation of every step and goes back through each by itself. Here it
sees one operation, whose derivative is that of `lstm_xp._cell_vjp`: it can be differentiated once, by reverse mode.
That is why it is taken by name: where torch's kernel cannot go, ``"standard"`` can be differentiated in any way.
"""

from itertools import islice
from typing import Any

import torch
from torch import Tensor

from lstm_xp._namespace import is_transformed, without_autocast
from lstm_xp._weights import CellWeights
from lstm_xp.engines import standard
from lstm_xp.engines._request import Cotangents, Request, Result
from lstm_xp.engines._stack_vjp import kept_for_pullback, make_pullback
from lstm_xp.engines.standard import run_vjp

__all__ = ["run", "run_vjp", "supports"]


def supports(request: Request) -> str | None:
    """Return why it cannot run a request, or None."""
    if request.keep:
        return "autograd is not told what is inside"
    if is_transformed(request.x):
        return "its derivative is for reverse mode alone, not for torch.func's transforms"
    if request.noise is not None and torch.is_grad_enabled():
        masks = (getattr(request.noise, name) for name in ("between", "hidden", "zoneout_h", "zoneout_c"))
        if any(mask is not None and mask.requires_grad for mask in masks):
            return "its derivative is not by `noise`"
    return None


def run(request: Request) -> Result:
    """Run a request."""
    weights = (weight for layer in request.weights for cell in layer for weight in cell)
    flat = request.x, *(request.state or (None, None)), *weights
    if not (torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in flat)):
        return standard.run(request)
    output, h_n, c_n = _Bptt.apply(request, *flat)
    return Result(output, h_n, c_n)


class _Bptt(torch.autograd.Function):  # type: ignore[misc]
    """A request as one operation, of its input, state and weights; None where there is none."""

    @staticmethod
    def forward(ctx: Any, request: Request, *flat: Tensor | None) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        result = standard.run(request._replace(keep=kept_for_pullback(request)))
        trace = result.trace or {}
        # All tensors are autograd's to keep: it lets go of them after the way back, and hooks may put them elsewhere.
        ctx.save_for_backward(*flat, *(array for layers in trace.values() for layer in layers for array in layer))
        ctx.names, ctx.fields = tuple(trace), [[cell._fields for cell in layer] for layer in request.weights]
        ctx.request = request._replace(x=None, state=None, weights=())
        # Copies: what is kept for the way back must not be what the caller may write into.
        return tuple(array.clone() for array in result[:3])

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            msg = "the derivative of the engine 'bptt' cannot be differentiated again: take engine='standard'"
            raise RuntimeError(msg)
        x, h_0, c_0, *others = ctx.saved_tensors  # torch refuses, if one was written into in the meantime
        left = iter(others)
        weights = tuple(tuple(CellWeights(*islice(left, len(fields))) for fields in layer) for layer in ctx.fields)
        trace = {name: tuple(tuple(next(left) for _ in layer) for layer in ctx.fields) for name in ctx.names}
        state = None if h_0 is None else (h_0, c_0)
        with without_autocast(x):
            pull = make_pullback(ctx.request._replace(x=x, state=state, weights=weights), trace)
            gradients = pull(Cotangents(*cotangents))
        d_state = [
            d.sum(1, keepdim=True) if array is not None and array.shape[1] != d.shape[1] else d
            for array, d in zip((h_0, c_0), gradients[2:], strict=True)
        ]
        flat = [gradients.x, *d_state, *(d for layer in gradients.weights for cell in layer for d in cell)]
        wanted = zip(flat, ctx.needs_input_grad[1:], strict=True)
        return None, *(d if is_wanted else None for d, is_wanted in wanted)
