r"""
Numba: the steps compiled, BLAS for the products of matrices.

Weights, order of gates and rounds are those of `lstm_xp.engines.numpy`. One call runs a whole round, or all there is to
do for one row, without the interpreter's lock: each step is one product and one loop over the units in which all five
tanh are computed side by side, as many units at a time as a register holds. NumPy's tanh would be a call for each
array; a library's scalar one would not vectorise. A cell that is not torch's, with peepholes, coupled gates or bounds,
has a second loop over the units. A stream takes one call for each layer.

For a batch, BLAS multiplies, in the blocks of NumPy's engine. For one row it multiplies the input, many steps at a
time. A step's product, of a vector, takes as long as reading the weights: they are laid out once, in panels of a few
columns, row after row, so that they are read in order, a line of the cache at a time, and the sums of a panel stay in
registers.

The way back is that of NumPy's engine, too; a step of it has one loop over the units, and for one row its product, with
the transposed weights, is one of panels.
"""

import math
from functools import partial
from typing import Any

import numpy as np

from lstm_xp._options import CellOptions, is_neutral
from lstm_xp._weights import CellWeights
from lstm_xp.engines import _blas, _numpy_back
from lstm_xp.engines import numpy as numpy_engine
from lstm_xp.engines._blas import count_blocks, has_one_thread
from lstm_xp.engines._host import Array, Steps, run_on_host
from lstm_xp.engines._host_vjp import StepsBack, run_vjp_on_host
from lstm_xp.engines._kernels import (
    VECTOR,
    VECTORS,
    batch_back_kernel,
    batch_kernel,
    dot_kernel,
    push_kernel,
    row_back_kernel,
    row_kernel,
)
from lstm_xp.engines._numpy_back import PreparedBack, pull_steps
from lstm_xp.engines._request import Pullback, Request, Result, Stepper
from lstm_xp.engines.numpy import Prepared, for_one_step, run_steps


def supports(request: Request) -> str | None:
    """Return why it cannot run a request, or None."""
    if request.weights[0][0].norm is not None:
        return "it has no layer normalisation"
    if not {"h", "c"}.issuperset(request.keep):
        return "it keeps no gates"
    return numpy_engine.supports(request)


def run(request: Request) -> Result:
    """Run a request."""
    return run_on_host(request, prepare, partial(loop, one_thread=has_one_thread(request)))


def run_vjp(request: Request) -> tuple[Result, Pullback]:
    """Run a request; return also the way back."""
    one_thread = has_one_thread(request)
    there, back = partial(loop, one_thread=one_thread, record=True), partial(loop_back, one_thread=one_thread)
    return run_vjp_on_host(request, prepare, there, prepare_back, back)


def make_stepper(request: Request, batched: bool) -> Stepper:
    """Return what runs one time step after the other, a layer in one call."""
    (options,), empty = request.options, np.empty
    batch, dtype = request.x.shape[1], request.x.dtype
    n, size = request.weights[0][0].weight_hh.shape[0] // 4, request.weights[0][0].weight_hh.shape[1]
    doubled = dtype.type(2 if request.weights[0][0].weight_hr is None else 1)
    push_layer = push_kernel(dtype.char)
    layers, hidden, cells = [], [], []
    for k, (weights,) in enumerate(request.weights):

        def make(weights: CellWeights = weights) -> Prepared:
            prepared = for_one_step(numpy_engine.prepare(weights, options, batch), 1.0)
            return _in_panels(prepared) if batch == 1 else prepared._replace(w=np.ascontiguousarray(prepared.w))

        prepared = request.prepare(("numba stream", k, options, batch == 1), make)
        w = prepared.w if batch == 1 else _in_blocks(prepared.w, batch, has_one_thread(request))
        # (x, 1, h) and c; then what is overwritten in each step: what is projected, and the pre-activations.
        ends = np.cumsum([weights.weight_ih.shape[1] + 1, size, n, n, w.size // w.shape[-1 - (batch == 1)]])
        buffer = np.zeros((ends[-1], batch), dtype)
        buffer[ends[0] - 1] = 1
        layers.append((w, _projection(prepared, n), _variant(prepared, n, batch), buffer))
        hidden.append(buffer[ends[0] : ends[1]].T)
        cells.append(buffer[ends[1] : ends[2]].T)

    def push(x: Array) -> Array:
        x = x if batched else x[None]
        for w, w_hr, variant, buffer in layers:
            result = empty((batch, size), dtype)
            push_layer(w, w_hr, variant, buffer, x, result)
            x = result
        return x if batched else x[0]

    def get_state() -> tuple[Array, Array]:
        return np.array(hidden) / doubled, np.array(cells)

    def set_state(h: Array, c: Array) -> None:
        for k, (h_k, c_k) in enumerate(zip(hidden, cells, strict=True)):
            np.multiply(h[k], doubled, out=h_k)
            c_k[...] = c[k]

    return Stepper(push, get_state, set_state)


def warm_up(dtype: str) -> None:
    """Compile for a dtype what there is to compile, or read it from disk."""
    for kernel in (row_kernel, batch_kernel, push_kernel, row_back_kernel, batch_back_kernel, dot_kernel):
        kernel(np.dtype(dtype).char)


def prepare(weights: CellWeights, options: CellOptions, batch: int) -> Prepared:
    """Return the weights as NumPy's engine has them; for one row in panels."""
    prepared = numpy_engine.prepare(weights, options, batch)
    return _in_panels(prepared) if batch == 1 else prepared


def prepare_back(weights: CellWeights, options: CellOptions, batch: int) -> PreparedBack:
    """Return the weights as NumPy's engine has them; for one row in panels. Its projection's are transposed."""
    prepared = _numpy_back.prepare_back(weights, options, batch)
    if prepared.w_hr is not None:
        # A copy, which the caller's is not where it is one row: it may be read-only, and the kernels take no such.
        prepared = prepared._replace(w_hr=np.array(prepared.w_hr.T, order="C"))
    return prepared._replace(w=_panels(prepared.w)) if batch == 1 else prepared


def _in_panels(prepared: Prepared) -> Prepared:
    """Return `w` transposed and cut into panels, `w_x` padded, `w_hr` by rows."""
    panels = _panels(prepared.w.T)
    if prepared.w_hr is not None:
        prepared = prepared._replace(w_hr=np.ascontiguousarray(prepared.w_hr))
    if prepared.w_x is None:
        return prepared._replace(w=panels)
    w_x = prepared.w_x
    if w_x.shape[1] < len(panels) * panels.shape[2]:
        w_x = np.zeros((len(w_x), len(panels) * panels.shape[2]), w_x.dtype)
        w_x[:, : prepared.w_x.shape[1]] = prepared.w_x
    return prepared._replace(w=panels, w_x=w_x)


def _panels(w: Array) -> Array:
    """Return a matrix cut into panels, shape (panels, rows, columns)."""
    columns = VECTORS * VECTOR // w.itemsize
    count = -(-w.shape[1] // columns)
    memory = np.zeros(count * len(w) * columns * w.itemsize + VECTOR, np.uint8)
    begin = -memory.ctypes.data % VECTOR
    panels = memory[begin : len(memory) + begin - VECTOR].view(w.dtype).reshape(count, len(w), columns)
    for panel, start in zip(panels, range(0, w.shape[1], columns), strict=True):
        part = w[:, start : start + columns]
        panel[:, : part.shape[1]] = part
    return panels


def _in_blocks(w: Array, batch: int, one_thread: bool) -> Array:
    """Return blocks of the weights' rows, shape (blocks, rows, columns)."""
    return w.reshape(count_blocks(len(w), w.shape[1], batch, one_thread), -1, w.shape[1])


def loop(prepared: Prepared, steps: Steps, one_thread: bool, record: bool = False) -> Any:
    """Run one layer in one direction; return the gates and the cell states, where they are wanted."""
    (batch, n), dtype, time = steps.c.shape, steps.c.dtype, len(steps.x)
    w_hr, variant = _projection(prepared, n), _variant(prepared, n, batch)
    if prepared.w_x is not None:
        valid = np.empty(0, np.bool_) if steps.mask is None else steps.mask[:, 0]
        w_x = prepared.w_x
        length = max(1, numpy_engine.BUFFER // max(w_x.shape))
        # The input's products are small for BLAS, too, where that leaves more than a few steps for each. With
        # AVX-512 it takes no threads for them then: those would wait for the threads of NumPy's BLAS, which is another
        # one, while they are awake.
        small = _blas.SMALL // w_x.size
        if small >= 16:
            length = min(length, small)
        cells = steps.kept["c"][:, 0] if steps.kept else np.empty((time if record else 0, n), dtype)
        gates = np.empty((time if record else 0, w_x.shape[1]), dtype)
        weights, state = (w_x, prepared.w, w_hr, variant), (steps.h[0], steps.c[0])
        row_kernel(dtype.char)(length, *weights, valid, steps.x[:, 0], *state, steps.output[:, 0], cells, gates)
        return (gates, cells) if record else None
    gates, c, hidden = (np.empty((rows, batch), dtype) for rows in (4 * n, n, n))
    recorded = np.empty((time, 5, n, batch), dtype) if record else None
    blocks, run_batch = _in_blocks(prepared.w, batch, one_thread), batch_kernel(dtype.char)

    def run(states: Array, _added: Array | None, invalid: Array | None, inside: Array | None) -> None:
        invalid = np.empty((0, batch), np.bool_) if invalid is None else invalid
        cells, kept = np.empty((0, n, batch), dtype), np.empty((0, 5 * n, batch), dtype)
        if record and inside is not None:
            kept = inside.reshape(-1, 5 * n, batch)
        elif inside is not None:
            cells = inside[:, 0]
        run_batch(blocks, w_hr, variant, states, invalid, gates, c, hidden, cells, kept)

    run_steps(prepared, steps, run, c, recorded)
    return recorded


def loop_back(prepared: PreparedBack, steps: StepsBack, one_thread: bool) -> None:
    """Go back through one layer in one direction."""
    w, _, w_hr = prepared
    (batch, n), size, dtype, kept = steps.c.shape, steps.h.shape[1], steps.c.dtype, steps.kept
    projection = np.empty((n, 0), dtype) if w_hr is None else w_hr
    d_hidden, d_c = np.empty((n, batch), dtype), steps.d_c.T.copy()
    # One row's products are written in whole panels.
    d_h = np.zeros((w.shape[0] * w.shape[2] if batch == 1 else size, batch), dtype)
    d_h[:size] = steps.d_h.T

    def walk(times: slice, d_output: Array) -> tuple[Array, Array | None]:
        count, before = len(d_output), times.start - 1
        invalid = np.empty((0, batch), np.bool_)
        if steps.mask is not None:
            invalid = np.logical_not(steps.mask[times], order="C")
        hidden = np.empty((0 if w_hr is None else n, count, batch), dtype)
        if batch == 1:
            gates, cells = (array[times] for array in kept)
            c, d_z = steps.c[0] if before < 0 else kept[1][before], np.empty((count, 4 * n), dtype)
            states = d_output[..., 0], d_h[:, 0], d_c[:, 0], d_hidden[:, 0]
            back = row_back_kernel(dtype.char)
            back(w, projection, invalid[:, 0], gates, cells, c, *states, d_z, hidden[..., 0])
            d_z = d_z.T
        else:
            c = np.ascontiguousarray(steps.c.T) if before < 0 else kept[before, 4]
            inside, d_z = kept[times].reshape(count, 5 * n, batch), np.empty((4 * n, count, batch), dtype)
            back = batch_back_kernel(dtype.char)
            back(blocks, projection, invalid, inside, c, d_output, d_h, d_c, d_hidden, d_gates, d_z, hidden)
        return d_z.reshape(4 * n, -1), None if w_hr is None else hidden.reshape(n, -1)

    blocks, d_gates = w if batch == 1 else _in_blocks(w, batch, one_thread), np.empty((4 * n, batch), dtype)
    pull_steps(prepared, steps, walk, dot_kernel(dtype.char))
    steps.d_h[...], steps.d_c[...] = d_h[:size].T, d_c.T


def _projection(prepared: Prepared, n: int) -> Array:
    """Return the weights of the projection; where there is none, it has no rows."""
    return np.empty((0, n), prepared.w.dtype) if prepared.w_hr is None else prepared.w_hr


def _variant(prepared: Prepared, n: int, batch: int) -> Array:
    """Return, as one vector, what is not torch's in a cell; nothing where it is torch's."""
    options, p_if, p_o, dtype = prepared.options, prepared.p_if, prepared.p_o, prepared.w.dtype
    if p_if is None or p_o is None:
        if is_neutral(options):
            return np.empty(0, dtype)
        peepholes = np.zeros(3 * n, dtype)
    else:
        peepholes = np.concatenate([p_if, p_o]).reshape(-1)
    gates, cell, projected = (
        math.inf if bound is None else bound for bound in (options.clip_gates, options.clip_cell, options.clip_proj)
    )
    switches = p_o is not None, options.peephole_output == "new", options.coupled
    numbers = np.array([gates / 2, gates, cell, projected, *switches], dtype)
    return np.concatenate([numbers, np.repeat(peepholes, batch)])
