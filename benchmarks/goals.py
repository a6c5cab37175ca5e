"""What is to be reached, as ratios of medians, and whether it is."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from benchmarks.records import Record

FLOORS = "floor", "floor, input first", "floor, rows in blocks"
LIBRARIES_ON_JAX = "Flax nnx", "Flax linen", "Equinox", "Haiku", "Keras on JAX"
ITSELF = ("itself at the smallest T",)
Where = Callable[[int, int], bool]


class Goal(NamedTuple):
    """
    One goal: the time, or memory, of `who` divided by that of the best of `against`.

    Parameters
    ----------
    question : str
        In whose records.
    who : str
        One of ours; as it is, and with threads of its own.
    against : tuple of str
        Peers, of which the best counts.
    limit : float
        What the ratio shall not exceed.
    mean : bool
        Whether that is asked of the geometric mean, or of every size.
    where : callable
        ``where(N, H)``: which sizes count.
    which : str
        The same in words.
    what : tuple of str
        Kinds of work.
    threads : int or None
        At how many threads; None is all.
    """

    question: str
    who: str
    against: tuple[str, ...]
    limit: float
    mean: bool = False
    where: Where = lambda N, H: True
    which: str = ""
    what: tuple[str, ...] = ("forward",)
    threads: int | None = None


BOTH = "forward", "gradient"
MANY_ROWS, ONE_ROW = (lambda N, H: N >= 32, "N ≥ 32"), (lambda N, H: N == 1, "N = 1")
GOALS = (
    Goal("numpy", "lstm_xp numpy", ("blog class",), 1 / 3, mean=True),
    Goal("numpy", "lstm_xp numpy", ("blog class",), 1 / 1.5),
    Goal("numpy", "lstm_xp numpy", FLOORS, 1.15, where=lambda N, H: N >= 8 and H >= 128, which="N ≥ 8, H ≥ 128"),
    Goal("numpy", "lstm_xp numpy", FLOORS, 1.4, where=lambda N, H: N == 1 and H >= 128, which="N = 1, H ≥ 128"),
    Goal("numpy", "lstm_xp numpy", ("torch.nn.LSTM",), 1.1, mean=True, threads=1),
    Goal("numpy", "lstm_xp numpy", ("torch.nn.LSTM",), 1.0, mean=True, threads=2),
    Goal("numba", "lstm_xp numba", ("torch.nn.LSTM",), 1.0, where=lambda N, H: N == 1, which="N = 1"),
    Goal(
        "numba", "lstm_xp numba", ("torch.nn.LSTM",), 0.5, where=lambda N, H: N == 1 and H <= 64, which="N = 1, H ≤ 64"
    ),
    Goal("numba", "lstm_xp numba", ("torch.nn.LSTM",), 0.8, mean=True),
    Goal("numba", "lstm_xp numba", FLOORS, 1.05, where=lambda N, H: N >= 8, which="N ≥ 8"),
    Goal("numba", "lstm_xp numba", ("ONNX Runtime",), 1.0, where=lambda N, H: N == 1, which="N = 1"),
    Goal("numba", "lstm_xp numba", ("ONNX Runtime",), 1.0, mean=True),
    Goal("stream", "lstm_xp stream, numpy", ("ONNX Runtime",), 1.0, what=("step",)),
    Goal("stream", "lstm_xp stream, numpy", ("torch.nn.LSTM",), 0.25, what=("step",)),
    Goal(
        "stream",
        "lstm_xp stream, numba",
        ("ONNX Runtime",),
        0.3,
        where=lambda N, H: H <= 128,
        which="H ≤ 128",
        what=("step",),
    ),
    Goal("jax", "lstm_xp jax", LIBRARIES_ON_JAX, 1.0, what=BOTH),
    Goal("jax", "lstm_xp jax", ITSELF, 1.1, what=("compile, forward", "compile, gradient")),
    Goal("torch", "lstm_xp torch", ("torch.nn.LSTM",), 1.03, what=BOTH),
    Goal("torch", "lstm_xp standard", ("loop over LSTMCell",), 1.0, what=BOTH),
    Goal("torch", "lstm_xp bptt", ("lstm_xp standard",), 0.5, what=("gradient",)),
    Goal("torch", "lstm_xp bptt, peephole", ("lstm_xp standard, peephole",), 0.5, what=("gradient",)),
    *(
        Goal("training", f"lstm_xp {engine}", ("torch.nn.LSTM",), limit, where=where, which=which, what=("gradient",))
        for engine, limits in (("numpy", (2.0, 3.0)), ("numba", (1.2, 1.0)))
        for limit, (where, which) in zip(limits, (MANY_ROWS, ONE_ROW), strict=True)
    ),
    *(
        Goal("trace", f"lstm_xp {engine}, c kept", (f"{engine}, plain call",), 1.1)
        for engine in ("numpy", "standard", "torch", "jax")
    ),
    Goal("dask", "lstm_xp dask, 2 workers", ("lstm_xp dask, 1 worker",), 1 / 1.7, what=("batch",)),
    Goal("dask", "lstm_xp dask, 2 workers", ("the workers' limit",), 1.0, what=("memory",)),
    Goal("memory", "lstm_xp numpy", ("torch.nn.LSTM",), 1.1, what=("peak",)),
    Goal("memory", "lstm_xp stream", ITSELF, 1.1, what=("peak",)),
    Goal("memory", "lstm_xp numpy", ("torch.nn.LSTM",), 1.0, what=("training, peak",)),
    Goal("memory", "lstm_xp numpy, remat=100", ("torch.nn.LSTM",), 0.5, what=("training, peak",)),
)


class Verdict(NamedTuple):
    """A goal, for one kind of work at one number of threads, and what was reached."""

    who: str
    against: str
    threads: int
    what: str
    limit: float
    goal: str
    reached: float
    mean: float
    where: str
    met: bool


def judge(found: Sequence[Record], goals: Iterable[Goal] = GOALS) -> Iterator[Verdict]:
    """Yield a verdict on each goal that something was measured for."""
    for goal in goals:
        mine = [
            record
            for record in found
            if record.question == goal.question
            and record.what in goal.what
            and (goal.threads is None or record.threads == goal.threads)
        ]
        cases = dict.fromkeys((record.threads, record.what) for record in mine)
        for threads, what in cases:
            some = [record for record in mine if (record.threads, record.what) == (threads, what)]
            names = dict.fromkeys(r.name for r in some if r.name.partition(", threads=")[0] == goal.who)
            for who in names:
                by_problem = dict(_ratios(some, who, goal))
                if by_problem:
                    yield _verdict(goal, who, threads, what, by_problem)


def _ratios(some: Sequence[Record], who: str, goal: Goal) -> Iterator[tuple[str, float]]:
    """Yield a problem and its ratio."""
    own = [record for record in some if record.name == who]
    if goal.against == ITSELF:
        first, *_, last = sorted(own * 2, key=lambda record: record.sizes["T"])
        if last is not first:
            yield last.problem, last.median / first.median
        return
    for record in own:
        peers = [other.median for other in some if other.name in goal.against and other.problem == record.problem]
        if peers and goal.where(record.sizes["N"], record.sizes["H"]):
            yield record.problem, record.median / min(peers)


def _verdict(goal: Goal, who: str, threads: int, what: str, by_problem: dict[str, float]) -> Verdict:
    mean = float(np.exp(np.mean(np.log(list(by_problem.values())))))
    worst = max(by_problem, key=lambda problem: by_problem[problem])
    reached = mean if goal.mean else by_problem[worst]
    against = "the fastest library" if goal.against == LIBRARIES_ON_JAX else goal.against[0]
    return Verdict(
        who=who,
        against=against,
        threads=threads,
        what=what,
        limit=goal.limit,
        goal=f"≤ {goal.limit:.2f}, "
        + ("geometric mean" if goal.mean else "every size")
        + f" ({goal.which})" * bool(goal.which),
        reached=reached,
        mean=mean,
        where="" if goal.mean else worst,
        met=reached <= goal.limit,
    )
