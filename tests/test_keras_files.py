"""Keras's files, made by hand as each version writes them; tests/frameworks has those that Keras itself wrote."""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lstm_xp as lx
from conformance.cases import Case
from conformance.compare import assert_equal, flat
from conformance.oracle import torch_answer

pytestmark = pytest.mark.needs("h5py")
ONE = Case(dtype="float32", bias=("bias_ih",), batch_first=True)
BOTH = ONE.replace(bidirectional=True)


def keras_arrays(cell: lx.CellWeights) -> list[np.ndarray]:
    """Return kernel, recurrent kernel and bias."""
    return [cell.weight_ih.T, cell.weight_hh.T, cell.bias_ih]


def cudnn_arrays(cell: lx.CellWeights) -> list[np.ndarray]:
    """
    Return the same three of Keras 2's CuDNNLSTM.

    cuDNN wants each gate's matrix as torch has it, row by row, and both biases. Keras gave it the numbers of a gate's
    columns in the order in which they lie (`keras.layers.cudnn_recurrent.CuDNNLSTM._canonical_to_params`).
    """
    kernel = [gate.reshape(gate.shape[::-1]) for gate in np.split(cell.weight_ih, 4)]
    return [np.hstack(kernel), np.hstack(np.split(cell.weight_hh, 4)), np.concatenate([cell.bias_ih, cell.bias_hh])]


def write(path: Path, arrays: dict[str, np.ndarray], **attributes: Any) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array
        for name, value in attributes.items():
            place, _, last = name.rpartition("__") if "__" in name else ("", "", name)
            file[place or "/"].attrs[last] = value


def named(place: str, arrays: list[np.ndarray], names: tuple[str, ...]) -> dict[str, np.ndarray]:
    return {f"{place}/{name}": array for name, array in zip(names, arrays, strict=False)}


OLD, NEW, VARS = ("kernel:0", "recurrent_kernel:0", "bias:0"), ("kernel", "recurrent_kernel", "bias"), ("0", "1", "2")
LAYER = {"class_name": "LSTM", "config": {"name": "first", "units": 4, "zero_output_for_mask": True}}


def model_config(*layers: Any) -> str:
    return json.dumps({"class_name": "Sequential", "config": {"name": "model", "layers": list(layers)}})


def forms() -> dict[str, Callable[[Path], tuple[Path, str, Case]]]:
    """Return what writes each kind of file; that returns the path, the prefix and the case."""
    ((one,),), ((ahead, back),) = ONE.weights(), BOTH.weights()

    def keras_2(path: Path) -> tuple[Path, str, Case]:
        write(
            path / "net.h5",
            named("model_weights/first/first", keras_arrays(one), OLD),
            model_config=model_config(LAYER),
        )
        return path / "net.h5", "first", ONE

    def keras_1_config(path: Path) -> tuple[Path, str, Case]:
        config = json.dumps({"class_name": "Sequential", "config": [LAYER]})
        write(path / "net.hdf5", named("model_weights/first/first", keras_arrays(one), OLD), model_config=config)
        return path / "net.hdf5", "first", ONE

    def weights_alone(path: Path) -> tuple[Path, str, Case]:
        write(path / "net.h5", named("rnn_1/rnn_1", keras_arrays(one), OLD), keras_version="2.1.5")
        return path / "net.h5", "rnn_1", ONE.replace(masked_output="hold")

    def tensorflow_2(path: Path) -> tuple[Path, str, Case]:
        arrays = named("both/both/forward_first/lstm_cell_1/", keras_arrays(ahead), OLD)
        arrays |= named("both/both/backward_first/lstm_cell_2", keras_arrays(back), OLD)
        layer = {"class_name": "Bidirectional", "config": {"name": "both", "layer": LAYER}}
        inside = {f"model_weights/{name}": array for name, array in arrays.items()}
        write(path / "net.h5", inside, model_config=model_config(layer))
        return path / "net.h5", "both", BOTH

    def cudnn(path: Path) -> tuple[Path, str, Case]:
        case = ONE.replace(bias=("bias_ih", "bias_hh"), masked_output="hold")
        ((cell,),) = case.weights()
        write(path / "net.hdf5", named("rnn/rnn", cudnn_arrays(cell), OLD))
        return path / "net.hdf5", "rnn", case

    def cudnn_both(path: Path) -> tuple[Path, str, Case]:
        case = BOTH.replace(bias=("bias_ih", "bias_hh"), masked_output="hold")
        ((first, second),) = case.weights()
        arrays = named("both/both/forward_lstm", cudnn_arrays(first), OLD)
        write(path / "net.hdf5", arrays | named("both/both/backward_lstm", cudnn_arrays(second), OLD))
        return path / "net.hdf5", "both", case

    def keras_3_h5(path: Path) -> tuple[Path, str, Case]:
        arrays = named("model_weights/first/model/first/lstm_cell", keras_arrays(one), NEW)
        write(path / "net.h5", arrays, model_config=model_config(LAYER), keras_version="3.4.1")
        return path / "net.h5", "first", ONE

    def keras_3_weights(path: Path) -> tuple[Path, str, Case]:
        arrays = named("layers/bidirectional/forward_layer/cell/vars", keras_arrays(ahead), VARS)
        arrays |= named("layers/bidirectional/backward_layer/cell/vars", keras_arrays(back), VARS)
        arrays |= {"layers/bidirectional/vars/x": np.ones(3), "optimizer/vars/0": np.ones(())}
        write(path / "net.weights.h5", arrays)
        return path / "net.weights.h5", "bidirectional", BOTH.replace(masked_output="hold")

    def keras_3_archive(path: Path, start: str = "layers") -> tuple[Path, str, Case]:
        """Without the layers' names in the weights, which came later: the second LSTM of a model in the model."""
        stream = io.BytesIO()
        other = keras_arrays(ONE.replace(seed=1).weights()[0][0])
        arrays = named(f"{start}/lstm/cell/vars", other, VARS)
        arrays |= named(f"{start}/functional/{start}/lstm/cell/vars", other, VARS)
        arrays |= named(f"{start}/functional/{start}/lstm_1/cell/vars", keras_arrays(one), VARS)
        write(stream, arrays)  # type: ignore[arg-type]
        deep = [LAYER | {"config": LAYER["config"] | {"name": name}} for name in ("a", "b", "c")]  # type: ignore[operator]
        inner = {
            "class_name": "Functional",
            "config": {"name": "inner", "layers": [deep[1], {"class_name": "Dense"}, deep[2]]},
        }
        with zipfile.ZipFile(path / "net.keras", "w") as archive:
            archive.writestr("metadata.json", json.dumps({"keras_version": "3.0.0"}))
            archive.writestr("config.json", model_config(deep[0], inner))
            archive.writestr("model.weights.h5", stream.getvalue())
        return path / "net.keras", "c", ONE

    return {
        each.__name__: each
        for each in (
            keras_2,
            keras_1_config,
            weights_alone,
            tensorflow_2,
            cudnn,
            cudnn_both,
            keras_3_h5,
            keras_3_weights,
        )
    } | {
        "keras_3_archive": keras_3_archive,
        "tensorflow_archive": lambda path: keras_3_archive(path, "_layer_checkpoint_dependencies"),
    }


@pytest.mark.needs("torch")
@pytest.mark.parametrize("form", forms())
def test_every_form(tmp_path: Path, form: str) -> None:
    path, prefix, case = forms()[form](tmp_path)
    net = lx.load(path, prefix=prefix)
    assert net.batch_first
    assert net.masked_output == case.masked_output
    assert_equal(flat(net(case.x(), case.state())), torch_answer(case.replace(masked_output="zero")), 1e-6)
    assert repr(lx.load(path, prefix=f"{prefix}.")) == repr(net)
    if "archive" not in form:
        assert repr(lx.load(path)) == repr(net)


@pytest.mark.parametrize(("version", "slope"), [("2.2.4", 0.2), ("3.0.1", 1 / 6)])
def test_configurations_become_options(tmp_path: Path, version: str, slope: float) -> None:
    ((cell,),) = ONE.weights()
    config = {"name": "first", "recurrent_activation": "hard_sigmoid", "activation": "softsign", "go_backwards": True}
    arrays = named("model_weights/first/first", keras_arrays(cell), OLD)
    model = model_config({"class_name": "LSTM", "config": config})
    write(tmp_path / "net.h5", arrays, model_config=model, model_weights__keras_version=version)
    net = lx.load(tmp_path / "net.h5")
    assert net.options == lx.CellOptions(activations=(("hard_sigmoid", slope, 0.5), "softsign", "softsign"))
    assert net.reverse
    assert net.masked_output == "hold"


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ({"class_name": "NASLayer", "config": {"name": "first"}}, "it is a NASLayer, expected one of LSTM"),
        ({"class_name": "LSTM", "config": {"name": "first", "activation": "gelu"}}, "`activation` is 'gelu', expected"),
        (
            {"class_name": "RNN", "config": {"name": "first", "cell": {"class_name": "GRUCell", "config": {}}}},
            "a GRUCell",
        ),
        (
            {"class_name": "Bidirectional", "config": {"name": "first", "merge_mode": "sum", "layer": LAYER}},
            "`merge_mode`",
        ),
    ],
    ids=["class", "activation", "cell", "merge_mode"],
)
def test_layers_that_cannot_be_expressed_are_refused(tmp_path: Path, layer: Any, message: str) -> None:
    ((cell,),) = ONE.weights()
    write(
        tmp_path / "net.h5",
        named("model_weights/first/first", keras_arrays(cell), OLD),
        model_config=model_config(layer),
    )
    with pytest.raises(ValueError, match=f"net.h5: the layer 'first': .*{message}"):
        lx.load(tmp_path / "net.h5")


def test_numbers_in_another_order_and_of_another_dtype(tmp_path: Path) -> None:
    ((cell,),) = ONE.weights()
    swapped = [np.asfortranarray(array).astype(">f4") for array in keras_arrays(cell)]
    write(tmp_path / "net.h5", named("rnn/rnn", swapped, OLD))
    net = lx.load(tmp_path / "net.h5")
    assert np.array_equal(net.weights[0][0].weight_ih, cell.weight_ih)
    assert net.dtype.isnative
    write(tmp_path / "net.h5", named("rnn/rnn", [array.astype("i4") for array in swapped], OLD))
    with pytest.raises(TypeError, match="net.h5: the layer 'rnn': .* dtype int32"):
        lx.load(tmp_path / "net.h5")


def test_other_files_and_other_places(tmp_path: Path) -> None:
    import h5py

    write(tmp_path / "net.h5", {"dense/dense/kernel:0": np.ones((5, 4))})
    with pytest.raises(ValueError, match="net.h5 holds no LSTM: there is no node or layer of that kind"):
        lx.load(tmp_path / "net.h5")
    (tmp_path / "text.h5").write_text("not HDF5")
    with pytest.raises(OSError, match="text.h5"):
        lx.load(tmp_path / "text.h5")
    with pytest.raises(FileNotFoundError, match="nothing.h5"):
        lx.load(tmp_path / "nothing.h5")
    (tmp_path / "secret").write_bytes(bytes(4096))
    write(tmp_path / "net.h5", named("rnn/rnn", keras_arrays(ONE.weights()[0][0]), OLD))
    with h5py.File(tmp_path / "net.h5", "r+") as file:
        del file["rnn/rnn/kernel:0"]
        file["rnn/rnn"].create_dataset("kernel:0", (5, 16), "f4", external=[(str(tmp_path / "secret"), 0, 320)])
        file["rnn/again"] = file["/"]
    with pytest.raises(ValueError, match="net.h5: the layer 'rnn': /rnn/rnn/kernel:0 lies in another file"):
        lx.load(tmp_path / "net.h5")
    with h5py.File(tmp_path / "net.h5", "r+") as file:
        del file["rnn/rnn/kernel:0"]
        file["rnn/rnn/kernel:0"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/kernel")
    with pytest.raises(ValueError, match="net.h5 holds no LSTM"):
        lx.load(tmp_path / "net.h5")
    with h5py.File(tmp_path / "net.h5", "r+") as file:
        del file["rnn/rnn/kernel:0"]
        file["rnn/rnn"].create_dataset("kernel:0", (10**9, 16), "f4", chunks=(16, 16))
    with pytest.raises(
        ValueError, match="/rnn/rnn/kernel:0 would take 64000000000 bytes, more than 32 times the file's"
    ):
        lx.load(tmp_path / "net.h5")
