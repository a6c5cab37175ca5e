"""JAX under jit, Dask and ndonnx: nothing that depends on values, nothing computed behind the user's back."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import lstm_xp as lx
from conformance.cases import Case, map_arrays
from conformance.compare import TOLERANCE, assert_equal, flat
from conformance.oracle import torch_answer


@pytest.mark.needs("jax")
class TestJax:
    def test_the_program_is_as_long_for_a_thousand_steps_as_for_ten(self) -> None:
        """And with it the time to compile it."""
        import jax

        programs = []
        for time in (10, 1000):
            case = Case(time=time, num_layers=2, bidirectional=True, dtype="float32")
            arrays = map_arrays(jax.numpy.asarray, (case.x(), case.weights(), case.state(), case.lengths()))
            functions = (loss, jax.grad(loss, argnums=1))
            programs += [len(jax.jit(function).lower(*arrays).as_text().splitlines()) for function in functions]
        assert programs[:2] == programs[2:]

    def test_an_eager_call_is_compiled_once(self) -> None:
        import jax

        from lstm_xp.engines import jax as engine

        case = Case(dtype="float32", hidden_size=6)
        net = case.lstm(jax.numpy.asarray)
        before = engine._run._cache_size()
        for seed in range(3):
            net(jax.numpy.asarray(case.replace(seed=seed).x()))
        assert engine._run._cache_size() == before + 1

    @pytest.mark.usefixtures("without_x64")
    def test_float64_is_never_downcast_silently(self) -> None:
        import jax

        with pytest.raises(TypeError, match="`dtype` is 'float64', of which jax.numpy would make float32"):
            Case().lstm().to(jax.numpy)
        with pytest.raises(TypeError, match="jax.numpy would make float32"):
            lx.LSTM(5, 4, xp=jax.numpy, dtype="float64")
        assert lx.LSTM(5, 4, xp=jax.numpy).dtype == "float32"

    @pytest.mark.usefixtures("without_x64")
    def test_float64_is_refused_within_jax_too(self) -> None:
        import jax

        net = lx.LSTM(5, 4, xp=jax.numpy, seed=0)
        with pytest.raises(TypeError, match="jax.numpy would make float32"):
            net.to(dtype="float64")
        assert net.to(np, dtype="float64").dtype == np.float64

    def test_a_batch_on_several_devices(self) -> None:
        """Four of them, in a process of its own; lengths lie as the batch does. The output stays where it is."""
        program = """
            import jax, numpy as np, lstm_xp as lx
            from jax import numpy as jnp
            from jax.sharding import NamedSharding, PartitionSpec as P
            assert jax.device_count() == 4
            mesh = jax.make_mesh((4,), ("batch",))
            put = lambda a, *axes: jax.device_put(a, NamedSharding(mesh, P(*axes)))
            net = lx.LSTM(5, 4, bidirectional=True, seed=0)
            x = np.random.default_rng(0).standard_normal((7, 8, 5)).astype("float32")
            lengths = np.arange(8, dtype="int32")
            replicated = jax.tree.map(put, net.to(jnp).weights)
            for weights in (replicated, net.to(jnp).weights):
                for engine in ("jax", "standard"):
                    output, _ = lx.lstm(put(x, None, "batch"), weights, lengths=put(lengths, "batch"), engine=engine)
                    assert np.abs(np.asarray(output) - net(x, lengths=lengths)[0]).max() < 1e-6
                    assert len(output.devices()) == 4
            sharded = lx.LSTM.from_weights(jax.tree.map(lambda a: put(a, "batch"), net.to(jnp).weights))
            assert (sharded.to(np).weights[0][1].weight_hh == net.weights[0][1].weight_hh).all()
            print("right")
        """
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", textwrap.dedent(program)],
            env=os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout == "right\n", done.stderr

    @pytest.mark.usefixtures("without_x64")
    def test_lengths_as_jax_has_them_without_x64(self) -> None:
        import jax

        case = Case(dtype="float32")
        lengths = jax.numpy.asarray(case.lengths())
        assert lengths.dtype == "int32"
        actual = case.lstm(jax.numpy.asarray)(jax.numpy.asarray(case.x()), lengths=lengths)
        expected = case.lstm()(case.x(), lengths=case.lengths())
        assert_equal(map_arrays(np.asarray, flat(actual)), flat(expected), 1e-6)

    @pytest.fixture
    def without_x64(self) -> Iterator[None]:
        """JAX as it comes."""
        import jax

        before = jax.config.jax_enable_x64
        jax.config.update("jax_enable_x64", False)
        yield
        jax.config.update("jax_enable_x64", before)


def loss(x: Any, weights: Any, state: Any, lengths: Any) -> Any:
    return sum((array**2).sum() for array in flat(lx.lstm(x, weights, state, lengths=lengths)))


@pytest.mark.needs("dask.array", "torch")
class TestDask:
    CASE = Case(time=3, num_layers=2, bidirectional=True, proj_size=2)

    def arrays(self, chunks: Any) -> tuple[Any, ...]:
        import dask.array as da

        h_0, c_0 = (da.from_array(a, chunks=(-1, chunks[1], -1)) for a in self.CASE.state())
        return da.from_array(self.CASE.x(), chunks=chunks), (h_0, c_0), da.from_array(self.CASE.lengths(), chunks=2)

    @pytest.mark.parametrize("own", [False, True], ids=["numpy-weights", "dask-weights"])
    @pytest.mark.parametrize("chunks", [(-1, 1, -1), (1, 2, -1), (2, 2, 3)], ids=str)
    def test_nothing_is_computed_until_asked(self, own: bool, chunks: Any) -> None:
        import dask
        import dask.array as da

        def refuse(*_: Any, **__: Any) -> None:
            raise AssertionError("computed behind the user's back")

        asarray = da.from_array if own else np.asarray
        x, state, lengths = self.arrays(chunks)
        net = self.CASE.lstm(asarray)
        with dask.config.set(scheduler=refuse):
            result = flat(net(x, state, lengths=lengths))
            mixed = flat(net(x, self.CASE.state(), lengths=self.CASE.lengths()))
        assert {type(array) for array in (*result, *mixed)} == {da.Array}
        expected = torch_answer(self.CASE.replace(valid="lengths"))
        assert_equal(dask.compute(*result), expected, 1e-14)
        assert_equal(dask.compute(*mixed), expected, 1e-14)

    def test_lengths_and_masks_of_its_blocks(self) -> None:
        """They become Dask's, whose functions do not all take NumPy's arrays."""
        import dask.array as da

        for case in (
            Case(valid="lengths", batch=4, start="one"),
            Case(valid="mask", masked_output="hold", num_layers=2, proj_size=2),
            Case(valid="mask", masked_output="hold", batch=None, reverse=True),
        ):
            given = case.arguments()
            given |= {"lengths": given["lengths"].astype("uint8")} if case.valid == "lengths" else {}
            actual = flat(case.lstm()(**given | {"x": da.from_array(given["x"])}))
            assert {type(array) for array in actual} == {da.Array}
            assert_equal([array.compute() for array in actual], flat(case.lstm()(**given)), 1e-14)

    @pytest.mark.needs("jax")
    def test_weights_of_neither_dask_nor_its_blocks_are_refused(self) -> None:
        import dask.array as da
        from jax import numpy as jnp

        case = self.CASE.replace(dtype="float32")
        x = da.from_array(case.x(), chunks=(-1, 1, -1))
        with pytest.raises(TypeError, match="`x` is an array of dask.array, expected jax.numpy as the weights"):
            case.lstm(jnp.asarray)(x)
        with pytest.raises(TypeError, match="`h_0` is an array of jax.numpy, expected dask.array or numpy"):
            case.lstm()(x, map_arrays(jnp.asarray, case.state()))
        ((cell,),) = Case().weights()
        for mixed in (
            cell._replace(bias_ih=da.from_array(cell.bias_ih)),
            cell._replace(weight_ih=da.from_array(cell.weight_ih)),
        ):
            with pytest.raises(TypeError, match="is an array of"):
                lx.LSTM.from_weights(mixed)

    def test_float16_which_dask_has_but_does_not_name(self) -> None:
        import dask.array as da

        net = self.CASE.replace(dtype="float16").lstm()
        for there in (net.to(da), net.to(da).to(), lx.LSTM(5, 4, xp=da, dtype="float32").to(dtype="float16")):
            assert there.dtype == np.float16
            assert there.to(np).dtype == np.float16

    def test_the_cell_takes_numpy_weights_and_states_too(self) -> None:
        import dask.array as da

        ((cell,),) = Case().weights()
        x, (h, c) = Case().x()[0], (a[0] for a in Case().state())
        actual = lx.lstm_cell(da.from_array(x, chunks=(1, -1)), cell, (h, c))
        for a, e in zip(actual, lx.lstm_cell(x, cell, (h, c)), strict=True):
            assert isinstance(a, da.Array)
            np.testing.assert_allclose(a.compute(), e, rtol=0, atol=1e-14)

    def test_unknown_sizes_are_refused(self) -> None:
        import dask
        import dask.array as da

        some = da.from_array(np.array([True, False, True]), chunks=1)
        x = da.from_array(self.CASE.x(), chunks=(-1, 1, -1))
        with pytest.raises(ValueError, match="`x` has an unknown number of time steps, expected at least one"):
            self.CASE.lstm()(x[some])
        x = x[:, some]
        with pytest.raises(ValueError, match=r"`x` has shape \(3, nan, 5\), expected sizes that are known"):
            self.CASE.lstm()(x)
        actual = dask.compute(*flat(self.CASE.lstm()(x.compute_chunk_sizes())))
        assert_equal(actual, flat(self.CASE.lstm()(self.CASE.x()[:, [0, 2]])), 1e-14)


@pytest.mark.needs("ndonnx", "torch")
class TestNdonnx:
    CASE = Case(time=2, bidirectional=True, dtype="float32")

    @pytest.mark.parametrize("valid", ["lengths", "mask"])
    def test_eager(self, valid: str) -> None:
        import ndonnx as ndx

        case = self.CASE.replace(valid=valid, masked_output="hold", batch=4)
        result = flat(case.lstm(ndx.asarray)(**map_arrays(ndx.asarray, case.arguments())))
        assert_equal(map_arrays(lambda a: a.unwrap_numpy(), result), torch_answer(case), TOLERANCE["float32"])

    @pytest.mark.parametrize("norm", [None, "joint", "each"])
    def test_traced_to_onnx_with_a_symbolic_batch(self, norm: str | None) -> None:
        """The graph runs in ONNX Runtime at batch sizes that were not known when it was made."""
        import ndonnx as ndx
        import onnxruntime

        # A norm is a graph twice as large: one direction of it.
        case = self.CASE.replace(proj_size=2, norm=norm, bidirectional=norm is None)
        x = ndx.argument(shape=(case.time, "N", case.input_size), dtype=ndx.float32)
        lengths = ndx.argument(shape=("N",), dtype=ndx.int64)
        one = tuple(a[:, :1] for a in case.state())
        options = lx.CellOptions(norm_gates=norm or "joint", norm_carry=True)
        net = case.lstm(ndx.asarray, options=options)
        output, (h_n, c_n) = net(x, map_arrays(ndx.asarray, one), lengths=lengths)
        model = ndx.build({"x": x, "lengths": lengths}, {"output": output, "h_n": h_n, "c_n": c_n})
        session = onnxruntime.InferenceSession(model.SerializeToString())
        for batch in (3, 5):
            each = case.replace(batch=batch)
            given = np.arange(batch) % 3
            actual = session.run(["output", "h_n", "c_n"], {"x": each.x(), "lengths": given})
            expected = flat(case.lstm(options=options)(each.x(), one, lengths=given))
            assert_equal(actual, expected, TOLERANCE["float32"])


@pytest.mark.needs("ndonnx")
def test_weights_come_back_from_ndonnx(tmp_path: Any) -> None:
    import ndonnx as ndx

    net = lx.LSTM(5, 4, seed=0)
    there = net.to(ndx)
    lx.save(tmp_path / "net.npz", there)
    for back in (there.to(np), lx.load(tmp_path / "net.npz")):
        for name, array in net.state_dict().items():
            np.testing.assert_array_equal(back.state_dict()[name], array)
    lazy = ndx.argument(shape=(16, 5), dtype=ndx.float32)
    with pytest.raises(TypeError, match="`weight_ih_l0` .* cannot become a NumPy array"):
        lx.LSTM.from_weights(there.weights[0][0]._replace(weight_ih=lazy)).to(np)


@pytest.mark.needs("ndonnx")
def test_an_unknown_number_of_features_is_taken() -> None:
    """Whether it is the right one is found when the graph runs."""
    import ndonnx as ndx
    import onnxruntime

    case = Case(time=2, dtype="float32")
    x = ndx.argument(shape=(case.time, case.batch, "I"), dtype=ndx.float32)
    output, _ = case.lstm(ndx.asarray)(x)
    session = onnxruntime.InferenceSession(ndx.build({"x": x}, {"output": output}).SerializeToString())
    expected, _ = case.lstm()(case.x())
    np.testing.assert_allclose(session.run(["output"], {"x": case.x()})[0], expected, rtol=0, atol=1e-6)


@pytest.mark.needs("ndonnx")
def test_an_unknown_number_of_steps_is_refused() -> None:
    import ndonnx as ndx

    x = ndx.argument(shape=("T", 3, 5), dtype=ndx.float64)
    with pytest.raises(ValueError, match="`x` has an unknown number of time steps, expected at least one"):
        Case().lstm(ndx.asarray)(x)
