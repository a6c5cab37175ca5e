"""What is asked: for each question the contestants and the sizes."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np

from benchmarks.problems import GRID, QUICK, RAGGED, STEPS, Problem
from benchmarks.race import PAUSE, Contestant, race
from benchmarks.records import Record


@dataclass(frozen=True)
class Setting:
    """
    How a question is asked.

    Parameters
    ----------
    threads : int
        Threads for everybody.
    budget : float
        Seconds for each race, about.
    quick : bool
        Whether small sizes will do.
    clock : callable
        The seconds that count.
    """

    threads: int = 1
    budget: float = 3.0
    quick: bool = False
    clock: Callable[[], float] = time.perf_counter

    def problems(self, wanted: Iterable[Problem]) -> Iterable[Problem]:
        """Return the sizes."""
        return QUICK if self.quick else wanted


def timed(
    question: str,
    setting: Setting,
    problem: Problem,
    contestants: Iterable[Contestant],
    what: str = "forward",
    share: float = 1.0,
) -> Iterator[Record]:
    """Yield a record of each contestant of a race; `share` of the budget is spent on it."""
    expected = {"gradient": lambda: problem.gradient, "compile": list}.get(what, lambda: [problem.output])()
    pause = PAUSE if setting.threads > 1 else 0.0
    # With pauses, a budget goes for sleep, and few rounds would fit into it.
    least = 3 if setting.quick or what == "compile" else 15 if pause else 5
    for name, timing in race(contestants, expected, share * setting.budget, least, setting.clock, pause).items():
        yield record(question, setting, problem, name, what, *timing)


def record(
    question: str, setting: Setting, problem: Problem, name: str, what: str, *figures: float, unit: str = "s"
) -> Record:
    """Return one figure."""
    sizes = {size: getattr(problem, size) for size in "NTIH"}
    median, q1, q3, rounds = figures
    return Record(question, setting.threads, what, str(problem), sizes, name, median, q1, q3, int(rounds), unit)


def host(problem: Problem, engine: str, setting: Setting) -> Iterator[Contestant]:
    """Yield an engine on NumPy's arrays, and all that it is measured by."""
    from benchmarks import on_numpy, on_torch

    yield from on_numpy.ours(problem, engine, setting.threads)
    yield from on_torch.native(problem)
    yield from on_numpy.onnx_runtime(problem, setting.threads)
    yield from on_numpy.blog(problem)
    yield from on_numpy.floor(problem)


def ask_numpy(setting: Setting) -> Iterator[Record]:
    """Yield NumPy's best beside the blog's class, the floor, torch and ONNX Runtime."""
    for problem in setting.problems(GRID):
        yield from timed("numpy", setting, problem, host(problem, "numpy", setting))


def ask_numba(setting: Setting) -> Iterator[Record]:
    """Yield the compiled kernel beside the same."""
    for problem in setting.problems(GRID):
        yield from timed("numba", setting, problem, host(problem, "numba", setting))


def ask_torch(setting: Setting) -> Iterator[Record]:
    """Yield the engines for torch beside torch's own module, the loop over its cell, and Keras."""
    from benchmarks import on_torch

    for problem in setting.problems(GRID):
        for what, train in (("forward", False), ("gradient", True)):
            contestants = chain(
                on_torch.ours(problem, "torch", train=train),
                on_torch.native(problem, train=train),
                on_torch.ours(problem, "standard", train=train),
                # A forward pass alone is the standard engine's.
                *(
                    on_torch.ours(problem, engine, train=True, peephole=peephole)
                    for engine, peephole in (("bptt", False), ("bptt", True), ("standard", True))
                    if train
                ),
                on_torch.loop_over_cell(problem, train=train),
                on_torch.keras(problem, train=train),
            )
            yield from timed("torch", setting, problem, contestants, what, share=0.5)


def ask_jax(setting: Setting) -> Iterator[Record]:
    """Yield ours beside the libraries of layers, under jit; then how long all take to compile."""
    from benchmarks import on_jax

    for problem in setting.problems(GRID):
        everybody = list(on_jax.peers(problem))
        for gradient in (False, True):
            contestants = (on_jax.contestant(peer, problem, gradient=gradient) for peer in everybody)
            yield from timed("jax", setting, problem, contestants, "gradient" if gradient else "forward", share=0.5)
    if setting.threads > 1:  # the compiler takes as many as it likes
        return
    for T in (10, 20) if setting.quick else (100, 1000):
        problem = Problem(8, T, 64, 128)
        everybody = list(on_jax.peers(problem))
        for gradient in (False,) if setting.quick else (False, True):
            contestants = (on_jax.compilation(peer, problem, gradient=gradient) for peer in everybody)
            for each in timed("jax", setting, problem, contestants, "compile", share=0.5):
                yield replace(each, what=f"compile, {'gradient' if gradient else 'forward'}")


def ask_training(setting: Setting) -> Iterator[Record]:
    """Yield going forward and back on NumPy's arrays, beside torch's own module."""
    from benchmarks import on_torch, on_training

    for problem in setting.problems(GRID):
        contestants = chain(
            on_training.ours(problem, "numpy", setting.threads),
            on_training.ours(problem, "numba", setting.threads),
            on_training.ours(problem, "standard", 1),
            on_torch.native(problem, train=True),
        )
        yield from timed("training", setting, problem, contestants, "gradient")


def ask_stream(setting: Setting) -> Iterator[Record]:
    """Yield one step of a stream."""
    from benchmarks import on_streams

    for problem in STEPS[:1] if setting.quick else STEPS:
        contestants = chain(
            on_streams.ours(problem), on_streams.onnx_runtime(problem, setting.threads), on_streams.modules(problem)
        )
        yield from timed("stream", setting, problem, contestants, "step", share=0.5)


def ask_ragged(setting: Setting) -> Iterator[Record]:
    """Yield every engine with lengths beside torch's packed sequences."""
    from benchmarks import on_jax, on_numpy, on_torch

    problem = Problem(4, 20, 5, 7, ragged=True) if setting.quick else RAGGED
    contestants = chain(
        on_numpy.ours(problem, "numpy", setting.threads),
        on_numpy.ours(problem, "numba", setting.threads),
        on_torch.ours(problem, "torch"),
        on_torch.native(problem),
        (on_jax.contestant(on_jax.ours(problem), problem, gradient=False) for _ in range(1)),
    )
    yield from timed("ragged", setting, problem, contestants)


def ask_trace(setting: Setting) -> Iterator[Record]:
    """Yield what it costs to keep the cell states of every step, on each engine that does."""
    from benchmarks import on_traces

    for problem in setting.problems(GRID):
        for pair in on_traces.contestants(problem):
            yield from timed("trace", setting, problem, pair, share=0.25)


def ask_scaling(setting: Setting) -> Iterator[Record]:
    """Yield how time grows with T, with N and with H, the others fixed."""
    from benchmarks import on_numpy, on_torch

    sizes = {
        "T": (10, 30, 100, 300, 1000, 3000),
        "N": (1, 2, 4, 8, 16, 32, 64, 128, 256),
        "H": (16, 32, 64, 128, 256, 512, 1024),
    }
    for size, values in sizes.items():
        for value in values[:2] if setting.quick else values:
            problem = replace(Problem(8, 50, 64, 128), **{size: value})
            contestants = chain(
                on_numpy.ours(problem, "numpy", 1),
                on_numpy.ours(problem, "numba", 1),
                on_torch.native(problem),
                on_numpy.onnx_runtime(problem, setting.threads),
                on_numpy.blog(problem),
            )
            yield from timed("scaling", setting, problem, contestants, size, share=0.25)


def ask_memory(setting: Setting) -> Iterator[Record]:
    """Yield by how much one call raises the peak of a process of its own."""
    from benchmarks import memory

    if setting.threads > 1:
        return
    for T in (200, 400) if setting.quick else (2000, 5000, 10000, 20000):
        problem = Problem(memory.N, T, memory.I, memory.H)
        for what, names in memory.NAMES.items():
            for name in names:
                command = [sys.executable, "-m", "benchmarks.memory", what, name, str(T)]
                found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
                raised = int(found)
                yield record("memory", setting, problem, name, what, raised, raised, raised, 1, unit="bytes")


def ask_dask(setting: Setting) -> Iterator[Record]:
    """Yield one worker beside two, then the memory of two over data larger than what they may have."""
    from benchmarks import on_dask

    if setting.threads == 1:  # one processor for all
        return
    blocks = 4 if setting.quick else 64  # so many that waiting for the last one does not count
    answer = [np.asarray(on_dask.expected(blocks))]

    def problem(blocks: int) -> Problem:
        return Problem(on_dask.N * blocks, on_dask.T, on_dask.I, on_dask.H)

    with on_dask.clients(1, 2) as clients:
        contestants = [
            Contestant(
                f"lstm_xp dask, {count} worker{'s' * (count > 1)}",
                lambda client=client: client.compute(on_dask.total(blocks)).result(),
                lambda total: [total],
            )
            for count, client in enumerate(clients, start=1)
        ]
        for name, timing in race(contestants, answer, 4 * setting.budget, clock=setting.clock).items():
            yield record("dask", setting, problem(blocks), name, "batch", *timing)
    if setting.quick:
        return
    size = 4 * on_dask.N * on_dask.T * on_dask.I
    blocks = 4 * on_dask.LIMIT // size
    with on_dask.clients(2) as (client,):
        client.compute(on_dask.total(blocks)).result()
        peak = on_dask.peak(client)
    sizes = {"lstm_xp dask, 2 workers": peak, "the workers' limit": on_dask.LIMIT, "input": size * blocks}
    for name, size in sizes.items():
        yield record("dask", setting, problem(blocks), name, "memory", size, size, size, 1, unit="bytes")


Ask = Callable[[Setting], Iterator[Record]]
QUESTIONS: dict[str, Ask] = {
    "numpy": ask_numpy,
    "numba": ask_numba,
    "torch": ask_torch,
    "jax": ask_jax,
    "training": ask_training,
    "stream": ask_stream,
    "ragged": ask_ragged,
    "trace": ask_trace,
    "scaling": ask_scaling,
    "memory": ask_memory,
    "dask": ask_dask,
}
KERAS_BACKENDS = {"torch": "torch", "jax": "jax"}
