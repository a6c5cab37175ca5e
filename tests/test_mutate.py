"""The suite's teeth: the operators make the mutants that they should, and the suite kills them."""

import ast
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from conformance.mutate import __main__ as command
from conformance.mutate.__main__ import TARGETS, key_of, killed_before, mutants_of, sample, stale_reasons
from conformance.mutate.judge import ROOT, Run, Verdict, copy_to, survey
from conformance.mutate.operators import OPERATORS
from conformance.mutate.reach import Reach, lines_of_statement
from conformance.mutate.source import Mutant, Source, fields_of_classes, generate
from conformance.mutate.table import Judged


def changes(operator: str, source: str) -> list[str]:
    """Return the changed lines that an operator makes of a program."""
    text = Source("program.py", source, fields_of_classes([ast.parse(source)]))
    return [mutant.after for mutant in generate(text, {operator: OPERATORS[operator]})]


# operator -> (program, the lines that become of it)
EXAMPLES: dict[str, tuple[str, list[str]]] = {
    "slice": ("a[1:k]", ["a[2:k]", "a[0:k]"]),
    "index": ("a[0] + a[k, 1]", ["a[1] + a[k, 1]", "a[0] + a[k, 0]"]),
    "axis": ("f(a, axis=0)", ["f(a, axis=1)", "f(a, axis=(-1))"]),
    "integer": ("4 * n", ["5 * n", "3 * n"]),
    "bound": (
        "z[k * n :]",
        ["z[ :]", "z[(k * n) + 1 :]", "z[(k * n) - 1 :]"],
    ),
    "row": ("a[row, :]", ["a[row - 1, :]"]),
    "count": ("f(len(a))", ["f((len(a) - 1))"]),
    "float": ("1.0 - i + 0.0", ["0.5 - i + 0.0", "1.0 - i + 0.5"]),
    "sign": ("a + b - c", ["a + b + c", "a - b - c"]),
    "operation": ("a @ b", ["a * b"]),
    "operand": ("f * c + i", ["(f * c)", "i", "f + i", "c + i"]),
    "comparison": ("t < n", ["t <= n"]),
    "connective": ("a and b and c", ["a or b or c"]),
    "opposite": ("all(a) + clip(b, min=0)", ["any(a) + clip(b, min=0)", "all(a) + clip(b, max=0)"]),
    "condition": ("if a:\n    raise e", ["if not a:"]),
    "branch": ("b if a is None else c", ["b", "c"]),
    "where": ("xp.where(m, a, b)", ["xp.where(m, b, a)", "a", "b"]),
    "direction": (
        "loop(reversed(a), b[::-1], reverse)",
        ["loop(a, b[::-1], reverse)", "loop(reversed(a), b, reverse)", "loop(reversed(a), b[::-1], (not reverse))"],
    ),
    "truth": ("f(True)", ["f(False)"]),
    "string": ('if a == "zero":\n    f("zero")', ['if a == "?":']),
    "unpacking": ("a, b, c = d", ["b, a, c = d", "c, b, a = d", "a, c, b = d"]),
    "tuple": ("f((h, c)) + (x in (h, c))", ["f((c, h)) + (x in (h, c))"]),
    "argument": ("peep(p, z, 1)", ["peep(z, p, 1)"]),
    "unwrap": ("clip(xp.tanh(c, k))", ["xp.tanh(c, k)", "clip(c)"]),
    "sibling": (
        "def f(state):\n    h, c = state\n    return h * w.first\nclass W:\n    first: int\n    second: int",
        ["return c * w.first", "return h * w.second"],
    ),
    "statement": ("f(a)\nb += 1\nraise ValueError(b + c)", ["pass"] * 3),
    "return": ("def f(a) -> int | None:\n    return a\ndef g(a) -> int:\n    return a", ["return None"]),
    "dtype": ("zeros(n, dtype=d, device=e)", ["zeros(n,  device=e)"]),
    "device": ("zeros(n, dtype=d, **device_keyword(x))", ["zeros(n, dtype=d, )"]),
    "keyword": ("f(a, axis=0)", ["f(a, )"]),
    "integer dtype": ("astype(a, xp.int32)", ["astype(a, xp.int8)"]),
}


@pytest.mark.parametrize("operator", OPERATORS)
def test_an_operator_makes(operator: str) -> None:
    source, expected = EXAMPLES[operator]
    found = changes(operator, source)
    assert [" ".join(line.split()) for line in expected] == found


def test_nothing_is_made_of_what_does_not_compute() -> None:
    source = '''
"""Return 1 + 1."""
from a import b, c
Pair: TypeAlias = tuple[int, 0, 1]
class Sizes(Base[0]):
    """Two of them, not 3."""
    rows: Annotated[int, 4]
@cache(maxsize=2)
def f(a: Literal[1]) -> tuple[int, 3]:
    msg = "not " + f"{a + 1}"
    raise ValueError(msg, 1 + 2)
'''
    assert {mutant.after for mutant in generate(Source("program.py", source, {}), OPERATORS)} == {"pass"}


def test_two_mutants_are_never_the_same() -> None:
    source = Source("program.py", "a[::-1] + b[1]\n", {})
    trees = [ast.dump(ast.parse(mutant.source)) for mutant in generate(source, OPERATORS)]
    assert len(set(trees)) == len(trees) > 5
    assert ast.dump(source.tree) not in trees


def test_the_rest_of_the_file_stays_as_it_is() -> None:
    source = "# Äußerst\nx = f(\n    {},  # first\n    {},\n)\ny = 2\n"
    (mutant,) = generate(Source("program.py", source.format("a", "b"), {}), {"argument": OPERATORS["argument"]})
    assert mutant == ("program.py", 3, "argument", "a, # first b,", "b, # first a,", source.format("b", "a"))


# What the mutants have to be about, and at least how many of them there are.
KINDS: dict[str, tuple[Callable[[Mutant], bool], int]] = {
    "a gate's slice": (lambda m: "z_i, z_f, z_g, z_o" in m.before and m.operator in ("slice", "bound"), 8),
    "the gates' order": (lambda m: "z_i, z_f, z_g, z_o" in m.before and m.operator == "unpacking", 6),
    "sign": (lambda m: m.operator == "sign", 20),
    "bias": (lambda m: "bias" in m.before and m.operator in ("operand", "sibling", "branch"), 8),
    "index": (lambda m: m.operator == "index", 30),
    "direction": (lambda m: m.operator == "direction", 10),
    "state row": (lambda m: "state[0][row, :, :]" in m.before, 8),
    "where branch": (lambda m: m.operator == "where", 20),
    "dtype": (lambda m: "dtype" in m.operator, 6),
    "device": (lambda m: m.operator == "device", 1),
}


def test_the_mutants_of_the_source() -> None:
    """Made once, which takes seconds: of every kind, by every operator, each its file but for some lines."""
    everything = mutants_of(TARGETS)
    found = {kind: sum(map(is_of_kind, everything)) for kind, (is_of_kind, _) in KINDS.items()}
    assert {kind for kind, number in found.items() if number < KINDS[kind][1]} == set(), found
    assert {mutant.operator for mutant in everything} == set(OPERATORS)
    assert {mutant.file for mutant in everything} == set(TARGETS)
    for mutant in everything:
        lines = (ROOT / "lstm_xp" / mutant.file).read_text(encoding="utf-8").splitlines()
        changed = mutant.source.splitlines()
        assert changed[: mutant.line - 1] == lines[: mutant.line - 1]
        assert changed != lines


def of_two_files() -> list[Mutant]:
    return mutants_of(["_options.py", "engines/standard.py"])


def test_a_sample_is_spread_over_files_and_operators() -> None:
    mutants = of_two_files()
    number = len({(mutant.file, mutant.operator) for mutant in mutants})
    chosen = sample(mutants, number, seed=1)
    assert len({(mutant.file, mutant.operator) for mutant in chosen}) == number < len(mutants)
    assert chosen == sample(mutants, number, seed=1) != sample(mutants, number, seed=2)


def test_reasons_that_are_none_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    everything = of_two_files()
    dead, gone = everything[:2]
    reasons = {key_of(dead): "it is the same", key_of(gone): "it is the same"}
    monkeypatch.setattr("conformance.mutate.__main__.REASONS", reasons)
    judged = [Judged(dead, Verdict("killed", "test_x", "differs"), reasons[key_of(dead)])]
    there = [mutant for mutant in everything if mutant != gone]
    assert stale_reasons(there, judged) == [
        (key_of(gone), "there is no such mutant"),
        (key_of(dead), "it was noticed by test_x: differs"),
    ]
    assert stale_reasons(everything, [judged[0]._replace(verdict=Verdict("survived"))]) == []


PROGRAM = """\
a = 1
def f(
    x=2,
):
    if (x ==
            3):
        return [
            x,
        ]
    try:
        with x as y: y()
    except (KeyError,
            ValueError):
        pass
    def g():
        return 4
class C:
    b = 5
    def h(self):
        return 6
"""


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (1, None),  # run on import, as defaults and what stands in a class
        (3, None),
        (5, (5, 6)),  # without what is nested in it
        (6, (5, 6)),
        (8, (7, 9)),
        (11, (11, 11)),
        (13, (12, 13)),
        (15, None),
        (16, (16, 16)),
        (18, None),
        (20, (20, 20)),
    ],
)
def test_a_line_is_run_with_its_statement(line: int, expected: tuple[int, int] | None) -> None:
    lines = lines_of_statement(ast.parse(PROGRAM), line)
    assert (lines and (lines[0], lines[-1])) == expected


def test_to_what_is_run_on_import_every_test_comes() -> None:
    test = Reach("test_a", 0.1, frozenset({("_cell.py", 7)}))
    assert test.comes_to("_cell.py", range(6, 8))
    assert not test.comes_to("_cell.py", range(8, 10))
    assert not test.comes_to("_lstm.py", range(6, 8))
    assert test.comes_to("_lstm.py", None)


def test_of_a_stage_only_the_files_of_its_tests_are_read() -> None:
    stage = ("tests/test_a.py", "tests/test_b.py::TestB", "-k", "test_a.py or test_b", "--xp=numpy")
    assert Run(stage).arguments == [*stage]
    assert Run(stage, ("tests/test_b.py::TestB::test_b",)).arguments == ["tests/test_b.py", *stage[2:]]


def test_a_survey_sees_where_each_test_comes(tmp_path: Path) -> None:
    folder = copy_to(tmp_path / "copy")
    stage = ("conformance/test_options.py", "--xp=numpy", "--oracle=frozen", "-k", "elu_overflows or threshold")
    tests = {test.id.partition("[")[0].rpartition("::")[2]: test for test in survey(folder, stage, 300)}
    lines = (ROOT / "lstm_xp" / "_activations.py").read_text(encoding="utf-8").splitlines()
    (elu,) = [k for k, line in enumerate(lines, start=1) if "xp.expm1(" in line]
    assert tests["test_elu_overflows_nowhere"].comes_to("_activations.py", range(elu, elu + 1))
    assert not tests["test_the_threshold_itself_is_below_it"].comes_to("_activations.py", range(elu, elu + 1))


@pytest.mark.needs("array_api_strict")
def test_the_suite_passes_on_the_source_and_kills_mutants_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the command to its report, on as little of the suite as kills them."""
    files = [f"conformance/test_{name}.py" for name in ("cell", "masking", "options", "sequence", "trace")]
    stage = [*files, "--xp=strict-2023.12", "--oracle=frozen"]
    monkeypatch.setattr(command, "TARGETS", {"_cell.py": [stage], "engines/_stack.py": [stage]})
    report = tmp_path / "report.json"
    operators = ["--operator=unpacking", "--operator=where"]
    monkeypatch.setattr(sys, "argv", ["mutate", *operators, "--sample=4", f"--json={report}"])
    code = command.main()
    said = capsys.readouterr().out
    assert code == 0, said
    assert "4 mutants: 4 killed" in said
    assert {each["outcome"] for each in json.loads(report.read_text())["mutants"]} == {"killed"}


def test_what_earlier_runs_killed_is_known(tmp_path: Path) -> None:
    mutants = [{"file": "_cell.py", "operator": "sign", "before": "a + b", "after": after} for after in "xyz"]
    outcomes = [("killed", "killed", "survived"), ("killed", "survived", "killed")]
    for k, row in enumerate(outcomes):
        judged = [
            mutant | {"outcome": outcome, "test": "test_a", "message": "no"}
            for mutant, outcome in zip(mutants, row, strict=True)
        ]
        (tmp_path / f"{k}.json").write_text(json.dumps({"mutants": judged}))
    ((key, verdict),) = killed_before([tmp_path / "0.json", tmp_path / "1.json"]).items()
    assert key == ("_cell.py", "sign", "a + b", "x")
    assert verdict == Verdict("killed", "test_a", "no")
