"""Streams: one time step at a time."""

import copy
import importlib
import pickle
import threading
import tracemalloc
from typing import Any

import numpy as np
import pytest

import lstm_xp as lx
from conformance.cases import Case
from conformance.oracle import torch_answer

CASE = Case(num_layers=2, dtype="float32")
PROJECTED = Case(num_layers=2, proj_size=2, hidden_size=6, batch=1)


def assert_close(actual: Any, expected: Any) -> None:
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-6)


@pytest.mark.needs("torch")
@pytest.mark.parametrize("engine", ["numpy", "standard"])
@pytest.mark.parametrize("case", [CASE, PROJECTED, Case(batch=None, num_layers=3)], ids=str)
def test_it_is_torchs_lstm_frame_by_frame(case: Case, engine: str) -> None:
    output, h_n, c_n = torch_answer(case)
    stream = case.lstm().stream(case.state(), case.batch, engine=engine)
    assert stream.engine == engine
    results = [stream(frame) for frame in case.x()]
    assert_close(results, output)
    assert_close(stream.state[0], h_n)
    assert_close(stream.state[1], c_n)
    assert all(array.flags.c_contiguous for array in (*results, *stream.state))


def test_by_default_it_starts_with_zeros_and_one_row() -> None:
    net, x = CASE.lstm(batch_first=True, masked_output="hold"), CASE.x()[:, :1]
    stream = net.stream()
    assert [array.shape for array in stream.state] == [(2, 1, 4), (2, 1, 4)]
    assert not np.any(stream.state)
    assert_close([stream(frame)[0] for frame in x], net(x.swapaxes(0, 1))[0][0])


@pytest.mark.parametrize("engine", ["numpy", "standard"])
def test_batch_first_is_of_sequences(engine: str) -> None:
    """A frame has no time axis."""
    net, x = CASE.lstm(batch_first=True), CASE.x()
    stream = net.stream(CASE.state(), np.int64(3), engine=engine)  # sizes may be NumPy's integers
    outputs = np.stack([stream(frame) for frame in x], axis=1)
    assert_close(outputs, net(x.swapaxes(0, 1), CASE.state())[0])


@pytest.mark.parametrize("engine", ["numpy", "standard"])
@pytest.mark.parametrize("batch", [3, 1, None])
def test_nothing_that_is_handed_over_is_shared(engine: str, batch: int | None) -> None:
    case = CASE.replace(batch=batch)
    h_0, c_0 = case.state()
    expected = case.lstm()(case.x(), case.state())[0]
    stream = case.lstm().stream((h_0, c_0), batch, engine=engine)
    h_0[...] = c_0[...] = np.nan
    frame, outputs = np.empty_like(case.x()[0]), []
    for x in case.x():
        frame[...] = x
        output = stream(frame)
        outputs.append(output.copy())
        for array in (frame, output, *stream.state):
            array[...] = np.nan
    assert_close(outputs, expected)


def test_outputs_stay_what_they_were() -> None:
    stream = CASE.lstm().stream(batch_size=3)
    first = stream(CASE.x()[0])
    before = first.copy()
    stream(CASE.x()[1])
    np.testing.assert_array_equal(first, before)


@pytest.mark.parametrize("engine", ["numpy", "standard"])
def test_the_state_can_be_set(engine: str) -> None:
    net, x = CASE.lstm(), CASE.x()
    stream = net.stream(batch_size=3, engine=engine)
    start = stream.state
    first = [stream(frame) for frame in x]
    for state in (None, start):
        stream.state = state
        np.testing.assert_array_equal([stream(frame) for frame in x], first)
    one = CASE.replace(start="one")
    stream.state = one.state()
    assert_close([stream(frame) for frame in x], net(x, one.state())[0])
    h, c = CASE.state()
    for wrong, message in (
        (
            (h[0], c),
            r"`h_0` has shape \(3, 4\), expected \(num_layers\*num_directions, batch, hidden_size\) = \(2, 3, 4\)",
        ),
        ((h, c.astype("float64")), "`c_0` has dtype float64, expected float32 as `x`"),
        (h, "`state` is a ndarray, expected a tuple"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            stream.state = wrong
        with pytest.raises((TypeError, ValueError), match=message):
            net.stream(wrong, 3)


@pytest.mark.parametrize(
    "duplicate", [lx.Stream.copy, copy.copy, copy.deepcopy, lambda stream: pickle.loads(pickle.dumps(stream))]
)
@pytest.mark.parametrize("case", [CASE, CASE.replace(batch=None)], ids=str)
def test_a_copy_goes_its_own_way(duplicate: Any, case: Case) -> None:
    net, x = case.lstm(), case.x()
    stream = net.stream(case.state(), case.batch, engine="standard")
    stream(x[0])
    other = duplicate(stream)
    assert other.engine == "standard"
    expected = stream(x[1])
    stream(x[2])
    np.testing.assert_array_equal(other(x[1]), expected)


class Subclass(lx.Stream):
    """A stream with a method of its own."""

    def twice(self, x: Any) -> Any:
        return self(x), self(x)


@pytest.mark.parametrize(
    "duplicate", [lx.Stream.copy, copy.deepcopy, lambda stream: pickle.loads(pickle.dumps(stream))]
)
def test_a_copy_is_of_the_same_class(duplicate: Any) -> None:
    stream = Subclass(CASE.lstm(), CASE.state(), 3)
    other = duplicate(stream)
    assert type(other) is Subclass
    np.testing.assert_array_equal(other.twice(CASE.x()[0]), stream.twice(CASE.x()[0]))
    assert repr(other) == "Subclass(LSTM(5, 4, num_layers=2), batch_size=3, engine='numpy')"


def test_two_threads_at_once_are_refused() -> None:
    """The second comes in the middle of the first one's step."""
    net, x = CASE.lstm(), CASE.x()
    stream = net.stream(batch_size=3)
    entered, leave, push = threading.Event(), threading.Event(), stream._push

    def slowly(frame: Any) -> Any:
        entered.set()
        assert leave.wait(10)
        return push(frame)

    stream._push = slowly
    results = []
    thread = threading.Thread(target=lambda: results.append(stream(x[0])))
    thread.start()
    assert entered.wait(10)
    for attempt in (lambda: stream(x[0]), lambda: stream.state, stream.copy, lambda: setattr(stream, "state", None)):
        with pytest.raises(RuntimeError, match="in use by another thread"):
            attempt()
    leave.set()
    thread.join()
    stream._push = push
    assert_close([results[0], stream(x[1])], net(x)[0][:2])


def test_streams_of_one_lstm_do_not_meet() -> None:
    net, x = CASE.lstm(), np.tile(CASE.x(), (300, 1, 1))
    expected = net(x)[0]
    results: dict[int, Any] = {}

    def work(k: int) -> None:
        stream = net.stream(batch_size=3)
        results[k] = [stream(frame) for frame in x]

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for k in range(4):
        assert_close(results[k], expected)


def test_after_an_interruption_the_state_has_to_be_set() -> None:
    net, x = CASE.lstm(), CASE.x()
    stream = net.stream(batch_size=3)
    with np.errstate(all="raise"), pytest.raises(FloatingPointError):
        stream(np.full_like(x[0], np.finfo("float32").max))
    for attempt in (lambda: stream(x[0]), lambda: stream.state, stream.copy):
        with pytest.raises(RuntimeError, match="interrupted in the middle of a step, expected its `state` to be set"):
            attempt()
    stream.state = None
    assert_close([stream(frame) for frame in x], net(x)[0])


def test_ctrl_c_is_such_an_interruption() -> None:
    """It comes in the middle of a step: as NumPy finds that something overflows."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    net, x = CASE.lstm(), CASE.x()
    stream = net.stream(batch_size=3)
    with np.errstate(over="call", call=interrupt), pytest.raises(KeyboardInterrupt):
        stream(np.full_like(x[0], np.finfo("float32").max))
    for attempt in (lambda: stream(x[0]), lambda: stream.state, stream.copy):
        with pytest.raises(RuntimeError, match="interrupted in the middle of a step, expected its `state` to be set"):
            attempt()
    stream.state = CASE.state()
    assert_close([stream(frame) for frame in x], net(x, CASE.state())[0])


def test_memory_does_not_grow() -> None:
    stream, frames = PROJECTED.lstm().stream(), PROJECTED.x()
    stream(frames[0])
    tracemalloc.start()
    try:
        for _ in range(50):
            stream(frames[0])
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(5000):
            stream(frames[0])
        assert tracemalloc.get_traced_memory()[0] - before < 2000
    finally:
        tracemalloc.stop()


FRAMES: dict[str, tuple[Any, str]] = {
    "list": ([[1.0] * 5] * 3, "`x` is a list, expected an array"),
    "dtype": (np.zeros((3, 5)), "`x` has dtype float64, expected float32 as `weights`"),
    "features": (
        np.zeros((3, 4), "float32"),
        r"`x` has shape \(3, 4\), expected \(batch_size, input_size\) = \(3, 5\)",
    ),
    "batch": (np.zeros((1, 5), "float32"), r"`x` has shape \(1, 5\), expected \(batch_size, input_size\) = \(3, 5\)"),
    "time": (np.zeros((1, 3, 5), "float32"), r"`x` has shape \(1, 3, 5\), expected \(batch_size, input_size\)"),
    "no batch": (np.zeros(5, "float32"), r"`x` has shape \(5,\), expected \(batch_size, input_size\)"),
    "byte order": (np.zeros((3, 5), ">f4"), "`x` has dtype '>f4', expected native byte order"),
    "masked": (np.ma.zeros((3, 5), "float32"), "`x` is a MaskedArray"),
}


@pytest.mark.parametrize("engine", ["numpy", "standard"])
@pytest.mark.parametrize("name", FRAMES)
def test_a_frame_that_does_not_fit_changes_nothing(name: str, engine: str) -> None:
    frame, message = FRAMES[name]
    stream = CASE.lstm().stream(CASE.state(), 3, engine=engine)
    with pytest.raises((TypeError, ValueError), match=message):
        stream(frame)
    np.testing.assert_array_equal(stream.state[0], CASE.state()[0])
    stream(CASE.x()[0])
    with pytest.raises(ValueError, match=r"`x` has shape \(1, 5\), expected \(input_size,\) = \(5,\)"):
        CASE.lstm().stream(batch_size=None)(np.zeros((1, 5), "float32"))


def test_a_frame_of_a_memory_map_fits(tmp_path: Any) -> None:
    np.save(tmp_path / "x.npy", CASE.x())
    stream = CASE.lstm().stream(batch_size=3)
    outputs = [stream(frame) for frame in np.load(tmp_path / "x.npy", mmap_mode="r")]
    assert_close(outputs, CASE.lstm()(CASE.x())[0])
    assert type(outputs[0]) is np.ndarray


def test_what_cannot_stream_is_refused() -> None:
    for case in (CASE.replace(bidirectional=True), CASE.replace(reverse=True)):
        with pytest.raises(ValueError, match="expected an LSTM that runs forward in time only"):
            case.lstm().stream()
    for size, error in ((0, ValueError), (-1, ValueError), (1.0, TypeError), (True, TypeError), ("1", TypeError)):
        with pytest.raises(error, match="`batch_size` is"):
            CASE.lstm().stream(batch_size=size)
    with pytest.raises(ValueError, match="`engine` is 'fast'"):
        CASE.lstm().stream(engine="fast")
    with pytest.raises(
        ValueError, match="the engine 'jax' cannot run this: it is for arrays of jax.numpy, not of numpy"
    ):
        CASE.lstm().stream(engine="jax")


@pytest.mark.needs("dask.array")
def test_a_lazy_library_is_refused() -> None:
    import dask.array as da

    with pytest.raises(ValueError, match="the LSTM's arrays are of dask.array, expected a library that is not lazy"):
        CASE.lstm(da.from_array).stream()
    with pytest.raises(ValueError, match="the engine 'dask' cannot run this"):
        CASE.lstm(engine="dask").stream()
    with pytest.raises(TypeError, match="`x` is an array of dask.array, expected numpy as"):
        CASE.lstm().stream(batch_size=3)(da.from_array(CASE.x()[0]))


def test_the_rule_of_engines_holds() -> None:
    assert CASE.lstm().stream().engine == "numpy"
    assert CASE.lstm(engine="standard").stream().engine == "standard"
    assert CASE.lstm(engine="standard").stream(engine="numpy").engine == "numpy"
    unusual = CASE.replace(variant="activations").lstm()
    stream = unusual.stream(batch_size=3)
    assert stream.engine == "standard"
    assert_close([stream(frame) for frame in CASE.x()], unusual(CASE.x())[0])
    with pytest.raises(ValueError, match="the engine 'numpy' cannot run this: it has no activations but"):
        unusual.stream(engine="numpy")
    assert repr(CASE.lstm().stream(batch_size=3)) == "Stream(LSTM(5, 4, num_layers=2), batch_size=3, engine='numpy')"


@pytest.mark.parametrize("batch", [3, 1])
@pytest.mark.parametrize(
    "options",
    [
        lx.CellOptions(clip_gates=0.3, clip_cell=0.2, clip_proj=0.1),
        lx.CellOptions(coupled=True, clip_cell=0.4),
        lx.CellOptions(peephole_output="old"),
    ],
)
def test_variants(options: lx.CellOptions, batch: int) -> None:
    case = PROJECTED.replace(batch=batch, peephole=True, bias=("bias_ih",))
    net = lx.LSTM.from_weights(case.weights(), options=options)
    stream = net.stream(case.state(), batch)
    assert stream.engine == "numpy"
    expected, (_, c_n) = net(case.x(), case.state(), engine="standard")
    np.testing.assert_allclose([stream(frame) for frame in case.x()], expected, rtol=0, atol=1e-14)
    np.testing.assert_allclose(stream.state[1], c_n, rtol=0, atol=1e-14)


@pytest.mark.parametrize("sizes", [(3, 1), (1, 3)])
def test_streams_of_one_lstm_with_several_batch_sizes(sizes: tuple[int, ...]) -> None:
    """What is prepared once for the LSTM, the bounds of `clip_gates` too, is not that of the first one's frames."""
    net = CASE.lstm(options=lx.CellOptions(clip_gates=0.3))
    for size in sizes:
        x, state = CASE.x()[:, :size], tuple(array[:, :size] for array in CASE.state())
        stream = net.stream(state, size)
        assert stream.engine == "numpy"
        assert_close([stream(frame) for frame in x], net(x, state, engine="standard")[0])


@pytest.mark.needs("torch")
@pytest.mark.parametrize("engine", ["torch", "standard"])
def test_torch_records_nothing(engine: str) -> None:
    """Neither the weights nor a frame that require grad, nor autocast, matter."""
    import torch

    module = torch.nn.LSTM(5, 4, 2)
    stream = lx.LSTM.from_state_dict(dict(module.named_parameters())).stream(batch_size=3, engine=engine)
    x = torch.tensor(CASE.x(), requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = [stream(frame) for frame in x]
    assert {output.dtype for output in outputs} == {torch.float32}
    assert not any(array.requires_grad for array in (*outputs, *stream.state))
    outputs[-1].fill_(torch.nan)
    with torch.no_grad():
        expected, (h_n, _) = module(x)
    assert_close(torch.stack(outputs[:-1]), expected[:-1])
    assert_close(stream.state[0], h_n)


@pytest.mark.needs("torch")
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("is_leaf", [True, False])
@pytest.mark.parametrize("engine", ["torch", "standard"])
def test_a_state_that_requires_grad_is_taken_by_its_values(engine: str, is_leaf: bool) -> None:
    import torch

    h_0, c_0 = (torch.tensor(array, requires_grad=True) for array in CASE.state())
    state = (h_0, c_0) if is_leaf else (h_0 * 1, c_0 * 1)
    stream = CASE.lstm(torch.tensor).stream(state, 3, engine=engine)
    other = CASE.lstm(torch.tensor).stream(batch_size=3, engine=engine)
    other.state = state
    for each in (stream, other, stream.copy(), pickle.loads(pickle.dumps(stream))):
        assert not any(array.requires_grad for array in each.state)
        assert_close(each.state[1], CASE.state()[1])
        assert not each(torch.tensor(CASE.x()[0])).requires_grad


@pytest.mark.needs("torch")
@pytest.mark.parametrize("engine", ["torch", "standard"])
def test_torchs_transforms_are_refused(engine: str) -> None:
    """Their tensors would outlive them in the state, and a gradient would be zero without a word."""
    import torch

    state = tuple(map(torch.tensor, CASE.state()))
    net, x = CASE.lstm(torch.tensor), torch.tensor(CASE.x())
    stream = net.stream(state, 3, engine=engine)

    def set_state(h_0: Any) -> Any:
        stream.state = h_0, state[1]
        return h_0

    for attempt in (
        lambda: torch.func.vmap(stream)(x),
        lambda: torch.func.grad(lambda frame: stream(frame).sum())(x[0]),
        lambda: torch.func.jvp(stream, (x[0],), (x[1],)),
    ):
        with pytest.raises(TypeError, match=r"`x` is given within a torch.func transform, expected outside"):
            attempt()
    for attempt in (
        lambda: torch.func.vmap(set_state)(state[0][None]),
        lambda: torch.func.grad(lambda h_0: net.stream((h_0, state[1]), 3)(x[0]).sum())(state[0]),
    ):
        with pytest.raises(TypeError, match=r"`state` is given within a torch.func transform, expected outside"):
            attempt()
    assert_close(torch.stack([stream(frame) for frame in x]), CASE.lstm()(CASE.x(), CASE.state())[0])


@pytest.mark.parametrize(
    ("library", "engine", "device"),
    [
        pytest.param("torch", "torch", "meta", marks=pytest.mark.needs("torch")),
        pytest.param("torch", "standard", "meta", marks=pytest.mark.needs("torch")),
        pytest.param("array_api_strict", "standard", "device1", marks=pytest.mark.needs("array_api_strict")),
    ],
)
def test_a_frame_on_another_device_changes_nothing(library: str, engine: str, device: str) -> None:
    xp: Any = importlib.import_module(library)
    stream = CASE.lstm(xp.asarray).stream(tuple(map(xp.asarray, CASE.state())), 3, engine=engine)
    device = xp.Device(device) if library == "array_api_strict" else device
    with pytest.raises(ValueError, match="`x` is on another device than `weights`"):
        stream(xp.zeros((3, 5), dtype=xp.float32, device=device))
    outputs = [np.asarray(stream(xp.asarray(frame))) for frame in CASE.x()]
    assert_close(outputs, CASE.lstm()(CASE.x(), CASE.state())[0])


@pytest.mark.needs("torch")
@pytest.mark.parametrize("engine", ["torch", "standard"])
@pytest.mark.parametrize("case", [PROJECTED, CASE.replace(batch=None), CASE.replace(bias=("bias_hh",))], ids=str)
def test_on_torch(case: Case, engine: str) -> None:
    """Outputs may be written to and inputs reused, as on NumPy."""
    import torch

    output, h_n, c_n = torch_answer(case)
    state = tuple(map(torch.tensor, case.state()))
    stream = case.lstm(torch.tensor).stream(state, case.batch, engine=engine)
    frame, outputs = torch.empty(case.x().shape[1:], dtype=state[0].dtype), []
    for x in torch.tensor(case.x()):
        frame.copy_(x)
        y = stream(frame)
        outputs.append(y.clone())
        for array in (frame, y, *state, *stream.state):
            array.fill_(torch.nan)
    assert_close(torch.stack(outputs), output)
    assert_close(stream.state[0], h_n)
    assert_close(stream.copy().state[1], c_n)


@pytest.mark.needs("jax")
def test_jax_compiles_once_and_refuses_tracers() -> None:
    import jax

    from lstm_xp.engines import jax as engine

    net = CASE.lstm(jax.numpy.asarray)
    stream = net.stream(batch_size=3)
    assert stream.engine == "jax"
    stream(jax.numpy.asarray(CASE.x()[0]))
    compiled = engine._advance._cache_size()
    other = stream.copy()
    for frame in CASE.x()[1:]:
        other(jax.numpy.asarray(frame))
    assert engine._advance._cache_size() == compiled
    assert_close(other.state[0], CASE.lstm()(CASE.x())[1][0])
    with pytest.raises(TypeError, match="`x` is a JAX tracer, expected an array of numbers"):
        jax.jit(stream)(jax.numpy.asarray(CASE.x()[0]))


@pytest.mark.parametrize("engine", ["numpy", "standard"])
def test_an_output_that_the_caller_changes_changes_no_state(engine: str) -> None:
    case = Case(batch=3)
    stream, other = (case.lstm(engine=engine).stream(case.state(), 3) for _ in range(2))
    for frame in case.x():
        output = stream(frame)
        np.testing.assert_array_equal(output, other(frame))
        output[...] = 7.0


@pytest.mark.parametrize("engine", ["numpy", "standard"])
def test_a_state_that_the_caller_changes_changes_no_stream(engine: str) -> None:
    case = Case(batch=3, num_layers=2)
    given = case.state()
    stream, later = case.lstm(engine=engine).stream(given, 3), case.lstm(engine=engine).stream(None, 3)
    later.state = given
    for array in given:
        array[...] = 7.0
    expected = case.lstm(engine="standard")(case.x(), case.state())[0]
    for each in (stream, later):
        assert_close([each(frame) for frame in case.x()], expected)
