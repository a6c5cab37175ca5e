"""The face: what is public, and that it is documented in full."""

import inspect
import pkgutil
from importlib import import_module
from operator import attrgetter

import pytest
from numpydoc.validate import validate

import lstm_xp as lx

NAMES = sorted(name for name in lx.__all__ if not name.startswith("__"))
# What a public docstring must not lack: itself, its parameters, what it returns, types and shapes.
CHECKS = {"GL08", "SS01", "PR01", "PR02", "PR03", "RT01", "RT02", "RT03", "YD01"}


def test_all_is_sorted_and_true() -> None:
    assert list(lx.__all__) == sorted(lx.__all__, key=lambda name: (not name.isupper(), not name[0].isupper(), name))
    for name in lx.__all__:
        assert hasattr(lx, name)
    for name, value in vars(lx).items():
        if not name.startswith("_") and not inspect.ismodule(value):
            assert name in lx.__all__, f"{name} is visible but not in __all__"


def public_objects() -> list[str]:
    objects = []
    for name in NAMES:
        value = getattr(lx, name)
        if inspect.ismodule(value):
            objects += [f"{value.__name__}.{each}" for each in value.__all__]
        else:
            objects.append(f"lstm_xp.{name}")
        if inspect.isclass(value):
            members = [n for n in vars(value) if not n.startswith("_")]
            own = [
                n
                for n in members
                if inspect.isfunction(getattr(value, n)) or isinstance(vars(value)[n], classmethod | property)
            ]
            objects += [f"lstm_xp.{name}.{member}" for member in own]
    return objects


@pytest.mark.parametrize("name", public_objects())
def test_docstrings_are_complete(name: str) -> None:
    errors = validate(name)["errors"]
    assert [error for error in errors if error[0] in CHECKS] == []


@pytest.mark.parametrize("name", public_objects())
def test_what_raises_says_so(name: str) -> None:
    value = attrgetter(name.removeprefix("lstm_xp."))(lx)
    silent = {"available_engines", "state_dict"}
    if (inspect.isfunction(value) or inspect.ismethod(value)) and name.rpartition(".")[2] not in silent:
        assert "Raises\n" in (inspect.getdoc(value) or "")


def test_every_module_imports() -> None:
    for module in pkgutil.walk_packages(lx.__path__, "lstm_xp."):
        if not module.name.endswith((".jax", "__main__")):
            import_module(module.name)
