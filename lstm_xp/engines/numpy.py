r"""
NumPy at its own best: one product and a handful of calls a step, into buffers that are there.

The state is kept as (features, batch), so that each gate is one contiguous block. For a batch, the input lies below
the hidden state and ones below that, :math:`s_t = (h_{t-1}, x_t, 1)`, so that one product with all weights side by side
makes all pre-activations. For one row, where the product is bound by reading the weights, the input is projected for
many steps at once. A batch's product is made in blocks of rows, where those are quicker (`count_blocks`).

With :math:`\sigma(z) = (\tanh(z/2) + 1)/2` and the halves folded into the weights, one tanh serves all four gates; the
factor 2 that then remains in c is divided out, the one in h is folded into the weights that read it. Factors of two are
exact; a state beyond half the largest number overflows.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeAlias

import numpy as np

from lstm_xp._options import DEFAULT, CellOptions, is_neutral
from lstm_xp._weights import CellWeights, total_bias
from lstm_xp.engines._blas import count_blocks, has_one_thread, transposed
from lstm_xp.engines._host import Array, Steps, run_on_host
from lstm_xp.engines._host_vjp import run_vjp_on_host
from lstm_xp.engines._norms import Norms, centre, complete_input, norm_of_cells, norm_of_products, prepare_norms
from lstm_xp.engines._numpy_back import loop_back, prepare_back
from lstm_xp.engines._request import Pullback, Request, Result, Stepper

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))

# Elements of the buffer for (h, x, 1): more time steps than fit are taken one buffer after the other.
BUFFER = 2**18


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
