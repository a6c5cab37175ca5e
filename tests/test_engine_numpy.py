"""The engines on NumPy's arrays, `numpy` and `numba`: what conformance/ does not see of them."""

import gc
import os
import subprocess
import sys
import textwrap
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pytest

import lstm_xp as lx
from conformance.cases import Case
from conformance.compare import TOLERANCE, assert_equal, flat
from conformance.oracle import torch_answer
from lstm_xp import engines
from lstm_xp.engines import _blas
from lstm_xp.engines import numpy as numpy_engine

ENGINES = [pytest.param("numpy"), pytest.param("numba", marks=pytest.mark.needs("numba"))]
CASES = [
    Case(bidirectional=True, num_layers=2),
    Case(bidirectional=True, num_layers=2, proj_size=3, valid="lengths", dtype="float32"),
    Case(reverse=True, valid="mask", masked_output="hold"),
    Case(valid="lengths", masked_output="hold", batch=5),
    Case(bidirectional=True, batch=1, valid="lengths", proj_size=2),
    Case(bidirectional=True, batch=None, valid="mask", bias=("bias_hh",)),
    Case(num_layers=2, batch=2, start="one"),
]


def run(case: Case, **settings: Any) -> tuple[np.ndarray, ...]:
    return flat(lx.lstm(weights=case.weights(), **case.arguments(), **(case.settings | settings)))


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("engine", ENGINES)
def test_threads_change_no_result(engine: str, case: Case, threads: int) -> None:
    assert_equal(run(case, engine=engine, threads=threads), torch_answer(case), TOLERANCE[case.dtype])


@pytest.mark.parametrize("buffer", [1, 100, 1000])
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("engine", ENGINES)
def test_rounds_change_no_result(engine: str, case: Case, buffer: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numpy_engine, "BUFFER", buffer)
    assert_equal(run(case, engine=engine), torch_answer(case), TOLERANCE[case.dtype])


@pytest.mark.parametrize("case", CASES, ids=str)
def test_blocks_of_rows_change_no_result(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    case = case.replace(hidden_size=12)
    monkeypatch.setattr(_blas, "SMALL", 16 * 40 * 5)
    assert _blas.count_blocks(4 * 12, 30, 5, one_thread=True) == 3
    assert_equal(run(case, engine="numpy"), torch_answer(case), TOLERANCE[case.dtype])


@pytest.mark.parametrize(
    ("rows", "columns", "batch", "one_thread", "blocks"),
    [
        (512, 193, 1, True, 1),  # a vector
        (512, 193, 8, True, 1),  # small as it is
        (512, 193, 32, True, 4),
        (512, 193, 32, False, 1),  # for BLAS's threads
        (2048, 769, 8, False, 16),
        (800, 301, 5, False, 2),
        (12, 100_000, 2, True, 1),  # too few rows
        (2048, 1025, 256, True, 1),  # blocks would have too few rows
        (0, 5, 3, True, 1),
    ],
)
def test_in_how_many_blocks(rows: int, columns: int, batch: int, one_thread: bool, blocks: int) -> None:
    assert _blas.count_blocks(rows, columns, batch, one_thread) == blocks


def test_a_call_with_threads_of_its_own_leaves_blas_one_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_blas, "ONE_THREAD", False)
    asked = []
    monkeypatch.setattr(numpy_engine, "count_blocks", lambda *given: asked.append(given) or 1)
    case = Case(batch=6)
    for threads in (1, 2):
        run(case, engine="numpy", threads=threads)
    assert [one_thread for *_, one_thread in asked] == [False, True, True]


@pytest.mark.parametrize(
    ("environment", "one"),
    [
        ({"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "4"}, True),
        ({"OPENBLAS_NUM_THREADS": "4", "OMP_NUM_THREADS": "1"}, False),
        ({"OPENBLAS_NUM_THREADS": "", "OMP_NUM_THREADS": "1"}, True),
        ({"OPENBLAS_NUM_THREADS": "0", "OMP_NUM_THREADS": "1"}, True),
    ],
)
def test_what_the_environment_says_of_blas(
    environment: dict[str, str], one: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert _blas._has_one_thread() is one


NORMALISED = [
    Case(num_layers=2, bidirectional=True, proj_size=3, valid="lengths", batch=4, peephole=True),
    Case(num_layers=2, valid="mask", batch=2, bias=("bias_hh",)),
    Case(batch=1, reverse=True, valid="mask", peephole=True),
    Case(batch=None, num_layers=2, proj_size=2, bias=()),
]


@pytest.mark.parametrize("buffer", [1, 2**18])
@pytest.mark.parametrize("variant", [{}, {"clip_gates": 0.5, "clip_cell": 0.6}, {"coupled": True, "norm_eps": 1e-3}])
@pytest.mark.parametrize("carry", [False, True])
@pytest.mark.parametrize("gates", ["joint", "each"])
@pytest.mark.parametrize("case", NORMALISED, ids=str)
def test_normalised_cells_are_the_references(
    case: Case, gates: str, carry: bool, variant: dict[str, Any], buffer: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numpy_engine, "BUFFER", buffer)
    case = case.replace(norm=gates)
    options = lx.CellOptions(norm_gates=gates, norm_carry=carry, **variant)
    reset = case.draw("reset", case.x().shape[:-1]) < -0.3
    arguments = {**case.arguments(), **case.settings, "weights": case.weights(), "options": options, "reset": reset}
    assert lx.select_engine(**arguments).name == "numpy"
    assert_equal(flat(lx.lstm(**arguments)), flat(lx.lstm(**arguments, engine="standard")), 1e-12)


def test_a_cell_state_whose_mean_is_large_is_centred_as_well_as_by_the_reference() -> None:
    rng = np.random.default_rng(0)
    hidden = 256
    shapes = [(4 * hidden, 30), (4 * hidden, hidden), (4 * hidden,), (4 * hidden,)]
    arrays = [rng.standard_normal(shape) / 16 for shape in shapes]
    arrays[2] += 4
    weights = lx.CellWeights(*arrays, norm=np.stack([np.ones(5 * hidden), np.zeros(5 * hidden)]))
    x, options = rng.standard_normal((100, 9, 30)), lx.CellOptions(norm_gates="each")
    truth = lx.lstm(x, weights, options=options, engine="standard")[0]
    x, weights = x.astype(np.float32), lx.CellWeights(*(a if a is None else a.astype(np.float32) for a in weights))
    ours, theirs = (
        np.abs(lx.lstm(x, weights, options=options, engine=engine)[0] - truth).max() for engine in ("numpy", "standard")
    )
    assert ours <= 1.5 * theirs


@pytest.mark.parametrize("carry", [False, True])
@pytest.mark.parametrize("gates", ["joint", "each"])
@pytest.mark.parametrize("batch", [None, 1, 3])
@pytest.mark.parametrize("proj_size", [0, 3])
def test_streams_of_normalised_cells(gates: str, carry: bool, batch: int | None, proj_size: int) -> None:
    case = Case(num_layers=2, batch=batch, proj_size=proj_size, norm=gates)
    net = case.lstm(options=lx.CellOptions(norm_gates=gates, norm_carry=carry))
    stream = net.stream(case.state(), batch)
    assert stream.engine == "numpy"
    outputs = np.stack([stream(frame) for frame in case.x()])
    assert_equal((outputs, *stream.state), flat(net(**case.arguments(), engine="standard")), 1e-12)


@pytest.mark.parametrize("engine", ENGINES)
def test_weights_are_prepared_once(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared: list[Any] = []
    original = numpy_engine.total_bias
    monkeypatch.setattr(numpy_engine, "total_bias", lambda weights: prepared.append(weights) or original(weights))
    case = Case(num_layers=2, bidirectional=True, batch=6)
    net, arguments = case.lstm(), case.arguments()
    net(**arguments, engine=engine)
    assert len(prepared) == 4
    net(**arguments, engine=engine)
    net(**arguments, engine=engine, threads=2)
    assert len(prepared) == 4
    net(arguments["x"][:, :1], engine=engine)  # for one row they lie in another way
    assert len(prepared) == 8
    lx.lstm(weights=case.weights(), **arguments, engine=engine)
    assert len(prepared) == 12
    ragged = case.replace(valid="lengths")  # rows in segments, segments in threads
    lx.lstm(weights=case.weights(), **ragged.arguments(), engine=engine, threads=2)
    assert len(prepared) <= 12 + 2 * 4 * 2


def test_weights_that_may_change_are_not_kept() -> None:
    case = Case()
    weights, arguments = case.weights(), case.arguments()
    before = lx.lstm(weights=weights, **arguments)[0]
    weights[0][0].weight_hh[...] *= 2
    after = lx.lstm(weights=weights, **arguments)[0]
    assert abs(after - before).max() > 1e-3


@pytest.mark.parametrize("engine", ENGINES)
def test_many_threads_may_call_one_lstm(engine: str) -> None:
    case = Case(num_layers=2, bidirectional=True, valid="lengths")
    net, arguments = case.lstm(), case.arguments()
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: flat(net(**arguments, engine=engine)), range(64)))
    for result in results:
        assert_equal(result, results[0], 0)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_long_sequence_takes_little_more_than_its_output(engine: str) -> None:
    net = lx.LSTM(5, 16, seed=0)
    x = np.ones((20_000, 3, 5), np.float32)
    net(x[:10], engine=engine)
    gc.collect()
    tracemalloc.start()
    output, _ = net(x, engine=engine)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < output.nbytes + 3 * 4 * numpy_engine.BUFFER


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        (Case(dtype="float16"), "it is for float32 and float64, not for float16, of which BLAS has no products"),
        (Case(variant="activations"), "it has no activations but sigmoid and tanh"),
    ],
    ids=str,
)
def test_what_numpy_leaves_to_the_standard_engine(case: Case, reason: str) -> None:
    choice = lx.select_engine(weights=case.weights(), **case.arguments(), **case.settings)
    assert choice[:2] == ("standard", "the first choice cannot")
    assert choice.rejected["numpy"] == reason
    with pytest.raises(ValueError, match=f"the engine 'numpy' cannot run this: {reason}"):
        run(case, engine="numpy")


def test_threads_are_for_engines_that_have_some() -> None:
    case = Case()
    with pytest.raises(ValueError, match="'standard' cannot run this: `threads` is 2, and it has none of its own"):
        run(case, engine="standard", threads=2)
    with pytest.raises(ValueError, match="no engine can run this: 'numpy': it has no activations.*; 'standard': `thr"):
        run(Case(variant="activations"), threads=2)
    for threads in (0, -1, 1.5, True, None):
        with pytest.raises(ValueError, match=f"`threads` is {threads}, expected an integer of at least 1"):
            run(case, threads=threads)


@pytest.mark.parametrize(
    "case", [Case(batch=3), Case(batch=1, bidirectional=True), Case(batch=None, bidirectional=True)]
)
@pytest.mark.parametrize("threads", [2, 8])
def test_threads_are_used_and_keep_the_error_state(case: Case, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two are at work at the same time; what overflows in them is what the caller says that it is."""
    both, states = Barrier(2, timeout=10), []
    original = numpy_engine.make_step

    def make_step(*given: Any) -> Any:
        if len(states) < 2:
            states.append(np.geterr()["over"])
            both.wait()
        return original(*given)

    monkeypatch.setattr(numpy_engine, "make_step", make_step)
    with np.errstate(over="raise"):
        run(case, threads=threads)
    assert states == ["raise", "raise"]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("valid", ["mask", "lengths"])
@pytest.mark.parametrize("batch", [1, 3])
def test_padding_is_not_computed_with(engine: str, valid: str, batch: int) -> None:
    """Infinity in it would warn, which is an error here."""
    case = Case(batch=batch, valid=valid, num_layers=2, dtype="float32")
    arguments = case.arguments()
    arguments["x"][~case.valid_steps()] = np.inf
    assert_equal(
        flat(lx.lstm(weights=case.weights(), **arguments, **case.settings, engine=engine)), torch_answer(case), 1e-6
    )


def test_numba_is_taken_by_name_only() -> None:
    case = Case()
    choice = lx.select_engine(case.x(), case.weights())
    assert choice.name == "numpy"
    assert choice.rejected["numba"] == "it is taken by name only"


def test_an_engine_that_cannot_be_loaded_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_name: str) -> Any:
        msg = "Numba needs NumPy 2.3 or less"
        raise ImportError(msg)

    monkeypatch.setattr(engines, "find_spec", lambda _: True)
    monkeypatch.setattr(engines, "import_module", fail)
    monkeypatch.delitem(engines._MODULES, "numba", raising=False)
    case = Case()
    assert lx.select_engine(case.x(), case.weights()).name == "numpy"
    with pytest.raises(ValueError, match="'numba' cannot run this: it cannot be loaded: Numba needs NumPy 2.3 or less"):
        run(case, engine="numba")


def in_a_process(program: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.needs("numba")
def test_what_is_compiled_is_kept_on_disk_and_used_after_a_fork(tmp_path: Path) -> None:
    program = """
        import os, sys
        import numpy as np
        import lstm_xp as lx
        from lstm_xp.engines import _kernels as engine
        net = lx.LSTM(5, 4, bidirectional=True, seed=0)
        lx.warm_up("numba")
        kernels = engine.row_kernel, engine.batch_kernel, engine.push_kernel
        functions = [kernel(char) for kernel in kernels for char in "fd"]
        print(sum(sum(f.stats.cache_hits.values()) for f in functions), end=" ")
        compiled = [len(f.signatures) for f in functions]
        x = np.ones((7, 3, 5), np.float32)
        here = net(x, engine="numba", threads=2)[0]
        net(x[:, :1], engine="numba")
        cell = lx.LSTM(5, 4, proj_size=3, batch_first=True, seed=0)
        ((weights,),) = cell.weights
        weights = weights._replace(weight_hr=np.asfortranarray(weights.weight_hr))
        for batch in (1, 3):
            cell(x.swapaxes(0, 1)[:batch], mask=np.ones((batch, 7), bool), engine="numba")
            lx.lstm(x[:, :batch], weights, engine="numba")
            cell.stream(batch_size=batch, engine="numba")(x[0, :batch])
        print(compiled == [len(f.signatures) for f in functions], end=" ", flush=True)
        if hasattr(os, "fork"):
            child = os.fork()
            if child == 0:
                os._exit(int(not np.array_equal(net(x, engine="numba", threads=2)[0], here)))
            assert os.waitpid(child, 0)[1] == 0
        print("ok")
    """
    cache = {"NUMBA_CACHE_DIR": str(tmp_path), "PYTHONWARNINGS": "ignore::DeprecationWarning"}
    assert in_a_process(program, **cache) == "0 True ok\n"
    assert in_a_process(program, **cache) == "6 True ok\n"


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", ["strided", "read-only", "unaligned"])
def test_an_input_of_one_row_in_any_memory(engine: str, kind: str) -> None:
    """The compiled kernel reads it where it is."""
    case = Case(batch=1, num_layers=2, bidirectional=True, dtype="float32")
    arguments = case.arguments()
    x = arguments["x"]
    memory = np.empty(2 * x.nbytes + 1, np.uint8)
    if kind == "strided":
        given = memory[: 2 * x.nbytes].view(x.dtype).reshape(*x.shape[:2], -1)[::-1, :, ::-2]
    else:
        given = memory[kind == "unaligned" :][: x.nbytes].view(x.dtype).reshape(x.shape)
    given[...] = x
    given.flags.writeable = kind != "read-only"
    assert given.flags.aligned == (kind != "unaligned")
    arguments["x"] = given
    result = lx.lstm(weights=case.weights(), **arguments, **case.settings, engine=engine)
    assert_equal(flat(result), torch_answer(case), TOLERANCE[case.dtype])


@pytest.mark.needs("numba")
def test_without_a_place_on_disk_it_is_compiled_anew(tmp_path: Path) -> None:
    program = """
        import numba.core.caching as caching
        for locator in caching.CacheImpl._locator_classes:
            locator.from_function = classmethod(lambda *_: None)
        import numpy as np
        import lstm_xp as lx
        print(lx.LSTM(5, 4, seed=0)(np.ones((7, 3, 5), np.float32), engine="numba")[0].shape)
    """
    assert in_a_process(program, NUMBA_CACHE_DIR=str(tmp_path)) == "(7, 3, 4)\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.needs("numba")
def test_all_units_are_computed_side_by_side() -> None:
    """The loop over them is vectorised: it divides vectors, five for five tanh."""
    from lstm_xp.engines import _kernels as engine

    lx.warm_up("numba", dtypes=("float32",))
    case = Case(dtype="float32")
    run(case, engine="numba")
    fresh = type(engine._advance)(engine._advance.py_func, targetoptions=engine._advance.targetoptions)
    vector = np.ones(4, np.float32)
    fresh(np.ones(16, np.float32), vector, vector.copy())
    (assembly,) = fresh.inspect_asm().values()
    packed = [line for line in assembly.splitlines() if "divps" in line or "fdiv\tv" in line or "fdiv v" in line]
    assert len(packed) >= 5


@pytest.mark.needs("numba")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_compiled_tanh(dtype: str) -> None:
    """Against NumPy's in a wider float, over all exponents; 2.5 units in the last place at most."""
    from numba import njit

    from lstm_xp.engines import _kernels as engine

    @njit(fastmath={"contract"})
    def apply(x, result):  # type: ignore[no-untyped-def]
        for k in range(len(x)):
            result[k] = engine.tanh(x[k])

    wide = np.float64 if dtype == "float32" else np.longdouble
    if np.finfo(wide).eps > np.finfo(dtype).eps / 1000:
        pytest.skip("no wider float here")
    exponents = np.linspace(-120 if dtype == "float32" else -1000, 6, 20_011)
    x = np.concatenate([np.exp2(exponents), np.linspace(0, 25, 100_003)]).astype(dtype)
    x = np.concatenate([x, -x])
    result = np.empty_like(x)
    apply(x, result)
    expected = np.tanh(x.astype(wide))
    assert (np.abs(result - expected) / np.spacing(np.abs(expected).astype(dtype))).max() < 2.5
    special = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0], dtype)
    result = np.empty_like(special)
    apply(special, result)
    np.testing.assert_array_equal(result, [np.nan, 1, -1, 0, 0])
    assert np.signbit(result[4])
    assert not np.signbit(result[3])


def test_warming_up_refuses_what_it_cannot() -> None:
    for engine in ("numpy", "auto", "jax"):
        with pytest.raises(ValueError, match=f"`engine` is '{engine}', expected one that compiles ahead: 'numba'"):
            lx.warm_up(engine)
    with pytest.raises(ValueError, match="`engine` is 'fast', expected 'auto' or one of"):
        lx.warm_up("fast")
    for dtypes in ("float32", ("float16",), (), None, ([],)):
        with pytest.raises(ValueError, match="`dtypes` is .*, expected a tuple of 'float32', 'float64'"):
            lx.warm_up("numba", dtypes=dtypes)


def test_one_row_is_projected_by_columns() -> None:
    """By rows, OpenBLAS may raise a flag of memory that it never set; as results are right, the layout is looked at."""
    ((weights, *_), *_) = Case(batch=1, proj_size=2).weights()
    w_hr = numpy_engine.prepare(weights, lx.CellOptions(), batch=1).w_hr
    assert w_hr is not None
    assert min(w_hr.shape) > 1
    assert w_hr.flags.f_contiguous
