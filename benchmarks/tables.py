"""Tables for the terminal."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from rich.table import Table

from benchmarks.goals import Verdict
from benchmarks.records import Record


def tables(found: Sequence[Record]) -> Iterator[Table]:
    """Yield a table for each question, number of threads and kind of work."""

    def key(record: Record) -> tuple[str, int, str]:
        return record.question, record.threads, record.what

    for (question, threads, what), group in groupby(sorted(found, key=key), key):
        yield table(f"{question}: {what}, {threads} thread{'s' * (threads > 1)}", list(group))


def table(title: str, found: Sequence[Record]) -> Table:
    """Return contestants by sizes: the median, half the distance of the quartiles, and the ratio to ours."""
    names = list(dict.fromkeys(record.name for record in found))
    first = next((record.name for record in found if record.ours), None)
    caption = None if first is None else f"×: as many times as {first}"
    result = Table(title=title, title_justify="left", caption=caption, caption_justify="left")
    result.add_column("N, T, I, H")
    for name in names:
        result.add_column(name, justify="right")
    for problem in dict.fromkeys(record.problem for record in found):
        row = {record.name: record for record in found if record.problem == problem}
        own = row.get(first)
        result.add_row(problem, *(cell(row[name], own) if name in row else "" for name in names))
    return result


def cell(record: Record, own: Record | None) -> str:
    """Return one figure."""
    spread = (record.q3 - record.q1) / 2 / record.median
    text = f"{quantity(record.median, record.unit)} ±{spread:.0%}"
    return text if own is None or own is record else f"{text} ×{record.median / own.median:.2f}"


def quantity(number: float, unit: str) -> str:
    """Return a number of seconds or bytes, or a throughput, with three digits."""
    scales = {
        "s": ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")),
        "bytes": ((2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB")),
    }.get(unit, ((1e6, f"M {unit}"), (1e3, f"k {unit}"), (1.0, unit)))
    scale, name = next(((scale, name) for scale, name in scales if number >= scale), scales[-1])
    digits = f"{number / scale:#.3g}".rstrip(".")
    return f"{digits} {name}"


def goals(verdicts: Iterable[Verdict]) -> Table:
    """Return what was to be reached, and what was."""
    result = Table(title="Goals: ratios of medians", title_justify="left")
    for title in ("who", "against", "threads", "what", "goal", "reached", "where", ""):
        result.add_column(title)
    for each in verdicts:
        sign = "[green]met[/]" if each.met else "[red]not met[/]"
        result.add_row(
            each.who, each.against, str(each.threads), each.what, each.goal, f"{each.reached:.2f}", each.where, sign
        )
    return result
