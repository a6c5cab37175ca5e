"""JAX under jit, Dask and ndonnx: nothing that depends on values, nothing computed behind the user's back."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from cases import TOLERANCE, Case, assert_equal, flat, map_arrays, torch_answer, torch_masked_answer

import lstm_xp as lx


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

        with pytest.raises(TypeError, match="`weight_ih_l0` would become float32 in jax.numpy, expected float64"):
            Case().lstm().to(jax.numpy)
        with pytest.raises(TypeError, match="would become float32"):
            lx.LSTM(5, 4, xp=jax.numpy, dtype="float64")
        assert lx.LSTM(5, 4, xp=jax.numpy).dtype == "float32"

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
        expected = torch_answer(self.CASE, lengths=self.CASE.lengths())
        assert_equal(dask.compute(*result), expected, 1e-14)
        assert_equal(dask.compute(*mixed), expected, 1e-14)

    def test_an_unknown_batch_size_is_refused(self) -> None:
        import dask
        import dask.array as da

        x = da.from_array(self.CASE.x(), chunks=(-1, 1, -1))[:, da.from_array(np.array([True, False, True]), chunks=1)]
        with pytest.raises(ValueError, match=r"`x` has shape \(3, nan, 5\), expected sizes that are known"):
            self.CASE.lstm()(x)
        actual = dask.compute(*flat(self.CASE.lstm()(x.compute_chunk_sizes())))
        assert_equal(actual, flat(self.CASE.lstm()(self.CASE.x()[:, [0, 2]])), 1e-14)


@pytest.mark.needs("ndonnx", "torch")
class TestNdonnx:
    CASE = Case(time=2, num_layers=2, bidirectional=True, dtype="float32")

    @pytest.mark.parametrize("kind", ["lengths", "mask"])
    def test_eager(self, kind: str) -> None:
        import ndonnx as ndx

        case = self.CASE
        given = np.array([2, 0, 1]) if kind == "lengths" else np.array([[True, False, False], [True, True, False]])
        valid = np.arange(case.time)[:, None] < given if kind == "lengths" else given
        net = case.lstm(ndx.asarray, masked_output="hold")
        x, state = map_arrays(ndx.asarray, (case.x(), case.state()))
        actual = map_arrays(lambda a: a.unwrap_numpy(), flat(net(x, state, **{kind: ndx.asarray(given)})))
        assert_equal(actual, torch_masked_answer(case, valid, masked_output="hold"), TOLERANCE["float32"])

    def test_traced_to_onnx_with_a_symbolic_batch(self) -> None:
        """The graph runs in ONNX Runtime at batch sizes that were not known when it was made."""
        import ndonnx as ndx
        import onnxruntime

        case = self.CASE.replace(num_layers=1, proj_size=2)
        x = ndx.argument(shape=(case.time, "N", case.input_size), dtype=ndx.float32)
        lengths = ndx.argument(shape=("N",), dtype=ndx.int64)
        one = tuple(a[:, :1] for a in case.state())
        net = case.lstm(ndx.asarray)
        output, (h_n, c_n) = net(x, map_arrays(ndx.asarray, one), lengths=lengths)
        model = ndx.build({"x": x, "lengths": lengths}, {"output": output, "h_n": h_n, "c_n": c_n})
        session = onnxruntime.InferenceSession(model.SerializeToString())
        for batch in (3, 5):
            each = case.replace(batch=batch)
            given = np.arange(batch) % 3
            actual = session.run(["output", "h_n", "c_n"], {"x": each.x(), "lengths": given})
            assert_equal(actual, flat(case.lstm()(each.x(), one, lengths=given)), TOLERANCE["float32"])


@pytest.mark.needs("ndonnx")
def test_an_unknown_number_of_steps_is_refused() -> None:
    import ndonnx as ndx

    x = ndx.argument(shape=("T", 3, 5), dtype=ndx.float64)
    with pytest.raises(ValueError, match="`x` has an unknown number of time steps, expected at least one"):
        Case().lstm(ndx.asarray)(x)
