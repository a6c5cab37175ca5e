"""
Mutants: copies of a source file with one small change each.

A change is made in the text, where a node of the syntax tree stands, so that the rest of the file stays as it is. What
does not compute is left alone: docstrings, messages, annotations, decorators, imports.
"""

import ast
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias

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
        For fields of classes, others that could be taken for them: what `fields_of_classes` returns.
    """

    file: str
    source: str
    fields: Mapping[str, str]

    @cached_property
    def tree(self) -> ast.Module:
        """The syntax tree."""
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

    def parent(self, node: ast.AST) -> ast.AST | None:
        """Return what a node stands in, or None for the whole."""
        return self._parents.get(node)

    def span(self, node: ast.AST) -> Span:
        """Return where a node stands."""
        place: Any = node  # not every kind of node has one
        begin, end = self._starts[place.lineno - 1], self._starts[place.end_lineno - 1]
        return begin + place.col_offset, end + place.end_col_offset

    def text(self, node: ast.AST) -> str:
        """Return a node's text, in parentheses where it could fall apart in another place."""
        start, stop = self.span(node)
        text = self._bytes[start:stop].decode()
        holds = (ast.Name, ast.Constant, ast.Call, ast.Attribute, ast.Subscript, ast.Slice, ast.Starred)
        return text if isinstance(node, holds) else f"({text})"

    def symbol(self, left: ast.AST, right: ast.AST, symbol: str) -> Span:
        """Return where the symbol between two operands stands."""
        start = self._bytes.index(symbol.encode(), self.span(left)[1], self.span(right)[0])
        return start, start + len(symbol)

    def attribute(self, node: ast.Attribute) -> Span:
        """Return where the name behind the last dot stands."""
        stop = self.span(node)[1]
        return stop - len(node.attr), stop

    def argument(self, node: ast.AST) -> Span:
        """Return where an argument stands with the comma behind it, if there is one."""
        start, stop = self.span(node)
        behind = self._bytes[stop:].lstrip()
        return start, len(self._bytes) - len(behind) + 1 if behind.startswith(b",") else stop

    def mutant(self, operator: str, change: Change) -> Mutant:
        """Return the file with a change."""
        first = self._bytes.rfind(b"\n", 0, min(change)[0]) + 1
        last = (self._bytes + b"\n").index(b"\n", max(change)[1])
        changed = self._changed(first, last, change)
        before, after = (" ".join(lines.decode().split()) for lines in (self._bytes[first:last], changed))
        source = (self._bytes[:first] + changed + self._bytes[last:]).decode()
        return Mutant(self.file, self._bytes.count(b"\n", 0, first) + 1, operator, before, after, source)

    def changed(self, statement: ast.stmt, change: Change) -> str:
        """Return a statement of the module with a change within it."""
        decorators = getattr(statement, "decorator_list", [])
        first = self._starts[min(node.lineno for node in (statement, *decorators)) - 1]
        return self._changed(first, self.span(statement)[1], change).decode()

    def _changed(self, first: int, last: int, change: Change) -> bytes:
        text, at = b"", first
        for start, stop in sorted(change):
            text += self._bytes[at:start] + change[start, stop].encode()
            at = stop
        return text + self._bytes[at:last]


Operator: TypeAlias = Callable[[ast.AST, Source], Iterator[Change]]


def generate(source: Source, operators: Mapping[str, Operator]) -> Iterator[Mutant]:
    """
    Yield the mutants of a file, no two the same.

    Parameters
    ----------
    source : Source
        The file.
    operators : mapping
        By name: functions that yield the changes they make at one node.

    Yields
    ------
    Mutant
        Its source parses, to another tree than that of the file.
    """
    for statement in source.tree.body:
        seen = {ast.dump(statement)}
        for node in computing(statement):
            for name, operator in operators.items():
                for change in operator(node, source):
                    # Of the whole file that would take most of the time.
                    tree = ast.dump(ast.parse(source.changed(statement, change)).body[0])
                    if tree not in seen:
                        seen.add(tree)
                        yield source.mutant(name, change)


def computing(node: ast.AST) -> Iterator[ast.AST]:
    """
    Yield the nodes that compute, each before those within it.

    Parameters
    ----------
    node : ast.AST
        A tree.

    Yields
    ------
    ast.AST
        A node.
    """
    match node:
        case ast.Import() | ast.ImportFrom() | ast.JoinedStr() | ast.Expr(value=ast.Constant()):
            return
        case ast.Assign(targets=[ast.Name(id="msg" | "__all__")]) | ast.AnnAssign(annotation=ast.Name(id="TypeAlias")):
            return
        case ast.keyword(arg="strict"):  # an assertion
            return
        case ast.Raise():  # what it says is a message
            yield node
            return
    yield node
    for field, value in ast.iter_fields(node):
        if field not in ("annotation", "returns", "decorator_list", "bases"):
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from computing(child)


def fields_of_classes(trees: Iterable[ast.Module]) -> dict[str, str]:
    """
    Return, for each field of the classes in some trees, the next one of the same class and type, in a circle.

    Parameters
    ----------
    trees : iterable of ast.Module
        The trees.

    Returns
    -------
    dict
        From name to name.
    """
    following: dict[str, str] = {}
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.ClassDef):
            by_type: dict[str, list[str]] = {}
            for each in node.body:
                if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name):
                    by_type.setdefault(ast.unparse(each.annotation), []).append(each.target.id)
            for names in by_type.values():
                following = circle(names) | following
    return following


def circle(names: list[str]) -> dict[str, str]:
    """
    Return what follows on each name, the first on the last; nothing follows on a name that is alone.

    Parameters
    ----------
    names : list of str
        The names.

    Returns
    -------
    dict
        From name to name.
    """
    return dict(zip(names, [*names[1:], *names[:1]], strict=True)) if len(names) > 1 else {}
