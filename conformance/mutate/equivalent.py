"""Mutants that no test can notice, and why."""

from typing import NamedTuple


class Key(NamedTuple):
    """By what a mutant is known, whatever the numbers of the lines are: as in `conformance.mutate.source.Mutant`."""

    file: str
    operator: str
    before: str
    after: str


EQUIVALENT: dict[str, tuple[Key, ...]] = {}
