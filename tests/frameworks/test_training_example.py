"""The example that trains with NumPy alone, where it meets Keras and optax."""

import re
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from tests.test_training_example import EXAMPLE, TOLERANCE, program, steps


@pytest.mark.needs("keras", "torch", "onnx", "onnxruntime")
def test_the_weights_elsewhere() -> None:
    """As a user runs it, in a process of its own: Keras chooses its backend once."""
    command = [sys.executable, "elsewhere.py"]
    printed = subprocess.run(command, cwd=EXAMPLE, capture_output=True, text=True, check=True).stdout
    lines = re.findall(r"(.+?) +495 of 500 right, outputs within (.+)", printed)
    assert [who for who, _ in lines] == ["NumPy", "torch", "Keras", "ONNX Runtime"]
    assert max(float(gap) for _, gap in lines) < TOLERANCE


@pytest.mark.needs("jax", "optax")
def test_the_optimiser_of_optax() -> None:
    train, optimisers = program("train"), program("optimisers")
    begin: Any = train.draw_model(4, 7)
    expected = optimisers.by_numpy(begin, steps(train, 10))
    trained = optimisers.by_optax(begin, steps(train, 10), train.Settings(steps=10))
    for array, each in zip(train.arrays(trained), train.arrays(expected), strict=True):
        np.testing.assert_allclose(array, each, rtol=0, atol=1e-12)
