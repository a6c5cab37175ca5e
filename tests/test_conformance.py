"""The conformance suite itself: that its cases meet, that its oracles tell them apart, what it lets itself be told."""

import ast
import re
import subprocess
import sys
from collections.abc import Callable
from importlib import reload
from importlib.metadata import version
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_purity import CORE as CORE_FILES

import lstm_xp as lx
from conformance import oracle, record, test_resets, textbook
from conformance.backends import BACKENDS, Gap
from conformance.cases import CORE, FULL, TIERS, VARIANTS, Case, map_arrays
from conformance.compare import differences
from conformance.derivatives import THROUGH
from conformance.selection import OPTIONS, SelectionError, default, fits, read_gaps, select, variable
from conformance.test_functions import CALLS, EXACT

# The columns of the first tier, and what stands in them; of sizes, whether there is one.
COLUMNS: dict[str, tuple[Any, ...]] = {
    "T": (1, 2, 7),
    "N": ("one", "none"),
    "P": ("one", "none"),
    "layers": (1, 2, 3),
    "way": ("forward", "backward", "both"),
    "bias": (("bias_ih", "bias_hh"), ("bias_ih",), ("bias_hh",), ()),
    "x": ("first", "second", "none"),
    "start": ("given", "one", "absent"),
    "valid": ("all", "lengths", "mask"),
    "masked": ("zero", "hold"),
    "variant": tuple(VARIANTS),
    "dtype": ("float64", "float32"),
}
# The second tier has longer sequences, and fewer of what the first one settles.
FULL_COLUMNS = COLUMNS | {
    "T": (1, 2, 7, 1000),
    "layers": (1, 2),
    "bias": (("bias_ih", "bias_hh"), ()),
    "start": ("given", "absent"),
}


def settings_of(case: Case) -> dict[str, Any]:
    """Return what stands in each column."""
    return {
        "T": case.time,
        "N": "none" if case.batch is None else "one",
        "P": "one" if case.proj_size else "none",
        "layers": case.num_layers,
        "way": "both" if case.bidirectional else "backward" if case.reverse else "forward",
        "bias": case.bias,
        "x": "none" if case.batch is None else "first" if case.batch_first else "second",
        "start": case.start,
        "valid": case.valid,
        "masked": case.masked_output,
        "variant": case.variant,
        "dtype": case.dtype,
    }


def may_be(settings: dict[str, Any]) -> bool:
    """Tell whether settings go together."""
    return (
        (settings["N"] == "none") == (settings["x"] == "none")  # where the batch is, if there is one
        and not (settings["N"] == "none" and settings["start"] == "one")  # nothing to broadcast over
        and not (settings["valid"] == "all" and settings["masked"] == "hold")  # nothing to hold
        and not (settings["P"] == "one" and settings["variant"] != "torch")  # ONNX has no projection
    )


def pairs_that_may_meet(columns: dict[str, tuple[Any, ...]]) -> set[frozenset[tuple[str, Any]]]:
    """Return all pairs of settings that some case may have."""
    tied = {name: columns[name] for name in ("N", "P", "x", "start", "valid", "masked", "variant")}
    whole = [s for values in product(*tied.values()) if may_be(s := dict(zip(tied, values, strict=True)))]
    return {
        frozenset({(a, this), (b, that)})
        for a, b in combinations(columns, 2)
        for this, that in product(columns[a], columns[b])
        if any(s.get(a, this) == this and s.get(b, that) == that for s in whole)
    }


@pytest.mark.parametrize(("cases", "columns"), [(CORE, COLUMNS), (FULL, FULL_COLUMNS)], ids=["core", "full"])
def test_any_two_settings_that_may_meet_do(cases: tuple[Case, ...], columns: dict[str, tuple[Any, ...]]) -> None:
    met = {frozenset(pair) for case in cases for pair in combinations(settings_of(case).items(), 2)}
    wanted = pairs_that_may_meet(columns)
    assert not wanted - met
    assert not met - wanted


def test_the_first_tier_is_short() -> None:
    assert 35 <= len(CORE) <= 45
    assert max(case.time for case in CORE) == 7


def test_all_sizes_of_a_case_are_different() -> None:
    for case in TIERS["full"]:
        sizes = [case.time, case.batch, case.input_size, case.hidden_size, case.proj_size or None]
        given = [size for size in sizes if size is not None]
        assert len(set(given)) == len(given), case


@pytest.mark.parametrize(
    "names",
    [[row.name for row in BACKENDS], [row.title for row in BACKENDS], list(map(str, CORE)), list(map(str, FULL))],
    ids=["rows", "titles", "core", "full"],
)
def test_names_are_unique(names: list[str]) -> None:
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("row", BACKENDS, ids=str)
def test_every_gap_has_a_reason_and_a_link(row: Any) -> None:
    for gap in row.gaps:
        assert gap.reason
        assert gap.link.startswith("https://")
        assert gap.kind in ("skip", "xfail")
    assert all(link.startswith("https://") for link in row.missing.values())


DRAWN = [0.042989471491787556, 0.6714916855532829, 0.00958370821397403]


def test_what_is_drawn_is_the_same_everywhere() -> None:
    case = Case(seed=3)
    np.testing.assert_array_equal(case.draw("x", (3,)), DRAWN)
    np.testing.assert_array_equal(case.replace(dtype="float32").draw("x", (3,)), np.asarray(DRAWN, "float32"))
    assert not np.any(case.draw("y", (3,)) == DRAWN)
    assert not np.any(case.replace(seed=4).draw("x", (3,)) == DRAWN)
    drawn = case.draw("x", (1000,), -2, 3)
    assert -2 <= drawn.min() < -1.9
    assert 2.9 < drawn.max() < 3


# What a wrong LSTM or a wrong oracle may do, each as a case that differs in it from the right one.
def with_gates_swapped(case: Case, a: int, b: int) -> Case:
    """Return a case in whose weights two gates have changed places."""

    class Swapped(Case):
        def __str__(self) -> str:
            return f"{super().__str__()},gates {a} and {b} swapped"

        def weights(self) -> tuple[tuple[lx.CellWeights, ...], ...]:
            return map_arrays(lambda array: swapped(array, self.hidden_size), super().weights())

    def swapped(array: np.ndarray, size: int) -> np.ndarray:
        if array.shape[0] != 4 * size:  # a projection or peepholes
            return array
        order = [*range(4)]
        order[a], order[b] = b, a
        return array.reshape(4, size, *array.shape[1:])[order].reshape(array.shape)

    return Swapped(**vars(case))


def with_state_rows_swapped(case: Case) -> Case:
    """Return a case whose initial states stand in the opposite order."""

    class Swapped(Case):
        def __str__(self) -> str:
            return f"{super().__str__()},rows of states swapped"

        def state(self) -> tuple[np.ndarray, np.ndarray]:
            return tuple(array[::-1] for array in super().state())

    return Swapped(**vars(case))


CHANGES: dict[str, tuple[Callable[[Case], bool], Callable[[Case], Case]]] = {
    f"gates {a} and {b} swapped": (
        lambda _: True,
        lambda case, a=a, b=b: with_gates_swapped(case, a, b),
    )
    for a, b in combinations(range(4), 2)
} | {
    "bias_ih dropped": (lambda case: "bias_ih" in case.bias, lambda case: case.replace(bias=case.bias[1:])),
    "bias_hh dropped": (lambda case: "bias_hh" in case.bias, lambda case: case.replace(bias=case.bias[:-1])),
    "states ignored": (lambda case: case.start != "absent", lambda case: case.replace(start="absent")),
    "rows of the states swapped": (
        lambda case: case.start != "absent" and case.num_layers * case.num_directions > 1,
        with_state_rows_swapped,
    ),
    "lengths ignored": (
        lambda case: case.valid == "lengths",
        lambda case: case.replace(valid="all", masked_output="zero"),
    ),
    "mask ignored": (lambda case: case.valid == "mask", lambda case: case.replace(valid="all", masked_output="zero")),
    "outputs not held": (
        # Backward, what follows a length is processed first: there is nothing yet to hold.
        lambda case: case.masked_output == "hold" and not (case.reverse and case.valid == "lengths"),
        lambda case: case.replace(masked_output="zero"),
    ),
    "backward is forward": (lambda case: case.reverse, lambda case: case.replace(reverse=False)),
    "torch's cell instead": (lambda case: case.variant != "torch", lambda case: case.replace(variant="torch")),
}


@pytest.mark.needs("torch", "onnx", "onnxruntime")
@pytest.mark.parametrize("name", CHANGES)
def test_the_oracles_tell_cases_apart(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oracle, "mode", "live")
    applies, change = CHANGES[name]
    cases = [case for case in CORE if case.time == 7 and applies(case)]
    assert len(cases) >= 2
    for case in cases:
        right, wrong = oracle.truth(case), oracle.truth(change(case))
        assert max(np.max(differences(a, b)) for a, b in zip(right, wrong, strict=True)) > 1e-3, case


@pytest.mark.needs("torch", "onnx", "onnxruntime")
@pytest.mark.parametrize("case", test_resets.CASES, ids=str)
def test_the_oracles_tell_resets(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """From none, and from the same resets one step later."""
    monkeypatch.setattr(oracle, "mode", "live")
    late = type("Late", (Case,), {"episodes": lambda self: np.roll(Case.episodes(self), 1, axis=0)})
    right = oracle.truth(case)
    for wrong in (case.replace(resets=False), late(**vars(case))):
        answer = oracle.answer(
            wrong, oracle.torch_whole(wrong) if case.variant == "torch" else oracle.onnx_whole(wrong)
        )
        assert max(np.max(differences(a, b)) for a, b in zip(right, answer, strict=True)) > 1e-3


@pytest.mark.parametrize(
    ("tests", "test", "is_about"),
    [
        ("test_cell.py", "test_cell.py::test_one[mylib]", True),
        ("test_cell.py::test_one", "test_cell.py::test_one[mylib]", True),
        ("test_cell.py::test_one[mylib]", "test_cell.py::test_one[mylib]", True),
        ("test_cell.py::test_one[*-float64]", "test_cell.py::test_one[mylib-float64]", True),
        ("test_cell.py::test_one[*-float64]", "test_cell.py::test_one[mylib-float32]", False),
        ("test_cell.py::test_one[mylib.array]", "test_cell.py::test_one[mylib-array]", False),
        ("test_one", "test_cell.py::test_one[mylib]", False),
    ],
)
def test_which_tests_a_gap_is_about(tests: str, test: str, is_about: bool) -> None:
    assert fits(Gap(tests, "skip", "a reason", "https://example.org"), test) is is_about


def test_a_file_of_gaps_is_read(tmp_path: Path) -> None:
    path = tmp_path / "skips.txt"
    path.write_text(
        """
        # No `flip` along several axes,
        # as documented: https://example.org/1
        test_functions.py::test_function[*-flip]
        ../lstm_xp/conformance/test_masking.py::test_one

        # https://example.org/2 - no empty arrays
        test_sizes.py
        """
    )
    flip = "No `flip` along several axes, as documented", "https://example.org/1"
    assert read_gaps(path, "skip") == [
        Gap("test_functions.py::test_function[*-flip]", "skip", *flip),
        Gap("test_masking.py::test_one", "skip", *flip),
        Gap("test_sizes.py", "skip", "no empty arrays", "https://example.org/2"),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "test_cell.py",
        "# a reason without a link\ntest_cell.py",
        "# a reason: https://example.org\n\ntest_cell.py",
        "# https://example.org\ntest_cell.py",
    ],
    ids=["nothing", "no link", "too far above", "no reason"],
)
def test_a_gap_needs_a_reason_and_a_link(tmp_path: Path, text: str) -> None:
    path = tmp_path / "xfails.txt"
    path.write_text(text)
    line = len(text.splitlines())
    with pytest.raises(SelectionError, match=rf"xfails.txt, line {line}: 'test_cell.py' has no comment above it with"):
        read_gaps(path, "xfail")


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("xp", "nowhere", "--xp=nowhere: No module named 'nowhere'"),
        ("xp", "json", "--xp=json: json makes no array of float64 or float32: .*'asarray'"),
        ("xp", "numpy,", "--xp=: Empty module name"),
        ("device", "abacus", "--device=abacus: numpy makes no array of float64 or float32 on abacus: .*abacus"),
        ("engine", "steam", "--engine=steam: `engine` is 'steam', expected 'auto' or one of standard"),
        ("skips-file", "nowhere.txt", "nowhere.txt: No such file or directory"),
    ],
)
def test_what_does_not_exist_is_named(option: str, value: str, message: str) -> None:
    with pytest.raises(SelectionError, match=message):
        select({name: default(name) for name in OPTIONS} | {"xp": "numpy"} | {option: value})


def test_a_dtype_that_the_library_does_not_have_is_refused() -> None:
    given = {name: default(name) for name in OPTIONS} | {"xp": "strict-no_float64", "dtype": "float64"}
    with pytest.raises(SelectionError, match="no library that was asked for has float64"):
        select(given)


def test_a_device_has_its_own_dtypes() -> None:
    (row,) = select(
        {name: default(name) for name in OPTIONS} | {"xp": "array_api_strict", "device": "no_float64"}
    ).backends
    assert row.dtypes == ("float32",)


def test_every_function_that_the_core_calls_is_tested_by_itself() -> None:
    called = {
        node.func.attr
        for name in CORE_FILES
        for node in ast.walk(ast.parse((ROOT / "lstm_xp" / name).read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) == "xp"
    }
    assert {"mean", "tanh", "where"} <= called
    # These two stand between a library's arrays and all else: nothing comes to be tested without them.
    assert called - {"asarray", "isdtype"} <= {*CALLS, *EXACT}


def dtypes_of_tests(tier: str) -> dict[tuple[str, str], list[str]]:
    """Return the dtypes in which each test of JAX's row is run, by its name and its other parameters."""
    command = [sys.executable, "-m", "pytest", "conformance", "--xp=jax", f"--tier={tier}", "--collect-only", "-q"]
    said = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    found: dict[tuple[str, str], list[str]] = {}
    for test, dtype, rest in re.findall(r"(test_\w+\.py::test_\w+)\[jax-(float\d+)(.*)\]$", said, re.MULTILINE):
        found.setdefault((test, rest), []).append(dtype)
    return found


@pytest.mark.needs("jax")
def test_where_each_test_is_compiled_the_dtypes_take_turns() -> None:
    core, full = dtypes_of_tests("core"), dtypes_of_tests("full")
    assert core.keys() == full.keys()
    assert all(sorted(dtypes) == ["float32", "float64"] for dtypes in full.values())
    shortened = {(name, rest) for (name, rest), dtypes in core.items() if len(dtypes) == 1}
    for name in {name for name, _ in shortened}:
        turns = [dtypes for (test, _), dtypes in core.items() if test == name]
        assert abs(turns.count(["float64"]) - turns.count(["float32"])) <= 1
        assert len(turns) == turns.count(["float64"]) + turns.count(["float32"]) > 1
    assert len(shortened) > 50


@pytest.mark.needs("jax")
def test_what_jax_was_told_is_as_before_behind_its_row() -> None:
    import jax

    for row in (row for row in BACKENDS if row.module == "jax.numpy"):
        before = dict(jax.config.values)
        with row.context():
            assert record.describe(row)["switches"]["jax: float64"] == "True"
        assert dict(jax.config.values) == before


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("steps", "0", "is '0', expected an integer, at least 1"),
        ("steps", "many", "is 'many', expected an integer, at least 1"),
        ("dtype", "float16", "is 'float16', expected one of float64, float32"),
    ],
)
def test_a_wrong_value_in_the_environment_is_refused(
    option: str, value: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable(option), value)
    with pytest.raises(SelectionError, match=f"{variable(option)} {message}"):
        default(option)


def test_an_empty_variable_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable("tier"), "")
    monkeypatch.setenv(variable("xp"), "")
    assert default("tier") == "core"
    assert default("xp") is None


@pytest.mark.needs("torch", "onnx", "onnxruntime", "jax")
def test_the_header_says_who_was_asked_and_how_precise_products_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oracle, "mode", "live")
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    monkeypatch.setenv("UNRELATED", "1")
    header = reload(record).header  # what the environment was when it was imported is what counts
    selection = select({name: default(name) for name in OPTIONS} | {"xp": "torch,jax", "tier": "full"})
    lines = header(selection.backends, selection.tier)
    assert {
        f"conformance of lstm_xp {lx.__version__}, tier full",
        f"  oracle: torch {version('torch')}, asked live",
        f"  oracle: onnxruntime {version('onnxruntime')}, asked live",
        "    torch: TF32 in products, in cuDNN: False, False",
        "    jax: matmul precision: highest",
        "    jax: float64: True",
        "  environment: NVIDIA_TF32_OVERRIDE=0",
    } <= set(lines)
    assert "UNRELATED" not in "".join(lines)


ROOT = Path(__file__).parents[1]


def test_the_readme_has_every_option() -> None:
    text = (ROOT / "conformance/README.md").read_text(encoding="utf-8")
    assert set(OPTIONS) <= set(re.findall(r"`--([\w-]+)=", text))


def test_the_readme_has_ten_lines_that_call_the_workflow() -> None:
    text = (ROOT / "conformance/README.md").read_text(encoding="utf-8")
    (call,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert call.count("\n") == 10
    workflow = (ROOT / ".github/workflows/conformance.yml").read_text(encoding="utf-8")
    taken = set(re.findall(r"^      ([\w-]+):$", workflow.partition("\njobs:")[0], re.MULTILINE))
    assert re.search(r"uses: \w+/lstm_xp/\.github/workflows/conformance\.yml@main$", call, re.MULTILINE)
    given = re.findall(r"^      ([\w-]+):", call.partition("with:")[2], re.MULTILINE)
    assert given == ["xp", "install"]
    assert set(given) <= taken
    assert {"device", "dtype", "tier", "skips-file", "xfails-file", "python-version", "runs-on"} <= taken


@pytest.mark.parametrize("name", THROUGH)
def test_each_option_that_is_differentiated_through_acts(name: str) -> None:
    """A clip that no number reaches has no gradient of its own."""
    case, options = THROUGH[name]
    answer = textbook.answer(case, textbook.Variant(**options))
    for option in options:
        rest = {each: value for each, value in options.items() if each != option}
        # Whose parameters are of another shape.
        if option == "norm_gates":
            continue
        without = textbook.answer(case, textbook.Variant(**rest))
        moved = max(np.abs(a - b).max() for a, b in zip(answer, without, strict=True))
        assert moved > 1e-3 or options[option] == getattr(textbook.Variant(), option), option
