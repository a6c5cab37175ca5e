"""PyTorch: its own kernel, that of `torch.nn.LSTM`, all layers and directions in one call unless they are traced."""

from typing import TypeAlias

import torch
from torch import Tensor
from torch._subclasses import FakeTensor
from torch.autograd import forward_ad
from torch.nn.functional import linear
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from lstm_xp._namespace import without_autocast
from lstm_xp._options import is_neutral
from lstm_xp._weights import CellWeights
from lstm_xp.engines import standard
from lstm_xp.engines._request import Request, Result, Stepper
from lstm_xp.engines._stack import States, stepper_of

State: TypeAlias = tuple[Tensor, Tensor]

# Multiplications in a step of one layer: so many that calls no longer count.
MUCH = 2**20

# What torch does not document: these, and FakeTensor, which stands for a tensor while a program is exported.
# tests/test_engine_torch.py says which of them has changed in a new version.
_lstm = torch.lstm
_lstm_cell = torch.lstm_cell
_TENSORS = (Tensor, torch.nn.Parameter, FakeTensor)


def _is_transformed() -> bool:
    """Tell whether this runs within a transform for which the kernel has no rule: all but reverse-mode gradients."""
    if forward_ad._current_level >= 0:
        return True
    if not torch._C._are_functorch_transforms_active():
        return False
    functorch = torch._C._functorch
    return torch.compiler.is_compiling() or any(
        level.key() != functorch.TransformType.Grad for level in functorch.get_interpreter_stack()
    )


def _has_visible_values(lengths: Tensor) -> bool:
    """Tell whether what depends on the values of lengths will be right when it runs again."""
    traced = torch.compiler.is_compiling() or torch.jit.is_tracing() or torch._C._len_torch_dispatch_stack() > 0
    transformed = torch._C._are_functorch_transforms_active()
    return type(lengths) is Tensor and lengths.device.type == "cpu" and not (traced or transformed)


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
    if request.reset is not None:
        return "torch's kernel has no `reset`"
    if request.keep and request.lengths is not None:
        return "what torch's kernel does not tell is worked out from its output, which has no padding then"
    tensors = [request.x, *(request.state or ()), *_flat_weights(request)]
    for tensor in tensors:
        if type(tensor) not in _TENSORS:
            return f"torch's kernel may not know a {type(tensor).__name__}"
    if _is_transformed():
        return "torch's kernel has no rule for torch.func's transforms other than grad, nor for forward-mode gradients"
    if request.lengths is not None and not _has_visible_values(request.lengths):
        return "torch packs only `lengths` whose values it sees: on the CPU, neither traced nor transformed"
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
    if request.keep:
        return _run_traced(request)
    x, state = request.x, _initial_state(request)
    if request.lengths is not None:
        lengths = request.lengths.to(torch.int64).clamp(0, x.shape[0])
        if bool((lengths < x.shape[0]).any()):
            return _run_ragged(request, x, lengths, state)
    if not request.reverse:
        return Result(*_call(request, (x,), state))
    output, h_n, c_n = _call(request, (x.flip(0),), state)
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


def _run_ragged(request: Request, x: Tensor, lengths: Tensor, state: State) -> Result:
    """Run a packed sequence, which has no padding; in it, a row without a valid step takes one that does not count."""
    time = x.shape[0]
    steps = torch.arange(time, device=x.device)[:, None]
    valid, any_valid = (steps < lengths)[:, :, None], (lengths > 0)[:, None]
    # What lies in the padding must not even be multiplied: the gradient of 0 * NaN is NaN.
    x = torch.where(any_valid, x, 0.0)
    # Where time runs backward each row is turned round by itself, in and out.
    turned = torch.where(steps < lengths, lengths - 1 - steps, steps)[:, :, None] if request.reverse else None
    if turned is not None:
        x = x.take_along_dim(turned, 0)

    packed = pack_padded_sequence(x, lengths.clamp(min=1), enforce_sorted=False)
    h_0, c_0 = state
    order, back = packed.sorted_indices, packed.unsorted_indices
    data, h_n, c_n = _call(
        request, (packed.data, packed.batch_sizes), (h_0.index_select(1, order), c_0.index_select(1, order))
    )
    output, _ = pad_packed_sequence(PackedSequence(data, packed.batch_sizes, order, back), total_length=time)
    h_n = torch.where(any_valid, h_n.index_select(1, back), h_0)
    c_n = torch.where(any_valid, c_n.index_select(1, back), c_0)

    if turned is not None:
        output = output.take_along_dim(turned, 0)
    output = torch.where(valid, output, 0.0)
    if request.masked_output == "hold" and not request.reverse:
        # Of the direction that runs backward the padding comes before the first valid step.
        directions, size = len(request.options), h_n.shape[2]
        last = torch.where(any_valid, h_n[-directions], 0.0)
        held = torch.where(valid, output[:, :, :size], last)
        output = torch.cat((held, output[:, :, size:]), dim=2)
    return Result(output, h_n, c_n)


def _run_traced(request: Request) -> Result:
    """
    Run layer after layer, and find out what the kernel does not tell.

    Where calls count, from the hidden states, with which the gates are two products for all time steps at once; only
    the cell states come one after the other. Where products count, that would be twice the work: there the states, if
    they are all that is wanted, are those of the kernel of `torch.nn.LSTMCell`, step by step.
    """
    directions = len(request.options)
    state, finals = _initial_state(request), []
    traces: dict[str, list[tuple[Tensor, ...]]] = {name: [] for name in request.keep}
    x = request.x
    for k, layer in enumerate(request.weights):
        starts = [(state[0][row], state[1][row]) for row in range(k * directions, (k + 1) * directions)]
        backward = [request.reverse or d == 1 for d in range(directions)]
        work = x.shape[1] * (layer[0].weight_ih.numel() + layer[0].weight_hh.numel())
        products_count = x.shape[1] > 1 and work >= MUCH  # of one row LSTMCell's are slow
        if products_count and layer[0].weight_hr is None and {"h", "c"}.issuperset(request.keep):
            found = [_step_by_step(x, *each) for each in zip(layer, starts, backward, strict=True)]
            insides, finals_of_layer = [inside for inside, _ in found], [final for _, final in found]
            output = torch.cat([inside["h"] for inside in insides], dim=2)
        else:
            h_0, c_0 = (torch.stack(each) for each in zip(*starts, strict=True))
            output, h_n, c_n, _ = run(request._replace(x=x, weights=(layer,), state=(h_0, c_0), keep=()))
            hidden = [each.clone() for each in output.chunk(directions, dim=2)]  # lest they share its memory
            parts = zip(layer, starts, backward, hidden, strict=True)
            insides = [_inside(x, *part, request.keep) for part in parts]
            finals_of_layer = list(zip(h_n, c_n, strict=True))
        for name, layers in traces.items():
            layers.append(tuple(inside[name] for inside in insides))
        finals += finals_of_layer
        x = output
    h_n, c_n = (torch.stack(each) for each in zip(*finals, strict=True))
    return Result(x, h_n, c_n, {name: tuple(layers) for name, layers in traces.items()})


def _step_by_step(x: Tensor, cell: CellWeights, state: State, reverse: bool) -> tuple[dict[str, Tensor], State]:
    """Return the states of one layer in one direction, and the last one."""
    weights = cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh
    steps, states = x.unbind(), []
    for x_t in reversed(steps) if reverse else steps:
        h, c = state = _lstm_cell(x_t, state, *weights)
        states.append((h, c))
    h, c = (torch.stack(each) for each in zip(*(states[::-1] if reverse else states), strict=True))
    return {"h": h, "c": c}, state


def _inside(
    x: Tensor, cell: CellWeights, state: State, reverse: bool, h: Tensor, keep: tuple[str, ...]
) -> dict[str, Tensor]:
    """Return what is to be kept of one layer in one direction, given its hidden states."""
    if keep == ("h",):
        return {"h": h}
    h_0, c = state
    before = torch.cat((h[1:], h_0[None]) if reverse else (h_0[None], h[:-1]))
    n = c.shape[1]
    rows = slice(4 * n if "o" in keep else 3 * n)
    w_ih, w_hh, b_ih, b_hh = (
        None if each is None else each[rows] for each in (cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh)
    )
    i, f, g, *o = (linear(x, w_ih, b_ih) + linear(before, w_hh, b_hh)).split(n, dim=2)
    i, f, g = i.sigmoid(), f.sigmoid(), g.tanh()
    inside = {"h": h, "i": i, "f": f, "g": g} | ({"o": o[0].sigmoid()} if o else {})
    if "c" in keep:
        cells = []
        steps = list(zip((i * g).unbind(), f.unbind(), strict=True))
        for added, f_t in reversed(steps) if reverse else steps:
            c = torch.addcmul(added, f_t, c)
            cells.append(c)
        inside["c"] = torch.stack(cells[::-1] if reverse else cells)
    return inside


def _call(request: Request, inputs: tuple[Tensor, ...], state: State) -> tuple[Tensor, Tensor, Tensor]:
    """Call the kernel with x, or with the data and the batch sizes of a packed sequence."""
    cell = request.weights[0][0]
    has_biases = cell.bias_ih is not None or cell.bias_hh is not None
    # Without dropout all that training means is that cuDNN keeps what a backward pass needs.
    training, bidirectional = torch.is_grad_enabled(), len(request.options) == 2
    settings = has_biases, len(request.weights), 0.0, training, bidirectional
    batch_first = (False,) if len(inputs) == 1 else ()
    result: tuple[Tensor, Tensor, Tensor] = _lstm(*inputs, state, _flat_weights(request), *settings, *batch_first)
    return result


def _flat_weights(request: Request) -> list[Tensor]:
    """Return the weights in the kernel's order; of two biases it takes both or none."""
    flat = []
    for layer in request.weights:
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
