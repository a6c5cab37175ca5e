"""PyTorch's own kernel: where it is taken, that it is `torch.nn.LSTM`, and what torch does not document."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import lstm_xp as lx
from conformance.cases import Case, map_arrays
from conformance.compare import TOLERANCE, assert_equal, flat
from conformance.derivatives import compare_gradients, loss_of, torch_gradients, tree_of
from conformance.oracle import torch_answer, torch_module

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.needs("torch")

# That of torch whose undocumented functions were looked at.
VERIFIED = "2.13"

CASE = Case(time=3)
TWO_WAYS = Case(num_layers=2, bidirectional=True, proj_size=2, batch=5)


def tensors(case: Case) -> tuple[lx.LSTM, dict[str, Any]]:
    """Return the network and the arguments of a case as tensors."""
    return case.lstm(tensor), map_arrays(tensor, case.arguments())


def tensor(array: np.ndarray) -> Any:
    return torch.tensor(np.array(array))


def choice(case: Case, change: Callable[[Any], Any] = lambda each: each, **settings: Any) -> Any:
    arguments = map_arrays(lambda array: change(tensor(array)), case.arguments())
    return lx.select_engine(weights=map_arrays(tensor, case.weights()), **arguments, **(case.settings | settings))


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize(
    "case",
    [Case(), TWO_WAYS, Case(batch=None, num_layers=2), Case(batch_first=True, bias=()), Case(start="absent")],
    ids=str,
)
def test_it_is_torchs_own_lstm_but_for_one_rounding(case: Case, dtype: str) -> None:
    theirs = torch_module(case).to(getattr(torch, dtype)).eval()
    x, *state = (tensor(a).to(getattr(torch, dtype)) for a in (case.x(), *case.state()))
    given = None if case.start == "absent" else tuple(state)
    ours = lx.LSTM.from_state_dict(theirs.state_dict(), batch_first=case.batch_first, engine="torch")
    with torch.no_grad():
        expected = theirs(x, given)
    for a, e in zip(flat(ours(x, given)), flat(expected), strict=True):
        torch.testing.assert_close(a, e, rtol=0, atol=torch.finfo(a.dtype).eps)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("masked_output", ["zero", "hold"])
@pytest.mark.parametrize(
    "case",
    [
        Case(batch=5),
        TWO_WAYS,
        TWO_WAYS.replace(start="absent", bias=("bias_hh",), batch_first=True),
        Case(batch=5, reverse=True, num_layers=2, start="one"),
        Case(batch=None, bidirectional=True),
        Case(batch=0, reverse=True),
    ],
    ids=str,
)
def test_ragged_lengths(case: Case, masked_output: str, dtype: str) -> None:
    """In any order, 0 among them."""
    case = case.replace(valid="lengths", masked_output=masked_output, dtype=dtype)
    net, arguments = tensors(case)
    result = map_arrays(np.asarray, flat(net(**arguments, engine="torch")))
    if case.batch == 0:
        assert [array.shape for array in result] == [(7, 0, 4), (1, 0, 4), (1, 0, 4)]
    else:
        assert_equal(result, torch_answer(case), TOLERANCE[dtype])


@pytest.mark.parametrize(("given", "clipped"), [([0, 0, 0, 0, 0], None), ([-3, 99, 7, 8, 1], [0, 7, 7, 7, 1])])
def test_lengths_out_of_range_are_clipped_and_all_may_be_0(given: list[int], clipped: list[int] | None) -> None:
    net, arguments = tensors(TWO_WAYS)
    for dtype in (torch.int8, torch.int64):
        actual = flat(net(**arguments, lengths=torch.tensor(given, dtype=dtype), engine="torch"))
        numpys = flat(TWO_WAYS.lstm()(**TWO_WAYS.arguments(), lengths=np.array(clipped or given)))
        assert_equal(map_arrays(np.asarray, actual), numpys, 1e-14)


@pytest.mark.parametrize("masked_output", ["zero", "hold"])
@pytest.mark.parametrize("case", [TWO_WAYS, Case(batch=5, reverse=True, num_layers=2)], ids=str)
def test_nan_in_the_padding_harms_no_gradient(case: Case, masked_output: str) -> None:
    """The rows of length 0 and all padding are NaN; the gradients are those of a loop, which sees zeros there."""
    case = case.replace(valid="lengths", masked_output=masked_output)
    assert 0 in case.lengths()
    found = []
    for engine, junk in (("torch", np.nan), ("standard", 0.0)):
        tree = map_arrays(tensor, {**tree_of(case), "x": np.where(case.valid_steps()[..., None], case.x(), junk)})
        leaves = {name: each.requires_grad_() for name, each in tree.items()}
        loss_of(case, tensor, torch.sum, engine=engine)(leaves).backward()
        found.append({name: each.grad.numpy() for name, each in leaves.items()})
    compare_gradients(found[0], found[1])
    assert not found[0]["x"][~case.valid_steps()].any()


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        (Case(variant="clipped"), "torch's kernel has no `options`"),
        (Case(variant="activations", bidirectional=True), "torch's kernel has no `options`"),
        (Case(peephole=True), "torch's kernel has no peepholes"),
        (Case(valid="mask"), "torch's kernel has no `mask`"),
        (Case(proj_size=4), "torch's kernel tells a projection by its size, which is that of the cell"),
        (Case(valid="lengths").replace(batch=3), None),
        (Case(proj_size=6), None),
        (Case(resets=True), None),
        (Case(batch=4, valid="lengths", resets=True), None),
    ],
    ids=str,
)
def test_the_rule(case: Case, reason: str | None) -> None:
    assert choice(case).name == ("torch" if reason is None else "standard")
    assert reason is None or choice(case).rejected["torch"] == reason


@pytest.mark.parametrize("given", [Case(valid="lengths"), Case(resets=True)], ids=["lengths", "reset"])
def test_no_trace_of_what_is_packed(given: Case) -> None:
    reason = "what torch's kernel does not tell is worked out from its output, which has no padding and no `reset` then"
    assert choice(given, keep=("c",)).rejected["torch"] == reason


def test_episodes_go_to_the_loop_where_their_gradient_is_slow() -> None:
    reset = torch.zeros(128, 64, dtype=torch.bool)
    for hidden, trained, name in ((15, True, "torch"), (16, True, "standard"), (16, False, "torch")):
        cell = lx.LSTM(3, hidden, xp=torch, seed=0).weights[0][0]
        weights = lx.CellWeights(*(None if each is None else each.requires_grad_(trained) for each in cell))
        x = torch.zeros(128, 64, 3)
        assert lx.select_engine(x, weights, reset=reset).name == name
        with torch.no_grad():
            assert lx.select_engine(x, weights, reset=reset).name == "torch"
        assert lx.select_engine(x, weights, lengths=torch.full((64,), 9)).name == "torch"


@pytest.mark.parametrize("masked_output", ["zero", "hold"])
@pytest.mark.parametrize("valid", ["lengths", "all"])
@pytest.mark.parametrize(
    "case",
    [TWO_WAYS, TWO_WAYS.replace(start="one", bias=("bias_hh",)), Case(batch=5, reverse=True, num_layers=2, time=20)],
    ids=str,
)
def test_episodes_and_their_gradients(case: Case, valid: str, masked_output: str) -> None:
    """Against the loop, proven by itself: rows of length 0, NaN in the padding, a state that is learned."""
    case = case.replace(valid=valid, masked_output=masked_output, resets=True)
    found = []
    for engine, junk in (("torch", np.nan), ("standard", 0.0)):
        tree = map_arrays(tensor, tree_of(case))
        if valid == "lengths":
            tree["x"] = tensor(np.where(case.valid_steps()[..., None], case.x(), junk))
        leaves = {name: each.requires_grad_() for name, each in tree.items()}
        loss = loss_of(case, tensor, torch.sum, engine=engine)(leaves)
        loss.backward()
        found.append({name: each.grad.numpy() for name, each in leaves.items()} | {"loss": loss.detach().numpy()})
    assert {"h_0", "c_0"} <= found[0].keys()
    compare_gradients(found[0], found[1])


def test_neither_subclasses_nor_lengths_off_the_cpu() -> None:
    class Subclass(torch.Tensor):
        pass

    assert choice(Case(), torch.nn.Parameter).name == "torch"
    found = choice(Case(), lambda each: each.as_subclass(Subclass))
    assert found.rejected["torch"] == "torch's kernel may not know a Subclass"
    meta = lx.LSTM.from_state_dict({k: v.to("meta") for k, v in Case().lstm(tensor).state_dict().items()})
    x, lengths = torch.empty(7, 3, 5, dtype=torch.float64, device="meta"), torch.ones(3, dtype=int, device="meta")
    assert flat(meta(x, engine="torch"))[0].shape == flat(meta(x, lengths=lengths))[0].shape == (7, 3, 4)
    with pytest.raises(
        ValueError, match="the engine 'torch' cannot run this: torch packs only by `lengths` whose values"
    ):
        meta(x, lengths=lengths, engine="torch")


def engines_within(transform: Callable[[Callable[[Any], Any]], Any], case: Case = CASE) -> set[str]:
    """Return the engines that are taken within a transform of a function of x, which must run."""
    net, arguments = tensors(case)
    x, taken = arguments.pop("x"), set()

    def function(x: Any) -> Any:
        taken.add(lx.select_engine(x, net.weights, **arguments).name)
        return net(x, **arguments)[0].square().sum()

    transform(function)(x)
    return taken


@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_within_transforms() -> None:
    """Native under `grad` and what is made of it, standard where the kernel has no rule."""
    func = torch.func
    ragged = Case(valid="lengths")
    assert engines_within(func.grad) == {"torch"}
    assert engines_within(func.jacrev) == {"torch"}
    assert engines_within(lambda f: func.grad(lambda x: func.grad(f)(x).sum())) == {"torch"}
    assert engines_within(func.grad, ragged) == {"standard"}
    assert engines_within(lambda f: lambda x: func.vmap(f)(x[None])) == {"standard"}
    assert engines_within(lambda f: lambda x: func.vmap(func.grad(f))(x[None])) == {"standard"}
    assert engines_within(lambda f: lambda x: func.jvp(f, (x,), (x,))) == {"standard"}
    assert engines_within(func.hessian) == {"standard"}
    assert engines_within(lambda f: f, ragged) == {"torch"}


def test_forward_mode() -> None:
    from torch.autograd import forward_ad

    net, arguments = tensors(Case())
    x = arguments["x"]
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(x, torch.ones_like(x))
        tangent = forward_ad.unpack_dual(net(dual)[0]).tangent
    derivative = (net(x + 1e-6)[0] - net(x - 1e-6)[0]) / 2e-6
    torch.testing.assert_close(tangent, derivative, rtol=0, atol=1e-8)


@pytest.mark.parametrize("case", [Case(), TWO_WAYS.replace(valid="lengths", batch=3)], ids=str)
def test_torch_func_grad(case: Case) -> None:
    gradients = torch.func.grad(loss_of(case, tensor, torch.sum))(map_arrays(tensor, tree_of(case)))
    compare_gradients(gradients, torch_gradients(case))


@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`:UserWarning")
@pytest.mark.parametrize("strict", [False, True])
def test_export_keeps_it_one_operation(strict: bool) -> None:
    class Module(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weights = torch.nn.ParameterDict(Case().lstm(tensor).state_dict())

        def forward(self, x: Any) -> Any:
            return lx.LSTM.from_state_dict(self.weights)(x)[0]

    x = tensor(Case().x())
    program = torch.export.export(Module(), (x,), strict=strict)
    assert [str(node.target) for node in program.graph.nodes].count("aten.lstm.input") == 1
    torch.testing.assert_close(program.module()(x), Module()(x), rtol=0, atol=0)


def test_lengths_are_not_baked_into_what_is_traced() -> None:
    from torch.fx.experimental.proxy_tensor import make_fx

    net, arguments = tensors(Case(valid="lengths"))
    run = lambda x, lengths: net(x, lengths=lengths)[0]
    x, lengths = arguments["x"], arguments["lengths"]
    program = make_fx(run)(x, lengths)
    torch.testing.assert_close(program(x, 7 - lengths), run(x, 7 - lengths), rtol=0, atol=1e-14)


def test_the_first_call_may_be_compiled() -> None:
    """In a process of its own: the engine is imported while it is traced, and it is one operation of the graph."""
    program = """
        import warnings
        import torch, lstm_xp as lx
        warnings.filterwarnings("ignore", "Dynamo detected a call to a `functools.lru_cache`")
        theirs, x = torch.nn.LSTM(5, 4, 2, bidirectional=True), torch.randn(7, 3, 5)
        weights = dict(theirs.named_parameters())
        found = []
        def backend(graph, _):
            found.extend(node.target for node in graph.graph.nodes)
            return graph
        run = lambda x: lx.LSTM.from_state_dict(weights)(x)[0]
        output = torch.compile(run, backend=backend, fullgraph=True)(x)
        assert torch.equal(output, theirs(x)[0])
        assert found.count(torch.lstm) == 1
        print("right")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, sys.path))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "right\n", done.stderr


def test_the_default_device_is_not_looked_at() -> None:
    for case in (Case(), Case(valid="lengths", reverse=True, start="absent")):
        net, arguments = tensors(case)
        expected = flat(net(**arguments))
        with torch.device("meta"):
            actual = flat(net(**arguments))
        for a, e in zip(actual, expected, strict=True):
            assert torch.equal(a, e)


def test_autocast_is_ignored() -> None:
    net, arguments = tensors(TWO_WAYS.replace(dtype="float32", valid="lengths"))
    expected = flat(net(**arguments))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for a, e in zip(flat(net(**arguments, engine="torch")), expected, strict=True):
            assert torch.equal(a, e)


def test_what_torch_does_not_document_is_as_it_was() -> None:
    """What lstm_xp/engines/torch.py uses of it, one by one. It fails in a version that nobody has looked at, too."""
    from torch._subclasses import FakeTensor, FakeTensorMode
    from torch.autograd import forward_ad

    levels: list[Any] = []

    def look(x: Any) -> Any:
        active = torch._C._are_functorch_transforms_active()
        keys = [level.key() for level in torch._C._functorch.get_interpreter_stack() or ()]
        levels.append((active, keys, forward_ad._current_level >= 0))
        return x.sum()

    x = torch.ones(3)
    kinds = torch._C._functorch.TransformType
    look(x)
    torch.func.grad(look)(x)
    torch.func.vmap(look)(x[None])
    torch.func.jvp(look, (x,), (x,))
    assert levels == [
        (False, [], False),
        (True, [kinds.Grad], False),
        (True, [kinds.Vmap], False),
        (True, [kinds.Jvp], True),
    ]
    assert torch._C._len_torch_dispatch_stack() == 0
    with FakeTensorMode():
        assert type(torch.ones(3)) is FakeTensor
        assert torch._C._len_torch_dispatch_stack() == 1
    module = torch.nn.LSTM(5, 4, 2, bidirectional=True, proj_size=2).eval()
    packed = torch.nn.utils.rnn.pack_sequence([torch.ones(7, 5), torch.ones(2, 5)])
    state = torch.ones(4, 2, 2), torch.ones(4, 2, 4)
    settings = (True, 2, 0.0, False, True)
    output, h_n, c_n = torch.lstm(packed.data, packed.batch_sizes, state, module._flat_weights, *settings)
    expected = module(packed, state)
    assert all(map(torch.equal, (output, h_n, c_n), (expected[0].data, *expected[1])))
    cell, x, pair = torch.nn.LSTMCell(5, 4), torch.ones(3, 5), (torch.ones(3, 4), torch.zeros(3, 4))
    weights = cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh
    assert all(map(torch.equal, torch.lstm_cell(x, pair, *weights), cell(x, pair)))
    version = torch.__version__.rpartition(".")[0]
    assert version == VERIFIED, f"look at lstm_xp/engines/torch.py with torch {version}; then that is VERIFIED here"
