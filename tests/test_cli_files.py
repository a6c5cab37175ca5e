"""``lstm-xp inspect`` and ``lstm-xp convert``, as a user calls them."""

from pathlib import Path

import numpy as np
import pytest

import lstm_xp as lx
from conformance.cases import Case
from lstm_xp._cli import main

CASE = Case(num_layers=2, bidirectional=True, dtype="float32")
OPTIONS = (lx.CellOptions(coupled=True), lx.CellOptions(clip_gates=0.5))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a net, in which the commands run."""
    monkeypatch.chdir(tmp_path)
    lx.save("net.npz", CASE.lstm(), prefix="enc")
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Run the command; return exit code, output, errors."""
    try:
        code = main(arguments)
    except SystemExit as stop:
        code = int(stop.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


def test_inspect(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases = {"enc": CASE.replace(proj_size=3), "dec": Case(num_layers=2, bias=())}
    arrays = {f"{prefix}.{name}": a for prefix, case in cases.items() for name, a in case.lstm().state_dict().items()}
    gru = {"gru.weight_ih_l0": np.ones((12, 5), "f4"), "gru.weight_hh_l0": np.ones((12, 4), "f4")}
    np.savez("all.npz", **arrays, **gru)
    code, out, err = run(capsys, "inspect", "all.npz")
    assert (code, err) == (0, "")
    assert out.splitlines()[0].split() == [
        "prefix", "layers", "directions", "input", "hidden", "projection", "dtype", "parameters", "settings",
    ]  # fmt: skip
    assert "enc.    2       2           5      4       3           float32  720         torch's" in out
    assert "dec.    2       1           5      4       none        float64  272         bias=False" in out
    assert "gru.    `gru.weight_hh_l0` has shape (12, 4), expected (4*hidden_size, hidden_size) = (12, 3)" in out


def test_inspect_shows_settings(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lx.save("net.npz", CASE.replace(batch_first=True, peephole=True).lstm(options=OPTIONS, masked_output="hold"))
    assert run(capsys, "inspect", "net.npz")[1].splitlines()[1] == (
        "(none)  2       2           5      4       none        float32  848         batch_first=True, "
        "masked_output='hold', peephole, forward coupled=True, backward clip_gates=0.5"
    )


@pytest.mark.needs("torch")
def test_inspect_shows_the_dtype_of_the_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    torch.save({"net": torch.nn.LSTM(5, 4, dtype=torch.bfloat16).state_dict()}, "net.pt")
    assert (
        "net.    1       1           5      4       none        bfloat16  176         torch's"
        in run(capsys, "inspect", "net.pt")[1]
    )


@pytest.mark.parametrize(
    "target", ["out.npz", "out.safetensors", pytest.param("out.onnx", marks=pytest.mark.needs("onnx"))]
)
@pytest.mark.parametrize("more", [(), ("--prefix", "enc"), ("--to", "torch")])
def test_convert(folder: Path, capsys: pytest.CaptureFixture[str], target: str, more: tuple[str, ...]) -> None:
    code, out, err = run(capsys, "convert", "net.npz", target, *more)
    assert (code, err) == (0, "")
    assert out == f"{target}: LSTM(5, 4, num_layers=2, bidirectional=True), 16 arrays\n"
    back = lx.load(target, prefix="")
    for name, array in CASE.lstm().state_dict().items():
        assert np.array_equal(back.state_dict()[name], array)


@pytest.mark.needs("onnx")
def test_an_onnx_file_is_a_model(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whether or not that is said twice; and it says what the arrays do not."""
    lx.save("net.npz", CASE.lstm(options=OPTIONS[0]))
    assert run(capsys, "convert", "net.npz", "out.onnx", "--to", "onnx")[0] == 0
    assert lx.load("out.onnx").options == OPTIONS[0]


@pytest.mark.needs("torch")
def test_convert_bfloat16(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    module = torch.nn.LSTM(5, 4, dtype=torch.bfloat16)
    torch.save(module.state_dict(), "net.pt")
    code, _, err = run(capsys, "convert", "net.pt", "out.npz")
    assert code == 2
    assert err.startswith(
        "lstm-xp: error: net.pt holds bfloat16: `dtype` is 'bfloat16', expected a real floating dtype"
    )
    assert err.endswith("; dtype='float32' converts it, and xp=torch keeps it\n")
    assert run(capsys, "convert", "net.pt", "out.npz", "--dtype", "float32")[0] == 0
    with np.load("out.npz") as arrays:
        assert np.array_equal(arrays["weight_hh_l0"], module.weight_hh_l0.detach().float().numpy())


def test_convert_to_a_frameworks_names(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lx.save("one.npz", Case(dtype="float32").lstm())
    assert run(capsys, "convert", "one.npz", "out.npz", "--to", "flax")[0] == 0
    with np.load("out.npz") as arrays:
        expected = lx.convert.to_flax(Case(dtype="float32").lstm())
        assert np.array_equal(arrays["if/kernel"], expected["if"]["kernel"])
        assert np.array_equal(arrays["ho/bias"], expected["ho"]["bias"])
        assert len(arrays) == 12
    assert run(capsys, "convert", "net.npz", "out.safetensors", "--to", "keras")[0] == 0
    from safetensors.numpy import load_file

    keras = lx.convert.to_keras(CASE.lstm())
    found = load_file("out.safetensors")
    assert sorted(found) == sorted(f"{layer}/{k}" for layer in range(2) for k in range(6))
    assert np.array_equal(found["1/4"], keras[1][4])


MISTAKES = {
    "no file": (["inspect", "nothing.npz"], "No such file or directory: 'nothing.npz'"),
    "kind": (["inspect", "net.csv"], "net.csv has the suffix '.csv', expected one of .npz, .safetensors, .onnx, .pt"),
    "nothing in it": (["inspect", "other.npz"], "other.npz holds no LSTM: no array is named `weight_hh_l0`"),
    "broken": (["inspect", "broken.npz"], "broken.npz is not a readable .npz file"),
    "read only": (["convert", "net.npz", "out.pt"], "out.pt has the suffix '.pt', which is only read, expected one of"),
    "prefix": (["convert", "net.npz", "out.npz", "--prefix", "dec"], "net.npz: no LSTM under the prefix 'dec.'"),
    "framework": (["convert", "net.npz", "out.npz", "--to", "theano"], "argument --to: invalid choice: 'theano'"),
    "into a model": (
        ["convert", "net.npz", "out.onnx", "--to", "flax"],
        "out.onnx: a .onnx file does not hold arrays under any names, expected .npz or .safetensors",
    ),
    "not expressible": (["convert", "projected.npz", "out.npz", "--to", "keras"], "a projection, which Keras cannot"),
    "direction for Keras": (
        ["convert", "reverse.npz", "out.npz", "--to", "keras"],
        "out.npz: the arrays of keras do not say reverse=True; a file that is written without --to does",
    ),
    "options for ONNX": (
        ["convert", "options.npz", "out.safetensors", "--to", "onnx"],
        "the arrays of onnx do not say forward coupled=True, backward clip_gates=0.5; a file that",
    ),
    "not in ONNX": (["convert", "projected.npz", "out.onnx"], "a projection, which ONNX cannot express"),
    "no folder": (["convert", "net.npz", "no/out.npz"], "No such file or directory: 'no/out.npz'"),
    "one argument": (["convert", "net.npz"], "the following arguments are required: OUT"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_clear_line_and_exit_code_2(
    folder: Path, capsys: pytest.CaptureFixture[str], mistake: str
) -> None:
    lx.save("projected.npz", CASE.replace(proj_size=2).lstm())
    lx.save("reverse.npz", Case(dtype="float32").lstm(reverse=True))
    lx.save("options.npz", CASE.lstm(options=OPTIONS))
    np.savez("other.npz", a=np.ones(3))
    Path("broken.npz").write_bytes(b"PK\x03\x04 broken")
    before = set(folder.iterdir())
    arguments, message = MISTAKES[mistake]
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert err.startswith("lstm-xp: error: ")
    assert err.count("\n") == 1
    assert set(folder.iterdir()) == before


@pytest.mark.needs("torch", "onnx", "h5py")
def test_run_takes_every_kind_of_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import h5py
    import torch

    from conformance.oracle import torch_module

    case = Case(dtype="float32", bias=("bias_ih",), start="absent")
    ((cell,),) = case.weights()
    net = case.lstm()
    torch.save({"net": torch_module(case.replace(bias=("bias_ih", "bias_hh"))).state_dict()}, "net.pt")
    both = case.replace(bias=("bias_ih", "bias_hh")).lstm()
    lx.save("net.onnx", net)
    with h5py.File("net.h5", "w") as file:
        for name, array in (
            ("kernel:0", cell.weight_ih.T),
            ("recurrent_kernel:0", cell.weight_hh.T),
            ("bias:0", cell.bias_ih),
        ):
            file[f"rnn/rnn/{name}"] = array
    np.save("x.npy", case.x())
    np.save("x_by_batch.npy", case.x().swapaxes(0, 1))
    for weights, x, expected in (
        ("net.pt", "x.npy", both(case.x())[0]),
        ("net.onnx", "x.npy", net(case.x())[0]),
        ("net.h5", "x_by_batch.npy", net(case.x())[0].swapaxes(0, 1)),
    ):
        np.save("expected.npy", expected)
        code, out, err = run(capsys, "run", weights, x, "--expect", "expected.npy")
        assert (code, err) == (0, "")
        assert "expected equal: the largest difference is " in out
