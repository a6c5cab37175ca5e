r"""
NumPy at its own best: one product and a handful of calls a step, into buffers that are there.

The state is kept as (features, batch), so that each gate is one contiguous block. For a batch, the input lies below
the hidden state and ones below that, :math:`s_t = (h_{t-1}, x_t, 1)`, so that one product with all weights side by side
makes all pre-activations. For one row, where the product is bound by reading the weights, the input is projected for
many steps at once. A batch's product is made in blocks of rows, where those are quicker (`count_blocks`).

With :math:`\sigma(z) = (\tanh(z/2) + 1)/2` and the halves folded into the weights, one tanh serves all four gates; the
factor 2 that then remains in c is divided out, the one in h is folded into the weights that read it. Factors of two are
exact; a state beyond half the largest number overflows.

On the way back all that does not wait for the step after, the slopes, is made for many steps at once. A step is then
five calls: two multiplications, by the slopes of the output gate and of what tanh shows, and by those of the other
gates and the forget gate itself; two sums; and the product with the transposed weights. What many steps make is one
matrix, of which one product each makes the derivatives by the weights and by the input.
"""

import os
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeAlias

import numpy as np

from lstm_xp._options import DEFAULT, CellOptions, is_neutral
from lstm_xp._weights import CellWeights, total_bias
from lstm_xp.engines._host import Array, Steps, run_on_host
from lstm_xp.engines._host_vjp import Dot, StepsBack, run_vjp_on_host
from lstm_xp.engines._norms import Norms, centre, complete_input, norm_of_cells, norm_of_products, prepare_norms
from lstm_xp.engines._request import Pullback, Request, Result, Stepper

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))

# Elements of the buffer for (h, x, 1): more time steps than fit are taken one buffer after the other.
BUFFER = 2**18

# OpenBLAS copies what it multiplies into an order of its own, but not for products of at most so many multiplications
# (for AVX-512 and some others; elsewhere smaller products are as fast). For few rows the copying is most of the work.
SMALL = 10**6
FEW = 8  # So few that its threads do not make good for it.


def _has_one_thread() -> bool:
    """Tell whether BLAS has one thread, as far as the environment says: OpenBLAS asks for the same, in this order."""
    values = (os.environ.get(f"{name}_NUM_THREADS", "").strip() for name in ("OPENBLAS", "GOTO", "OMP"))
    said = next((int(value) for value in values if value.isdigit() and int(value) > 0), None)
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return (processors if said is None else said) == 1


ONE_THREAD = _has_one_thread()


def has_one_thread(request: Request) -> bool:
    """Tell whether BLAS has one thread for each call of a request: also where the request has threads of its own."""
    return ONE_THREAD or request.threads > 1


def count_blocks(rows: int, columns: int, batch: int, one_thread: bool) -> int:
    """
    Return into how many blocks of rows to divide a matrix, so that their products with columns are small for BLAS.

    Parameters
    ----------
    rows, columns : int
        The shape of the matrix.
    batch : int
        The number of columns of what it is multiplied by.
    one_thread : bool
        Whether BLAS has one thread.

    Returns
    -------
    int
        A divisor of the number of rows; 1 where blocks are no gain.
    """
    if batch == 1 or (batch > FEW and not one_thread):
        return 1
    # Blocks of less than 16 rows take longer than the copying.
    able = (n for n in range(1, rows // 16 + 1) if rows % n == 0 and rows // n * columns * batch <= SMALL)
    return next(able, 1)


def supports(request: Request) -> str | None:
    """Return why it cannot run a request, or None."""
    if request.x.dtype not in FLOATS:
        return f"it is for float32 and float64, not for {request.x.dtype.name}, of which BLAS has no products"
    if request.noise is not None and request.noise.is_recurrent:
        return "it has no noise on the recurrent state"
    for options in request.options:
        if options.activations != DEFAULT.activations:
            return "it has no activations but sigmoid and tanh"
    if request.pullback:
        if not all(is_neutral(options) for options in request.options):
            return "its backward pass has no `options` but the default"
        for name in ("peephole", "norm"):
            if getattr(request.weights[0][0], name) is not None:
                return f"its backward pass has no `{name}`"
    return None


def run(request: Request) -> Result:
    """Run a request."""
    return run_on_host(request, prepare, partial(loop, one_thread=has_one_thread(request)))


def run_vjp(request: Request) -> tuple[Result, Pullback]:
    """Run a request; return also the way back."""
    one_thread = has_one_thread(request)
    there, back = partial(loop, one_thread=one_thread, record=True), partial(loop_back, one_thread=one_thread)
    return run_vjp_on_host(request, prepare, there, prepare_back, back)


class Prepared(NamedTuple):
    """
    A cell's weights as the loop wants them; gates in the order o, i, f, g.

    `w` is for (h, x, 1), or for h alone where `w_x`, for (x, 1), is not None: for one row, and with norms.
    """

    w: Array
    w_x: Array | None
    w_hr: Array | None
    p_o: Array | None
    p_if: Array | None
    bounds: Array | None
    options: CellOptions
    norms: Norms | None = None


Step: TypeAlias = Callable[[Array, Array | None, Array, Array, Array | None], None]


def make_stepper(request: Request, batched: bool) -> Stepper:
    r"""
    Return what runs one time step after the other.

    All layers share one buffer, :math:`(x_t, 1, h^1, 1, h^2, \dots)`: what a layer's product is with is the part from
    its input to its own hidden state, and the layer below has written that input there.
    """
    x, (options,) = request.x, request.options
    batch, size = x.shape[1], request.weights[0][0].weight_hh.shape[1]
    doubled = 2.0 if request.weights[0][0].weight_hr is None else 1.0
    features = x.shape[2]
    ends = [features + (k + 1) * (1 + size) for k in range(len(request.weights))]
    buffer = np.ones((ends[-1], batch), x.dtype)

    layers, cells = [], []
    below = 0  # where a layer's input begins
    for k, ((weights,), end) in enumerate(zip(request.weights, ends, strict=True)):

        def make(weights: CellWeights = weights, k: int = k) -> Prepared:
            return for_one_step(prepare(weights, options, batch), 1.0 if k == 0 else 1 / doubled)

        prepared = request.prepare(("numpy stream", k, options, batch == 1), make)
        step, now = make_step(prepared, batch, has_one_thread(request))
        # Vectors for one row: NumPy is quicker with them.
        s, h = (part[:, 0] if batch == 1 else part for part in (buffer[below:end], buffer[end - size : end]))
        project = None
        if prepared.w_x is not None:
            s, project = h, partial(project_input, buffer[below : end - size - 1].T[None], prepared.w_x, prepared.norms)
        layers.append((step, s, project, h))
        cells.append(now[-1].T)
        below = end - size
    hidden = [buffer[end - size : end].T for end in ends]
    inputs, output = (array if batched else array[0] for array in (buffer[:features].T, hidden[-1]))
    factor = x.dtype.type(1 / doubled)
    multiply = np.multiply

    def push(x: Array) -> Array:
        inputs[...] = x
        for step, s, project, h in layers:
            step(s, None if project is None else project()[0], h, h, None)
        # C order is not what NumPy makes of a transposed array by itself.
        result: Array = multiply(output, factor, order="C")
        return result

    def get_state() -> tuple[Array, Array]:
        return np.array(hidden) * factor, np.array(cells)

    def set_state(h: Array, c: Array) -> None:
        for k, (h_k, c_k) in enumerate(zip(hidden, cells, strict=True)):
            np.multiply(h[k], doubled, out=h_k)
            c_k[...] = c[k]

    return Stepper(push, get_state, set_state)


def prepare(weights: CellWeights, options: CellOptions, batch: int) -> Prepared:
    """Return the weights for one row, or for several."""
    dtype = weights.weight_ih.dtype
    n = weights.weight_hh.shape[0] // 4
    half = np.array([0.5, 0.5, 0.5, 1.0], dtype)[:, None, None]

    def gates(array: Array, scale: Array = half) -> Array:
        parts = array.reshape(4, n, -1)
        ordered = np.empty(parts.shape, dtype)
        np.multiply(parts[3:], scale[:1], out=ordered[:1])
        np.multiply(parts[:3], scale[1:], out=ordered[1:])
        return ordered.reshape(4 * n, -1)

    if weights.norm is None:
        norms, bias = None, total_bias(weights)
        w_x, w_h = gates(weights.weight_ih), gates(weights.weight_hh)
    else:
        norms, bias = prepare_norms(weights.norm, total_bias(weights), options, gates), None
        w_x, w_h = (centre(gates(w, np.ones_like(half)), norms.groups) for w in (weights.weight_ih, weights.weight_hh))
    w_x = np.hstack([w_x, np.zeros((4 * n, 1), dtype) if bias is None else gates(bias)])
    w_hr = weights.weight_hr
    if w_hr is None:
        w_h *= dtype.type(0.5)
    else:
        # For one row by columns, as below: by rows, where there are five columns of float32, OpenBLAS for AVX-512 as it
        # is compiled also adds up memory that it never set, and NumPy may warn of an invalid value (sgemv_kernel_t_5 in
        # https://github.com/OpenMathLib/OpenBLAS/blob/v0.3.31/kernel/x86_64/sgemv_t_microk_skylakex_template.c).
        w_hr = np.multiply(w_hr, dtype.type(0.5), order="F" if batch == 1 else "C")
    p_o = p_if = bounds = None
    if weights.peephole is not None:
        shape = (-1, 1) if batch > 1 else -1
        p_if, p_o = (weights.peephole[rows].reshape(shape) * dtype.type(0.5) for rows in (slice(2), slice(2, 3)))
    if options.clip_gates is not None:
        bounds = np.repeat(half[:, 0] * dtype.type(options.clip_gates), n, axis=0)
        bounds = bounds if batch > 1 else bounds[:, 0]
    others = w_hr, p_o, p_if, bounds, options, norms
    if batch == 1:
        # Columns one after the other: that product of a matrix and a vector is the faster one.
        return Prepared(transposed(w_h).T, transposed(w_x), *others)
    if norms is not None:
        return Prepared(w_h, transposed(w_x), *others)
    return Prepared(np.hstack([w_h, w_x]), None, *others)


def transposed(matrix: Array) -> Array:
    """Return the transposed matrix in C order. NumPy by itself fetches a line of the cache for each number of it."""
    result = np.empty(matrix.shape[::-1], matrix.dtype)
    width = 64 // matrix.itemsize if matrix.size > 2**14 else max(1, len(matrix))
    for start in range(0, len(matrix), width):
        result[:, start : start + width] = matrix[start : start + width].T
    return result


def for_one_step(prepared: Prepared, factor: float) -> Prepared:
    """Return the weights for (x, 1, h), or those for (x, 1) apart if there are norms, with x times a factor."""
    w, w_x = prepared.w, prepared.w_x
    if prepared.norms is not None and w_x is not None:
        return prepared._replace(w_x=np.vstack([w_x[:-1] * w.dtype.type(factor), w_x[-1:]]))
    if w_x is None:
        size = w.shape[0] // 4 if prepared.w_hr is None else prepared.w_hr.shape[0]
        w, w_x = w[:, :size], w[:, size:].T
    joined = np.hstack([w_x[:-1].T * w.dtype.type(factor), w_x[-1:].T, w])
    return prepared._replace(w=np.asfortranarray(joined) if prepared.w_x is not None else joined, w_x=None)


def project_input(x: Array, w_x: Array, norms: Norms | None) -> Array:
    """
    Return what is added to the products with the hidden state.

    Parameters
    ----------
    x : array, shape (time, batch, features)
        The input.
    w_x, norms
        As in `Prepared`.

    Returns
    -------
    array, shape (time, 4*hidden_size, batch), or (time, 4*hidden_size) for one row
        The input's product, and what is added to it.
    """
    time, batch, features = x.shape
    added: Array = np.dot(x.reshape(time * batch, features), w_x[:-1])
    if norms is None:
        added += w_x[-1]
    else:
        complete_input(added, norms)
    return added if batch == 1 else np.ascontiguousarray(added.reshape(time, batch, -1).transpose(0, 2, 1))


# run(states, added, invalid, inside) runs as many steps as there are. states, shape (time + 1, rows, batch), is what
# the product is with at each step, which writes the new hidden state into the first rows of the next; added, None or as
# `project_input` returns it, is added to the product; the state stays where invalid, (time, batch) or None, is true;
# inside, (time, 5 or 1, hidden_size, batch) or None, is overwritten by what a step makes, or by the last of it alone:
# the gates o, i, f and g, the sigmoids doubled, and the cell state.
Run: TypeAlias = Callable[[Array, Array | None, Array | None, Array | None], None]


def run_steps(prepared: Prepared, steps: Steps, run: Run, c: Array, record: Array | None = None) -> None:
    """
    Run one layer in one direction, in as many rounds as the buffer wants.

    Parameters
    ----------
    prepared : Prepared
        The weights.
    steps : Steps
        The steps.
    run : callable
        Runs those that fit into the buffer.
    c : array, shape (hidden_size, batch)
        The cell state that it overwrites.
    record : array, shape (time, 5, hidden_size, batch), optional
        To be overwritten by what is inside, as `run` makes it; then nothing of it is kept otherwise.
    """
    time, batch, features = steps.x.shape
    size, rows = steps.h.shape[1], prepared.w.shape[1]
    # That h is kept doubled is made good here, and in the weights.
    doubled = steps.h.dtype.type(2.0 if prepared.w_hr is None else 1.0)
    length = min(time, max(1, BUFFER // (max(*prepared.w.shape, features) * batch)))
    states = np.empty((length + 1, rows, batch), steps.h.dtype)
    inside = np.empty((length, 1 if steps.kept.keys() == {"c"} else 5, *c.shape), c.dtype) if steps.kept else None
    np.multiply(steps.h.T, doubled, out=states[0, :size])
    c[...] = steps.c.T
    if prepared.w_x is None:
        states[:, -1] = 1.0
    for start in range(0, time, length):
        x, output = (array[start : start + length] for array in (steps.x, steps.output))
        invalid = None if steps.mask is None else np.logical_not(steps.mask[start : start + length], order="C")
        added = None
        if prepared.w_x is None:
            inputs = states[: len(x), size : size + features]
            inputs[...] = x.transpose(0, 2, 1)
            if invalid is not None:
                np.copyto(inputs, 0, where=invalid[:, None])
        else:
            added = project_input(
                x if invalid is None else np.where(invalid[:, :, None], 0, x), prepared.w_x, prepared.norms
            )
        run(states[: len(x) + 1], added, invalid, inside if record is None else record[start : start + length])
        np.multiply(states[1 : len(x) + 1, :size].transpose(0, 2, 1), 1 / doubled, out=output)
        states[0, :size] = states[len(x), :size]
        for name, array in steps.kept.items():
            if inside is not None:
                made = inside[: len(x), "oifgc".index(name) - 5].transpose(0, 2, 1)
                np.multiply(made, c.dtype.type(1.0 if name in "gc" else 0.5), out=array[start : start + length])
    np.multiply(states[0, :size].T, 1 / doubled, out=steps.h)
    steps.c[...] = c.T


def loop(prepared: Prepared, steps: Steps, one_thread: bool, record: bool = False) -> Array | None:
    """Run one layer in one direction; return what `run_steps` records, where it is wanted."""
    batch, size = steps.h.shape
    step, now = make_step(prepared, batch, one_thread)
    recorded = np.empty((len(steps.x), *now.shape), now.dtype) if record else None

    def run(states: Array, added: Array | None, invalid: Array | None, inside: Array | None) -> None:
        # Lists, and vectors for one row: NumPy is quicker with them.
        s = list(states[..., 0] if batch == 1 else states)
        h = s if states.shape[1] == size else list(states[:, :size])
        nothing = [None] * len(s)
        z_x, held = (nothing if array is None else list(array) for array in (added, invalid))
        if inside is None:
            for arguments in zip(s, z_x, h, h[1:], held):  # noqa: B905 (which takes time; s and h are longer by one)
                step(*arguments)
            return
        kept, latest = inside.reshape(len(inside), -1), now[-inside.shape[1] :].reshape(-1)
        for t, arguments in enumerate(zip(s, z_x, h, h[1:], held)):  # noqa: B905
            step(*arguments)
            kept[t] = latest

    run_steps(prepared, steps, run, now[-1], recorded)
    return recorded


def make_step(prepared: Prepared, batch: int, one_thread: bool) -> tuple[Step, Array]:
    """
    Return the step, on buffers of its own.

    Parameters
    ----------
    prepared : Prepared
        The weights.
    batch : int
        The number of rows.
    one_thread : bool
        Whether BLAS has one thread.

    Returns
    -------
    step : callable
        ``step(s, z_x, h_old, h, invalid)`` writes the new hidden state into h: s is what the product is with, z_x what
        is added to it or None, `invalid` tells where the state stays, or is None. With one row they are vectors.
    now : array, shape (5, hidden_size, batch)
        What each step overwrites: the gates o, i, f and g, the sigmoids doubled, and the cell state.
    """
    w, _, w_hr, p_o, p_if, bounds, options, norms = prepared
    n = w.shape[0] // 4
    buffer = np.zeros((7 * n, batch), w.dtype)
    vector = batch == 1
    rows = buffer[:, 0] if vector else buffer
    gates, c, products = rows[: 5 * n], rows[4 * n : 5 * n], rows[5 * n :]
    z, hidden, of_i, of_f = gates[: 4 * n], products[:n], products[:n], products[n:]
    o, i, f = (gates[k * n : (k + 1) * n] for k in range(3))
    sigmoids, i_and_f, g_and_c = gates[: 3 * n], gates[n : 3 * n], gates[3 * n :]
    # Arrays: to make one of a number takes NumPy as long as the operation. Of a vector's shape they are quicker still.
    ones, half = np.ones(3 * n if vector else (), w.dtype), np.full(n if vector else (), 0.5, w.dtype)
    one = ones[:n] if vector else ones
    product, z_parts = w.dot, z
    blocks = count_blocks(4 * n, w.shape[1], batch, one_thread)
    if blocks > 1:
        product, z_parts = partial(np.matmul, w.reshape(blocks, -1, w.shape[1])), z.reshape(blocks, -1, batch)
    add, multiply, tanh = np.add, np.multiply, np.tanh
    # For one row, where calls are what takes time, a product is the mean of two in one call.
    mean, both = np.full(2, 0.5, w.dtype).dot, products.reshape(2, -1)
    plain = p_o is None and bounds is None and options.clip_cell is None and not options.coupled and norms is None
    shown = c if norms is None or options.norm_carry else of_f
    norm_h = norm_sum = norm_carried = norm_shown = None
    if norms is not None:
        norm_z, norm_c = norm_of_products(norms, z), norm_of_cells(norms, c, shown)
        norm_h, norm_sum = (None, norm_z) if norms.gamma_x is None else (norm_z, None)
        norm_carried, norm_shown = (norm_c, None) if options.norm_carry else (None, norm_c)
    # The output gate waits for the new cell state, if it sees it.
    late = p_o is not None and options.peephole_output == "new"
    early_gates, early_sigmoids = (gates[n : 4 * n], i_and_f) if late else (z, sigmoids)

    def clip(array: Array, bound: Array | float | None) -> None:
        if bound is not None:
            np.clip(array, -bound, bound, out=array)

    def new_cell_state() -> None:
        """Make the gates and the new cell state, as the options have it."""
        if norm_sum is not None:
            norm_sum()
        if p_o is not None:
            add(i_and_f, p_if * np.concatenate([c, c]), out=i_and_f)
            if not late:
                add(o, p_o * c, out=o)
        clip(early_gates, None if bounds is None else bounds[-len(early_gates) :])
        tanh(early_gates, out=early_gates)
        add(early_sigmoids, ones[: len(early_sigmoids)] if vector else ones, early_sigmoids)
        if options.coupled:
            np.subtract(w.dtype.type(2), i, out=f)
        multiply(i_and_f, g_and_c, out=products)
        add(of_i, of_f, out=c)
        multiply(c, half, out=c)
        if norm_carried is not None:
            norm_carried()
        clip(c, options.clip_cell)
        if norm_shown is not None:
            norm_shown()
        if late:
            add(o, p_o * c, out=o)
            clip(o, None if bounds is None else bounds[:n])
            tanh(o, out=o)
            add(o, one, out=o)

    def step(s: Array, z_x: Array | None, h_old: Array, h: Array, invalid: Array | None) -> None:
        c_old = c if invalid is None else c.copy()
        # NumPy reads a positional `out` faster than a named one, and finds a method faster than a function.
        product(s, z_parts)
        if norm_h is not None:
            norm_h()
        if z_x is not None:
            add(z, z_x, z)
        if plain:
            tanh(z, z)
            add(sigmoids, ones, sigmoids)
            multiply(i_and_f, g_and_c, products)
            if vector:
                mean(both, c)
            else:
                add(of_i, of_f, c)
                multiply(c, half, c)
        else:
            new_cell_state()
        tanh(shown, hidden)
        if w_hr is None:
            multiply(o, hidden, h)
        else:
            multiply(o, hidden, hidden)
            w_hr.dot(hidden, h)
            clip(h, options.clip_proj)
        if invalid is not None:
            np.copyto(c, c_old, where=invalid)
            np.copyto(h, h_old, where=invalid)

    return step, buffer[: 5 * n].reshape(5, n, batch)


# Elements of what there is for some steps of the way back; so many numbers, or more, a product of theirs adds up.
BUFFER_BACK, DEEP = 2**18, 512


class PreparedBack(NamedTuple):
    """
    A cell's weights as the way back wants them: those of the gates as they are.

    `w` is `weight_hh`, transposed for several rows.
    """

    w: Array
    w_x: Array
    w_hr: Array | None


def prepare_back(weights: CellWeights, _options: CellOptions, batch: int) -> PreparedBack:
    """Return the weights for the way back through one row, or through several."""
    w = weights.weight_hh
    return PreparedBack(
        w if batch == 1 else transposed(w), np.require(weights.weight_ih, None, ("C", "A")), weights.weight_hr
    )


# walk(times, d_h) goes back over some steps. d_h, shape (time, rows, batch), has what the output's derivative is and
# is overwritten by that by the hidden state. It returns that by the pre-activations, i, f, g and o, shape
# (4*hidden_size, time*batch), and the hidden state before its projection, (hidden_size, time*batch), if there is one.
Walk: TypeAlias = Callable[[slice, Array], tuple[Array, Array | None]]


def length_of_round(steps: StepsBack) -> int:
    """Return how many steps of the way back are taken at once."""
    return min(len(steps.x), max(1, BUFFER_BACK // (6 * steps.c.size), DEEP // len(steps.c)))


def pull_steps(prepared: PreparedBack, steps: StepsBack, walk: Walk, dot: Dot = np.dot) -> None:
    """
    Go back through one layer in one direction, in as many rounds as the buffer wants.

    Parameters
    ----------
    prepared : PreparedBack
        The weights.
    steps : StepsBack
        The steps.
    walk : callable
        Goes back over those of a round.
    dot : callable, optional
        Multiplies matrices: an engine has one BLAS for all, whose threads do not wait for those of another.
    """
    (time, batch, _), size, sums = steps.x.shape, steps.h.shape[1], steps.sums
    length = length_of_round(steps)
    d_h = np.empty((length, size, batch), steps.h.dtype)
    for stop in range(time, 0, -length):
        times = slice(max(0, stop - length), stop)
        x, d_x, hidden = steps.x[times], steps.d_x[times], steps.hidden[max(0, times.start - 1) : stop - 1]
        if times.start == 0:
            hidden = np.concatenate([steps.h[None], hidden])
        count = len(x)
        np.copyto(d_h[:count], steps.d_output[times].transpose(0, 2, 1))
        d_z, projected = walk(times, d_h[:count])
        sums.weight_ih.add(dot, d_z, np.require(x, None, ("C", "A")).reshape(count * batch, -1))
        sums.weight_hh.add(dot, d_z, np.ascontiguousarray(hidden).reshape(count * batch, size))
        if sums.bias is not None:
            sums.bias.add(_sum_of_columns, d_z)
        if sums.weight_hr is not None and projected is not None:
            d_projection = d_h[:count].transpose(1, 0, 2)
            if steps.mask is not None:
                d_projection = np.where(steps.mask[times], d_projection, 0)
            sums.weight_hr.add(dot, np.ascontiguousarray(d_projection).reshape(size, -1), projected.T)
        out = d_x if d_x.flags.c_contiguous else np.empty(d_x.shape, d_x.dtype)
        dot(d_z.T, prepared.w_x, out.reshape(count * batch, -1))
        if out is not d_x:
            d_x[...] = out


def _sum_of_columns(matrix: Array, out: Array) -> None:
    np.sum(matrix, axis=1, out=out)


def loop_back(prepared: PreparedBack, steps: StepsBack, one_thread: bool) -> None:
    """Go back through one layer in one direction."""
    w, _, w_hr = prepared
    (batch, n), size, dtype, inside = steps.c.shape, steps.h.shape[1], steps.c.dtype, steps.kept
    length = length_of_round(steps)
    slopes, cells = np.empty((length, 6, n, batch), dtype), np.empty((length, n, batch), dtype)
    vector = batch == 1
    add, multiply = np.add, np.multiply
    d_h, d_c = steps.d_h.T.copy(), steps.d_c.T.copy()
    d_hidden = np.empty_like(d_c)
    if vector:
        d_h, d_c, d_hidden = d_h[:, 0], d_c[:, 0], d_hidden[:, 0]
    product, d_h_parts = (w.T if vector else w).dot, d_h
    blocks = 1 if vector else count_blocks(size, 4 * n, batch, one_thread)
    if blocks > 1:
        product, d_h_parts = partial(np.matmul, w.reshape(blocks, -1, 4 * n)), d_h.reshape(blocks, -1, batch)

    def walk(times: slice, d_output: Array) -> tuple[Array, Array | None]:
        count = len(d_output)
        some, hidden = slopes[:count], cells[:count]
        before = steps.c.T if times.start == 0 else inside[times.start - 1, 4]
        write_slopes(inside[times], before, some, hidden)
        invalid = None
        if steps.mask is not None:
            invalid = np.logical_not(steps.mask[times], order="C")[:, None]
            np.copyto(some, 0, where=invalid[:, None])
            np.copyto(some[:, 0], 1, where=invalid)
        rows = some[..., 0] if vector else some
        of_h, of_c = (list(part) for part in (rows[:, 4:], rows[:, :4]))
        new, d_gates = list(rows[:, 5]), list(rows[:, 1:5].reshape(count, 4 * n, *rows.shape[3:]))
        carried, d_now = list(rows[:, 0]), list(d_output[..., 0] if vector else d_output)
        after = d_c
        for t in range(count - 1, -1, -1):
            d = d_now[t]
            add(d, d_h, d)
            d_hid = d if w_hr is None else w_hr.T.dot(d, d_hidden)
            multiply(d_hid, of_h[t], of_h[t])
            add(new[t], after, new[t])
            multiply(new[t], of_c[t], of_c[t])
            after = carried[t]
            product(d_gates[t], d_h_parts)
            if invalid is not None:
                add(d_h, d, d_h, where=invalid[t, 0])
        d_c[...] = after
        d_z = some.reshape(count, 6 * n, batch)[:, n : 5 * n]
        d_z = d_z[..., 0].T if vector else d_z.transpose(1, 0, 2).reshape(4 * n, count * batch)
        if w_hr is None:
            return d_z, None
        multiply(hidden, inside[times, 0], hidden)
        multiply(hidden, dtype.type(0.5), hidden)
        return d_z, hidden.transpose(1, 0, 2).reshape(n, count * batch)

    pull_steps(prepared, steps, walk)
    steps.d_h[...], steps.d_c[...] = d_h.reshape(size, batch).T, d_c.reshape(n, batch).T


def write_slopes(inside: Array, before: Array, slopes: Array, tanh_c: Array) -> None:
    r"""
    Write the slopes of some steps.

    Parameters
    ----------
    inside : array, shape (time, 5, hidden_size, batch)
        What `Run` writes.
    before : array, shape (hidden_size, batch)
        The cell state before the first step.
    slopes : array, shape (time, 6, hidden_size, batch)
        To be overwritten: by which the derivative by the cell state is to be multiplied for that by the old one and by
        the pre-activations of i, f and g; by which the derivative by the hidden state is for the one by the
        pre-activation of o and for what it adds to that by the cell state.
    tanh_c : array, shape (time, hidden_size, batch)
        To be overwritten.
    """
    o, i, f, g, c = (inside[:, k] for k in range(5))
    _, s_i, s_f, s_g, s_o, s_h = (slopes[:, k] for k in range(6))
    np.tanh(c, tanh_c)
    # A sigmoid's slope is s(1 - s), that of tanh 1 - t^2. Sigmoids are doubled: the factors come last.
    for sigmoids, slope in ((inside[:, 1:3], slopes[:, 1:3]), (o, s_o)):
        np.subtract(2, sigmoids, slope)
        np.multiply(slope, sigmoids, slope)
    for tanh, sigmoid, slope in ((g, i, s_g), (tanh_c, o, s_h)):
        np.multiply(tanh, tanh, slope)
        np.subtract(1, slope, slope)
        np.multiply(slope, sigmoid, slope)
    np.multiply(s_i, g, s_i)
    np.multiply(s_f[0], before, s_f[0])
    np.multiply(s_f[1:], c[:-1], s_f[1:])
    np.multiply(s_o, tanh_c, s_o)
    slopes[:, 0] = f
    np.multiply(slopes, np.array([0.5, 0.25, 0.25, 0.5, 0.25, 0.5], slopes.dtype)[:, None, None], slopes)
