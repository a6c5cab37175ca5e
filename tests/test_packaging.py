"""What an installation is: its weight on import, what is in the wheel, and what a user's type checker says."""

import subprocess
import sys
import tarfile
import textwrap
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest

import lstm_xp as lx

ROOT = Path(__file__).parent.parent


def python(code: str, *options: str) -> str:
    """Run a program in a process of its own; return what it prints."""
    command = [sys.executable, *options, "-c", textwrap.dedent(code)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_import_pulls_in_no_optional_library() -> None:
    before_after = """
        import sys, numpy
        before = set(sys.modules)
        import lstm_xp
        weights = lstm_xp.CellWeights(numpy.ones((16, 5)), numpy.ones((16, 4)))
        lstm_xp.lstm(numpy.ones((2, 3, 5)), weights)
        frame = numpy.ones((1, 5)).view(type("Frame", (numpy.ndarray,), {}))  # which is looked at twice
        lstm_xp.LSTM.from_weights(weights).stream()(frame)
        print(*{name.split(".")[0] for name in set(sys.modules) - before})
        print("array_api_compat.numpy" in sys.modules)
    """
    imported, compat_numpy = python(before_after).splitlines()
    third_party = set(imported.split()) - set(sys.stdlib_module_names)
    assert third_party - {"numpy"} == {"lstm_xp", "array_api_compat"}  # NumPy has parts that come later
    assert compat_numpy == "False"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wheel and sdist, built without the network."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", str(folder)], cwd=ROOT, check=True, capture_output=True
    )
    return folder


def test_what_is_in_wheel_and_sdist(built: Path) -> None:
    (wheel,), (sdist,) = built.glob("*.whl"), built.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / "lstm_xp").rglob("*.py")}
    in_package = {name for name in names if name.startswith("lstm_xp/")}
    assert in_package == sources | {"lstm_xp/py.typed"}
    assert {name.split("/")[0] for name in names if name not in in_package} == {f"lstm_xp-{lx.__version__}.dist-info"}
    with tarfile.open(sdist) as archive:
        top = {name.split("/")[1] for name in archive.getnames()}
    assert {"lstm_xp", "tests", "examples", "pyproject.toml", "README.md", "LICENSE"} <= top


@pytest.mark.parametrize("kind", ["*.whl", "*.tar.gz"])
def test_it_runs_in_an_empty_environment(built: Path, tmp_path: Path, kind: str) -> None:
    """Empty but for the two dependencies, which are lent from here: pip would need the network."""
    import array_api_compat

    (distribution,) = built.glob(kind)
    if kind == "*.tar.gz":
        # By the command: which of its safe ways `extractall` knows differs between the versions of Python 3.11.
        subprocess.run([sys.executable, "-m", "tarfile", "-e", distribution, tmp_path / "sdist"], check=True)
        (source,) = (tmp_path / "sdist").iterdir()
        build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
        subprocess.run(build, cwd=source, check=True, capture_output=True)
        (distribution,) = tmp_path.glob("*.whl")
    venv.create(tmp_path / "venv")
    scripts = tmp_path / "venv" / ("Scripts" if sys.platform == "win32" else "bin")
    # By the pip that is here: to give the environment one of its own takes longer than all else.
    pip = [sys.executable, "-m", "pip", "--python", scripts / "python", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "-q", "--no-deps", "--no-index", distribution], check=True)
    lent = tmp_path / "lent"
    lent.mkdir()
    for module in (np, array_api_compat):
        folder = Path(module.__file__).parent
        (lent / folder.name).symlink_to(folder)
        if (libraries := folder.parent / f"{folder.name}.libs").exists():
            (lent / libraries.name).symlink_to(libraries)
    example = ROOT / "examples" / "exercise_recognition"
    files = [example / name for name in ("weights.npz", "input.npy", "output.npy")]
    command = [scripts / "lstm-xp", "run", *files[:2], "--expect", files[2]]
    done = subprocess.run(command, env={"PYTHONPATH": str(lent)}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "expected equal" in done.stdout


USER = """
import numpy as np
import numpy.typing as npt

import lstm_xp as lx

x = np.ones((7, 3, 5), np.float32)
net = lx.LSTM(5, 4, num_layers=2, options=lx.CellOptions(coupled=True), dtype=np.float32)
output, (h_n, c_n) = net(x, lengths=np.array([1, 2, 3]))
same: npt.NDArray[np.float32] = output
weights = lx.CellWeights(np.ones((16, 5)), np.ones((16, 4)))
final: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]] = lx.lstm(x, [weights], (h_n, c_n), reverse=True)[1]
h, c = lx.lstm_cell(x[0], net.weights[0][0], options=lx.CellOptions(activations=("relu", ("elu", 1.0), "tanh")))
lx.save("net.npz", lx.load("net.npz", prefix="lstm"))
names: list[str] = list(net.state_dict())
engine: str = lx.select_engine(x, net.weights).name

# Under --strict an ignored error that is not there is one itself.
net.hidden_size = 3  # type: ignore[misc]
lx.lstm(x, weights, lenghts=x)  # type: ignore[call-arg]
lx.CellOptions(peephole_output="both")  # type: ignore[arg-type]
"""


def test_a_users_mypy_is_content(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(USER)
    # With our settings: torch, JAX and others, which a user may not have, are not followed; that took most of a minute.
    settings = ["--strict", f"--config-file={ROOT / 'pyproject.toml'}", f"--cache-dir={tmp_path}"]
    command = [sys.executable, "-m", "mypy", *settings, str(program)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
