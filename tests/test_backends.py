"""The same core on every array library: equal to torch, and the arrays come back as what they came in."""

from typing import Any

import numpy as np
import pytest
from array_api_compat import device
from backends import Backend
from cases import TOLERANCE, Case, assert_equal, flat, map_arrays, torch_answer, torch_masked_answer

import lstm_xp as lx

pytestmark = pytest.mark.needs("torch")

SHORT = Case(time=4)
CASES = [
    SHORT,
    SHORT.replace(dtype="float32"),
    SHORT.replace(batch=None),
    SHORT.replace(batch_first=True, bias=()),
    SHORT.replace(num_layers=2, bidirectional=True, proj_size=2),
    SHORT.replace(num_layers=2, bidirectional=True, dtype="float32", batch_first=True),
    SHORT.replace(num_layers=3, proj_size=3, batch=None, dtype="float32"),
]


def run(backend: Backend, case: Case, *, state: bool = True, settings: dict[str, Any], **arrays: np.ndarray) -> Any:
    """Run a case on a backend; return NumPy arrays, after looking at what came back."""
    if not backend.float64:
        case = case.replace(dtype="float32")
        arrays = {name: a.astype("int32") if name == "lengths" else a for name, a in arrays.items()}
    net = case.lstm(backend.asarray, **settings)
    x = backend.asarray(case.x())
    given = {"state": case.state()} if state else {}
    given = map_arrays(backend.asarray, tuple((given | arrays).values()))
    names = [*(["state"] if state else []), *arrays]
    call = backend.compile(lambda x, *given: net(x, **dict(zip(names, given, strict=True))))
    result = flat(call(x, *given))
    for array in result:
        assert type(array) is type(x)
        assert array.dtype == x.dtype
        assert device(array) == device(x)
    return tuple(map(backend.asnumpy, result))


def compare(backend: Backend, case: Case, actual: Any, expected: Any) -> None:
    """Compare at the tolerance of what the backend computed in."""
    dtype = case.dtype if backend.float64 else "float32"
    assert_equal(actual, [e.astype(dtype) for e in expected], TOLERANCE[dtype])


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("state", [True, False], ids=["state", "no-state"])
def test_equals_torch(backend: Backend, case: Case, state: bool) -> None:
    compare(backend, case, run(backend, case, state=state, settings={}), torch_answer(case, state=state))


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_a_thousand_steps(fast_backend: Backend, dtype: str) -> None:
    case = Case(time=1000, num_layers=2, bidirectional=True, dtype=dtype)
    compare(fast_backend, case, run(fast_backend, case, settings={}), torch_answer(case))


@pytest.mark.parametrize("masked_output", ["zero", "hold"])
@pytest.mark.parametrize("reverse", [False, True], ids=["", "reverse"])
@pytest.mark.parametrize("kind", ["lengths", "mask"])
@pytest.mark.parametrize("case", [SHORT, SHORT.replace(batch_first=True, num_layers=2, proj_size=2)], ids=str)
def test_masked_steps(backend: Backend, case: Case, kind: str, reverse: bool, masked_output: str) -> None:
    check_masked(backend, case, kind, {"masked_output": masked_output, "reverse": reverse})


@pytest.mark.parametrize("masked_output", ["zero", "hold"])
@pytest.mark.parametrize("kind", ["lengths", "mask"])
def test_masked_steps_in_both_directions(backend: Backend, kind: str, masked_output: str) -> None:
    case = SHORT.replace(num_layers=2, bidirectional=True, proj_size=2)
    check_masked(backend, case, kind, {"masked_output": masked_output})


def check_masked(backend: Backend, case: Case, kind: str, settings: dict[str, Any]) -> None:
    """Compare with torch on the valid steps alone; the last row has none."""
    if kind == "mask":
        valid = given = case.mask()
    else:
        given = case.lengths()
        given[-1] = 0
        valid = np.arange(case.time)[:, None] < given
        valid = valid.T if case.batch_first else valid
    actual = run(backend, case, settings=settings, **{kind: given})
    compare(backend, case, actual, torch_masked_answer(case, valid, **settings))


@pytest.mark.parametrize("kind", ["lengths", "mask"])
def test_masked_steps_without_a_batch(backend: Backend, kind: str) -> None:
    case = SHORT.replace(batch=None)
    given = {"lengths": np.asarray(3), "mask": np.array([True, False, True, True])}[kind]
    valid = np.array([1, 1, 1, 0], bool) if kind == "lengths" else given
    expected = torch_masked_answer(case.replace(batch=1), valid[:, None])
    one = case.replace(batch=1)
    np.testing.assert_array_equal(case.x(), one.x()[:, 0])
    actual = run(backend, case, settings={}, **{kind: given})
    compare(backend, case, actual, [e[:, 0] for e in expected])


@pytest.mark.parametrize("case", [SHORT, SHORT.replace(num_layers=2, proj_size=2)], ids=str)
def test_reverse(backend: Backend, case: Case) -> None:
    expected = torch_masked_answer(case, np.ones((case.time, case.batch), bool), reverse=True)
    compare(backend, case, run(backend, case, settings={"reverse": True}), expected)


OPTIONS = lx.CellOptions(
    activations=("hard_sigmoid", "softsign", "scaled_tanh"), clip_gates=1.0, clip_cell=0.5, clip_proj=0.2
)

RAMPS = (
    lx.CellOptions(activations=("affine", "relu", ("thresholded_relu", 0.1))),
    lx.CellOptions(activations=("softplus",) * 3),
)


@pytest.mark.parametrize(
    ("options", "scale"),
    [
        (OPTIONS, 2.0),
        (lx.CellOptions(coupled=True, peephole_output="old"), 2.0),
        ((OPTIONS, lx.CellOptions(activations=("sigmoid", "elu", "leaky_relu"))), 2.0),
        (RAMPS, 0.5),
    ],
    ids=["clipped", "coupled", "pair", "pair-of-ramps"],
)
def test_options_give_the_numbers_of_numpy(backend: Backend, options: Any, scale: float) -> None:
    """On NumPy they are proven against ONNX Runtime."""
    both = isinstance(options, tuple)
    case = SHORT.replace(bidirectional=both, proj_size=2, peephole=True, num_layers=2, scale=scale)
    expected = flat(case.lstm(options=options)(case.x(), case.state()))
    compare(backend, case, run(backend, case, settings={"options": options}), expected)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("batch", [(), (2,), (2, 3)], ids=str)
def test_cell(backend: Backend, batch: tuple[int, ...], dtype: str) -> None:
    """Any number of batch dimensions; torch's cell has at most one."""
    import torch

    dtype = dtype if backend.float64 else "float32"
    case = Case(dtype=dtype)
    ((weights,),) = case.weights()
    rng = case.rng("cell")
    x, h, c = (rng.standard_normal((*batch, size)).astype(dtype) for size in (5, 4, 4))
    cell = torch.nn.LSTMCell(5, 4, dtype=getattr(torch, dtype))
    cell.load_state_dict({k: torch.tensor(v) for k, v in weights._asdict().items() if v is not None})
    with torch.no_grad():
        expected = cell(*[torch.tensor(x.reshape(-1, 5)), tuple(torch.tensor(a.reshape(-1, 4)) for a in (h, c))])
    call = backend.compile(lambda x, h, c: lx.lstm_cell(x, map_arrays(backend.asarray, weights), (h, c)))
    actual = call(*map(backend.asarray, (x, h, c)))
    for a, e in zip(actual, expected, strict=True):
        np.testing.assert_allclose(backend.asnumpy(a), e.numpy().reshape(*batch, 4), rtol=0, atol=TOLERANCE[dtype])


def test_cell_broadcasts_a_state(backend: Backend) -> None:
    case = Case(dtype="float32", proj_size=2)
    ((weights,),) = case.weights()
    x, (h, c) = case.x()[0], (array[0, :1] for array in case.state())
    weights, x_, h_, c_ = map_arrays(backend.asarray, (weights, x, h, c))
    actual = lx.lstm_cell(x_, weights, (h_, c_))
    full = lx.lstm_cell(x_, weights, tuple(backend.asarray(np.repeat(a, 3, axis=0)) for a in (h, c)))
    for a, e in zip(actual, full, strict=True):
        np.testing.assert_allclose(backend.asnumpy(a), backend.asnumpy(e), rtol=0, atol=TOLERANCE["float32"])


def test_seed_and_rule_give_the_same_numbers(backend: Backend) -> None:
    xp, kwargs = namespace_and_device(backend)
    for init in ("uniform", "glorot"):
        settings: dict[str, Any] = {"num_layers": 2, "bidirectional": True, "proj_size": 2, "init": init, "seed": 5}
        ours = lx.LSTM(5, 4, xp=xp, **kwargs, **settings).state_dict()
        for name, expected in lx.LSTM(5, 4, **settings).state_dict().items():
            actual = backend.asnumpy(ours[name])
            assert actual.dtype == np.float32
            np.testing.assert_array_equal(actual, expected)


def test_to_and_back(backend: Backend) -> None:
    case = Case(num_layers=2, bidirectional=True, proj_size=2, peephole=True, dtype="float32")
    xp, kwargs = namespace_and_device(backend)
    net = case.lstm()
    there = net.to(xp, **kwargs)
    back = there.to(np)
    for name, array in net.state_dict().items():
        assert type(there.state_dict()[name]) is type(backend.asarray(array))
        np.testing.assert_array_equal(back.state_dict()[name], array)
    again = there.to(**kwargs)
    assert again.device == there.device == device(backend.asarray(case.x()))
    if backend.float64:
        assert back.to(xp, dtype="float64", **kwargs).to(np).dtype == np.float64


def namespace_and_device(backend: Backend) -> tuple[Any, dict[str, Any]]:
    """Return a backend's library, as a user names it, and how to say its device."""
    from importlib import import_module

    xp = import_module("jax.numpy" if backend.module == "jax" else backend.module)
    array = backend.asarray(np.ones(2, np.float32))
    return xp, {"device": array.device} if backend.module == "array_api_strict" else {}
