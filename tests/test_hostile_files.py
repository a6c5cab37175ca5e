"""Files that are broken, or made to harm: a clear error, in little time and memory. `python -m tests.fuzz` goes on."""

import io
import pickle
import random
import time
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lstm_xp as lx
from conformance.cases import Case
from lstm_xp.convert._files import FORMS
from tests.fuzz import WAYS, changed, changed_member, doubled, good_files, read_all

pytestmark = pytest.mark.needs("h5py", "onnx", "safetensors", "torch")
SECONDS, BYTES = 5, 2**26


@pytest.fixture
def bounded() -> Iterator[None]:
    """Fail where a test takes much time or memory, as NumPy and Python count it."""
    tracemalloc.start()
    start = time.monotonic()
    yield
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < BYTES
    assert time.monotonic() - start < SECONDS


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[bytes]]:
    return good_files(tmp_path_factory.mktemp("good"))


@pytest.mark.parametrize("suffix", FORMS)
def test_good_files_are_read(tmp_path: Path, good: dict[str, list[bytes]], suffix: str) -> None:
    """Else the refusals below would prove nothing."""
    for k, content in enumerate(good[suffix]):
        (tmp_path / f"{k}{suffix}").write_bytes(content)
        assert read_all(tmp_path / f"{k}{suffix}") == "read"


@pytest.mark.parametrize("suffix", FORMS)
@pytest.mark.usefixtures("bounded")
def test_cut_off_files_are_refused(tmp_path: Path, good: dict[str, list[bytes]], suffix: str) -> None:
    path = tmp_path / f"cut{suffix}"
    for content in good[suffix]:
        for k in range(40):
            path.write_bytes(content[: len(content) * k // 40])
            with pytest.raises((ValueError, OSError), match=f"cut{suffix}"):
                lx.load(path)


@pytest.mark.parametrize("suffix", FORMS)
@pytest.mark.usefixtures("bounded")
def test_changed_files_are_read_or_refused(tmp_path: Path, good: dict[str, list[bytes]], suffix: str) -> None:
    rng = random.Random(0)  # noqa: S311
    path = tmp_path / f"changed{suffix}"
    outcomes = set()
    for _ in range(60):
        content = rng.choice(good[suffix])
        ways = WAYS.get(suffix, [changed, changed_member] if content[:2] == b"PK" else [changed])
        path.write_bytes(rng.choice(ways)(content, rng))
        outcomes.add(read_all(path))
    assert "ValueError" in outcomes


def bomb(name: str) -> bytes:
    """Return an archive of a few hundred kilobytes that unpacks to 2**28 bytes."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive, archive.open(name, "w") as member:
        for _ in range(2**8):
            member.write(bytes(2**20))
    return stream.getvalue()


def npy(shape: Any, data: bytes, dtype: str = "<f4") -> bytes:
    """Return a .npy file that declares a shape."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": dtype, "fortran_order": False, "shape": shape})
    return stream.getvalue() + data


DOUBLED = doubled()
STORAGE = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x01tQ"


def pt(pickled: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
    return stream.getvalue()


def legacy_pt(keys: bytes) -> bytes:
    """Return what torch.save wrote of old, without a tensor, up to the keys of the storages."""
    before = [0x1950A86A20F9469CFC6C, 1001, {}, {}]
    return b"".join(pickle.dumps(each, 2) for each in before) + keys


def npz(member: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("weight_hh_l0.npy", member)
    return stream.getvalue()


HOSTILE: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "a bomb": (".npz", lambda: bomb("weight_hh_l0.npy"), "what it unpacks to would take 268435456 bytes, more than 32"),
    "a bomb for Keras": (".keras", lambda: bomb("config.json"), "what it unpacks to would take 268435456 bytes"),
    "a bomb for torch": (".pt", lambda: bomb("a/data.pkl"), "its archive declares more than the file holds"),
    "a declared shape": (
        ".npz",
        lambda: npz(npy((10**6, 10**6), bytes(8))),
        r"shape \(1000000, 1000000\) and dtype fl",
    ),
    "more dimensions": (
        ".npz",
        lambda: npz(npy((1,) * 100, bytes(4))),
        r"maximum supported dimension for an ndarray is currently 64",
    ),
    "a negative shape": (".npz", lambda: npz(npy((-4, -4), bytes(64))), r"can only specify one unknown dimension"),
    "a format to come": (
        ".npz",
        lambda: npz(b"\x93NUMPY\x09\x00" + bytes(99)),
        r"an array has the format \(9, 0\), expected one of",
    ),
    "a doubled persistent id": (
        ".pt",
        lambda: pt(b"\x80\x02" + DOUBLED + b"Q."),
        "a persistent id is a tuple, expected",
    ),
    "a doubled name": (
        ".pt",
        lambda: pt(b"\x80\x04" + DOUBLED + b"\x8c\x01a\x93."),
        "it asks for a str of a tuple, exp",
    ),
    "a doubled key": (
        ".pt",
        lambda: pt(b"\x80\x02ccollections\nOrderedDict\n](" + DOUBLED + b"K\x01\x86e\x85R."),
        "it has a tuple for a key",
    ),
    "a doubled shape": (
        ".pt",
        lambda: pt(b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(" + STORAGE + b"K\x00" + DOUBLED + b")tR."),
        "a tensor has an offset, a shape or strides that are not whole numbers",
    ),
    "a doubled key of a storage": (
        ".pt",
        lambda: legacy_pt(b"\x80\x02](" + DOUBLED + b"e."),
        "it has a tuple for a storage's key",
    ),
    "a long name of many": (
        ".pt",
        lambda: pt(pickle.dumps({"a" * 10**4: [None] * 10**5}, 2)),
        "its dicts and lists are nested without end",
    ),
    "deep JSON": (".keras", lambda: keras("[" * 10**5), "is not a readable .keras file: maximum recursion depth"),
    "much JSON": (
        ".keras",
        lambda: keras(f"[{'[],' * 2**21}1]"),
        "its config.json has 6291459 bytes, expected no more",
    ),
    "deep layers": (
        ".keras",
        lambda: keras('{"class_name":"x","config":{"name":"x","layer":' * 300 + "0" + "}}" * 300),
        "cannot be read",  # so far it came: the weights are no HDF5
    ),
}


def keras(config: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("metadata.json", '{"keras_version": "3"}')
        archive.writestr("config.json", config)
        archive.writestr("model.weights.h5", b"not HDF5")
    return stream.getvalue()


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.usefixtures("bounded")
def test_files_made_to_harm(tmp_path: Path, kind: str) -> None:
    suffix, make, message = HOSTILE[kind]
    path = tmp_path / f"hostile{suffix}"
    path.write_bytes(make())
    with pytest.raises((ValueError, OSError), match=f"hostile{suffix}.*{message}"):
        lx.load(path)


def test_weights_of_zeros_are_no_bomb(tmp_path: Path) -> None:
    arrays = {name: np.zeros_like(array) for name, array in Case(hidden_size=64).lstm().state_dict().items()}
    np.savez_compressed(tmp_path / "zeros.npz", **arrays)
    assert lx.load(tmp_path / "zeros.npz").hidden_size == 64
