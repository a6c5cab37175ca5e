"""The report as one page of HTML: no script, nothing fetched from elsewhere."""

import re
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from pathlib import Path

from conformance import curves
from conformance.report import (
    NOT_RUN,
    STATUSES,
    Cell,
    Matrix,
    Note,
    Report,
    Row,
    facts,
    figure,
    has_failed,
    in_units,
    matrix,
    summary,
)

STYLE = Path(__file__).with_name("page.css")
TITLE = "Conformance of lstm_xp"
WHAT_IT_IS = (
    "One LSTM, written once against the Python array API standard, run on each array library and compared with "
    "<code>torch.nn.LSTM</code> and, for the variants that torch does not have, with ONNX Runtime. A cell has the "
    "error that comes nearest to its tolerance: absolute, and in units of that tolerance, which the bar shows."
)
# Nothing may be fetched, whatever a message in the report says.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def page(report: Report) -> str:
    """
    Return a report as a page.

    Parameters
    ----------
    report : dict
        The report.

    Returns
    -------
    str
        HTML.
    """
    table = matrix(report)
    verdict = "failed" if has_failed(report) else "passed"
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<link rel="icon" href="data:,">\n<title>{TITLE}</title>',
            f"<style>\n{STYLE.read_text(encoding='utf-8')}</style>\n</head>\n<body>\n<main>",
            f"<h1>{TITLE}</h1>\n<p>{WHAT_IT_IS}</p>",
            f'<p class="verdict">{verdict.capitalize()}: {escape(summary(report))}.</p>',
            _facts(report),
            _section("matrix", "What each library does", [_matrix(table), _legend()]),
            _section("notes", "Notes", _notes(table)),
            _section("failures", "Failures", [_failures(row) for row in table.rows if row.failures or row.crash]),
            _section("accuracy", "How accurate float32 is", _accuracy(table)),
            _section("curves", "Error against T", _curves(table, report)),
            _section("libraries", "The libraries", [_libraries(table)]),
            "</main>\n</body>\n</html>\n",
        ]
    )


def _section(name: str, title: str, parts: Sequence[str]) -> str:
    if not parts:
        return ""
    return "\n".join([f'<section aria-labelledby="{name}">', f'<h2 id="{name}">{title}</h2>', *parts, "</section>"])


def _table(headings: Iterable[str], rows: Iterable[str], css: str = "", *, label: str) -> str:
    # It scrolls by itself, also from the keyboard.
    head = "".join(f'<th scope="col">{heading}</th>' for heading in headings)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{label}">'
        f'<table class="{css}">\n<thead><tr>{head}</tr></thead>\n<tbody>\n'
        + "\n".join(rows)
        + "\n</tbody></table></div>"
    )


def _name(row: Row, *small: str) -> str:
    """Return the head of a row; what stands small in it is HTML."""
    said = "".join(f"<small>{each}</small>" for each in small if each)
    return f'<th scope="row">{escape(row.title)}{said}</th>'


def _facts(report: Report) -> str:
    return "<dl>" + "".join(f"<dt>{k}</dt><dd>{escape(v)}</dd>" for k, v in facts(report).items()) + "</dl>"


def _matrix(table: Matrix) -> str:
    rows = []
    for row in table.rows:
        steps = f"T ≤ {row.steps}" if row.steps else ""
        small = [escape(" · ".join(filter(None, (str(row.data.get("version", "")), steps))))]
        if row.not_run is not None:
            small.append(f"not run{_links([row.not_run], table)}")
        if row.crash is not None:
            small.append(f'<a href="#failed-{escape(row.name)}">crashed</a>')
        rows.append(f"<tr>{_name(row, *small)}{''.join(_cell(cell, row, table) for cell in row.cells)}</tr>")
    return _table(["library", *(escape(c.title) for c in table.columns)], rows, "matrix", label="the matrix")


def _cell(cell: Cell, row: Row, table: Matrix) -> str:
    css = cell.status.word.replace(" ", "-")
    notes = f"<div>{_links([note for note, _ in cell.notes], table)}</div>" if cell.notes else ""
    said = f'<small class="word">{cell.status.word}</small>' if cell.status is NOT_RUN else figure(cell.error)
    failed = ""
    if cell.failures:
        many = f"{len(cell.failures)}/{cell.total}"
        failed = f'<small><a href="#failed-{escape(row.name)}">{many} failed</a></small>'
    bar = ""
    if cell.units is not None:
        full = round(min(100, 100 * cell.units))
        bar = f'<small>{escape(in_units(cell.units))}</small><span class="bar"><i style="width:{full}%"></i></span>'
    hint = f"{row.title}: {cell.status.word}" + (f", {cell.counts}" if cell.total else "")
    sign = f'<span class="sign" role="img" aria-label="{cell.status.word}">{cell.status.sign}</span>'
    return f'<td class="{css}" title="{escape(hint)}">{sign} {said}{failed}{bar}{notes}</td>'


def _links(notes: Iterable[Note], table: Matrix) -> str:
    numbers = sorted({table.numbers[note] for note in notes})
    return "".join(f'<sup> <a href="#note-{n}">{n}</a></sup>' for n in numbers)


def _legend() -> str:
    items = (
        f'<li><span class="{s.word.replace(" ", "-")}">{s.sign} {s.word}</span> {s.meaning}</li>' for s in STATUSES
    )
    return f'<ul class="legend">{"".join(items)}</ul>'


def _notes(table: Matrix) -> list[str]:
    if not table.numbers:
        return []
    items = []
    for note, number in table.numbers.items():
        link = f' <a href="{escape(note.url)}">{escape(note.url)}</a>' if note.url else f" {escape(note.link)}"
        where = "; ".join([*_where(note, table), *(escape(row.name) for row in table.rows if row.not_run == note)])
        items.append(
            f'<li id="note-{number}"><strong>{escape(note.label.capitalize())}:</strong> {_prose(note.reason)}{link}'
            f'<br><span class="soft">{where}</span></li>'
        )
    return ['<ol class="notes">', *items, "</ol>"]


def _where(note: Note, table: Matrix) -> Iterator[str]:
    """Yield each capability that a note is about, with how many of its tests in which rows."""
    for k, column in enumerate(table.columns):
        rows: dict[str, list[str]] = {}
        for row in table.rows:
            cell = row.cells[k]
            for tests in (tests for each, tests in cell.notes if each == note):
                rows.setdefault(f"{tests} of {cell.total}", []).append(row.name)
        if rows:
            said = ", ".join(f"{many} in {escape(', '.join(names))}" for many, names in rows.items())
            yield f"{escape(column.title)}: {said}"


def _prose(text: str) -> str:
    """Return text in which backticks make code, and addresses links."""
    text = re.sub("`([^`]+)`", r"<code>\1</code>", escape(text))
    return re.sub(r"https://[^\s)&]+", r'<a href="\g<0>">\g<0></a>', text)


def _failures(row: Row) -> str:
    items = "".join(
        f"<li><code>{escape(each['test'])}</code><br>{escape(each['message'])}</li>" for each in row.failures
    )
    crash = f"<p>The process crashed; the end of its output:</p><pre>{escape(row.crash)}</pre>" if row.crash else ""
    count = f"{len(row.failures)} failed" if row.failures else "crashed"
    body = f"{crash}<ul>{items}</ul>" if items else crash
    # The link goes to what is inside, which opens it.
    return (
        f"<details{' open' if crash else ''}><summary>{escape(row.title)}: {count}</summary>"
        f'<div id="failed-{escape(row.name)}">{body}</div></details>'
    )


def _accuracy(table: Matrix) -> list[str]:
    found = [(row, row.data["accuracy"]) for row in table.rows if "accuracy" in row.data]
    if not found:
        return []
    rows = [
        "<tr>"
        + _name(row)
        + "".join(
            f'<td class="number">{said}</td>'
            for said in (figure(a["ours"]), figure(a["torch"]), f"{a['ratio']:.2f}", str(a["runs"]), str(a["steps"]))
        )
        + "</tr>"
        for row, a in found
    ]
    headings = ("library", "rms error, ours", "rms error, torch's own", "ratio", "networks", "steps")
    told = "<p>Root mean square of the error against the float64 truth, beside that of torch in float32.</p>"
    return [told, _table(headings, rows, label="accuracy")]


def _curves(table: Matrix, report: Report) -> list[str]:
    found = [(row, row.data["curve"]) for row in table.rows if row.data.get("curve")]
    if not found:
        return []
    tolerances = report["tolerances"]
    axes = curves.axes_of([curve for _, curve in found], tolerances)
    figures = [
        f"<figure><figcaption><h3>{escape(row.title)}</h3></figcaption>"
        f"{curves.plot(row.title, curve, tolerances, axes)}</figure>"
        for row, curve in found
    ]
    told = "<p>The largest difference from torch's float64 after T steps. Errors that pile up would rise.</p>"
    return [told, '<div class="plots">', *figures, "</div>"]


def _libraries(table: Matrix) -> str:
    rows = []
    for row in table.rows:
        if row.not_run is not None:
            continue
        seconds = row.data.get("wall_seconds", row.data["seconds"])
        said = [
            str(row.data.get("version", "")),
            str(row.data.get("array_api_version", "")),
            str(row.data.get("device", "")),
            ", ".join(row.data.get("dtypes", ())),
            str(row.data.get("engine", "")),
            str(row.data.get("tier", "")),
            str(row.steps or ""),
            "; ".join(f"{name}: {value}" for name, value in row.data.get("switches", {}).items()),
            f"{seconds:.0f}",
        ]
        cells = "".join(f"<td>{escape(each)}</td>" for each in said)
        rows.append(f"<tr>{_name(row, f'<code>{escape(row.name)}</code>')}{cells}</tr>")
    headings = "row", "version", "array API", "device", "dtypes", "engine", "cases", "T up to", "switches", "seconds"
    return _table(headings, rows, label="the libraries")
