"""
Record what frameworks compute that do not run beside a NumPy of today.

It needs nothing of this project: in an environment of its own, with Python 3.11,

    pip install "numpy==1.23.5" chainer==7.8.1 numpy-ml==0.1.2 mxnet==1.9.1 scipy
    python tests/frameworks/record.py MADMOM

where MADMOM is where the sources of madmom 0.16.1 are unpacked, whose layers need no compiler. Each framework's LSTM
runs on weights and states that are drawn here; what it was given and what it returned goes to recorded/*.npz.
"""

import collections.abc
import importlib
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

T, N, I, H, L = 7, 3, 5, 4, 2  # noqa: E741
Arrays = dict[str, np.ndarray]


def draw(seed: int, *shape: int, scale: float = 0.7) -> np.ndarray:
    return (scale * np.random.default_rng([seed, *shape]).uniform(-1, 1, shape)).astype("float32")


def states(rows: int) -> tuple[np.ndarray, np.ndarray]:
    return draw(2, rows, N, H, scale=1.0), draw(3, rows, N, H, scale=1.5)


def answer(weights: Arrays, x: Any, h_0: Any, c_0: Any, output: Any, h_n: Any, c_n: Any) -> Arrays:
    named = {"x": x, "h_0": h_0, "c_0": c_0, "output": output, "h_n": h_n, "c_n": c_n}
    return named | {f"weights/{name}": array for name, array in weights.items()}


def chainer() -> Arrays:
    """`L.LSTM`, two on top of each other."""
    from chainer import links

    x = y = draw(4, T, N, I, scale=2)
    h_0, c_0 = states(L)
    weights, h_n, c_n = {}, [], []
    for k in range(L):
        link = links.LSTM(y.shape[-1], H)
        for j, (name, parameter) in enumerate(sorted(link.namedparams())):
            parameter.array[...] = draw(10 * k + j, *parameter.shape)
            weights[f"{k}{name}"] = parameter.array
        link.set_state(chainer_variable(c_0[k]), chainer_variable(h_0[k]))
        y = np.stack([link(x_t).array for x_t in y])
        h_n.append(link.h.array)
        c_n.append(link.c.array)
    return answer(weights, x, h_0, c_0, y, np.stack(h_n), np.stack(c_n))


def chainer_variable(array: np.ndarray) -> Any:
    from chainer import Variable

    return Variable(array)


def chainer_nstep(bidirectional: bool = False) -> Arrays:
    """`L.NStepLSTM` and `L.NStepBiLSTM`."""
    from chainer import links

    link = (links.NStepBiLSTM if bidirectional else links.NStepLSTM)(L, I, H, 0.0)
    weights = {}
    for k, (name, parameter) in enumerate(sorted(link.namedparams())):
        parameter.array[...] = draw(k, *parameter.shape)
        weights[name[1:]] = parameter.array
    x = draw(4, T, N, I, scale=2)
    h_0, c_0 = states(L * (1 + bidirectional))
    h_n, c_n, ys = link(h_0, c_0, [np.ascontiguousarray(x[:, n]) for n in range(N)])
    return answer(weights, x, h_0, c_0, np.stack([y.array for y in ys], axis=1), h_n.array, c_n.array)


def mxnet() -> Arrays:
    """`gluon.rnn.LSTM`, two layers in both directions."""
    import mxnet as mx

    layer = mx.gluon.rnn.LSTM(H, L, bidirectional=True, input_size=I, prefix="")
    layer.initialize()
    weights = {}
    for k, (name, parameter) in enumerate(layer.collect_params().items()):
        parameter.set_data(mx.nd.array(draw(k, *parameter.shape)))
        weights[name] = parameter.data().asnumpy()
    x, (h_0, c_0) = draw(4, T, N, I, scale=2), states(2 * L)
    output, (h_n, c_n) = layer(mx.nd.array(x), [mx.nd.array(h_0), mx.nd.array(c_0)])
    return answer(weights, x, h_0, c_0, output.asnumpy(), h_n.asnumpy(), c_n.asnumpy())


def mxnet_vector() -> Arrays:
    """The operator `RNN`, whose parameters are one vector."""
    import mxnet as mx

    count = sum(2 * 4 * H * ((I if k == 0 else 2 * H) + H + 2) for k in range(L))
    x, (h_0, c_0), vector = draw(4, T, N, I, scale=2), states(2 * L), draw(5, count)
    outputs = mx.nd.RNN(
        *map(mx.nd.array, (x, vector, h_0, c_0)), state_size=H, num_layers=L, bidirectional=True, mode="lstm",
        state_outputs=True,
    )  # fmt: skip
    return answer({"vector": vector}, x, h_0, c_0, *(a.asnumpy() for a in outputs))


def numpy_ml() -> Arrays:
    """`LSTMCell`, one layer."""
    collections.Hashable = collections.abc.Hashable  # type: ignore[attr-defined]
    from numpy_ml.neural_nets.layers import LSTMCell

    cell = LSTMCell(H)
    x, (h_0, c_0) = draw(4, T, N, I, scale=2), states(1)
    cell.n_in = I
    cell._init_params()
    cell._init_params = lambda: None  # else its forward pass draws anew
    weights = {}
    for k, (name, array) in enumerate(sorted(cell.parameters.items())):
        weights[name] = draw(k, *array.shape)
        cell.parameters[name] = weights[name].astype("float64")
    cell.derived_variables["A"], cell.derived_variables["C"] = [h_0[0].astype("float64")], [c_0[0].astype("float64")]
    cell.is_initialized = True
    outputs = [cell.forward(x_t.astype("float64")) for x_t in x]
    h, c = outputs[-1]
    return answer(weights, x, h_0, c_0, np.stack([h for h, _ in outputs]), h[None], c[None])


def madmom(sources: str) -> Arrays:
    """`LSTMLayer` with peepholes, sequence by sequence: it has no batches."""
    package = types.ModuleType("nn")
    package.__path__ = [str(Path(sources) / "madmom" / "ml" / "nn")]
    sys.modules["nn"] = package
    layers = importlib.import_module("nn.layers")
    x, (h_0, c_0) = draw(4, T, N, I, scale=2), states(1)
    parts: dict[str, Any] = {}
    for k, name in enumerate(("input_gate", "forget_gate", "cell", "output_gate")):
        arrays = {
            "weights": draw(10 * k, I, H),
            "bias": draw(10 * k + 1, H),
            "recurrent_weights": draw(10 * k + 2, H, H),
            **({} if name == "cell" else {"peephole_weights": draw(10 * k + 3, H)}),
        }
        parts[name] = (layers.Cell if name == "cell" else layers.Gate)(**arrays), arrays
    weights = {f"{name}/{key}": array for name, (_, arrays) in parts.items() for key, array in arrays.items()}
    outputs, last = [], []
    for n in range(N):
        layer = layers.LSTMLayer(*(part for part, _ in parts.values()), init=h_0[0, n], cell_init=c_0[0, n])
        outputs.append(np.array(layer.activate(x[:, n])))
        last.append((np.array(layer._prev), np.array(layer._state)))
    h_n, c_n = (np.stack(each)[None] for each in zip(*last))  # noqa: B905 (Python of the time)
    return answer(weights, x, h_0, c_0, np.stack(outputs, axis=1), h_n, c_n)


def main(sources: str) -> None:
    recorders: dict[str, Callable[[], Arrays]] = {
        "chainer": chainer,
        "chainer_nstep": chainer_nstep,
        "chainer_nstep_bidirectional": lambda: chainer_nstep(bidirectional=True),
        "mxnet": mxnet,
        "mxnet_vector": mxnet_vector,
        "numpy_ml": numpy_ml,
        "madmom": lambda: madmom(sources),
    }
    target = Path(__file__).parent / "recorded"
    target.mkdir(exist_ok=True)
    for name, recorder in recorders.items():
        arrays = recorder()
        np.savez_compressed(target / f"{name}.npz", **arrays)
        print(name, {key: array.shape for key, array in arrays.items() if "/" not in key})  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1])
