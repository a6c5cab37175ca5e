"""Mutants that no test can notice, and why."""

from typing import NamedTuple


class Key(NamedTuple):
    """By what a mutant is known, whatever the numbers of the lines are: as in `conformance.mutate.source.Mutant`."""

    file: str
    operator: str
    before: str
    after: str


_PLAIN = "plain = is_neutral(options) and all(w is None for w in (weights.{}, weights.{}, weights.{}))"
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
    "all three are gone through, whichever comes first": tuple(
        Key("engines/_stack.py", "tuple", _PLAIN.format("weight_hr", "peephole", "norm"), _PLAIN.format(*after))
        for after in (
            ("peephole", "weight_hr", "norm"),
            ("norm", "peephole", "weight_hr"),
            ("weight_hr", "norm", "peephole"),
        )
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
            "return body if has_valid or has_episodes or keep else plain",
            "return body",
        ),
    ),
    "two lists, both empty": (
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
            '"leaky_relu": Activation(lambda z, xp, alpha: xp.where(z >= 0, z, alpha * z), (0.01,)),',
            '"leaky_relu": Activation(lambda z, xp, alpha: xp.where(z > 0, z, alpha * z), (0.01,)),',
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
            "weights=_joined(weights, xp),",
            "weights=weights,",
        ),
        Key(
            "engines/_stack.py",
            "unwrap",
            "return CellWeights(*(None if array is None else join(array, xp) for array in weights))",
            "return CellWeights(*(None if array is None else array for array in weights))",
        ),
    ),
    "one array concatenated is itself": (
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
            "start = zeros if state is None else (state[0] + zeros[0], state[1] + zeros[1])",
            "start = zeros if state is None else (state[0] - zeros[0], state[1] + zeros[1])",
        ),
        Key(
            "engines/_stack.py",
            "sign",
            "start = zeros if state is None else (state[0] + zeros[0], state[1] + zeros[1])",
            "start = zeros if state is None else (state[0] + zeros[0], state[1] - zeros[1])",
        ),
    ),
}
