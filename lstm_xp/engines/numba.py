r"""
Numba: the steps compiled, BLAS for the products.

Weights, layout and rounds are those of `lstm_xp.engines.numpy`. One call runs a whole round, or all there is to do for
one row, without the interpreter's lock: each step is one product and one loop over the units in which all five tanh are
computed side by side, as many units at a time as a register holds. NumPy's tanh would be a call for each array; a
library's scalar one would not vectorise. For one row the product is a loop, too: reading the weights takes as long as
in BLAS, and calling that would take longer than a small product. A cell that is not torch's, with peepholes, coupled
gates or bounds, has a second loop over the units.

What is compiled is kept on disk beside this file, or where ``NUMBA_CACHE_DIR`` says. Nothing runs in Numba's own
threads, so that it is safe after a fork and in many threads.
"""

import math
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, overload
from numba.np.numpy_support import from_dtype

from lstm_xp._options import DEFAULT, is_neutral
from lstm_xp._weights import CellWeights
from lstm_xp.engines import numpy as numpy_engine
from lstm_xp.engines._host import Array, Steps, run_on_host
from lstm_xp.engines._request import Request, Result, Stepper
from lstm_xp.engines.numpy import Prepared, Step, count_blocks, for_one_step, prepare, run_steps, stepper_of

# Multiplication and addition may be one operation. Nothing else may be reordered, NaN and infinity are what they are.
_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}


def _compiled(function: Callable[..., Any], signatures: Any = None, **options: Any) -> Any:
    """
    Return what compiles a function, at once for signatures or when it is first called.

    It is kept on disk where there is a place.
    """
    try:
        return njit(signatures, cache=True, **_OPTIONS, **options)(function)
    except RuntimeError:  # no folder can be written to; Numba tells that only so
        return njit(signatures, **_OPTIONS, **options)(function)


def supports(request: Request) -> str | None:
    """Return why it cannot run a request, or None."""
    if request.weights[0][0].norm is not None:
        return "it has no layer normalisation"
    if not {"h", "c"}.issuperset(request.keep):
        return "it keeps no gates"
    return numpy_engine.supports(request)


def run(request: Request) -> Result:
    """Run a request."""
    return run_on_host(request, prepare, loop)


def make_stepper(request: Request, batched: bool) -> Stepper:
    """Return what runs one time step after the other."""
    return stepper_of(make_step, request, batched)


def make_step(prepared: Prepared, batch: int) -> tuple[Step, Array]:
    """Return the step of a stream, as that of NumPy's engine, and the cell state, which each step overwrites."""
    w, n = prepared.w, prepared.w.shape[0] // 4
    w_hr, variant = _projection(prepared), _variant(prepared, batch)
    buffer = np.zeros((6 * n, batch), w.dtype)
    flat = buffer.reshape(-1)

    def step(s: Array, _z_x: Array | None, _h_old: Array, _h: Array, _invalid: Array | None) -> None:
        _advance_stream(w, w_hr, variant, s, flat)

    return step, buffer[None, 4 * n : 5 * n]


def warm_up(dtype: str) -> None:
    """Compile for a dtype what there is to compile, or read it from disk."""
    for batch in (1, 2):
        for size in (2, 1):
            weight_hr = np.ones((1, 2), dtype) if size == 1 else None
            weights = CellWeights(np.ones((8, 1), dtype), np.ones((8, size), dtype), weight_hr=weight_hr)
            x, h, c = (np.ones((1, batch, k), dtype) for k in (1, size, 2))
            prepared = prepare(weights, DEFAULT, batch)
            loop(prepared, Steps(x, h[0], c[0], None, h.copy()))
            prepared = for_one_step(prepared, 1.0)
            s = np.ones((prepared.w.shape[1], batch), dtype)
            s = s[:, 0] if batch == 1 else s
            make_step(prepared, batch)[0](s, None, s, s, None)


def loop(prepared: Prepared, steps: Steps) -> None:
    """Run one layer in one direction."""
    batch, dtype, n = steps.x.shape[1], steps.h.dtype, prepared.w.shape[0] // 4
    w_hr, variant = _projection(prepared), _variant(prepared, batch)
    if prepared.w_x is not None:
        valid = np.empty(0, np.bool_) if steps.mask is None else steps.mask[:, 0]
        w_x, length = prepared.w_x, max(1, numpy_engine.BUFFER // max(prepared.w_x.shape))
        cells = steps.kept["c"][:, 0] if steps.kept else np.empty((0, n), dtype)
        weights, state = (w_x, prepared.w.T, w_hr, variant), (steps.h[0], steps.c[0])
        _row_kernel(dtype.char)(length, *weights, valid, steps.x[:, 0], *state, steps.output[:, 0], cells)
        return
    gates, c, hidden = (np.empty((rows, batch), dtype) for rows in (4 * n, n, n))
    blocks = prepared.w.reshape(count_blocks(*prepared.w.shape, batch), -1, prepared.w.shape[1])

    def run(states: Array, _added: Array | None, invalid: Array | None, inside: Array | None) -> None:
        invalid = np.empty((0, batch), np.bool_) if invalid is None else invalid
        cells = np.empty((0, n, batch), dtype) if inside is None else inside[:, 0]
        _run_batch(blocks, w_hr, variant, states, invalid, gates, c, hidden, cells)

    run_steps(prepared, steps, run, c)


def _projection(prepared: Prepared) -> Array:
    """Return the weights of the projection; where there is none, it has no rows."""
    n = prepared.w.shape[0] // 4
    return np.empty((0, n), prepared.w.dtype) if prepared.w_hr is None else prepared.w_hr


# What the variant of a cell begins with: bounds on the pre-activations of o, i and f and on that of g, on the cell
# state and on the projection; whether there are peepholes, whether the output gate's sees the new cell state, and
# whether the gates are coupled. The peepholes of i, f and o follow, each a number for each unit and row.
_NUMBERS = 7


def _variant(prepared: Prepared, batch: int) -> Array:
    """Return, as one vector, what is not torch's in a cell; nothing where it is torch's."""
    options, p_if, p_o, dtype = prepared.options, prepared.p_if, prepared.p_o, prepared.w.dtype
    if p_if is None or p_o is None:
        if is_neutral(options):
            return np.empty(0, dtype)
        peepholes = np.zeros(3 * prepared.w.shape[0] // 4, dtype)
    else:
        peepholes = np.concatenate([p_if, p_o]).reshape(-1)
    gates, cell, projected = (
        math.inf if bound is None else bound for bound in (options.clip_gates, options.clip_cell, options.clip_proj)
    )
    switches = p_o is not None, options.peephole_output == "new", options.coupled
    numbers = np.array([gates / 2, gates, cell, projected, *switches], dtype)
    return np.concatenate([numbers, np.repeat(peepholes, batch)])


@_compiled
def _run_batch(blocks, w_hr, variant, states, invalid, gates, c, hidden, cells):  # type: ignore[no-untyped-def]
    """Run all steps of several rows, each with a product for each block of the weights' rows."""
    size = len(w_hr) if len(w_hr) > 0 else len(c)
    z = gates.reshape(len(blocks), -1, c.shape[1])
    c_old = c.copy()
    for t in range(len(states) - 1):
        h = states[t + 1, :size]
        if len(invalid) > 0:
            c_old[:] = c
        for block in range(len(blocks)):
            np.dot(blocks[block], states[t], z[block])
        _finish(gates, c, h, hidden, w_hr, variant)
        if len(invalid) > 0:
            for n in range(c.shape[1]):
                if invalid[t, n]:
                    c[:, n] = c_old[:, n]
                    h[:, n] = states[t, :size, n]
        if len(cells) > 0:
            cells[t] = c


@cache
def _row_kernel(char: str) -> Any:
    """Return `_run_row`, compiled for a dtype and for whatever the caller's arrays are in memory."""
    dtype = from_dtype(np.dtype(char))
    w, vector = types.Array(dtype, 2, "C"), types.Array(dtype, 1, "C")
    valid = types.Array(types.boolean, 1, "A", readonly=True)
    x = types.Array(dtype, 2, "A", readonly=True, aligned=False)
    traced = types.Array(dtype, 2, "A")
    return _compiled(_run_row, [types.void(types.intp, w, w, w, vector, valid, x, vector, vector, traced, traced)])


def _run_row(length, w_x, w_h, w_hr, variant, valid, x, h, c, output, cells):  # type: ignore[no-untyped-def]
    """Run all steps of one row; of `length` at a time the input is projected, by the weights of (x, 1)."""
    features = x.shape[1]
    doubled = c.dtype.type(1 if len(w_hr) > 0 else 2)
    length = min(len(x), length)
    inputs, gates = np.ones((length, features + 1), c.dtype), np.empty((length, w_x.shape[1]), c.dtype)
    hidden = np.empty_like(c)
    h *= doubled
    for start in range(0, len(x), length):
        count = min(length, len(x) - start)
        for t in range(count):
            for k in range(features):
                inputs[t, k] = x[start + t, k]
            if len(valid) > 0 and not valid[start + t]:
                inputs[t, :features] = 0
        np.dot(inputs[:count], w_x, gates[:count])
        for t in range(count):
            if len(valid) == 0 or valid[start + t]:
                _add_product(h, w_h, gates[t])
                _finish(gates[t], c, h, hidden, w_hr, variant)
            for k in range(len(h)):
                output[start + t, k] = h[k] / doubled
            if len(cells) > 0:
                cells[start + t] = c
    h /= doubled


@_compiled
def _add_product(vector, matrix, out):  # type: ignore[no-untyped-def]
    """Add a product to what is there: four rows at a time, so that what is there is seldom read and written."""
    whole = len(vector) - len(vector) % 4
    for k in range(0, whole, 4):
        a, b, c, d = vector[k], vector[k + 1], vector[k + 2], vector[k + 3]
        row_a, row_b, row_c, row_d = matrix[k], matrix[k + 1], matrix[k + 2], matrix[k + 3]
        for n in range(len(out)):
            out[n] += a * row_a[n] + b * row_b[n] + c * row_c[n] + d * row_d[n]
    for k in range(whole, len(vector)):
        a, row_a = vector[k], matrix[k]
        for n in range(len(out)):
            out[n] += a * row_a[n]


@_compiled
def _advance_stream(w, w_hr, variant, s, buffer):  # type: ignore[no-untyped-def]
    """Run one step; s ends with the hidden state. Few arguments: each takes longer to hand over than ten tanh."""
    n = len(w) // 4
    size = len(w_hr) if len(w_hr) > 0 else n
    parts = buffer.reshape((6 * n, *s.shape[1:]))
    gates, c, hidden = parts[: 4 * n], parts[4 * n : 5 * n], parts[5 * n :]
    np.dot(w, s, gates)
    _finish(gates, c, s[len(s) - size :], hidden, w_hr, variant)


@partial(_compiled, forceinline=True)
def _finish(gates, c, h, hidden, w_hr, variant):  # type: ignore[no-untyped-def]
    """Compute the new states from the pre-activations; `hidden` is what is projected, if it is."""
    target = hidden if len(w_hr) > 0 else h
    if len(variant) == 0:
        _advance(gates.reshape(-1), c.reshape(-1), target.reshape(-1))
    else:
        _advance_variant(gates.reshape(-1), c.reshape(-1), target.reshape(-1), variant)
    if len(w_hr) > 0:
        np.dot(w_hr, hidden, h)
        if len(variant) > 0:
            bound, flat = variant[3], h.reshape(-1)
            for k in range(len(flat)):
                flat[k] = _clip(flat[k], bound)


@_compiled
def _advance(gates, c, h):  # type: ignore[no-untyped-def]
    """Compute the new cell state and, doubled, the hidden one."""
    n = len(c)
    o, i, f, g = gates[:n], gates[n : 2 * n], gates[2 * n : 3 * n], gates[3 * n :]
    one, half = c.dtype.type(1), c.dtype.type(0.5)
    for k in range(n):
        new = half * ((tanh(i[k]) + one) * tanh(g[k]) + (tanh(f[k]) + one) * c[k])
        c[k] = new
        h[k] = (tanh(o[k]) + one) * tanh(new)


@_compiled
def _advance_variant(gates, c, h, variant):  # type: ignore[no-untyped-def]
    """Do as `_advance` does for a cell that is not torch's."""
    n = len(c)
    o, i, f, g = gates[:n], gates[n : 2 * n], gates[2 * n : 3 * n], gates[3 * n :]
    half_bound, bound, cell_bound = variant[0], variant[1], variant[2]
    peeps, late, coupled = variant[4] > 0, variant[5] > 0, variant[6] > 0
    peepholes = variant[_NUMBERS:]
    p_i, p_f, p_o = peepholes[:n], peepholes[n : 2 * n], peepholes[2 * n :]
    one, half, zero = c.dtype.type(1), c.dtype.type(0.5), c.dtype.type(0)
    for k in range(n):
        # No peephole sees zero, which it is itself: zero times an infinite state would be NaN.
        old = c[k] if peeps else zero
        new_i = tanh(_clip(i[k] + p_i[k] * old, half_bound)) + one
        new_f = one + one - new_i if coupled else tanh(_clip(f[k] + p_f[k] * old, half_bound)) + one
        new = _clip(half * (new_i * tanh(_clip(g[k], bound)) + new_f * c[k]), cell_bound)
        seen = new if peeps and late else old
        c[k] = new
        h[k] = (tanh(_clip(o[k] + p_o[k] * seen, half_bound)) + one) * tanh(new)


@_compiled
def _clip(x, bound):  # type: ignore[no-untyped-def]
    """Clip to the bound, which may be infinite; NaN stays NaN."""
    x = bound if x > bound else x  # noqa: FURB136 (which does not say what becomes of NaN)
    return -bound if x < -bound else x  # noqa: FURB136


def tanh(x: float) -> float:
    r"""
    Return the hyperbolic tangent, in compiled code without a branch.

    It has the sign of x and the absolute value :math:`e/(e + 2)` with :math:`e = \exp(2|x|) - 1`. With
    :math:`2|x| = n \ln 2 + r`, that is :math:`2^n (\exp(r) - 1) + (2^n - 1)`, and of :math:`\exp(r) - 1`, where
    :math:`|r| \le \ln(2)/2`, Taylor's series up to the last term that counts.
    """
    return math.tanh(x)


@overload(tanh, jit_options={"fastmath": {"contract"}})
def _compiled_tanh(x):  # type: ignore[no-untyped-def]
    single = x == types.float32
    number = np.float32 if single else np.float64
    # Beyond it the result is 1. ln 2 is split in two, so that n ln 2 is exact.
    largest = number(20 if single else 40)
    ln2 = number(0.693359375) if single else number(0.6931471803691238)
    ln2_rest = number(math.log(2) - float(ln2))
    # Adding it rounds to an integer, which the lowest bits then hold.
    rounder = number(1.5 * 2 ** (23 if single else 52))
    log2_e, one, two = number(1 / math.log(2)), number(1), number(2)

    def implementation(x):  # type: ignore[no-untyped-def]
        y = abs(x + x)
        y = largest if y > largest else y  # noqa: FURB136 (which keeps NaN)
        shifted = y * log2_e + rounder
        n = shifted - rounder
        r = y - n * ln2 - n * ln2_rest
        power = _power_of_two(shifted)
        e = (r + r * r * _rest_of_exp(r)) * power + (power - one)
        return math.copysign(e / (e + two), x)

    return implementation


@intrinsic
def _power_of_two(_context, shifted):  # type: ignore[no-untyped-def]
    """Return ``2**n``, of n with the rounder added: the bits of n, moved to where the exponent is."""
    bits, mantissa, bias = (32, 23, 127) if shifted == types.float32 else (64, 52, 1023)

    def generate(_context, builder, _signature, arguments):  # type: ignore[no-untyped-def]
        integer = ir.IntType(bits)
        n = builder.bitcast(arguments[0], integer)
        exponent = builder.add(builder.shl(n, integer(mantissa)), integer(bias << mantissa))
        return builder.bitcast(exponent, arguments[0].type)

    return shifted(shifted), generate


@intrinsic
def _rest_of_exp(_context, r):  # type: ignore[no-untyped-def]
    """Return ``(exp(r) - 1 - r) / r**2`` for small r: Taylor's series, up to the last term that counts."""
    terms = 7 if r == types.float32 else 13

    def generate(_context, builder, _signature, arguments):  # type: ignore[no-untyped-def]
        (r,) = arguments
        series, *others = (r.type(1 / math.factorial(k)) for k in range(terms, 1, -1))
        for coefficient in others:
            product = builder.fmul(series, r, flags=("contract",))
            series = builder.fadd(product, coefficient, flags=("contract",))
        return series

    return r(r), generate
