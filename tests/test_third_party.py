"""
The suite as the author of an array library meets it: on a small library of its own, from that author's folder.

The library is `third_party/tinyarrays`. As it is, it passes. With a bug planted in it, or a function taken away, the
suite fails, and says what is wrong.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import lstm_xp

SUITE = Path(__file__).parents[1] / "conformance"
LIBRARIES = Path(__file__).parent / "third_party"
# With frozen answers: none of the oracles has to be there.
QUICK = ("--xp=tinyarrays", "--oracle=frozen")


class Run(NamedTuple):
    """What a run of the suite said."""

    code: int
    output: str
    report: dict[str, Any]

    @property
    def capabilities(self) -> dict[str, Any]:
        """The results of the only library, by capability."""
        (row,) = self.report["backends"].values()
        return row["capabilities"]

    @property
    def failures(self) -> dict[str, str]:
        """The messages of the tests that failed, by test."""
        return {f["test"]: f["message"] for cell in self.capabilities.values() for f in cell["failures"]}


def run_suite(folder: Path, *arguments: str, tests: tuple[str, ...] = ("",), **environment: str) -> Run:
    """Run the suite, or some of its files, from a folder that is not this repository's."""
    report = folder / "report.json"
    command = [sys.executable, "-m", "pytest", *(str(SUITE / each) for each in tests), f"--report={report}", *arguments]
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("LSTM_XP_CONFORMANCE_", "TINYARRAYS_"))}
    path = os.pathsep.join(filter(None, (str(folder), str(LIBRARIES), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider", "--color=no"],
        cwd=folder,
        # Without the plugins of pytest that happen to be there: they cost a second each time.
        env=inherited | {"PYTHONPATH": path, "COLUMNS": "200", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return Run(done.returncode, done.stdout, json.loads(report.read_text()) if report.exists() else {})


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, dict[str, list[str]]]:
    """Run the whole suite on the library as it is; return what it said, and which tests called which function."""
    folder = tmp_path_factory.mktemp("clean")
    run = run_suite(folder, *QUICK, "-p", "calls", CALLS=str(folder / "calls.json"))
    assert run.code == 0, run.output
    return run, json.loads((folder / "calls.json").read_text())


def test_a_library_that_follows_the_standard_passes(clean: tuple[Run, Any]) -> None:
    run, _ = clean
    assert set(run.capabilities) == {path.stem.removeprefix("test_") for path in SUITE.glob("test_*.py")}
    assert not run.failures
    assert sum(cell["passed"] for cell in run.capabilities.values()) > 200
    skipped = {name for name, cell in run.capabilities.items() if cell["skipped"]}
    assert skipped <= {"autodiff", "long", "refusals", "transfer"}
    assert not any("frozen" in gap["reason"] for cell in run.capabilities.values() for gap in cell["gaps"])


def test_the_header_says_what_is_run_with_what(clean: tuple[Run, Any]) -> None:
    run, _ = clean
    row = "  tinyarrays: tinyarrays 0.1, array API 2023.12, device cpu, float64 and float32, engine auto"
    for line in (
        f"conformance of lstm_xp {lstm_xp.__version__}, tier core",
        row,
        "  tolerances: 1e-14 in float64, 1e-06 in float32",
    ):
        assert f"\n{line}\n" in run.output
    assert re.search(r"\n  oracle: torch .*frozen", run.output)


def test_the_report_has_it_all(clean: tuple[Run, Any]) -> None:
    report = clean[0].report
    assert report["lstm_xp"] == lstm_xp.__version__
    assert report["tolerances"] == {"float64": 1e-14, "float32": 1e-6}
    row = report["backends"]["tinyarrays"]
    expected = {
        "module": "tinyarrays",
        "version": "0.1",
        "array_api_version": "2023.12",
        "device": "cpu",
        "dtypes": ["float64", "float32"],
        "engine": "auto",
        "steps": 7,
    }
    assert {name: row[name] for name in expected} == expected
    assert row["seconds"] > 0
    sequence = row["capabilities"]["sequence"]
    assert sequence["passed"] >= 5
    assert 0 < sequence["error"] < 1e-6
    assert 0 < sequence["units"] < 1
    assert row["accuracy"]["steps"] == 7
    assert [step for step, _ in row["curve"]["float32"]] == [1, 2, 4, 7]


@pytest.mark.parametrize(
    ("bug", "calls", "file"),
    [
        ("tanh", {"tanh"}, "test_numbers.py"),
        ("flip", {"flip"}, "test_masking.py"),
        ("matmul", {"matmul", "@"}, "test_sequence.py"),
        ("stack", {"stack"}, "test_sequence.py"),
    ],
)
def test_a_bug_is_caught_and_named(tmp_path: Path, bug: str, calls: set[str], file: str) -> None:
    run = run_suite(tmp_path, *QUICK, tests=("test_functions.py", file), TINYARRAYS_BUG=bug)
    assert run.code == 1, run.output
    messages = {message for test, message in run.failures.items() if "test_functions.py" in test}
    pattern = r"AssertionError: `(.+)` of tinyarrays differs by \d.*, more than \d.*: at \(.+\) .+, expected .+"
    found = [re.fullmatch(pattern, message) for message in messages]
    assert all(found), messages
    assert {match[1] for match in found} == calls
    # It stands in the terminal as well, before anything that is built of that function.
    first = re.search(r"^E +(AssertionError: .*)$", run.output, re.MULTILINE)
    assert first[1] in messages
    # And the LSTM is wrong, too.
    assert any("output differs by" in message for test, message in run.failures.items() if file in test)


FILES = ("test_functions.py", "test_masking.py")


@pytest.mark.parametrize("name", ["cumulative_sum", "isdtype"])
def test_a_missing_function_fails_only_what_needs_it(
    tmp_path: Path, name: str, clean: tuple[Run, dict[str, list[str]]]
) -> None:
    need_it = {test for test in clean[1][name] if test.rpartition("/")[2].partition("::")[0] in FILES}
    run = run_suite(tmp_path, *QUICK, tests=FILES, TINYARRAYS_MISSING=name)
    assert run.code == 1
    assert set(run.failures) == need_it
    said = f"tinyarrays has no function `{name}` of the array API standard, which this test needs"
    for message in run.failures.values():
        assert message.endswith(f"MissingFunctionError: {said}")


def test_what_is_known_not_to_pass(tmp_path: Path) -> None:
    (tmp_path / "skips.txt").write_text("# No ragged batches. https://example.org/1\ntest_masking.py\n")
    (tmp_path / "xfails.txt").write_text(
        "# It saturates too early: https://example.org/2\n"
        "../conformance/test_functions.py::test_function[tinyarrays-*-tanh]\n"
        "test_functions.py::test_function[tinyarrays-float64-flip]\n"
        "test_cell.py\n"
    )
    files = ("--skips-file=skips.txt", "--xfails-file=xfails.txt")
    run = run_suite(tmp_path, *QUICK, *files, tests=("test_functions.py", "test_masking.py"), TINYARRAYS_BUG="tanh")
    assert run.code == 1

    masking, functions = (run.capabilities[name] for name in ("masking", "functions"))
    assert masking["passed"] == masking["failed"] == 0
    skip = {"kind": "skip", "reason": "No ragged batches.", "link": "https://example.org/1"}
    assert masking["gaps"] == [skip | {"tests": masking["skipped"]}]
    assert "No ragged batches. (https://example.org/1)" in run.output

    xfail = {"kind": "xfail", "reason": "It saturates too early", "link": "https://example.org/2"}
    assert functions["gaps"] == [xfail | {"tests": 2}]
    assert functions["xfailed"] == 2
    # Of a part of the suite, it cannot be told what is no test.
    assert "there is no test" not in run.output
    # What was to fail and passes is a failure.
    ((test, message),) = run.failures.items()
    assert test.endswith("test_function[tinyarrays-float64-flip]")
    assert message == "[XPASS(strict)] It saturates too early (https://example.org/2)"


def test_a_line_that_is_no_tests_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "skips.txt").write_text("# Gone: https://example.org/1\ntest_sequence.py\ntest_cell.py::test_gone\n")
    run = run_suite(tmp_path, *QUICK, "--skips-file=skips.txt", "--collect-only", "-q")
    assert run.code == 0, run.output
    assert "PytestWarning: skips file: in this run there is no test test_cell.py::test_gone" in run.output
    assert run.output.count("there is no test") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--xp=nowhere",), "--xp=nowhere: No module named 'nowhere'"),
        (("--xp=tinyarrays", "--xfails-file=xfails.txt"), "xfails.txt, line 2: 'test_cell.py' has no comment above it"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    (tmp_path / "xfails.txt").write_text("# no link\ntest_cell.py\n")
    run = run_suite(tmp_path, *arguments)
    assert run.code == pytest.ExitCode.USAGE_ERROR
    assert re.fullmatch(f"ERROR: {message}.*", run.output.strip())


CHOSEN = {
    "xp": "tinyarrays",
    "device": "cpu",
    "dtype": "float32",
    "engine": "standard",
    "steps": "2",
    "tier": "core",
    "oracle": "frozen",
}


@pytest.mark.parametrize("way", ["options", "environment"])
def test_every_option_is_an_environment_variable_too(tmp_path: Path, way: str) -> None:
    # The frozen answers need neither of those that gave them.
    for module in ("torch", "onnxruntime"):
        (tmp_path / f"{module}.py").write_text("raise ImportError\n")
    variables = {f"LSTM_XP_CONFORMANCE_{name.upper()}": value for name, value in CHOSEN.items()}
    arguments = [f"--{name}={value}" for name, value in CHOSEN.items()]
    if way == "options":
        run = run_suite(tmp_path, "-v", *arguments, tests=("test_sequence.py",))
    else:
        run = run_suite(tmp_path, "-v", tests=("test_sequence.py",), **variables)
    assert run.code == 0, run.output
    row = "tinyarrays@cpu: tinyarrays 0.1, array API 2023.12, device cpu, float32, engine standard"
    assert f"\n  {row}\n" in run.output
    shown = re.findall(r"^  environment: (LSTM_XP_CONFORMANCE_\w+)=(.*)$", run.output, re.MULTILINE)
    assert dict(shown) == (variables if way == "environment" else {})
    assert run.capabilities["sequence"]["passed"] >= 3
    assert not run.capabilities["sequence"]["skipped"]
    ids = re.findall(r"test_equals_torch\[(.*)\]", run.output)
    assert ids
    for each in ids:
        assert each.startswith("tinyarrays@cpu-time=")
        assert "dtype=float32" in each
        assert int(re.search(r"time=(\d+)", each)[1]) <= 2
