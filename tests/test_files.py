"""Files: there and back bit for bit, what others wrote, and broken ones."""

import json
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lstm_xp as lx
from conformance.cases import Case
from conformance.compare import assert_equal, flat
from conformance.oracle import torch_module
from lstm_xp.convert._files import written_whole

SUFFIXES = (".npz", ".safetensors")
FULL = Case(num_layers=2, bidirectional=True, proj_size=2, peephole=True, batch_first=True, dtype="float32")
OPTIONS = (
    lx.CellOptions(activations=(("hard_sigmoid", 1 / 6, 0.5), "softsign", "tanh"), clip_gates=0.9, coupled=True),
    lx.CellOptions(clip_cell=1.5, clip_proj=0.5, peephole_output="old"),
)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("prefix", ["", "enc", "a.b.", "ä b"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_there_and_back_is_bit_for_bit(tmp_path: Path, suffix: str, prefix: str, dtype: str) -> None:
    net = FULL.replace(dtype=dtype).lstm(options=OPTIONS, dropout=0.25, masked_output="hold")
    path = tmp_path / f"net{suffix}"
    lx.save(path, net, prefix=prefix)
    for back in (lx.load(path), lx.load(str(path), prefix=prefix)):
        assert repr(back) == repr(net)
        assert list(back.state_dict()) == list(net.state_dict())
        for name, array in net.state_dict().items():
            assert back.state_dict()[name].dtype == array.dtype
            assert back.state_dict()[name].tobytes() == array.tobytes()
    assert [path.name] == [p.name for p in tmp_path.iterdir()]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("setting", [{"reverse": True}, {"options": lx.CellOptions(coupled=True)}, {}], ids=str)
def test_settings_travel(tmp_path: Path, suffix: str, setting: dict[str, Any]) -> None:
    net = Case().lstm(**setting)
    lx.save(tmp_path / f"net{suffix}", net)
    assert repr(lx.load(tmp_path / f"net{suffix}")) == repr(net)


@pytest.mark.needs("torch")
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_others_wrote(tmp_path: Path, suffix: str) -> None:
    """A whole model's state dict, as torch users save it: no word of ours in it."""
    import safetensors.torch
    import torch

    case = FULL.replace(peephole=False, batch_first=False)
    model = torch.nn.ModuleDict({"encoder": torch_module(case), "head": torch.nn.Linear(2, 3)})
    path = tmp_path / f"model{suffix}"
    if suffix == ".npz":
        np.savez(path, **{name: value.numpy() for name, value in model.state_dict().items()})
    else:
        safetensors.torch.save_file(model.state_dict(), path)
    net = lx.load(path)
    assert repr(net) == "LSTM(5, 4, proj_size=2, num_layers=2, bidirectional=True)"
    assert_equal(flat(net(case.x())), flat(case.lstm()(case.x())), 0.0)


@pytest.mark.needs("torch")
@pytest.mark.parametrize("suffix", [*SUFFIXES, ".pt"])
@pytest.mark.parametrize("bias", [True, False])
def test_a_cell_of_torch(tmp_path: Path, suffix: str, bias: bool) -> None:
    """Beside an LSTM, in a model; its step is the whole sequence."""
    import safetensors.torch
    import torch

    case = Case(time=1, dtype="float32", bias=("bias_ih", "bias_hh") if bias else ())
    cell = torch.nn.LSTMCell(case.input_size, case.hidden_size, bias=bias)
    cell.load_state_dict({name.removesuffix("_l0"): tensor for name, tensor in torch_module(case).state_dict().items()})
    others = {"rnn": torch.nn.LSTM(3, 2), "gru": torch.nn.GRUCell(3, 2), "simple": torch.nn.RNNCell(3, 2)}
    model = torch.nn.ModuleDict({"step": cell, **others})
    path = tmp_path / f"model{suffix}"
    if suffix == ".npz":
        np.savez(path, **{name: tensor.numpy() for name, tensor in model.state_dict().items()})
    else:
        (safetensors.torch.save_file if suffix == ".safetensors" else torch.save)(model.state_dict(), path)
    with pytest.raises(ValueError, match=r"holds 2 LSTMs, expected a `prefix` out of 'rnn\.', 'step\.'"):
        lx.load(path)
    net, (h, c) = lx.load(path, prefix="step"), case.state()
    assert net.bias == bias
    with torch.no_grad():
        expected = cell(torch.from_numpy(case.x()[0]), (torch.from_numpy(h[0]), torch.from_numpy(c[0])))
    output, (h_n, c_n) = net(case.x(), (h, c))
    assert_equal((output[0], h_n[0], c_n[0]), (expected[0].numpy(), *(each.numpy() for each in expected)), 1e-6)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_we_write_is_the_state_dict_and_nothing_else(tmp_path: Path, suffix: str) -> None:
    net = FULL.lstm()
    path = tmp_path / f"net{suffix}"
    lx.save(path, net, prefix="enc")
    if suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
    else:
        from safetensors.numpy import load_file

        arrays = load_file(path)
    assert sorted(arrays) == sorted(f"enc.{name}" for name in net.state_dict())


@pytest.mark.needs("torch")
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_weights_of_another_library(tmp_path: Path, suffix: str) -> None:
    import torch

    net = FULL.lstm(lambda a: torch.nn.Parameter(torch.tensor(a)))
    lx.save(tmp_path / f"net{suffix}", net)
    back = lx.load(tmp_path / f"net{suffix}", xp=torch, dtype="float64")
    for name, tensor in net.state_dict().items():
        assert back.state_dict()[name].dtype == torch.float64
        assert torch.equal(back.state_dict()[name], tensor.detach().double())
    assert lx.load(tmp_path / f"net{suffix}", dtype=np.float64).dtype == np.float64
    path = tmp_path / f"half{suffix}"
    with pytest.raises(TypeError, match="`dtype` is 'bfloat16', expected a real floating dtype of numpy"):
        lx.save(path, net.to(dtype="bfloat16", detach=True))
    assert not path.exists()


def test_byte_order_and_memory_order_do_not_matter(tmp_path: Path) -> None:
    case = Case(dtype="float32", bias=())
    odd = {name: np.asfortranarray(a).astype(">f4") for name, a in case.lstm().state_dict().items()}
    np.savez(tmp_path / "odd.npz", **odd)
    assert_equal(flat(lx.load(tmp_path / "odd.npz")(case.x())), flat(case.lstm()(case.x())), 0.0)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_with_several(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"several{suffix}"
    arrays = {f"{p}.{n}": np.array(a) for p in ("enc", "dec.rnn") for n, a in Case().lstm().state_dict().items()}
    if suffix == ".npz":
        np.savez(path, **arrays)
    else:
        from safetensors.numpy import save_file

        save_file(arrays, path)
    with pytest.raises(
        ValueError, match="several.* holds 2 LSTMs, expected a `prefix` out of 'enc.', 'dec.rnn.'|'dec.rnn.', 'enc.'"
    ):
        lx.load(path)
    assert repr(lx.load(path, prefix="dec.rnn")) == "LSTM(5, 4)"


def npz_of_a_pickle(path: Path) -> None:
    np.savez(path, weight_hh_l0=np.array([{"not": "an array"}], dtype=object))


def npz_with_another_comment(path: Path, comment: bytes) -> None:
    np.savez(path, **Case().lstm().state_dict())
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = comment


BROKEN: dict[str, Any] = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("not a file of arrays"),
    "truncated": lambda path: (lx.save(path, FULL.lstm()), path.write_bytes(path.read_bytes()[:-200])),
    "one byte short": lambda path: (lx.save(path, FULL.lstm()), path.write_bytes(path.read_bytes()[:-1])),
    "no LSTM": lambda path: lx.save(path, FULL.lstm()) or rename_arrays(path),
}


def rename_arrays(path: Path) -> None:
    if path.suffix == ".npz":
        np.savez(path, other=np.ones(3))
    else:
        from safetensors.numpy import save_file

        save_file({"other": np.ones(3)}, path)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kind", BROKEN)
def test_broken_files(tmp_path: Path, suffix: str, kind: str) -> None:
    path = tmp_path / f"broken{suffix}"
    BROKEN[kind](path)
    with pytest.raises(ValueError, match="broken"):
        lx.load(path)


def test_broken_npz_files(tmp_path: Path) -> None:
    path = tmp_path / "broken.npz"
    npz_of_a_pickle(path)
    with pytest.raises(ValueError, match="broken.npz: `weight_hh_l0`: Object arrays cannot be loaded"):
        lx.load(path)
    np.savez(path, **{name: np.array(a, dtype="int64") for name, a in Case().lstm().state_dict().items()})
    with pytest.raises(TypeError, match="`weight_ih_l0` has dtype int64"):
        lx.load(path)
    flipped = bytearray((lx.save(path, FULL.lstm()), path.read_bytes())[1])
    flipped[700] ^= 255  # in the data of an array: the archive's checksum notices
    path.write_bytes(flipped)
    with pytest.raises(ValueError, match="broken.npz is not a readable .npz file: Bad CRC-32"):
        lx.load(path)


SETTINGS = {"batch_first": True, "dropout": 0.0, "reverse": False, "masked_output": "zero", "options": [{}]}


@pytest.mark.parametrize(
    "stored",
    [
        {"": {"reverse": 1, "options": [{}]}},
        {"": {"options": []}},
        {"": SETTINGS | {"options": [{"of_a_later_version": 1}]}},
        {"": SETTINGS | {"norm": True}},
        {"": SETTINGS | {"options": 1}},
        {"": {}},
        {"": 5},
        [],
    ],
    ids=str,
)
def test_settings_that_cannot_be_are_refused(tmp_path: Path, stored: Any) -> None:
    path = tmp_path / "later.npz"
    npz_with_another_comment(path, json.dumps({"lstm_xp": json.dumps(stored)}).encode())
    with pytest.raises(
        ValueError,
        match="later.npz is not a readable .npz file: its settings cannot be read, they may be of a later version",
    ):
        lx.load(path)


@pytest.mark.parametrize("cut", [1, 5, 30, "all but three", "all but none"])
def test_a_cut_off_end_is_noticed(tmp_path: Path, cut: Any) -> None:
    """However little is left of the settings: they must not be taken for the default ones."""
    path = tmp_path / "cut.npz"
    lx.save(path, Case().lstm(reverse=True))
    with zipfile.ZipFile(path) as archive:
        comment = len(archive.comment)
    cut = {"all but three": comment - 3, "all but none": comment}.get(cut, cut)
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(ValueError, match="cut.npz is not a readable .npz file"):
        lx.load(path)


@pytest.mark.needs("torch", "jax")
def test_bfloat16_from_a_checkpoint(tmp_path: Path) -> None:
    import torch
    from jax import numpy as jnp
    from safetensors.torch import save_file

    module = torch.nn.LSTM(5, 4, dtype=torch.bfloat16)
    save_file(module.state_dict(), tmp_path / "half.safetensors")
    for xp in (torch, jnp):
        net = lx.load(tmp_path / "half.safetensors", xp=xp)
        assert net.dtype == xp.bfloat16
        np.testing.assert_array_equal(
            net.to(np, dtype="float32").weights[0][0].weight_ih, module.weight_ih_l0.detach().float().numpy()
        )
        assert net.to(jnp if xp is torch else torch).dtype == (jnp if xp is torch else torch).bfloat16
    alone = (
        "import sys, lstm_xp as lx; "
        f"net = lx.load({str(tmp_path / 'half.safetensors')!r}, dtype='float32'); "
        "print(net.dtype, float(net.weights[0][0].weight_ih[0, 0]), 'ml_dtypes' in sys.modules)"
    )
    printed = subprocess.run([sys.executable, "-c", alone], capture_output=True, text=True, check=True).stdout
    assert printed == f"float32 {module.weight_ih_l0[0, 0].item()} False\n"
    mixed = {name: a.float() if name.startswith("bias") else a for name, a in module.state_dict().items()}
    save_file(mixed, tmp_path / "mixed.safetensors")
    with pytest.raises(TypeError, match="`bias_hh_l0` has dtype float32, expected bfloat16 as `weight_hh_l0`"):
        lx.load(tmp_path / "mixed.safetensors", xp=torch)
    with pytest.raises(TypeError, match="`dtype` is 'bfloat16', expected a real floating dtype of numpy"):
        lx.load(tmp_path / "half.safetensors")


@pytest.mark.needs("torch")
def test_arrays_that_nobody_asks_for_are_not_read(tmp_path: Path) -> None:
    """Neither objects of Python, nor numbers that NumPy does not have."""
    import torch
    from safetensors.torch import save_file

    arrays, names = FULL.lstm().state_dict(), np.array(["a", None])
    np.savez(tmp_path / "net.npz", **{f"enc.{name}": array for name, array in arrays.items()}, names=names)
    tensors = {f"enc.{name}": torch.tensor(array) for name, array in arrays.items()}
    save_file(tensors | {"f8": torch.zeros(3).to(torch.float8_e4m3fn)}, tmp_path / "net.safetensors")
    for suffix in SUFFIXES:
        found = lx.load(tmp_path / f"net{suffix}").state_dict()
        assert all(np.array_equal(found[name], array) for name, array in arrays.items())
    save_file({name: torch.zeros(16, 4).to(torch.float8_e4m3fn) for name in arrays}, tmp_path / "net.safetensors")
    with pytest.raises(
        TypeError, match="net.safetensors: `.*_l[01].*`: its dtype is F8_E4M3, expected F16, BF16, F32 or F64"
    ):
        lx.load(tmp_path / "net.safetensors")


@pytest.mark.parametrize("comment", [b"an archive", b"\xff\xfe", b"[1]", b'{"other": "x"}'], ids=repr)
def test_an_archives_comment_that_is_not_ours_says_nothing(tmp_path: Path, comment: bytes) -> None:
    npz_with_another_comment(tmp_path / "other.npz", comment)
    assert repr(lx.load(tmp_path / "other.npz")) == "LSTM(5, 4)"


def test_a_huge_declared_shape_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "huge.safetensors"
    header = json.dumps({"weight_hh_l0": {"dtype": "F32", "shape": [10**9, 10**6], "data_offsets": [0, 4]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"1234")
    with pytest.raises(ValueError, match=r"huge.safetensors is not a readable .safetensors file"):
        lx.load(path)


def test_no_such_file_no_such_kind(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing.npz"):
        lx.load(tmp_path / "nothing.npz")
    with pytest.raises(FileNotFoundError, match="nothing.safetensors"):
        lx.load(tmp_path / "nothing.safetensors")
    with pytest.raises(ValueError, match="net.bin has the suffix '.bin', expected one of .npz, .safetensors"):
        lx.load(tmp_path / "net.bin")
    with pytest.raises(ValueError, match="expected one of .npz, .safetensors"):
        lx.save(tmp_path / "net.bin", Case().lstm())
    with pytest.raises(OSError, match="no_folder"):
        lx.save(tmp_path / "no_folder" / "net.npz", Case().lstm())


def test_a_file_appears_only_when_whole(tmp_path: Path) -> None:
    path = tmp_path / "net.npz"
    path.write_text("the old one")

    def fail() -> None:
        with written_whole(path) as file:
            file.write(b"half")
            assert path.read_text() == "the old one"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text() == "the old one"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(FileNotFoundError) as caught, written_whole(tmp_path / "no" / "net.npz"):
        pass
    assert caught.value.filename == str(tmp_path / "no" / "net.npz")
    with pytest.raises(OSError) as caught, written_whole(tmp_path / "folder"):
        (tmp_path / "folder").mkdir()
    assert caught.value.filename == str(tmp_path / "folder")
    (tmp_path / "folder").rmdir()
    with written_whole(path) as file:
        file.write(b"new")
    assert path.read_text() == "new"
    (tmp_path / "plain").touch()
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize(
    ("file", "library", "extra"),
    [
        ("net.safetensors", "safetensors", "files"),
        ("net.onnx", "onnx", "onnx"),
        ("net.h5", "h5py", "keras"),
        ("net.hdf5", "h5py", "keras"),
    ],
)
def test_a_missing_library_is_named_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, library: str, extra: str
) -> None:
    (tmp_path / file).write_bytes(b"something")
    for name in (library, f"{library}.numpy"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=rf"{file}: a \.\w+ file needs the extra lstm_xp\[{extra}\]: .*{library}"):
        lx.load(tmp_path / file)
    if extra != "keras":
        with pytest.raises(ImportError, match=rf"needs the extra lstm_xp\[{extra}\]"):
            lx.save(tmp_path / file, Case().lstm())
