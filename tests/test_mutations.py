"""The suite can fail: one wrong line in a copy of the package, and it turns red."""

import shutil
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import pytest

import lstm_xp

TESTS = Path(__file__).parent
PACKAGE = Path(lstm_xp.__file__).parent

GATES = "z_i, z_f, z_g, z_o = ("
BIASES = "return weights.bias_ih + weights.bias_hh"
HELD = "carry = xp.where(valid_t, h, carry[0]), xp.where(valid_t, c, carry[1])"


def with_gates_swapped(a: int, b: int) -> str:
    names = ["z_i", "z_f", "z_g", "z_o"]
    names[a], names[b] = names[b], names[a]
    return f"{', '.join(names)} = ("


CELL = {f"gates {a} and {b} swapped": (GATES, with_gates_swapped(a, b)) for a, b in combinations(range(4), 2)} | {
    "the old cell state ignored": ("f * c_old + i * g", "f * 0.0 + i * g"),
    "forget gate beside the old cell state": ("f * c_old + i * g", "f + c_old + i * g"),
    "no tanh on the output": ("h = o * squash(c)", "h = o * c"),
    "projection ignored": ("clip_proj(h @ w_hr)", "h[..., : w_hr.shape[1]]"),
}
STACK = {
    "h_0 and c_0 swapped": (
        "state[0][row, :, :], state[1][row, :, :]",
        "state[1][row, :, :], state[0][row, :, :]",
    ),
    "the layers' states swapped": ("_row(request.state, len(finals))", "_row(request.state, -1 - len(finals))"),
    "lengths ignored": ("    if request.lengths is None:\n        return None", "    return None"),
    "lengths one too long": ("xp.expand_dims(steps, axis=1) < ", "xp.expand_dims(steps, axis=1) <= "),
    "states run on, backward ones start in the padding": (HELD, "carry = h, c"),
    "output not masked": ("xp.where(shown, output, xp.zeros_like(output))", "output"),
    "backward runs forward": ("reverse=request.reverse or direction == 1", "reverse=request.reverse"),
    "directions side by side in the wrong order": ("xp.concat(outputs, axis=2)", "xp.concat(outputs[::-1], axis=2)"),
    "final states swapped": ("xp.stack([h for h, _ in finals])", "xp.stack([h for h, _ in finals[::-1]])"),
}
WEIGHTS = {
    "bias_ih dropped": (BIASES, "return weights.bias_hh"),
    "bias_hh dropped": (BIASES, "return weights.bias_ih"),
}
STANDARD = {
    "backward output not aligned": ("xp.stack(ys[::-1] if reverse else ys, axis=0)", "xp.stack(ys, axis=0)"),
}
SEQUENCE = {
    "batch_first ignored in the output": (
        "(_with_first_axes_swapped(output, xp) if self.batch_first else output)",
        "output",
    ),
}
MUTATIONS = {
    name: (file, *change)
    for file, changes in (
        ("_cell.py", CELL),
        ("_weights.py", WEIGHTS),
        ("engines/_stack.py", STACK),
        ("engines/standard.py", STANDARD),
        ("_sequence.py", SEQUENCE),
    )
    for name, change in changes.items()
}


def run_suite(folder: Path, mutation: tuple[str, str, str] | None) -> subprocess.CompletedProcess[str]:
    """Run the comparison with torch on a copy of the package with one change in it."""
    shutil.copytree(PACKAGE, folder / "lstm_xp", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(TESTS, folder / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(TESTS.parent / "pyproject.toml", folder)
    if mutation is not None:
        name, old, new = mutation
        path = folder / "lstm_xp" / name
        source = path.read_text()
        assert source.count(old) == 1, f"{old!r} stands {source.count(old)} times in {name}"
        path.write_text(source.replace(old, new))
    # -m pytest, and from that folder: its lstm_xp is the one that is imported.
    command = [sys.executable, "-m", "pytest", "tests/test_torch_oracle.py", "-x", "-q", "-k", "not 1000", "--xp=torch"]
    return subprocess.run(
        [*command, "-p", "no:cacheprovider", "-p", "no:xdist"], cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.mark.needs("torch")
@pytest.mark.parametrize("name", MUTATIONS)
def test_a_wrong_line_turns_the_suite_red(tmp_path: Path, name: str) -> None:
    done = run_suite(tmp_path, MUTATIONS[name])
    assert done.returncode == 1, done.stdout + done.stderr
    assert "differs by" in done.stdout or "has shape" in done.stdout, done.stdout


@pytest.mark.needs("torch")
def test_the_copy_itself_is_green(tmp_path: Path) -> None:
    done = run_suite(tmp_path, None)
    assert done.returncode == 0, done.stdout + done.stderr
