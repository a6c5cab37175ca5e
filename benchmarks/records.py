"""What was measured, as kept in JSON."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Record:
    """
    One figure.

    Parameters
    ----------
    question : str
        Which question it answers.
    threads : int
        Threads that everybody had.
    what : str
        What was measured, as "forward".
    problem : str
        The sizes.
    sizes : dict
        The same as numbers: N, T, I, H.
    name : str
        Who.
    median, q1, q3 : float
        Quartiles over the rounds, in `unit`.
    rounds : int
        How many there were.
    unit : str
        What it is counted in: "s", "bytes", "steps/s".
    """

    question: str
    threads: int
    what: str
    problem: str
    sizes: dict[str, int]
    name: str
    median: float
    q1: float
    q3: float
    rounds: int
    unit: str = "s"

    @property
    def ours(self) -> bool:
        """Whether it is our own."""
        return self.name.startswith("lstm_xp")


def write(path: Path, about: dict[str, Any], records: list[Record]) -> None:
    """Write a file of records."""
    content = {**about, "records": [asdict(record) for record in records]}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read(path: Path) -> tuple[dict[str, Any], list[Record]]:
    """Return what was measured on, and the records."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return content, [Record(**record) for record in content.pop("records")]
