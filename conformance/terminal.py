"""The report in the terminal."""

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from conformance.report import (
    FAILED,
    GAPS,
    NOT_APPLICABLE,
    NOT_RUN,
    PASSED,
    STATUSES,
    Cell,
    Matrix,
    Report,
    Row,
    decade,
    facts,
    figure,
    matrix,
    summary,
)

STYLES = {PASSED: "green", GAPS: "yellow", FAILED: "bold red", NOT_APPLICABLE: "dim", NOT_RUN: "dim"}
MOST_FAILURES = 10  # of a row; the page and the JSON have all


def show(report: Report, console: Console) -> None:
    """Print a report: the matrix, the reasons of what is not green in it, the accuracy."""
    table = matrix(report)
    for name, said in facts(report).items():
        console.print(Text.assemble((f"{name:<12}", "dim"), said))
    console.print(_matrix(table))
    console.print(_legend(table))
    for row in table.rows:
        _show_row(row, table, console)
    if any("accuracy" in row.data for row in table.rows):
        console.print(_accuracy(table))
    console.print(Text(summary(report), style="bold"))


def _matrix(table: Matrix) -> Table:
    shown = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False)
    shown.add_column("", no_wrap=True)
    for column in table.columns:
        shown.add_column(column.short, no_wrap=True)
    for row in table.rows:
        shown.add_row(Text(row.name), *(_cell(cell) for cell in row.cells))
    return shown


def _cell(cell: Cell) -> Text:
    exponent = decade(cell.error).removeprefix("1e-")
    return Text(f"{cell.status.sign} {exponent}".rstrip(), style=STYLES[cell.status])


def _legend(table: Matrix) -> Text:
    signs = [(f"{status.sign} {status.word}  ", STYLES[status]) for status in STATUSES]
    short = [f"{c.short} {c.title}" for c in table.columns if c.short != c.title]
    return Text.assemble(*signs, "7: the largest error is at most 1e-7\n", (", ".join(short) + "\n", "dim"))


def _show_row(row: Row, table: Matrix, console: Console) -> None:
    lines: list[Text] = []
    if row.not_run is not None:
        lines.append(Text(f"  not run: {row.not_run.reason}", style=STYLES[NOT_RUN]))
    if row.crash is not None:
        lines.append(Text("  crashed; the end of its output:", style=STYLES[FAILED]))
        lines.append(Text("    " + row.crash.replace("\n", "\n    ")))
    lines += [
        Text.assemble(("  failed  ", STYLES[FAILED]), each["test"], "\n          ", each["message"].partition("\n")[0])
        for each in row.failures[:MOST_FAILURES]
    ]
    if len(row.failures) > MOST_FAILURES:
        lines.append(Text(f"  and {len(row.failures) - MOST_FAILURES} more failures", style=STYLES[FAILED]))
    for column, cell in zip(table.columns, row.cells, strict=True):
        for note, tests in cell.notes:
            said = f"{column.title}, {tests} of {cell.total} tests, {note.label}: {note.reason} {note.link}"
            lines.append(Text(f"  {said}".rstrip(), style=STYLES[GAPS] if note.link else "dim"))
    if lines:
        console.print(Text(row.name, style="bold"))
        for line in lines:
            console.print(line, soft_wrap=True)
        console.print()


def _accuracy(table: Matrix) -> Table:
    shown = Table(
        title="float32 against the float64 truth: root mean square error",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    shown.add_column("")
    for heading in ("ours", "torch's own", "ratio", "networks", "steps"):
        shown.add_column(heading, justify="right")
    for row in table.rows:
        if (found := row.data.get("accuracy")) is not None:
            numbers = (figure(found["ours"]), figure(found["torch"]), f"{found['ratio']:.2f}")
            shown.add_row(Text(row.name), *numbers, str(found["runs"]), str(found["steps"]))
    return shown
