"""PyTorch: its own kernel, that of `torch.nn.LSTM`, all layers and directions in one call unless they are traced."""

from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch._subclasses import FakeTensor
from torch.autograd import forward_ad
from torch.nn.functional import linear

from lstm_xp._cell import Moment
from lstm_xp._namespace import is_transformed, without_autocast
from lstm_xp._options import is_neutral
from lstm_xp._weights import CellWeights, Layers, total_bias
from lstm_xp.engines import standard
from lstm_xp.engines._request import Cotangents, Gradients, Pullback, Request, Result, Stepper
from lstm_xp.engines._stack import States, stepper_of

State: TypeAlias = tuple[Tensor, Tensor]

# Multiplications in a step of one layer: so many that calls no longer count.
MUCH = 2**20
# Numbers in a step: so few that only calls count.
SMALL = 2**10
# Steps that are joined by doubling: for a gradient it keeps as many arrays as it takes rounds.
BLOCK = 128
# Numbers of all steps of one layer's hidden states: so many that torch's gradient of packed episodes, which takes as
# many for each step, is slower than the loop.
LARGE = 2**17

# What torch does not document: these, and FakeTensor, which stands for a tensor while a program is exported.
# tests/test_engine_torch.py says which of them has changed in a new version.
_lstm = torch.lstm
_lstm_cell = torch.lstm_cell
_TENSORS = (Tensor, torch.nn.Parameter, FakeTensor)


def _has_no_rule() -> bool:
    """Tell whether this runs within a transform for which the kernel has no rule: all but reverse-mode gradients."""
    if forward_ad._current_level >= 0:
        return True
    if not torch._C._are_functorch_transforms_active():
        return False
    functorch = torch._C._functorch
    return torch.compiler.is_compiling() or any(
        level.key() != functorch.TransformType.Grad for level in functorch.get_interpreter_stack()
    )


def _has_visible_values(array: Tensor) -> bool:
    """Tell whether what depends on the values of `lengths` or `reset` will be right when it runs again."""
    traced = torch.compiler.is_compiling() or torch.jit.is_tracing() or torch._C._len_torch_dispatch_stack() > 0
    transformed = torch._C._are_functorch_transforms_active()
    return type(array) is Tensor and array.device.type == "cpu" and not (traced or transformed)


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
    for options in request.options:
        if not is_neutral(options):
            return "torch's kernel has no `options`"
    cell = request.weights[0][0]
    if cell.peephole is not None:
        return "torch's kernel has no peepholes"
    if cell.norm is not None:
        return "torch's kernel has no layer normalisation"
    if cell.weight_hr is not None and cell.weight_hr.shape[0] == cell.weight_hr.shape[1]:
        return "torch's kernel tells a projection by its size, which is that of the cell"
    if request.mask is not None:
        return "torch's kernel has no `mask`"
    if request.noise is not None and request.noise.is_recurrent:
        return "torch's kernel has no noise on the recurrent state"
    if request.keep and not (request.lengths is None and request.reset is None):
        return (
            "what torch's kernel does not tell is worked out from its output, which has no padding and no `reset` then"
        )
    tensors = [request.x, *(request.state or ()), *_flat_weights(request.weights)]
    for tensor in tensors:
        if type(tensor) not in _TENSORS:
            return f"torch's kernel may not know a {type(tensor).__name__}"
    if _has_no_rule():
        return "torch's kernel has no rule for torch.func's transforms other than grad, nor for forward-mode gradients"
    for name in ("lengths", "reset"):
        array = getattr(request, name)
        if array is not None and not _has_visible_values(array):
            return f"torch packs only by `{name}` whose values it sees: on the CPU, neither traced nor transformed"
    if request.pullback and (torch.is_inference_mode_enabled() or any(tensor.is_inference() for tensor in tensors)):
        return "torch's autograd does not go through tensors of inference mode"
    if request.pullback and is_transformed(request.x):
        return "torch's autograd would cut off the derivatives that one of torch.func's transforms asks for"
    differentiated = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    if request.reset is not None and (differentiated or request.pullback):
        time, batch, _ = request.x.shape
        if time * batch * cell.weight_hh.shape[1] >= LARGE:
            return "the gradient of torch's kernel for packed episodes is slower than the loop where there are so many"
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
        The output, the final states and the trace.
    """
    if request.noise is not None and request.noise.between is not None:
        return _run_layers(request, request.noise.between)
    if request.keep:
        return _run_traced(request)
    x = request.x
    if request.lengths is not None or request.reset is not None:
        time, batch, _ = x.shape
        lengths = torch.full((batch,), time, device=x.device) if request.lengths is None else request.lengths
        lengths = lengths.to(torch.int64).clamp(0, time)
        if bool((lengths < time).any()) or (request.reset is not None and bool(request.reset[1:].any())):
            return _run_packed(request, lengths)
    state = _initial_state(request)
    if not request.reverse:
        return Result(*_call(request.weights, (x,), state))
    output, h_n, c_n = _call(request.weights, (x.flip(0),), state)
    return Result(output.flip(0), h_n, c_n)


def make_stepper(request: Request, batched: bool) -> Stepper:
    """
    Return what runs one time step after the other: the kernel of `torch.nn.LSTMCell`, a fifth of the other's overhead.

    Parameters
    ----------
    request : Request
        The forward pass.
    batched : bool
        Whether frames have a batch axis.

    Returns
    -------
    Stepper
        The stepper; the reference's with a projection, which that kernel does not have.
    """
    if request.weights[0][0].weight_hr is not None:
        return standard.make_stepper(request, batched)
    cells = [(w.weight_ih, w.weight_hh, w.bias_ih, w.bias_hh) for (w,) in request.weights]

    def advance(x: Tensor, states: States) -> tuple[Tensor, States]:
        after: list[State] = []
        with without_autocast(x), torch.no_grad():
            for weights, state in zip(cells, states, strict=True):
                h, c = _lstm_cell(x, state, *weights)
                after.append((h, c))
                x = h
            # A copy for the caller, who may write into it: h is the state, too.
            return x.clone(), tuple(after)

    stepper = stepper_of(advance, request.xp, batched=True)
    # The kernel knows batches only.
    return stepper if batched else stepper._replace(push=lambda x: stepper.push(x[None])[0])


def run_vjp(request: Request) -> tuple[Result, Pullback]:
    """Run a request; return its result, detached, and its pullback, by torch's own autograd."""

    def leaf(tensor: Tensor) -> Tensor:
        return tensor.detach().requires_grad_()

    with torch.enable_grad():
        x, (h_0, c_0) = leaf(request.x), map(leaf, _initial_state(request))
        weights = tuple(
            tuple(CellWeights(*(None if w is None else leaf(w) for w in cell)) for cell in layer)
            for layer in request.weights
        )
        result = run(request._replace(x=x, weights=weights, state=(h_0, c_0)))
    outputs = [result.output, result.h_n, result.c_n]
    leaves = [x, h_0, c_0, *(w for layer in weights for cell in layer for w in cell if w is not None)]

    def pullback(cotangents: Cotangents) -> Gradients:
        # Some of all, lest there be nothing to differentiate.
        d_outputs = [torch.zeros_like(a) if d is None else d for a, d in zip(outputs, cotangents, strict=True)]
        found = torch.autograd.grad(outputs, leaves, d_outputs, retain_graph=True, allow_unused=True)
        given = [torch.zeros_like(a) if d is None else d for a, d in zip(leaves, found, strict=True)]
        d_x, d_h, d_c, *d_weights = given
        flat = iter(d_weights)
        d_layers = tuple(
            tuple(CellWeights(*(None if w is None else next(flat) for w in cell)) for cell in layer)
            for layer in weights
        )
        return Gradients(d_x, d_layers, d_h, d_c)

    return Result(*(a.detach() for a in outputs)), pullback


def _run_layers(request: Request, between: Tensor) -> Result:
    """Run layer after layer, with noise between them."""
    x, directions, results = request.x, len(request.options), []
    for k, layer in enumerate(request.weights):
        rows = slice(k * directions, (k + 1) * directions)
        state = None if request.state is None else (request.state[0][rows], request.state[1][rows])
        results.append(run(request._replace(x=x, weights=(layer,), state=state, noise=None)))
        if k < len(request.weights) - 1:
            x = results[-1].output * between[k]
    h_n, c_n = (torch.cat([result[which] for result in results]) for which in (1, 2))
    if not request.keep:
        return Result(results[-1].output, h_n, c_n)
    trace = {name: sum(((result.trace or {})[name] for result in results), ()) for name in request.keep}
    return Result(results[-1].output, h_n, c_n, trace)


class _Packing(NamedTuple):
    """
    Episodes as the rows of a packed sequence, from the longest to the shortest.

    Parameters
    ----------
    row : tensor, shape (episodes,)
        The row of the batch that each is of.
    first, last : tensor, shape (batch,)
        The first and the last episode of each row, in time.
    sizes : tensor, shape (steps,)
        How many last so long, at each step.
    place : tensor, shape (packed,)
        Where each step that is packed has its features in x, time and batch being one axis.
    """

    row: Tensor
    first: Tensor
    last: Tensor
    sizes: Tensor
    place: Tensor


def _pack(lengths: Tensor, reset: Tensor | None, time: int, reverse: bool) -> _Packing:
    """Pack episodes, of what is valid: at least the first step of each row."""
    steps = torch.arange(time, device=lengths.device)[:, None]
    begins = (steps == 0).expand(time, len(lengths))
    if reset is not None:
        begins = begins | (reset & (steps < lengths))
    row, start = begins.T.nonzero(as_tuple=True)
    # Each stops where the next one of the row starts.
    following = torch.where(row.roll(-1) == row, start.roll(-1), 0)
    stop = torch.where(following > start, following, lengths[row])
    length, order = (stop - start).sort(descending=True, stable=True)
    row, start, stop = row[order], start[order], stop[order]
    ends = (start == 0).nonzero()[:, 0], (stop == lengths[row]).nonzero()[:, 0]
    first, last = (each[row[each].argsort()] for each in ends)

    sizes = len(row) - length.bincount().cumsum(0)[:-1]
    step = torch.arange(len(sizes), device=row.device).repeat_interleave(sizes)
    episode = torch.arange(len(step), device=row.device) - (sizes.cumsum(0) - sizes)[step]
    moment = stop[episode] - 1 - step if reverse else start[episode] + step
    return _Packing(row, first, last, sizes, moment * len(lengths) + row[episode])


def _run_packed(request: Request, lengths: Tensor) -> Result:
    """
    Run every episode as a sequence by itself, all of them packed, without padding.

    No state passes from one to another, in no layer and no direction: to the kernel they are a larger batch. A row
    without a valid step takes one that does not count.
    """
    time, batch, _ = request.x.shape
    any_valid = (lengths > 0)[:, None]
    # What lies in the padding must not even be multiplied: the gradient of 0 * NaN is NaN.
    x = torch.where(any_valid, request.x, 0.0)
    state = _initial_state(request)

    packing = _pack(lengths.clamp(min=1), request.reset, time, request.reverse)
    data, *ends = _call(
        request.weights,
        (x.flatten(0, 1).index_select(0, packing.place), packing.sizes),
        (state[0].index_select(1, packing.row), state[1].index_select(1, packing.row)),
    )
    output = data.new_zeros(time * batch, data.shape[1]).index_copy(0, packing.place, data)
    output = output.unflatten(0, (time, batch))

    # In the order of processing, the last episode is the first one in time where that runs backward.
    directions = len(request.options)
    final = [packing.first if request.reverse or d == 1 else packing.last for d in range(directions)]
    h_n, c_n = (
        torch.stack([end[d::directions].index_select(1, final[d]) for d in range(directions)], dim=1).flatten(0, 1)
        for end in ends
    )
    h_n, c_n = torch.where(any_valid, h_n, state[0]), torch.where(any_valid, c_n, state[1])

    valid = (torch.arange(time, device=x.device)[:, None] < lengths)[:, :, None]
    output = torch.where(valid, output, 0.0)
    if request.masked_output == "hold" and not request.reverse:
        # Of the direction that runs backward the padding comes before the first valid step.
        size = h_n.shape[2]
        held = torch.where(valid, output[:, :, :size], torch.where(any_valid, h_n[-directions], 0.0))
        output = torch.cat((held, output[:, :, size:]), dim=2)
    return Result(output, h_n, c_n)


def _run_traced(request: Request) -> Result:
    """Run layer after layer and direction after direction, and find out what the kernel does not tell."""
    directions = len(request.options)
    x, (h_0, c_0), finals = request.x, _initial_state(request), []
    traces: dict[str, list[tuple[Tensor, ...]]] = {name: [] for name in request.keep}
    for k, layer in enumerate(request.weights):
        insides = []
        for d, cell in enumerate(layer):
            row, backward = k * directions + d, request.reverse or d == 1
            inside, final = _look_inside(x.flip(0) if backward else x, cell, (h_0[row], c_0[row]), request.keep)
            insides.append({name: each.flip(0) for name, each in inside.items()} if backward else inside)
            finals.append(final)
        # A copy, too, where there is one direction and the states are kept: lest they share their memory.
        shared = directions == 1 and "h" not in request.keep
        x = insides[0]["h"] if shared else torch.cat([inside["h"] for inside in insides], dim=2)
        for name, layers in traces.items():
            layers.append(tuple(inside[name] for inside in insides))
    h_n, c_n = (torch.stack(each) for each in zip(*finals, strict=True))
    return Result(x, h_n, c_n, {name: tuple(layers) for name, layers in traces.items()})


def _look_inside(x: Tensor, cell: CellWeights, state: State, keep: tuple[str, ...]) -> tuple[dict[str, Tensor], State]:
    """
    Run one layer forward in time; return the hidden states, what is to be kept, and the last state.

    Where calls count, gates and cell states are made of the kernel's hidden states, for all time steps at once. That
    is most of the products once more: where those count, it goes step by step.
    """
    if x.shape[1] > 1 and x.shape[1] * (cell.weight_ih.numel() + cell.weight_hh.numel()) >= MUCH and keep != ("h",):
        return _step_by_step(x, cell, state, keep)
    h_0, c_0 = state
    h, h_n, c_n = _call(((cell,),), (x,), (h_0[None], c_0[None]))
    inside = {"h": h}
    if keep != ("h",):
        n = c_0.shape[1]
        rows = slice(4 * n if "o" in keep else 3 * n)
        w_ih, w_hh, b_ih, b_hh = (None if each is None else each[rows] for each in cell[:4])
        z = linear(x, w_ih, b_ih) + linear(torch.cat((h_0[None], h[:-1])), w_hh, b_hh)
        inside |= dict(zip("ifgo", _gates(z, n), strict=False))
    if "c" in keep:
        inside["c"] = _cell_states(inside["i"] * inside["g"], inside["f"], c_0)
    return inside, (h_n[0], c_n[0])


def _step_by_step(x: Tensor, cell: CellWeights, state: State, keep: tuple[str, ...]) -> tuple[dict[str, Tensor], State]:
    """Run one layer forward in time, as `_look_inside`, without the kernel."""
    (h, c), n, w_hh = state, state[1].shape[1], cell.weight_hh.mT
    kept: dict[str, list[Tensor]] = {name: [] for name in ("h", *keep)}
    for z in linear(x, cell.weight_ih, total_bias(cell)).unbind():
        i, f, g, o = _gates(torch.addmm(z, h, w_hh), n)
        c = torch.addcmul(i * g, f, c)
        h = o * c.tanh()
        h = h if cell.weight_hr is None else linear(h, cell.weight_hr)
        moment = Moment(h, c, i, f, g, o)
        for name, steps in kept.items():  # these alone: what is let go of is memory that the next step finds warm
            steps.append(getattr(moment, name))
    return {name: torch.stack(steps) for name, steps in kept.items()}, (h, c)


def _gates(z: Tensor, n: int) -> tuple[Tensor, ...]:
    """Return i, f, g and, if its pre-activations are there, o."""
    i, f, g, *o = z.chunk(z.shape[-1] // n, dim=-1)
    return i.sigmoid(), f.sigmoid(), g.tanh(), *(each.sigmoid() for each in o)


def _cell_states(added: Tensor, f: Tensor, c: Tensor) -> Tensor:
    """
    Return ``c_t = f_t c_(t-1) + added_t`` for all t.

    Step by step where a step is large. Where it is not, by doubling: from what the last k steps added, and the share of
    the state before them that they left, follow those of the last 2k steps, for all t at once.
    """
    if c.numel() >= SMALL:
        states = []
        for added_t, f_t in zip(added.unbind(), f.unbind(), strict=True):
            c = torch.addcmul(added_t, f_t, c)
            states.append(c)
        return torch.stack(states)
    blocks = []
    for added_block, f_block in zip(added.split(BLOCK), f.split(BLOCK), strict=True):
        blocks.append(_doubled(added_block, f_block, c))
        c = blocks[-1][-1]
    return torch.cat(blocks)


def _doubled(added: Tensor, f: Tensor, c: Tensor) -> Tensor:
    """Return `_cell_states` of a few steps, by doubling."""
    every, time, k = torch.cat((c[None], added)), added.shape[0], 1
    while True:
        every = torch.cat((every[:k], torch.addcmul(every[k:], f, every[:-k])))
        if 2 * k > time:
            return every[1:]
        f, k = f[k:] * f[:-k], 2 * k


def _call(weights: Layers, inputs: tuple[Tensor, ...], state: State) -> tuple[Tensor, Tensor, Tensor]:
    """Call the kernel with x, or with the data and the batch sizes of a packed sequence."""
    cell = weights[0][0]
    has_biases = cell.bias_ih is not None or cell.bias_hh is not None
    # Without dropout all that training means is that cuDNN keeps what a backward pass needs.
    training, bidirectional = torch.is_grad_enabled(), len(weights[0]) == 2
    settings = has_biases, len(weights), 0.0, training, bidirectional
    batch_first = (False,) if len(inputs) == 1 else ()
    result: tuple[Tensor, Tensor, Tensor] = _lstm(*inputs, state, _flat_weights(weights), *settings, *batch_first)
    return result


def _flat_weights(weights: Layers) -> list[Tensor]:
    """Return the weights in the kernel's order; of two biases it takes both or none."""
    flat = []
    for layer in weights:
        for cell in layer:
            flat += [cell.weight_ih, cell.weight_hh]
            biases = [cell.bias_ih, cell.bias_hh]
            given = [bias for bias in biases if bias is not None]
            flat += [torch.zeros_like(given[0]) if bias is None else bias for bias in biases] if given else []
            flat += [] if cell.weight_hr is None else [cell.weight_hr]
    return flat


def _initial_state(request: Request) -> State:
    """Return ``(h_0, c_0)`` with the batch size of x."""
    batch, cell = request.x.shape[1], request.weights[0][0]
    if request.state is not None:
        h_0, c_0 = (array.expand(-1, batch, -1).contiguous() for array in request.state)
        return h_0, c_0
    rows = len(request.weights) * len(request.options)
    c_0 = request.x.new_zeros(rows, batch, cell.weight_hh.shape[0] // 4)
    return (c_0 if cell.weight_hr is None else request.x.new_zeros(rows, batch, cell.weight_hr.shape[0])), c_0
