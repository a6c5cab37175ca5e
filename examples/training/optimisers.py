"""The same training with other people's optimisers: SciPy on NumPy, torch.optim on torch, optax on JAX.

    pip install scipy torch jax optax
    python optimisers.py [--seed 0]

The package has no optimiser, and needs none: weights are a tuple of arrays, and so are their derivatives.
"""

import argparse
from collections.abc import Iterator
from typing import Any

import numpy as np
from train import (
    DIGITS,
    Array,
    Model,
    Recordings,
    Settings,
    Step,
    arrays,
    draw_model,
    draw_steps,
    judge,
    load,
    loss_and_gradients,
    train,
    with_arrays,
)

import lstm_xp as lx


def by_scipy(model: Model, data: Recordings, steps: int, penalty: float = 0.001) -> Model:
    """L-BFGS on NumPy's arrays, which takes all recordings at each step, and the squares of the parameters besides."""
    from scipy.optimize import minimize

    ends = np.cumsum([each.size for each in arrays(model)])[:-1]

    def unpack(vector: Array) -> Model:
        parts = np.split(vector, ends)
        return with_arrays(model, [part.reshape(each.shape) for part, each in zip(parts, arrays(model), strict=True)])

    def pack(model: Model) -> Array:
        return np.concatenate([each.ravel() for each in arrays(model)])

    def objective(vector: Array) -> tuple[float, Array]:
        loss, gradients = loss_and_gradients(unpack(vector), data)
        return loss + penalty / 2 * vector @ vector, pack(gradients) + penalty * vector

    found = minimize(objective, pack(model), jac=True, method="L-BFGS-B", options={"maxiter": steps})
    return unpack(found.x)


def cross_entropy(model: Any, step: Step, log_softmax: Any) -> Any:
    """Return the loss of `train.loss_and_gradients` on another library's arrays, for its own differentiation."""
    x, lengths, right = step.data
    output, _ = lx.lstm(x, model.lstm, lengths=lengths)
    mean = output.sum(axis=0) / lengths[:, None] * step.keep
    return -(log_softmax(mean @ model.head.T + model.bias, -1) * right).sum() / len(right)


def brought(step: Step, asarray: Any) -> Step:
    """Bring what a step is given to another library, the digits as rows of zeros and a one."""
    right = np.eye(DIGITS)[step.data.digits]
    return Step(Recordings(*map(asarray, step.data._replace(digits=right))), asarray(step.keep), step.rate)


def by_torch(model: Model, steps: Iterator[Step]) -> Model:
    """Adam of torch.optim on tensors, through the autograd of lx.lstm: no torch.nn."""
    import torch

    parameters = [torch.tensor(each, requires_grad=True) for each in arrays(model)]
    optimiser = torch.optim.Adam(parameters)
    for step in steps:
        optimiser.param_groups[0]["lr"] = step.rate
        optimiser.zero_grad()
        cross_entropy(with_arrays(model, parameters), brought(step, torch.as_tensor), torch.log_softmax).backward()
        optimiser.step()
    return with_arrays(model, [each.detach().numpy() for each in parameters])


def by_optax(model: Model, steps: Iterator[Step], settings: Settings) -> Model:
    """Adam of optax on JAX's arrays, a whole step under jit: a model is a pytree as it is."""
    import jax
    import optax
    from jax import numpy as jnp

    optimiser = optax.adam(optax.cosine_decay_schedule(settings.rate, settings.steps))

    @jax.jit
    def update(model: Any, state: Any, step: Any) -> Any:
        gradients = jax.grad(cross_entropy)(model, step, jax.nn.log_softmax)
        changes, state = optimiser.update(gradients, state)
        return optax.apply_updates(model, changes), state

    with jax.enable_x64(True):
        trained = with_arrays(model, [jnp.asarray(each) for each in arrays(model)])
        state = optimiser.init(trained)
        for step in steps:
            trained, state = update(trained, state, brought(step, jnp.asarray))
        return with_arrays(model, [np.asarray(each) for each in arrays(trained)])


def by_numpy(model: Model, steps: Iterator[Step]) -> Model:
    """Adam of train.py."""
    *_, (model, _) = train(model, steps)
    return model


def main() -> None:
    """Print what each of them reaches."""
    parser = argparse.ArgumentParser(description="Train with other optimisers.")
    parser.add_argument("--seed", type=int, default=0, help="of everything that is drawn (default 0)")
    seed = parser.parse_args().seed
    known, unseen, _, _ = load()
    settings = Settings()
    begin = draw_model(seed, settings.hidden)
    for who, trained in (
        ("NumPy, Adam of train.py", lambda: by_numpy(begin, draw_steps(seed, known, settings))),
        ("torch, torch.optim.Adam", lambda: by_torch(begin, draw_steps(seed, known, settings))),
        ("JAX, optax.adam", lambda: by_optax(begin, draw_steps(seed, known, settings), settings)),
        ("NumPy, SciPy's L-BFGS", lambda: by_scipy(begin, known, 50)),
    ):
        model = trained()
        (loss, _), (loss_unseen, right) = judge(model, known), judge(model, unseen)
        print(
            f"{who:<24} loss {loss:.6f}, held out {loss_unseen:.6f}, {right} of {len(unseen.digits)} right", flush=True
        )


if __name__ == "__main__":
    main()
