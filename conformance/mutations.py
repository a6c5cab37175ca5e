"""
Mutants: copies of a source file with one small change each, generated from its syntax tree.

An operator is a function that yields the changes it makes at one node of the tree. They are made in the text, so that
the rest of the file stays as it is. What does not compute is left alone: docstrings, messages, annotations, decorators,
imports.
"""

import ast
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, pairwise
from typing import NamedTuple, TypeAlias

Span: TypeAlias = tuple[int, int]  # in bytes, as the syntax tree counts
Change: TypeAlias = dict[Span, str]


class Mutant(NamedTuple):
    """
    A file with one change.

    Parameters
    ----------
    file : str
        The file, within the package.
    line : int
        Where the change begins.
    operator : str
        What made it.
    before, after : str
        The changed lines, with single spaces.
    source : str
        The whole file after the change.
    """

    file: str
    line: int
    operator: str
    before: str
    after: str
    source: str

    @property
    def place(self) -> str:
        """Where it is, for people."""
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, eq=False)
class Source:
    """
    A source file, its tree, and where each node stands in the text.

    Parameters
    ----------
    file : str
        What the file is called.
    source : str
        Its text.
    fields : dict, optional
        For a field of any class of the package, another one of the same class and type.
    """

    file: str
    source: str
    fields: dict[str, str]

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.source)

    @cached_property
    def _bytes(self) -> bytes:
        return self.source.encode()

    @cached_property
    def _starts(self) -> list[int]:
        """The offset of each line."""
        starts = [0]
        for line in self._bytes.splitlines(keepends=True):
            starts.append(starts[-1] + len(line))
        return starts

    @cached_property
    def _parents(self) -> dict[ast.AST, ast.AST]:
        return {child: parent for parent in ast.walk(self.tree) for child in ast.iter_child_nodes(parent)}

    def ancestors(self, node: ast.AST) -> Iterator[ast.AST]:
        """Yield what a node stands in, from the inside out."""
        while node in self._parents:
            node = self._parents[node]
            yield node

    def parent(self, node: ast.AST) -> ast.AST:
        """Return what a node stands in."""
        return self._parents[node]

    def span(self, node: ast.AST) -> Span:
        """Return where a node stands."""
        return (
            self._starts[node.lineno - 1] + node.col_offset,
            self._starts[node.end_lineno - 1] + node.end_col_offset,
        )

    def text(self, node: ast.AST) -> str:
        """Return a node's text, in parentheses where it could fall apart elsewhere."""
        start, stop = self.span(node)
        text = self._bytes[start:stop].decode()
        whole = isinstance(node, (ast.Name, ast.Constant, ast.Call, ast.Attribute, ast.Subscript, ast.Slice, ast.Starred))
        return text if whole else f"({text})"

    def between(self, left: ast.AST, right: ast.AST, symbol: str) -> Span:
        """Return where an operator's symbol stands between its operands."""
        start = self._bytes.index(symbol.encode(), self.span(left)[1], self.span(right)[0])
        return start, start + len(symbol)

    def with_comma(self, node: ast.AST) -> Span:
        """Return where an argument stands with the comma behind it, if there is one."""
        start, stop = self.span(node)
        rest = self._bytes[stop:]
        blanks = len(rest) - len(rest.lstrip())
        return start, stop + blanks + 1 if rest.lstrip().startswith(b",") else stop

    def nodes(self) -> Iterator[ast.AST]:
        """Yield the nodes that compute, each before those within it."""
        yield from _computing(self.tree)

    def mutant(self, operator: str, change: Change) -> Mutant:
        """Return the file with a change."""
        spans = sorted(change)
        first = self._bytes.rfind(b"\n", 0, spans[0][0]) + 1
        last = self._bytes.find(b"\n", spans[-1][1])
        pieces, at = [], first
        for start, stop in spans:
            pieces += [self._bytes[at:start], change[start, stop].encode()]
            at = stop
        lines = b"".join([*pieces, self._bytes[at:last]])
        source = (self._bytes[:first] + lines + self._bytes[last:]).decode()
        number = self._bytes.count(b"\n", 0, spans[0][0]) + 1
        return Mutant(self.file, number, operator, _joined(self._bytes[first:last]), _joined(lines), source)


def _joined(lines: bytes) -> str:
    return " ".join(lines.decode().split())


_NOT_CODE = {"annotation", "returns", "decorator_list", "bases"}
_MESSAGES = {"msg", "__all__"}


def _computing(node: ast.AST) -> Iterator[ast.AST]:
    match node:
        case ast.Import() | ast.ImportFrom() | ast.JoinedStr() | ast.Expr(value=ast.Constant()):
            return
        case ast.Assign(targets=[ast.Name(id=name)]) if name in _MESSAGES:
            return
        case ast.AnnAssign(annotation=ast.Name(id="TypeAlias")):
            return
        case ast.Raise():  # what it says is a message
            yield node
            return
    yield node
    for field, value in ast.iter_fields(node):
        if field not in _NOT_CODE:
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from _computing(child)


def fields_by_class(trees: Iterable[ast.Module]) -> dict[str, str]:
    """Return, for each field of the classes in some trees, the next one of the same class and type, in a circle."""
    following: dict[str, str] = {}
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                by_type: dict[str, list[str]] = {}
                for each in node.body:
                    if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name):
                        by_type.setdefault(ast.unparse(each.annotation), []).append(each.target.id)
                for names in by_type.values():
                    following = _circle(names) | following
    return following


def _circle(names: list[str]) -> dict[str, str]:
    return dict(zip(names, [*names[1:], *names[:1]], strict=True)) if len(names) > 1 else {}


Operator: TypeAlias = Callable[[ast.AST, Source], Iterator[Change]]
OPERATORS: dict[str, Operator] = {}


def operator(name: str) -> Callable[[Operator], Operator]:
    """Enter a function into the table of operators."""

    def enter(function: Operator) -> Operator:
        OPERATORS[name] = function
        return function

    return enter


def generate(source: Source, operators: Iterable[str] | None = None) -> Iterator[Mutant]:
    """
    Yield the mutants of a file, no two the same.

    Parameters
    ----------
    source : Source
        The file.
    operators : iterable of str, optional
        The operators, keys of `OPERATORS`; all if absent.

    Yields
    ------
    Mutant
        Whose source parses, to another tree than that of the file.
    """
    seen = {ast.dump(source.tree)}
    names = OPERATORS if operators is None else operators
    for node in source.nodes():
        for name, function in OPERATORS.items():
            for change in function(node, source):
                mutant = source.mutant(name, change)
                tree = ast.dump(ast.parse(mutant.source))
                if tree not in seen and name in names:
                    yield mutant
                seen.add(tree)


# Numbers


def _role(node: ast.AST, source: Source) -> str:
    """Return what an integer stands for."""
    for each in source.ancestors(node):
        match each:
            case ast.keyword(arg="axis" | "axes"):
                return "axis"
            case ast.Call(func=ast.Attribute(attr="permute_dims")):
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
                # There are two of most things that are indexed.
                for other in (value - 1 if value else 1,) if role == "index" else (value + 1, value - 1):
                    yield {source.span(node): f"({other})" if other < 0 else str(other)}

    return change


for _role_name in ("slice", "index", "axis", "integer"):
    OPERATORS[_role_name] = _integers(_role_name)


@operator("bound")
def _bound(node: ast.AST, source: Source) -> Iterator[Change]:
    """Shift and drop the bounds of a slice."""
    if isinstance(node, ast.Slice):
        for each in (node.lower, node.upper):
            if each is not None:
                yield {source.span(each): ""}
                if not isinstance(each, ast.Constant):
                    yield {source.span(each): f"{source.text(each)} + 1"}
                    yield {source.span(each): f"{source.text(each)} - 1"}


@operator("row")
def _row(node: ast.AST, source: Source) -> Iterator[Change]:
    """Take the row beside the one that an index names."""
    if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
        for each in node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]:
            if isinstance(each, (ast.Name, ast.Call, ast.BinOp)):
                yield {source.span(each): f"{source.text(each)} - 1"}


@operator("count")
def _count(node: ast.AST, source: Source) -> Iterator[Change]:
    """Count one more or one less."""
    match node:
        case ast.Call(func=ast.Name(id="len")) if not isinstance(source.parent(node), ast.Compare):
            yield {source.span(node): f"({source.text(node)} - 1)"}
        case ast.Call(func=ast.Name(id="range"), args=[*_, last]) if not isinstance(last, ast.Constant):
            yield {source.span(last): f"{source.text(last)} + 1"}
            yield {source.span(last): f"{source.text(last)} - 1"}


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
_LIMITS = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
}
_NEGATIONS = {
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
}
_CONNECTIVES = {ast.And: ("and", "or"), ast.Or: ("or", "and")}


def _symbols(node: ast.AST, source: Source, table: dict[type, tuple[str, str]]) -> Iterator[Change]:
    match node:
        case ast.BinOp(left=left, op=op, right=right) | ast.AugAssign(target=left, op=op, value=right):
            parts = [(left, op, right)]
        case ast.Compare(left=left, ops=ops, comparators=comparators):
            parts = [(a, op, b) for (a, b), op in zip(pairwise([left, *comparators]), ops, strict=True)]
        case _:
            return
    for a, op, b in parts:
        if type(op) in table:
            symbol, other = table[type(op)]
            yield {source.between(a, b, symbol): other}


@operator("sign")
def _sign(node: ast.AST, source: Source) -> Iterator[Change]:
    yield from _symbols(node, source, _SIGNS)
    match node:
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            yield {source.span(node): source.text(operand)}


@operator("operation")
def _operation(node: ast.AST, source: Source) -> Iterator[Change]:
    yield from _symbols(node, source, _OPERATIONS)


@operator("operand")
def _operand(node: ast.AST, source: Source) -> Iterator[Change]:
    """Leave out one operand."""
    match node:
        case ast.BinOp(left=left, right=right):
            yield {source.span(node): source.text(left)}
            yield {source.span(node): source.text(right)}
        case ast.BoolOp(op=op, values=values):
            word = f" {_CONNECTIVES[type(op)][0]} "
            for each in values:
                yield {source.span(node): f"({word.join(source.text(v) for v in values if v is not each)})"}


@operator("comparison")
def _comparison(node: ast.AST, source: Source) -> Iterator[Change]:
    """Move a limit; negate what is no condition by itself, as other operators do with those."""
    yield from _symbols(node, source, _LIMITS)
    if isinstance(node, ast.Compare) and not isinstance(source.parent(node), (ast.If, ast.IfExp, ast.BoolOp)):
        yield from _symbols(node, source, _NEGATIONS)


@operator("connective")
def _connective(node: ast.AST, source: Source) -> Iterator[Change]:
    match node:
        case ast.BoolOp(op=op, values=values):
            symbol, other = _CONNECTIVES[type(op)]
            yield {source.between(a, b, symbol): other for a, b in pairwise(values)}


@operator("opposite")
def _opposite(node: ast.AST, source: Source) -> Iterator[Change]:
    opposites = {"all": "any", "any": "all", "min": "max", "max": "min"}
    match node:
        case ast.Name(id=name, ctx=ast.Load()) if name in opposites:
            yield {source.span(node): opposites[name]}
        case ast.Attribute(attr=name) if name in opposites:
            yield {_end_of(node, source): opposites[name]}
        case ast.keyword(arg="min" | "max" as name):
            start, _ = source.span(node)
            yield {(start, start + len(name)): opposites[name]}


# Which way


@operator("condition")
def _condition(node: ast.AST, source: Source) -> Iterator[Change]:
    """Negate the condition of an error."""
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


def _refuses(node: ast.If) -> bool:
    return isinstance(node.body[-1], ast.Raise)


@operator("where")
def _where(node: ast.AST, source: Source) -> Iterator[Change]:
    match node:
        case ast.Call(func=ast.Attribute(attr="where"), args=[_, yes, no]):
            yield {source.span(yes): source.text(no), source.span(no): source.text(yes)}
            yield {source.span(node): source.text(yes)}
            yield {source.span(node): source.text(no)}


@operator("direction")
def _direction(node: ast.AST, source: Source) -> Iterator[Change]:
    """Turn time round."""
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
    """Compare with another string, or have another default."""
    match node:
        case ast.Constant(value=str()):
            match source.parent(node):
                case ast.Compare() | ast.AnnAssign() | ast.arguments():
                    yield {source.span(node): '"?"'}


# What stands in for what


def _end_of(node: ast.Attribute, source: Source) -> Span:
    _, stop = source.span(node)
    return stop - len(node.attr), stop


def _swapped(nodes: Iterable[tuple[ast.AST, ast.AST]], source: Source) -> Iterator[Change]:
    for a, b in nodes:
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
    match node:
        case ast.Tuple(elts=elts, ctx=ast.Load()) if not isinstance(source.parent(node), ast.Compare):
            yield from _swapped(combinations(elts, 2) if len(elts) <= 3 else pairwise(elts), source)


# Whose result is of another kind than their arguments: changing them breaks the program, and tells nothing.
_TYPES = {"isinstance", "len", "range", "enumerate", "zip", "getattr", "hasattr", "all", "any", "type", "map", "import_module"}


@operator("argument")
def _argument(node: ast.AST, source: Source) -> Iterator[Change]:
    """Swap two neighbouring arguments."""
    match node:
        case ast.Call(func=ast.Attribute(attr="where")) | ast.Expr():
            return
        case ast.Call(func=func, args=args) if ast.unparse(func) not in _TYPES:
            pairs = [pair for pair in pairwise(args) if not any(ast.unparse(each).endswith("xp") for each in pair)]
            yield from _swapped([(a, b) for a, b in pairs if type(a) is type(b) and not isinstance(a, ast.Constant)], source)


@operator("unwrap")
def _unwrap(node: ast.AST, source: Source) -> Iterator[Change]:
    """Leave out a call."""
    match node:
        case ast.Call(func=ast.Name(id="reversed") | ast.Attribute(attr="flip" | "where")):
            return
        case ast.Call(func=ast.Name(id=name), args=[first, *rest]) if name not in _TYPES and not name.lstrip("_")[0].isupper():
            if all(ast.unparse(each).endswith("xp") for each in rest):
                yield {source.span(node): source.text(first)}
        case ast.Call(func=ast.Attribute(value=ast.Name(id=name)), args=[first, *_]) if name in ("xp", "np", "math"):
            yield {source.span(node): source.text(first)}
        case ast.Call(func=ast.Attribute(value=ast.expr() as receiver), args=[]):
            yield {source.span(node): source.text(receiver)}


@operator("sibling")
def _sibling(node: ast.AST, source: Source) -> Iterator[Change]:
    """Take the next one of names that are unpacked together, or of a class's fields of the same type."""
    match node:
        case ast.Attribute(attr=name, ctx=ast.Load()) if name in source.fields:
            yield {_end_of(node, source): source.fields[name]}
        case ast.Name(id=name, ctx=ast.Load()):
            for scope in source.ancestors(node):
                if isinstance(scope, ast.FunctionDef):
                    together = _unpacked_in(scope)
                    if name in together:
                        yield {source.span(node): together[name]}
                        return


def _unpacked_in(scope: ast.FunctionDef) -> dict[str, str]:
    together: dict[str, str] = {}
    for statement in scope.body:
        match statement:
            case ast.Assign(targets=[ast.Tuple(elts=elts)]):
                together |= _circle([each.id for each in elts if isinstance(each, ast.Name)])
    return together


# What is left out


@operator("statement")
def _statement(node: ast.AST, source: Source) -> Iterator[Change]:
    if isinstance(node, (ast.Raise, ast.AugAssign)) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)):
        yield {source.span(node): "pass"}


@operator("return")
def _return(node: ast.AST, source: Source) -> Iterator[Change]:
    match node:
        case ast.Return(value=ast.expr() as value):
            function = next(each for each in source.ancestors(node) if isinstance(each, ast.FunctionDef))
            if function.returns is not None and "None" in ast.unparse(function.returns):
                yield {source.span(value): "None"}


def _dropped(kind: str) -> Operator:
    def change(node: ast.AST, source: Source) -> Iterator[Change]:
        if isinstance(node, ast.keyword) and _kind(node) == kind:
            yield {source.with_comma(node): ""}

    return change


def _kind(node: ast.keyword) -> str:
    what = node.arg or ast.unparse(node.value)
    return next((kind for kind in ("dtype", "device") if what.startswith(kind)), "keyword")


@operator("dtype")
def _dtype(node: ast.AST, source: Source) -> Iterator[Change]:
    yield from _dropped("dtype")(node, source)
    match node:
        case ast.Attribute(attr="int32"):
            yield {_end_of(node, source): "int8"}


OPERATORS |= {kind: _dropped(kind) for kind in ("device", "keyword")}
