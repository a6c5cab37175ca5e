"""What became of the mutants, for people and as data."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from conformance.mutate.equivalent import Key
from conformance.mutate.judge import Verdict
from conformance.mutate.operators import OPERATORS
from conformance.mutate.source import Mutant


class Judged(NamedTuple):
    """A mutant, what the suite said, and why it could not notice, where that is known."""

    mutant: Mutant
    verdict: Verdict
    reason: str | None

    @property
    def survived(self) -> bool:
        """Whether no test noticed."""
        return self.verdict.outcome == "survived"

    @property
    def is_hole(self) -> bool:
        """Whether no test noticed, and there is no reason why."""
        return self.survived and self.reason is None


def show(judged: Sequence[Judged], stale: Sequence[tuple[Key, str]], console: Console) -> None:
    """
    Print the kill table, who killed, and the survivors.

    Parameters
    ----------
    judged : sequence of Judged
        The mutants.
    stale : sequence of tuple
        The keys of reasons that are none, and what is wrong with them.
    console : rich.console.Console
        Where to.
    """
    console.print(_kill_table(judged), _killers(judged))
    for each in judged:
        if each.survived:
            reason = f"cannot be noticed: {each.reason}" if each.reason else "SURVIVED: the suite has a hole"
            show_mutant(each.mutant, console, reason)
    for key, message in stale:
        console.print(f"[bold]stale reason[/]: {message}")
        _show_change(key, console)
        console.print(Text(f"{key.file}, {key.operator}"), soft_wrap=True)
    counts = Counter(each.verdict.outcome for each in judged)
    holes = sum(each.is_hole for each in judged)
    console.print(
        f"{len(judged)} mutants: {counts['killed']} killed, {counts['error']} not importable, {counts['timeout']} too"
        f" slow, {counts['survived'] - holes} that cannot be noticed, {holes} survived; {len(stale)} stale reasons",
        style="bold",
    )


def show_mutant(mutant: Mutant, console: Console, *remarks: str) -> None:
    """Print a mutant."""
    console.print(Text.assemble((f"{mutant.file}:{mutant.line}", "bold"), f"  {mutant.operator}"))
    _show_change(mutant, console)
    for remark in remarks:
        console.print(Text(f"    {remark}", "dim"), soft_wrap=True)


def _show_change(change: Mutant | Key, console: Console) -> None:
    console.print(Text(f"  - {change.before}\n  + {change.after}"), soft_wrap=True)


def _kill_table(judged: Sequence[Judged]) -> Table:
    """Return how many of the mutants of each operator in each file were noticed."""
    files = sorted({each.mutant.file for each in judged})
    operators = [name for name in OPERATORS if any(each.mutant.operator == name for each in judged)]
    table = Table(
        title="killed / mutants",
        caption="red: one survived; yellow: none survived that could be noticed",
        show_footer=True,
    )
    table.add_column("operator", footer="all")
    for file in files:
        table.add_column(file, _killed([j for j in judged if j.mutant.file == file]), justify="right", no_wrap=True)
    table.add_column("all", _killed(judged), justify="right")
    for name in operators:
        row = [each for each in judged if each.mutant.operator == name]
        table.add_row(name, *(_killed([j for j in row if j.mutant.file == file]) for file in files), _killed(row))
    return table


def _killed(judged: Sequence[Judged]) -> Text:
    if not judged:
        return Text("")
    killed = sum(not each.survived for each in judged)
    style = "red" if any(each.is_hole for each in judged) else "yellow" if killed < len(judged) else ""
    return Text(f"{killed}/{len(judged)}", style)


def _killers(judged: Iterable[Judged]) -> Table:
    """Return which tests noticed first, and how many mutants."""
    table = Table(title="killed first by")
    table.add_column("test")
    table.add_column("mutants", justify="right")
    dead = [each.verdict for each in judged if not each.survived]
    tests = Counter(v.test.partition("[")[0] if v.outcome == "killed" else f"({v.outcome}: {v.test})" for v in dead)
    for test, number in tests.most_common():
        table.add_row(test, str(number))
    return table


def as_data(judged: Iterable[Judged], stale: Iterable[tuple[Key, str]], seconds: float) -> dict[str, Any]:
    """
    Return everything as plain data.

    Parameters
    ----------
    judged : iterable of Judged
        The mutants.
    stale : iterable of tuple
        The keys of reasons that are none, and what is wrong with them.
    seconds : float
        What it took.

    Returns
    -------
    dict
        For JSON.
    """
    return {
        "seconds": round(seconds, 1),
        "mutants": [
            {name: value for name, value in mutant._asdict().items() if name != "source"}
            | verdict._asdict()
            | {"reason": reason}
            for mutant, verdict, reason in judged
        ],
        "stale_reasons": [key._asdict() | {"message": message} for key, message in stale],
    }
