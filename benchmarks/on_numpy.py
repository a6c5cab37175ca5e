"""Contestants on NumPy's arrays: ours, the class of the blog posts, the floor, and ONNX Runtime."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import onnxruntime

import lstm_xp as lx
from benchmarks.goals import FLOORS
from benchmarks.problems import Problem
from benchmarks.race import Contestant
from lstm_xp.engines._blas import ONE_THREAD, count_blocks


def takes_part(engine: str, x: Any, weights: Any, lengths: Any = None) -> bool:
    """Tell whether an engine of ours is installed and can do it."""
    try:
        lx.select_engine(x, weights, lengths=lengths, engine=engine)
    except ValueError:
        return False
    return True


def ours(problem: Problem, engine: str, threads: int) -> Iterator[Contestant]:
    """Yield an engine with BLAS's threads, and with as many of its own instead."""
    if not takes_part(engine, problem.x, problem.net.weights, problem.lengths):
        return

    def contestant(name: str, own: int, blas: int | None) -> Contestant:
        return Contestant(
            name,
            lambda: problem.net(problem.x, lengths=problem.lengths, engine=engine, threads=own)[0],
            lambda output: [output],
            blas,
        )

    yield contestant(f"lstm_xp {engine}", 1, None)
    if threads > 1:
        yield contestant(f"lstm_xp {engine}, threads={threads}", threads, 1)


class BlogLSTM:
    """What most people write: one product for each gate, of columns (h, x)."""

    def __init__(self, cell: lx.CellWeights) -> None:
        w = np.concatenate([cell.weight_hh, cell.weight_ih], axis=1)
        self.Wi, self.Wf, self.Wc, self.Wo = (np.ascontiguousarray(gate) for gate in np.split(w, 4))
        self.bi, self.bf, self.bc, self.bo = np.split((cell.bias_ih + cell.bias_hh)[:, None], 4)
        self.hidden_size = cell.weight_hh.shape[1]

    @staticmethod
    def sigmoid(z: np.ndarray) -> np.ndarray:
        """Return it as everybody writes it."""
        return 1 / (1 + np.exp(-z))

    def forward(self, x: np.ndarray, h: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Take one step."""
        concat = np.vstack((h, x))
        f = self.sigmoid(np.dot(self.Wf, concat) + self.bf)
        i = self.sigmoid(np.dot(self.Wi, concat) + self.bi)
        g = np.tanh(np.dot(self.Wc, concat) + self.bc)
        c = f * c + i * g
        o = self.sigmoid(np.dot(self.Wo, concat) + self.bo)
        return o * np.tanh(c), c

    def forward_sequence(self, x: np.ndarray) -> np.ndarray:
        """Run over (time, batch, features)."""
        h = c = np.zeros((self.hidden_size, x.shape[1]), x.dtype)
        outputs = []
        for x_t in x:
            h, c = self.forward(x_t.T, h, c)
            outputs.append(h.T)
        return np.stack(outputs)


def blog(problem: Problem) -> Iterator[Contestant]:
    """Yield the blog's class, layer upon layer."""
    layers = [[BlogLSTM(cell) for cell in layer] for layer in problem.net.weights]

    def run() -> np.ndarray:
        x = problem.x
        for forward, *backward in layers:
            outputs = [forward.forward_sequence(x)]
            outputs += [each.forward_sequence(x[::-1])[::-1] for each in backward]
            x = np.concatenate(outputs, axis=2) if backward else outputs[0]
        return x

    if not problem.ragged:
        yield Contestant("blog class", run, lambda output: [output])


def floor(problem: Problem) -> Iterator[Contestant]:
    """
    Yield the products and the tanh alone, with nothing allocated.

    One product with (h, x, 1) for each step; or, for one row, one for the input of all steps and one with h for each;
    or the one in blocks of rows, as our engine divides it. The cheapest is the floor.
    """
    T, N, H = problem.T, problem.N, problem.H
    rng = np.random.default_rng(3)

    def random(*shape: int) -> np.ndarray:
        return rng.uniform(-0.1, 0.1, shape).astype(np.float32)

    inputs = [I for layer in problem.net.weights for I in [layer[0].weight_ih.shape[1]] for _ in layer]
    gates, c, h = random(4 * H, N), random(H, N), random(H, N)
    whole = [(random(4 * H, I + H + 1), random(I + H + 1, N)) for I in inputs]

    def one_product() -> None:
        dot, tanh = np.dot, np.tanh
        for w, s in whole:
            for _ in range(T):
                dot(w, s, out=gates)
                tanh(gates, out=gates)
                tanh(c, out=h)

    yield Contestant(FLOORS[0], one_product, None)
    divided = [
        (w.reshape(blocks, -1, w.shape[1]), s, gates.reshape(blocks, -1, N))
        for w, s in whole
        for blocks in [count_blocks(*w.shape, N, ONE_THREAD)]
    ]

    def rows_in_blocks() -> None:
        matmul, tanh = np.matmul, np.tanh
        for w, s, z in divided:
            for _ in range(T):
                matmul(w, s, out=z)
                tanh(gates, out=gates)
                tanh(c, out=h)

    if N > 1:
        yield Contestant(FLOORS[2], rows_in_blocks, None)
        return
    split = [(random(T, I), random(I, 4 * H), np.empty((T, 4 * H), np.float32)) for I in inputs]
    w_hh = np.asfortranarray(random(4 * H, H))
    z, c_1, h_1 = gates[:, 0].copy(), c[:, 0].copy(), h[:, 0].copy()

    def input_first() -> None:
        dot, tanh = np.dot, np.tanh
        for x, w, projected in split:
            dot(x, w, out=projected)
            for _ in range(T):
                dot(w_hh, h_1, out=z)
                tanh(z, out=z)
                tanh(c_1, out=h_1)

    yield Contestant(FLOORS[1], input_first, None)


def onnx_session(problem: Problem, threads: int, *, step: bool = False) -> onnxruntime.InferenceSession:
    """Return a session of LSTM nodes; for a step, one that takes and gives the state."""

    def rows(array: np.ndarray) -> np.ndarray:
        i, f, g, o = np.split(array, 4)
        return np.concatenate([i, o, f, g])

    helper, direction = onnx.helper, "bidirectional" if problem.directions == 2 else "forward"
    nodes, constants, features = [], {}, "x"
    state = ["", "h", "c"] if step else []
    for k, layer in enumerate(problem.net.weights):
        constants |= {
            f"W{k}": np.stack([rows(cell.weight_ih) for cell in layer]),
            f"R{k}": np.stack([rows(cell.weight_hh) for cell in layer]),
            f"B{k}": np.stack([np.concatenate([rows(cell.bias_ih), rows(cell.bias_hh)]) for cell in layer]),
        }
        names = [features, f"W{k}", f"R{k}", f"B{k}", *state]
        results = ["", "h_n", "c_n"] if step else [f"Y{k}"]
        nodes.append(helper.make_node("LSTM", names, results, hidden_size=problem.H, direction=direction))
        if step:
            break
        # (T, D, N, H) to (T, N, D*H).
        constants[f"shape{k}"] = np.asarray([problem.T, problem.N, len(layer) * problem.H])
        nodes.append(helper.make_node("Transpose", [f"Y{k}"], [f"Z{k}"], perm=[0, 2, 1, 3]))
        nodes.append(helper.make_node("Reshape", [f"Z{k}", f"shape{k}"], [f"y{k}"]))
        features = f"y{k}"

    def info(name: str, *shape: int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)

    T, N, I, H = 1 if step else problem.T, problem.N, problem.I, problem.H
    given, taken = [info("x", T, N, I)], [info(features, T, N, problem.directions * H)]
    if step:
        given += [info("h", 1, N, H), info("c", 1, N, H)]
        taken = [info("h_n", 1, N, H), info("c_n", 1, N, H)]
    graph = helper.make_graph(
        nodes, "lstm", given, taken, [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def onnx_runtime(problem: Problem, threads: int) -> Iterator[Contestant]:
    """Yield ONNX Runtime."""
    if problem.ragged:
        return
    session = onnx_session(problem, threads)
    yield Contestant("ONNX Runtime", lambda: session.run(None, {"x": problem.x}), lambda outputs: outputs)
