"""What torch.save writes, read without torch: every layout of tensors, and nothing that is not one."""

import io
import pickle
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lstm_xp as lx
from conformance.cases import Case
from conformance.compare import assert_equal, flat
from conformance.oracle import torch_answer, torch_module

pytestmark = pytest.mark.needs("torch")
CASE = Case(num_layers=2, bidirectional=True, proj_size=2, dtype="float32")
ZIPPED = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])


def save(value: Any, path: Path, *, zipped: bool = True) -> None:
    import torch

    torch.save(value, path, _use_new_zipfile_serialization=zipped)


def changed_member(path: Path, ending: str, change: Callable[[bytes], bytes], compression: int = 0) -> None:
    """Change a member of an archive; its checksum is right again."""
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, change(content) if name.endswith(ending) else content)


@ZIPPED
@pytest.mark.parametrize("suffix", [".pt", ".pth"])
def test_a_state_dict(tmp_path: Path, suffix: str, zipped: bool) -> None:
    save(torch_module(CASE).state_dict(), tmp_path / f"net{suffix}", zipped=zipped)
    net = lx.load(tmp_path / f"net{suffix}")
    assert repr(net) == repr(CASE.lstm())
    assert_equal(flat(net(CASE.x(), CASE.state())), torch_answer(CASE), 1e-6)


@ZIPPED
@pytest.mark.parametrize("dtype", ["float16", "float64", "bfloat16"])
def test_dtypes_are_kept(tmp_path: Path, zipped: bool, dtype: str) -> None:
    import torch

    module = torch_module(CASE).to(getattr(torch, dtype))
    save(module.state_dict(), tmp_path / "net.pt", zipped=zipped)
    net = lx.load(tmp_path / "net.pt", xp=torch)
    for name, tensor in module.state_dict().items():
        assert net.state_dict()[name].dtype == tensor.dtype
        assert torch.equal(net.state_dict()[name], tensor)
    if dtype == "bfloat16":
        with pytest.raises(TypeError, match="`dtype` is 'bfloat16', expected a real floating dtype of numpy"):
            lx.load(tmp_path / "net.pt")
        widened = lx.load(tmp_path / "net.pt", dtype="float32").state_dict()
        assert all(np.array_equal(widened[name], a.float().numpy()) for name, a in module.state_dict().items())


@ZIPPED
def test_a_checkpoint_with_much_around_it(tmp_path: Path, zipped: bool) -> None:
    """Nested dicts and lists, parameters, an optimizer's state with integers as keys, buffers of integers."""
    import torch

    model = torch.nn.ModuleDict({"rnn": torch_module(CASE), "norm": torch.nn.BatchNorm1d(3)})
    optimizer = torch.optim.Adam(model.parameters())
    sum(p.sum() for p in model.parameters()).backward()
    optimizer.step()
    checkpoint = {
        "epoch": 7,
        "loss": 0.25,
        "big": 10**30,
        "nothing": None,
        "flags": (True, False, b"bytes"),
        "optimizer": optimizer.state_dict(),
        "best": [{"model": model.state_dict()}, {"model": model.state_dict(keep_vars=True)}],
    }
    save(checkpoint, tmp_path / "all.pt", zipped=zipped)
    with pytest.raises(ValueError, match=r"holds 2 LSTMs, expected a `prefix` out of 'best.0.model.rnn.', 'best.1.mod"):
        lx.load(tmp_path / "all.pt")
    for k in (0, 1):
        net = lx.load(tmp_path / "all.pt", prefix=f"best.{k}.model.rnn")
        for name, tensor in model["rnn"].state_dict().items():
            assert np.array_equal(net.state_dict()[name], tensor.numpy())


@ZIPPED
def test_tensors_that_are_views(tmp_path: Path, zipped: bool) -> None:
    """Transposed, sliced, with steps, one behind the other in one storage."""
    import torch

    case = Case(dtype="float32", bias=("bias_ih",))
    ((cell,),) = case.weights()
    wide = torch.zeros(16, 15)
    wide[:, 2:12:2] = torch.tensor(cell.weight_ih)
    storage = torch.tensor(np.concatenate([cell.weight_hh.T.ravel(), cell.bias_ih]))
    views = {
        "weight_ih_l0": wide[:, 2:12:2],
        "weight_hh_l0": storage[:64].reshape(4, 16).T,
        "bias_ih_l0": storage[64:],
    }
    save(views, tmp_path / "views.pt", zipped=zipped)
    net = lx.load(tmp_path / "views.pt")
    for name, array in case.lstm().state_dict().items():
        assert np.array_equal(net.state_dict()[name], array)


def test_big_endian(tmp_path: Path) -> None:
    save(torch_module(CASE).state_dict(), tmp_path / "net.pt")
    expected = lx.load(tmp_path / "net.pt").state_dict()
    changed_member(tmp_path / "net.pt", "byteorder", lambda _: b"big")
    for key in range(len(expected)):
        changed_member(
            tmp_path / "net.pt", f"/data/{key}", lambda data: np.frombuffer(data, "<f4").astype(">f4").tobytes()
        )
    swapped = lx.load(tmp_path / "net.pt").state_dict()
    for name, array in expected.items():
        assert np.array_equal(swapped[name], array)
        assert swapped[name].dtype.isnative
    changed_member(tmp_path / "net.pt", "byteorder", lambda _: b"middle")
    with pytest.raises(ValueError, match="net.pt is not a readable .pt file: its byte order is b'middle', expected"):
        lx.load(tmp_path / "net.pt")


def test_torch_is_not_imported(tmp_path: Path) -> None:
    save(torch_module(CASE).state_dict(), tmp_path / "net.pt")
    program = f"import sys, lstm_xp as lx; lx.load({str(tmp_path / 'net.pt')!r}); print('torch' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "False\n"
    )


class Command:
    """An object whose pickle runs a command."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        import os

        return os.system, (self.command,)


def archive_of(path: Path, data: bytes) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/data.pkl", data)
        archive.writestr("net/data/0", bytes(16))


@ZIPPED
def test_code_is_refused_and_named_and_not_run(tmp_path: Path, zipped: bool) -> None:
    flag = tmp_path / "flag"
    save({"a": 1, "x": Command(f"touch {flag}")}, tmp_path / "evil.pt", zipped=zipped)
    with pytest.raises(ValueError, match=r"evil.pt is not a readable .pt file: it asks for '(posix|nt).system', which"):
        lx.load(tmp_path / "evil.pt")
    assert not flag.exists()


def test_whole_modules_are_refused_by_name(tmp_path: Path) -> None:
    save(torch_module(CASE), tmp_path / "module.pt")
    with pytest.raises(
        ValueError, match=r"it asks for 'torch.nn.modules.rnn.LSTM', .* as torch.save writes of a state_d"
    ):
        lx.load(tmp_path / "module.pt")
    with zipfile.ZipFile(tmp_path / "script.pt", "w") as archive:  # as torch.jit.save does
        for name in ("data.pkl", "constants.pkl", "code/net.py"):
            archive.writestr(f"net/{name}", b"\x80\x02}.")
    with pytest.raises(
        ValueError, match="it is a TorchScript archive, expected what torch.save writes of a module's st"
    ):
        lx.load(tmp_path / "script.pt")


def stream(*opcodes: bytes) -> bytes:
    return b"\x80\x02" + b"".join(opcodes) + b"."


def tensor(
    numel: int, offset: int, shape: tuple[Any, ...], strides: tuple[Any, ...], kind: str = "FloatStorage"
) -> bytes:
    """Return the pickle of a dict with one tensor."""

    class Storage:
        pass

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj: Any) -> Any:
            return ("storage", "KIND", "0", "cpu", numel) if isinstance(obj, Storage) else None

    file = io.BytesIO()
    pickler = Pickler(file, protocol=2)
    pickler.dump(("weight_hh_l0", "REBUILD", (Storage(), offset, shape, strides, False, None)))
    data = file.getvalue()
    for name, full in (("KIND", f"torch\n{kind}\n"), ("REBUILD", "torch._utils\n_rebuild_tensor_v2\n")):
        text = b"X" + len(name).to_bytes(4, "little") + name.encode()
        assert text in data
        data = data.replace(text, b"c" + full.encode())
    # Where the tuple (name, function, arguments) would be made, {name: function(*arguments)} is.
    return b"\x80\x02}" + data.rpartition(b"\x87")[0][2:] + b"Rs."


@pytest.mark.parametrize(
    ("numel", "offset", "shape", "strides", "message"),
    [
        (4, 0, (2, 3), (3, 1), r"a tensor of shape \(2, 3\) reaches number 5 of a storage of 4"),
        (4, 3, (2,), (1,), r"a tensor of shape \(2,\) reaches number 4 of a storage of 4"),
        (4, -1, (2,), (1,), r"a tensor has offset -1"),
        (4, 0, (2,), (-1,), r"a tensor has offset 0, shape \(2,\), strides \(-1,\)"),
        (4, 0, (2, 2), (1,), r"shape \(2, 2\), strides \(1,\)"),
        (4, 0, (2.0,), (1,), "a shape or strides that are not whole numbers"),
        (4, 0, (True,), (1,), "a shape or strides that are not whole numbers"),
        (
            10**12,
            0,
            (10**6, 10**6),
            (10**6, 1),
            r"its storage '0' has 16 bytes, expected 1000000000000 of torch.FloatStor",
        ),
        (4, 0, (10**6, 10**6), (0, 0), "its weights would take 4000000000000 bytes, more than 32 times the file's"),
        (4, 0, (10**30,), (0,), "huge.pt"),
        (4, 0, (1,) * 100, (0,) * 100, "huge.pt"),
        (-4, 0, (0,), (1,), "a persistent id is a tuple, expected one that describes a storage of"),
    ],
    ids=str,
)
def test_tensors_that_cannot_be(
    tmp_path: Path, numel: int, offset: int, shape: tuple[Any, ...], strides: tuple[Any, ...], message: str
) -> None:
    archive_of(tmp_path / "huge.pt", tensor(numel, offset, shape, strides))
    with pytest.raises(ValueError, match=message):
        lx.load(tmp_path / "huge.pt")


def test_the_tensor_made_by_hand_can_be(tmp_path: Path) -> None:
    """Else the refusals above would prove nothing."""
    archive_of(tmp_path / "one.pt", tensor(4, 0, (4, 1), (1, 1)))
    with pytest.raises(ValueError, match=r"one.pt: `weight_ih_l0` is missing"):
        lx.load(tmp_path / "one.pt")
    archive_of(tmp_path / "one.pt", tensor(4, 0, (4, 1), (1, 1), "QInt8Storage"))
    with pytest.raises(ValueError, match="it asks for 'torch.QInt8Storage'"):
        lx.load(tmp_path / "one.pt")


PICKLES = {
    "a quantised tensor": (stream(b"ctorch._utils\n_rebuild_qtensor\n"), "it asks for 'torch._utils._rebuild_qtensor'"),
    "sets attributes": (stream(b"ccollections\nOrderedDict\n", b"}b"), "sets attributes of what should have none"),
    "attributes of a function": (
        stream(b"ctorch._utils\n_rebuild_parameter\n", b"}b"),
        "sets attributes of what should",
    ),
    "a tuple as a key": (stream(b"}", b")Ns"), "it has a tuple for a key"),
    "an object": (stream(b"ccollections\nOrderedDict\n", b")\x81"), "it uses the pickle operation NEWOBJ"),
    "an extension": (stream(b"\x82\x01"), "it uses the pickle operation EXT1"),
    "an instance": (stream(b"(ios\nsystem\n"), "it uses the pickle operation INST"),
    "a call of a number": (stream(b"K\x01)R"), "it calls what is no function"),
    "no mark": (stream(b"t"), "its pickle is broken: IndexError"),
    "no memo": (stream(b"h\x01"), "its pickle is broken: KeyError"),
    "much text": (stream(b"\x8d" + (2**62).to_bytes(8, "little")), "not a readable .pt file"),
    "a high memo": (stream(b"}r\xff\xff\xff\xff"), "holds no LSTM"),
    "itself": (stream(b"}q\x00X\x01\x00\x00\x00ah\x00s"), "its dicts and lists are nested without end"),
    "deep": (stream(b"]" * 50 + b"a" * 49), "its dicts and lists are nested without end"),
    "very deep": (stream(b"]" * 10**5 + b"a" * (10**5 - 1)), "its dicts and lists are nested without end"),
    "twice and twice": (stream(b"]q\x00", *(b"](h%ch%ceq%c" % (k, k, k + 1) for k in range(30))), "nested without end"),
    "cut off": (b"\x80\x02}q\x00", "not a readable .pt file"),
}


@pytest.mark.parametrize("kind", PICKLES)
def test_pickles_that_are_not_plain_data(tmp_path: Path, kind: str) -> None:
    data, message = PICKLES[kind]
    archive_of(tmp_path / "odd.pt", data)
    with pytest.raises(ValueError, match=f"odd.pt .*{message}"):
        lx.load(tmp_path / "odd.pt")


def test_other_archives(tmp_path: Path) -> None:
    save(torch_module(CASE).state_dict(), tmp_path / "net.pt")
    good = (tmp_path / "net.pt").read_bytes()
    changed_member(tmp_path / "net.pt", "/data/0", lambda data: data[:-4])
    with pytest.raises(
        ValueError, match="net.pt: `weight_ih_l0`: its storage '0' has 316 bytes, expected 80 of torch.FloatStorage"
    ):
        lx.load(tmp_path / "net.pt")
    (tmp_path / "net.pt").write_bytes(good)
    changed_member(tmp_path / "net.pt", "/data/0", lambda data: data, zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match=r"its \w+/(data.pkl|byteorder) is compressed, which torch.save does not do"):
        lx.load(tmp_path / "net.pt")
    with zipfile.ZipFile(tmp_path / "net.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("net/data.pkl", bytes(10**8))
    with pytest.raises(ValueError, match="its archive declares more than the file holds"):
        lx.load(tmp_path / "net.pt")
    with tarfile.open(tmp_path / "old.pt", "w") as tar:
        tar.add(tmp_path / "net.pt", "net.pt")
    with pytest.raises(
        ValueError, match="old.pt .* it is neither a zip archive nor a pickle; if torch.load can read it"
    ):
        lx.load(tmp_path / "old.pt")
    np.savez(tmp_path / "arrays.npz", a=np.ones(3))
    (tmp_path / "arrays.npz").rename(tmp_path / "arrays.pt")
    with pytest.raises(ValueError, match="it is an archive without a data.pkl"):
        lx.load(tmp_path / "arrays.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps({"a": 1}, protocol=2))
    with pytest.raises(ValueError, match="plain.pt is not a readable .pt file"):
        lx.load(tmp_path / "plain.pt")
    with pytest.raises(ValueError, match=r"'.pt', which is only read, expected one of .npz, .safetensors, .onnx"):
        lx.save(tmp_path / "net.pt", CASE.lstm())


@pytest.mark.parametrize("cut", [1, 7, 40, 500])
def test_cut_off_files_of_old(tmp_path: Path, cut: int) -> None:
    save(torch_module(CASE).state_dict(), tmp_path / "net.pt", zipped=False)
    (tmp_path / "net.pt").write_bytes((tmp_path / "net.pt").read_bytes()[:-cut])
    with pytest.raises(
        ValueError, match="net.pt is not a readable .pt file: its storage '.*' (is cut off|has 0 numbers)"
    ):
        lx.load(tmp_path / "net.pt")
