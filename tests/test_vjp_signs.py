"""
No term of the backward pass has a sign that may be wrong: each is turned round by itself, and derivatives are wrong.

What is turned round are sums, differences, products and the peepholes' terms, in copies of the two files that stand in
for them while a short check runs: difference quotients of the textbook's equations.
"""

import ast
from collections.abc import Iterator
from types import ModuleType

import pytest

import lstm_xp as lx
from conformance import textbook
from conformance.backends import by_name
from conformance.cases import Case
from conformance.derivatives import SMALL, THROUGH, WITH_NOISE, compare_slopes
from conformance.mutate.judge import ROOT
from conformance.mutate.source import Change, Mutant, Source, generate
from conformance.pulling import run
from lstm_xp.engines import _stack_vjp, standard

# Those first that most terms are in.
CHECKS: tuple[tuple[Case, textbook.Variant], ...] = (
    *((case, textbook.Variant(**THROUGH[name][1])) for name, (case, _) in THROUGH.items() if name == "all of it"),
    (WITH_NOISE["all, a mask that holds, resets"], textbook.Variant()),
    *((case, textbook.Variant(**options)) for case, options in THROUGH.values()),
    (SMALL.replace(peephole=True), textbook.Variant(activations=("softplus", "tanh", "tanh"), peephole_output="old")),
)

# Elements of two steps' pre-activations, of most cases.
CHUNK = 2 * 4 * SMALL.batch * SMALL.hidden_size

# The file's text, and why a term's sign does not matter.
WITHOUT_SIGN = {
    "hidden @ xp.matrix_transpose(w_hr)": "it is compared with a bound on both sides",
}


def check() -> None:
    (row,) = by_name("numpy-standard")
    for case, variant in CHECKS:
        _, gradients = run(row, case, options=lx.CellOptions(**vars(variant)))
        compare_slopes(gradients, case, variant)


def turned_round(node: ast.AST, source: Source) -> Iterator[Change]:
    """Yield the terms of a node with the other sign."""
    match node:
        case ast.BinOp(op=ast.Add() | ast.Sub(), left=left, right=right) if _is_of_arrays(node, source):
            symbol, other = ("+", "-") if isinstance(node.op, ast.Add) else ("-", "+")
            yield {source.symbol(left, right, symbol): other}
        case ast.BinOp(op=ast.Mult() | ast.MatMult()) if _is_of_arrays(node, source):
            yield {source.span(node): f"(-({source.text(node)}))"}
        case ast.Call(func=ast.Name(id="total") | ast.Attribute(attr="tensordot")):
            yield {source.span(node): f"(-{source.text(node)})"}
        case ast.Call(func=ast.Name(id="peep"), args=[weight, *_]):
            yield {source.span(weight): f"(None if {source.text(weight)} is None else -{source.text(weight)})"}


def _is_of_arrays(node: ast.BinOp, source: Source) -> bool:
    """Tell whether a term is no sum or product of sizes and places."""
    for child, parent in zip([node, *source.ancestors(node)], source.ancestors(node), strict=False):
        if isinstance(parent, ast.Subscript) and child is parent.slice:
            return False
        if isinstance(parent, ast.Call) and ast.unparse(parent.func) in ("slice", "range", "min", "max"):
            return False
    for each in (node.left, node.right):
        match each:
            case ast.Constant(value=int()) | ast.List() | ast.Call(func=ast.Name(id="len")):
                return False
            case ast.BinOp() if not _is_of_arrays(each, source):
                return False
    return True


def terms_of(file: str) -> list[Mutant]:
    source = Source(file, (ROOT / "lstm_xp" / file).read_text(encoding="utf-8"), {})
    return list(generate(source, {"sign": turned_round}))


def module_of(mutant: Mutant) -> ModuleType:
    module = ModuleType(mutant.file)
    exec(compile(mutant.source, mutant.file, "exec"), module.__dict__)  # noqa: S102
    if hasattr(module, "CHUNK"):
        module.CHUNK = CHUNK
    return module


@pytest.fixture(autouse=True)
def _in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Linearise one or two steps at once, not all: their parts are added up."""
    monkeypatch.setattr(_stack_vjp, "CHUNK", CHUNK)


def test_the_check_passes() -> None:
    check()


@pytest.mark.parametrize(
    ("file", "place", "name", "least"),
    [
        ("_cell_vjp.py", _stack_vjp, "make_cell_vjp", 50),
        ("engines/_stack_vjp.py", standard, "run_stacked_vjp", 15),
    ],
)
def test_each_sign_matters(
    file: str, place: ModuleType, name: str, least: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    terms, unnoticed = terms_of(file), []
    assert len(terms) >= least
    for mutant in terms:
        monkeypatch.setattr(place, name, getattr(module_of(mutant), name))
        try:
            check()
        except AssertionError:
            continue
        if not any(text in mutant.before for text in WITHOUT_SIGN):
            unnoticed.append(f"{file}, line {mutant.line}: {mutant.after}")
    assert unnoticed == []
