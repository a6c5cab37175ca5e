"""
Keras's files, by h5py alone: ``.keras`` archives, and HDF5 files of models or of weights, back to those of Keras 2.

The weights say where an LSTM is, by their shapes. A configuration, where there is one, says what it is beside: the
place of a layer in it is found by name in HDF5 files of whole models, and in Keras 3's by the order of layers of the
same class, as they are saved (`keras.src.saving.saving_lib._save_container_state`).
"""

import io
import json
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lstm_xp.convert._contents import Held, Model, check_expansion, errors_about
from lstm_xp.convert._frameworks import from_keras

_LAYERS = ("LSTM", "LSTMCell", "CuDNNLSTM", "RNN", "Bidirectional")
_CELL = re.compile(r"lstm_cell(_\d+)?|cell")
_LARGEST_JSON = 2**22
_Opener = Callable[[], AbstractContextManager[Any]]


class _Layer(NamedTuple):
    """A layer as a configuration describes it."""

    kind: str
    config: dict[str, Any]


def read(path: Path) -> Model:
    """Read the LSTMs of a file."""
    return _read_archive(path) if path.suffix == ".keras" else _read_hdf5(path)


def _read_hdf5(path: Path) -> Model:
    """Read the LSTMs of an HDF5 file."""
    size = path.stat().st_size
    opener = partial(_open, path)
    with opener() as file:
        root = "model_weights" if "model_weights" in file else ""
        version = _text((file[root] if root else file).attrs.get("keras_version", "3"))
        model = json.loads(_text(file.attrs.get("model_config", "null")))
        layers = {layer.config["name"]: layer for layer in _described(model).values()}

        def layer_at(place: tuple[str, ...]) -> _Layer | None:
            return next((layers[part] for part in place[::-1] if part in layers), None)

        return _model(file, root, opener, size, version, layer_at)


def _read_archive(path: Path) -> Model:
    """Read the LSTMs of a ``.keras`` file."""
    size = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        check_expansion(sum(member.file_size for member in archive.infolist()), size, "what it unpacks to")
        version = _json(archive, "metadata.json")["keras_version"]
        model = _json(archive, "config.json")
    layers, opener = _described(model), partial(_open_archive, path)
    with opener() as file:
        return _model(file, "", opener, size, version, lambda place: layers.get("/".join(place)))


def _json(archive: zipfile.ZipFile, name: str) -> Any:
    """Return the JSON of a member; as Python's objects it takes some twenty times its size."""
    if (size := archive.getinfo(name).file_size) > _LARGEST_JSON:
        msg = f"its {name} has {size} bytes, expected no more than {_LARGEST_JSON}"
        raise ValueError(msg)
    return json.loads(archive.read(name))


def _open(path: Path) -> Any:
    import h5py

    path.open("rb").close()  # whose errors name the file
    return h5py.File(path, "r")


def _open_archive(path: Path) -> Any:
    import h5py

    with zipfile.ZipFile(path) as archive:
        return h5py.File(io.BytesIO(archive.read("model.weights.h5")), "r")


def _model(
    file: Any,
    root: str,
    opener: _Opener,
    size: int,
    version: str,
    layer_at: Callable[[tuple[str, ...]], _Layer | None],
) -> Model:
    cells = _find_cells(file[root] if root else file)
    readers: dict[str, Callable[[], Held]] = {}
    for place, paths in _join_directions(cells).items():
        layer = layer_at(place)
        name = _name(file, place) if layer is None else layer.config["name"]
        name = name if name not in readers else "/".join(place)
        arrays = [array for path in paths for array in cells[path]]
        readers[name] = partial(_read_layer, name, opener, size, arrays, layer, int(version.split(".", maxsplit=1)[0]))
    return Model(readers)


def _read_layer(name: str, opener: _Opener, size: int, arrays: list[str], layer: _Layer | None, major: int) -> Held:
    """Return the LSTM of one layer."""
    with errors_about(f"the layer {name!r}"):
        config = None if layer is None else _lstm_config(layer)
        with opener() as file:
            weights = [_read_array(file[array], size) for array in arrays]
        return Held(from_keras(_without_cudnn(weights), config, version=major))


def _find_cells(group: Any) -> dict[tuple[str, ...], list[str]]:
    """Return the names of kernel, recurrent kernel and bias, for each group that has those of an LSTM."""
    import h5py

    groups: dict[tuple[str, ...], dict[str, Any]] = {}

    def visit(name: str, item: Any) -> None:  # by hard links alone, and nothing twice
        if isinstance(item, h5py.Dataset):
            *parents, last = name.split("/")
            groups.setdefault(tuple(parents), {})[last.removesuffix(":0")] = item

    group.visititems(visit)
    cells = {}
    for parents, items in groups.items():
        names = ("0", "1", "2") if parents[-1:] == ("vars",) else ("kernel", "recurrent_kernel", "bias")
        found: list[Any] = [items.get(name) for name in names]
        if all(item is not None and item.ndim == 2 for item in found[:2]):
            (_, columns), (rows, same) = found[0].shape, found[1].shape
            if columns == same == 4 * rows and (parents[-1:] != ("vars",) or len(items) in (2, 3)):
                cells[parents] = [item.name for item in found if item is not None]
    return cells


def _join_directions(cells: Mapping[tuple[str, ...], Any]) -> dict[tuple[str, ...], list[tuple[str, ...]]]:
    """Return the groups of each layer's cells, forward and backward, by the layer's own."""
    places = {}
    for parents in cells:
        place = parents[:-1] if parents[-1:] == ("vars",) else parents
        places[place[:-1] if len(place) > 1 and _CELL.fullmatch(place[-1]) else place] = parents
    joined = {}
    for place, parents in places.items():
        last = place[-1] if place else ""
        other = {
            a: (*place[:-1], last.replace(a, b, 1)) for a, b in (("forward_", "backward_"), ("backward_", "forward_"))
        }
        if last.startswith("forward_") and other["forward_"] in places:
            joined[place[:-1]] = [parents, places[other["forward_"]]]
        elif not (last.startswith("backward_") and other["backward_"] in places):
            joined[place] = [parents]
    return joined


def _described(model: Any) -> dict[str, _Layer]:
    """Return the layers of a model's configuration that may be LSTMs, by where Keras 3 saves them."""
    by_path = {}
    todo: list[tuple[str, Any]] = [("", model)]
    while todo:
        path, entry = todo.pop()
        if not isinstance(entry, dict):
            continue
        kind, config = entry.get("class_name", ""), entry.get("config")
        if isinstance(config, list):  # a Sequential of Keras 2
            config = {"name": "", "layers": config}
        if not isinstance(config, dict):
            continue
        if isinstance(config.get("name"), str) and isinstance(kind, str):
            by_path[path] = _Layer(kind, config)
        start = f"{path}/" if path else ""
        used = Counter[str]()
        for each in config.get("layers") or ():
            name = _snake_case(each.get("class_name", "")) if isinstance(each, dict) else ""
            todo.append((f"{start}layers/{name}" + (f"_{used[name]}" if used[name] else ""), each))
            used[name] += 1
        if kind != "Bidirectional":
            todo.append((f"{start}layer", config.get("layer")))
    lstms = {path: layer for path, layer in by_path.items() if "layers" not in layer.config}
    # What TensorFlow's Keras 2 writes into a .keras file.
    old = {path.replace("layers/", "_layer_checkpoint_dependencies/"): layer for path, layer in lstms.items()}
    return old | lstms


def _snake_case(name: str) -> str:
    """Return a class's name as Keras does (`keras.src.utils.naming.to_snake_case`)."""
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def _name(file: Any, place: tuple[str, ...]) -> str:
    """Return what to call a layer of which there is no configuration."""
    path = "/".join((*place, "vars"))
    if path in file and "name" in file[path].attrs:  # later versions of Keras 3 write it
        return _text(file[path].attrs["name"])
    parts = [part for part in place if part not in ("layers", "_layer_checkpoint_dependencies")]
    return "/".join(part for k, part in enumerate(parts) if part != parts[k - 1] or k == 0)


def _lstm_config(layer: _Layer) -> dict[str, Any]:
    """Return the configuration of a layer as that of an ``LSTM`` or a ``Bidirectional`` of them."""
    kind, config = layer
    if kind not in _LAYERS:
        msg = f"it is a {kind}, expected one of {', '.join(_LAYERS)}"
        raise ValueError(msg)
    if kind == "RNN":
        return config | _lstm_config(_entry(config["cell"]))
    if kind != "Bidirectional":
        return config
    both = {key: config.get(key) for key in ("layer", "backward_layer")}
    return {**config, **{key: entry and {"config": _lstm_config(_entry(entry))} for key, entry in both.items()}}


def _entry(entry: Any) -> _Layer:
    return _Layer(entry["class_name"], entry["config"])


def _without_cudnn(weights: list[np.ndarray]) -> list[np.ndarray]:
    """
    Return a layer's weights as those of ``LSTM``, where they may be those of Keras 2's ``CuDNNLSTM``.

    These have two biases, and kernels that are not transposed (`keras.engine.saving._convert_rnn_weights`).
    """
    count = len(weights) // 2 if len(weights) == 6 else len(weights)
    converted = []
    for start in range(0, len(weights), count):
        cell = weights[start : start + count]
        if count == 3 and cell[2].shape == (8 * len(cell[1]),):
            kernels = [
                np.hstack([gate.reshape(gate.shape[::-1]).T for gate in np.hsplit(cell[0], 4)]),
                np.hstack([gate.T for gate in np.hsplit(cell[1], 4)]),
            ]
            cell = [*kernels, np.add(*np.split(cell[2], 2))]
        converted += cell
    return converted


def _read_array(dataset: Any, size: int) -> np.ndarray:
    if dataset.is_virtual or dataset.external:
        msg = f"{dataset.name} lies in another file"
        raise ValueError(msg)
    check_expansion(dataset.nbytes, size, dataset.name)
    array = np.asarray(dataset[()])
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
