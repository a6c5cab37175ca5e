"""
The operators: what may be wrong with a program, each a function on one node of the syntax tree.

An operator yields the changes that it makes. Those that would break a program at once, whatever it computes, are left
out: they tell nothing of the suite.
"""

import ast
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import combinations, pairwise
from typing import Any

from conformance.mutate.source import Change, Operator, Source, circle

OPERATORS: dict[str, Operator] = {}


def operator(name: str) -> Callable[[Operator], Operator]:
    """Enter a function into the table of operators."""

    def enter(function: Operator) -> Operator:
        OPERATORS[name] = function
        return function

    return enter


# Numbers


def _role(node: ast.AST, source: Source) -> str:
    """Return what an integer is for."""
    for each in source.ancestors(node):
        match each:
            case ast.keyword(arg="axis" | "axes") | ast.Call(func=ast.Attribute(attr="permute_dims")):
                return "axis"
            case ast.Slice():
                return "slice"
            case ast.Subscript():
                return "index"
            case ast.stmt() | ast.Call():
                break
    return "integer"


def _integers(role: str) -> Operator:
    def change(node: ast.AST, source: Source) -> Iterator[Change]:
        match node:
            case ast.Constant(value=int(value)) if not isinstance(value, bool) and _role(node, source) == role:
                # Of most things that are indexed there are two.
                for other in (value - 1 if value else 1,) if role == "index" else (value + 1, value - 1):
                    yield {source.span(node): f"({other})" if other < 0 else str(other)}

    return change


for _name in ("slice", "index", "axis", "integer"):
    OPERATORS[_name] = _integers(_name)


@operator("bound")
def _bound(node: ast.AST, source: Source) -> Iterator[Change]:
    """Shift and leave out the bounds of a slice."""
    if isinstance(node, ast.Slice):
        for each in (node.lower, node.upper):
            if each is not None:
                yield {source.span(each): ""}
                if not isinstance(each, ast.Constant):
                    yield from _one_off(each, source)


@operator("row")
def _row(node: ast.AST, source: Source) -> Iterator[Change]:
    """Take the row before the one that an index names."""
    if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
        for each in node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]:
            if isinstance(each, (ast.Name, ast.Call, ast.BinOp)):
                yield {source.span(each): f"{source.text(each)} - 1"}


@operator("count")
def _count(node: ast.AST, source: Source) -> Iterator[Change]:
    """Count wrongly. Where a count is compared with a number, that is changed instead."""
    match node:
        case ast.Call(func=ast.Name(id="len")) if not isinstance(source.parent(node), ast.Compare):
            yield {source.span(node): f"({source.text(node)} - 1)"}
        case ast.Call(func=ast.Name(id="range"), args=[*_, last]) if not isinstance(last, ast.Constant):
            yield from _one_off(last, source)


def _one_off(node: ast.AST, source: Source) -> Iterator[Change]:
    yield {source.span(node): f"{source.text(node)} + 1"}
    yield {source.span(node): f"{source.text(node)} - 1"}


@operator("float")
def _float(node: ast.AST, source: Source) -> Iterator[Change]:
    match node:
        case ast.Constant(value=float(value)):
            yield {source.span(node): repr(value / 2 if value else 0.5)}


# What is done with two things

_SIGNS = {ast.Add: ("+", "-"), ast.Sub: ("-", "+")}
_OPERATIONS = {
    ast.Mult: ("*", "+"),
    ast.Div: ("/", "*"),
    ast.MatMult: ("@", "*"),
    ast.FloorDiv: ("//", "*"),
    ast.Mod: ("%", "//"),
}
_LIMITS = {ast.Lt: ("<", "<="), ast.LtE: ("<=", "<"), ast.Gt: (">", ">="), ast.GtE: (">=", ">")}
_NEGATIONS = {
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
}
_CONNECTIVES = {ast.And: ("and", "or"), ast.Or: ("or", "and")}


def _other_symbols(node: ast.AST, source: Source, table: Mapping[Any, tuple[str, str]]) -> Iterator[Change]:
    match node:
        case ast.BinOp(left=left, op=op, right=right) | ast.AugAssign(target=left, op=op, value=right):
            parts: list[tuple[ast.expr, ast.AST, ast.expr]] = [(left, op, right)]
        case ast.Compare(left=left, ops=ops, comparators=comparators):
            parts = [(a, op, b) for (a, b), op in zip(pairwise([left, *comparators]), ops, strict=True)]
        case _:
            return
    for a, what, b in parts:
        if type(what) in table:
            symbol, other = table[type(what)]
            yield {source.symbol(a, b, symbol): other}


@operator("sign")
def _sign(node: ast.AST, source: Source) -> Iterator[Change]:
    yield from _other_symbols(node, source, _SIGNS)
    match node:
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            yield {source.span(node): source.text(operand)}


@operator("operation")
def _operation(node: ast.AST, source: Source) -> Iterator[Change]:
    yield from _other_symbols(node, source, _OPERATIONS)


@operator("operand")
def _operand(node: ast.AST, source: Source) -> Iterator[Change]:
    """Leave out one operand."""
    match node:
        case ast.BinOp(left=left, right=right):
            yield {source.span(node): source.text(left)}
            yield {source.span(node): source.text(right)}
        case ast.BoolOp(op=op, values=values):
            symbol, _ = _CONNECTIVES[type(op)]
            for each in values:
                rest = f" {symbol} ".join(source.text(other) for other in values if other is not each)
                yield {source.span(node): f"({rest})"}


@operator("comparison")
def _comparison(node: ast.AST, source: Source) -> Iterator[Change]:
    """Move a limit. Negate what is no condition: of those, other operators take one way or leave out a part."""
    yield from _other_symbols(node, source, _LIMITS)
    if isinstance(node, ast.Compare) and not isinstance(source.parent(node), (ast.If, ast.IfExp, ast.BoolOp)):
        yield from _other_symbols(node, source, _NEGATIONS)


@operator("connective")
def _connective(node: ast.AST, source: Source) -> Iterator[Change]:
    match node:
        case ast.BoolOp(op=op, values=values):
            symbol, other = _CONNECTIVES[type(op)]
            yield {source.symbol(a, b, symbol): other for a, b in pairwise(values)}


@operator("opposite")
def _opposite(node: ast.AST, source: Source) -> Iterator[Change]:
    opposites = {"all": "any", "any": "all", "min": "max", "max": "min"}
    match node:
        case ast.Name(id=name, ctx=ast.Load()) if name in opposites:
            yield {source.span(node): opposites[name]}
        case ast.Attribute(attr=name) if name in opposites:
            yield {source.attribute(node): opposites[name]}
        case ast.keyword(arg="min" | "max" as name):
            start, _ = source.span(node)
            yield {(start, start + len(name)): opposites[name]}


# Which way


def _refuses(node: ast.If) -> bool:
    return isinstance(node.body[-1], ast.Raise)


@operator("condition")
def _condition(node: ast.AST, source: Source) -> Iterator[Change]:
    """Refuse what is right, and not what is wrong."""
    match node:
        case ast.If(test=test) if _refuses(node):
            yield {source.span(test): f"not {source.text(test)}"}


@operator("branch")
def _branch(node: ast.AST, source: Source) -> Iterator[Change]:
    """Take one way always."""
    match node:
        case ast.IfExp(body=body, orelse=orelse):
            yield {source.span(node): source.text(body)}
            yield {source.span(node): source.text(orelse)}
        case ast.If(test=test) if not _refuses(node):
            yield {source.span(test): "True"}
            yield {source.span(test): "False"}
        case ast.comprehension(ifs=tests):
            yield from ({source.span(test): "True"} for test in tests)


@operator("where")
def _where(node: ast.AST, source: Source) -> Iterator[Change]:
    match node:
        case ast.Call(func=ast.Attribute(attr="where"), args=[_, yes, no]):
            yield from _swapped([(yes, no)], source)
            yield {source.span(node): source.text(yes)}
            yield {source.span(node): source.text(no)}


@operator("direction")
def _direction(node: ast.AST, source: Source) -> Iterator[Change]:
    """Go the other way through time."""
    match node:
        case ast.Name(id="reverse", ctx=ast.Load()) | ast.Attribute(attr="reverse", ctx=ast.Load()):
            yield {source.span(node): f"(not {source.text(node)})"}
        case ast.Call(func=ast.Name(id="reversed") | ast.Attribute(attr="flip"), args=[first, *_]):
            yield {source.span(node): source.text(first)}
        case ast.Subscript(value=value, slice=ast.Slice(step=ast.UnaryOp())):
            yield {source.span(node): source.text(value)}


@operator("truth")
def _truth(node: ast.AST, source: Source) -> Iterator[Change]:
    match node:
        case ast.Constant(value=bool(value)):
            yield {source.span(node): str(not value)}


@operator("string")
def _string(node: ast.AST, source: Source) -> Iterator[Change]:
    """Compare with another string; have another default."""
    places = (ast.Compare, ast.AnnAssign, ast.arguments)
    match node:
        case ast.Constant(value=str()) if isinstance(source.parent(node), places):
            yield {source.span(node): '"?"'}


# What stands in for what


def _swapped(pairs: Iterable[tuple[ast.AST, ast.AST]], source: Source) -> Iterator[Change]:
    for a, b in pairs:
        yield {source.span(a): source.text(b), source.span(b): source.text(a)}


@operator("unpacking")
def _unpacking(node: ast.AST, source: Source) -> Iterator[Change]:
    """Give two things that are unpacked each other's names."""
    match node:
        case ast.Tuple(elts=elts, ctx=ast.Store()):
            yield from _swapped(combinations(elts, 2), source)


@operator("tuple")
def _tuple(node: ast.AST, source: Source) -> Iterator[Change]:
    """Swap two elements, where their order counts."""
    match node, source.parent(node):
        case _, ast.Compare() | ast.ExceptHandler() | ast.Call(func=ast.Name(id="isinstance")):
            return  # something is looked for among them
        case ast.Tuple(elts=[ast.Constant(), *_]), ast.For() | ast.comprehension():
            return  # names, that are gone through one by one
        case ast.Tuple(elts=elts, ctx=ast.Load()), _:
            yield from _swapped(combinations(elts, 2) if len(elts) <= 3 else pairwise(elts), source)


# Their results are of other types than their arguments, which cannot stand in for them.
_OTHER_TYPES = {"all", "any", "enumerate", "getattr", "hasattr", "isinstance", "len", "map", "range", "type", "zip"}


def _is_library(node: ast.AST) -> bool:
    return ast.unparse(node).rpartition("_")[2] in ("xp", "np", "math")


@operator("argument")
def _argument(node: ast.AST, source: Source) -> Iterator[Change]:
    """Swap two neighbouring arguments that look alike."""
    match node:
        case ast.Call(func=func, args=args) if ast.unparse(func).rpartition(".")[2] not in {*_OTHER_TYPES, "where"}:
            for a, b in pairwise(args):
                if type(a) is type(b) and not isinstance(a, ast.Constant) and not _is_library(a) and not _is_library(b):
                    yield from _swapped([(a, b)], source)


@operator("unwrap")
def _unwrap(node: ast.AST, source: Source) -> Iterator[Change]:
    """Leave out a call: take its only argument, the first of a library's function, or what a method is called on."""
    match node:
        case ast.Call(func=ast.Name(id="reversed") | ast.Attribute(attr="flip" | "where")):
            return  # other operators'
        case ast.Call(args=[ast.Starred(), *_]):
            return  # several arguments, of which none stands alone
        case ast.Call(func=ast.Name(id=name), args=[first, *rest]) if name not in _OTHER_TYPES and not _is_class(name):
            if all(map(_is_library, rest)):
                yield {source.span(node): source.text(first)}
        case ast.Call(func=ast.Attribute(value=ast.Name() as library), args=[first, *_]) if _is_library(library):
            yield {source.span(node): source.text(first)}
        case ast.Call(func=ast.Attribute(value=receiver), args=[]):
            yield {source.span(node): source.text(receiver)}


def _is_class(name: str) -> bool:
    return name.lstrip("_")[0].isupper()


@operator("sibling")
def _sibling(node: ast.AST, source: Source) -> Iterator[Change]:
    """Take the next one of a class's fields of the same type, or of names that are unpacked together."""
    match node:
        case ast.Attribute(attr=name, ctx=ast.Load()) if name in source.fields:
            yield {source.attribute(node): source.fields[name]}
        case ast.Name(id=name, ctx=ast.Load()):
            functions = [each for each in source.ancestors(node) if isinstance(each, ast.FunctionDef)]
            siblings = [others[name] for others in map(_unpacked_in, functions) if name in others]
            yield from ({source.span(node): other} for other in siblings[:1])


def _unpacked_in(function: ast.FunctionDef) -> dict[str, str]:
    siblings: dict[str, str] = {}
    for statement in function.body:
        match statement:
            case ast.Assign(targets=[ast.Tuple(elts=elts)]):
                siblings |= circle([each.id for each in elts if isinstance(each, ast.Name)])
    return siblings


# What is left out


@operator("statement")
def _statement(node: ast.AST, source: Source) -> Iterator[Change]:
    match node:
        case ast.Raise() | ast.AugAssign() | ast.Expr(value=ast.Call()):
            yield {source.span(node): "pass"}


@operator("return")
def _return(node: ast.AST, source: Source) -> Iterator[Change]:
    """Return None, where a function may."""
    match node:
        case ast.Return(value=ast.expr() as value):
            function = next(each for each in source.ancestors(node) if isinstance(each, ast.FunctionDef))
            if "None" in ast.unparse(function.returns or ast.Tuple([])):
                yield {source.span(value): "None"}


def _without(kind: str) -> Operator:
    def change(node: ast.AST, source: Source) -> Iterator[Change]:
        if isinstance(node, ast.keyword) and _kind(node) == kind:
            yield {source.argument(node): ""}

    return change


def _kind(node: ast.keyword) -> str:
    what = node.arg or ast.unparse(node.value)
    return next((kind for kind in ("dtype", "device") if what.startswith(kind)), "keyword")


for _name in ("dtype", "device", "keyword"):
    OPERATORS[_name] = _without(_name)


@operator("integer dtype")
def _integer_dtype(node: ast.AST, source: Source) -> Iterator[Change]:
    match node:
        case ast.Attribute(attr="int32"):
            yield {source.attribute(node): "int8"}
