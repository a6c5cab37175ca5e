"""
``python -m benchmarks.readme RESULTS.json``: write what was reached into README.md, and the plots into docs/.

Of several files the later ones count, for the questions and numbers of threads that they have.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks import plots, records
from benchmarks.goals import Verdict, judge
from benchmarks.records import Record
from conformance.readme import README, spliced, table_line

BEGIN, END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"
FOLDER = README.parent / "docs" / "benchmarks"
PLOTS = {
    "scaling-1.svg": "How time grows with T, N and H, at one thread",
    "scaling-2.svg": "How time grows with T, N and H, at two threads",
    "memory.svg": "How the peak of memory grows with T",
}


def render(about: dict[str, object], found: Sequence[Record], drawn: Sequence[Path], folder: str) -> str:
    """
    Return what stands between the markers.

    Parameters
    ----------
    about : dict
        What was measured on.
    found : sequence of Record
        The figures.
    drawn : sequence of Path
        The plots.
    folder : str
        Where the README finds them.

    Returns
    -------
    str
        A table of ratios, what they were measured on, and the plots.
    """
    machine, versions = about["machine"], about["versions"]
    installed = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    computer = f"{machine['processor']}, {machine['processors']} processors; Python {about['python']}, {installed}"
    verdicts = list(judge(found))
    numbers = sorted({verdict.threads for verdict in verdicts})
    rows: dict[tuple[str, ...], dict[int, Verdict]] = {}
    for each in verdicts:
        rows.setdefault((each.who, each.against, each.what, each.goal), {})[each.threads] = each
    heads = ["engine", "against", "what", "goal", *(f"{n} thread{'s' * (n > 1)}" for n in numbers)]
    return "\n".join(
        [
            table_line(heads),
            table_line(["---"] * len(heads)),
            *(table_line([*row, *(_reached(by_threads.get(n)) for n in numbers)]) for row, by_threads in rows.items()),
            "",
            "Ratios of medians, float32: below 1 is faster, or smaller. Of every size, the worst and the mean.",
            f"{computer}.",
            "",
            *(f"![{PLOTS[path.name]}]({folder}/{path.name})\n" for path in drawn),
        ]
    )


def _reached(verdict: Verdict | None) -> str:
    if verdict is None:
        return ""
    reached = f"{verdict.reached:.2f} {'✓' if verdict.met else '✗'}"
    where = f" at {verdict.where}" if verdict.where and not verdict.met else ""
    return reached + where + (f", mean {verdict.mean:.2f}" if verdict.where else "")


def _asked(found: Sequence[Record]) -> dict[tuple[str, int], None]:
    """Return the questions and numbers of threads that there are answers to, in their order."""
    return dict.fromkeys((record.question, record.threads) for record in found)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.readme", description=__doc__)
    parser.add_argument("results", type=Path, nargs="+", metavar="RESULTS.json", help="what python -m benchmarks wrote")
    parser.add_argument("--readme", type=Path, default=README, metavar="FILE", help="default: the repository's")
    parser.add_argument("--plots", type=Path, default=FOLDER, metavar="FOLDER", help="default: docs/benchmarks")
    given = parser.parse_args(arguments)
    asked: dict[tuple[str, int], list[Record]] = {}
    for file in given.results:
        about, found = records.read(file)
        asked |= {key: [each for each in found if (each.question, each.threads) == key] for key in _asked(found)}
    found = [record for some in asked.values() for record in some]
    given.plots.mkdir(parents=True, exist_ok=True)
    drawn = plots.draw(found, given.plots)
    text = given.readme.read_text(encoding="utf-8")
    rendered = render(about, found, drawn, given.plots.relative_to(given.readme.parent).as_posix())
    given.readme.write_text(spliced(text, BEGIN, END, rendered), encoding="utf-8")


if __name__ == "__main__":
    main()
