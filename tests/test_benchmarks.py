"""The benchmarks: that they run and judge, never how fast anything is."""

import json
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.needs("torch", "onnx", "onnxruntime", "matplotlib", "rich", "threadpoolctl")


def test_from_a_question_to_the_readme(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every contestant's answer is checked on the way."""
    from benchmarks import readme
    from benchmarks.__main__ import main

    main(["--quick", "--only", "stream", "--output", str(tmp_path)])
    assert "ONNX Runtime" in capsys.readouterr().out
    found = json.loads((tmp_path / "results.json").read_text())["records"]
    assert {"lstm_xp stream, numpy", "torch.nn.LSTM"} <= {record["name"] for record in found}
    text = tmp_path / "README.md"
    text.write_text(f"before\n{readme.BEGIN}\nold\n{readme.END}\nafter\n")
    results = str(tmp_path / "results.json")
    readme.main([results, results, "--readme", str(text), "--plots", str(tmp_path / "docs")])
    before, inside, after = text.read_text().partition("| lstm_xp stream, numpy | ONNX Runtime | step | ≤ 1.00, every")
    assert "| engine | against | what | goal | 1 thread |" in before
    assert inside not in after
    assert before.startswith("before\n")
    assert inside
    assert after.endswith("after\n")
    assert "old" not in text.read_text()


def test_a_wrong_answer_is_an_error() -> None:
    from benchmarks.race import Contestant, WrongAnswerError, race

    wrong = Contestant("wrong", lambda: np.asarray([1.0, 2.1]), lambda answer: [answer])
    with pytest.raises(WrongAnswerError, match=r"wrong is off by 1\.0e-01"):
        race([wrong], [np.asarray([1.0, 2.0])], 0.0)


def test_goals_are_judged_by_the_best_peer_and_the_worst_size() -> None:
    from benchmarks.goals import Goal, judge
    from benchmarks.records import Record

    def record(T: int, name: str, median: float) -> Record:
        return Record("q", 1, "forward", str(T), {"N": 1, "T": T, "H": 8}, name, median, median, median, 1)

    medians = {(1, "lstm_xp x"): 2.0, (1, "a"): 4.0, (1, "b"): 8.0, (2, "lstm_xp x"): 9.0, (2, "a"): 9.0, (2, "b"): 4.5}
    found = [record(*key, median) for key, median in medians.items()]
    goals = Goal("q", "lstm_xp x", ("a", "b"), 1.0), Goal("q", "lstm_xp x", ("a", "b"), 1.0, mean=True)
    every, mean = judge(found, goals)
    assert (every.reached, every.where, every.met) == (2.0, "2", False)
    assert mean.reached == pytest.approx(1.0)


@pytest.mark.needs("numba")
def test_training_is_checked_and_judged_with_threads_of_an_engines_own(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.goals import judge
    from benchmarks.questions import Setting, ask_training

    monkeypatch.setattr("benchmarks.questions.PAUSE", 0.0)
    found = list(ask_training(Setting(threads=2, budget=0.0, quick=True)))
    engines = {f"lstm_xp {engine}" for engine in ("numpy", "numpy, threads=2", "numba", "numba, threads=2")}
    assert {record.name for record in found} == engines | {"lstm_xp standard", "torch.nn.LSTM"}
    assert {(each.who, each.what, each.where) for each in judge(found)} == {
        (engine, "gradient", "(1, 20, 16, 32)") for engine in engines
    }


def test_the_gradient_of_peepholes_is_taken_but_not_compared() -> None:
    from benchmarks.on_torch import ours
    from benchmarks.problems import QUICK
    from benchmarks.race import check

    problem = QUICK[1]
    for engine in ("bptt", "standard"):
        (plain,) = ours(problem, engine, train=True)
        (contestant,) = ours(problem, engine, train=True, peephole=True)
        check(contestant, problem.gradient)
        *_, last = peepholes = contestant.run()[len(plain.run()) :]
        assert len(peepholes) == problem.layers * problem.directions
        assert last.abs().min() > 0


def test_memory_of_training_is_less_with_remat_and_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import memory, plots
    from benchmarks.questions import Setting, ask_memory

    names = "lstm_xp numpy, remat=100", "lstm_xp numpy", "torch.nn.LSTM"
    monkeypatch.setattr(memory, "NAMES", {"peak": names[1:2], "training, peak": names})
    found = list(ask_memory(Setting(quick=True)))
    least, middle, most = (r.median for r in found if (r.what, r.sizes["T"]) == ("training, peak", 400))
    assert least < middle < most
    (file,) = plots.draw(found, tmp_path)
    assert all(f"<!-- {text} -->" in file.read_text() for text in (*names, *plots.MEMORY.values()))


@pytest.mark.needs("distributed")
def test_a_cluster_has_as_many_workers_as_it_says_of_one_thread_each(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import on_dask

    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
    with on_dask.clients(1, 2) as clients:
        for count, client in enumerate(clients, start=1):
            assert list(client.nthreads().values()) == [1] * count
            assert list(client.run(on_dask.blas_threads).values()) == [[1]] * count
