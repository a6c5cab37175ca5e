"""The core speaks the array API standard, of 2023.12, and nothing else."""

import ast
from pathlib import Path

import pytest

import lstm_xp

PACKAGE = Path(lstm_xp.__file__).parent
CORE = (
    "_activations.py",
    "_cell.py",
    "_cell_vjp.py",
    "_checks.py",
    "_options.py",
    "_sequence.py",
    "_trace.py",
    "_vjp.py",
    "_weights.py",
    "engines/_chunks.py",
    "engines/_request.py",
    "engines/_stack.py",
    "engines/_stack_vjp.py",
    "engines/standard.py",
)
STANDARD_LIBRARY = {"__future__", "collections.abc", "dataclasses", "itertools", "math", "numbers", "re", "typing"}
LIBRARIES = {"numpy", "np", "torch", "jax", "jnp", "lax", "cupy", "dask", "ndonnx", "mlx", "tensorflow", "numba"}
# Of array objects, the standard's attributes that every library has under that name and meaning; not .T, .mT, .device,
# .size or .to_device (see array_api_compat's list of divergences).
FORBIDDEN_ATTRIBUTES = {"T", "mT", "H", "size", "device", "to_device", "numpy", "item", "tolist", "at", "reshape"}
DICTS_AND_LISTS = {"sizes", "self.prepared", "found.setdefault((layer, direction), {})"}


def tree(name: str) -> ast.Module:
    return ast.parse((PACKAGE / name).read_text())


@pytest.mark.parametrize("name", CORE)
def test_it_imports_nothing_but_the_standard_library_and_itself(name: str) -> None:
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Import):
            assert {alias.name for alias in node.names} <= STANDARD_LIBRARY
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0
            assert node.module in STANDARD_LIBRARY or node.module.split(".")[0] == "lstm_xp", node.module


@pytest.mark.parametrize("name", CORE)
def test_it_names_no_library(name: str) -> None:
    for node in ast.walk(tree(name)):
        assert not (isinstance(node, ast.Name) and node.id in LIBRARIES), ast.unparse(node)
        assert not (isinstance(node, ast.Attribute) and node.attr in LIBRARIES), ast.unparse(node)


@pytest.mark.parametrize("name", CORE)
def test_it_changes_no_array(name: str) -> None:
    """No ``out=``, no item assignment, no operator in place on what may be an array."""
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.keyword):
            assert node.arg != "out"
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if isinstance(node, ast.Assign | ast.AnnAssign):
            for target in targets:
                # Lists and dicts may be written to; they are not called like arrays.
                if isinstance(target, ast.Subscript):
                    assert ast.unparse(target.value) in DICTS_AND_LISTS
        if isinstance(node, ast.AugAssign):
            assert ast.unparse(node.target) == "parameters"
        assert not isinstance(node, ast.Delete)


@pytest.mark.parametrize("name", CORE)
def test_it_uses_only_what_arrays_have_everywhere(name: str) -> None:
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id != "values":
            assert node.attr not in FORBIDDEN_ATTRIBUTES, ast.unparse(node)


@pytest.mark.needs("array_api_strict")
def test_what_it_calls_is_in_the_standard_of_2023() -> None:
    import array_api_strict as strict

    called = {
        node.attr
        for name in CORE
        for node in ast.walk(tree(name))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in {"xp", "own_xp"}
    }
    assert {"tensordot", "tanh", "where", "stack", "zeros_like"} <= called
    with strict.ArrayAPIStrictFlags(api_version="2023.12", enabled_extensions=()):
        functions = {name for name in called & {*strict.__all__} if callable(getattr(strict, name))}
    assert called - functions == {"int32", "float32"}  # dtypes that every library has


def test_deleting_an_engine_breaks_nothing_else() -> None:
    """Its name stands in its own file and in one row of the table."""
    for path in PACKAGE.rglob("*.py"):
        if path.relative_to(PACKAGE).as_posix() in ("engines/jax.py", "engines/__init__.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                assert "engines.jax" not in ast.unparse(node), path
