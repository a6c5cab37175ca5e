"""The report of the conformance suite: what the terminal, the page and the README make of the results."""

import io
import json
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.console import Console

import conformance
from conformance import curves, processes, readme, terminal
from conformance.__main__ import WIDTH, main, rows_of
from conformance.backends import BACKENDS
from conformance.page import page
from conformance.report import (
    COLUMNS,
    FAILED,
    GAPS,
    GROUPS,
    LONG,
    NOT_APPLICABLE,
    NOT_INSTALLED,
    NOT_RUN,
    PASSED,
    STATUSES,
    Note,
    Status,
    cell_of,
    decade,
    figure,
    has_failed,
    in_units,
    matrix,
    summary,
)
from conformance.selection import SelectionError

LINK = "https://github.com/data-apis/array-api/issues/1"
UNSAFE = "<script>alert('&')</script> [bold]"


def results(**given: Any) -> dict[str, Any]:
    """Return what a run found of a capability: a test that passed, or what is given."""
    empty = {"passed": 0, "failed": 0, "skipped": 0, "xfailed": 0, "error": None, "units": None}
    return empty | {"gaps": [], "failures": []} | (given or {"passed": 1})


def gap(kind: str = "xfail", reason: str = "NaN is lost", link: str = LINK, tests: int = 1) -> dict[str, Any]:
    return {"kind": kind, "reason": reason, "link": link, "tests": tests}


def failure(message: str = "AssertionError: wrong") -> dict[str, str]:
    return {"test": "conformance/test_cell.py::test_it[x]", "message": message}


WITH_GAP = results(passed=3, xfailed=2, error=2e-7, units=0.2, gaps=[gap(tests=2)])
WITH_FAILURE = results(passed=1, failed=1, error=1.5e-8, units=0.015, failures=[failure(UNSAFE)])
SKIPPED = results(skipped=4, gaps=[gap("skip", "the library does not differentiate", "", 4)])


def row(title: str, **more: Any) -> dict[str, Any]:
    """Return a row where everything passes, changed."""
    capabilities = {column.title: results(passed=2, error=1.2e-16, units=0.012) for column in COLUMNS}
    capabilities["functions"] = results(passed=57)
    found = {"title": title, "module": title.lower(), "version": "1.0", "array_api_version": "2024.12"}
    found |= {"device": "cpu", "dtypes": ["float64", "float32"], "engine": "auto", "steps": 1000, "switches": {}}
    found |= {"only": None, "not_run": None, "seconds": 3.0, "capabilities": capabilities}
    return found | more | {"capabilities": capabilities | more.get("capabilities", {})}


@pytest.fixture
def report() -> dict[str, Any]:
    """A made-up report with every row of the table, and one of everything that may happen."""
    backends = {each.name: row(each.title) for each in BACKENDS}
    backends["numpy"] |= {
        "accuracy": {"ours": 1.4e-8, "torch": 1.6e-8, "ratio": 0.875, "runs": 50, "steps": 1000},
        "curve": {"float32": [[1, 5e-8], [1000, 9e-8]], "float64": [[1, 0.0], [1000, 3e-16]]},
        "switches": {"jax: float64": UNSAFE},
    }
    backends["torch-compile"] |= {"only": ["cell"], "capabilities": {"cell": results(passed=9)}}
    backends["dask"] = row("Dask", steps=7, capabilities={"masking": WITH_FAILURE, "autodiff": SKIPPED})
    backends["mlx"] = row("MLX", capabilities={"options": WITH_GAP, "memory": WITH_GAP})
    backends["sparse"] |= {"capabilities": {}, "crash": f"killed by SIGSEGV\n{UNSAFE}"}
    backends["cupy"] = {"title": "CuPy", "module": "cupy", "not_run": "no GPU", "seconds": 0.0, "capabilities": {}}
    return {
        "lstm_xp": "0.1.0",
        "tier": "core",
        "python": "3.11.7",
        "oracles": {"torch": "2.13.0, asked live"},
        "tolerances": {"float64": 1e-14, "float32": 1e-6},
        "environment": {"OMP_NUM_THREADS": "1"},
        "backends": backends,
    }


def printed(report: dict[str, Any]) -> str:
    out = io.StringIO()
    terminal.show(report, Console(file=out, width=WIDTH))
    return out.getvalue()


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({}, PASSED),
        ({"passed": 3, "skipped": 1, "gaps": [gap("skip", "it has no float64", "")]}, PASSED),
        ({"passed": 3, "skipped": 1, "gaps": [gap("skip")]}, GAPS),
        ({"passed": 3, "xfailed": 1, "gaps": [gap()]}, GAPS),
        ({"skipped": 4, "gaps": [gap("skip", tests=4)]}, GAPS),
        ({"skipped": 4, "gaps": [gap("skip", "it does not differentiate", "", 4)]}, NOT_APPLICABLE),
        ({"passed": 0}, NOT_APPLICABLE),
        ({"passed": 3, "failed": 1, "failures": [failure()]}, FAILED),
        ({"xfailed": 3, "failed": 1, "gaps": [gap()], "failures": [failure()]}, FAILED),
    ],
)
def test_status_of_a_capability(given: dict[str, Any], status: Status) -> None:
    assert cell_of({"capabilities": {"cell": results(**given)}}, ["cell"]).status is status


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({}, NOT_RUN),
        ({"only": ["cell"]}, NOT_APPLICABLE),
        ({"only": ["long"]}, NOT_RUN),
        ({"not_run": "no GPU"}, NOT_RUN),
        ({"crash": "killed by SIGSEGV"}, FAILED),
        ({"crash": "killed by SIGSEGV", "only": ["cell"]}, NOT_APPLICABLE),
    ],
)
def test_status_of_a_capability_without_results(given: dict[str, Any], status: Status) -> None:
    assert cell_of({"capabilities": {}, **given}, ["long"]).status is status


def test_capabilities_together() -> None:
    row = {"capabilities": {"a": WITH_GAP, "b": results(passed=5, error=1e-15, units=0.9), "c": WITH_GAP}}
    cell = cell_of(row, "abc")
    assert (cell.status, cell.passed, cell.total) == (GAPS, 11, 15)
    assert (cell.error, cell.units) == (1e-15, 0.9)  # the nearest to its tolerance, though not the largest
    assert cell.notes == ((Note("xfail", "NaN is lost", LINK), 4),)
    assert cell_of({"capabilities": {**row["capabilities"], "d": WITH_FAILURE}}, "abd").status is FAILED


def test_every_capability_has_its_place() -> None:
    files = {path.stem.removeprefix("test_") for path in Path(conformance.__file__).parent.glob("test_*.py")}
    assert files == {column.title for column in COLUMNS}
    assert len({column.short for column in COLUMNS}) == len(COLUMNS)
    assert LONG in [group.title for group in GROUPS]


def test_everything_says_how_long_the_sequences_were(report: dict[str, Any]) -> None:
    """Also where they were short on every library, as in a tier of few steps."""
    assert "longest T   1000; 7 in dask" in printed(report)
    for each in report["backends"].values():
        each["steps"] = 3
    assert "longest T   3\n" in printed(report)
    assert "✓ 1e-15, T ≤ 3 |" in readme.render(report)
    assert page(report).count("T ≤ 3<") >= len(BACKENDS) - 1


def test_everything_says_which_cases_were_run(report: dict[str, Any]) -> None:
    report["tier"] = "full"
    for name, each in report["backends"].items():
        each["tier"] = "core" if name in ("jax", "mlx") else "full"
    assert "tier full; core in jax, mlx\n" in printed(report)
    assert "tier full; core in jax, mlx<" in page(report)


def test_a_note_says_of_each_capability_in_which_rows(report: dict[str, Any]) -> None:
    for name in ("numpy", "torch"):
        cell = results(passed=3, skipped=1, gaps=[gap("skip", f"x `y` (see {LINK}) & z", "")])
        report["backends"][name]["capabilities"] |= {"cell": cell, "memory": cell}
    text = page(report)
    assert "cell: 1 of 4 in numpy, torch; memory: 1 of 4 in numpy, torch<" in text
    assert f'x <code>y</code> (see <a href="{LINK}">{LINK}</a>) &amp; z' in text


def test_a_new_capability_is_shown(report: dict[str, Any]) -> None:
    report["backends"]["numpy"]["capabilities"]["novelty"] = results(error=3e-3, units=0.3)
    assert matrix(report).columns[-1].title == "novelty"
    assert "0.3 tol" in page(report)


@given(st.floats(min_value=1e-300, max_value=1e300))
@example(1e-16)
@example(9.99999999e-8)
def test_decade_is_a_bound(error: float) -> None:
    power = float(decade(error))
    assert error <= power * (1 + 1e-6)
    assert error > power / 10 * (1 - 1e-6)
    assert power == float(f"1e{decade(error).removeprefix('1e')}")


def test_figures() -> None:
    assert [decade(e) for e in (None, 0.0, 1e-16, 9.4e-7, float("inf"))] == ["", "0", "1e-16", "1e-6", "inf"]
    assert [figure(e) for e in (None, 0.0, 1.23e-16, 9.96e-7, 3.0)] == ["", "0", "1.2e-16", "1.0e-6", "3.0e0"]
    assert [in_units(u) for u in (None, 0.0, 0.001, 0.236)] == ["", "0 tol", "<0.01 tol", "0.24 tol"]


def test_summary_and_failing(report: dict[str, Any]) -> None:
    said = summary(report)
    assert "1 failed" in said
    assert "1 row crashed" in said
    assert said.endswith("not run: cupy")
    assert has_failed(report)
    del report["backends"]["sparse"]["crash"]
    assert has_failed(report)
    report["backends"]["dask"]["capabilities"]["masking"] = results()
    assert not has_failed(report)


def test_a_crash_alone_is_a_failure(report: dict[str, Any]) -> None:
    only = report | {"backends": {"numpy": row("NumPy", crash="exit code 3")}}
    assert has_failed(only)


def test_terminal(report: dict[str, Any]) -> None:
    said = printed(report)
    table = said.partition("✓ passed")[0]
    assert max(map(len, table.splitlines())) <= 120
    assert all(any(line.split()[:1] == [name] for line in table.splitlines()) for name in report["backends"])
    assert f"options, 2 of 5 tests, violation of the standard: NaN is lost {LINK}" in said
    assert UNSAFE in said
    assert "not run: no GPU" in said
    assert "killed by SIGSEGV" in said
    assert "0.88" in said  # the ratio of accuracies


class Page(HTMLParser):
    """Reads a page, and refuses tags that do not match."""

    EMPTY = frozenset({"meta", "link", "br"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.setdefault(self.open[-1] if self.open else "", []).append(data)

    def values(self, name: str) -> list[str]:
        return [value for each, value in self.attributes if each == name]


def test_page_is_whole_and_refers_to_nothing_outside(report: dict[str, Any]) -> None:
    html = page(report)
    read = Page(html)
    assert not read.tags & {"script", "iframe", "img", "object", "embed", "form"}
    assert not [name for name, _ in read.attributes if name.startswith("on") or name in ("src", "srcset", "action")]
    ids = read.values("id")
    assert len(ids) == len(set(ids))
    outside = [href for href in read.values("href") if not href.startswith("#")]
    assert set(outside) == {LINK, "data:,"}
    assert {href[1:] for href in read.values("href") if href.startswith("#")} <= set(ids)
    assert "url(" not in html
    assert "@import" not in html
    assert len(html) < 500_000


def test_page_says_what_was_found(report: dict[str, Any]) -> None:
    texts = [text for each in Page(page(report)).texts.values() for text in each]
    for said in ("0.012 tol", "NaN is lost", "no GPU", "crashed", "1.0 · T ≤ 7", "1.0 · T ≤ 1000"):
        assert any(said in text for text in texts), said
    assert sum(UNSAFE in text for text in texts) == 3  # a failure's message, a crash, a switch


def test_page_sets_code_in_reasons(report: dict[str, Any]) -> None:
    report["backends"]["jax"]["capabilities"]["cell"] = results(xfailed=1, gaps=[gap(reason="no `a<b>`")])
    assert "a<b>" in Page(page(report)).texts["code"]


def test_page_links_only_to_the_web(report: dict[str, Any]) -> None:
    unsafe = results(xfailed=1, gaps=[gap(link="javascript:alert(1)")])
    report["backends"]["jax"]["capabilities"]["cell"] = unsafe
    read = Page(page(report))
    assert not [href for href in read.values("href") if "javascript" in href]
    assert any("javascript:alert(1)" in text for text in read.texts["li"])


def test_page_of_nothing() -> None:
    nothing = {"lstm_xp": "0", "tier": "core", "python": "3", "oracles": {}, "tolerances": {}, "environment": {}}
    Page(page(nothing | {"backends": {}}))


def test_plot(report: dict[str, Any]) -> None:
    curve, tolerances = report["backends"]["numpy"]["curve"], report["tolerances"]
    axes = curves.axes_of([curve], tolerances)
    read = Page(curves.plot("NumPy", curve, tolerances, axes))
    assert {"float32", "float64", "tolerance of float32", "1", "1000", "T"} <= set(read.texts["text"])
    assert "T = 1000: 9.0e-8" in read.texts["title"]
    assert read.values("class").count("tolerance") == 2
    assert axes.x(1) < axes.x(10) < axes.x(1000)
    assert axes.x(10) - axes.x(1) == pytest.approx(axes.x(100) - axes.x(10), abs=0.11)
    assert axes.y(1e-6) < axes.y(9e-8) < axes.y(1e-14) < axes.y(3e-16) < axes.y(0.0)  # downwards


def test_terminal_page_and_readme_agree(report: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readme, "GROUPS", COLUMNS)
    in_readme = readme._statuses(readme.replaced(f"{readme.BEGIN}{readme.END}", readme.render(report)))
    signs = {status.sign for status in STATUSES}
    lines = [line.split() for line in printed(report).partition("✓ passed")[0].splitlines()]
    in_terminal = {words[0]: [w for w in words if w in signs] for words in lines if words}
    sign_of = {status.word.replace(" ", "-"): status.sign for status in STATUSES}
    in_page = [
        [sign_of[cell.partition('"')[0]] for cell in line.split('<td class="')[1:]]
        for line in page(report).partition("<tbody>")[2].partition("</tbody>")[0].split("</tr>")
    ]
    assert {sign for row in in_readme.values() for sign in row} == signs
    assert list(in_readme) == list(report["backends"])
    assert list(in_readme.values()) == [in_terminal[name] for name in in_readme] == in_page[: len(in_readme)]


@pytest.fixture
def written(report: dict[str, Any]) -> str:
    """A README with the report's matrix."""
    return readme.replaced(f"# before\n{readme.BEGIN}\nan earlier matrix\n{readme.END}\nafter\n", readme.render(report))


def test_readme_is_rewritten_between_its_markers(report: dict[str, Any], written: str) -> None:
    assert written.startswith(f"# before\n{readme.BEGIN}\n| row | arrays |")
    assert written.endswith(f"\n{readme.END}\nafter\n")
    assert "an earlier matrix" not in written
    assert readme.replaced(written, readme.render(report)) == written


def test_readme_says_what_was_found(written: str) -> None:
    lines = {line.split(" | ")[0]: line for line in written.splitlines()}
    assert "✓ 1e-15 |" in lines["| `numpy`"]
    assert "✓ 1e-15, T ≤ 7 |" in lines["| `dask`"]
    assert "✓ 1e-15, T ≤ 1000 |" in lines["| `numpy`"]
    assert "Cases: tier core. T is" in written
    assert "| ✗ 1e-7 |" in lines["| `dask`"]
    assert "CuPy, not run <sup>" in lines["| `cupy`"]
    assert f"Violation of the standard: NaN is lost ([link]({LINK}))" in written
    assert "Not run: no GPU" in written
    assert "<script" not in written


def test_readme_escapes_all_but_code(report: dict[str, Any]) -> None:
    reason = "`cumulative_sum` gives [x] of <y_z>"
    report["backends"]["jax"]["capabilities"]["cell"] = results(xfailed=1, gaps=[gap(reason=reason)])
    assert r"`cumulative_sum` gives \[x\] of \<y\_z\> (" in readme.render(report)


def test_readme_has_the_version_beside_the_library(report: dict[str, Any]) -> None:
    assert "| `jax-jit` | JAX 1.0, jit | ✓" in readme.render(report)


def test_check_passes_on_what_was_written(report: dict[str, Any], written: str) -> None:
    assert readme.stale(report, written) == []
    numpy = report["backends"]["numpy"]
    numpy["version"] = "9.9"
    numpy["capabilities"]["long"] |= {"error": 8e-15, "units": 0.8}
    del report["backends"]["jax"]  # a run need not be of every row
    report["backends"]["torch"] = {"title": "PyTorch", "module": "torch", "not_run": NOT_INSTALLED, "capabilities": {}}
    assert readme.stale(report, written) == []


@pytest.mark.parametrize(
    ("capability", "found", "said"),
    [
        ("masking", WITH_GAP, "numpy: masking: passed in the README, gaps in the report"),
        ("streaming", WITH_FAILURE, "numpy: sequences: passed in the README, failed in the report"),
        ("autodiff", SKIPPED, "numpy: autodiff: passed in the README, not applicable in the report"),
    ],
)
def test_check_names_a_changed_status(
    report: dict[str, Any], written: str, capability: str, found: dict[str, Any], said: str
) -> None:
    report["backends"]["numpy"]["capabilities"][capability] = found
    assert readme.stale(report, written) == [said]


def test_fewer_cases_may_miss_a_gap(report: dict[str, Any], written: str) -> None:
    capabilities = report["backends"]["numpy"]["capabilities"]
    passed, capabilities["masking"] = capabilities["masking"], WITH_GAP
    written = readme.replaced(written, readme.render(report))
    capabilities["masking"] = passed
    assert readme.stale(report | {"tier": "core"}, written) == []
    said = "numpy: masking: gaps in the README, passed in the report"
    assert readme.stale(report | {"tier": "full"}, written) == [said]


def test_check_names_missing_and_unknown_rows(report: dict[str, Any], written: str) -> None:
    line = next(line for line in written.splitlines() if line.startswith("| `jax-jit`"))
    assert readme.stale(report, written.replace(line + "\n", "")) == ["jax-jit: not in the README"]
    more = written.replace(line, line + "\n" + line.replace("jax-jit", "jax-old"))
    assert readme.stale(report, more) == ["jax-old: in the README, not in conformance/backends.py"]
    report["backends"]["other"] = row("Other")
    assert readme.stale(report, written) == ["other: in the report, not in conformance/backends.py"]


def test_check_names_another_number_of_columns(report: dict[str, Any], written: str) -> None:
    line = next(line for line in written.splitlines() if line.startswith("| `numpy`"))
    said = readme.stale(report, written.replace(line, line.rpartition(" | ")[0] + " |"))
    assert said == [f"numpy: the README has {len(GROUPS) - 1} columns, expected {len(GROUPS)}"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: rows.pop("jax"), "jax is not in it"),
        (lambda rows: rows["jax"].update(not_run=NOT_INSTALLED), "jax was not installed"),
        (lambda rows: rows.update(other=row("Other")), "other is not in conformance/backends.py"),
    ],
)
def test_readme_is_written_from_every_row(
    report: dict[str, Any], change: Callable[[dict[str, Any]], Any], said: str
) -> None:
    change(report["backends"])
    with pytest.raises(readme.ReadmeError, match=said):
        readme.render(report)


def test_readme_command(
    tmp_path: Path, report: dict[str, Any], written: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given, text = tmp_path / "report.json", tmp_path / "README.md"
    given.write_text(json.dumps(report), encoding="utf-8")
    text.write_text(f"{readme.BEGIN}{readme.END}", encoding="utf-8")
    arguments = [str(given), "--readme", str(text)]
    assert readme.main([*arguments, "--check"]) == 1
    assert "stale: numpy: not in the README" in capsys.readouterr().out
    assert readme.main(arguments) == 0
    assert readme.main([*arguments, "--check"]) == 0
    assert capsys.readouterr().out == ""
    text.write_text(written.replace(readme.END, ""), encoding="utf-8")
    with pytest.raises(SystemExit, match="2"):
        readme.main(arguments)
    assert "the README has no <!-- conformance matrix: end -->" in capsys.readouterr().err


def test_the_readme_of_the_repository_has_the_rows_of_the_table() -> None:
    nothing = {"backends": {}}
    assert readme.stale(nothing, readme.README.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("code", "given", "crash"),
    [
        (0, {"lstm_xp": "0", "backends": {"a": row("A")}}, None),
        (5, {"lstm_xp": "0", "backends": {"a": {"capabilities": {}}}}, None),
        (1, {"lstm_xp": "0", "backends": {"a": row("A", capabilities={"cell": WITH_FAILURE})}}, None),
        (1, {"lstm_xp": "0", "backends": {"a": row("A")}}, "exit code 1\nlast words"),  # what failed is no row's
        (2, {"lstm_xp": "0", "backends": {"a": row("A")}}, "exit code 2\nlast words"),
        (-11, {"backends": {"a": {"capabilities": {}}}}, "killed by SIGSEGV\nlast words"),
        (0, {"backends": {"a": {"capabilities": {}}}}, "exit code 0\nlast words"),
    ],
)
def test_what_counts_as_a_crash(code: int, given: dict[str, Any], crash: str | None) -> None:
    assert processes.crash_of(code, given, ["last words"]) == crash


def test_merging_keeps_the_order_and_what_each_process_had() -> None:
    first = {"lstm_xp": "1", "environment": {"A": "1"}, "backends": {"z": row("Z")}}
    second = {"lstm_xp": "1", "environment": {"B": "2"}, "backends": {"a": row("A")}}
    merged = processes.merge([first, {"backends": {"m": row("M")}}, second], "core")
    assert list(merged["backends"]) == ["z", "m", "a"]
    assert merged["environment"].items() >= {"A": "1", "B": "2"}.items()
    assert (merged["lstm_xp"], merged["tier"]) == ("1", "core")


def test_rows_that_are_asked_for() -> None:
    assert rows_of([]) == list(BACKENDS)
    assert [each.name for each in rows_of(["numpy"])] == ["numpy"]
    assert [each.name for each in rows_of(["numpy,numpy-readonly", "numpy"])] == ["numpy", "numpy-readonly"]
    with pytest.raises(SelectionError, match="nosuchlibrary"):
        rows_of(["nosuchlibrary"])


def test_rows_that_cannot_be_run_say_why(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [each for each in BACKENDS if each.name in ("cupy", "jax")]
    monkeypatch.setattr("conformance.backends.find_spec", lambda _: None)
    found = processes.run_rows(rows, "core", [], 1, lambda *_: None)["backends"]
    assert {name: each["not_run"] for name, each in found.items()} == {
        "jax": NOT_INSTALLED,
        "cupy": "there was no GPU to run it on",
    }


def test_command_runs_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["numpy,numpy-readonly", "--output", str(tmp_path / "out"), "--", "-k", "test_batch_dimensions"]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "2 rows, 24 tests: 24 passed" in said
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert list(report["backends"]) == ["numpy", "numpy-readonly"]
    found = report["backends"]["numpy"]
    assert list(found["capabilities"]) == ["cell"]
    assert found["capabilities"]["cell"]["passed"] == 12
    assert found["wall_seconds"] > found["seconds"] > 0
    assert report["tier"] == "core"
    Page((tmp_path / "out" / "report.html").read_text(encoding="utf-8"))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["report.html", "report.json"]


def test_command_tells_of_a_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "crasher.py").write_text("import os\nprint('these last words', flush=True)\nos.abort()\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert main(["numpy", "--output", str(tmp_path / "out"), "--", "-p", "crasher"]) == 1
    said = capsys.readouterr().out
    assert "killed by SIGABRT" in said
    assert "these last words" in said
    found = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))["backends"]["numpy"]
    assert found["crash"].startswith("killed by SIGABRT\n")
    assert "these last words" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_command_that_selects_no_test_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["numpy", "--output", str(tmp_path), "--", "-k", "no_such_test"]) == 1
    assert "no test was run" in capsys.readouterr().out
