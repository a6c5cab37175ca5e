"""Gradients: through torch's autograd and `jax.grad`, against those of `torch.nn.LSTM`."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import lstm_xp as lx
from conformance.cases import Case, map_arrays
from conformance.compare import flat
from conformance.derivatives import ARGUMENTS, compare_gradients, loss_of, loss_weights, torch_gradients, tree_of
from conformance.oracle import torch_module
from lstm_xp._activations import ACTIVATIONS
from lstm_xp._namespace import standard_namespace
from lstm_xp._options import activation_function

pytestmark = pytest.mark.needs("torch")


@pytest.mark.parametrize(
    "case", [Case(), Case(num_layers=2, bidirectional=True, proj_size=2, valid="lengths")], ids=str
)
def test_torch_func_grad_over_the_state_dict(case: Case) -> None:
    import torch

    gradients = torch.func.grad(loss_of(case, torch.tensor, torch.sum))(library_tree(case, torch.tensor))
    compare_gradients(gradients, torch_gradients(case))


@pytest.mark.needs("jax")
@pytest.mark.parametrize("engine", ["jax", "standard"])
def test_jax_grad_over_the_weights(engine: str) -> None:
    """The tuples are pytrees; the gradient has their structure, None where a weight is None."""
    jax, jnp = jax_float64()
    case = Case(num_layers=2, bidirectional=True, proj_size=2, bias=("bias_ih",))
    x, state = map_arrays(jnp.asarray, (case.x(), case.state()))

    def loss(weights: Any) -> Any:
        result = lx.lstm(x, weights, state, engine=engine)
        return sum(jnp.sum(w * a) for w, a in zip(loss_weights(case), flat(result), strict=True))

    gradients = jax.grad(loss)(map_arrays(jnp.asarray, case.weights()))
    assert gradients[1][1].bias_hh is None
    expected = {name: gradient for name, gradient in torch_gradients(case).items() if name not in ARGUMENTS}
    compare_gradients(lx.LSTM.from_weights(gradients).state_dict(), expected)


@pytest.mark.needs("jax")
def test_jax_vmap_over_an_ensemble() -> None:
    jax, jnp = jax_float64()
    cases = [Case(seed=seed, num_layers=2, proj_size=2) for seed in range(3)]
    ensemble = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[map_arrays(jnp.asarray, c.weights()) for c in cases])
    x, state = map_arrays(jnp.asarray, (cases[0].x(), cases[0].state()))
    together = jax.vmap(lambda weights: lx.lstm(x, weights, state))(ensemble)
    for k, case in enumerate(cases):
        alone = lx.lstm(cases[0].x(), case.weights(), cases[0].state())
        for a, e in zip(flat(together), flat(alone), strict=True):
            np.testing.assert_allclose(a[k], e, rtol=0, atol=1e-14)


def test_torch_vmap_over_an_ensemble() -> None:
    import torch

    cases = [Case(seed=seed, num_layers=2, proj_size=2) for seed in range(3)]
    dicts = [map_arrays(torch.tensor, tuple(map(np.array, c.lstm().state_dict().values()))) for c in cases]
    ensemble = dict(zip(cases[0].lstm().state_dict(), map(torch.stack, zip(*dicts, strict=True)), strict=True))
    x, state = map_arrays(torch.tensor, (cases[0].x(), cases[0].state()))
    together = torch.func.vmap(lambda weights: flat(lx.LSTM.from_state_dict(weights)(x, state)))(ensemble)
    for k, case in enumerate(cases):
        alone = flat(lx.lstm(cases[0].x(), case.weights(), cases[0].state()))
        for a, e in zip(together, alone, strict=True):
            np.testing.assert_allclose(a[k], e, rtol=0, atol=1e-14)


def test_torch_forward_mode_and_second_derivatives() -> None:
    import torch

    case = Case(time=3, batch=2)
    net = case.lstm(torch.tensor)
    x = torch.tensor(case.x())
    loss = lambda x: net(x)[0].square().sum()
    _, tangent = torch.func.jvp(loss, (x,), (torch.ones_like(x),))
    torch.testing.assert_close(tangent, torch.func.grad(loss)(x).sum(), rtol=1e-12, atol=0)
    assert torch.autograd.gradgradcheck(loss, x.requires_grad_())


def test_from_state_dict_copies_no_tensor() -> None:
    import torch

    tree = library_tree(Case(), torch.tensor)
    weights = {name: tree[name] for name in Case().lstm().state_dict()}
    for name, tensor in lx.LSTM.from_state_dict(weights).state_dict().items():
        assert tensor is weights[name]


def test_a_module_with_a_parameter_dict_trains() -> None:
    """The step-by-step losses are those of `torch.nn.LSTM`, trained beside it."""
    import torch

    class Ours(torch.nn.Module):
        def __init__(self, weights: dict[str, Any]) -> None:
            super().__init__()
            self.lstm = torch.nn.ParameterDict(weights)

        def forward(self, x: Any) -> Any:
            return lx.LSTM.from_state_dict(self.lstm)(x)[0]

    case = Case(num_layers=2, batch_first=False)
    theirs = torch_module(case)
    ours = Ours({name: value.clone() for name, value in theirs.state_dict().items()})
    x, target = torch.tensor(case.x()), torch.tensor(0.5 * np.sign(case.x()[..., :4]))
    losses: dict[str, list[float]] = {"ours": [], "theirs": []}
    for name, model in (("ours", ours), ("theirs", theirs)):
        optimiser = torch.optim.Adam(model.parameters(), lr=0.05)
        for _ in range(40):
            output = model(x)
            loss = ((output if name == "ours" else output[0]) - target).square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses[name].append(loss.item())
    assert losses["ours"][-1] < 0.5 * losses["ours"][0]
    np.testing.assert_allclose(losses["ours"], losses["theirs"], rtol=1e-9)


@pytest.mark.parametrize("library", [pytest.param("jax", marks=pytest.mark.needs("jax")), "torch"])
@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_the_gradient_of_each_activation(library: str, name: str) -> None:
    """Finite far out and at 0, and that of a difference quotient where the function is smooth."""
    z = np.array([-1e3, -90.0, -2.1, -0.3, 0.0, 0.2, 0.8, 1.7, 90.0, 1e3])
    if library == "jax":
        jax, jnp = jax_float64()
        function = activation_function(name, jnp)
        gradient = np.asarray(jax.grad(lambda z: function(z).sum())(jnp.asarray(z)))
    else:
        import torch

        function = activation_function(name, standard_namespace(torch))
        gradient = torch.func.grad(lambda z: function(z).sum())(torch.tensor(z)).numpy()
    assert np.isfinite(gradient).all()
    numpys = activation_function(name, np)
    with np.errstate(over="ignore", under="ignore"):
        quotient = (numpys(z + 1e-6) - numpys(z - 1e-6)) / 2e-6
    smooth = z != 0 if name in ("relu", "leaky_relu") else np.full(z.shape, True)
    np.testing.assert_allclose(gradient[smooth], quotient[smooth], rtol=1e-6, atol=1e-6)


def test_autocast_is_ignored() -> None:
    import torch

    case = Case(num_layers=2, bias=(), dtype="float32")
    net, x, state = case.lstm(torch.tensor), torch.tensor(case.x()), map_arrays(torch.tensor, case.state())
    ((cell,),) = map_arrays(torch.tensor, Case(dtype="float32", bias=()).weights())
    plain = flat(net(x, state)), lx.lstm_cell(x[0], cell)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = flat(net(x, state)), lx.lstm_cell(x[0], cell)
        assert torch.is_autocast_enabled("cpu")
    for actual, expected in zip((*under[0], *under[1]), (*plain[0], *plain[1]), strict=True):
        assert actual.dtype == torch.float32
        assert torch.equal(actual, expected)


@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`:UserWarning")
def test_torch_compile_traces_without_a_break() -> None:
    """The tracer alone, without the code that it would generate."""
    import torch

    case = Case(time=3, num_layers=2, bidirectional=True, peephole=True)
    ((weights,),) = map_arrays(torch.tensor, Case().weights())
    net, x, state = case.lstm(torch.tensor), torch.tensor(case.x()), map_arrays(torch.tensor, case.state())
    cell = torch.compile(lambda x, h, c: lx.lstm_cell(x, weights, (h, c)), backend="eager", fullgraph=True)
    h, c = (array[0] for array in map_arrays(torch.tensor, Case().state()))
    whole = torch.compile(lambda x, h, c: flat(net(x, (h, c))), backend="eager", fullgraph=True)
    pairs = zip(
        (*cell(x[0], h, c), *whole(x, *state)),
        (*lx.lstm_cell(x[0], weights, (h, c)), *flat(net(x, state))),
        strict=True,
    )
    for actual, expected in pairs:
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-14)


def library_tree(case: Case, asarray: Callable[[np.ndarray], Any]) -> dict[str, Any]:
    """Return input, initial states and the state dict of a case as a library's arrays."""
    return {name: asarray(np.array(array)) for name, array in tree_of(case).items()}


def jax_float64() -> tuple[Any, Any]:
    """Return jax and jax.numpy, with float64."""
    import jax

    jax.config.update("jax_enable_x64", True)
    return jax, jax.numpy
