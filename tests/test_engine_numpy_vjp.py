"""The backward pass of the engines on NumPy's arrays, `numpy` and `numba`: what only they can get wrong."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import lstm_xp as lx
from conformance.cases import CORE, Case, map_arrays
from conformance.compare import flat
from conformance.derivatives import compare_gradients, loss_weights, torch_gradients
from lstm_xp.engines import _blas, _numpy_back
from lstm_xp.engines import numpy as numpy_engine

ENGINES = [pytest.param("numpy"), pytest.param("numba", marks=pytest.mark.needs("numba"))]
PLAIN = sorted({case.replace(dtype="float64") for case in CORE if case.variant == "torch"}, key=str)
LONG = [
    Case(time=300, num_layers=2, bidirectional=True),
    Case(time=300, batch=1, num_layers=2, proj_size=2),
    Case(time=300, batch=1, hidden_size=37, bidirectional=True),
    Case(time=41, batch=17, hidden_size=37, input_size=23),
    Case(num_layers=2, bidirectional=True, valid="lengths", proj_size=3),
    Case(batch=1, valid="lengths"),
]
# A mask's first row has no valid step: of one row it is not looked at where there is no batch.
RESETS = [
    Case(resets=True, num_layers=2, bidirectional=True, proj_size=2),
    Case(resets=True, batch=5, valid="lengths", masked_output="hold", start="one"),
    Case(resets=True, batch=5, valid="mask", masked_output="hold", num_layers=2, bidirectional=True),
    Case(resets=True, batch=None, valid="mask", reverse=True, num_layers=2, proj_size=3),
    Case(resets=True, batch=4, valid="lengths", reverse=True),
    Case(batch=5, valid="lengths", masked_output="hold", bidirectional=True, num_layers=2, proj_size=3),
    Case(batch=None, valid="mask", masked_output="hold", bidirectional=True),
    Case(batch=None, valid="mask", proj_size=3, num_layers=2),
    Case(batch=4, valid="mask", proj_size=3, num_layers=2, reverse=True),
]

Pull = Callable[..., tuple[Any, Any, tuple[Any, Any]]]


def run(case: Case, engine: str, **settings: Any) -> tuple[tuple[np.ndarray, ...], Pull]:
    """Return output and states, and the pullback."""
    given = {**case.arguments(), **case.settings, **settings}
    result, pullback = lx.lstm_vjp(weights=case.weights(), engine=engine, **given)
    return flat(result), pullback


def named(case: Case, gradients: tuple[Any, Any, tuple[Any, Any]]) -> dict[str, np.ndarray]:
    """Return gradients by the names that `conformance.derivatives` has for them."""
    d_x, d_weights, (d_h, d_c) = gradients
    return {"x": d_x, "h_0": d_h, "c_0": d_c} | lx.LSTM.from_weights(d_weights, **case.settings).state_dict()


def derivatives(case: Case, engine: str, **settings: Any) -> dict[str, np.ndarray]:
    _, pullback = run(case, engine, **settings)
    d_output, *d_state = loss_weights(case)
    return named(case, pullback(d_output, tuple(d_state)))


@pytest.fixture(params=[None, (1, 1), (1, 6), (200, 1)], ids=str)
def rounds(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one step, of some, of all."""
    if request.param is not None:
        buffer, deep = request.param
        monkeypatch.setattr(_numpy_back, "BUFFER_BACK", buffer)
        monkeypatch.setattr(_numpy_back, "DEEP", deep)
        monkeypatch.setattr(numpy_engine, "BUFFER", buffer)


@pytest.mark.needs("torch")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    "case",
    [*dict.fromkeys(case.replace(valid="all", reverse=False, start="given") for case in PLAIN), *LONG],
    ids=str,
)
@pytest.mark.parametrize("engine", ENGINES)
def test_equals_torch(engine: str, case: Case, threads: int) -> None:
    compare_gradients(derivatives(case, engine, threads=threads), torch_gradients(case))


@pytest.mark.needs("torch")
@pytest.mark.parametrize("case", [Case(dtype="float32"), Case(dtype="float32", batch=1, proj_size=2)], ids=str)
@pytest.mark.parametrize("engine", ENGINES)
def test_float32_equals_torch(engine: str, case: Case) -> None:
    actual = derivatives(case, engine)
    assert {array.dtype.name for array in actual.values()} == {"float32"}
    compare_gradients(actual, torch_gradients(case), "float32")


@pytest.mark.usefixtures("rounds")
@pytest.mark.parametrize("case", [*PLAIN, *RESETS], ids=str)
@pytest.mark.parametrize("engine", ENGINES)
def test_equals_the_reference(engine: str, case: Case) -> None:
    expected = derivatives(case, "standard")
    for threads in (1, 2):
        compare_gradients(derivatives(case, engine, threads=threads), expected)


@pytest.mark.parametrize("case", [*PLAIN, *RESETS], ids=str)
@pytest.mark.parametrize("engine", ENGINES)
def test_the_result_is_that_of_the_forward_pass(engine: str, case: Case) -> None:
    expected = flat(lx.lstm(weights=case.weights(), **case.arguments(), **case.settings, engine=engine))
    for threads in (1, 2):
        for ours, theirs in zip(run(case, engine, threads=threads)[0], expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-15)


@pytest.mark.parametrize("each_step", [False, True])
@pytest.mark.parametrize("valid", ["all", "lengths", "mask"])
@pytest.mark.parametrize("engine", ENGINES)
def test_noise_between_layers(engine: str, valid: str, each_step: bool) -> None:
    case = Case(num_layers=3, bidirectional=True, valid=valid)
    noise = lx.Noise(between=case.draw("noise", (2, case.time if each_step else 1, 3, 8), 0, 2))
    expected = derivatives(case, "standard", noise=noise)
    for threads in (1, 2):
        compare_gradients(derivatives(case, engine, threads=threads, noise=noise), expected)
        ours = flat(lx.lstm(weights=case.weights(), **case.arguments(), **case.settings, engine=engine, noise=noise))
        for one, other in zip(ours, run(case, "standard", noise=noise)[0], strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-14)


@pytest.mark.parametrize("masked_output", ["zero", "hold"])
@pytest.mark.parametrize("valid", ["lengths", "mask"])
@pytest.mark.parametrize("engine", ENGINES)
def test_nan_in_the_padding_counts_nothing(engine: str, valid: str, masked_output: str) -> None:
    """Neither that of x nor, where no output is shown, that of the output's derivative."""
    case = Case(num_layers=2, bidirectional=True, valid=valid, masked_output=masked_output, batch=4)
    padding = ~case.valid_steps()[..., None]
    d_output, *d_state = loss_weights(case)
    found = []
    for junk in (0.0, np.nan):
        x = np.where(padding, junk, case.x())
        _, pullback = run(case, engine, x=x)
        shown = d_output if masked_output == "hold" else np.where(padding, junk, d_output)
        found.append(named(case, pullback(shown, tuple(d_state))))
    compare_gradients(found[1], found[0])
    assert np.all(found[1]["x"][padding[..., 0]] == 0)


@pytest.mark.parametrize(
    "case", [Case(num_layers=2), Case(batch=1, num_layers=2), Case(valid="mask", bidirectional=True, proj_size=2)]
)
@pytest.mark.parametrize("engine", ENGINES)
def test_pulled_back_again(engine: str, case: Case) -> None:
    """It is linear, what is not given is zeros, and neither what it was given nor what it kept is written into."""
    weights, arguments = case.weights(), case.arguments()
    given = [array for layer in weights for cell in layer for array in cell if array is not None]
    given += [arguments["x"], *arguments["state"]]
    before = [array.copy() for array in given]
    result, pullback = lx.lstm_vjp(weights=weights, **arguments, **case.settings, engine=engine)
    output, _ = result
    d_output, d_h, d_c = cotangents = loss_weights(case)
    whole = named(case, pullback(d_output, (d_h, d_c)))
    output -= 1  # as the derivative of a squared error is made
    parts = [pullback(d_output), pullback(None, (d_h, None)), pullback(d_state=(None, d_c))]
    sums = [sum(arrays) for arrays in zip(*(named(case, part).values() for part in parts), strict=True)]
    compare_gradients(dict(zip(whole, sums, strict=True)), whole)
    twice = named(case, pullback(2 * d_output, (2 * d_h, 2 * d_c)))
    compare_gradients(twice, {name: 2 * array for name, array in whole.items()})
    assert all(not np.any(array) for array in named(case, pullback()).values())
    for array, copy in zip([*given, *cotangents], [*before, *loss_weights(case)], strict=True):
        np.testing.assert_array_equal(array, copy)
    arrays = list(twice.values())
    assert not any(np.shares_memory(one, other) for k, one in enumerate(arrays) for other in arrays[:k])


@pytest.mark.parametrize("kind", ["strided", "read-only", "unaligned", "Fortran"])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("engine", ENGINES)
def test_arrays_in_any_memory(engine: str, batch: int, kind: str) -> None:
    case = Case(batch=batch, num_layers=2, bidirectional=True, proj_size=2)

    def moved(array: np.ndarray) -> np.ndarray:
        memory = np.empty(2 * array.nbytes + 1, np.uint8)
        if kind == "Fortran":
            return np.asfortranarray(array)
        if kind == "strided":
            given = memory[: 2 * array.nbytes].view(array.dtype).reshape(*array.shape[:-1], -1)[..., ::-2]
        else:
            given = memory[kind == "unaligned" :][: array.nbytes].view(array.dtype).reshape(array.shape)
        given[...] = array
        given.flags.writeable = kind != "read-only"
        return given

    arguments, cotangents = map_arrays(moved, case.arguments()), map_arrays(moved, loss_weights(case))
    _, pullback = lx.lstm_vjp(weights=map_arrays(moved, case.weights()), **arguments, engine=engine)
    actual = named(case, pullback(cotangents[0], cotangents[1:]))
    compare_gradients(actual, derivatives(case, "standard"))


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("engine", ENGINES)
def test_pulled_back_in_threads(engine: str, batch: int) -> None:
    case = Case(batch=batch, time=50, hidden_size=19, num_layers=2, bidirectional=True)
    _, pullback = run(case, engine)
    d_output, *d_state = loss_weights(case)
    expected = named(case, pullback(d_output, tuple(d_state)))

    def pull(factor: int) -> dict[str, np.ndarray]:
        return named(case, pullback(factor * d_output, tuple(factor * array for array in d_state)))

    with ThreadPoolExecutor(2) as pool:
        for k, actual in enumerate(pool.map(pull, range(1, 9))):
            compare_gradients(actual, {name: (k + 1) * array for name, array in expected.items()})


@pytest.mark.parametrize("valid", ["all", "lengths", "mask"])
@pytest.mark.parametrize("engine", ENGINES)
def test_no_rows(engine: str, valid: str) -> None:
    case = Case(batch=3, num_layers=2, bidirectional=True, proj_size=2, valid=valid)
    arguments = case.arguments()
    given = {name: array[:, :0] for name, array in arguments.items() if name in ("x", "mask")}
    given |= {name: array[:0] for name, array in arguments.items() if name == "lengths"}
    _, pullback = lx.lstm_vjp(weights=case.weights(), **given, **case.settings, engine=engine)
    found = named(case, pullback())
    assert found["x"].shape == (7, 0, 5)
    assert found["weight_hr_l1_reverse"].shape == (2, 4)
    assert not any(np.any(array) for array in found.values())


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("case", "reason"),
    [
        (Case(peephole=True), "its backward pass has no `peephole`"),
        (Case(variant="coupled"), "its backward pass has no `options` but the default"),
        (Case(variant="clipped"), "its backward pass has no `options` but the default"),
    ],
    ids=str,
)
def test_what_is_left_to_the_reference(engine: str, case: Case, reason: str) -> None:
    with pytest.raises(ValueError, match=f"the engine '{engine}' cannot run this: {reason}"):
        run(case, engine)
    expected = derivatives(case, "standard")
    compare_gradients(derivatives(case, "auto"), expected)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", ["hidden", "zoneout_h", "zoneout_c"])
def test_noise_that_is_left_to_the_reference(engine: str, name: str) -> None:
    case = Case()
    shape = (1, 3, 4) if name == "hidden" else (1, 7, 3, 4)
    noise = lx.Noise(**{name: case.draw("noise", shape, 0, 1)})
    with pytest.raises(ValueError, match=f"'{engine}' cannot run this: it has no noise on the recurrent state"):
        run(case, engine, noise=noise)


@pytest.mark.parametrize("engine", ENGINES)
def test_in_chunks_of_time(engine: str) -> None:
    """Each starts from a state that came from elsewhere."""
    case = Case(num_layers=2, valid="mask", proj_size=2)
    compare_gradients(derivatives(case, engine, remat=3), derivatives(case, "standard"))


def test_a_transposed_matrix() -> None:
    for shape in ((4, 37), (37, 4), (1, 1), (0, 3), (130, 127), (129, 150)):
        for dtype in ("float32", "float64"):
            matrix = np.arange(np.prod(shape), dtype=dtype).reshape(shape)
            result = _blas.transposed(matrix)
            assert result.flags.c_contiguous
            np.testing.assert_array_equal(result, matrix.T)
