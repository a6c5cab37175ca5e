"""
What the terminal, the page and the README say of a report, decided once, so that they never disagree.

A report is the JSON of one run. Everything here is a function of it alone.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Report = Mapping[str, Any]

NOT_INSTALLED = "not installed"


@dataclass(frozen=True)
class Status:
    """What became of a capability: a word and a sign, so that no colour is needed to tell, and what they mean."""

    word: str
    sign: str
    meaning: str


PASSED = Status("passed", "✓", "every test that applies passes")
GAPS = Status("gaps", "◐", "known limits of the library or violations of the standard, told in the notes")
FAILED = Status("failed", "✗", "a test fails")
NOT_APPLICABLE = Status("not applicable", "-", "no test applies")
NOT_RUN = Status("not run", "·", "no test was run")
STATUSES = (PASSED, GAPS, FAILED, NOT_APPLICABLE, NOT_RUN)


@dataclass(frozen=True)
class Column:
    """A column of a matrix: one capability, or several taken together."""

    title: str
    short: str
    capabilities: tuple[str, ...]


LONG = "long sequences"
# Every capability (the name of a test file), from what an LSTM needs to what one may ask of it: how it is called where
# there is no room, and with which others it shares a column of the README.
CAPABILITIES = {
    "functions": ("func", "cell"),
    "cell": ("cell", "cell"),
    "sequence": ("seq", "sequences"),
    "sizes": ("size", "sequences"),
    "masking": ("mask", "masking"),
    "options": ("opts", "options"),
    "normalisation": ("norm", "layer norm"),
    "resets": ("rset", "resets"),
    "trace": ("trce", "trace"),
    "streaming": ("strm", "sequences"),
    "long": ("long", LONG),
    "accuracy": ("accu", LONG),
    "vjp": ("vjp", "gradients"),
    "autodiff": ("auto", "autodiff"),
    "numbers": ("nums", "the rest"),
    "memory": ("memo", "the rest"),
    "properties": ("prop", "the rest"),
    "transfer": ("tran", "the rest"),
    "refusals": ("refu", "the rest"),
}
COLUMNS = tuple(Column(name, short, (name,)) for name, (short, _) in CAPABILITIES.items())
GROUPS = tuple(
    Column(group, group, tuple(name for name, (_, shared) in CAPABILITIES.items() if shared == group))
    for group in dict.fromkeys(group for _, group in CAPABILITIES.values())
)


@dataclass(frozen=True)
class Note:
    """Why tests of a capability did not pass or did not run."""

    kind: str
    reason: str
    link: str = ""

    @property
    def label(self) -> str:
        """What kind of reason it is."""
        if self.kind == "skip":
            return "limit" if self.link else "does not apply"
        return {"xfail": "violation of the standard", "unknown": "not known"}.get(self.kind, self.kind)

    @property
    def url(self) -> str | None:
        """The link, if it is one that a reader may be sent to."""
        return self.link if self.link.startswith(("https://", "http://")) else None


@dataclass(frozen=True)
class Cell:
    """What a library does of a capability."""

    status: Status
    error: float | None = None
    units: float | None = None
    passed: int = 0
    total: int = 0
    notes: tuple[tuple[Note, int], ...] = ()  # each with how many tests it is about
    failures: tuple[Mapping[str, str], ...] = ()

    @property
    def counts(self) -> str:
        """How many tests passed, in words."""
        return f"{self.passed} of {self.total} tests passed"


@dataclass(frozen=True)
class Row:
    """What a library does."""

    name: str
    data: Mapping[str, Any]
    cells: tuple[Cell, ...]

    @property
    def title(self) -> str:
        return str(self.data["title"])

    @property
    def not_run(self) -> Note | None:
        """Why the row was not run."""
        return Note(NOT_RUN.word, self.data["not_run"]) if self.data.get("not_run") else None

    @property
    def crash(self) -> str | None:
        """The end of what the row's process said, if it did not come to its end."""
        return self.data.get("crash")

    @property
    def steps(self) -> int | None:
        """The longest sequence that it was given."""
        return self.data.get("steps")

    @property
    def failures(self) -> tuple[Mapping[str, str], ...]:
        return tuple(failure for cell in self.cells for failure in cell.failures)

    @property
    def notes(self) -> tuple[tuple[Note, int], ...]:
        return tuple(note for cell in self.cells for note in cell.notes)


@dataclass(frozen=True)
class Matrix:
    """What libraries do, by column, and the notes in the order of their first appearance."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    numbers: Mapping[Note, int] = field(default_factory=dict)


def matrix(report: Report, columns: Sequence[Column] | None = None) -> Matrix:
    """
    Return a report as the table that everything shows.

    Parameters
    ----------
    report : dict
        The report.
    columns : sequence of Column, optional
        The columns; default: every capability that there is.

    Returns
    -------
    Matrix
        The rows in the report's order.
    """
    columns = tuple(columns or columns_of(report))
    rows = tuple(
        Row(name, data, tuple(cell_of(data, column.capabilities) for column in columns))
        for name, data in report["backends"].items()
    )
    notes = [note for row in rows for note in (row.not_run, *(note for note, _ in row.notes)) if note is not None]
    return Matrix(columns, rows, {note: number for number, note in enumerate(dict.fromkeys(notes), start=1)})


def columns_of(report: Report) -> tuple[Column, ...]:
    """Return every capability as a column, those that are new to this file at the end."""
    known = {column.title for column in COLUMNS}
    found = {name for row in report["backends"].values() for name in row.get("capabilities", {})}
    return (*COLUMNS, *(Column(name, name[:4], (name,)) for name in sorted(found - known)))


def cell_of(row: Mapping[str, Any], capabilities: Iterable[str]) -> Cell:
    """
    Return what a library does of capabilities taken together.

    Parameters
    ----------
    row : dict
        A library's part of a report.
    capabilities : iterable of str
        Which.

    Returns
    -------
    Cell
        The counts added, and the error that comes nearest to its tolerance.
    """
    only = row.get("only")
    wanted = [name for name in capabilities if only is None or name in only]
    found = [row["capabilities"][name] for name in wanted if name in row.get("capabilities", {})]
    if row.get("not_run"):
        return Cell(NOT_RUN)
    if not wanted:
        return Cell(NOT_APPLICABLE)
    if len(found) < len(wanted) and row.get("crash"):  # what it took along
        return Cell(FAILED)
    if not found:
        return Cell(NOT_RUN)
    passed, failed, skipped, xfailed = (
        sum(each[outcome] for each in found) for outcome in ("passed", "failed", "skipped", "xfailed")
    )
    notes: dict[Note, int] = {}
    for gap in (gap for each in found for gap in each["gaps"]):
        note = Note(gap["kind"], gap["reason"], gap["link"])
        notes[note] = notes.get(note, 0) + gap["tests"]
    measured = [each for each in found if each["units"] is not None]
    largest = max(measured, key=lambda each: each["units"], default={"error": None, "units": None})
    # What a test skips by itself, without a link, is no gap: it asks for what the library is not about.
    if failed:
        status = FAILED
    elif xfailed or any(note.link for note in notes):
        status = GAPS
    else:
        status = PASSED if passed else NOT_APPLICABLE
    return Cell(
        status,
        largest["error"],
        largest["units"],
        passed,
        passed + failed + skipped + xfailed,
        tuple(notes.items()),
        tuple(failure for each in found for failure in each["failures"]),
    )


def has_failed(report: Report) -> bool:
    """Tell whether a test failed or a row's process crashed."""
    return any(row.crash or any(cell.status is FAILED for cell in row.cells) for row in matrix(report).rows)


def summary(report: Report) -> str:
    """Return a run in one sentence."""
    rows = matrix(report).rows
    run = [row for row in rows if row.not_run is None]
    passed, total = (sum(getattr(cell, name) for row in run for cell in row.cells) for name in ("passed", "total"))
    failed = sum(len(row.failures) for row in run)
    said = f"{_count(len(run), 'row')}, {_count(total, 'test')}: {passed} passed, {failed} failed, "
    said += f"{total - passed - failed} skipped or known to fail"
    crashed = sum(row.crash is not None for row in run)
    said += f"; {_count(crashed, 'row')} crashed" if crashed else ""
    missing = [row.name for row in rows if row.not_run is not None]
    return said + (f"; not run: {', '.join(missing)}" if missing else "")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def decade(error: float | None) -> str:
    """Return the power of ten that an error does not exceed."""
    if error is None or error == 0:
        return "" if error is None else "0"
    mantissa, _, exponent = f"{error:.6e}".partition("e")
    return f"1e{int(exponent) + (float(mantissa) > 1)}" if exponent else str(error)


def figure(error: float | None) -> str:
    """Return an error with two digits."""
    if error is None or error == 0:
        return "" if error is None else "0"
    mantissa, _, exponent = f"{error:.1e}".partition("e")
    return f"{mantissa}e{int(exponent)}" if exponent else str(error)


def in_units(units: float | None) -> str:
    """Return an error in units of its tolerance."""
    if units is None:
        return ""
    return "<0.01 tol" if 0 < units < 0.01 else f"{units:.2g} tol"


def by_row(report: Report, what: str) -> str:
    """Return what the rows were given (their `steps`, their `tier`): most of them, then those that differ."""
    rows: dict[str, list[str]] = {}
    for row in matrix(report).rows:
        if row.data.get(what) is not None:
            rows.setdefault(str(row.data[what]), []).append(row.name)
    ranked = sorted(rows, key=lambda said: len(rows[said]), reverse=True)
    return "; ".join(said + (f" in {', '.join(rows[said])}" if k else "") for k, said in enumerate(ranked))


def facts(report: Report) -> dict[str, str]:
    """Return what a run was made with."""
    return {
        name: said
        for name, said in {
            "lstm_xp": report["lstm_xp"],
            "cases": f"tier {by_row(report, 'tier') or report['tier']}",
            "longest T": by_row(report, "steps"),
            "Python": report["python"],
            "platform": report.get("platform", ""),
            "date": report.get("date", ""),
            "oracles": ", ".join(f"{name} {said}" for name, said in report["oracles"].items()),
            "tolerances": ", ".join(f"{value:.0e} in {name}" for name, value in report["tolerances"].items()),
            "environment": ", ".join(f"{name}={value}" for name, value in report["environment"].items()),
        }.items()
        if said
    }
