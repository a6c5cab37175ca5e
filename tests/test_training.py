"""Training on NumPy beside training with `torch.nn.LSTM`, step by step: the same weights, batches and optimiser."""

from pathlib import Path

import numpy as np
import pytest

import lstm_xp as lx

pytestmark = pytest.mark.needs("torch")

RECORDINGS = Path(__file__).parent.parent / "examples" / "training" / "held_out.npz"
HIDDEN, DIGITS, BATCH, STEPS = 5, 10, 6, 200
LSTM = {"input_size": 13, "hidden_size": HIDDEN, "num_layers": 2, "bidirectional": True}


def batches() -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Return x (time, batch, 13), NaN behind the end of a recording, lengths and digits for each step."""
    with np.load(RECORDINGS) as file:
        frames, lengths, digits = file["sixteenths"].T / 16, file["lengths"].astype(int), file["digits"].astype(int)
    recordings = np.split(frames, np.cumsum(lengths)[:-1])
    short, rng, drawn = np.flatnonzero(lengths < 15), np.random.default_rng(2), []
    for _ in range(STEPS):
        some = rng.choice(short, BATCH, replace=False)
        x = np.full((lengths[some].max(), BATCH, 13), np.nan)
        for row, n in enumerate(some):
            x[: lengths[n], row] = recordings[n]
        drawn.append((x, lengths[some], digits[some]))
    return drawn


def first() -> dict[str, np.ndarray]:
    """Return the parameters that training begins with, an initial state among them."""
    rng = np.random.default_rng(3)
    lstm = lx.LSTM(**LSTM, seed=3, dtype="float64").state_dict()
    return {f"lstm.{name}": array.copy() for name, array in lstm.items()} | {
        "head.weight": rng.uniform(-0.3, 0.3, (DIGITS, 2 * HIDDEN)),
        "head.bias": rng.uniform(-0.3, 0.3, DIGITS),
        "h_0": rng.uniform(-0.5, 0.5, (4, 1, HIDDEN)),
        "c_0": rng.uniform(-0.5, 0.5, (4, 1, HIDDEN)),
    }


def with_numpy(engine: str) -> tuple[list[float], dict[str, np.ndarray]]:
    """Return the loss at each step, and the parameters after the last one."""
    parameters, losses = first(), []
    moments = {name: (np.zeros_like(array), np.zeros_like(array)) for name, array in parameters.items()}
    for step, (x, lengths, digits) in enumerate(batches(), 1):
        net = lx.LSTM.from_state_dict(parameters, prefix="lstm")
        state = parameters["h_0"], parameters["c_0"]
        (output, (h_n, _)), pullback = net.vjp(x, state, lengths=lengths, engine=engine)
        # What is read: the mean of the outputs, and the last layer's final states.
        read = output.sum(axis=0) / lengths[:, None] + np.concatenate([h_n[2], h_n[3]], axis=-1)
        scores = np.exp(read @ parameters["head.weight"].T + parameters["head.bias"])
        probabilities = scores / scores.sum(axis=1, keepdims=True)
        losses.append(-np.log(probabilities[np.arange(BATCH), digits]).mean())

        d_scores = (probabilities - np.eye(DIGITS)[digits]) / BATCH
        d_read = d_scores @ parameters["head.weight"]
        d_h_n = np.zeros_like(h_n)
        d_h_n[2], d_h_n[3] = d_read[:, :HIDDEN], d_read[:, HIDDEN:]
        d_output = np.broadcast_to(d_read / lengths[:, None], output.shape)
        _, d_weights, (d_h_0, d_c_0) = pullback(d_output, (d_h_n, None))
        gradients = {f"lstm.{name}": a for name, a in lx.LSTM.from_weights(d_weights).state_dict().items()}
        gradients |= {"head.weight": d_scores.T @ read, "head.bias": d_scores.sum(axis=0), "h_0": d_h_0, "c_0": d_c_0}
        assert gradients.keys() == parameters.keys()
        for name, gradient in gradients.items():  # Adam
            m, v = moments[name]
            m[...] = 0.9 * m + 0.1 * gradient
            v[...] = 0.999 * v + 0.001 * gradient**2
            parameters[name] -= 0.01 * (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)
    return losses, parameters


def with_torch() -> tuple[list[float], dict[str, np.ndarray]]:
    """Return the same, all of it torch's."""
    import torch
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    parameters = {name: torch.tensor(array, requires_grad=True) for name, array in first().items()}
    lstm, losses = torch.nn.LSTM(**LSTM).double(), []
    for name, array in lstm.named_parameters():
        array.data = parameters[f"lstm.{name}"].detach()
        parameters[f"lstm.{name}"] = array
    optimiser = torch.optim.Adam(parameters.values(), lr=0.01)
    for x, lengths, digits in batches():
        padded = torch.tensor(np.nan_to_num(x))
        packed = pack_padded_sequence(padded, torch.tensor(lengths), enforce_sorted=False)
        state = tuple(parameters[name].expand(-1, BATCH, -1).contiguous() for name in ("h_0", "c_0"))
        output, (h_n, _) = lstm(packed, state)
        mean = pad_packed_sequence(output)[0].sum(dim=0) / torch.tensor(lengths)[:, None]
        read = mean + torch.cat([h_n[2], h_n[3]], dim=-1)
        scores = torch.nn.functional.linear(read, parameters["head.weight"], parameters["head.bias"])
        loss = torch.nn.functional.cross_entropy(scores, torch.tensor(digits))
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return losses, {name: array.detach().numpy() for name, array in parameters.items()}


@pytest.fixture(scope="module")
def expected() -> tuple[list[float], dict[str, np.ndarray]]:
    return with_torch()


@pytest.mark.parametrize("engine", ["auto", "standard"])
def test_200_steps_of_adam(engine: str, expected: tuple[list[float], dict[str, np.ndarray]]) -> None:
    """Two layers, two directions, ragged batches, an initial state that is learned and broadcast."""
    losses, parameters = with_numpy(engine)
    np.testing.assert_allclose(losses, expected[0], rtol=0, atol=1e-8)
    assert np.mean(losses[-20:]) < 0.5 * np.mean(losses[:20])  # it learns
    for name, array in parameters.items():
        np.testing.assert_allclose(array, expected[1][name], rtol=0, atol=1e-8, err_msg=name)
        assert np.abs(array - first()[name]).max() > 0.05, name
