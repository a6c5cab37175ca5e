"""What every framework is asked: the same numbers as its own LSTM, and its own arrays back."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

import lstm_xp as lx

TOLERANCE = 1e-6  # of float32 values of order one, as in conformance/compare.py

# A framework may compile for every shape: few examples, and as slow as it likes.
few = settings(max_examples=6, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@dataclass(frozen=True)
class Sizes:
    """Time, batch, input and hidden size, all different."""

    T: int
    N: int
    I: int  # noqa: E741
    H: int


sizes = st.lists(st.integers(1, 9), min_size=4, max_size=4, unique=True).map(lambda four: Sizes(*four))


def draw(*shape: int, seed: int = 0, scale: float = 1.0) -> np.ndarray:
    """Return numbers of order one, none of them zero."""
    rng = np.random.default_rng([seed, *shape])
    return (scale * rng.uniform(-1, 1, shape)).astype("float32")


def fill(shapes: Any, seed: int = 1) -> Any:
    """Return nested mappings and sequences of arrays of the shapes given, each leaf drawn anew; biases too."""
    leaves = iter(range(10_000))

    def walk(tree: Any) -> Any:
        if hasattr(tree, "shape"):
            return draw(*tree.shape, seed=seed + next(leaves), scale=0.7)
        if isinstance(tree, Mapping):
            return {key: walk(value) for key, value in tree.items()}
        return [walk(each) for each in tree]

    return walk(shapes)


def state(rows: int, s: Sizes, proj_size: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return (h_0, c_0), shapes (rows, N, .)."""
    return draw(rows, s.N, proj_size or s.H, seed=2), draw(rows, s.N, s.H, seed=3, scale=1.5)


def leaves(tree: Any, path: str = "") -> Iterator[tuple[str, np.ndarray]]:
    """Yield the arrays of nested mappings and sequences, with where they are."""
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from leaves(value, f"{path}/{key}")
    elif isinstance(tree, (tuple, list)):
        for k, value in enumerate(tree):
            yield from leaves(value, f"{path}[{k}]")
    else:
        yield path, np.asarray(tree)


def assert_same_arrays(actual: Any, expected: Any) -> None:
    """Assert that two trees hold the same arrays, bit for bit, under the same names."""
    a, e = dict(leaves(actual)), dict(leaves(expected))
    assert a.keys() == e.keys()
    for name, array in e.items():
        assert (a[name].shape, a[name].dtype) == (array.shape, array.dtype), name
        assert a[name].tobytes() == array.tobytes(), name


def assert_close(actual: Any, expected: Any) -> None:
    """Assert that two tuples (output, (h_n, c_n)) hold the same numbers."""
    (output, states), (expected_output, expected_states) = actual, expected
    for a, e in zip((output, *states), (expected_output, *expected_states), strict=True):
        assert np.asarray(a).shape == np.asarray(e).shape
        np.testing.assert_allclose(np.asarray(a), np.asarray(e), rtol=0, atol=TOLERANCE)


def assert_agrees(
    net: lx.LSTM, run: Callable[..., Any], s: Sizes, *, back: Any = None, weights: Any = None, **settings: Any
) -> None:
    """
    Assert that an LSTM gives what a framework's own does, and that its arrays come back.

    `run(x, h_0, c_0)` takes and returns arrays as lx does: (T, N, I), (rows, N, H), unless the LSTM is batch-first.
    """
    x = draw(s.T, s.N, s.I, seed=4, scale=2)
    x = x.swapaxes(0, 1) if net.batch_first else x
    start = state(net.num_layers * (1 + net.bidirectional), s, net.proj_size)
    assert_close(net(x, start, **settings), run(x, *start))
    if back is not None:
        assert_same_arrays(back(net), weights)


def cells(run: Callable[..., Any], layers: list[list[Any]], x: Any, h_0: Any, c_0: Any, xp: Any = np) -> Any:
    """
    Run cells of a framework that has nothing above them, layer by layer, the second of a pair backward.

    `run(weights, x, h, c)` runs one over time: (T, N, I), (N, H), (N, H) to (T, N, H), h, c.
    """
    h_n, c_n = [], []
    for layer in layers:
        outputs = []
        for d, weights in enumerate(layer):
            row = len(h_n)
            output, h, c = run(weights, xp.flip(x, axis=0) if d else x, h_0[row], c_0[row])
            outputs.append(xp.flip(output, axis=0) if d else output)
            h_n.append(h)
            c_n.append(c)
        x = xp.concatenate(outputs, axis=-1)
    return x, (xp.stack(h_n), xp.stack(c_n))
