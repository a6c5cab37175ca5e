"""``python -m benchmarks.readme RESULTS.json``: write what was reached into README.md, and the plots into docs/."""

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
    heads = ["engine", "against", "threads", "what", "geometric mean", "goal", "reached"]
    return "\n".join(
        [
            table_line(heads),
            table_line(["---"] * len(heads)),
            *(table_line(_row(verdict)) for verdict in judge(found)),
            "",
            f"Ratios of medians, float32: below 1 is faster, or smaller. {computer}.",
            "",
            *(f"![{PLOTS[path.name]}]({folder}/{path.name})\n" for path in drawn),
        ]
    )


def _row(verdict: Verdict) -> list[str]:
    reached = f"{verdict.reached:.2f} {'✓' if verdict.met else '✗'}"
    where = f" at {verdict.where}" if verdict.where and not verdict.met else ""
    threads = str(verdict.threads)
    return [verdict.who, verdict.against, threads, verdict.what, f"{verdict.mean:.2f}", verdict.goal, reached + where]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.readme", description=__doc__)
    parser.add_argument("results", type=Path, metavar="RESULTS.json", help="what python -m benchmarks wrote")
    parser.add_argument("--readme", type=Path, default=README, metavar="FILE", help="default: the repository's")
    parser.add_argument("--plots", type=Path, default=FOLDER, metavar="FOLDER", help="default: docs/benchmarks")
    given = parser.parse_args(arguments)
    about, found = records.read(given.results)
    given.plots.mkdir(parents=True, exist_ok=True)
    drawn = plots.draw(found, given.plots)
    text = given.readme.read_text(encoding="utf-8")
    rendered = render(about, found, drawn, given.plots.relative_to(given.readme.parent).as_posix())
    given.readme.write_text(spliced(text, BEGIN, END, rendered), encoding="utf-8")


if __name__ == "__main__":
    main()
