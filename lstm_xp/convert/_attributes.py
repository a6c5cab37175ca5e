"""What the arrays of a checkpoint do not say: Keras's configurations and ONNX's attributes, to settings and back."""

from collections.abc import Mapping, Sequence
from typing import Any

from lstm_xp._activations import ACTIVATIONS
from lstm_xp._lstm import LSTM
from lstm_xp._options import ActivationSpec, CellOptions, options_by_direction

# https://keras.io/api/layers/activations/. The hard sigmoid was clip(0.2*x + 0.5) until Keras 2.
KERAS_ACTIVATIONS: dict[str, ActivationSpec] = {
    "elu": "elu",
    "hard_sigmoid": ("hard_sigmoid", 1 / 6, 0.5),
    "leaky_relu": ("leaky_relu", 0.2),
    "linear": "affine",
    "relu": "relu",
    "sigmoid": "sigmoid",
    "softplus": "softplus",
    "softsign": "softsign",
    "tanh": "tanh",
}

ONNX_ACTIVATIONS = {
    "affine": "Affine",
    "elu": "Elu",
    "hard_sigmoid": "HardSigmoid",
    "leaky_relu": "LeakyRelu",
    "relu": "Relu",
    "scaled_tanh": "ScaledTanh",
    "sigmoid": "Sigmoid",
    "softplus": "Softplus",
    "softsign": "Softsign",
    "tanh": "Tanh",
    "thresholded_relu": "ThresholdedRelu",
}


def settings_from_keras(config: Mapping[str, Any], *, version: int = 3) -> dict[str, Any]:
    """
    Return what a Keras configuration says beside the weights.

    Parameters
    ----------
    config : mapping
        ``layer.get_config()`` of an ``LSTM``, ``LSTMCell`` or ``Bidirectional``.
    version : int, optional
        The major version of Keras that wrote it, which tells the slope of its hard sigmoid: 1/6, before Keras 3 0.2.

    Returns
    -------
    dict
        The settings that `LSTM.from_weights` takes: options, reverse, masked_output and batch_first.

    Raises
    ------
    ValueError
        It says something that cannot be expressed.
    """
    if "layer" in config:
        return _bidirectional_settings(config, version)
    roles = ("recurrent_activation", "activation", "activation")
    defaults = ("sigmoid", "tanh", "tanh")
    names = [_keras_name(config.get(role, default)) for role, default in zip(roles, defaults, strict=True)]
    for role, name in zip(roles, names, strict=True):
        if not isinstance(name, str) or name not in KERAS_ACTIVATIONS:  # a layer is described by a dict
            msg = f"`{role}` is {name!r:.200}, expected one of {', '.join(KERAS_ACTIVATIONS)}"
            raise ValueError(msg)
    slope = {"hard_sigmoid": "hard_sigmoid"} if version < 3 else {}  # ONNX's own default is 0.2 and 0.5
    specs = [(KERAS_ACTIVATIONS | slope)[name] for name in names]
    return {
        "options": CellOptions(activations=(specs[0], specs[1], specs[2])),
        "reverse": bool(config.get("go_backwards", False)),
        "masked_output": "zero" if config.get("zero_output_for_mask", False) else "hold",
        "batch_first": True,
    }


def _bidirectional_settings(config: Mapping[str, Any], version: int) -> dict[str, Any]:
    """Return what the configuration of a ``Bidirectional`` says."""
    if (mode := config.get("merge_mode", "concat")) != "concat":
        msg = f"`merge_mode` is {mode!r}, expected 'concat'"
        raise ValueError(msg)
    forward, backward = (
        settings_from_keras(layer["config"], version=version)
        for layer in (config["layer"], config.get("backward_layer") or config["layer"])
    )
    if forward["reverse"]:
        msg = "`go_backwards` of the forward layer is True, expected False"
        raise ValueError(msg)
    if forward["masked_output"] != backward["masked_output"]:
        msg = "`zero_output_for_mask` differs between the directions"
        raise ValueError(msg)
    options = (forward["options"], backward["options"])
    return forward | {"options": options[0] if options[0] == options[1] else options}


def _keras_name(activation: Any) -> Any:
    """Return the name of an activation, which Keras may wrap in a description of the function."""
    if isinstance(activation, Mapping) and activation.get("class_name") == "function":
        return activation.get("config")
    return "linear" if activation is None else activation


def keras_config(net: LSTM) -> dict[str, Any]:
    """
    Return the arguments of ``keras.layers.LSTM`` that go with the weights of `to_keras`.

    Parameters
    ----------
    net : LSTM
        The LSTM.

    Returns
    -------
    dict
        ``units``, ``activation``, ``recurrent_activation``, ``use_bias``, ``go_backwards`` and
        ``zero_output_for_mask``, with ``return_sequences=True``; of two directions for the layer in ``Bidirectional``.

    Raises
    ------
    ValueError
        Its options are not Keras's, or differ by direction; or several layers run backward.

    Examples
    --------
    >>> import lstm_xp as lx
    >>> config = lx.convert.keras_config(lx.LSTM(5, 4))
    >>> config["units"], config["recurrent_activation"]
    (4, 'sigmoid')
    """
    check_keras_directions(net)
    options = options_by_direction(net.options, 1 + net.bidirectional)
    if len(set(options)) > 1:
        msg = f"`net` has options that differ by direction, expected one configuration for both: {options}"
        raise ValueError(msg)
    activation, recurrent_activation = keras_activations(options[0])
    return {
        "units": net.hidden_size,
        "activation": activation,
        "recurrent_activation": recurrent_activation,
        "use_bias": net.bias,
        "go_backwards": net.reverse,
        "zero_output_for_mask": net.masked_output == "zero",
        "return_sequences": True,
    }


def check_keras_directions(net: LSTM) -> None:
    """Raise ValueError if several layers run backward: each of Keras's would undo what the one below did."""
    if net.reverse and net.num_layers > 1:
        msg = (
            f"`net` has reverse=True in {net.num_layers} layers, which Keras cannot express: each turns the time around"
        )
        raise ValueError(msg)


def keras_activations(options: CellOptions) -> tuple[str, str]:
    """Return Keras's ``activation`` and ``recurrent_activation``; raise ValueError if options are not Keras's."""
    gates, candidate, output = options.activations
    if candidate != output or options != CellOptions(activations=options.activations):
        msg = f"`net` has options that Keras cannot express: {options}"
        raise ValueError(msg)
    names = {spec: name for name, spec in KERAS_ACTIVATIONS.items()}
    for spec in (candidate, gates):
        if spec not in names:
            msg = f"`net` has the activation {spec!r}, which Keras cannot express"
            raise ValueError(msg)
    return names[candidate], names[gates]


def settings_from_onnx(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return what the attributes of an ONNX LSTM node say beside the weights.

    Parameters
    ----------
    attributes : mapping
        The attributes by their names; texts may be bytes.

    Returns
    -------
    dict
        The settings that `LSTM.from_weights` takes: options, reverse and batch_first.

    Raises
    ------
    ValueError
        An attribute is unknown, or says something that cannot be expressed.
    """
    known = {"activation_alpha", "activation_beta", "activations", "clip", "direction", "hidden_size", "input_forget",
             "layout", "output_sequence"}  # fmt: skip
    if unknown := sorted(set(attributes) - known):
        msg = f"`{unknown[0]}` is not an attribute of ONNX's LSTM, expected {', '.join(sorted(known))}"
        raise ValueError(msg)
    direction = _text(attributes.get("direction", "forward"))
    if direction not in ("forward", "reverse", "bidirectional"):
        msg = f"`direction` is {direction!r}, expected 'forward', 'reverse' or 'bidirectional'"
        raise ValueError(msg)
    num_directions = 1 + (direction == "bidirectional")
    names = [_text(name) for name in attributes.get("activations") or ("Sigmoid", "Tanh", "Tanh") * num_directions]
    if len(names) != 3 * num_directions:
        msg = f"`activations` has {len(names)} names, expected {3 * num_directions}"
        raise ValueError(msg)
    # The two lists are queues: each function takes from them what it has a use for.
    alphas, betas = (list(attributes.get(f"activation_{which}") or ()) for which in ("alpha", "beta"))
    specs = [_from_onnx_activation(name, alphas, betas) for name in names]
    if alphas or betas:
        msg = f"`activation_alpha` or `activation_beta` has {len(alphas) + len(betas)} values more than {names} take"
        raise ValueError(msg)
    clip = attributes.get("clip")
    options = [
        CellOptions(
            activations=(specs[k], specs[k + 1], specs[k + 2]),
            clip_gates=None if clip is None else float(clip),
            coupled=bool(attributes.get("input_forget", 0)),
        )
        for k in range(0, len(specs), 3)
    ]
    return {
        "options": options[0] if len(set(options)) == 1 else tuple(options),
        "reverse": direction == "reverse",
        "batch_first": bool(attributes.get("layout", 0)),
    }


def _from_onnx_activation(name: str, alphas: list[float], betas: list[float]) -> ActivationSpec:
    """Return an activation, its parameters taken from the two queues."""
    ours = {theirs.lower(): each for each, theirs in ONNX_ACTIVATIONS.items()}.get(name.lower())
    if ours is None:
        msg = f"`activations` has {name!r}, expected one of {', '.join(ONNX_ACTIVATIONS.values())}"
        raise ValueError(msg)
    defaults = ACTIVATIONS[ours].defaults
    return (ours, *(float(queue.pop(0)) if queue else d for queue, d in zip((alphas, betas), defaults, strict=False)))  # type: ignore[return-value]


def onnx_attributes(net: LSTM) -> dict[str, Any]:
    """
    Return the attributes of the ONNX LSTM nodes that go with the tensors of `to_onnx`.

    Parameters
    ----------
    net : LSTM
        The LSTM. Its ``batch_first`` is not among them: ONNX Runtime takes only ``layout=0``, time first.

    Returns
    -------
    dict
        ``hidden_size`` and ``direction``, and where they are not ONNX's defaults ``activations`` with all their
        parameters, ``clip`` and ``input_forget``.

    Raises
    ------
    ValueError
        Its options are not ONNX's.

    Examples
    --------
    >>> import lstm_xp as lx
    >>> lx.convert.onnx_attributes(lx.LSTM(5, 4, bidirectional=True))
    {'hidden_size': 4, 'direction': 'bidirectional'}
    """
    options = options_by_direction(net.options, 1 + net.bidirectional)
    for each in options:
        like_onnx = CellOptions(activations=each.activations, clip_gates=each.clip_gates, coupled=each.coupled)
        if each != like_onnx or (each.clip_gates, each.coupled) != (options[0].clip_gates, options[0].coupled):
            msg = f"`net` has options that ONNX cannot express: {net.options}"
            raise ValueError(msg)
    attributes: dict[str, Any] = {
        "hidden_size": net.hidden_size,
        "direction": "bidirectional" if net.bidirectional else "reverse" if net.reverse else "forward",
    }
    if any(each.activations != CellOptions().activations for each in options):
        attributes |= _to_onnx_activations([spec for each in options for spec in each.activations])
    if options[0].clip_gates is not None:
        attributes["clip"] = options[0].clip_gates
    if options[0].coupled:
        attributes["input_forget"] = 1
    return attributes


def _to_onnx_activations(specs: Sequence[ActivationSpec]) -> dict[str, list[Any]]:
    """Return the three lists for activations, every parameter written out."""
    lists: dict[str, list[Any]] = {"activations": [], "activation_alpha": [], "activation_beta": []}
    for spec in specs:
        name, given = (spec, ()) if isinstance(spec, str) else (spec[0], spec[1:])
        parameters = (*given, *ACTIVATIONS[name].defaults[len(given) :])
        lists["activations"].append(ONNX_ACTIVATIONS[name])
        lists["activation_alpha"] += parameters[:1]
        lists["activation_beta"] += parameters[1:]
    return {name: values for name, values in lists.items() if values}


def _text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value
