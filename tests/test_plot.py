"""Pictures of traces: that what is drawn is the data."""

import itertools
import subprocess
import sys
from importlib import import_module
from io import BytesIO
from typing import Any

import numpy as np
import pytest

import lstm_xp as lx
from conformance.cases import Case
from lstm_xp import _inside, plot
from lstm_xp._namespace import standard_namespace
from lstm_xp._transfer import from_numpy, to_numpy

pytestmark = pytest.mark.needs("matplotlib")

CASE = Case(num_layers=2, bidirectional=True, hidden_size=6, dtype="float64")


def panel(figure: Any, name: str) -> Any:
    """The axes of a name."""
    (axes,) = (axes for axes in figure.axes if axes.get_label() == name)
    return axes


def drawn(figure: Any, name: str) -> Any:
    """The heat map of a name, as a masked array."""
    return panel(figure, name).images[0].get_array()


def unit_numbers(figure: Any, name: str) -> list[int]:
    return [int(label.get_text()) for label in panel(figure, name).get_yticklabels()]


def notes(figure: Any) -> str:
    return str(figure.texts[1].get_text())


def covered(axes: Any) -> list[tuple[float, float]]:
    """The spans of time that are covered."""
    paths = [path.vertices[:, 0] for each in axes.collections for path in each.get_paths()]
    return [(float(x.min()), float(x.max())) for x in paths]


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize(("layer", "direction", "row"), [(0, 1, 2), (-1, 0, -1)])
def test_what_is_drawn_is_the_data(batch_first: bool, layer: int, direction: int, row: int) -> None:
    case = CASE.replace(batch_first=batch_first)
    trace = case.lstm().trace(case.x(), case.state())
    figure = lx.plot.gates(trace, layer=layer, direction=direction, row=row, batch_first=batch_first)
    of_row = lambda array: array[row] if batch_first else array[:, row]
    np.testing.assert_array_equal(drawn(figure, "x").filled(np.nan), of_row(trace.x).T)
    orders = set()
    for name in ("i", "f", "o", "g", "c", "h"):
        units = unit_numbers(figure, name)
        expected = of_row(getattr(trace, name)[layer][direction])[:, units].T
        np.testing.assert_array_equal(drawn(figure, name).filled(np.nan), expected)
        orders.add(tuple(units))
    assert len(orders) == 1
    assert sorted(orders.pop()) == list(range(6))
    assert figure.texts[0].get_text() == f"Layer {layer % 2}, direction {direction}, row {row % 3}"
    assert notes(figure) == "7 steps · 6 units, similar ones side by side"


def test_the_cells_of_all_panels_stand_at_their_steps() -> None:
    figure = lx.plot.gates(CASE.lstm().trace(CASE.x()))
    for name in ("x", "i", "f", "o", "g", "c", "h"):
        axes = panel(figure, name)
        assert axes.get_xlim() == (-0.5, 6.5)
        assert axes.images[0].get_extent() == [-0.5, 6.5, len(drawn(figure, name)) - 0.5, -0.5]
        assert axes.get_shared_x_axes().joined(axes, panel(figure, "x"))


def test_without_a_batch() -> None:
    net, x = CASE.lstm(), CASE.x()
    one, of_many = net.trace(x[:, 1]), net.trace(x)
    for name in ("c", "h"):
        given, expected = (drawn(f, name) for f in (lx.plot.gates(one), lx.plot.gates(of_many, row=1)))
        np.testing.assert_allclose(given, expected, rtol=0, atol=1e-14)
    assert "row" not in lx.plot.gates(one).texts[0].get_text()


@pytest.mark.parametrize(
    "library",
    [
        pytest.param(name, marks=pytest.mark.needs(name.removesuffix(".numpy")))
        for name in ("torch", "jax.numpy", "array_api_strict", "dask.array", "ndonnx")
    ],
)
def test_traces_of_every_library(library: str) -> None:
    xp = standard_namespace(import_module(library))
    case = CASE.replace(dtype="float32", time=2)
    net = case.lstm().to(xp)
    trace = net.trace(from_numpy(case.x(), xp))
    figure = lx.plot.gates(trace, layer=0, row=1, order="index")
    for name in ("i", "f", "o", "g", "c", "h"):
        expected = to_numpy(getattr(trace, name)[0][0], name)[:, 1].T
        np.testing.assert_array_equal(drawn(figure, name), expected.astype("float64"))


@pytest.mark.needs("torch")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_traces_in_the_midst_of_training(dtype: str) -> None:
    import torch

    net = CASE.replace(dtype="float32").lstm().to(torch, dtype=dtype)
    x = torch.ones((7, 3, 5), dtype=getattr(torch, dtype), requires_grad=True)
    trace = net.trace(x, engine="standard")
    assert trace.c is not None
    assert trace.c[1][0].requires_grad
    figure = lx.plot.gates(trace, order="index")
    np.testing.assert_array_equal(drawn(figure, "c"), trace.c[1][0][:, 0].detach().double().T)


@pytest.mark.needs("jax")
def test_a_tracer_has_nothing_to_draw() -> None:
    import jax

    net = CASE.replace(dtype="float32").lstm().to(jax.numpy)
    draw = jax.jit(lambda x: lx.plot.gates(net.trace(x)) and x)
    with pytest.raises(TypeError, match=r"`trace.x` \(.*Tracer.*\) cannot become a NumPy array"):
        draw(jax.numpy.ones((7, 3, 5), "float32"))


def test_more_steps_than_columns_are_means_and_say_so() -> None:
    net, x = CASE.lstm(), np.random.default_rng(3).normal(size=(11, 2, 5))
    trace = net.trace(x)
    figure = lx.plot.gates(trace, columns=4, order="index")
    assert trace.c is not None
    for name, values in (("x", x[:, 0]), ("c", trace.c[1][0][:, 0])):
        expected = np.stack([values[k : k + 3].mean(axis=0) for k in (0, 3, 6, 9)], axis=1)
        np.testing.assert_allclose(drawn(figure, name), expected, rtol=0, atol=1e-15)
        assert panel(figure, name).images[0].get_extent()[:2] == [-0.5, 11.5]
        assert panel(figure, name).get_xlim() == (-0.5, 10.5)
    assert notes(figure) == "11 steps, each column the mean of 3 · 6 units"


def test_a_mean_is_over_the_valid_steps() -> None:
    net, x = CASE.lstm(), np.random.default_rng(3).normal(size=(9, 2, 5))
    mask = np.ones((9, 2), dtype=bool)
    mask[[1, 2, 6, 7, 8], 0] = False
    x[~mask] = np.nan
    trace = net.trace(x, mask=mask)
    figure = lx.plot.gates(trace, columns=3, order="index")
    assert trace.f is not None
    values = trace.f[1][0][:, 0]
    np.testing.assert_array_equal(drawn(figure, "f")[:, 0], values[0])
    np.testing.assert_allclose(drawn(figure, "f")[:, 1], values[3:6].mean(axis=0), rtol=0, atol=1e-15)
    assert drawn(figure, "f").mask.tolist() == [[False, False, True]] * 6
    assert notes(figure).endswith("hatched: not valid")


def shares(figure: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The shares of the steps at which units are low and high, as drawn."""
    low, high = panel(figure, f"{name} shares").patches
    assert np.all(low.get_data().baseline == 0)
    assert np.all(high.get_data().baseline == 1)
    return low.get_data().values, 1 - high.get_data().values


def test_saturation_is_counted() -> None:
    x = np.random.default_rng(0).normal(size=(40, 3, 5))
    net = CASE.replace(scale=6.0).lstm()
    trace = net.trace(x, lengths=np.asarray([40, 27, 40]))
    figure = lx.plot.gates(trace, row=1, columns=8)
    seen = 0
    for name in ("i", "f", "o", "g", "c", "h"):
        below, above = (0.1, 0.9) if name in "ifo" else (-0.8, 0.8)
        values = getattr(trace, name)[1][0][:27, 1]
        for place, unit in enumerate(unit_numbers(figure, name)):
            steps = [float(np.tanh(v)) if name == "c" else float(v) for v in values[:, unit]]
            low, high = sum(v < below for v in steps) / 27, sum(v > above for v in steps) / 27
            np.testing.assert_allclose([each[place] for each in shares(figure, name)], [low, high], rtol=0, atol=1e-15)
            seen += low + high > 0
    assert seen > 10  # else there was nothing to count


@pytest.mark.parametrize("order", ["similar", "peak", "index"])
def test_an_order_is_a_permutation_and_the_same_again(order: Any) -> None:
    net = lx.LSTM(5, 40, seed=2, dtype="float64")
    trace = net.trace(np.random.default_rng(0).normal(size=(50, 5)))
    first, again = (lx.plot.gates(trace, order=order) for _ in range(2))
    np.testing.assert_array_equal(drawn(first, "c"), drawn(again, "c"))
    assert trace.c is not None
    columns = {tuple(row) for row in trace.c[0][0].T}
    assert {tuple(row) for row in drawn(first, "c")} == columns
    assert (tuple(drawn(first, "c")[0]) == tuple(trace.c[0][0][:, 0])) == (order == "index")


def with_cells(cells: np.ndarray) -> lx.Trace:
    """A trace of which the cell state is known."""
    return lx.Trace(cells[:, :1], cells, (cells, cells), c=((cells,),))


def test_similar_units_are_side_by_side() -> None:
    random = np.random.default_rng(5)
    groups = random.permutation(np.repeat(np.arange(4), 6))
    leaders = random.normal(size=(80, 4))
    cells = leaders[:, groups] * random.uniform(0.1, 10, 24) + random.normal(size=(80, 24)) * 0.01
    cells[:, 3] = 0.5  # one that never changes
    found = _inside.look_inside(with_cells(cells), -1, 0, 0, False, None, "similar", 400).panels["c"].units
    assert found[-1] == 3
    runs = [group for group, _ in itertools.groupby(groups[found[:-1]])]
    assert sorted(runs) == [0, 1, 2, 3]


def test_by_peak() -> None:
    trace = lx.LSTM(5, 8, seed=2, dtype="float64").trace(np.random.default_rng(0).normal(size=(50, 5)))
    peaks = np.abs(drawn(lx.plot.gates(trace, order="peak"), "c")).argmax(axis=1)
    assert list(peaks) == sorted(peaks)
    assert len(set(peaks)) > 3


def test_some_units() -> None:
    trace = lx.LSTM(5, 40, seed=2).trace(np.ones((7, 5), "f4"))
    assert unit_numbers(lx.plot.gates(trace, units=[33, 4, 20], order="index"), "f") == [33, 4, 20]
    assert sorted(unit_numbers(lx.plot.gates(trace, units=(33, 4, 20)), "f")) == [4, 20, 33]


@pytest.mark.parametrize("cells", [np.zeros((5, 4)), np.full((5, 4), np.nan), np.ones((1, 4)), np.full((2, 1), 1e300)])
def test_what_cannot_be_ordered_stays(cells: np.ndarray) -> None:
    for order in ("similar", "peak"):
        assert unit_numbers(lx.plot.gates(with_cells(cells), order=order), "c") == list(range(cells.shape[1]))


def test_a_projected_hidden_state_has_units_of_its_own() -> None:
    trace = Case(proj_size=3, hidden_size=6, dtype="float64").lstm().trace(np.ones((7, 2, 5)))
    figure = lx.plot.gates(trace, units=[5, 2])
    assert sorted(unit_numbers(figure, "h")) == [0, 1, 2]
    assert sorted(unit_numbers(figure, "c")) == [2, 5]
    assert trace.h is not None
    np.testing.assert_array_equal(drawn(figure, "h"), trace.h[0][0][:, 0, unit_numbers(figure, "h")].T)


def test_what_was_not_kept_is_left_out() -> None:
    figure = lx.plot.gates(CASE.lstm().trace(CASE.x(), keep=("f",)))
    labels = [axes.get_label() for axes in figure.axes]
    assert labels == ["x", "x colours", "f", "f shares", "gates colours"]


@pytest.mark.parametrize("valid", ["lengths", "mask"])
def test_steps_that_are_not_valid_are_covered_in_every_panel(valid: str) -> None:
    mask = np.ones((7, 3), dtype=bool)
    mask[5:, 1] = False
    if valid == "mask":
        mask[2, 1] = False
    x = np.where(mask[:, :, None], CASE.x(), np.nan)
    given: Any = {"lengths": np.asarray([7, 5, 7])} if valid == "lengths" else {"mask": mask}
    trace = CASE.lstm().trace(x, **given)
    figure = lx.plot.gates(trace, row=1)
    for name in ("x", "i", "f", "o", "g", "c", "h"):
        spans = [(4.5, 6.5)] if valid == "lengths" else [(1.5, 2.5), (4.5, 6.5)]
        assert covered(panel(figure, name)) == spans
        assert len(panel(figure, name).images) == 1  # and nothing is pink
        assert (drawn(figure, name).mask == ~mask[:, 1]).all()
    assert notes(figure).endswith("side by side · hatched: not valid")
    assert "hatched" not in notes(lx.plot.gates(trace, row=0))


def test_a_row_without_a_valid_step() -> None:
    figure = lx.plot.gates(CASE.lstm().trace(CASE.x(), lengths=np.asarray([7, 0, 7])), row=1)
    assert covered(panel(figure, "h")) == [(-0.5, 6.5)]
    assert shares(figure, "i")[0].tolist() == [0] * 6
    save(figure)


@pytest.mark.parametrize("features", [1, 5])
def test_what_is_not_finite_is_pink(features: int) -> None:
    x = np.random.default_rng(0).normal(size=(7, 2, features))
    x[4, 1, 0] = np.inf
    x[5, 1, 0] = np.nan
    figure = lx.plot.gates(lx.LSTM(features, 6, seed=0, dtype="float64").trace(x), row=1)
    for name in ("c", "h"):
        _, pink = panel(figure, name).images
        assert (~pink.get_array().mask).tolist() == [[False] * 5 + [True] * 2] * 6
        assert pink.to_rgba(np.zeros((1, 1)), bytes=True)[0, 0].tolist() == [0xE0, 0x21, 0x8A, 255]
    if features == 1:
        assert covered(panel(figure, "x")) == [(3.5, 5.5)]
        (line,) = panel(figure, "x").patches
        np.testing.assert_array_equal(line.get_data().values, [*x[:4, 1, 0], np.nan, np.nan, x[6, 1, 0]])
    assert notes(figure).endswith("pink: not finite")
    assert "pink" not in notes(lx.plot.gates(lx.LSTM(features, 6, seed=0, dtype="float64").trace(x), row=0))
    save(figure)


def test_few_features_are_lines() -> None:
    x = np.random.default_rng(0).normal(size=(7, 3))
    axes = panel(lx.plot.gates(lx.LSTM(3, 4, seed=0, dtype="float64").trace(x)), "x")
    for feature, line in enumerate(axes.patches):
        np.testing.assert_array_equal(line.get_data().values, x[:, feature])
        np.testing.assert_array_equal(line.get_data().edges, np.arange(8) - 0.5)
        (text,) = (text for text in axes.texts if text.get_text() == f"feature {feature}")
        assert text.get_color() == plot.LINES[feature]
    assert len(axes.patches) == 3


def lightness(colours: np.ndarray) -> np.ndarray:
    """CIE L* of sRGB colours."""
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    y = linear @ [0.2126, 0.7152, 0.0722]
    return np.where(y > (6 / 29) ** 3, 116 * np.cbrt(y) - 16, y * (29 / 3) ** 3)


def test_colours_tell_the_values() -> None:
    """Gates from 0 to 1 on one ramp of lightness; the others about 0, alike and even on both sides of it."""
    figure = lx.plot.gates(CASE.lstm().trace(CASE.x()))
    for name in ("i", "f", "o"):
        image = panel(figure, name).images[0]
        assert (image.norm.vmin, image.norm.vmax) == (0, 1)
        assert np.all(np.diff(lightness(image.cmap(np.linspace(0, 1, 64))[:, :3])) > 0)
    for name in ("x", "g", "c", "h"):
        image = panel(figure, name).images[0]
        assert image.norm.vmin == -image.norm.vmax
        assert image.norm.vmax >= np.abs(image.get_array()).max()
        below, above = np.split(lightness(image.cmap([*range(128), *range(255, 127, -1)])[:, :3]), 2)
        np.testing.assert_allclose(below, above, rtol=0, atol=1)
        for half in (below, above):
            np.testing.assert_allclose(half, np.linspace(half[0], half[-1], 128), rtol=0, atol=1)
    assert panel(figure, "g").images[0].norm.vmax == 1


def test_scales_grow_with_the_values() -> None:
    """Gates may leave 0 to 1 with other activations, and a cell may count."""
    options = lx.CellOptions(activations=("elu", "relu", ("affine", 1.0, 0.0)))
    x = np.random.default_rng(0).normal(size=(7, 5)) * 5
    net = lx.LSTM(5, 6, seed=0, dtype="float64", options=options)
    figure = lx.plot.gates(net.trace(x))
    for name in ("i", "f", "o", "g", "c", "h"):
        norm, values = panel(figure, name).images[0].norm, drawn(figure, name)
        assert norm.vmin <= values.min()
        assert values.max() <= norm.vmax
    counted = lx.plot.gates(with_cells(np.arange(60.0)[:, None] * [1, -0.01]))
    image = panel(counted, "c").images[0]
    assert image.norm(0.0) == 0.5
    assert image.norm(1.0) > 0.55  # what is small is seen beside what is large
    ticks = [label.get_text() for label in panel(counted, "c colours").get_yticklabels()]
    assert ticks == ["\N{MINUS SIGN}59", "\N{MINUS SIGN}5", "0", "5", "59"]


PICTURES = {
    "few": lambda: lx.LSTM(2, 3, seed=0).trace(np.ones((5, 2), "f4")),
    "many": lambda: lx.LSTM(9, 300, seed=0).trace(np.random.default_rng(0).normal(size=(900, 9)).astype("f4")),
    "one": lambda: lx.LSTM(1, 1, seed=0).trace(np.ones((1, 1), "f4")),
    "projected": lambda: lx.LSTM(5, 8, proj_size=2, seed=0).trace(np.ones((5, 5), "f4") * 1e3),
    "kept": lambda: CASE.lstm().trace(CASE.x(), keep=("c", "i")),
    "zeros": lambda: with_cells(np.zeros((3, 2))),
    "tiny": lambda: with_cells(np.full((3, 2), 5e-324)),
    "huge": lambda: with_cells(np.full((3, 2), -3e38)),
}


def save(figure: Any, form: str = "png") -> bytes:
    file = BytesIO()
    figure.savefig(file, format=form)
    return file.getvalue()


@pytest.mark.parametrize("name", PICTURES)
def test_no_text_lies_on_another_or_leaves_the_page(name: str) -> None:
    figure = lx.plot.gates(PICTURES[name]())
    save(figure)  # which is when ticks get their places
    texts = list(figure.texts)
    for axes in figure.axes:
        texts += [*axes.texts, axes.xaxis.label]
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            texts += [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
            texts += [tick.label2 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts if text.get_text() and text.get_visible()]
    assert len(boxes) > 15
    for text, box in boxes:
        assert figure.bbox.contains(box.x0, box.y0), text
        assert figure.bbox.contains(box.x1, box.y1), text
    for (text, box), (other, its_box) in itertools.combinations(boxes, 2):
        across = min(box.x1, its_box.x1) - max(box.x0, its_box.x0)
        down = min(box.y1, its_box.y1) - max(box.y0, its_box.y0)
        assert across <= 1 or down <= 3, (text, other)  # a box has room for letters with descents


@pytest.mark.parametrize("form", ["png", "svg", "pdf"])
def test_every_kind_of_file(form: str) -> None:
    written = save(lx.plot.gates(PICTURES["few"]()), form)
    assert {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[form] == written[: 4 + (form == "svg")]


MISTAKES: dict[str, tuple[Any, dict[str, Any], type[Exception], str]] = {
    "no trace": (np.ones((7, 5)), {}, TypeError, "`trace` is a ndarray, expected an lstm_xp.Trace"),
    "nothing kept": ((), {}, ValueError, "`trace` has kept nothing, expected at least one of h, c, i, f, g, o"),
    "layer": (None, {"layer": 2}, ValueError, "`layer` is 2, expected one of 2 layers, -2 to 1"),
    "layer below": (None, {"layer": -3}, ValueError, "`layer` is -3, expected one of 2 layers, -2 to 1"),
    "direction": (None, {"direction": 2}, ValueError, "`direction` is 2, expected one of 2 directions, -2 to 1"),
    "row": (None, {"row": 3}, ValueError, "`row` is 3, expected one of 3 rows, -3 to 2"),
    "row of batch_first": (None, {"row": 7, "batch_first": True}, ValueError, "`row` is 7, expected one of 7 rows"),
    "no integer": (None, {"layer": 0.0}, TypeError, "`layer` is 0.0, expected an integer"),
    "a boolean": (None, {"row": True}, TypeError, "`row` is True, expected an integer"),
    "order": (None, {"order": "name"}, ValueError, "`order` is 'name', expected one of 'similar', 'peak', 'index'"),
    "columns": (None, {"columns": 0}, ValueError, "`columns` is 0, expected at least 1"),
    "no units": (None, {"units": []}, ValueError, "`units` is [], expected at least one, each of them once"),
    "units twice": (None, {"units": [1, 1]}, ValueError, "`units` is [1, 1], expected at least one, each of them once"),
    "unit": (None, {"units": [1, 6]}, ValueError, "`units` has 6, expected 0 to 5"),
    "unit's type": (None, {"units": ["c"]}, TypeError, "`units` has 'c', expected integers"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(mistake: str) -> None:
    given, arguments, error, message = MISTAKES[mistake]
    trace = (
        given
        if isinstance(given, np.ndarray)
        else CASE.lstm().trace(CASE.x(), **({} if given is None else {"keep": ()}))
    )
    with pytest.raises(error) as caught:
        lx.plot.gates(trace, **arguments)
    assert message in str(caught.value)


def test_without_matplotlib_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"a picture needs the extra lstm_xp\[plot\]: "):
        lx.plot.gates(CASE.lstm().trace(CASE.x()))


def test_it_imports_matplotlib_when_it_draws_and_pyplot_never() -> None:
    code = """
import sys, numpy, lstm_xp as lx
assert "matplotlib" not in sys.modules
import io, matplotlib
before = matplotlib.rcParams.copy()
lx.plot.gates(lx.LSTM(5, 4, seed=0).trace(numpy.ones((7, 5), "f4"))).savefig(io.BytesIO(), format="svg")
assert "matplotlib.pyplot" not in sys.modules
assert dict.__eq__(matplotlib.rcParams, before)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
