"""The command."""

import argparse
import ast
import json
import os
import random
import sys
import time
from collections.abc import Iterable, Sequence
from itertools import chain, zip_longest
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

import conformance.mutate
from conformance.mutate.equivalent import EQUIVALENT, Key
from conformance.mutate.judge import ROOT, Verdict
from conformance.mutate.operators import OPERATORS
from conformance.mutate.running import run
from conformance.mutate.source import Mutant, Source, fields_of_classes, generate
from conformance.mutate.table import Judged, as_data, show, show_mutant

PACKAGE = ROOT / "lstm_xp"


def _suite(*capabilities: str, on: str) -> list[str]:
    return [*(f"conformance/test_{name}.py" for name in capabilities), f"--xp={on}", "--oracle=frozen"]


# What judges, one after the other: first what is quick and tells most. strict-2023.12 is on a device that is not the
# library's default, and refuses whatever the standard does not have.
BESIDE = {"accuracy", "autodiff", "functions", "long", "transfer", "vjp"}  # slow, or not about the forward pass
NUMBERS = _suite(
    *sorted({path.stem.removeprefix("test_") for path in (ROOT / "conformance").glob("test_*.py")} - BESIDE),
    on="numpy,strict-2023.12",
)
ARGUMENTS = [f"tests/test_{name}.py" for name in ("errors", "arguments", "lstm_object", "options", "trace")]
ARGUMENTS += ["--with=array_api_strict"]
ON_JAX = _suite("sequence", "masking", "cell", on="jax")
OTHERS_ON_JAX = _suite("streaming", "autodiff", "vjp", on="jax")
JAX_ITSELF = ["tests/test_engine_jax.py"]
OPTIONS_ON_JAX = _suite("options", "normalisation", "resets", "trace", on="jax")
ON_DASK = [*_suite("sequence", on="dask"), "--engine=standard"]
LIBRARIES = [f"tests/test_{name}.py" for name in ("devices", "lazy", "autodiff")]
LIBRARIES += ["-k", "test_devices.py or TestDask or unknown or several_devices or torch_vmap or autocast"]
WITHOUT_SHAPES = ["tests/test_lazy.py::TestNdonnx::test_traced_to_onnx_with_a_symbolic_batch"]
DERIVATIVES = ["tests/test_autodiff.py", "-k", "each_activation"]
FILES = ["tests/test_files.py", "--with=numpy", "-k", "bit_for_bit or several"]
STREAMS = ["tests/test_stream.py", "--with=numpy", "-k", "caller_changes"]
STREAMS_OF_OTHERS = ["tests/test_stream.py", "-k", "lazy_library or requires_grad or records_nothing or refuses"]
ALONE = ["tests/test_packaging.py", "-k", "pulls_in"]  # in a process where nothing else was imported
THREADS = ["tests/test_engine_numpy.py", "--with=numpy", "-k", "threads_are"]
KEPT_UNDER_JIT = ["tests/test_trace.py", "-k", "jax_under_jit"]
MANY_STEPS = [*_suite("masking", "resets", on="numpy"), "--engine=standard", "--tier=full", "-k", "8_bits"]
# The way back, by the engine that goes it in the standard's functions.
BACKWARD = _suite("vjp", on="numpy-standard,strict-2023.12")
IN_PARTS = ["tests/test_vjp_parts.py"]
PULLBACKS = ["tests/test_vjp.py", "--with=array_api_strict"]
NOISE = ["tests/test_noise.py", "--with=array_api_strict"]
TARGETS: dict[str, list[list[str]]] = {
    "_activations.py": [NUMBERS, ARGUMENTS, BACKWARD, DERIVATIVES],
    "_cell.py": [NUMBERS, ARGUMENTS, LIBRARIES],
    "_cell_vjp.py": [BACKWARD, IN_PARTS],
    "_namespace.py": [NUMBERS, ARGUMENTS, LIBRARIES, STREAMS, STREAMS_OF_OTHERS, ALONE],
    "_noise.py": [NOISE, BACKWARD],
    "_options.py": [NUMBERS, ARGUMENTS, BACKWARD],
    "_sequence.py": [NUMBERS, ARGUMENTS, NOISE, BACKWARD, THREADS, LIBRARIES, WITHOUT_SHAPES, KEPT_UNDER_JIT],
    "_trace.py": [NUMBERS, ARGUMENTS],
    "_vjp.py": [BACKWARD, PULLBACKS],
    "_weights.py": [ARGUMENTS, NUMBERS, LIBRARIES, FILES],  # most of it is refusals
    "engines/_chunks.py": [BACKWARD, PULLBACKS],
    "engines/_stack.py": [
        NUMBERS,
        ARGUMENTS,
        BACKWARD,
        LIBRARIES,
        ON_JAX,
        OPTIONS_ON_JAX,
        JAX_ITSELF,
        ON_DASK,
        MANY_STEPS,
        STREAMS,
        STREAMS_OF_OTHERS,
    ],
    "engines/_stack_vjp.py": [BACKWARD, IN_PARTS, PULLBACKS],
    "engines/jax.py": [ON_JAX, JAX_ITSELF, OTHERS_ON_JAX, KEPT_UNDER_JIT, LIBRARIES],
    "engines/standard.py": [NUMBERS, ARGUMENTS, STREAMS],
}

REASONS = {key: reason for reason, keys in EQUIVALENT.items() for key in keys}


def key_of(mutant: Mutant) -> Key:
    """Return by what a mutant is known: not by its line's number, which any edit changes."""
    return Key(mutant.file, mutant.operator, mutant.before, mutant.after)


def mutants_of(files: Iterable[str]) -> list[Mutant]:
    """Return all mutants of some files of the package, in the order of the source."""
    # The weights' names are those of noise and derivatives, too: among themselves they are mistaken more easily.
    paths = sorted(PACKAGE.rglob("*.py"), key=lambda path: (path.name != "_weights.py", path))
    fields = fields_of_classes(ast.parse(path.read_text(encoding="utf-8")) for path in paths)
    sources = (Source(file, (PACKAGE / file).read_text(encoding="utf-8"), fields) for file in files)
    return [mutant for source in sources for mutant in generate(source, OPERATORS)]


def sample(mutants: Sequence[Mutant], number: int, seed: int) -> list[Mutant]:
    """Return some of the mutants, spread over files and operators."""
    groups: dict[tuple[str, str], list[Mutant]] = {}
    for mutant in random.Random(seed).sample(mutants, len(mutants)):  # noqa: S311
        groups.setdefault((mutant.file, mutant.operator), []).append(mutant)
    one_of_each = chain.from_iterable(zip_longest(*groups.values()))
    return [mutant for mutant in one_of_each if mutant is not None][:number]


def stale_reasons(mutants: Iterable[Mutant], judged: Iterable[Judged]) -> list[tuple[Key, str]]:
    """
    Return the reasons that are none, and what became of their mutants.

    Parameters
    ----------
    mutants : iterable of Mutant
        All there are of some files.
    judged : iterable of Judged
        Those that were run.

    Returns
    -------
    list of tuple
        The key of a reason, and what is wrong with it.
    """
    there = {key_of(mutant): mutant.file for mutant in mutants}
    gone = [(key, "there is no such mutant") for key in REASONS if key.file in there.values() and key not in there]
    died = {key_of(mutant): verdict for mutant, verdict, reason in judged if reason and verdict.outcome != "survived"}
    return gone + [(key, f"it was noticed by {verdict.test}: {verdict.message}") for key, verdict in died.items()]


def killed_before(files: Iterable[Path]) -> dict[Key, Verdict]:
    """Return the verdicts on mutants that earlier runs killed; one that once survived is not among them."""
    everything = [each for file in files for each in json.loads(file.read_text(encoding="utf-8"))["mutants"]]
    verdicts: dict[Key, Verdict] = {}
    for each in sorted(everything, key=lambda each: bool(each["outcome"] == "survived")):
        key = Key(*(each[name] for name in Key._fields))
        if each["outcome"] == "survived":
            verdicts.pop(key, None)
        else:
            verdicts[key] = Verdict(*(each[name] for name in Verdict._fields))
    return verdicts


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m conformance.mutate", description=conformance.mutate.__doc__)
    parser.add_argument("--file", action="append", choices=TARGETS, help="only this file; may be repeated")
    parser.add_argument("--operator", action="append", choices=OPERATORS, help="only this operator; may be repeated")
    parser.add_argument("--sample", type=int, metavar="N", help="only so many, spread over files and operators")
    parser.add_argument("--seed", type=int, default=0, help="of the sample; default: 0")
    parser.add_argument("--list", action="store_true", help="print the mutants and run nothing")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="how many at a time; default: 2")
    parser.add_argument("--limit", type=float, default=300, metavar="SECONDS", help="for one mutant; default: 300")
    parser.add_argument(
        "--known",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="what an earlier run wrote with --json: a mutant that was killed there is not run again; may be repeated",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="where all of it is written to")
    return parser


def main() -> int:
    """Run the command; return its exit code: 1 if the suite has a hole or a reason is stale."""
    given = _parser().parse_args()
    console = Console(width=None if sys.stdout.isatty() else 160)
    everything = mutants_of(given.file or TARGETS)
    mutants = [mutant for mutant in everything if mutant.operator in (given.operator or OPERATORS)]
    if given.sample is not None:
        mutants = sample(mutants, given.sample, given.seed)
    if given.list:
        for mutant in mutants:
            show_mutant(mutant, console)
        console.print(f"{len(mutants)} mutants", style="bold")
        return 0

    # Before a process imports NumPy: the arrays are tiny, threads of BLAS would only wait for each other.
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
    start = time.perf_counter()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    known = killed_before(given.known)
    new = [mutant for mutant in mutants if key_of(mutant) not in known]
    found: dict[int, Verdict] = {}

    def judged_so_far() -> list[Judged]:
        verdicts = ((mutant, found.get(id(mutant)) or known.get(key_of(mutant))) for mutant in mutants)
        return [Judged(mutant, verdict, REASONS.get(key_of(mutant))) for mutant, verdict in verdicts if verdict]

    def write(stale: Iterable[tuple[Key, str]]) -> None:
        if given.json is not None:
            data = as_data(judged_so_far(), stale, time.perf_counter() - start)
            given.json.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")

    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        found_out = run(new, TARGETS, given.jobs, given.limit, excused=lambda mutant: key_of(mutant) in REASONS)
        verdicts = progress.track(found_out, len(new), description="mutants")
        for mutant, verdict in zip(new, verdicts, strict=True):
            found[id(mutant)] = verdict
            if len(found) % 20 == 0:  # a run takes long, and may be continued with --known
                write([])
    judged = judged_so_far()
    stale = stale_reasons(everything, judged)
    write(stale)
    show(judged, stale, console)
    console.print(
        f"{time.perf_counter() - start:.0f} s for {len(new)} of {len(mutants)}, the others were known to be killed"
    )
    return int(bool(stale) or any(each.is_hole for each in judged))


if __name__ == "__main__":
    sys.exit(main())
