"""
``python -m conformance.readme REPORT.json``: write the support matrix into README.md.

``--check`` writes nothing and fails where the README's rows or statuses are not the report's. Errors and versions
differ from machine to machine and are not compared.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from conformance.backends import BACKENDS
from conformance.report import (
    GAPS,
    GROUPS,
    LONG,
    NOT_APPLICABLE,
    NOT_INSTALLED,
    PASSED,
    STATUSES,
    Cell,
    Note,
    Report,
    Row,
    decade,
    facts,
    matrix,
)

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- conformance matrix: begin -->", "<!-- conformance matrix: end -->"


class ReadmeError(Exception):
    """The README or the report cannot be used."""


def render(report: Report) -> str:
    """
    Return the matrix as Markdown.

    Parameters
    ----------
    report : dict
        A report that has every row of the table of libraries.

    Returns
    -------
    str
        What stands between the markers.

    Raises
    ------
    ReadmeError
        A row is missing, was not installed or is not in the table of libraries.
    """
    found = report["backends"]
    names = [row.name for row in BACKENDS]
    problems = [f"{name} is not in it" for name in names if name not in found]
    problems += [f"{name} was {NOT_INSTALLED}" for name in found if found[name].get("not_run") == NOT_INSTALLED]
    problems += [f"{name} is not in conformance/backends.py" for name in found if name not in names]
    if problems:
        msg = f"the report does not have every row: {'; '.join(problems)}"
        raise ReadmeError(msg)
    table = matrix({**report, "backends": {name: found[name] for name in names}}, GROUPS)
    notes = [note for row in table.rows for note in (row.not_run, *(n for cell in row.cells for n in _notes(cell)))]
    numbers = {note: number for number, note in enumerate(dict.fromkeys(filter(None, notes)), start=1)}
    legend = "; ".join(f"{status.sign} {status.word}: {status.meaning}" for status in STATUSES)
    return "\n".join(
        [
            table_line(["row", "arrays", *(column.title for column in GROUPS)]),
            table_line(["---"] * (len(GROUPS) + 2)),
            *(_row(row, numbers) for row in table.rows),
            "",
            f"{legend}. The power of ten is one that the largest error does not exceed.",
            "",
            "Gradients are those of `lstm_vjp`, autodiff is the library's own; errors are relative to the largest.",
            "",
            f"Cases: {facts(report)['cases']}. T is the length of the longest sequences.",
            "",
            *(f"{number}. {_told(note)}" for note, number in numbers.items()),
            "",
        ]
    )


def _row(row: Row, numbers: Mapping[Note, int]) -> str:
    library, comma, state = row.title.partition(",")
    head = _escape(f"{library} {row.data.get('version', '')}".strip() + comma + state)
    if row.not_run is not None:
        head += f", {row.not_run.label}{_numbers([row.not_run], numbers)}"
    said = []
    for column, cell in zip(GROUPS, row.cells, strict=True):
        # How long is long depends on the tier and the library: a sign alone would promise too much.
        limit = f", T ≤ {row.steps}" if column.title == LONG and cell.total else ""
        said.append(f"{cell.status.sign} {decade(cell.error)}{limit}".rstrip() + _numbers(_notes(cell), numbers))
    return table_line([f"`{row.name}`", head, *said])


def _told(note: Note) -> str:
    return f"{note.label.capitalize()}: {_escape(note.reason)}" + (f" ([link]({note.url}))" if note.url else "")


def stale(report: Report, text: str) -> list[str]:
    """
    Return in what a README is not what a report says.

    Parameters
    ----------
    report : dict
        A report; of rows that it does not have or could not run, only the names are compared.
    text : str
        The README.

    Returns
    -------
    list of str
        A line for each row or status that is stale.
    """
    written = _statuses(text)
    names = [row.name for row in BACKENDS]
    found = [f"{name}: not in the README" for name in names if name not in written]
    found += [f"{name}: in the README, not in conformance/backends.py" for name in written if name not in names]
    for row in matrix(report, GROUPS).rows:
        if row.name not in names:
            found.append(f"{row.name}: in the report, not in conformance/backends.py")
        elif row.name in written and row.data.get("not_run") != NOT_INSTALLED:
            found += [f"{row.name}: {said}" for said in _stale_cells(row, written[row.name], report["tier"])]
    return found


def _stale_cells(row: Row, signs: Sequence[str], tier: str) -> list[str]:
    if len(signs) != len(GROUPS):
        return [f"the README has {len(signs)} columns, expected {len(GROUPS)}"]
    words = {status.sign: status.word for status in STATUSES}
    # Fewer cases may miss a gap.
    missed = {(GAPS.sign, PASSED.sign)} if tier == "core" else set()
    return [
        f"{column.title}: {words.get(sign, repr(sign))} in the README, {cell.status.word} in the report"
        for column, cell, sign in zip(GROUPS, row.cells, signs, strict=True)
        if cell.status.sign != sign and (sign, cell.status.sign) not in missed
    ]


def replaced(text: str, rendered: str) -> str:
    """Return a README with another matrix."""
    return spliced(text, BEGIN, END, rendered)


def spliced(text: str, first: str, last: str, rendered: str) -> str:
    """Return a text with something else between two markers."""
    before, _, after = _parts(text, first, last)
    return f"{before}{first}\n{rendered}{last}{after}"


def _parts(text: str, first: str = BEGIN, last: str = END) -> tuple[str, str, str]:
    before, begin, rest = text.partition(first)
    inside, end, after = rest.partition(last)
    if not (begin and end):
        msg = f"the README has no {last if begin else first}"
        raise ReadmeError(msg)
    return before, inside, after


def _statuses(text: str) -> dict[str, list[str]]:
    """Return the signs that a README has, by row."""
    rows = {}
    for line in _parts(text)[1].splitlines():
        if (row := re.match(r"\| `([^`]+)` \| (?:[^|\\]|\\.)* \| (.*) \|$", line)) is not None:
            rows[row[1]] = [cell.strip()[:1] for cell in row[2].split("|")]
    return rows


def _notes(cell: Cell) -> list[Note]:
    # A test that does not apply is worth a note where nothing else is said.
    return [note for note, _ in cell.notes if note.link or cell.status is NOT_APPLICABLE]


def _numbers(notes: Iterable[Note], numbers: Mapping[Note, int]) -> str:
    said = ", ".join(map(str, sorted(numbers[note] for note in notes)))
    return f" <sup>{said}</sup>" if said else ""


def table_line(cells: Sequence[str]) -> str:
    """Return a row of a table in Markdown."""
    return f"| {' | '.join(cells)} |"


def _escape(text: str) -> str:
    """Escape what Markdown would take as its own; what stands between backticks is shown as it is."""
    return re.sub(r"(`[^`]*`)|([\\*_<>|\[\]])", lambda found: found[1] or f"\\{found[2]}", text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m conformance.readme", description=__doc__.partition("\n\n")[0])
    parser.add_argument("report", type=Path, metavar="REPORT.json", help="what python -m conformance wrote")
    parser.add_argument("--check", action="store_true", help="write nothing; fail where rows or statuses are stale")
    parser.add_argument(
        "--readme", type=Path, default=README, metavar="FILE", help="default: the repository's README.md"
    )
    given = parser.parse_args(arguments)
    report = json.loads(given.report.read_text(encoding="utf-8"))
    text = given.readme.read_text(encoding="utf-8")
    try:
        if not given.check:
            given.readme.write_text(replaced(text, render(report)), encoding="utf-8")
            return 0
        found = stale(report, text)
    except ReadmeError as error:
        parser.error(str(error))
    for line in found:
        sys.stdout.write(f"stale: {line}\n")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
