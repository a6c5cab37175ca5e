"""``python -m benchmarks.measure QUESTION THREADS FILE``: ask one question, in a process of its own."""

import os
import sys
from pathlib import Path


def main() -> None:
    """Hold every library to so many threads before it is imported, then measure."""
    question, threads, file, *quick = sys.argv[1:]
    # JAX counts the processors that it may run on, once; the others read variables.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(threads)])
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = threads

    import torch

    torch.set_num_threads(int(threads))

    from benchmarks.questions import QUESTIONS, Setting
    from benchmarks.records import write

    setting = Setting(int(threads), quick=bool(quick), **({"budget": 0.2} if quick else {}))
    write(Path(file), {}, list(QUESTIONS[question](setting)))


if __name__ == "__main__":
    main()
