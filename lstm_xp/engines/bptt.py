"""
The reference on torch's tensors, with the hand-written derivative in place of autograd's.

Autograd through a loop over time records every operation of every step and goes back through each by itself. Here it
sees one operation, whose derivative is that of `lstm_xp._cell_vjp`: it can be differentiated once, by reverse mode.
That is why it is taken by name: where torch's kernel cannot go, ``"standard"`` can be differentiated in any way.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lstm_xp.engines import standard
from lstm_xp.engines._request import Cotangents, Request, Result
from lstm_xp.engines.standard import run_vjp
from lstm_xp.engines.torch import is_transformed

__all__ = ["run", "run_vjp", "supports"]


def supports(request: Request) -> str | None:
    """
    Return why it cannot run a request, or None if it can.

    Parameters
    ----------
    request : Request
        The forward pass.

    Returns
    -------
    str or None
        The reason.
    """
    if request.keep:
        return "autograd is not told what is inside"
    if is_transformed() or torch._C._are_functorch_transforms_active():
        return "its derivative is for reverse mode alone, not for torch.func's transforms"
    return None


def run(request: Request) -> Result:
    """
    Run a request.

    Parameters
    ----------
    request : Request
        The forward pass.

    Returns
    -------
    Result
        The output and the final states.
    """
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
        ctx.save_for_backward(*flat)
        result, ctx.pullback = standard.run_vjp(request)
        # Copies: what is kept for the way back must not be what the caller may write into, nor lead back to it.
        return tuple(array.clone() for array in result[:3])

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
        given = ctx.saved_tensors  # torch refuses, if one was written into in the meantime
        gradients = ctx.pullback(Cotangents(*cotangents))
        state = [
            d.sum(1, keepdim=True) if array is not None and array.shape[1] != d.shape[1] else d
            for array, d in zip(given[1:3], gradients[2:], strict=True)
        ]
        flat = [gradients.x, *state, *(d for layer in gradients.weights for cell in layer for d in cell)]
        wanted = zip(flat, ctx.needs_input_grad[1:], strict=True)
        return None, *(d if is_wanted else None for d, is_wanted in wanted)
