"""Gradients: through torch's autograd and `jax.grad`, against those of `torch.nn.LSTM`."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cases import Case, flat, map_arrays, torch_module

import lstm_xp as lx
from lstm_xp._activations import ACTIVATIONS
from lstm_xp._namespace import standard_namespace
from lstm_xp._options import activation_function

pytestmark = pytest.mark.needs("torch")

CASES = [
    Case(),
    Case(num_layers=2, bidirectional=True, proj_size=2),
    Case(num_layers=2, bidirectional=True, bias=()),
    Case(batch=None, num_layers=3),
]


def loss_weights(case: Case, result: Any) -> list[np.ndarray]:
    """Draw the weights of the loss: one for each number that comes out."""
    rng = case.rng("cotangents")
    return [rng.standard_normal(tuple(array.shape)) for array in flat(result)]


def torch_gradients(case: Case, lengths: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Return the gradients of the loss through `torch.nn.LSTM`, by name."""
    import torch
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    module = torch_module(case)
    x, h_0, c_0 = (torch.tensor(a, requires_grad=True) for a in (case.x(), *case.state()))
    if lengths is None:
        result = module(x, (h_0, c_0))
    else:
        packed, state = module(pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False), (h_0, c_0))
        result = pad_packed_sequence(packed, total_length=case.time)[0], state
    sum((torch.tensor(w) * a).sum() for w, a in zip(loss_weights(case, result), flat(result), strict=True)).backward()
    gradients = {"x": x.grad, "h_0": h_0.grad, "c_0": c_0.grad}
    gradients |= {name: parameter.grad for name, parameter in module.named_parameters()}
    return {name: gradient.numpy() for name, gradient in gradients.items()}


def assert_gradients_equal(actual: dict[str, Any], expected: dict[str, np.ndarray]) -> None:
    """Compare relative to the largest gradient there is."""
    assert actual.keys() == expected.keys()
    largest = max(np.max(np.abs(gradient)) for gradient in expected.values())
    assert largest > 0.1
    for name, gradient in expected.items():
        difference = np.max(np.abs(np.asarray(actual[name]) - gradient))
        assert difference <= 1e-12 * largest, f"d {name} differs by {difference:.2e}, the largest is {largest:.2e}"


def our_loss(case: Case, xp_sum: Callable[[Any], Any], asarray: Callable[[np.ndarray], Any], **arrays: Any) -> Any:
    """Return the loss as a function of a flat dict of x, h_0, c_0 and a state dict."""

    def loss(tree: dict[str, Any]) -> Any:
        weights = {name: a for name, a in tree.items() if name not in ("x", "h_0", "c_0")}
        result = lx.LSTM.from_state_dict(weights)(tree["x"], (tree["h_0"], tree["c_0"]), **arrays)
        pairs = zip(loss_weights(case, result), flat(result), strict=True)
        return sum(xp_sum(asarray(w) * a) for w, a in pairs)

    return loss


def tree_of(case: Case, asarray: Callable[[np.ndarray], Any]) -> dict[str, Any]:
    """Return x, h_0, c_0 and the state dict of a case as a library's arrays."""
    h_0, c_0 = case.state()
    arrays = {"x": case.x(), "h_0": h_0, "c_0": c_0} | case.lstm().state_dict()
    return {name: asarray(np.array(array)) for name, array in arrays.items()}


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_torch_autograd(case: Case, ragged: bool) -> None:
    import torch

    lengths = case.lengths() if ragged and case.batch else None
    tree = {name: tensor.requires_grad_() for name, tensor in tree_of(case, torch.tensor).items()}
    arrays = {} if lengths is None else {"lengths": torch.tensor(lengths)}
    our_loss(case, torch.sum, torch.tensor, **arrays)(tree).backward()
    assert_gradients_equal({name: t.grad.numpy() for name, t in tree.items()}, torch_gradients(case, lengths))


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_torch_func_grad_over_the_state_dict(case: Case, ragged: bool) -> None:
    import torch

    lengths = case.lengths() if ragged and case.batch else None
    arrays = {} if lengths is None else {"lengths": torch.tensor(lengths)}
    gradients = torch.func.grad(our_loss(case, torch.sum, torch.tensor, **arrays))(tree_of(case, torch.tensor))
    assert_gradients_equal(gradients, torch_gradients(case, lengths))


@pytest.mark.needs("jax")
@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_jax_grad_over_the_state_dict(case: Case, jit: bool, ragged: bool) -> None:
    jax, jnp = jax_float64()
    lengths = case.lengths() if ragged and case.batch else None
    arrays = {} if lengths is None else {"lengths": jnp.asarray(lengths)}
    grad = jax.grad(our_loss(case, jnp.sum, jnp.asarray, **arrays))
    gradients = (jax.jit(grad) if jit else grad)(tree_of(case, jnp.asarray))
    assert_gradients_equal(gradients, torch_gradients(case, lengths))


@pytest.mark.needs("jax")
@pytest.mark.parametrize("engine", ["jax", "standard"])
def test_jax_grad_over_the_weights(engine: str) -> None:
    """The tuples are pytrees; the gradient has their structure, None where a weight is None."""
    jax, jnp = jax_float64()
    case = Case(num_layers=2, bidirectional=True, proj_size=2, bias=("bias_ih",))
    x, state = map_arrays(jnp.asarray, (case.x(), case.state()))

    def loss(weights: Any) -> Any:
        result = lx.lstm(x, weights, state, engine=engine)
        return sum(jnp.sum(w * a) for w, a in zip(loss_weights(case, result), flat(result), strict=True))

    gradients = jax.grad(loss)(map_arrays(jnp.asarray, case.weights()))
    assert gradients[1][1].bias_hh is None
    expected = {
        name: gradient
        for name, gradient in torch_gradients(case).items()
        if name not in ("x", "h_0", "c_0") and not name.startswith("bias_hh")
    }
    assert_gradients_equal(lx.LSTM.from_weights(gradients).state_dict(), expected)


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
    loss = lambda x: net(x)[0].square().sum()  # noqa: E731
    _, tangent = torch.func.jvp(loss, (x,), (torch.ones_like(x),))
    torch.testing.assert_close(tangent, torch.func.grad(loss)(x).sum(), rtol=1e-12, atol=0)
    assert torch.autograd.gradgradcheck(loss, x.requires_grad_())


def test_from_state_dict_copies_no_tensor() -> None:
    import torch

    tree = tree_of(Case(), torch.tensor)
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
@pytest.mark.parametrize("masked_output", ["zero", "hold"])
@pytest.mark.parametrize("kind", ["lengths", "mask"])
def test_nan_in_the_padding_harms_no_gradient(library: str, masked_output: str, kind: str) -> None:
    case = Case(num_layers=2, bidirectional=True)
    given = case.lengths() if kind == "lengths" else case.mask()
    valid = np.arange(case.time)[:, None] < given if kind == "lengths" else given
    clean = tree_of(case, np.array)
    dirty = clean | {"x": np.where(valid[..., None], clean["x"], np.nan)}
    settings = {"masked_output": masked_output}
    gradients = [library_gradients(library, case, tree, kind, given, settings) for tree in (clean, dirty)]
    for name, gradient in gradients[0].items():
        np.testing.assert_array_equal(gradients[1][name], gradient)
        assert np.isfinite(gradient).all()
    assert np.abs(gradients[0]["weight_ih_l0"]).max() > 0.01


@pytest.mark.parametrize("library", [pytest.param("jax", marks=pytest.mark.needs("jax")), "torch"])
def test_inputs_a_thousand_times_too_large_give_finite_gradients(library: str) -> None:
    case = Case(num_layers=2, bidirectional=True, proj_size=2, dtype="float32")
    tree = tree_of(case, np.array)
    gradients = library_gradients(library, case, tree | {"x": 1000 * tree["x"]}, "mask", np.ones((7, 3), bool), {})
    for gradient in gradients.values():
        assert np.isfinite(gradient).all()


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


def library_gradients(
    library: str, case: Case, tree: dict[str, Any], kind: str, given: np.ndarray, settings: dict[str, Any]
) -> dict[str, np.ndarray]:
    """Return the gradients of the sum of squares of what comes out."""

    def loss(tree: dict[str, Any], array: Any) -> Any:
        weights = {name: a for name, a in tree.items() if name not in ("x", "h_0", "c_0")}
        net = lx.LSTM.from_state_dict(weights, **settings)
        return sum((a * a).sum() for a in flat(net(tree["x"], (tree["h_0"], tree["c_0"]), **{kind: array})))

    if library == "jax":
        jax, jnp = jax_float64()
        gradients = jax.grad(loss)({name: jnp.asarray(a) for name, a in tree.items()}, jnp.asarray(given))
    else:
        import torch

        gradients = torch.func.grad(loss)({name: torch.tensor(a) for name, a in tree.items()}, torch.tensor(given))
    return {name: np.asarray(gradient) for name, gradient in gradients.items()}


def jax_float64() -> tuple[Any, Any]:
    """Return jax and jax.numpy, with float64."""
    import jax

    jax.config.update("jax_enable_x64", True)
    return jax, jax.numpy
