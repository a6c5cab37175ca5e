"""Contestants on torch's tensors: ours, `torch.nn.LSTM`, a loop over `torch.nn.LSTMCell`, and Keras."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

import lstm_xp as lx
from benchmarks.on_keras import keras_layers, run_keras
from benchmarks.on_numpy import takes_part
from benchmarks.problems import Problem, summary
from benchmarks.race import Contestant

Forward = Callable[[torch.Tensor], torch.Tensor]


def inference(name: str, problem: Problem, forward: Forward, *, batch_first: bool = False) -> Contestant:
    """Return the forward pass alone."""
    x = torch.asarray(problem.x)
    x = x.transpose(0, 1).contiguous() if batch_first else x

    @torch.no_grad()
    def run() -> torch.Tensor:
        return forward(x)

    return Contestant(name, run, lambda output: [(output.transpose(0, 1) if batch_first else output).numpy()])


def training(
    name: str,
    problem: Problem,
    forward: Forward,
    parameters: Sequence[torch.Tensor],
    *,
    peepholes: Sequence[torch.Tensor] = (),
    batch_first: bool = False,
) -> Contestant:
    """Return both passes: the output, and its sum of squares' gradient over input and weights."""
    x = torch.asarray(problem.x)
    x = (x.transpose(0, 1).contiguous() if batch_first else x.clone()).requires_grad_()
    leaves = [x, *parameters, *peepholes]

    def run() -> tuple[torch.Tensor, ...]:
        return torch.autograd.grad(forward(x).square().sum(), leaves)

    def read(gradients: tuple[torch.Tensor, ...]) -> list[np.ndarray]:
        dx, *rest = gradients[: 1 + len(parameters)]  # torch has no peepholes to compare with
        matrices: list[object] = [each for each in rest if each.ndim == 2]
        return summary(dx.transpose(0, 1) if batch_first else dx, matrices)

    return Contestant(name, run, read)


def native(problem: Problem, *, train: bool = False) -> Iterator[Contestant]:
    """Yield `torch.nn.LSTM`; packed where ragged."""
    module, name = problem.module, "torch.nn.LSTM"
    if problem.lengths is not None:
        lengths = torch.asarray(problem.lengths)

        def forward(x: torch.Tensor) -> torch.Tensor:
            packed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=False)
            return torch.nn.utils.rnn.pad_packed_sequence(module(packed)[0], total_length=problem.T)[0]

        name += ", packed"
    else:

        def forward(x: torch.Tensor) -> torch.Tensor:
            return module(x)[0]

    if train:
        yield training(name, problem, forward, list(module.parameters()))
    else:
        yield inference(name, problem, forward)


def ours(problem: Problem, engine: str, *, train: bool = False, peephole: bool = False) -> Iterator[Contestant]:
    """Yield an engine of ours; with peepholes, which torch's kernel does not have, of zeros: torch's answer holds."""
    # As a user has it: tensors under torch's names, which want gradients where one trains.
    weights = {name: array.detach().clone().requires_grad_(train) for name, array in problem.module.named_parameters()}
    names = [name.replace("weight_hh", "peephole") for name in weights if peephole and name.startswith("weight_hh")]
    peepholes = {name: torch.zeros((3, problem.H), requires_grad=train) for name in names}
    net, x = lx.LSTM.from_state_dict(weights | peepholes), torch.asarray(problem.x)
    lengths = None if problem.lengths is None else torch.asarray(problem.lengths)
    if not takes_part(engine, x, net.weights, lengths):
        return

    def forward(x: torch.Tensor) -> torch.Tensor:
        return net(x, lengths=lengths, engine=engine)[0]

    name = f"lstm_xp {engine}" + ", peephole" * peephole
    if train:
        yield training(name, problem, forward, list(weights.values()), peepholes=list(peepholes.values()))
    else:
        yield inference(name, problem, forward)


def loop_over_cell(problem: Problem, *, train: bool = False) -> Iterator[Contestant]:
    """Yield the loop that one writes oneself, over `torch.nn.LSTMCell`."""
    layers = []
    for k, layer in enumerate(problem.net.weights):
        layers.append([])
        for d, _ in enumerate(layer):
            cell = torch.nn.LSTMCell(problem.module.input_size if k == 0 else problem.directions * problem.H, problem.H)
            suffix = f"_l{k}" + "_reverse" * d
            cell.load_state_dict({n: problem.module.get_parameter(n + suffix) for n in cell.state_dict()})
            layers[-1].append(cell)

    def over_time(cell: torch.nn.LSTMCell, x: torch.Tensor, *, reverse: bool) -> torch.Tensor:
        state, outputs = None, []
        for x_t in reversed(x.unbind()) if reverse else x.unbind():
            state = cell(x_t, state)
            outputs.append(state[0])
        return torch.stack(outputs[::-1] if reverse else outputs)

    def forward(x: torch.Tensor) -> torch.Tensor:
        for cells in layers:
            outputs = [over_time(cell, x, reverse=d == 1) for d, cell in enumerate(cells)]
            x = outputs[0] if len(cells) == 1 else torch.cat(outputs, dim=2)
        return x

    name, parameters = "loop over LSTMCell", [p for cells in layers for cell in cells for p in cell.parameters()]
    yield training(name, problem, forward, parameters) if train else inference(name, problem, forward)


def keras(problem: Problem, *, train: bool = False) -> Iterator[Contestant]:
    """Yield Keras on torch."""
    layers = keras_layers(problem)

    def forward(x: torch.Tensor) -> torch.Tensor:
        return run_keras(layers, x)

    name = "Keras on torch"
    if train:
        parameters: list[Any] = [variable.value for layer in layers for variable in layer.trainable_variables]
        yield training(name, problem, forward, parameters, batch_first=True)
    else:
        yield inference(name, problem, forward, batch_first=True)
