"""Contestants, who take turns."""

import gc
import math
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import numpy as np
import threadpoolctl

TOLERANCE = 1e-5
TURN = 3e-3  # seconds that a turn takes at least: many calls where they are short
LONG = 50e-3  # calls that need no other before them, for the caches' and the idle threads' sake
MOST = 100  # turns
# With several threads: seconds before a turn, until those of the last contestant have gone to sleep. OpenBLAS's keep a
# processor busy for 2**28 cycles after their last product, 0.1 seconds at 2.6 GHz; another library's product then waits
# for the scheduler, up to 16 ms (`thread_timeout` in
# https://github.com/OpenMathLib/OpenBLAS/blob/v0.3.31/driver/others/blas_server.c).
PAUSE = 0.15


class Contestant(NamedTuple):
    """
    Who computes what, and how to read it.

    Parameters
    ----------
    name : str
        The name.
    run : callable
        What is timed, without arguments.
    read : callable or None
        Makes the arrays that are compared with torch's of what `run` returned; None where it computes no LSTM.
    blas_threads : int or None
        Threads of BLAS, where not as everybody's.
    """

    name: str
    run: Callable[[], Any]
    read: Callable[[Any], Sequence[np.ndarray]] | None
    blas_threads: int | None = None


class Timing(NamedTuple):
    """Seconds for one call: quartiles over the rounds."""

    median: float
    q1: float
    q3: float
    rounds: int


class WrongAnswerError(Exception):
    """A contestant does not compute torch's numbers."""


def check(contestant: Contestant, expected: Sequence[np.ndarray]) -> None:
    """Raise if a contestant's answer is not torch's, up to 1e-5 of its largest number or of 1."""
    answer = contestant.run()
    if contestant.read is None:
        return
    for ours, theirs in zip(contestant.read(answer), expected, strict=True):
        error = np.max(np.abs(np.asarray(ours) - theirs), initial=0.0)
        if np.shape(ours) != np.shape(theirs) or not error <= TOLERANCE * max(1.0, float(np.max(np.abs(theirs)))):
            msg = f"{contestant.name} is off by {error:.1e}, shape {np.shape(ours)}, expected {np.shape(theirs)}"
            raise WrongAnswerError(msg)


def race(
    contestants: Iterable[Contestant],
    expected: Sequence[np.ndarray],
    budget: float,
    least: int = 5,
    clock: Callable[[], float] = time.perf_counter,
    pause: float = 0.0,
) -> dict[str, Timing]:
    """
    Check contestants, then time them in turns.

    Parameters
    ----------
    contestants : iterable of Contestant
        Who takes part.
    expected : sequence of array
        Torch's answer.
    budget : float
        Seconds to spend, about.
    least : int, optional
        Turns that everybody gets, whatever they take.
    clock : callable, optional
        The seconds that count.
    pause : float, optional
        Seconds of sleep before each turn.

    Returns
    -------
    dict
        A Timing for each name.
    """
    contestants = list(contestants)
    blas = threadpoolctl.ThreadpoolController()

    def turn(contestant: Contestant, calls: int, *, warm: bool) -> float:
        own = contestant.blas_threads
        with nullcontext() if own is None else blas.limit(limits=own, user_api="blas"):
            run = contestant.run
            time.sleep(pause)
            if warm:
                run()
            start = clock()
            for _ in range(calls):
                run()
            return (clock() - start) / calls

    for contestant in contestants:
        check(contestant, expected)
    once = [turn(contestant, 1, warm=False) for contestant in contestants]
    calls = [math.ceil(TURN / seconds) for seconds in once]
    warm = [seconds < LONG for seconds in once]
    cost = sum(seconds * (n + w) + pause for seconds, n, w in zip(once, calls, warm, strict=True))
    rounds = int(np.clip(budget / cost, least, MOST))
    times: list[list[float]] = [[] for _ in contestants]
    gc.collect()
    gc.disable()
    for _ in range(rounds):
        for k, contestant in enumerate(contestants):
            times[k].append(turn(contestant, calls[k], warm=warm[k]))
    gc.enable()
    return {
        contestant.name: Timing(*np.quantile(measured, [0.5, 0.25, 0.75]).tolist(), rounds)
        for contestant, measured in zip(contestants, times, strict=True)
    }
