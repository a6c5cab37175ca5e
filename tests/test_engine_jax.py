"""The engine for JAX: each layout that it chooses, derivatives in both directions, and batches on several devices."""

import os
import subprocess
import sys
import textwrap
from typing import Any

import numpy as np
import pytest
import torch

import lstm_xp as lx

pytestmark = pytest.mark.needs("jax", "torch")

# (N, I, H) for which it lays out its steps differently.
SIZES = [(1, 5, 4), (1, 5, 40), (3, 5, 4), (2, 5, 512)]
T = 7


class Both:
    """The same LSTM in torch and in JAX, in float64, with states and weights for the results."""

    def __init__(self, size: tuple[int, int, int], *, bidirectional: bool) -> None:
        import jax
        from jax import numpy as jnp

        jax.config.update("jax_enable_x64", True)
        N, features, H = size
        D = 1 + bidirectional
        torch.manual_seed(0)
        self.module = torch.nn.LSTM(features, H, bidirectional=bidirectional, dtype=torch.float64)
        rng = np.random.default_rng(0)
        shapes = (T, N, features), (D, N, H), (D, N, H)
        self.arrays = [rng.standard_normal(shape) for shape in shapes]
        self.cotangents = [rng.standard_normal(shape) for shape in ((T, N, D * H), (D, N, H), (D, N, H))]
        self.tensors = [torch.tensor(array, requires_grad=True) for array in self.arrays]
        self.names = list(self.module.state_dict())
        self.leaves = [jnp.asarray(a) for a in [*self.arrays, *(w.numpy() for w in self.module.state_dict().values())]]
        self.tangents = [jnp.asarray(rng.standard_normal(leaf.shape)) for leaf in self.leaves]

    def of_torch(self) -> torch.Tensor:
        x, h_0, c_0 = self.tensors
        output, state = self.module(x, (h_0, c_0))
        return sum((a * torch.tensor(b)).sum() for a, b in zip((output, *state), self.cotangents, strict=True))

    def torch_leaves(self) -> list[torch.Tensor]:
        return [*self.tensors, *self.module.parameters()]

    def of_jax(self, leaves: list[Any], lengths: Any = None) -> Any:
        x, h_0, c_0, *weights = leaves
        net = lx.LSTM.from_state_dict(dict(zip(self.names, weights, strict=True)))
        output, state = net(x, (h_0, c_0), lengths=lengths, engine="jax")
        return sum((a * b).sum() for a, b in zip((output, *state), self.cotangents, strict=True))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("bidirectional", [False, True])
class TestDerivatives:
    def test_in_reverse(self, size: tuple[int, int, int], bidirectional: bool) -> None:
        import jax

        both = Both(size, bidirectional=bidirectional)
        expected = torch.autograd.grad(both.of_torch(), both.torch_leaves())
        for ours, theirs in zip(jax.jit(jax.grad(both.of_jax))(both.leaves), expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-13 * float(theirs.abs().max()) + 1e-13)

    def test_forward(self, size: tuple[int, int, int], bidirectional: bool) -> None:
        """The tangent is the gradient's product with the direction."""
        import jax

        both = Both(size, bidirectional=bidirectional)
        expected = torch.autograd.grad(both.of_torch(), both.torch_leaves())
        terms = [float((g.numpy() * np.asarray(d)).sum()) for g, d in zip(expected, both.tangents, strict=True)]
        _, tangent = jax.jvp(both.of_jax, (both.leaves,), (both.tangents,))
        np.testing.assert_allclose(tangent, sum(terms), rtol=0, atol=1e-13 * sum(map(abs, terms)))


@pytest.mark.parametrize("size", SIZES[:3])
def test_second_derivatives(size: tuple[int, int, int]) -> None:
    """Forward over reverse, against torch's reverse over reverse."""
    import jax

    both = Both(size, bidirectional=False)
    first = torch.autograd.grad(both.of_torch(), both.torch_leaves(), create_graph=True)
    inner = sum((g * torch.tensor(np.asarray(d))).sum() for g, d in zip(first, both.tangents, strict=True))
    expected = torch.autograd.grad(inner, both.torch_leaves())
    _, actual = jax.jvp(jax.grad(both.of_jax), (both.leaves,), (both.tangents,))
    for ours, theirs in zip(actual, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12 * float(theirs.abs().max()) + 1e-13)


@pytest.mark.parametrize("size", SIZES[1:])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_ragged(size: tuple[int, int, int], bidirectional: bool) -> None:
    """Padding is NaN; what is left of each row is an LSTM of torch's, in numbers and gradients."""
    import jax
    from jax import numpy as jnp

    both = Both(size, bidirectional=bidirectional)
    lengths = np.asarray([4, 6, 2][: size[0]])
    padding = np.arange(T)[:, None] >= lengths
    both.cotangents[0][padding] = 0  # torch's module sees no padding
    total = 0
    for row, length in enumerate(lengths):
        x, h_0, c_0 = (tensor[:, row : row + 1] for tensor in both.tensors)
        output, state = both.module(x[:length], (h_0, c_0))
        results = zip((output, *state), both.cotangents, strict=True)
        total += sum((a * torch.tensor(b[: len(a), row : row + 1])).sum() for a, b in results)
    expected = torch.autograd.grad(total, both.torch_leaves())
    both.leaves[0] = jnp.where(jnp.asarray(padding)[:, :, None], jnp.nan, both.leaves[0])
    value, actual = jax.value_and_grad(both.of_jax)(both.leaves, jnp.asarray(lengths))
    np.testing.assert_allclose(value, total.item(), rtol=1e-12)
    for ours, theirs in zip(actual, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-13 * float(theirs.abs().max()) + 1e-13)


def test_a_sharded_batch_needs_no_communication() -> None:
    """On four devices, in a process of its own: in no layout does the compiled forward pass hold a collective."""
    program = """
        import re, jax, numpy as np, lstm_xp as lx
        from jax.sharding import NamedSharding, PartitionSpec as P
        mesh = jax.make_mesh((4,), ("batch",))
        put = lambda a, *axes: jax.device_put(a, NamedSharding(mesh, P(*axes)))
        for size in (4, 512):
            net = lx.LSTM(5, size, bidirectional=True, seed=0).to(jax.numpy)
            weights = jax.tree.map(put, net.weights)
            x, lengths = put(np.ones((3, 8, 5), "float32"), None, "batch"), put(np.arange(8, dtype="int32"), "batch")
            for given in (None, lengths):
                compiled = jax.jit(lambda x, n, w: lx.lstm(x, w, lengths=n)[0]).lower(x, given, weights).compile()
                print(re.findall("all-[a-z]+|reduce-scatter|collective-[a-z]+", compiled.as_text()))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env=os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "[]\n" * 4, done.stderr


@pytest.mark.parametrize(
    ("size", "columns", "input_first"),
    [
        # Weights of 2**12 elements are small, those of more than 2**20 large.
        ((1, 48, 16), False, False),
        ((1, 49, 16), True, True),
        ((2, 49, 16), False, False),
        ((2, 768, 256), False, False),
        ((2, 769, 256), True, False),
        ((1, 769, 256), True, True),
    ],
    ids=str,
)
def test_which_sizes_are_laid_out_how(
    size: tuple[int, int, int], columns: bool, input_first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    import jax

    from lstm_xp.engines import jax as jax_engine

    N, features, H = size
    found: list[Any] = []
    original = jax_engine._scan
    jax_engine._run.clear_cache()  # what was traced before is not traced again
    monkeypatch.setattr(jax_engine, "_scan", lambda layout, inputs: (found.append(layout), original(layout, inputs))[1])
    x = jax.ShapeDtypeStruct((T, N, features), "float32")
    net = lx.LSTM(features, H, seed=0, xp=jax.numpy, dtype=jax.numpy.float32)
    jax.eval_shape(lambda x: net(x)[0], x)
    (layout,) = found
    assert (layout.columns, layout.input_first) == (columns, input_first)
