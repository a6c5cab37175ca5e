"""
``python -m conformance.freeze``: keep the oracles' answers, for machines that do not have them.

The suite is run on NumPy and on torch, which differentiates, over the lengths of time and in the dtypes that libraries
have: what it asked is what is kept. ``--check`` compares with what was kept before.
"""

import argparse
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from conformance import oracle
from conformance.backends import BACKENDS
from conformance.cases import STEPS
from conformance.compare import compare

# What another machine's torch or ONNX Runtime may add up differently.
ROUNDING = {"torch": 1e-14, "onnxruntime": 1e-6}


def ask_everything() -> dict[str, dict[str, oracle.Answer]]:
    """Return what the suite asks the oracles, and their answers."""
    here = Path(__file__).parent
    lengths = sorted({min(row.steps, STEPS["core"]) for row in BACKENDS})
    # A library with one dtype runs the cases of the other in its own.
    dtypes = ((), ("--dtype=float32",), ("--dtype=float64",))
    runs = [[str(here), f"--steps={steps}", *dtype] for steps in lengths for dtype in dtypes]
    # Of the second tier all but the product of settings: those answers would fill a hundred megabytes.
    runs.append([*map(str, (here / "test_long.py", here / "test_accuracy.py")), "--tier=full", "-k", "not any_case"])
    for arguments in runs:
        settings = ["--xp=numpy,torch", "--oracle=live", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist"]
        if pytest.main([*arguments, *settings]) != 0:
            msg = "the suite does not pass: nothing was kept"
            raise SystemExit(msg)
    return oracle.asked


def keep(name: str, answers: dict[str, oracle.Answer]) -> None:
    """Write an oracle's answers, the file whole or not at all."""
    arrays = {f"{question}/{k}": array for question, each in sorted(answers.items()) for k, array in enumerate(each)}
    arrays["version"] = np.array(metadata.version(name))
    path = oracle.REFERENCE / f"{name}.npz"
    unfinished = path.with_suffix(".unfinished.npz")
    np.savez_compressed(unfinished, **arrays)
    unfinished.replace(path)
    sys.stdout.write(f"{path.name}: {len(answers)} answers, {path.stat().st_size / 1024:.0f} kB\n")


def differences(name: str, answers: dict[str, oracle.Answer]) -> list[str]:
    """Return in what an oracle's answers are not those that were kept."""
    kept = oracle.frozen(name)
    found = [f"{name}: not kept: {question}" for question in sorted(answers.keys() - kept.keys())]
    found += [f"{name}: no longer asked: {question}" for question in sorted(kept.keys() - answers.keys())]
    for question in sorted(answers.keys() & kept.keys()):
        names = tuple(f"array {k}" for k in range(len(answers[question])))
        try:
            compare(kept[question], answers[question], ROUNDING[name], names)
        except (AssertionError, ValueError) as error:
            found.append(f"{name}: {question}: {error}")
    return found


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m conformance.freeze", description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare with what is kept; exit with 1 where it differs")
    check = parser.parse_args().check
    answers = ask_everything()
    if not check:
        for name, each in answers.items():
            keep(name, each)
        return
    found = [line for name, each in answers.items() for line in differences(name, each)]
    sys.stdout.write("".join(f"{line}\n" for line in found) or "the frozen answers are those of today\n")
    raise SystemExit(bool(found))


if __name__ == "__main__":
    main()
