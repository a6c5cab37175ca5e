"""The command line, as a user calls it."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lstm_xp as lx
from conformance.cases import Case
from conformance.oracle import torch_answer
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
    engine = {"jax.numpy": "jax", "numpy": "numpy"}.get(library, "standard")
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
