"""Arguments at the edge of what is taken: looked at closely, and alike by all that take them."""

from typing import Any

import numpy as np
import pytest

import lstm_xp as lx
from conformance.cases import Case, map_arrays
from lstm_xp._weights import read_network

((CELL,),) = Case().weights()
PLAIN = lx.CellOptions()

# settings -> what is refused
OPTIONS: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "a set": ({"activations": {"tanh", "relu", "elu"}}, ValueError, "`activations` is {"),
    "an empty tuple": ({"activations": ((), "tanh", "tanh")}, TypeError, "`activations[0]` is (), expected a name"),
    "no name": ({"activations": ((1, 2), "tanh", "tanh")}, TypeError, "`activations[0]` is (1, 2), expected a name"),
    "an array": ({"peephole_output": np.ones(2)}, ValueError, "`peephole_output` is array"),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options_are_refused(name: str) -> None:
    settings, exception, message = OPTIONS[name]
    with pytest.raises(exception) as caught:
        lx.CellOptions(**settings)
    assert message in str(caught.value)


def test_an_activation_is_spelled_in_one_way() -> None:
    spelled = lx.CellOptions(activations=("Sigmoid", ("HardSigmoid", 0.2), ["hard_sigmoid", 0.3])).activations
    assert spelled == ("sigmoid", "hard_sigmoid", ("hard_sigmoid", 0.3, 0.5))


# arguments -> what `lstm` and `select_engine` say of them
CALLS: dict[str, tuple[dict[str, Any], str]] = {
    "pair of None": ({"options": (None, None)}, "`options` is (None, None), expected CellOptions or a pair of them"),
    "half a pair": ({"options": (PLAIN, None)}, "expected CellOptions or a pair of them"),
    "three": ({"options": (PLAIN,) * 3}, "`options` is a tuple of 3, expected one CellOptions for 2 direction(s)"),
    "one way": ({"options": (PLAIN,), "one way": True}, "`options` is a tuple of 1, expected one CellOptions for 1"),
    "clip_proj": ({"options": lx.CellOptions(clip_proj=1.0)}, "`clip_proj` is 1.0, expected None"),
    "batch_first": ({"batch_first": 1}, "`batch_first` is 1, expected True or False"),
    "masked_output": ({"masked_output": "?"}, "`masked_output` is '?', expected 'zero' or 'hold'"),
    "reverse": ({"reverse": True}, "`reverse` is True, expected False with two directions"),
    "state": ({"state": 1}, "`state` is a int, expected a tuple (h_0, c_0)"),
    "lengths": ({"lengths": 1}, "`lengths` is a int, expected an array"),
    "mask": ({"mask": 1}, "`mask` is a int, expected an array"),
    "engine": ({"engine": "?"}, "`engine` is '?', expected 'auto' or one of"),
}


@pytest.mark.parametrize("function", [lx.lstm, lx.select_engine])
@pytest.mark.parametrize("name", CALLS)
def test_who_asks_for_the_engine_is_told_of_mistakes_too(function: Any, name: str) -> None:
    given, message = CALLS[name]
    case = Case(bidirectional="one way" not in given)
    given = {key: value for key, value in given.items() if key != "one way"}
    with pytest.raises((TypeError, ValueError)) as caught:
        function(case.x(), case.weights(), **given)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "case",
    [
        Case(valid="lengths", batch_first=True, bidirectional=True),
        Case(valid="mask", batch_first=True, reverse=True, masked_output="hold"),
        Case(valid="mask", bidirectional=True, start="absent"),
    ],
    ids=str,
)
def test_the_engine_is_told_of_whatever_lstm_takes(case: Case) -> None:
    choice = lx.select_engine(weights=case.weights(), **case.arguments(), **case.settings)
    assert choice.name == "numpy"


def test_who_asks_for_the_engine_may_leave_out_what_lstm_does_without() -> None:
    case = Case(valid="mask", num_layers=2)
    assert lx.select_engine(weights=case.weights(), **case.arguments()).name == "numpy"


def test_who_gives_the_namespace_answers_for_the_arrays() -> None:
    """Their libraries are not looked at: what is refused otherwise goes through."""
    x, (h, c) = Case().x()[0], (array[0] for array in Case().state())
    with pytest.raises(TypeError, match="`c_0` is a MaskedArray"):
        lx.lstm_cell(x, CELL, (h, np.ma.masked_array(c)))
    expected, _ = lx.lstm_cell(x, CELL, (h, c))
    swapped = map_arrays(lambda array: array.astype(">f8"), (x, CELL, (h, c)))
    for given in ((x, CELL, (h, np.ma.masked_array(c))), swapped):
        actual, _ = lx.lstm_cell(*given, xp=np)
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-14)


def test_weights_are_tuples_whatever_they_were() -> None:
    """An engine may look them up, and nobody can change them."""
    assert read_network([[CELL, CELL], (CELL._replace(weight_ih=np.ones((16, 8))),) * 2]).layers[0] == (CELL, CELL)
    assert isinstance(read_network([CELL]).layers, tuple)
