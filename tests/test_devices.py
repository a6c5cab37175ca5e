"""Devices and namespaces: those that are told, and those that are not."""

import os
import subprocess
import sys
import textwrap
from types import SimpleNamespace

import numpy as np
import pytest

import lstm_xp as lx
from conformance.cases import Case, map_arrays
from conformance.compare import assert_equal, flat
from lstm_xp._namespace import device_of, is_alike, standard_namespace

CASE = Case(dtype="float32")


@pytest.mark.needs("torch", "dask")
def test_what_is_alike_at_a_glance() -> None:
    import dask.array as da
    import torch

    array, tensor = np.ones(2, np.float32), torch.ones(2)
    assert is_alike(array, array.copy())
    assert is_alike(tensor, tensor.clone())
    for one, other in (
        (array, array.astype(np.float64)),
        (array, da.asarray(array)),  # whose dtypes are NumPy's
        (array, tensor),
        (tensor, array),
        (tensor, tensor.double()),
        (tensor, tensor.to("meta")),
    ):
        assert not is_alike(one, other)


@pytest.mark.needs("jax")
def test_traced_arrays_go_with_others() -> None:
    """A tracer has no device."""
    import jax

    x, weights, state = map_arrays(jax.numpy.asarray, (CASE.x(), CASE.weights(), CASE.state()))
    expected = flat(CASE.lstm()(CASE.x(), CASE.state()))
    for result in (
        jax.jit(lambda x: lx.lstm(x, weights, state))(x),
        jax.jit(lambda state: lx.lstm(x, weights, state))(state),
        jax.jit(lambda weights: lx.lstm(x, weights, state))(weights),
    ):
        assert_equal(map_arrays(np.asarray, flat(result)), expected, 1e-6)


@pytest.mark.needs("jax")
def test_several_devices_of_jax() -> None:
    """Arrays on different ones are refused, those that lie on several go with any: in a process that has four."""
    program = """
        import jax, numpy as np, lstm_xp as lx
        from jax.sharding import NamedSharding, PartitionSpec as P
        first, second, *_ = jax.devices()
        net = lx.LSTM(5, 4, seed=0).to(jax.numpy)
        x = jax.device_put(np.ones((7, 8, 5), "float32"), first)
        state = tuple(jax.device_put(np.ones((1, 8, 4), "float32"), second) for _ in range(2))
        try:
            net(x, state)
        except ValueError as error:
            print(error)
        mesh = jax.make_mesh((2,), ("batch",), devices=[first, second])
        halves = jax.device_put(x, NamedSharding(mesh, P(None, "batch")))
        output, _ = net(halves, engine="standard")
        print(len(output.devices()), abs(np.asarray(output) - np.asarray(net(x)[0])).max() < 1e-6)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env=os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines() == ["`h_0` is on another device than `x`", "2 True"], done.stderr


def test_what_others_call_devices_is_their_own() -> None:
    """The standard has `device` alone: `devices` is a method in JAX, and may be anything elsewhere."""
    assert device_of(SimpleNamespace(device="cpu", devices=("cpu", "gpu"))) == "cpu"


@pytest.mark.needs("mlx.core")
def test_a_library_that_tells_no_device() -> None:
    import mlx.core as mx

    case = CASE.replace(valid="lengths")
    arrays, weights = map_arrays(mx.array, (case.arguments(), case.weights()))
    result = map_arrays(np.array, flat(lx.lstm(weights=weights, **arrays)))
    assert_equal(result, flat(case.lstm()(**case.arguments())), 1e-6)


@pytest.mark.needs("torch")
def test_a_device_without_autocast() -> None:
    import torch

    on_meta = lambda array: torch.asarray(array, device="meta")
    x, weights, state = map_arrays(on_meta, (CASE.x(), CASE.weights(), CASE.state()))
    output, _ = lx.lstm(x, weights, state)
    assert output.device.type == "meta"
    assert output.shape == (7, 3, 4)


def test_a_namespace_has_all_of_the_standard() -> None:
    assert standard_namespace(np) is np
    for name in ("isdtype", "matrix_transpose"):
        half = SimpleNamespace(asarray=np.asarray, **{name: getattr(np, name)})
        assert standard_namespace(half).__name__ == "array_api_compat.numpy"
    with pytest.raises(TypeError, match="`xp` is '5', expected an array library"):
        standard_namespace(5)
