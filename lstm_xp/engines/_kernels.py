"""
What Numba compiles: whole rounds of steps, and all that they are made of.

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
from numba.core import cgutils
from numba.extending import intrinsic, overload
from numba.np.numpy_support import from_dtype

from lstm_xp.engines._host import Array

# Bytes of a vector, which is a line of the cache, and how many of them are side by side in a panel.
VECTOR, VECTORS = 64, 4


# What the variant of a cell begins with: bounds on the pre-activations of o, i and f and on that of g, on the cell
# state and on the projection; whether there are peepholes, whether the output gate's sees the new cell state, and
# whether the gates are coupled. The peepholes of i, f and o follow, each a number for each unit and row.
NUMBERS = 7


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


# Compiled into what calls it.
_inlined = partial(_compiled, forceinline=True)


def _arrays(char: str) -> Callable[..., Any]:
    """Return the function that makes a type of an array of a dtype, contiguous unless it is told otherwise."""
    dtype = from_dtype(np.dtype(char))
    return lambda ndim, layout="C", **flags: types.Array(dtype, ndim, layout, **flags)


@cache
def row_kernel(char: str) -> Any:
    """Return `_run_row`, compiled for a dtype and for whatever the caller's arrays are in memory."""
    array = _arrays(char)
    weights = array(2), array(3), array(2), array(1)
    valid, x = types.Array(types.boolean, 1, "A", readonly=True), array(2, "A", readonly=True, aligned=False)
    signature = types.void(types.intp, *weights, valid, x, array(1), array(1), array(2, "A"), array(2, "A"), array(2))
    return _compiled(_run_row, [signature])


@cache
def batch_kernel(char: str) -> Any:
    """Return `_run_batch`, compiled for a dtype."""
    array = _arrays(char)
    weights, invalid = (array(3), array(2), array(1)), types.Array(types.boolean, 2, "C")
    buffers = array(2), array(2), array(2), array(3), array(3)
    return _compiled(_run_batch, [types.void(*weights, array(3), invalid, *buffers)])


@cache
def push_kernel(char: str) -> Any:
    """Return `_push`, compiled for a dtype and for whatever the caller's frame is in memory."""
    array = _arrays(char)
    x = array(2, "A", readonly=True, aligned=False)
    return _compiled(_push, [types.void(array(3), array(2), array(1), array(2), x, array(2))])


@cache
def row_back_kernel(char: str) -> Any:
    """Return `_walk_row`, compiled for a dtype."""
    array = _arrays(char)
    weights, invalid = (array(3), array(2)), types.Array(types.boolean, 1, "A")
    kept, states = (array(2), array(2), array(1)), (array(2), array(1), array(1), array(1))
    return _compiled(_walk_row, [types.void(*weights, invalid, *kept, *states, array(2), array(2, "A"))])


@cache
def batch_back_kernel(char: str) -> Any:
    """Return `_walk_batch`, compiled for a dtype."""
    array = _arrays(char)
    weights, invalid = (array(3), array(2)), types.Array(types.boolean, 2, "C")
    kept, states = (array(3), array(2)), (array(3), array(2), array(2), array(2))
    return _compiled(_walk_batch, [types.void(*weights, invalid, *kept, *states, array(2), array(3), array(3))])


@cache
def dot_kernel(char: str) -> Any:
    """Return `_dot`, compiled for a dtype."""
    array = _arrays(char)
    orders = [("C", "C"), ("F", "C"), ("C", "F")]
    return _compiled(
        _dot, [types.void(*(array(2, order, readonly=True) for order in each), array(2)) for each in orders]
    )


def _dot(a, b, out):  # type: ignore[no-untyped-def]
    """Multiply two matrices."""
    np.dot(a, b, out)


def _run_row(length, w_x, panels, w_hr, variant, valid, x, h, c, output, cells, kept):  # type: ignore[no-untyped-def]
    """Run all steps of one row; of `length` at a time the input is projected, by the weights of (x, 1)."""
    features, gates_size, keeps = x.shape[1], 4 * len(c), len(kept) > 0
    half = c.dtype.type(1 if len(w_hr) > 0 else 0.5)
    length = min(len(x), length)
    inputs = np.ones((length, features + 1), c.dtype)
    gates = np.empty((0 if keeps else length, w_x.shape[1]), c.dtype)
    hidden = np.empty_like(c)
    h /= half
    for start in range(0, len(x), length):
        count = min(length, len(x) - start)
        for t in range(count):
            is_valid = len(valid) == 0 or valid[start + t]
            for k in range(features):
                inputs[t, k] = x[start + t, k] if is_valid else 0
        if keeps:
            gates = kept[start : start + count]
        np.dot(inputs[:count], w_x, gates[:count])
        for t in range(count):
            if len(valid) == 0 or valid[start + t]:
                _add_product(h, panels, gates[t])
                _finish(gates[t, :gates_size], c, h, hidden, w_hr, variant, keeps)
            for k in range(len(h)):
                output[start + t, k] = half * h[k]
            if len(cells) > 0:
                for k in range(len(c)):
                    cells[start + t, k] = c[k]
    h *= half


def _run_batch(blocks, w_hr, variant, states, invalid, gates, c, hidden, cells, kept):  # type: ignore[no-untyped-def]
    """Run all steps of several rows."""
    n, keeps = len(c), len(kept) > 0
    size = len(w_hr) if len(w_hr) > 0 else len(c)
    c_old = c.copy()
    for t in range(len(states) - 1):
        h = states[t + 1, :size]
        if len(invalid) > 0:
            c_old[:] = c
        if keeps:
            gates = kept[t, : 4 * n]
        _multiply(blocks, states[t], gates)
        _finish(gates, c, h, hidden, w_hr, variant, keeps)
        if len(invalid) > 0:
            for row in range(c.shape[1]):
                if invalid[t, row]:
                    c[:, row] = c_old[:, row]
                    h[:, row] = states[t, :size, row]
        if keeps:
            kept[t, 4 * n :] = c
        if len(cells) > 0:
            cells[t] = c


def _walk_row(panels, w_hr, invalid, gates, cells, before, d_out, d_h, d_c, d_hidden, d_z, hidden):  # type: ignore[no-untyped-def]
    """Go back over some steps of one row; what `Walk` tells is written into the last two."""
    n, size = len(d_c), d_out.shape[1]
    for t in range(len(d_out) - 1, -1, -1):
        d = d_out[t]
        _accumulate(d, d_h[:size])
        if len(invalid) > 0 and invalid[t]:
            d_h[:size] = d
            d_z[t] = 0
            hidden[:, t] = 0
            continue
        seen = d
        if w_hr.size > 0:
            np.dot(w_hr, d, d_hidden)
            seen = d_hidden
        _retreat(gates[t, : 4 * n], cells[t], cells[t - 1] if t > 0 else before, seen, d_c, d_z[t])
        for k in range(len(hidden)):
            hidden[k, t] = d.dtype.type(0.5) * gates[t, k] * tanh(cells[t, k])
        d_h[:] = 0
        _add_product(d_z[t], panels, d_h)


def _walk_batch(blocks, w_hr, invalid, inside, before, d_out, d_h, d_c, d_hidden, d_gates, d_z, hidden):  # type: ignore[no-untyped-def]
    """Go back over some steps of several rows; what `Walk` tells is written into the last two."""
    n, batch = d_c.shape
    d_c_old = d_c.copy()
    for t in range(len(d_out) - 1, -1, -1):
        d, gates, c = d_out[t], inside[t, : 4 * n], inside[t, 4 * n :]
        old = inside[t - 1, 4 * n :] if t > 0 else before
        _accumulate(_flat(d), _flat(d_h))
        seen = d
        if w_hr.size > 0:
            np.dot(w_hr, d, d_hidden)
            seen = d_hidden
        if len(invalid) > 0:
            d_c_old[:] = d_c
        _retreat(_flat(gates), _flat(c), _flat(old), _flat(seen), _flat(d_c), _flat(d_gates))
        if len(invalid) > 0:
            for row in range(batch):
                if invalid[t, row]:
                    d_c[:, row] = d_c_old[:, row]
                    d_gates[:, row] = 0
        _multiply(blocks, d_gates, d_h)
        if len(invalid) > 0:
            for row in range(batch):
                if invalid[t, row]:
                    d_h[:, row] = d[:, row]
        for k in range(4 * n):
            for row in range(batch):
                d_z[k, t, row] = d_gates[k, row]
        for k in range(len(hidden)):
            for row in range(batch):
                hidden[k, t, row] = d.dtype.type(0.5) * gates[k, row] * tanh(c[k, row])


def _push(w, w_hr, variant, buffer, x, output):  # type: ignore[no-untyped-def]
    """Run one step, of one row by panels. Few arguments: each takes longer to hand over than ten tanh."""
    (batch, features), n, size = x.shape, w_hr.shape[1], output.shape[1]
    end = features + 1 + size
    s, c, hidden, gates = buffer[:end], buffer[end : end + n], buffer[end + n : end + 2 * n], buffer[end + 2 * n :]
    h = s[features + 1 :]
    half = c.dtype.type(1 if len(w_hr) > 0 else 0.5)
    for row in range(batch):
        for k in range(features):
            s[k, row] = x[row, k]
    if batch == 1:
        for k in range(len(gates)):
            gates[k, 0] = 0
        _add_product(s.reshape(-1), w, gates.reshape(-1))
    else:
        _multiply(w, s, gates)
    _finish(gates[: 4 * n], c, h, hidden, w_hr, variant, False)
    for row in range(batch):
        for k in range(size):
            output[row, k] = half * h[k, row]


@_inlined
def _multiply(blocks, s, gates):  # type: ignore[no-untyped-def]
    """Compute the product with columns, block by block of the weights' rows."""
    parts = gates.reshape(len(blocks), -1, s.shape[1])
    for block in range(len(blocks)):
        np.dot(blocks[block], s, parts[block])


@_compiled
def _add_product(vector, panels, out):  # type: ignore[no-untyped-def]
    """Add the product of a vector, as far as panels are high, with all panels."""
    columns = panels.shape[2]
    for panel in range(len(panels)):
        _add_panel(vector, panels[panel], out[panel * columns :])


@intrinsic
def _add_panel(_context, vector, panel, out):  # type: ignore[no-untyped-def]
    """Add the product of a vector with a panel; the sums are kept in registers, which Numba's own loops do not do."""
    align = vector.dtype.bitwidth // 8
    lanes = VECTOR // align

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        index, several = context.get_value_type(types.intp), ir.VectorType(context.get_data_type(vector.dtype), lanes)
        numbers, rows, sums = (
            context.make_array(each)(context, builder, value)
            for each, value in zip(signature.args, arguments, strict=True)
        )
        weights, first = (builder.bitcast(array.data, several.as_pointer()) for array in (rows, sums))
        places = [builder.gep(first, [index(k)]) for k in range(VECTORS)]
        totals = [cgutils.alloca_once_value(builder, builder.load(place, align=align)) for place in places]
        height, _ = cgutils.unpack_tuple(builder, rows.shape)
        undefined, equal = ir.Constant(several, ir.Undefined), ir.Constant(ir.VectorType(ir.IntType(32), lanes), None)
        with cgutils.for_range(builder, height) as loop:
            number = builder.load(builder.gep(numbers.data, [loop.index]))
            factor = builder.insert_element(undefined, number, ir.IntType(32)(0))
            factor = builder.shuffle_vector(factor, undefined, equal)
            begin = builder.mul(loop.index, index(VECTORS))
            for k, total in enumerate(totals):
                weight = builder.load(builder.gep(weights, [builder.add(begin, index(k))]), align=align)
                added = builder.fmul(weight, factor, flags=("contract",))
                builder.store(builder.fadd(builder.load(total), added, flags=("contract",)), total)
        for place, total in zip(places, totals, strict=True):
            builder.store(builder.load(total), place, align=align)
        return context.get_dummy_value()

    return types.void(vector, panel, out), generate


@_inlined
def _finish(gates, c, h, hidden, w_hr, variant, keeps):  # type: ignore[no-untyped-def]
    """Compute the new states from the pre-activations; `hidden` is what is projected, if it is."""
    target = hidden if len(w_hr) > 0 else h
    if keeps:
        _advance_keeping(_flat(gates), _flat(c), _flat(target))
    elif len(variant) == 0:
        _advance(_flat(gates), _flat(c), _flat(target))
    else:
        _advance_variant(_flat(gates), _flat(c), _flat(target), variant)
    if len(w_hr) > 0:
        np.dot(w_hr, hidden, h)
        if len(variant) > 0:
            bound, flat = variant[3], _flat(h)
            for k in range(len(flat)):
                flat[k] = _clip(flat[k], bound)


def _flat(array: Array) -> Array:
    """Return it as one vector. Of what is one, Numba's `reshape` takes as long as some tanh."""
    return array.reshape(-1)


@overload(_flat)
def _compiled_flat(array):  # type: ignore[no-untyped-def]
    return (lambda array: array) if array.ndim == 1 else (lambda array: array.reshape(-1))


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
def _advance_keeping(gates, c, h):  # type: ignore[no-untyped-def]
    """Do as `_advance` does, and overwrite the pre-activations by the gates, the sigmoids doubled."""
    n = len(c)
    o, i, f, g = gates[:n], gates[n : 2 * n], gates[2 * n : 3 * n], gates[3 * n :]
    one, half = c.dtype.type(1), c.dtype.type(0.5)
    for k in range(n):
        new_o, new_i, new_f, new_g = tanh(o[k]) + one, tanh(i[k]) + one, tanh(f[k]) + one, tanh(g[k])
        new = half * (new_i * new_g + new_f * c[k])
        o[k], i[k], f[k], g[k], c[k] = new_o, new_i, new_f, new_g, new
        h[k] = new_o * tanh(new)


@_compiled
def _retreat(gates, c, old, d_h, d_c, d_z):  # type: ignore[no-untyped-def]
    """Compute the derivatives by the pre-activations i, f, g and o and, in place, by the old cell state."""
    n = len(c)
    o, i, f, g = gates[:n], gates[n : 2 * n], gates[2 * n : 3 * n], gates[3 * n :]
    d_i, d_f, d_g, d_o = d_z[:n], d_z[n : 2 * n], d_z[2 * n : 3 * n], d_z[3 * n :]
    one, half = c.dtype.type(1), c.dtype.type(0.5)
    for k in range(n):
        s_o, s_i, s_f, t, t_c = half * o[k], half * i[k], half * f[k], g[k], tanh(c[k])
        d = d_h[k] * s_o
        d_o[k] = d * t_c * (one - s_o)
        d = d_c[k] + d * (one - t_c * t_c)
        d_f[k] = d * old[k] * s_f * (one - s_f)
        d_c[k] = d * s_f
        d *= s_i
        d_g[k] = d * (one - t * t)
        d_i[k] = d * t * (one - s_i)


@_compiled
def _accumulate(total, more):  # type: ignore[no-untyped-def]
    """Add in place."""
    for k in range(len(total)):
        total[k] += more[k]


@_compiled
def _advance_variant(gates, c, h, variant):  # type: ignore[no-untyped-def]
    """Do as `_advance` does for a cell that is not torch's."""
    n = len(c)
    o, i, f, g = gates[:n], gates[n : 2 * n], gates[2 * n : 3 * n], gates[3 * n :]
    half_bound, bound, cell_bound = variant[0], variant[1], variant[2]
    peeps, late, coupled = variant[4] > 0, variant[5] > 0, variant[6] > 0
    peepholes = variant[NUMBERS:]
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
