"""The conformance suite's own tables: that its cases meet, that its oracles tell them apart, that its files are read."""

from collections.abc import Callable, Iterable
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lstm_xp as lx
from conformance import oracle
from conformance.backends import BACKENDS, Gap
from conformance.cases import CORE, FULL, TIERS, VARIANTS, Case, map_arrays
from conformance.compare import differences
from conformance.selection import OPTIONS, SelectionError, default, fits, read_gaps, select, variable

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


@pytest.mark.parametrize("case", TIERS["full"], ids=str)
def test_all_sizes_are_different(case: Case) -> None:
    sizes = [case.time, case.batch, case.input_size, case.hidden_size, case.proj_size or None]
    given = [size for size in sizes if size is not None]
    assert len(set(given)) == len(given)


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
        def state(self) -> tuple[np.ndarray, np.ndarray]:
            return tuple(array[::-1] for array in super().state())

    return Swapped(**vars(case))


CHANGES: dict[str, tuple[Callable[[Case], bool], Callable[[Case], Case]]] = {
    f"gates {a} and {b} swapped": (lambda case: True, lambda case, a=a, b=b: with_gates_swapped(case, a, b))
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
    "outputs not held": (lambda case: case.masked_output == "hold", lambda case: case.replace(masked_output="zero")),
    "backward is forward": (lambda case: case.reverse, lambda case: case.replace(reverse=False)),
    "torch's cell instead": (lambda case: case.variant != "torch", lambda case: case.replace(variant="torch")),
}


@pytest.mark.needs("torch", "onnx", "onnxruntime")
@pytest.mark.parametrize("name", CHANGES)
def test_the_oracles_tell_cases_apart(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oracle, "mode", "live")
    applies, change = CHANGES[name]
    cases = [case for case in CORE if case.time == 7 and applies(case)]
    assert len(cases) >= 3
    for case in cases:
        right, wrong = oracle.truth(case), oracle.truth(change(case))
        assert max(np.max(differences(a, b)) for a, b in zip(right, wrong, strict=True)) > 1e-3, case
