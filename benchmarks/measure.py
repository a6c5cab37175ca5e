"""``python -m benchmarks.measure``: ask one question, in a process of its own."""

import argparse
import os
import time
from pathlib import Path


def main() -> None:
    """Hold every library to so many threads before it is imported, then measure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.measure")
    parser.add_argument("question")
    parser.add_argument("threads", type=int)
    parser.add_argument("file", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--cpu-time", action="store_true")
    given = parser.parse_args()
    # JAX counts the processors that it may run on, once; the others read variables.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: given.threads])
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(given.threads)

    import torch

    torch.set_num_threads(given.threads)

    from benchmarks.questions import QUESTIONS, Setting
    from benchmarks.records import write

    clock = time.process_time if given.cpu_time else time.perf_counter
    setting = Setting(given.threads, budget=0.2 if given.quick else 3.0, quick=given.quick, clock=clock)
    write(given.file, {}, list(QUESTIONS[given.question](setting)))


if __name__ == "__main__":
    main()
