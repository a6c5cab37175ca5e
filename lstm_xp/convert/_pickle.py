"""
The data in a pickle, and never its code.

A pickle is a program for a small machine that can import and call anything. This is that machine with everything taken
out that is not needed to write down plain data; what it would import is looked up in a table of the caller's, and
nothing else is ever called. It is not a subclass of `pickle.Unpickler`, which sets attributes and fills memory as the
stream tells it to before any check of ours.
"""

import pickletools
from collections.abc import Callable, Mapping
from typing import Any, cast

_PUSHED = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_ARGUMENT = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
}
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
# A tuple that holds another one twice, which does so again, takes for ever to be hashed, compared or shown: whatever a
# stream gives is asked for its type first.
_KEYS = (str, int, float, bool, bytes, type(None))


class Ignored(dict[str, Any]):
    """A dict whose attributes are of no interest: what the stream sets there is dropped."""


def read_pickle(file: Any, allowed: Mapping[str, Any], persistent: Callable[[Any], Any] | None = None) -> Any:
    """
    Read the data in a pickle, of any protocol.

    Parameters
    ----------
    file : binary file
        Where the pickle begins; afterwards, where it ends. Its ``read`` must not make room for more than there is.
    allowed : mapping of str to object
        What the stream may import, by its full name. What is callable may be called with what the stream gives.
    persistent : callable, optional
        What returns the object of a persistent id.

    Returns
    -------
    object
        Dicts, lists, tuples, numbers, strings, and what was allowed. The keys of dicts are strings.

    Raises
    ------
    ValueError
        The stream is broken, or asks for anything else.
    """
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}

    def since_mark() -> list[Any]:
        start = marks.pop()
        items = stack[start:]
        del stack[start:]
        return items

    def call(arguments: Any) -> Any:
        function = stack.pop()
        if not callable(function) or not isinstance(arguments, tuple):
            msg = "it calls what is no function"
            raise ValueError(msg)
        return function(*arguments)

    try:
        for opcode, given, _ in pickletools.genops(file):
            name, argument = opcode.name, cast("Any", given)
            if name in _ARGUMENT:
                stack.append(argument)
            elif name in _PUSHED:
                stack.append(_PUSHED[name])
            elif name in ("PROTO", "FRAME"):
                pass
            elif name == "MARK":
                marks.append(len(stack))
            elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
                memo[argument] = stack[-1]
            elif name == "MEMOIZE":
                memo[len(memo)] = stack[-1]
            elif name in ("GET", "BINGET", "LONG_BINGET"):
                stack.append(memo[argument])
            elif name == "EMPTY_DICT":
                stack.append({})
            elif name == "EMPTY_LIST":
                stack.append([])
            elif name in _TUPLES:
                start = len(stack) - _TUPLES[name]
                stack[start:] = [tuple(stack[start:])]
            elif name == "TUPLE":
                stack.append(tuple(since_mark()))
            elif name == "LIST":
                stack.append(since_mark())
            elif name == "DICT":
                stack.append(_set_items({}, since_mark()))
            elif name == "SETITEM":
                items = [stack.pop(), stack.pop()][::-1]
                _set_items(stack[-1], items)
            elif name == "SETITEMS":
                items = since_mark()
                _set_items(stack[-1], items)
            elif name in ("APPEND", "APPENDS"):
                items = [stack.pop()] if name == "APPEND" else since_mark()
                if type(stack[-1]) is not list:
                    msg = "it appends to what is no list"
                    raise ValueError(msg)
                stack[-1].extend(items)
            elif name in ("GLOBAL", "STACK_GLOBAL"):
                module, attribute = argument.split(" ", 1) if name == "GLOBAL" else (stack.pop(-2), stack.pop())
                stack.append(_look_up(module, attribute, allowed))
            elif name == "REDUCE":
                stack.append(call(stack.pop()))
            elif name == "BUILD":
                stack.pop()
                if not isinstance(stack[-1], Ignored):
                    msg = "it sets attributes of what should have none"
                    raise ValueError(msg)
            elif name == "BINPERSID" and persistent is not None:
                stack.append(persistent(stack.pop()))
            elif name == "STOP":
                return stack.pop()
            else:
                msg = f"it uses the pickle operation {name}, which plain data does not need"
                raise ValueError(msg)
    except (IndexError, KeyError, TypeError, AttributeError, OverflowError, EOFError) as error:
        msg = f"its pickle is broken: {type(error).__name__}: {error}"
        raise ValueError(msg) from error
    msg = "its pickle is cut off"
    raise ValueError(msg)


def _set_items(target: Any, items: list[Any]) -> Any:
    """Set the items of a dict, given as keys and values in turn."""
    if not isinstance(target, dict):
        msg = "it sets items of what is no dict"
        raise ValueError(msg)
    for key, value in zip(items[::2], items[1::2], strict=True):
        target[key_text(key)] = value
    return target


def key_text(key: Any) -> str:
    """
    Return what stands for the key of a dict.

    Parameters
    ----------
    key : object
        The key.

    Returns
    -------
    str
        Its text.

    Raises
    ------
    ValueError
        It is neither a string nor a number.
    """
    if not isinstance(key, _KEYS):
        msg = f"it has a {type(key).__name__} for a key"
        raise ValueError(msg)
    return str(key)


def _look_up(module: Any, attribute: Any, allowed: Mapping[str, Any]) -> Any:
    if not isinstance(module, str) or not isinstance(attribute, str):
        msg = f"it asks for a {type(attribute).__name__} of a {type(module).__name__}, expected names"
        raise ValueError(msg)
    name = f"{module}.{attribute}"
    if name not in allowed:
        msg = f"it asks for {name!r}, which is not run; expected tensors alone, as torch.save writes of a state_dict()"
        raise ValueError(msg)
    return allowed[name]
