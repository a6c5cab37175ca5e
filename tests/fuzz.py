"""
Broken files, for as long as you like: ``python -m tests.fuzz --minutes 10``.

Good files of every kind are changed at random, inside archives too, where no checksum would notice, and read. Each must
be read or refused by a ValueError, TypeError or OSError that names it, within a time and a memory that are bounded. A
child process does it, so that a crash is a finding like any other; what was found is kept in a folder.
"""

import argparse
import io
import pickletools
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

import lstm_xp as lx
from lstm_xp.convert._files import FORMS, errors_naming, open_contents

SECONDS = 10
MEMORY = 2**28  # beyond what the libraries take when they are imported
NUMBERS = [0, 1, 127, 128, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1]


def good_files(folder: Path) -> dict[str, list[bytes]]:
    """Return good files, by suffix."""
    import h5py
    import torch

    net = lx.LSTM(5, 4, num_layers=2, bidirectional=True, seed=0)
    small = lx.LSTM(3, 2, seed=0, options=lx.CellOptions(activations=("hard_sigmoid", "softsign", "tanh")))
    files: dict[str, list[bytes]] = {suffix: [] for suffix in FORMS}
    for suffix in (".npz", ".safetensors", ".onnx"):
        for each in (net, small):
            lx.save(folder / f"good{suffix}", each)
            files[suffix].append((folder / f"good{suffix}").read_bytes())
    module = lx.convert.to_torch(lx.LSTM(5, 4, num_layers=2, seed=0))
    for zipped in (True, False):
        stream = io.BytesIO()
        state = {"epoch": 3, "nets": [{"enc": module.state_dict()}, torch.nn.Parameter(torch.ones(3, 2).T)]}
        torch.save(state, stream, _use_new_zipfile_serialization=zipped)
        files[".pt"].append(stream.getvalue())
    files[".pth"] = files[".pt"]
    stream = io.BytesIO()
    cell = {name.removesuffix("_l0"): array for name, array in lx.LSTM(5, 4, seed=0).state_dict().items()}
    np.savez(stream, **{f"cells.0.{name}": array for name, array in cell.items()})
    files[".npz"].append(stream.getvalue())
    for nested in (True, False):
        stream = io.BytesIO()
        with h5py.File(stream, "w") as file:
            keras_weights(file, nested=nested)
        files[".h5"].append(stream.getvalue())
    files[".hdf5"] = files[".h5"]
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("metadata.json", '{"keras_version": "3.15.1"}')
        layer = '{"class_name": "LSTM", "config": {"name": "first", "activation": "softsign", "units": 4}}'
        archive.writestr(
            "config.json", f'{{"class_name": "Sequential", "config": {{"name": "s", "layers": [{layer}]}}}}'
        )
        archive.writestr("model.weights.h5", files[".h5"][0])
    files[".keras"].append(stream.getvalue())
    return files


def keras_weights(file: Any, *, nested: bool) -> None:
    """Write the weights of an LSTM as Keras 3 or Keras 2 does."""
    draw = np.random.default_rng(0).normal
    arrays = [draw(size=shape).astype("f4") for shape in ((5, 16), (4, 16), (16,))]
    names = ("0", "1", "2") if nested else ("kernel:0", "recurrent_kernel:0", "bias:0")
    group = file.create_group("layers/lstm/cell/vars" if nested else "model_weights/lstm_1/lstm_1")
    for name, array in zip(names, arrays, strict=True):
        group[name] = array
    if not nested:
        file.attrs["model_config"] = (
            '{"class_name": "Sequential", "config": [{"class_name": "LSTM", "config": {"name": "lstm_1"}}]}'
        )
        file["model_weights"].attrs["keras_version"] = "2.1.5"


def changed(data: bytes, rng: random.Random) -> bytes:
    """Return bytes with some change."""
    result = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 4, 16])):
        if not result:
            return b""
        place, length = rng.randrange(len(result)), rng.choice([1, 2, 4, 8, 64])
        kind = rng.randrange(7)
        if kind == 0:
            result[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            result[place] = rng.randrange(256)
        elif kind == 2:
            result[place : place + 8] = (rng.choice(NUMBERS)).to_bytes(8, rng.choice(["little", "big"]))
        elif kind == 3:
            del result[place : place + length]
        elif kind == 4:
            result[place:place] = result[place : place + length] * rng.choice([1, 2, 1000])
        elif kind == 5:
            other = rng.randrange(len(result))
            result[place : place + length] = result[other : other + length]
        else:
            del result[place:]
    return bytes(result)


def changed_member(data: bytes, rng: random.Random) -> bytes:
    """Return an archive in which a member is changed, with a right checksum."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
        comment = archive.comment
    name = rng.choice([name for name in members if members[name]])
    ways = {".h5": [changed_hdf5], ".pkl": [changed, with_doubled]}.get(Path(name).suffix, [changed])
    members[name] = rng.choice(ways)(members[name], rng)
    stream = io.BytesIO()
    with zipfile.ZipFile(
        stream, "w", rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
    ) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        archive.comment = changed(comment, rng)[:65535] if comment and rng.random() < 0.2 else comment
    return stream.getvalue()


def doubled() -> bytes:
    """Return a pickle's operations that make a tuple of two, each of two others, and so on: 2**28 in 28 steps."""
    put, get = b"r\xff\xff\xff\x7f", b"j\xff\xff\xff\x7f"
    return b")" + put + (get + b"\x86" + put) * 28


def with_doubled(data: bytes, rng: random.Random) -> bytes:
    """Return a pickle that has such a tuple in place of a number, a string, or something that it had before."""
    places = [(operation.name, place) for operation, _, place in pickletools.genops(data)]
    values = ("BININT", "BININT1", "BINUNICODE", "BINGET", "EMPTY_TUPLE", "NEWFALSE")
    k = rng.choice([k for k, (name, _) in enumerate(places) if name in values])
    return data[: places[k][1]] + doubled() + data[places[k + 1][1] :]


def rewired(data: bytes, rng: random.Random) -> bytes:
    """Return an ONNX model with other names, numbers and operations in some of its nodes."""
    import onnx

    model = onnx.load_model_from_string(data)
    graph = model.graph
    names = [name for node in graph.node for name in (*node.input, *node.output)] + [t.name for t in graph.initializer]
    for _ in range(rng.choice([1, 2, 4])):
        node, kind = rng.choice(graph.node), rng.randrange(6)
        if kind == 0 and node.input:
            node.input[rng.randrange(len(node.input))] = rng.choice(names)
        elif kind == 1 and node.output:
            node.output[rng.randrange(len(node.output))] = rng.choice(names)
        elif kind == 2:
            node.op_type = rng.choice(
                ["LSTM", "Concat", "Identity", "Reshape", "Transpose", "Mul", "Slice", "Cast", "Split"]
            )
        elif kind == 3 and node.attribute:
            attribute = rng.choice(node.attribute)
            attribute.i, attribute.f = rng.choice(NUMBERS[:-2]), rng.choice([0.0, -1.0, float("nan"), float("inf")])
        elif kind == 4:
            tensor = rng.choice(graph.initializer)
            tensor.dims.append(rng.choice(NUMBERS[:-2]))
        else:
            rng.choice(graph.initializer).data_type = rng.randrange(24)
    return bytes(model.SerializeToString())


def changed_hdf5(data: bytes, rng: random.Random) -> bytes:
    """
    Return an HDF5 file with other datasets, links and attributes.

    Not with other bytes: the HDF5 library hangs on some of them, which is said in `lstm_xp.load`.
    """
    import h5py

    stream = io.BytesIO(data)
    with h5py.File(stream, "r+") as file:
        names: list[str] = []
        file.visit(names.append)
        for _ in range(rng.choice([1, 2, 4])):
            with suppress(KeyError, OSError, ValueError):  # what one change leaves, another may not find
                change_hdf5(file, rng.choice(names), rng)
    return stream.getvalue()


def change_hdf5(file: Any, name: str, rng: random.Random) -> None:
    import h5py

    kind, last = rng.randrange(9), name.rpartition("/")[2]
    parent = file[name].parent
    if kind == 0:
        file[f"{name} again"] = rng.choice([file["/"], parent])
    elif kind == 1:
        parent.attrs[rng.choice(["keras_version", "name"])] = rng.choice(["", "x", b"\xff", 5, [1.0, 2.0]])
    elif kind == 2:
        config = file.attrs.get("model_config", '{"class_name": "Sequential", "config": [{"class_name": "LSTM"}]}')
        file.attrs["model_config"] = changed(config.encode(), rng)
    elif kind == 3:
        parent.move(last, rng.choice(["0", "1", "2", "kernel", "recurrent_kernel:0", "vars", "x"]))
    elif isinstance(file[name], h5py.Dataset):
        shape = file[name].shape
        del file[name]
        if kind == 4:
            parent.create_dataset(last, (10**5, 4 * 10**5), rng.choice(["f4", "f8"]), chunks=(16, 16))
        elif kind == 5:
            parent.create_dataset(last, shape, rng.choice(["i4", ">f4", "f2", "S5", "c8", [("a", "f4")], bool]))
        elif kind == 6:
            parent[last] = rng.choice([h5py.SoftLink("/nowhere"), h5py.ExternalLink("/etc/passwd", "/x")])
        elif kind == 7:
            parent.create_dataset(last, shape, "f4", external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)])
        else:
            parent.create_dataset(last, rng.choice([(), (0,), (0, 0), (1,), shape[::-1], (*shape, 1)]), "f4")


def read_all(path: Path) -> str:
    """Read every LSTM in a file; return how that ended."""
    try:
        contents = open_contents(path)
        with errors_naming(path):
            prefixes = contents.prefixes()
        for prefix in prefixes:
            with errors_naming(path):
                net, _ = contents.lstm(prefix)
            assert net.input_size > 0
    except (ValueError, TypeError, OSError) as error:
        if path.name not in str(error):
            msg = f"an error that does not name the file: {error!r}"
            raise AssertionError(msg) from error
        return type(error).__name__
    return "read"


WAYS: dict[str, list[Callable[[bytes, random.Random], bytes]]] = {
    ".onnx": [changed, rewired, rewired],
    ".h5": [changed_hdf5],
    ".hdf5": [changed_hdf5],
    ".keras": [changed_member],
}


def work(folder: Path, seed: int, count: int) -> None:
    """Read so many changed files; the one at work is always there to be looked at."""
    rng = random.Random(seed)
    files = good_files(folder)
    for suffix, contents in files.items():
        for content in contents:
            (folder / f"good{suffix}").write_bytes(content)
            assert read_all(folder / f"good{suffix}") == "read", suffix
    for address in Path("/proc/self/statm").read_text().split()[:1]:
        limit = int(address) * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    outcomes = Counter[str]()
    for _ in range(count):
        suffix = rng.choice(list(files))
        content = rng.choice(files[suffix])
        ways = WAYS.get(suffix, [changed, changed_member] if content[:2] == b"PK" else [changed])
        path = folder / f"changed{suffix}"
        path.write_bytes(rng.choice(ways)(content, rng))
        (folder / "now").write_text(path.name)
        signal.alarm(SECONDS)
        outcomes[f"{suffix} {read_all(path)}"] += 1
        signal.alarm(0)
    for outcome, number in sorted(outcomes.items()):
        print(outcome, number)


def main() -> int:
    parser = argparse.ArgumentParser(description="Read changed files and see that they are read or refused.")
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--findings", type=Path, default=Path("fuzz-findings"))
    parser.add_argument("--worker", nargs=3, metavar=("FOLDER", "SEED", "COUNT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        folder, seed, count = options.worker
        work(Path(folder), int(seed), int(count))
        return 0
    end, seed, findings, outcomes = time.monotonic() + 60 * options.minutes, options.seed, 0, Counter[str]()
    while time.monotonic() < end:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "tests.fuzz", "--worker", folder, str(seed), "2000"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            for line in done.stdout.splitlines():
                name, _, number = line.rpartition(" ")
                outcomes[name] += int(number)
            if done.returncode:
                findings += 1
                options.findings.mkdir(exist_ok=True)
                name = (Path(folder) / "now").read_text()
                kept = options.findings / f"{seed}-{name}"
                kept.write_bytes((Path(folder) / name).read_bytes())
                print(f"{kept}: exit code {done.returncode}\n{done.stderr[-1500:]}")
        seed += 1
    for outcome, number in sorted(outcomes.items()):
        print(f"{outcome:<30}{number}")
    print(f"{sum(outcomes.values())} files in {seed - options.seed} rounds, {findings} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
