"""The command line, as a user calls it."""

import itertools
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lstm_xp as lx
from conformance.cases import Case
from conformance.oracle import torch_answer
from lstm_xp import _cli
from lstm_xp._cli import main

CASE = Case(num_layers=2, bidirectional=True, dtype="float32")
EXAMPLE = Path(__file__).parent.parent / "examples" / "exercise_recognition"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with weights and input, in which the command runs."""
    monkeypatch.chdir(tmp_path)
    lx.save("net.npz", CASE.lstm(), prefix="lstm")
    np.save("x.npy", CASE.x())
    np.save("expected.npy", CASE.lstm()(CASE.x())[0])
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Run the command; return exit code, output, errors."""
    try:
        code = main(["run", *arguments])
    except SystemExit as stop:
        code = int(stop.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


def test_the_report(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "net.npz", "x.npy", "--expect", "expected.npy", "-o", "out.npy")
    assert (code, err) == (0, "")
    pattern = (
        r"LSTM     LSTM\(5, 4, num_layers=2, bidirectional=True\), float32\n"
        r"input    \(7, 3, 5\) float32\n"
        r"output   \(7, 3, 8\) float32\n"
        r"engine   numpy on numpy \(the engine for numpy\)\n"
        r"time     \S+ s, [\d,]+ steps per second\n"
        r"written  out.npy\n"
        r"expected equal: the largest difference is 0, tolerance 2e-06\n"
    )
    assert re.fullmatch(pattern, out), out
    np.testing.assert_array_equal(np.load("out.npy"), np.load("expected.npy"))
    seconds, rate = (float(number.replace(",", "")) for number in re.findall(r"([\d.,e-]+) s", out)[:2])
    assert abs(seconds * rate / (7 * 3) - 1) < 0.02


@pytest.mark.needs("torch")
@pytest.mark.parametrize(
    "library",
    [
        "torch",
        pytest.param("jax.numpy", marks=pytest.mark.needs("jax")),
        pytest.param("array_api_strict", marks=pytest.mark.needs("array_api_strict")),
        pytest.param("dask.array", marks=pytest.mark.needs("dask.array")),
    ],
)
def test_other_libraries(folder: Path, capsys: pytest.CaptureFixture[str], library: str) -> None:
    np.save("torch.npy", torch_answer(CASE.replace(start="absent"))[0])
    code, out, _ = run(capsys, "net.npz", "x.npy", "--xp", library, "--expect", "torch.npy", "-o", "out.npz")
    assert code == 0
    engine = {"torch": "torch", "jax.numpy": "jax", "dask.array": "dask"}.get(library, "standard")
    assert f"engine   {engine} on {library} (" in out
    with np.load("out.npz") as results:
        for name, expected in zip(("output", "h_n", "c_n"), torch_answer(CASE.replace(start="absent")), strict=True):
            np.testing.assert_allclose(results[name], expected, rtol=0, atol=1e-6)


def test_batch_first_unbatched_dtype_and_members(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez("both.npz", x=CASE.x().swapaxes(0, 1), other=np.ones(3))
    assert run(capsys, "net.npz", "both.npz:x", "--batch-first", "-o", "out.npy")[0] == 0
    np.testing.assert_allclose(np.load("out.npy").swapaxes(0, 1), np.load("expected.npy"), rtol=0, atol=1e-6)
    np.save("one.npy", CASE.x()[:, 0].astype(">f8"))
    code, out, _ = run(capsys, "net.npz", "one.npy", "--dtype", "float64", "-o", "out.npy")
    assert code == 0
    assert "output   (7, 8) float64" in out


def test_settings_in_the_file_hold(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = Case(dtype="float32").lstm(reverse=True, options=lx.CellOptions(coupled=True), engine="standard")
    lx.save("other.safetensors", net)
    for flag in ([], ["--batch-first"]):
        np.save("y.npy", CASE.x().swapaxes(0, 1) if flag else CASE.x())
        assert run(capsys, "other.safetensors", "y.npy", "-o", "out.npy", *flag)[0] == 0
        out = np.load("out.npy")
        expected = net(CASE.x())[0]
        np.testing.assert_allclose(out.swapaxes(0, 1) if flag else out, expected, rtol=0, atol=1e-6)


def test_not_equal_is_exit_code_1(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = np.load("expected.npy")
    wrong[3, 1, 2] += 1e-3
    np.save("wrong.npy", wrong)
    code, out, _ = run(capsys, "net.npz", "x.npy", "--expect", "wrong.npy")
    assert code == 1
    assert "expected NOT EQUAL: the largest difference is 0.001, tolerance 2e-06" in out
    assert run(capsys, "net.npz", "x.npy", "--expect", "wrong.npy", "--tolerance", "0.01")[0] == 0
    wrong[0, 0, 0] = np.nan
    np.save("wrong.npy", wrong)
    assert run(capsys, "net.npz", "x.npy", "--expect", "wrong.npy", "--tolerance", "0.01")[0] == 1


MISTAKES: dict[str, tuple[list[str], str]] = {
    "no weights": (["nothing.npz", "x.npy"], "No such file or directory: 'nothing.npz'"),
    "no input": (["net.npz", "nothing.npy"], "No such file or directory: 'nothing.npy'"),
    "no expected": (["net.npz", "x.npy", "--expect", "nothing.npy"], "No such file or directory: 'nothing.npy'"),
    "kind of weights": (["x.npy", "x.npy"], "x.npy has the suffix '.npy', expected one of .npz, .safetensors"),
    "kind of input": (["net.npz", "x.csv"], "INPUT x.csv has the suffix '.csv', expected .npy or .npz"),
    "kind of output": (["net.npz", "x.npy", "-o", "out.csv"], "OUTPUT out.csv has the suffix '.csv'"),
    "folder of output": (["net.npz", "x.npy", "-o", "no/out.npy"], "OUTPUT no/out.npy: there is no folder no"),
    "broken weights": (["broken.npz", "x.npy"], "broken.npz is not a readable .npz file"),
    "broken input": (["net.npz", "broken.npy"], "INPUT broken.npy cannot be read"),
    "truncated input": (["net.npz", "cut.npy"], "INPUT cut.npy cannot be read"),
    "pickled input": (["net.npz", "pickle.npy"], "INPUT pickle.npy cannot be read: Object arrays cannot be loaded"),
    "archive of two": (["net.npz", "two.npz"], "it holds 2 arrays, expected one; FILE.npz:NAME takes one out of a, b"),
    "no member": (["net.npz", "two.npz:c"], "it holds no array 'c', but a, b"),
    "prefix": (["net.npz", "x.npy", "--prefix", "enc"], "no LSTM under the prefix 'enc.'"),
    "rank": (["net.npz", "flat.npy"], "`x` has shape (105,), expected (..., input_size) = (..., 5)"),
    "dtype": (["net.npz", "double.npy"], "`x` has dtype float64, expected float32 as `weights`"),
    "integers": (["net.npz", "integers.npy"], "INPUT integers.npy has dtype int64, expected a real floating dtype"),
    "complex expected": (["net.npz", "x.npy", "--expect", "complex.npy"], "EXPECTED complex.npy has dtype complex64"),
    "tolerance": (["net.npz", "x.npy", "--tolerance", "nan"], "--tolerance is nan, expected a number of at least 0"),
    "negative tolerance": (
        ["net.npz", "x.npy", "--tolerance=-1"],
        "--tolerance is -1.0, expected a number of at least 0",
    ),
    "a dot": (["net.npz", "x.npy", "--xp", "."], "--xp '.': "),
    "torch's matmul": (["net.npz", "x.npy", "--xp", "torch", "--dtype", "matmul"], "`dtype` is 'matmul', expected"),
    "two lines": (["net.npz", "x.npy", "--foo\nbar"], "unrecognized arguments: --foo bar"),
    "jax itself": (
        ["net.npz", "x.npy", "--xp", "jax"],
        "--xp 'jax': `xp` is 'jax', expected an array library, as numpy, torch or jax.numpy",
    ),
    "unknown dtype": (["net.npz", "x.npy", "--dtype", "int8"], "`dtype` is 'int8', expected a real floating dtype"),
    "library": (["net.npz", "x.npy", "--xp", "nothing_like_it"], "--xp 'nothing_like_it': No module named"),
    "no array library": (["net.npz", "x.npy", "--xp", "json"], "`xp` is 'json', expected an array library"),
    "shape of expected": (
        ["net.npz", "x.npy", "--expect", "x.npy"],
        "EXPECTED x.npy has shape (7, 3, 5), the output (7, 3, 8)",
    ),
    "chunk": (["net.npz", "x.npy", "--chunk", "0"], "--chunk is 0, expected a number of at least 1"),
    "chunk of two.npz": (["net.npz", "two.npz:a", "--chunk", "2"], "INPUT two.npz:a has the suffix '.npz:a', expected"),
    "chunk of no .npy": (["net.npz", "broken.npy", "--chunk", "2"], "INPUT broken.npy cannot be read"),
    "chunk of an archive": (
        ["net.npz", "archive.npy", "--chunk", "2"],
        "INPUT archive.npy cannot be read: the magic",
    ),
    "chunk of what is cut off": (["net.npz", "cut.npy", "--chunk", "2"], "INPUT cut.npy cannot be read"),
    "chunk of pickles": (["net.npz", "pickle.npy", "--chunk", "2"], "INPUT pickle.npy cannot be read: Array can't be"),
    "chunk of nothing": (["net.npz", "nothing.npy", "--chunk", "2"], "No such file or directory: 'nothing.npy'"),
    "chunk of integers": (["net.npz", "integers.npy", "--chunk", "2"], "INPUT integers.npy has dtype int64"),
    "chunk of a rank": (["net.npz", "flat.npy", "--chunk", "2"], "INPUT flat.npy has shape (105,), expected (time, "),
    "chunk of another dtype": (["net.npz", "double.npy", "--chunk", "2"], "`x` has dtype float64, expected float32"),
    "chunk into .npz": (
        ["net.npz", "x.npy", "--chunk", "2", "-o", "out.npz"],
        "OUTPUT out.npz has the suffix '.npz', expected .npy with --chunk",
    ),
    "chunk of both ways": (["net.npz", "row.npy", "--chunk", "2"], "runs backward through all of INPUT's time steps"),
    "shape of expected by chunk": (
        ["net.npz", "x.npy", "--chunk", "2", "--expect", "x.npy"],
        "EXPECTED x.npy has shape (7, 3, 5), the output (7, 3, 8)",
    ),
    "engine": (
        ["net.npz", "x.npy", "--engine", "fast"],
        "`engine` is 'fast', expected 'auto' or one of standard, numpy",
    ),
    "engine for others": (
        ["net.npz", "x.npy", "--engine", "jax"],
        "the engine 'jax' cannot run this: it is for arrays",
    ),
    "threads": (["net.npz", "x.npy", "--threads", "0"], "--threads is 0, expected a number of at least 1"),
    "threads before the input": (["net.npz", "nothing.npy", "--threads=-1"], "--threads is -1, expected a number of"),
    "no engine": (["net.npz", "x.npy", "--engine", ""], "`engine` is '', expected 'auto' or one of standard, numpy"),
    "threads of none": (
        ["net.npz", "x.npy", "--threads", "2", "--engine", "standard"],
        "the engine 'standard' cannot run this: `threads` is 2, and it has none of its own",
    ),
    "arguments": (["net.npz"], "the following arguments are required: INPUT"),
    "option": (["net.npz", "x.npy", "--fast"], "unrecognized arguments: --fast"),
}


@pytest.mark.parametrize(
    "mistake",
    [pytest.param(m, marks=[pytest.mark.needs(lib) for lib in ("jax", "torch") if lib in m]) for m in MISTAKES],
)
def test_a_mistake_is_one_clear_line_and_exit_code_2(
    folder: Path, capsys: pytest.CaptureFixture[str], mistake: str
) -> None:
    for name in ("broken.npz", "broken.npy"):
        Path(name).write_bytes(b"PK\x03\x04 broken")
    Path("cut.npy").write_bytes(Path("x.npy").read_bytes()[:-9])
    np.save("pickle.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.savez("two.npz", a=CASE.x(), b=CASE.x())
    Path("archive.npy").write_bytes(Path("two.npz").read_bytes())
    np.save("row.npy", CASE.x()[:, 0])
    np.save("flat.npy", CASE.x().ravel())
    np.save("double.npy", CASE.x().astype("float64"))
    np.save("complex.npy", CASE.x() + 1j)
    np.save("integers.npy", CASE.x().astype(int))
    before = set(folder.iterdir())
    arguments, message = MISTAKES[mistake]
    code, out, err = run(capsys, *arguments, *([] if "-o" in arguments else ["-o", "out.npy"]))
    assert (code, out) == (2, "")
    assert message in err
    assert err.startswith("lstm-xp: error: ")
    assert err.count("\n") == 1
    assert set(folder.iterdir()) == before


def test_an_output_that_cannot_be_written_leaves_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", fail)
    before = set(folder.iterdir())
    code, _, err = run(capsys, "net.npz", "x.npy", "-o", "out.npy")
    assert code == 2
    assert "No space left on device" in err
    assert set(folder.iterdir()) == before


def test_engine_and_threads(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for engine, arguments in (
        ("standard", ["--engine", "standard"]),
        ("numpy", ["--engine", "numpy", "--threads", "2"]),
    ):
        code, out, _ = run(capsys, "net.npz", "x.npy", "--expect", "expected.npy", *arguments)
        assert code == 0
        assert f"engine   {engine} on numpy (asked for by name)\n" in out
    lx.save("standard.npz", CASE.lstm(engine="standard"))
    assert "engine   numpy on numpy (the engine for numpy)\n" in run(capsys, "net.npz", "x.npy", "--engine", "auto")[1]


IN_CHUNKS = [
    Case(num_layers=2, proj_size=2, start="absent", dtype="float32"),
    Case(batch_first=True, start="absent", dtype="float32"),
    Case(batch=None, num_layers=2, start="absent", dtype="float32"),
    Case(num_layers=2, bidirectional=True, start="absent", dtype="float32"),
    Case(bidirectional=True, batch_first=True, start="absent", dtype="float32"),
    Case(reverse=True, batch_first=True, start="absent", dtype="float32"),
]


@pytest.mark.needs("torch")
@pytest.mark.parametrize("chunk", [1, 2, 7, 100])
@pytest.mark.parametrize("case", IN_CHUNKS, ids=str)
def test_in_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], case: Case, chunk: int
) -> None:
    """Of time, or of the batch; whatever the order and the byte order in the file."""
    monkeypatch.chdir(tmp_path)
    lx.save("net.npz", case.lstm())
    np.save("expected.npy", torch_answer(case)[0])
    whole = case.lstm()(case.x())[0]
    for x in (case.x(), np.asfortranarray(case.x()), case.x().astype(">f4")):
        np.save("x.npy", x)
        code, out, err = run(
            capsys, "net.npz", "x.npy", "--chunk", str(chunk), "-o", "out.npy", "--expect", "expected.npy"
        )
        assert (code, err) == (0, "")
        assert f"input    {x.shape} float32\noutput   {whole.shape} float32\nengine   numpy on numpy (the" in out
        assert "expected equal: the largest difference is " in out
        written = np.load("out.npy")
        assert written.dtype == np.dtype("float32")
        assert written.flags.c_contiguous
        np.testing.assert_allclose(written, whole, rtol=0, atol=1e-6)
    assert {path.name for path in tmp_path.iterdir()} == {"net.npz", "x.npy", "expected.npy", "out.npy"}


@pytest.mark.parametrize("library", ["numpy", pytest.param("dask.array", marks=pytest.mark.needs("dask.array"))])
@pytest.mark.parametrize("place", [(0, 0, 0), (3, 1, 2), (6, 2, 3)])
def test_a_difference_in_any_chunk_counts(
    folder: Path, capsys: pytest.CaptureFixture[str], place: tuple[int, ...], library: str
) -> None:
    net = CASE.replace(bidirectional=False).lstm()
    lx.save("forward.npz", net)
    for wrong in (1e-3, np.nan):
        expected = net(CASE.x())[0]
        expected[place] += wrong
        np.save("wrong.npy", expected)
        arguments = ["forward.npz", "x.npy", "--chunk", "3", "--xp", library, "--expect", "wrong.npy"]
        code, out, _ = run(capsys, *arguments)
        assert code == 1
        assert "expected NOT EQUAL: the largest difference is " in out
        assert run(capsys, *arguments, "--tolerance", "0.01")[0] == (0 if wrong == 1e-3 else 1)


def test_an_empty_batch_in_chunks(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save("empty.npy", CASE.x()[:, :0])
    assert run(capsys, "net.npz", "empty.npy", "--chunk", "2", "-o", "out.npy")[0] == 0
    assert np.load("out.npy").shape == (7, 0, 8)


def test_progress_is_for_terminals(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = itertools.count(step=2)  # two seconds from one look to the next
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    assert run(capsys, "net.npz", "x.npy", "--chunk", "1")[2] == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert run(capsys, "net.npz", "x.npy", "--chunk", "3")[2] == ""
    assert run(capsys, "net.npz", "x.npy", "--chunk", "1")[2] == "\r 67%, 2 s left \r100%, 0 s left \n"


def write_long_input(shape: tuple[int, ...], net: lx.LSTM, order: str = "C") -> None:
    """Write a net and an input of so many numbers that they would be seen in memory."""
    lx.save("long_net.npz", net)
    x = np.lib.format.open_memmap("long.npy", "w+", "float32", shape, fortran_order=order == "F")
    x[...] = 0.5


def test_killed_in_the_middle_it_leaves_nothing_under_the_outputs_name(folder: Path) -> None:
    write_long_input((200_000, 1, 5), lx.LSTM(5, 4, seed=0))
    np.save("out.npy", np.arange(3))
    for existing in (True, False):
        process = subprocess.Popen(
            [sys.executable, "-m", "lstm_xp", "run", "long_net.npz", "long.npy", "--chunk", "100", "-o", "out.npy"]
        )
        deadline = time.monotonic() + 60
        while not any(path.stat().st_size > 10_000 for path in folder.glob(".out.npy.*.tmp")):
            assert process.poll() is None, "it ended before it was killed"
            assert time.monotonic() < deadline
            time.sleep(0.001)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        for left in folder.glob(".*.tmp"):
            left.unlink()
        if existing:
            np.testing.assert_array_equal(np.load("out.npy"), np.arange(3))
            Path("out.npy").unlink()
    assert not Path("out.npy").exists()


def test_ctrl_c_is_one_line_and_exit_code_130(folder: Path) -> None:
    write_long_input((200_000, 1, 5), lx.LSTM(5, 4, seed=0))
    process = subprocess.Popen(
        [sys.executable, "-m", "lstm_xp", "run", "long_net.npz", "long.npy", "--chunk", "100", "-o", "out.npy"],
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not any(path.stat().st_size > 10_000 for path in folder.glob(".out.npy.*.tmp")):
        assert process.poll() is None, "it ended before it was interrupted"
        assert time.monotonic() < deadline
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)
    assert process.communicate()[1] == "lstm-xp: error: interrupted\n"
    assert process.returncode == 130
    assert not list(folder.glob("*out.npy*"))


def test_an_error_does_not_end_up_behind_the_progress(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, write_piece = itertools.count(step=2), _cli.write_piece

    def write_but_not_the_last(file: Any, offset: int, shape: Any, index: Any, piece: Any) -> None:
        if index[-1].stop == shape[1]:
            raise OSError(28, "No space left on device")
        write_piece(file, offset, shape, index, piece)

    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setattr(_cli, "write_piece", write_but_not_the_last)
    code, out, err = run(capsys, "net.npz", "x.npy", "--chunk", "1", "-o", "out.npy")
    assert (code, out, err) == (2, "", "\r 67%, 2 s left \nlstm-xp: error: [Errno 28] No space left on device\n")


def test_an_input_that_shrinks_while_it_is_read_is_noticed(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_piece = _cli.write_piece

    def write_and_cut_off(*arguments: Any) -> None:
        write_piece(*arguments)
        os.truncate("x.npy", Path("x.npy").stat().st_size - 1)

    monkeypatch.setattr(_cli, "write_piece", write_and_cut_off)
    code, out, err = run(capsys, "net.npz", "x.npy", "--chunk", "2", "-o", "out.npy")
    assert (code, out, err) == (2, "", "lstm-xp: error: x.npy has become shorter\n")
    assert not list(folder.glob("*out.npy*"))


# A process in between: what a process's own use begins with is that of the one which started it.
MEASURE = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", ["time first", "batch first", "bidirectional"])
def test_memory_does_not_grow_with_the_file(folder: Path, kind: str, order: str) -> None:
    """Six times the file, and next to nothing more in memory."""
    net = lx.LSTM(32, 8, seed=0, batch_first=kind == "batch first", bidirectional=kind == "bidirectional")
    command = [sys.executable, "-c", MEASURE, sys.executable, "-m", "lstm_xp", "run", "long_net.npz", "long.npy"]
    peaks = []
    for many in (1000, 6000):
        shape = {"time first": (many, 64, 32), "batch first": (64, many, 32), "bidirectional": (64, many, 32)}[kind]
        write_long_input(shape, net, order)
        size = Path("long.npy").stat().st_size
        done = subprocess.run([*command, "--chunk", "100", "-o", "out.npy"], capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout) * (1 if sys.platform == "darwin" else 1024))
        assert np.load("out.npy", mmap_mode="r").shape == (*shape[:2], 16 if kind == "bidirectional" else 8)
    assert size > 49e6
    assert peaks[1] - peaks[0] < 3e6, peaks


@pytest.mark.parametrize("command", [["lstm-xp"], [sys.executable, "-m", "lstm_xp"]], ids=["script", "module"])
def test_the_example_in_a_process_of_its_own(command: list[str]) -> None:
    """The README's first command."""
    if command == ["lstm-xp"]:
        command = [str(Path(sys.executable).parent / "lstm-xp")]
    arguments = ["run", *(str(EXAMPLE / name) for name in ("weights.npz", "input.npy"))]
    done = subprocess.run(
        [*command, *arguments, "--expect", str(EXAMPLE / "output.npy")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "expected equal" in done.stdout


@pytest.mark.needs("torch")
def test_the_examples_output_is_torchs() -> None:
    """The committed files belong together: torch, today, gives that output."""
    import torch

    with np.load(EXAMPLE / "weights.npz") as file:
        weights = {name.removeprefix("lstm."): torch.tensor(a) for name, a in file.items() if name.startswith("lstm.")}
    module = torch.nn.LSTM(6, 32, 2)
    module.load_state_dict(weights)
    with torch.no_grad():
        output, _ = module(torch.tensor(np.load(EXAMPLE / "input.npy")))
    np.testing.assert_allclose(np.load(EXAMPLE / "output.npy"), output.numpy(), rtol=0, atol=2e-6)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"lstm_xp {lx.__version__}\n"
