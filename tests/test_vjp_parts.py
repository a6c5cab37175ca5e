"""Steps are linearised as many at once as fit into a cache: however many that are, the derivatives are the same."""

import pytest

import lstm_xp as lx
from conformance.backends import by_name
from conformance.cases import Case, map_arrays
from conformance.derivatives import WITH_NOISE, compare_gradients, loss_weights
from conformance.pulling import flat_gradients, names_of, run
from lstm_xp.engines import _stack_vjp


@pytest.mark.parametrize("steps", [0, 1, 3, 7])
@pytest.mark.parametrize(
    "case",
    [
        Case(num_layers=2, bidirectional=True, proj_size=2, valid="mask", resets=True),
        Case(reverse=True, norm="each", peephole=True, valid="lengths", batch_first=True),
        WITH_NOISE["all, a mask that holds, resets"].replace(time=7, proj_size=0),
    ],
    ids=str,
)
def test_in_parts(case: Case, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    (row,) = by_name("numpy-standard")
    _, expected = run(row, case)
    monkeypatch.setattr(_stack_vjp, "CHUNK", steps * 4 * case.batch * case.hidden_size)
    _, found = run(row, case)
    compare_gradients(found, expected)


@pytest.mark.needs("ndonnx")
def test_all_at_once_where_the_batch_is_not_known() -> None:
    """Traced to ONNX with a symbolic batch, and run by ONNX Runtime at two."""
    import ndonnx as ndx
    import onnxruntime
    from spox import _future as future

    case = Case(time=1, start="one")
    shapes = {"x": (case.time, "N", 5), "d_output": (case.time, "N", 4), "d_h": (1, "N", 4), "d_c": (1, "N", 4)}
    outputs = [f"d {name}" for name in names_of(case)]
    # Constants are computed by what is quick at that: ONNX Runtime makes a session for each.
    with future.value_prop_backend(future.ValuePropBackend.REFERENCE):
        weights, state = map_arrays(ndx.asarray, (case.weights(), case.state()))
        given = {name: ndx.argument(shape=shape, dtype=ndx.float64) for name, shape in shapes.items()}
        _, pullback = lx.lstm_vjp(given["x"], weights, state)
        found = flat_gradients(pullback(given["d_output"], (given["d_h"], given["d_c"])))
        model = ndx.build(given, dict(zip(outputs, found, strict=True)))
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (row,) = by_name("numpy-standard")
    for batch in (3, 5):
        case = case.replace(batch=batch)
        values = dict(zip(("d_output", "d_h", "d_c"), loss_weights(case), strict=True))
        actual = session.run(outputs, values | {"x": case.x()})
        compare_gradients(dict(zip(names_of(case), actual, strict=True)), run(row, case)[1])
