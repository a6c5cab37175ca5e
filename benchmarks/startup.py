"""
What a program pays before its first result: ``python benchmarks/startup.py``.

Each figure is the minimum and the median over processes of their own, in milliseconds.
"""

import statistics
import subprocess
import sys

PROGRAMS = {
    "import lstm_xp, over numpy": """
        import numpy, time
        start = time.perf_counter()
        import lstm_xp
        print(time.perf_counter() - start)
    """,
    "first call on NumPy, over the second": """
        import numpy, time, lstm_xp
        net, x, times = lstm_xp.LSTM(5, 4, seed=0), numpy.ones((7, 3, 5), "float32"), []
        for _ in range(2):
            start = time.perf_counter()
            net(x)
            times.append(time.perf_counter() - start)
        print(times[0] - times[1])
    """,
}


def milliseconds(program: str, runs: int) -> list[float]:
    """Run a program that prints seconds, several times."""
    lines = program.strip().splitlines()
    source = "\n".join([lines[0], *(line.removeprefix("        ") for line in lines[1:])])
    command = [sys.executable, "-c", source]
    return [
        1000 * float(subprocess.run(command, capture_output=True, text=True, check=True).stdout) for _ in range(runs)
    ]


def main(runs: int = 15) -> None:
    """Print the table."""
    print(f"{'ms':<40}{'minimum':>10}{'median':>10}")
    for name, program in PROGRAMS.items():
        times = milliseconds(program, runs)
        print(f"{name:<40}{min(times):>10.1f}{statistics.median(times):>10.1f}")


if __name__ == "__main__":
    main()
