"""Bad arguments: each error names the argument, what was expected and what came."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import pytest

import lstm_xp as lx
from conformance.cases import Case, map_arrays

CASE = Case(num_layers=2, bidirectional=True, proj_size=2)  # T, N, I, H, P = 7, 3, 5, 4, 2
NET = CASE.lstm()
X, STATE, LENGTHS = CASE.x(), CASE.state(), CASE.lengths()
MASK = np.ones((7, 3), bool)
((CELL,),) = Case().weights()


def state(h: Any = STATE[0], c: Any = STATE[1]) -> tuple[Any, Any]:
    return h, c


CALLS: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    # x
    "x rank 1": (lambda: NET(X[0, 0]), ValueError, "`x` has shape (5,), expected (time, batch, input_size)"),
    "x rank 4": (lambda: NET(X[None]), ValueError, "`x` has shape (1, 7, 3, 5), expected (time, batch, input_size)"),
    "x 0-d": (lambda: NET(X[0, 0, 0]), ValueError, "`x` has shape (), expected (..., input_size) = (..., 5)"),
    "x size": (lambda: NET(X[..., :4]), ValueError, "`x` has shape (7, 3, 4), expected (..., input_size) = (..., 5)"),
    "x no features": (
        lambda: NET(X[..., :0]),
        ValueError,
        "`x` has shape (7, 3, 0), expected (..., input_size) = (...",
    ),
    "x list": (lambda: NET(X.tolist()), TypeError, "`x` is a list, expected an array"),
    "x None": (lambda: NET(None), TypeError, "`x` is a NoneType, expected an array"),
    "x matrix": (lambda: NET(X[:, 0].view(np.matrix)), TypeError, "`x` is a matrix"),
    "x masked": (lambda: NET(np.ma.masked_array(X)), TypeError, "`x` is a MaskedArray"),
    "x swapped bytes": (lambda: NET(X.astype(">f8")), TypeError, "`x` has dtype '>f8', expected native byte order"),
    "x float32": (lambda: NET(X.astype("f4")), TypeError, "`x` has dtype float32, expected float64 as `weights`"),
    "x integers": (lambda: NET(X.astype(int)), TypeError, "`x` has dtype int64, expected float64 as `weights`"),
    "T = 0": (lambda: NET(X[:0]), ValueError, "`x` has no time steps, expected at least one"),
    "T = 0 unbatched": (lambda: NET(X[:0, 0]), ValueError, "`x` has no time steps"),
    # states
    "state array": (lambda: NET(X, STATE[0]), TypeError, "`state` is a ndarray, expected a tuple (h_0, c_0)"),
    "state of one": (lambda: NET(X, (STATE[0],)), TypeError, "`state` is a tuple of 1, expected a tuple (h_0, c_0)"),
    "state swapped": (
        lambda: NET(X, STATE[::-1]),
        ValueError,
        "`h_0` has shape (4, 3, 4), expected (num_layers*num_directions, batch, proj_size) = (4, 3, 2)",
    ),
    "state batch 2": (lambda: NET(X, state(STATE[0][:, :2])), ValueError, "`h_0` has shape (4, 2, 2)"),
    "state layers": (lambda: NET(X, state(c=STATE[1][:2])), ValueError, "`c_0` has shape (2, 3, 4)"),
    "state unbatched": (lambda: NET(X, tuple(a[:, 0] for a in STATE)), ValueError, "`h_0` has shape (4, 2), expected"),
    "state batched": (
        lambda: NET(X[:, 0], STATE),
        ValueError,
        "`h_0` has shape (4, 3, 2), expected (num_layers*num_directions, proj_size) = (4, 2)",
    ),
    "state None": (lambda: NET(X, (None, STATE[1])), TypeError, "`h_0` is a NoneType"),
    "state dtype": (
        lambda: NET(X, state(c=STATE[1].astype("f4"))),
        TypeError,
        "`c_0` has dtype float32, expected float64",
    ),
    # lengths and masks
    "lengths list": (lambda: NET(X, lengths=[7, 2, 1]), TypeError, "`lengths` is a list, expected an array"),
    "lengths float": (
        lambda: NET(X, lengths=np.ones(3)),
        TypeError,
        "`lengths` has dtype float64, expected a dtype of kind 'integral'",
    ),
    "lengths bool": (lambda: NET(X, lengths=np.ones(3, bool)), TypeError, "`lengths` has dtype bool"),
    "lengths shape": (
        lambda: NET(X, lengths=LENGTHS[:2]),
        ValueError,
        "`lengths` has shape (2,), expected (batch,) = (3,)",
    ),
    "lengths 0-d": (lambda: NET(X[:, 0], lengths=LENGTHS), ValueError, "`lengths` has shape (3,), expected () = ()"),
    "lengths > T": (
        lambda: NET(X, lengths=np.array([8, 2, 1])),
        ValueError,
        "`lengths` has values from 1 to 8, expected 0 to 7",
    ),
    "lengths < 0": (
        lambda: NET(X, lengths=np.array([7, 2, -1])),
        ValueError,
        "`lengths` has values from -1 to 7, expected 0 to 7",
    ),
    "mask integers": (
        lambda: NET(X, mask=MASK.astype(int)),
        TypeError,
        "`mask` has dtype int64, expected a dtype of kind 'bool'",
    ),
    "mask shape": (lambda: NET(X, mask=MASK.T), ValueError, "`mask` has shape (3, 7), expected (time, batch) = (7, 3)"),
    "mask unbatched": (lambda: NET(X[:, 0], mask=MASK), ValueError, "`mask` has shape (7, 3), expected (time,) = (7,)"),
    "both": (lambda: NET(X, lengths=LENGTHS, mask=MASK), ValueError, "`lengths` and `mask` were both given"),
    "reset list": (lambda: NET(X, reset=[True] * 7), TypeError, "`reset` is a list, expected an array"),
    "reset integers": (
        lambda: NET(X, reset=MASK.astype(int)),
        TypeError,
        "`reset` has dtype int64, expected a dtype of kind 'bool'",
    ),
    "reset shape": (
        lambda: NET(X, reset=MASK.T),
        ValueError,
        "`reset` has shape (3, 7), expected (time, batch) = (7, 3)",
    ),
    # traces
    "keep": (
        lambda: NET.trace(X, keep=("c", "z")),
        ValueError,
        "`keep` is ('c', 'z'), expected a tuple of 'h', 'c', 'i', 'f', 'g', 'o'",
    ),
    "keep str": (lambda: NET.trace(X, keep="c"), ValueError, "`keep` is 'c', expected a tuple of 'h', 'c', 'i'"),
    "keep None": (lambda: lx.trace(X, NET.weights, keep=None), ValueError, "`keep` is None, expected a tuple of 'h'"),
    "keep unhashable": (lambda: NET.trace(X, keep=([],)), ValueError, "`keep` is ([],), expected a tuple of 'h'"),
    # weights
    "weights array": (lambda: lx.lstm(X, X), TypeError, "`weights` is a ndarray, expected CellWeights"),
    "weights empty": (lambda: lx.lstm(X, ()), TypeError, "`weights` is a tuple of 0, expected CellWeights"),
    "weights layer": (lambda: lx.lstm(X, (X,)), TypeError, "layer 0 of `weights` is a ndarray"),
    "weights layer of arrays": (
        lambda: lx.lstm(X, ((X,),)),
        TypeError,
        "layer 0 of `weights` is a tuple of 1, expected",
    ),
    "weights half a layer": (lambda: lx.lstm(X, ((CELL, X),)), TypeError, "layer 0 of `weights` is a tuple of 2"),
    "weights iterator": (lambda: lx.lstm(X, (iter([CELL]),)), TypeError, "layer 0 of `weights` is a list_iterator"),
    "three directions": (lambda: lx.lstm(X, ((CELL,) * 3,)), ValueError, "layer 0 of `weights` has 3 directions"),
    "layers differ": (
        lambda: lx.lstm(X, ((CELL, CELL), CELL)),
        ValueError,
        "layer 1 of `weights` has 1 direction(s), expected 2",
    ),
    "weight None": (
        lambda: lx.lstm(X, CELL._replace(weight_hh=None)),
        TypeError,
        "`weight_hh_l0` is None, expected an array",
    ),
    "weight list": (lambda: lx.lstm(X, CELL._replace(weight_ih=[1])), TypeError, "`weight_ih_l0` is a list"),
    "weight integers": (
        lambda: lx.lstm(X, map_arrays(lambda a: a.astype(int), CELL)),
        TypeError,
        "`weight_ih_l0` has dtype int64, expected a dtype of kind 'real floating'",
    ),
    "weight complex": (
        lambda: lx.lstm(X, map_arrays(lambda a: a.astype(complex), CELL)),
        TypeError,
        "`weight_ih_l0` has dtype complex128",
    ),
    "weight dtypes": (
        lambda: lx.lstm(X, CELL._replace(bias_hh=CELL.bias_hh.astype("f4"))),
        TypeError,
        "`bias_hh_l0` has dtype float32, expected float64 as `weight_ih_l0`",
    ),
    "weight rank": (
        lambda: lx.lstm(X, CELL._replace(weight_hh=CELL.weight_hh[0])),
        ValueError,
        "`weight_hh_l0` has shape (4,), expected (4*hidden_size, proj_size or hidden_size)",
    ),
    "rows": (
        lambda: lx.lstm(X, map_arrays(lambda a: a[:14], CELL)),
        ValueError,
        "`weight_ih_l0` has shape (14, 5), expected (4*hidden_size, input_size), with a number of rows that 4 divides",
    ),
    "no rows": (lambda: lx.lstm(X, map_arrays(lambda a: a[:0], CELL)), ValueError, "`weight_ih_l0` has shape (0, 5)"),
    "weight_hh": (
        lambda: lx.lstm(X, CELL._replace(weight_hh=np.ones((16, 5)))),
        ValueError,
        "`weight_hh_l0` has shape (16, 5), expected (4*hidden_size, hidden_size) = (16, 4)",
    ),
    "weight_hr": (
        lambda: lx.lstm(X, CELL._replace(weight_hr=np.ones((2, 4)))),
        ValueError,
        "`weight_hh_l0` has shape (16, 4), expected (4*hidden_size, proj_size) = (16, 2)",
    ),
    "bias": (
        lambda: lx.lstm(X, CELL._replace(bias_ih=np.ones(4))),
        ValueError,
        "`bias_ih_l0` has shape (4,), expected (4*hidden_size,) = (16,)",
    ),
    "peephole": (
        lambda: lx.lstm(X, CELL._replace(peephole=np.ones(12))),
        ValueError,
        "`peephole_l0` has shape (12,), expected (3, hidden_size) = (3, 4)",
    ),
    "norm": (
        lambda: lx.lstm(X, CELL._replace(norm=np.ones((2, 16)))),
        ValueError,
        "`norm_l0` has shape (2, 16), expected (2, 9*hidden_size) = (2, 36) or, with norm_gates='each', (2, 5*hidden_",
    ),
    "norm of another form": (
        lambda: lx.lstm(X, CELL._replace(norm=np.ones((2, 20)))),
        ValueError,
        "`norm_gates` is 'joint', expected 'each' with `norm` of its shape",
    ),
    "norms differ": (
        lambda: lx.lstm(X, ((CELL._replace(norm=np.ones((2, 20))), CELL._replace(norm=np.ones((2, 36)))),)),
        ValueError,
        "`norm_l0_reverse` has shape (2, 36), expected (2, 5*hidden_size) = (2, 20)",
    ),
    "deep input": (
        lambda: lx.lstm(X, (CELL, CELL)),
        ValueError,
        "`weight_ih_l1` has shape (16, 5), expected (4*hidden_size, num_directions*hidden_size) = (16, 4)",
    ),
    "bias in one layer": (
        lambda: lx.lstm(X, (CELL, CELL._replace(bias_ih=None))),
        ValueError,
        "`bias_ih_l1` is absent, but `bias_ih_l0` is there",
    ),
    "bias in one direction": (
        lambda: lx.lstm(X, ((CELL._replace(bias_ih=None), CELL),)),
        ValueError,
        "`bias_ih_l0_reverse` is there, but `bias_ih_l0` is absent",
    ),
    # the cell
    "cell network": (lambda: lx.lstm_cell(X, ((CELL,),)), TypeError, "`weights` is a tuple of 1, expected CellWeights"),
    "cell weight": (
        lambda: lx.lstm_cell(X, CELL._replace(weight_hh=np.ones((16, 5)))),
        ValueError,
        "`weight_hh` has shape (16, 5), expected (4*hidden_size, hidden_size) = (16, 4)",
    ),
    "cell x": (
        lambda: lx.lstm_cell(X[..., :2], CELL),
        ValueError,
        "`x` has shape (7, 3, 2), expected (..., input_size) = (..., 5)",
    ),
    "cell state": (
        lambda: lx.lstm_cell(X[0], CELL, (np.ones((2, 4)), np.ones((3, 4)))),
        ValueError,
        "`h_0` has shape (2, 4), expected (..., hidden_size) = (3, 4)",
    ),
    "cell state rank": (
        lambda: lx.lstm_cell(X[0], CELL, (np.ones(4), np.ones(4))),
        ValueError,
        "`h_0` has shape (4,), expected (..., hidden_size) = (3, 4)",
    ),
    "cell state dtype": (
        lambda: lx.lstm_cell(X[0], CELL, (np.ones((3, 4), "f4"), np.ones((3, 4))), xp=np),
        TypeError,
        "`h_0` has dtype float32, expected float64",
    ),
    "cell xp": (lambda: lx.lstm_cell(X[0], CELL, xp=pytest), TypeError, "`xp` is 'pytest', expected an array library"),
    "cell options pair": (
        lambda: lx.lstm_cell(X[0], CELL, options=(lx.CellOptions(),) * 2),
        TypeError,
        "`options` is (CellOptions(",
    ),
    "cell options None": (
        lambda: lx.lstm_cell(X[0], CELL, options=None),
        TypeError,
        "`options` is None, expected CellOptions",
    ),
    "cell list with xp": (lambda: lx.lstm_cell([1.0] * 5, CELL, xp=np), TypeError, "`x` is a list, expected an array"),
    "cell list of weights with xp": (
        lambda: lx.lstm_cell(X[0], CELL._replace(weight_ih=[1]), xp=np),
        TypeError,
        "`weight_ih` is a list, expected an array",
    ),
    "cell list of states with xp": (
        lambda: lx.lstm_cell(X[0], CELL, ([1.0], [1.0]), xp=np),
        TypeError,
        "`h_0` is a list, expected an array",
    ),
    "cell integers with xp": (
        lambda: lx.lstm_cell(X[0].astype(int), map_arrays(lambda a: a.astype(int), CELL), xp=np),
        TypeError,
        "`weight_ih` has dtype int64, expected a dtype of kind 'real floating'",
    ),
    # options and settings
    "clip too large": (lambda: lx.CellOptions(clip_cell=10**400), ValueError, "`clip_cell` is 1000"),
    "parameter True": (
        lambda: lx.CellOptions(activations=(("elu", True), "tanh", "tanh")),
        ValueError,
        "`activations[0]` is True, expected finite numbers as parameters",
    ),
    "masked_output array": (lambda: CASE.lstm(masked_output=np.ones(2)), ValueError, "`masked_output` is array"),
    "engine list": (lambda: NET(X, engine=["standard"]), ValueError, "`engine` is ['standard'], expected 'auto'"),
    "init list": (lambda: lx.LSTM(5, 4, init=[]), ValueError, "`init` is [], expected one of uniform, glorot"),
    "seed text": (
        lambda: lx.LSTM(5, 4, seed="a"),
        ValueError,
        "`seed` is 'a', expected an integer of at least 0, or None",
    ),
    "seed < 0": (lambda: lx.LSTM(5, 4, seed=-1), ValueError, "`seed` is -1, expected an integer"),
    "dtype attribute": (
        lambda: lx.LSTM(5, 4, dtype="linalg"),
        TypeError,
        "`dtype` is 'linalg', expected a real floating dtype",
    ),
    "dtype object": (
        lambda: lx.LSTM(5, 4, dtype=object),
        TypeError,
        "`dtype` is 'object', expected a real floating dtype of numpy",
    ),
    "mapping list": (lambda: lx.LSTM.from_state_dict([1]), TypeError, "`mapping` is a list of 1, expected a mapping"),
    "mapping name": (lambda: lx.LSTM.from_state_dict({1: X}), TypeError, "`mapping` has the name 1, expected a str"),
    "mapping None": (
        lambda: lx.LSTM.from_state_dict(NET.state_dict() | {"bias_ih_l0": None}),
        TypeError,
        "`bias_ih_l0` is None, expected an array",
    ),
    "prefix None": (
        lambda: lx.LSTM.from_state_dict(NET.state_dict(), prefix=None),
        TypeError,
        "`prefix` is None, expected a str",
    ),
    "concatenated None": (lambda: lx.convert.from_concatenated(None), TypeError, "`mapping` is a NoneType"),
    "concatenated integers": (
        lambda: lx.convert.from_concatenated(
            {f"{k}{g}": np.ones((2, 3 if k == "W" else 1), int) for k in "Wb" for g in "fiCo"}
        ),
        TypeError,
        "`Wf` has dtype int64",
    ),
    "to_concatenated": (lambda: lx.convert.to_concatenated({}), TypeError, "`net` is a dict, expected an lstm_xp.LSTM"),
    "save": (lambda: lx.save("net.npz", {}), TypeError, "`net` is a dict, expected an lstm_xp.LSTM"),
    "activation": (
        lambda: lx.CellOptions(activations=("sigmod", "tanh", "tanh")),
        ValueError,
        "`activations[0]` is 'sigmod', expected one of affine, elu",
    ),
    "activation type": (
        lambda: lx.CellOptions(activations=("tanh", "tanh", np.tanh)),
        TypeError,
        "`activations[2]` is <ufunc 'tanh'>",
    ),
    "activations": (
        lambda: lx.CellOptions(activations=("tanh", "tanh")),
        ValueError,
        "expected three activations, for gates, candidate, output",
    ),
    "activations str": (lambda: lx.CellOptions(activations="tan"), ValueError, "`activations` is 'tan'"),
    "parameters": (
        lambda: lx.CellOptions(activations=(("tanh", 1.0), "tanh", "tanh")),
        ValueError,
        "`activations[0]` gives tanh 1 parameter(s), expected at most 0",
    ),
    "parameter": (
        lambda: lx.CellOptions(activations=(("elu", np.nan), "tanh", "tanh")),
        ValueError,
        "`activations[0]` is ('elu', nan), expected finite numbers as parameters",
    ),
    "clip 0": (lambda: lx.CellOptions(clip_cell=0), ValueError, "`clip_cell` is 0, expected a positive number or None"),
    "clip nan": (lambda: lx.CellOptions(clip_gates=np.nan), ValueError, "`clip_gates` is nan"),
    "clip text": (lambda: lx.CellOptions(clip_proj="1"), ValueError, "`clip_proj` is '1'"),
    "coupled": (lambda: lx.CellOptions(coupled=1), TypeError, "`coupled` is 1, expected True or False"),
    "norm_carry": (lambda: lx.CellOptions(norm_carry=1), TypeError, "`norm_carry` is 1, expected True or False"),
    "norm_gates": (
        lambda: lx.CellOptions(norm_gates="both"),
        ValueError,
        "`norm_gates` is 'both', expected 'joint' or 'each'",
    ),
    "norm_eps < 0": (
        lambda: lx.CellOptions(norm_eps=-1e-5),
        ValueError,
        "`norm_eps` is -1e-05, expected a finite number of at least 0",
    ),
    "norm_eps infinite": (lambda: lx.CellOptions(norm_eps=np.inf), ValueError, "`norm_eps` is inf, expected a finite"),
    "norm_eps NaN": (lambda: lx.CellOptions(norm_eps=np.nan), ValueError, "`norm_eps` is nan, expected a finite"),
    "peephole_output": (
        lambda: lx.CellOptions(peephole_output="both"),
        ValueError,
        "`peephole_output` is 'both', expected 'new' or 'old'",
    ),
    "clip_proj alone": (
        lambda: Case().lstm(options=lx.CellOptions(clip_proj=1.0)),
        ValueError,
        "`clip_proj` is 1.0, expected None without a projection",
    ),
    "clip_proj in a cell": (
        lambda: lx.lstm_cell(X, CELL, options=lx.CellOptions(clip_proj=1.0)),
        ValueError,
        "`clip_proj` is 1.0",
    ),
    "options pair": (
        lambda: Case().lstm(options=(lx.CellOptions(),) * 2),
        ValueError,
        "`options` is a tuple of 2, expected one CellOptions for 1 direction(s)",
    ),
    "options dict": (
        lambda: Case().lstm(options={}),
        TypeError,
        "`options` is {}, expected CellOptions or a pair of them",
    ),
    "reverse twice": (
        lambda: CASE.lstm(reverse=True),
        ValueError,
        "`reverse` is True, expected False with two directions",
    ),
    "reverse 1": (lambda: Case().lstm(reverse=1), TypeError, "`reverse` is 1, expected True or False"),
    "masked_output": (
        lambda: CASE.lstm(masked_output="nan"),
        ValueError,
        "`masked_output` is 'nan', expected 'zero' or 'hold'",
    ),
    "engine": (
        lambda: NET(X, engine="fast"),
        ValueError,
        "`engine` is 'fast', expected 'auto' or one of standard, numpy, numba, jax, torch, bptt, dask",
    ),
    "engine of an object": (lambda: CASE.lstm(engine="fast"), ValueError, "`engine` is 'fast'"),
    "engine of others": (
        lambda: NET(X, engine="jax"),
        ValueError,
        "the engine 'jax' cannot run this: it is for arrays of jax.numpy, not of numpy",
    ),
    # the constructor
    "input_size": (lambda: lx.LSTM(0, 4), ValueError, "`input_size` is 0, expected at least 1"),
    "hidden_size": (lambda: lx.LSTM(5, 4.0), TypeError, "`hidden_size` is 4.0, expected an integer"),
    "num_layers": (lambda: lx.LSTM(5, 4, True), TypeError, "`num_layers` is True, expected an integer"),
    "proj_size": (
        lambda: lx.LSTM(5, 4, proj_size=4),
        ValueError,
        "`proj_size` is 4, expected less than hidden_size = 4",
    ),
    "proj_size < 0": (lambda: lx.LSTM(5, 4, proj_size=-1), ValueError, "`proj_size` is -1, expected at least 0"),
    "dropout": (lambda: lx.LSTM(5, 4, dropout=1.5), ValueError, "`dropout` is 1.5, expected a number from 0 to 1"),
    "bidirectional": (
        lambda: lx.LSTM(5, 4, bidirectional=2),
        TypeError,
        "`bidirectional` is 2, expected True or False",
    ),
    "init": (lambda: lx.LSTM(5, 4, init="he"), ValueError, "`init` is 'he', expected one of uniform, glorot"),
    "dtype": (
        lambda: lx.LSTM(5, 4, dtype="int32"),
        TypeError,
        "`dtype` is 'int32', expected a real floating dtype of numpy",
    ),
    "dtype name": (lambda: lx.LSTM(5, 4, dtype="float33"), TypeError, "`dtype` is 'float33'"),
    "dtype function": (lambda: lx.LSTM(5, 4, dtype="tanh"), TypeError, "`dtype` is 'tanh'"),
    "xp": (lambda: lx.LSTM(5, 4, xp=pytest), TypeError, "`xp` is 'pytest', expected an array library"),
    # state dicts
    "no LSTM": (lambda: lx.LSTM.from_state_dict({}), ValueError, "no LSTM under the prefix ''"),
    "unknown name": (
        lambda: lx.LSTM.from_state_dict(NET.state_dict() | {"weight_xx_l0": X}),
        ValueError,
        "`weight_xx_l0` is not a name of an LSTM's weight",
    ),
    "prefix": (
        lambda: lx.LSTM.from_state_dict({f"a.lstm.{k}": v for k, v in NET.state_dict().items()}),
        ValueError,
        "`a.lstm.weight_ih_l0` is not a name of an LSTM's weight; there are LSTMs under the prefixes 'a.lstm.'",
    ),
    "wrong prefix": (
        lambda: lx.LSTM.from_state_dict({f"a.{k}": v for k, v in NET.state_dict().items()}, prefix="b"),
        ValueError,
        "no LSTM under the prefix 'b.'; there are LSTMs under the prefixes 'a.'",
    ),
    "prefix of no LSTM": (
        lambda: lx.LSTM.from_state_dict({"head.weight": X} | {f"a.{k}": v for k, v in NET.state_dict().items()}),
        ValueError,
        "`head.weight` is not a name of an LSTM's weight; there are LSTMs under the prefixes 'a.'",
    ),
    "missing name": (
        lambda: lx.LSTM.from_state_dict({k: v for k, v in NET.state_dict().items() if k != "weight_hh_l1_reverse"}),
        ValueError,
        "`weight_hh_l1_reverse` is missing",
    ),
    "missing bias": (
        lambda: lx.LSTM.from_state_dict({k: v for k, v in NET.state_dict().items() if k != "bias_ih_l1"}),
        ValueError,
        "`bias_ih_l1` is missing",
    ),
    "missing layer": (
        lambda: lx.LSTM.from_state_dict({k.replace("l1", "l900000000"): v for k, v in NET.state_dict().items()}),
        ValueError,
        "`weight_ih_l1` is missing",
    ),
    "wrong shape": (
        lambda: lx.LSTM.from_state_dict(
            {"e." + k: v for k, v in (NET.state_dict() | {"bias_ih_l1": X}).items()}, prefix="e"
        ),
        ValueError,
        "`e.bias_ih_l1` has shape (7, 3, 5), expected (4*hidden_size,) = (16,)",
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_the_error_says_it(name: str) -> None:
    call, exception, message = CALLS[name]
    with pytest.raises(exception) as caught:
        call()
    assert message in str(caught.value)
    assert type(caught.value) is exception


def test_the_calls_are_right_but_for_what_is_named() -> None:
    """Lest they fail for another reason than they should."""
    NET(X, STATE, lengths=LENGTHS)
    NET(X, mask=MASK, reset=MASK)
    NET.trace(X, keep=("c",))
    lx.lstm(X, CELL._replace(norm=np.ones((2, 36))))
    NET(X[:, 0], tuple(a[:, 0] for a in STATE), lengths=LENGTHS[0])
    lx.lstm_cell(X, CELL)


def test_no_prefix_is_named_where_there_is_none() -> None:
    with pytest.raises(ValueError, match="no LSTM under the prefix ''$"):
        lx.LSTM.from_state_dict({})


@pytest.mark.needs("torch")
def test_mixed_libraries() -> None:
    import torch

    theirs = CASE.lstm(torch.tensor)
    ours = lx.lstm_cell
    for call, message in (
        (lambda: ours(X[0], CELL, map_arrays(torch.tensor, (np.ones((3, 4)),) * 2)), "`h_0` is an array of torch"),
        (lambda: NET(torch.tensor(X)), "`x` is an array of torch, expected numpy as the weights"),
        (lambda: theirs(X), "`x` is an array of numpy, expected torch as the weights"),
        (lambda: NET(X, state(torch.tensor(STATE[0]))), "`h_0` is an array of torch, expected numpy"),
        (lambda: theirs(torch.tensor(X), lengths=LENGTHS), "`lengths` is an array of numpy, expected torch"),
        (lambda: theirs(torch.tensor(X), mask=MASK), "`mask` is an array of numpy, expected torch"),
        (
            lambda: lx.LSTM.from_weights(CELL._replace(bias_hh=torch.tensor(CELL.bias_hh))),
            "`bias_hh_l0` is an array of torch, expected numpy",
        ),
    ):
        with pytest.raises(TypeError) as caught:
            call()
        assert message in str(caught.value)


@pytest.mark.needs("array_api_strict")
def test_mixed_devices() -> None:
    import array_api_strict as strict

    first, second = (
        lambda a, d=device: strict.asarray(a, device=strict.Device(d)) for device in ("CPU_DEVICE", "device1")
    )
    net = CASE.lstm(first)
    for call, message in (
        (lambda: net(second(X)), "`x` is on another device than `weights`"),
        (lambda: net(first(X), map_arrays(second, STATE)), "`h_0` is on another device than `x`"),
        (lambda: net(first(X), lengths=second(LENGTHS)), "`lengths` is on another device than `x`"),
        (lambda: net(first(X), mask=second(MASK)), "`mask` is on another device than `x`"),
        (
            lambda: lx.LSTM.from_weights(map_arrays(first, CELL)._replace(bias_hh=second(CELL.bias_hh))),
            "`bias_hh_l0` is on another device than `weight_ih_l0`",
        ),
    ):
        with pytest.raises(ValueError) as caught:
            call()
        assert message in str(caught.value)


def on_each(*libraries: str) -> pytest.MarkDecorator:
    """Run a test with each of these libraries."""
    return pytest.mark.parametrize("library", [pytest.param(each, marks=pytest.mark.needs(each)) for each in libraries])


@on_each("torch", "array_api_strict")
def test_lengths_out_of_range_are_clipped_where_values_are_not_looked_at(library: str) -> None:
    asarray = import_module(library).asarray
    net, x = CASE.lstm(asarray), asarray(X)
    for beyond in (9, 2**40):
        wild, tame = (net(x, lengths=asarray(np.array(given))) for given in ([beyond, 3, -2], [7, 3, 0]))
        np.testing.assert_array_equal(np.asarray(wild[0]), np.asarray(tame[0]))
    unsigned, tame = (net(x, lengths=asarray(np.array(given, "uint64"))) for given in ([2**63, 3, 7], [7, 3, 7]))
    np.testing.assert_array_equal(np.asarray(unsigned[0]), np.asarray(tame[0]))


@on_each("numpy", "torch", "array_api_strict")
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "uint32", "int64", "uint64"])
def test_lengths_of_any_integer_dtype(library: str, dtype: str) -> None:
    """More steps than eight bits count, with a sign or without."""
    case = Case(time=300)
    given = np.array([127 if dtype == "int8" else 255, 5, 100])
    expected, _ = case.lstm()(case.x(), lengths=given)
    assert (expected[given[0] - 1, 0] != 0).all()
    assert (expected[given[0], 0] == 0).all()
    asarray = import_module(library).asarray
    output, _ = case.lstm(asarray)(asarray(case.x()), lengths=asarray(given.astype(dtype)))
    np.testing.assert_allclose(np.asarray(output), expected, rtol=0, atol=1e-14)


def test_the_prefix_that_was_given_is_no_hint() -> None:
    mapping = {f"a.{name}": array for name, array in CASE.lstm().state_dict().items()} | {"a.extra": X}
    with pytest.raises(ValueError, match=r"^`a\.extra` is not a name of an LSTM's weight$"):
        lx.LSTM.from_state_dict(mapping, prefix="a")
