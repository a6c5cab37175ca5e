"""Mutants that no test can notice, and why."""

from typing import NamedTuple


class Key(NamedTuple):
    """By what a mutant is known, whatever the numbers of the lines are: as in `conformance.mutate.source.Mutant`."""

    file: str
    operator: str
    before: str
    after: str


_PLAIN = "plain = is_neutral(options) and all(w is None for w in ({}, {}, {}, {}))"
_OF_PLAIN = ("weights.weight_hr", "weights.peephole", "weights.norm", "noise")
_OF_JAX = " = jnp.split(by.z * z, 4, axis=layout.axis)"

EQUIVALENT: dict[str, tuple[Key, ...]] = {
    "all weights have one dtype and, as far as libraries tell, one device: that was checked": (
        Key(
            "_weights.py",
            "sibling",
            "return self.layers[0][0].weight_ih",
            "return self.layers[0][0].weight_hh",
        ),
    ),
    "an array is like itself: what the other one is called is never told": (
        Key(
            "_weights.py",
            "sibling",
            "check_like(first.weight_ih, first_name, first.weight_ih, first_name, libraries)",
            "check_like(first.weight_ih, first_name, first.weight_ih, first, libraries)",
        ),
    ),
    "False and True count as 0 and 1": (
        Key(
            "_weights.py",
            "unwrap",
            'field, layer, direction = match["field"], int(match["layer"]), int(match["reverse"] is not None)',
            'field, layer, direction = match["field"], int(match["layer"]), (match["reverse"] is not None)',
        ),
    ),
    "which of two mistakes is told first": (
        Key(
            "_weights.py",
            "tuple",
            '("weight_hh", "(4*hidden_size, proj_size or hidden_size)"), ("weight_hr", "(proj_size, hidden_size)"),',
            '(("weight_hr", "(proj_size, hidden_size)")), (("weight_hh", "(4*hidden_size, proj_size or hidden_size)")),',  # noqa: E501
        ),
        Key(
            "_options.py",
            "tuple",
            'for name, (one, other) in (("peephole_output", ("new", "old")), ("norm_gates", ("joint", "each"))):',
            'for name, (one, other) in ((("norm_gates", ("joint", "each"))), (("peephole_output", ("new", "old")))):',
        ),
    ),
    "the standard's default": (
        Key(
            "engines/_stack_vjp.py",
            "keyword",
            "return xp.concat(d_xs if part.reverse else d_xs[::-1], axis=0), d_weights, (state.h, state.c)",
            "return xp.concat(d_xs if part.reverse else d_xs[::-1], ), d_weights, (state.h, state.c)",
        ),
        Key(
            "engines/_stack_vjp.py",
            "keyword",
            "before = xp.concat([before, first], axis=0) if times.stop == time else before",
            "before = xp.concat([before, first], ) if times.stop == time else before",
        ),
        Key(
            "engines/_stack_vjp.py",
            "keyword",
            "before = xp.concat([first, before], axis=0) if times.start == 0 else before",
            "before = xp.concat([first, before], ) if times.start == 0 else before",
        ),
        Key(
            "engines/standard.py",
            "keyword",
            "return carry, tuple(xp.stack(column, axis=0) for column in zip(*(ys[::-1] if reverse else ys), strict=True))",  # noqa: E501
            "return carry, tuple(xp.stack(column, ) for column in zip(*(ys[::-1] if reverse else ys), strict=True))",
        ),
    ),
    "it is unpacked at once, and only once": (
        Key(
            "engines/standard.py",
            "unwrap",
            "return carry, tuple(xp.stack(column, axis=0) for column in zip(*(ys[::-1] if reverse else ys), strict=True))",  # noqa: E501
            "return carry, ((xp.stack(column, axis=0) for column in zip(*(ys[::-1] if reverse else ys), strict=True)))",
        ),
    ),
    "what `asarray` makes of a library's own array is that array, or one equal to it": (
        Key(
            "_namespace.py",
            "operand",
            'return xp.asarray(array) if library_name(xp) == "dask.array" and not is_dask_array(array) else array',
            'return xp.asarray(array) if ((library_name(xp) == "dask.array")) else array',
        ),
    ),
    "both weights have as many rows: that was checked": (
        Key(
            "_cell.py",
            "sibling",
            "n = weights.weight_hh.shape[0] // 4",
            "n = weights.weight_ih.shape[0] // 4",
        ),
        Key(
            "_cell.py",
            "sibling",
            "c = xp.zeros_like(z[..., : weights.weight_hh.shape[0] // 4])",
            "c = xp.zeros_like(z[..., : weights.weight_ih.shape[0] // 4])",
        ),
        Key(
            "_cell.py",
            "sibling",
            "norm, n = weights.norm, weights.weight_hh.shape[0] // 4",
            "norm, n = weights.norm, weights.weight_ih.shape[0] // 4",
        ),
    ),
    "the weights were read with the library that the caller gave": (
        Key(
            "_weights.py",
            "operand",
            "if xp is None and is_alike(x, network.first_array):",
            "if (is_alike(x, network.first_array)):",
        ),
    ),
    "prefixes are gone through and counted, in their order": (
        Key(
            "_weights.py",
            "unwrap",
            "return tuple(dict.fromkeys(head + dot for head, dot, tail in heads if _FIRST.fullmatch(tail)))",
            "return dict.fromkeys(head + dot for head, dot, tail in heads if _FIRST.fullmatch(tail))",
        ),
    ),
    "all of them are gone through, whichever comes first": tuple(
        Key("engines/_stack.py", "tuple", _PLAIN.format(*_OF_PLAIN), _PLAIN.format(*(_OF_PLAIN[k] for k in order)))
        for order in ((1, 0, 2, 3), (0, 2, 1, 3), (0, 1, 3, 2))
    ),
    "the input and the weights have one dtype: that was checked": (
        Key(
            "engines/jax.py",
            "sibling",
            "half = jnp.asarray(np.repeat([0.5, 0.5, 1.0, 0.5], w_hh.shape[1]), x.dtype)",
            "half = jnp.asarray(np.repeat([0.5, 0.5, 1.0, 0.5], w_hh.shape[1]), w_ih.dtype)",
        ),
    ),
    "the three are added up, in whatever order: no more than rounding differs": tuple(
        Key("engines/jax.py", "unpacking", f"i, f, g, o{_OF_JAX}", f"{after}{_OF_JAX}")
        for after in ("f, i, g, o", "g, f, i, o", "i, g, f, o")
    ),
    "without a projection the hidden state is as wide as the weights for it": (
        Key(
            "engines/jax.py",
            "sibling",
            "output = states[:, :, : inputs.w_hh.shape[1]]",
            "output = states[:, :, : inputs.h.shape[1]]",
        ),
    ),
    "derivatives that nobody asked for are dropped by XLA, and take no more than time without it": (
        Key("engines/jax.py", "branch", "if slopes:", "if True:"),
        Key(
            "engines/jax.py",
            "truth",
            "final, (states, _) = _scan_with(layout, inputs, slopes=False)",
            "final, (states, _) = _scan_with(layout, inputs, slopes=True)",
        ),
    ),
    "the plain body is only the quicker one": (
        Key(
            "engines/_stack.py",
            "branch",
            "elif valid is None and episode is None and noise is None and not request.keep:",
            "elif False:",
        ),
    ),
    "two lists, both empty": (
        Key(
            "engines/_stack_vjp.py",
            "unpacking",
            "x, d_inputs, d_layer = layer_input(request, k, below, valid), [], []",
            "x, d_layer, d_inputs = layer_input(request, k, below, valid), [], []",
        ),
        Key("engines/_stack.py", "unpacking", "outputs, kept = [], []", "kept, outputs = [], []"),
    ),
    "where nothing is kept, no one looks at the trace": (
        Key("engines/_stack.py", "branch", "if not request.keep:", "if False:"),
    ),
    "a trace is asked for what it has by number, whatever holds it": (
        Key("engines/_stack.py", "unwrap", "final, kept = (h, c), tuple(others)", "final, kept = (h, c), others"),
    ),
    "before the first step the state is the initial one, whichever episode that begins": (
        Key(
            "engines/_stack_vjp.py",
            "unwrap",
            "number, begins = xp.zeros_like(episode[0, :, :]), []",
            "number, begins = episode[0, :, :], []",
        ),
        Key(
            "engines/_stack.py",
            "unwrap",
            "carry = start if episode is None else (*start, xp.zeros_like(episode[0, :, :]))",
            "carry = start if episode is None else (*start, episode[0, :, :])",
        ),
    ),
    "the first row of one is the last": (
        Key(
            "engines/_stack.py",
            "integer",
            "rows = (slice(None),) if batched else (0,)",
            "rows = (slice(None),) if batched else ((-1),)",
        ),
    ),
    "what was checked is checked again": (
        Key(
            "_sequence.py",
            "keyword",
            "request, layout = make_request(network, settings, call, options=options)",
            "request, layout = make_request(network, settings, call, )",
        ),
        Key(
            "_sequence.py",
            "branch",
            "options = check_settings(settings, network) if options is None else options",
            "options = check_settings(settings, network)",
        ),
    ),
    "what an engine prepares is not kept for the next call": (
        Key("_sequence.py", "keyword", "prepared=network.prepared,", ""),
    ),
    "an integer of NumPy does what Python's does": (
        Key("_sequence.py", "unwrap", "threads=int(threads),", "threads=threads,"),
    ),
    "nothing is kept of nothing": (
        Key(
            "_sequence.py",
            "branch",
            "keep=tuple(dict.fromkeys(keep)) if keep else (),",
            "keep=tuple(dict.fromkeys(keep)),",
        ),
    ),
    "a length of as many steps as there are becomes that number": (
        Key(
            "_sequence.py",
            "comparison",
            "too_large = xp.astype(lengths, xp.float32) > x.shape[0]",
            "too_large = xp.astype(lengths, xp.float32) >= x.shape[0]",
        ),
    ),
    "an engine of this name is asked for nowhere: a stream takes its own": (
        Key("_sequence.py", "string", 'engine: str = "auto"', 'engine: str = "?"'),
    ),
    "without the glance the whole check is made, which tells the same": (
        Key("_weights.py", "branch", "if xp is None and is_alike(x, network.first_array):", "if False:"),
        Key(
            "_weights.py",
            "operand",
            "if array is not None and not is_alike(array, first.weight_ih):",
            "if ((array is not None)):",
        ),
    ),
    "dtypes and devices of torch compare to a boolean by themselves": (
        Key(
            "_namespace.py",
            "unwrap",
            "return is_torch_array(array) and bool(array.dtype == like.dtype and array.device == like.device)",
            "return is_torch_array(array) and (array.dtype == like.dtype and array.device == like.device)",
        ),
    ),
    "array_api_compat tells the same of NumPy's arrays, in more time": (
        Key("_namespace.py", "branch", "if isinstance(array, np.ndarray):", "if False:"),
    ),
    "it is compared with three times the same": tuple(
        Key("_options.py", "tuple", "bounds = options.clip_gates, options.clip_cell, options.clip_proj", after)
        for after in (
            "bounds = options.clip_cell, options.clip_gates, options.clip_proj",
            "bounds = options.clip_proj, options.clip_cell, options.clip_gates",
            "bounds = options.clip_gates, options.clip_proj, options.clip_cell",
        )
    ),
    "with joint gates the biases are added to a sum, in which order does not matter but for rounding": (
        Key(
            "_cell.py",
            "operand",
            'return weights.norm is not None and options.norm_gates == "each"',
            "return ((weights.norm is not None))",
        ),
    ),
    "at 0, where there is no derivative, both branches give 0": (
        Key(
            "_activations.py",
            "comparison",
            "lambda z, xp, alpha: xp.where(z >= 0, z, alpha * z),",
            "lambda z, xp, alpha: xp.where(z > 0, z, alpha * z),",
        ),
    ),
    "the branch that is not taken is finite with this bound, too": (
        Key(
            "_activations.py",
            "float",
            "return xp.where(z >= 0, z, alpha * xp.expm1(xp.clip(z, max=0.0)))",
            "return xp.where(z >= 0, z, alpha * xp.expm1(xp.clip(z, max=0.5)))",
        ),
    ),
    "whichever type is looked for first": (
        Key(
            "_namespace.py",
            "tuple",
            "NUMPY_ARRAYS = (np.ndarray, np.generic)",
            "NUMPY_ARRAYS = (np.generic, np.ndarray)",
        ),
    ),
    "any number will do: its library is looked at, not its value": (
        Key(
            "_namespace.py",
            "float",
            "return compat_namespace(xp.asarray(0.0))",
            "return compat_namespace(xp.asarray(0.5))",
        ),
    ),
    "a tuple already, or gone through once: the call is for the type checker": (
        Key(
            "_namespace.py",
            "unwrap",
            'return tuple(array.unbind()) if hasattr(array, "unbind") else tuple(xp.unstack(array))',
            'return array.unbind() if hasattr(array, "unbind") else tuple(xp.unstack(array))',
        ),
        Key(
            "_namespace.py",
            "unwrap",
            'return tuple(array.unbind()) if hasattr(array, "unbind") else tuple(xp.unstack(array))',
            'return tuple(array.unbind()) if hasattr(array, "unbind") else xp.unstack(array)',
        ),
    ),
    "a tensor of torch's that is gone through is unbound": (
        Key(
            "_namespace.py",
            "unwrap",
            'return tuple(array.unbind()) if hasattr(array, "unbind") else tuple(xp.unstack(array))',
            'return tuple(array) if hasattr(array, "unbind") else tuple(xp.unstack(array))',
        ),
    ),
    "the same of a and b as of b and a": (
        Key(
            "engines/_stack_vjp.py",
            "argument",
            "is_new, number = xp.logical_and(is_new, is_valid), xp.where(is_valid, own, number)",
            "is_new, number = xp.logical_and(is_valid, is_new), xp.where(is_valid, own, number)",
        ),
        Key(
            "_namespace.py",
            "unpacking",
            "device_a, device_b = device_of(a), device_of(b)",
            "device_b, device_a = device_of(a), device_of(b)",
        ),
        Key(
            "_namespace.py",
            "tuple",
            "device_a, device_b = device_of(a), device_of(b)",
            "device_a, device_b = device_of(b), device_of(a)",
        ),
    ),
    "a bool already: the call is for the type checker": (
        Key(
            "_namespace.py",
            "unwrap",
            "return bool(is_dask_array(a) != is_dask_array(b))",
            "return (is_dask_array(a) != is_dask_array(b))",
        ),
    ),
    "ends an autocast that has not begun, which takes time and changes nothing": (
        Key(
            "_namespace.py",
            "operand",
            "if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):",
            "if (torch.amp.is_autocast_available(kind)):",
        ),
    ),
    "a length of no dimension is broadcast to the batch of one as well": (
        Key(
            "_sequence.py",
            "axis",
            "return lengths if layout.batched else xp.expand_dims(lengths, axis=0)",
            "return lengths if layout.batched else xp.expand_dims(lengths, axis=(-1))",
        ),
    ),
    "Dask's operators take the arrays of its blocks, too; that they are given its own is the standard's rule": (
        Key(
            "engines/_stack.py",
            "unwrap",
            "return CellWeights(*(None if array is None else join(array, xp) for array in weights))",
            "return CellWeights(*(None if array is None else array for array in weights))",
        ),
    ),
    "one array concatenated is itself": (
        Key(
            "engines/_stack_vjp.py",
            "branch",
            "return arrays[0] if len(arrays) == 1 else xp.concat(arrays, axis=2)",
            "return xp.concat(arrays, axis=2)",
        ),
        Key(
            "engines/_stack_vjp.py",
            "integer",
            "return arrays[0] if len(arrays) == 1 else xp.concat(arrays, axis=2)",
            "return arrays[0] if len(arrays) == 0 else xp.concat(arrays, axis=2)",
        ),
        Key(
            "engines/_stack.py",
            "branch",
            "features = outputs[0] if len(outputs) == 1 else xp.concat(outputs, axis=2)",
            "features = xp.concat(outputs, axis=2)",
        ),
        Key(
            "engines/_stack.py",
            "integer",
            "features = outputs[0] if len(outputs) == 1 else xp.concat(outputs, axis=2)",
            "features = outputs[0] if len(outputs) == 0 else xp.concat(outputs, axis=2)",
        ),
    ),
    "the same whole numbers in the library's own integer dtype": (
        Key(
            "engines/_stack.py",
            "dtype",
            "return xp.expand_dims(xp.cumulative_sum(counts, axis=0, dtype=xp.int32), axis=2)",
            "return xp.expand_dims(xp.cumulative_sum(counts, axis=0, ), axis=2)",
        ),
        Key(
            "engines/_stack.py",
            "dtype",
            "steps = xp.arange(x.shape[0], dtype=xp.int32, **device_keyword(device_of(x)))",
            "steps = xp.arange(x.shape[0], **device_keyword(device_of(x)))",
        ),
        Key(
            "engines/_stack.py",
            "dtype",
            "return xp.flip(xp.cumulative_sum(xp.flip(counts, axis=0), axis=0, dtype=xp.int32), axis=0) > 0",
            "return xp.flip(xp.cumulative_sum(xp.flip(counts, axis=0), axis=0, ), axis=0) > 0",
        ),
        Key(
            "engines/_stack.py",
            "dtype",
            "return xp.cumulative_sum(counts, axis=0, dtype=xp.int32) > 0",
            "return xp.cumulative_sum(counts, axis=0, ) > 0",
        ),
    ),
    "0 and 1 fit into 8 bits; their sum has a dtype of its own": (
        Key(
            "engines/_stack.py",
            "integer dtype",
            "counts = xp.astype(request.reset, xp.int32)",
            "counts = xp.astype(request.reset, xp.int8)",
        ),
        Key(
            "engines/_stack.py",
            "integer dtype",
            "counts = xp.astype(valid, xp.int32)",
            "counts = xp.astype(valid, xp.int8)",
        ),
    ),
    "(time, 1) meets (batch,) as it meets (1, batch)": (
        Key(
            "engines/_stack.py",
            "unwrap",
            "valid = xp.expand_dims(steps, axis=1) < xp.expand_dims(request.lengths, axis=0)",
            "valid = xp.expand_dims(steps, axis=1) < request.lengths",
        ),
    ),
    "adding zeros or taking them away broadcasts alike": (
        Key(
            "engines/_stack.py",
            "sign",
            "return zeros if state is None else (state[0] + zeros[0], state[1] + zeros[1])",
            "return zeros if state is None else (state[0] - zeros[0], state[1] + zeros[1])",
        ),
        Key(
            "engines/_stack.py",
            "sign",
            "return zeros if state is None else (state[0] + zeros[0], state[1] + zeros[1])",
            "return zeros if state is None else (state[0] + zeros[0], state[1] - zeros[1])",
        ),
    ),
    "gates that are made again are the same, in more time": (
        Key(
            "engines/_stack_vjp.py",
            "opposite",
            'return Moment._fields if all(map(gates_tell_slopes, request.options)) else ("h", "c")',
            'return Moment._fields if any(map(gates_tell_slopes, request.options)) else ("h", "c")',
        ),
        Key(
            "engines/_stack_vjp.py",
            "branch",
            'return Moment._fields if all(map(gates_tell_slopes, request.options)) else ("h", "c")',
            "return Moment._fields",
        ),
    ),
    "without a bound there is no slope of it to multiply by": (
        Key(
            "_cell_vjp.py",
            "branch",
            "return of(v, gate) if v is None else _times(of(v, gate), clip_gates(v))",
            "return _times(of(v, gate), clip_gates(v))",
        ),
    ),
    "both have the shape of a gate": (
        Key(
            "_cell_vjp.py",
            "sibling",
            "d_f = xp.zeros_like(d_i) if slopes.f is None else d_c * slopes.f",
            "d_f = xp.zeros_like(d_g) if slopes.f is None else d_c * slopes.f",
        ),
    ),
    "without a projection nothing is gathered of it": (
        Key(
            "_cell_vjp.py",
            "branch",
            "return (pull_z(slopes, d_z) @ w_hh, d_c), Inner(d_z, None if w_hr is None else d_h, d_normed)",
            "return (pull_z(slopes, d_z) @ w_hh, d_c), Inner(d_z, d_h, d_normed)",
        ),
    ),
    "a product, whichever comes first": (
        Key(
            "_cell_vjp.py",
            "unpacking",
            "d_gamma = xp.concat([total(d * scaled) for d, scaled in normalised])",
            "d_gamma = xp.concat([total(d * scaled) for scaled, d in normalised])",
        ),
    ),
    "how many steps are linearised at once takes time or memory, and changes no number": (
        Key("engines/_stack_vjp.py", "operand", "CHUNK = 2**20", "CHUNK = 2"),
        Key("engines/_stack_vjp.py", "operand", "CHUNK = 2**20", "CHUNK = 20"),
        Key("engines/_stack_vjp.py", "integer", "CHUNK = 2**20", "CHUNK = 3**20"),
        Key("engines/_stack_vjp.py", "integer", "CHUNK = 2**20", "CHUNK = 1**20"),
        Key("engines/_stack_vjp.py", "integer", "CHUNK = 2**20", "CHUNK = 2**21"),
        Key("engines/_stack_vjp.py", "integer", "CHUNK = 2**20", "CHUNK = 2**19"),
        Key(
            "engines/_stack_vjp.py",
            "branch",
            "length = max(1, CHUNK // max(1, 4 * math.prod(sizes))) if all(map(is_known, sizes)) else time",
            "length = time",
        ),
        Key(
            "engines/_stack_vjp.py",
            "integer",
            "length = max(1, CHUNK // max(1, 4 * math.prod(sizes))) if all(map(is_known, sizes)) else time",
            "length = max(2, CHUNK // max(1, 4 * math.prod(sizes))) if all(map(is_known, sizes)) else time",
        ),
        Key(
            "engines/_stack_vjp.py",
            "operation",
            "length = max(1, CHUNK // max(1, 4 * math.prod(sizes))) if all(map(is_known, sizes)) else time",
            "length = max(1, CHUNK * max(1, 4 * math.prod(sizes))) if all(map(is_known, sizes)) else time",
        ),
        Key(
            "engines/_stack_vjp.py",
            "operand",
            "length = max(1, CHUNK // max(1, 4 * math.prod(sizes))) if all(map(is_known, sizes)) else time",
            "length = max(1, CHUNK) if all(map(is_known, sizes)) else time",
        ),
        Key(
            "engines/_stack_vjp.py",
            "operand",
            "length = max(1, CHUNK // max(1, 4 * math.prod(sizes))) if all(map(is_known, sizes)) else time",
            "length = max(1, max(1, 4 * math.prod(sizes))) if all(map(is_known, sizes)) else time",
        ),
        Key(
            "engines/_stack_vjp.py",
            "integer",
            "length = max(1, CHUNK // max(1, 4 * math.prod(sizes))) if all(map(is_known, sizes)) else time",
            "length = max(1, CHUNK // max(2, 4 * math.prod(sizes))) if all(map(is_known, sizes)) else time",
        ),
        Key(
            "engines/_stack_vjp.py",
            "operation",
            "length = max(1, CHUNK // max(1, 4 * math.prod(sizes))) if all(map(is_known, sizes)) else time",
            "length = max(1, CHUNK // max(1, 4 + math.prod(sizes))) if all(map(is_known, sizes)) else time",
        ),
        Key(
            "engines/_stack_vjp.py",
            "operand",
            "length = max(1, CHUNK // max(1, 4 * math.prod(sizes))) if all(map(is_known, sizes)) else time",
            "length = max(1, CHUNK // max(1, 4)) if all(map(is_known, sizes)) else time",
        ),
        Key(
            "engines/_stack_vjp.py",
            "operand",
            "length = max(1, CHUNK // max(1, 4 * math.prod(sizes))) if all(map(is_known, sizes)) else time",
            "length = max(1, CHUNK // max(1, math.prod(sizes))) if all(map(is_known, sizes)) else time",
        ),
        Key(
            "engines/_stack_vjp.py",
            "integer",
            "length = max(1, CHUNK // max(1, 4 * math.prod(sizes))) if all(map(is_known, sizes)) else time",
            "length = max(1, CHUNK // max(1, 5 * math.prod(sizes))) if all(map(is_known, sizes)) else time",
        ),
        Key(
            "engines/_stack_vjp.py",
            "integer",
            "length = max(1, CHUNK // max(1, 4 * math.prod(sizes))) if all(map(is_known, sizes)) else time",
            "length = max(1, CHUNK // max(1, 3 * math.prod(sizes))) if all(map(is_known, sizes)) else time",
        ),
    ),
    "an engine's `run` does not look at it": (
        Key(
            "engines/_stack_vjp.py",
            "keyword",
            "result = run(request._replace(keep=kept_for_pullback(request), pullback=False))",
            "result = run(request._replace(keep=kept_for_pullback(request), ))",
        ),
        Key(
            "engines/_stack_vjp.py",
            "truth",
            "result = run(request._replace(keep=kept_for_pullback(request), pullback=False))",
            "result = run(request._replace(keep=kept_for_pullback(request), pullback=True))",
        ),
    ),
    "there is one: it is kept": (
        Key(
            "engines/_stack_vjp.py",
            "operand",
            "return result._replace(trace=None), make_pullback(request, result.trace or {})",
            "return result._replace(trace=None), make_pullback(request, (result.trace))",
        ),
    ),
    "each of them is replaced": (
        Key(
            "engines/_stack_vjp.py",
            "sibling",
            "d_output, starts = cotangents.output, [(c[0][0], c[0][0])] * rows",
            "d_output, starts = cotangents.output, [(h[0][0], c[0][0])] * rows",
        ),
        Key(
            "engines/_stack_vjp.py",
            "sibling",
            "d_output, starts = cotangents.output, [(c[0][0], c[0][0])] * rows",
            "d_output, starts = cotangents.output, [(c[0][0], h[0][0])] * rows",
        ),
    ),
    "hidden states are as wide in every layer and direction": (
        Key(
            "engines/_stack_vjp.py",
            "row",
            "row, size = k * len(request.options) + d, h[k][d].shape[2]",
            "row, size = k * len(request.options) + d, h[k][d - 1].shape[2]",
        ),
        Key(
            "engines/_stack_vjp.py",
            "row",
            "row, size = k * len(request.options) + d, h[k][d].shape[2]",
            "row, size = k * len(request.options) + d, h[k - 1][d].shape[2]",
        ),
    ),
    "it is gone through once": (
        Key(
            "engines/_stack_vjp.py",
            "unwrap",
            "ends = tuple(None if array is None else array[row, :, :] for array in cotangents[1:])",
            "ends = ((None if array is None else array[row, :, :] for array in cotangents[1:]))",
        ),
        Key(
            "engines/_stack_vjp.py",
            "unwrap",
            "gates = tuple(gate[times, :, :] for gate in kept.gates) if kept.gates else None",
            "gates = ((gate[times, :, :] for gate in kept.gates)) if kept.gates else None",
        ),
    ),
    "nobody looks at the trace of what was run to go back": (
        Key(
            "engines/_stack_vjp.py",
            "unwrap",
            "return result._replace(trace=None), make_pullback(request, result.trace or {})",
            "return result, make_pullback(request, result.trace or {})",
        ),
        Key(
            "engines/_stack_vjp.py",
            "keyword",
            "return result._replace(trace=None), make_pullback(request, result.trace or {})",
            "return result._replace(), make_pullback(request, result.trace or {})",
        ),
    ),
    "the first of them is always there": (
        Key(
            "engines/_stack_vjp.py",
            "branch",
            "time = next(array.shape[0] for array in xs if array is not None)",
            "time = next(array.shape[0] for array in xs if True)",
        ),
    ),
    "of what is projected, a state looks at the batch, dtype and device": (
        Key(
            "engines/_stack_vjp.py",
            "operand",
            "start = start_of(xp.concat([kept.c[:1, :, :]] * 4, axis=2), part.weights, part.state, xp)",
            "start = start_of(xp.concat(([kept.c[:1, :, :]]), axis=2), part.weights, part.state, xp)",
        ),
        Key(
            "engines/_stack_vjp.py",
            "bound",
            "start = start_of(xp.concat([kept.c[:1, :, :]] * 4, axis=2), part.weights, part.state, xp)",
            "start = start_of(xp.concat([kept.c[:, :, :]] * 4, axis=2), part.weights, part.state, xp)",
        ),
        Key(
            "engines/_stack_vjp.py",
            "integer",
            "start = start_of(xp.concat([kept.c[:1, :, :]] * 4, axis=2), part.weights, part.state, xp)",
            "start = start_of(xp.concat([kept.c[:1, :, :]] * 5, axis=2), part.weights, part.state, xp)",
        ),
        Key(
            "engines/_stack_vjp.py",
            "integer",
            "start = start_of(xp.concat([kept.c[:1, :, :]] * 4, axis=2), part.weights, part.state, xp)",
            "start = start_of(xp.concat([kept.c[:1, :, :]] * 3, axis=2), part.weights, part.state, xp)",
        ),
        Key(
            "engines/_stack_vjp.py",
            "keyword",
            "start = start_of(xp.concat([kept.c[:1, :, :]] * 4, axis=2), part.weights, part.state, xp)",
            "start = start_of(xp.concat([kept.c[:1, :, :]] * 4, ), part.weights, part.state, xp)",
        ),
    ),
    "where no episode begins, nothing is added to it": (
        Key(
            "engines/_stack_vjp.py",
            "branch",
            "state = _Backward(*h_and_c, *(zeros if kept.begins is not None else ()))",
            "state = _Backward(*h_and_c, *(zeros))",
        ),
    ),
}
