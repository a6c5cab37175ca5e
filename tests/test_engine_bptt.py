"""The hand-written derivative within torch's autograd: the gradients of the loop that it stands for, and its limits."""

import gc
import weakref
from typing import Any

import numpy as np
import pytest

import lstm_xp as lx
from conformance.cases import CORE, Case, map_arrays
from conformance.compare import flat
from conformance.derivatives import ARGUMENTS, compare_gradients, loss_weights, tree_of

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.needs("torch")

VARIANTS = [
    Case(time=5, num_layers=2, bidirectional=True, proj_size=2, peephole=True, resets=True, valid="mask"),
    Case(time=5, norm="each", valid="lengths", masked_output="hold", reverse=True),
    Case(time=5, norm="joint", peephole=True, start="one"),
]


def tensor(array: np.ndarray, *, grad: bool = False) -> Any:
    return torch.tensor(np.array(array), requires_grad=grad)


def gradients(case: Case, engine: str, noise: lx.Noise | None = None, **options: Any) -> dict[str, np.ndarray]:
    """Return the gradients of a loss through an engine, by autograd."""
    leaves = {name: tensor(array, grad=True) for name, array in tree_of(case).items()}
    weights = {name: leaf for name, leaf in leaves.items() if name not in ARGUMENTS}
    settings = case.settings | ({"options": lx.CellOptions(**options)} if options else {})
    net = lx.LSTM.from_state_dict(weights, engine=engine, **settings)
    arguments = map_arrays(tensor, case.arguments()) | {"noise": map_arrays(tensor, noise)}
    given = {"x": leaves["x"]} | ({} if case.start == "absent" else {"state": (leaves["h_0"], leaves["c_0"])})
    result = flat(net(**(arguments | given)))
    sum((tensor(w) * a).sum() for w, a in zip(loss_weights(case), result, strict=True)).backward()
    return {name: np.zeros(leaf.shape) if leaf.grad is None else leaf.grad.numpy() for name, leaf in leaves.items()}


def differ(case: Case) -> bool:
    """Tell whether the loss depends on anything: not where all is zero."""
    return not (case.batch is None and case.time == 1 and case.valid == "mask")


@pytest.mark.parametrize("case", [case for case in CORE if differ(case)], ids=str)
def test_gradients_are_those_of_the_loop(case: Case) -> None:
    case = case.replace(dtype="float64")
    compare_gradients(gradients(case, "bptt"), gradients(case, "standard"))


@pytest.mark.parametrize("case", VARIANTS, ids=str)
def test_with_noise_and_variants(case: Case) -> None:
    options = {} if case.norm is None else {"norm_gates": case.norm, "norm_carry": True}
    options |= {"coupled": True, "clip_cell": 0.9, "clip_gates": 2.0, "peephole_output": "old"}
    rates = {"inputs": 0.3, "hidden": 0.3, "zoneout_h": 0.3, "zoneout_c": 0.2, "weight_hh": 0.2}
    net = lx.LSTM.from_weights(case.weights(), options=lx.CellOptions(norm_gates=case.norm or "joint"))
    noise = lx.draw_noise(net, np.random.default_rng(3), case.time, case.batch, dropout=0.4, **rates)
    compare_gradients(gradients(case, "bptt", noise, **options), gradients(case, "standard", noise, **options))


def problem(**changes: Any) -> tuple[lx.LSTM, Any]:
    case = Case(peephole=True, **changes)
    net = lx.LSTM.from_weights(map_arrays(lambda array: tensor(array, grad=True), case.weights()), engine="bptt")
    return net, tensor(case.x(), grad=True)


def test_numbers_are_the_references() -> None:
    net, x = problem()
    for a, e in zip(flat(net(x)), flat(net(x, engine="standard")), strict=True):
        assert torch.equal(a, e)


def test_it_is_taken_by_name_alone() -> None:
    net, x = problem()
    choice = lx.select_engine(x, net.weights)
    assert choice.name == "standard"
    assert choice.rejected["bptt"] == "it is taken by name only"


def test_what_needs_no_gradient_gets_none() -> None:
    net, x = problem()
    net(x.detach())[0].sum().backward()
    assert x.grad is None
    assert all(weight.grad is not None for weight in net.state_dict().values())
    with torch.no_grad():
        assert not net(x)[0].requires_grad


@pytest.mark.parametrize("power", [1, 2])
def test_it_is_differentiated_once(power: int) -> None:
    """Also where the loss is linear in the output, so that nothing in the cotangent tells that it would be twice."""
    net, x = problem()
    with pytest.raises(RuntimeError, match="cannot be differentiated again: take engine='standard'"):
        torch.autograd.grad((net(x)[0] ** power).sum(), x, create_graph=True)


def test_noise_that_wants_a_gradient_is_refused() -> None:
    net, x = problem(num_layers=2)
    noise = lx.draw_noise(net, np.random.default_rng(0), 7, 3, dropout=0.5, zoneout_h=0.5)
    net(x, noise=noise)
    for name in ("between", "zoneout_h"):
        wanted = noise._replace(**{name: getattr(noise, name).clone().requires_grad_()})
        with pytest.raises(ValueError, match="its derivative is not by `noise`"):
            net(x, noise=wanted)


def test_autocast_is_ignored_on_the_way_back() -> None:
    net, x = problem(dtype="float32")
    found = []
    for enabled in (False, True):
        loss = net(x)[0].square().sum()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            found.append(torch.autograd.grad(loss, x)[0])
    assert torch.equal(*found)


def test_what_is_kept_is_let_go_of_after_the_way_back() -> None:
    """While the output is still held; hooks of autograd see all that is kept."""
    net, x = problem()
    kept: list[Any] = []

    def pack(tensor: Any) -> Any:
        kept.append(weakref.ref(tensor))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = net(x)[0]
    of_caller = {id(x), *map(id, net.state_dict().values())}
    inner = [each for each in kept if id(each()) not in of_caller]
    assert len(inner) == 6  # h, c and four gates
    output.sum().backward()
    gc.collect()
    assert all(each() is None for each in inner)


def test_torch_tells_when_a_weight_was_written_into_before_the_way_back() -> None:
    net, x = problem()
    loss = net(x)[0].sum()
    with torch.no_grad():
        net.weights[0][0].weight_hh.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_the_output_may_be_written_into() -> None:
    net, x = problem()
    changed, plain = net(x)[0], net(x)[0]
    weights = torch.arange(plain.numel(), dtype=plain.dtype).view(plain.shape)
    (expected,) = torch.autograd.grad((plain * 2 * weights).sum(), x)
    (actual,) = torch.autograd.grad((changed.mul_(2) * weights).sum(), x)
    torch.testing.assert_close(actual, expected, rtol=1e-14, atol=0)


def test_nothing_is_kept_that_leads_back_to_itself() -> None:
    net, x = problem()
    gc.disable()
    try:
        output = net(x)[0]
        node = weakref.ref(output)
        del output
        assert node() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("transform", ["grad", "vmap", "jvp"])
def test_torch_func_is_refused(transform: str) -> None:
    net, x = problem()
    x = x.detach()
    loss = lambda x: net(x)[0].sum()
    calls = {
        "grad": lambda: torch.func.grad(loss)(x),
        "vmap": lambda: torch.func.vmap(loss)(x[None]),
        "jvp": lambda: torch.func.jvp(loss, (x,), (x,)),
    }
    with pytest.raises(ValueError, match="for reverse mode alone"):
        calls[transform]()


def test_a_trace_is_refused() -> None:
    net, x = problem()
    with pytest.raises(ValueError, match="autograd is not told what is inside"):
        net.trace(x)
