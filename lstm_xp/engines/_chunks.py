"""
Long sequences in chunks of time, so that little is kept of the forward pass: of a network the states between chunks.

Each chunk is run again when the way back comes to it, by whatever engine runs the whole. With two directions, where a
layer's input is known only when all of the layer below is, it is done layer by layer, direction by direction.
"""

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import TypeAlias

from lstm_xp._cell import State
from lstm_xp._noise import Noise
from lstm_xp._typing import Array
from lstm_xp._weights import CellWeights
from lstm_xp.engines._request import Cotangents, Gradients, Pullback, Request, Result
from lstm_xp.engines._stack import layer_input, noise_below, valid_steps
from lstm_xp.engines._stack_vjp import add_weights, cotangents_of

Run: TypeAlias = Callable[[Request], Result]
RunVjp: TypeAlias = Callable[[Request], tuple[Result, Pullback]]


def run_in_chunks(request: Request, run: Run, run_vjp: RunVjp, length: int) -> tuple[Result, Pullback]:
    """
    Run a request; return its result and its pullback, which keeps little.

    Parameters
    ----------
    request : Request
        The forward pass, without resets, and with zeros at steps that are not valid.
    run, run_vjp : callable
        An engine's.
    length : int
        The number of steps of a chunk.

    Returns
    -------
    result : Result
        The output and the final states.
    pullback : callable
        The derivative.
    """
    if len(request.options) == 1:
        return _run_one_way(request, run, run_vjp, length)
    xp, valid = request.xp, valid_steps(request)
    features, pullbacks = request.x, []
    results: list[Result] = []
    for k in range(len(request.weights)):
        x = layer_input(request, k, features, valid)
        both = [_run_one_way(_direction(request, k, d, x), run, run_vjp, length) for d in range(2)]
        features = xp.concat([result.output for result, _ in both], axis=2)
        results.extend(result for result, _ in both)
        pullbacks.append([pullback for _, pullback in both])
    h_n, c_n = (xp.concat([result[which] for result in results], axis=0) for which in (1, 2))

    def pullback(cotangents: Cotangents) -> Gradients:
        layers = []
        for k in range(len(pullbacks) - 1, -1, -1):
            both = [pull(cotangents_of(cotangents, 2 * k + d, d, h_n.shape[2])) for d, pull in enumerate(pullbacks[k])]
            layers.append(both)
            d_below, factors = both[0].x + both[1].x, noise_below(request, k)
            cotangents = cotangents._replace(output=d_below if factors is None else d_below * factors)
        rows = [each for both in reversed(layers) for each in both]
        weights = tuple(tuple(each.weights[0][0] for each in both) for both in reversed(layers))
        d_h, d_c = (xp.concat([each[which] for each in rows], axis=0) for which in (2, 3))
        return Gradients(cotangents.output, weights, d_h, d_c)

    return Result(features, h_n, c_n), pullback


def _run_one_way(request: Request, run: Run, run_vjp: RunVjp, length: int) -> tuple[Result, Pullback]:
    """Run a network of one direction in chunks of time."""
    xp, time = request.xp, request.x.shape[0]
    parts = list(_parts(time, length, request.reverse))
    outputs, starts, state = [], [], request.state
    for times in parts:
        starts.append(state)
        chunk, *ends = run(_steps(request, times, state)._replace(pullback=False))[:3]
        outputs.append(chunk)
        state = (ends[0], ends[1])
    output = xp.concat(outputs[::-1] if request.reverse else outputs, axis=0)

    def pullback(cotangents: Cotangents) -> Gradients:
        d_h, d_c, d_xs = cotangents.h_n, cotangents.c_n, []
        d_weights = tuple((CellWeights(None, None),) for _ in request.weights)  # nothing yet
        for times, state in zip(reversed(parts), reversed(starts), strict=True):
            _, pull = run_vjp(_steps(request, times, state))
            d_output = None if cotangents.output is None else cotangents.output[times, :, :]
            d_x, d_some, d_h, d_c = pull(Cotangents(d_output, d_h, d_c))
            d_xs.append(d_x)
            d_weights = tuple((add_weights(one, other),) for (one,), (other,) in zip(d_weights, d_some, strict=True))
        return Gradients(xp.concat(d_xs if request.reverse else d_xs[::-1], axis=0), d_weights, d_h, d_c)

    return Result(output, ends[0], ends[1]), pullback


def _parts(time: int, length: int, reverse: bool) -> Iterator[slice]:
    """Yield the times of the chunks, in the order of processing."""
    for start, stop in pairwise([*range(0, time, length), time][:: -1 if reverse else 1]):
        yield slice(min(start, stop), max(start, stop))


def _steps(request: Request, times: slice, state: State | None) -> Request:
    """Return the request of some time steps, from the state before them."""
    xp, noise, lengths = request.xp, request.noise, request.lengths
    if noise is not None:
        noise = noise._replace(
            between=_at(noise.between, times),
            zoneout_h=_at(noise.zoneout_h, times),
            zoneout_c=_at(noise.zoneout_c, times),
        )
    return request._replace(
        x=request.x[times, :, :],
        state=state,
        lengths=None if lengths is None else xp.clip(lengths - times.start, 0, times.stop - times.start),
        mask=None if request.mask is None else request.mask[times, :],
        noise=noise,
    )


def _at(array: Array | None, times: slice) -> Array | None:
    """Return noise at some time steps; what is for all of them is it for these."""
    return array if array is None or array.shape[1] == 1 else array[:, times, :, :]


def _direction(request: Request, layer: int, direction: int, x: Array) -> Request:
    """Return the request of one layer in one direction."""
    row = 2 * layer + direction
    rows = slice(row, row + 1)
    noise = request.noise
    if noise is not None:
        hidden, *zoneouts = (
            None if array is None else array[rows, ...] for array in (noise.hidden, noise.zoneout_h, noise.zoneout_c)
        )
        noise = Noise(None, None, hidden, *zoneouts)
    return request._replace(
        x=x,
        weights=((request.weights[layer][direction],),),
        state=None if request.state is None else (request.state[0][rows, :, :], request.state[1][rows, :, :]),
        reverse=direction == 1,
        options=(request.options[direction],),
        prepared=None,
        noise=noise,
    )
