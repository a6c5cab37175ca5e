"""``lstm-xp trace``, as a user calls it."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lstm_xp as lx
from conformance.cases import Case
from lstm_xp._cli import main

CASE = Case(num_layers=2, bidirectional=True, dtype="float32")
EXAMPLE = Path(__file__).parent.parent / "examples" / "exercise_recognition"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with weights and input, in which the command runs."""
    monkeypatch.chdir(tmp_path)
    lx.save("net.npz", CASE.lstm(), prefix="enc")
    np.save("x.npy", CASE.x())
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Run the command; return exit code, output, errors."""
    try:
        code = main(["trace", *arguments])
    except SystemExit as stop:
        code = int(stop.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.needs("matplotlib")
@pytest.mark.parametrize(("suffix", "magic"), [("svg", b"<?xml"), ("png", b"\x89PNG"), ("pdf", b"%PDF")])
def test_pictures(folder: Path, capsys: pytest.CaptureFixture[str], suffix: str, magic: bytes) -> None:
    for name in ("one", "two"):
        code, out, err = run(capsys, "net.npz", "x.npy", "-o", f"{name}.{suffix}", "--row", "2", "--layer", "0")
        assert (code, err) == (0, "")
        assert out == (
            "LSTM     LSTM(5, 4, num_layers=2, bidirectional=True), float32\n"
            "input    (7, 3, 5) float32\n"
            f"written  {name}.{suffix}\n"
        )
    one, two = (Path(f"{name}.{suffix}").read_bytes() for name in ("one", "two"))
    assert one.startswith(magic)
    assert one == two
    assert run(capsys, "net.npz", "x.npy", "-o", f"two.{suffix}", "--row", "1", "--layer", "0")[0] == 0
    assert Path(f"two.{suffix}").read_bytes() != one


@pytest.mark.needs("matplotlib")
def test_what_is_asked_for_is_drawn(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []
    draw = lx.plot.gates

    def gates(trace: lx.Trace, **arguments: Any) -> Any:
        asked.append(arguments)
        return draw(trace, **arguments)

    monkeypatch.setattr(lx.plot, "gates", gates)
    np.save("first.npy", CASE.x().swapaxes(0, 1))
    options = ["--layer", "-2", "--direction", "1", "--row", "1", "--order", "peak", "--columns", "5", "--batch-first"]
    assert run(capsys, "net.npz", "first.npy", "-o", "out.png", *options, "--keep", "c,f")[0] == 0
    assert asked == [
        {"layer": -2, "direction": 1, "row": 1, "batch_first": True, "order": "peak", "columns": 5},
    ]


@pytest.mark.parametrize("batch_first", [False, True])
def test_arrays(folder: Path, capsys: pytest.CaptureFixture[str], batch_first: bool) -> None:
    net = CASE.replace(batch_first=batch_first).lstm()
    lx.save("net.npz", net)
    x = CASE.replace(batch_first=batch_first).x()
    np.save("x.npy", x)
    code, out, _ = run(capsys, "net.npz", "x.npy", "-o", "trace.npz")
    assert code == 0
    assert "written  trace.npz: 27 arrays\n" in out
    trace = net.trace(x)
    with np.load("trace.npz") as arrays:
        for name, expected in (("output", trace.output), ("h_n", trace.state[0]), ("c_n", trace.state[1])):
            np.testing.assert_array_equal(arrays[name], expected)
        for name in ("h", "c", "i", "f", "g", "o"):
            for layer in range(2):
                for direction, suffix in enumerate(("", "_reverse")):
                    given = arrays[f"{name}_l{layer}{suffix}"]
                    np.testing.assert_array_equal(given, getattr(trace, name)[layer][direction])
    assert run(capsys, "net.npz", "x.npy", "-o", "trace.npz", "--keep", "c,o")[0] == 0
    with np.load("trace.npz") as arrays:
        assert {name[0] for name in arrays.files if "_l" in name} == {"c", "o"}


def test_another_dtype_and_a_prefix(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save("x.npy", CASE.x().astype("float64"))
    assert run(capsys, "net.npz", "x.npy", "-o", "t.npz", "--dtype", "float64", "--prefix", "enc")[0] == 0
    with np.load("t.npz") as arrays:
        assert {arrays[name].dtype for name in arrays.files} == {np.dtype("float64")}


MISTAKES: dict[str, tuple[list[str], str]] = {
    "no output": (["net.npz", "x.npy"], "the following arguments are required: -o/--output"),
    "suffix": (["net.npz", "x.npy", "-o", "o.gif"], "OUTPUT o.gif has the suffix '.gif', expected .svg, .png, .pdf or"),
    "folder": (["net.npz", "x.npy", "-o", "no/o.svg"], "OUTPUT no/o.svg: there is no folder no"),
    "is a folder": (["net.npz", "x.npy", "-o", "dir.svg"], "OUTPUT dir.svg is a folder"),
    "weights": (["none.npz", "x.npy", "-o", "o.svg"], "No such file or directory: 'none.npz'"),
    "input": (["net.npz", "none.npy", "-o", "o.svg"], "No such file or directory: 'none.npy'"),
    "prefix": (["net.npz", "x.npy", "-o", "o.svg", "--prefix", "dec"], "no LSTM under the prefix 'dec.'"),
    "keep": (["net.npz", "x.npy", "-o", "o.npz", "--keep", "c,q"], "`keep`"),
    "layer": (["net.npz", "x.npy", "-o", "o.svg", "--layer", "2"], "`layer` is 2, expected one of 2 layers, -2 to 1"),
    "direction": (["net.npz", "x.npy", "-o", "o.svg", "--direction", "2"], "`direction` is 2, expected one of 2"),
    "row": (["net.npz", "x.npy", "-o", "o.svg", "--row", "3"], "`row` is 3, expected one of 3 rows, -3 to 2"),
    "columns": (["net.npz", "x.npy", "-o", "o.svg", "--columns", "0"], "`columns` is 0, expected at least 1"),
    "order": (["net.npz", "x.npy", "-o", "o.svg", "--order", "name"], "invalid choice: 'name'"),
    "dtype": (["net.npz", "double.npy", "-o", "o.svg"], "`x` has dtype float64, expected float32 as `weights`"),
    "integers": (["net.npz", "integers.npy", "-o", "o.svg"], "INPUT integers.npy has dtype int64, expected a real"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_clear_line_and_exit_code_2(
    folder: Path, capsys: pytest.CaptureFixture[str], mistake: str
) -> None:
    Path("dir.svg").mkdir()
    np.save("double.npy", CASE.x().astype("float64"))
    np.save("integers.npy", CASE.x().astype(int))
    before = set(folder.iterdir())
    arguments, message = MISTAKES[mistake]
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert err.startswith("lstm-xp: error: ")
    assert err.count("\n") == 1
    assert set(folder.iterdir()) == before


def test_without_matplotlib_it_names_the_extra(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ["matplotlib", *(name for name in sys.modules if name.startswith("matplotlib."))]:
        monkeypatch.setitem(sys.modules, name, None)
    before = set(folder.iterdir())
    code, out, err = run(capsys, "net.npz", "x.npy", "-o", "out.svg")
    assert (code, out) == (2, "")
    assert err.startswith("lstm-xp: error: a picture needs the extra lstm_xp[plot]: ")
    assert err.count("\n") == 1
    assert set(folder.iterdir()) == before
    assert run(capsys, "net.npz", "x.npy", "-o", "out.npz")[0] == 0  # arrays do not need it


@pytest.mark.needs("matplotlib")
@pytest.mark.parametrize("output", ["out.svg", "out.npz"])
def test_an_output_that_cannot_be_written_leaves_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    from matplotlib.figure import Figure

    def fail(*given: Any, **_: Any) -> None:
        file = given[1] if isinstance(given[0], Figure) else given[0]
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", fail)
    monkeypatch.setattr(Figure, "savefig", fail)
    before = set(folder.iterdir())
    code, _, err = run(capsys, "net.npz", "x.npy", "-o", output)
    assert code == 2
    assert "No space left on device" in err
    assert set(folder.iterdir()) == before


@pytest.mark.needs("matplotlib")
def test_the_example_in_a_process_of_its_own(tmp_path: Path) -> None:
    """It draws without a display, and what stands in the README is what it draws."""
    command = [sys.executable, "-W", "error", "-m", "lstm_xp", "trace", "weights.npz", "input.npy"]
    subprocess.run([*command, "-o", str(tmp_path / "inside.svg")], cwd=EXAMPLE, check=True, capture_output=True)
    drawn, committed = (path.read_text() for path in (tmp_path / "inside.svg", EXAMPLE / "inside.svg"))
    assert drawn.count("<image ") == committed.count("<image ") > 7
