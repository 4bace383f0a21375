"""Small changes that a good test suite notices: each one turns the source of a module into a
mutant.

Not mutated: annotations, docstrings, and the wording of messages for people, which says nothing
    about safety.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from typing import NamedTuple

_COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
}
_SWAPPED_FUNCTIONS = {"min": "max", "max": "min", "any": "all", "all": "any"}
_SWAPPED_METHODS = {
    "startswith": "endswith",
    "endswith": "startswith",
    "partition": "rpartition",
    "rpartition": "partition",
}
_DROPPED_METHODS = {
    "lower",
    "upper",
    "strip",
    "lstrip",
    "rstrip",
    "removeprefix",
    "removesuffix",
    "translate",
}
# Their text is for people; everything else about them (whether they are raised, where, which) is
# mutated.
_MESSAGES = {
    "ConfigurationError",
    "UnusableKey",
    "JSONDecodeError",
    "Error",
    "TypeError",
    "RuntimeError",
    "FetchFailed",
}
_NOT_CALLED_FOR_EFFECT = {"TypeVar", "getLogger", "cast"}


class Mutant(NamedTuple):
    """One change of one module."""

    module: str
    number: int
    line: int
    place: str
    around: range
    original: str
    replacement: str
    source: str

    @property
    def key(self) -> str:
        """The mutant's name: it survives edits elsewhere in the module."""
        return f"`{self.module}.{self.place}`: `{self.original}` → `{self.replacement}`"


class _Change(NamedTuple):
    node: ast.AST
    replacement: str
    place: str
    around: range  # the lines of the function, or of the module


def mutants_of(module: str, source: str) -> list[Mutant]:
    """Return every mutant of a module, in the order of the source."""
    text = source.encode()
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    unmutated = ast.dump(ast.parse(source))
    mutants: list[Mutant] = []
    seen: dict[str, int] = {}
    changes = sorted(
        _Walker().walk(ast.parse(source)), key=lambda each: (each.node.lineno, each.node.col_offset)
    )  # type: ignore[attr-defined]
    for node, replacement, place, around in changes:
        begin = starts[node.lineno - 1] + node.col_offset  # type: ignore[attr-defined]
        end = starts[node.end_lineno - 1] + node.end_col_offset  # type: ignore[attr-defined]
        mutated = (text[:begin] + replacement.encode() + text[end:]).decode()
        try:
            if ast.dump(ast.parse(mutated)) == unmutated:
                continue
        except SyntaxError:
            continue
        original = " ".join(ast.unparse(node).split())
        mutant = Mutant(
            module,
            len(mutants),
            node.lineno,  # type: ignore[attr-defined]
            place,
            around,
            _short(original),
            _short(replacement),
            mutated,
        )
        seen[mutant.key] = seen.get(mutant.key, 0) + 1
        if seen[mutant.key] > 1:
            mutant = mutant._replace(replacement=f"{mutant.replacement} (no. {seen[mutant.key]})")
        mutants.append(mutant)
    return mutants


def _short(text: str) -> str:
    text = text.replace("`", "'")
    return text if len(text) <= 100 else f"{text[:60]} … {text[-37:]}"


class _Walker:
    """Visits what is executed and proposes changes."""

    def __init__(self) -> None:
        self._place: list[str] = []
        self._around = [range(10**6)]

    def walk(self, node: ast.AST) -> Iterator[_Change]:
        """Yield the changes of a node and of all below it."""
        named = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        if named:
            self._place.append(node.name)  # type: ignore[attr-defined]
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            self._around.append(range(node.lineno, (node.end_lineno or node.lineno) + 1))
        for replacement in self._replacements(node):
            inner, text = replacement if isinstance(replacement, tuple) else (node, replacement)
            yield _Change(inner, text, ".".join(self._place) or "module", self._around[-1])
        for child in self._children(node):
            yield from self.walk(child)
        if named:
            self._place.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            self._around.pop()

    def _children(self, node: ast.AST) -> Iterator[ast.AST]:
        for name, value in ast.iter_fields(node):
            if name in ("annotation", "returns", "bases", "decorator_list", "format_spec"):
                continue
            for child in value if isinstance(value, list) else [value]:
                if (
                    not isinstance(child, ast.AST)
                    or _is_docstring(child)
                    or isinstance(child, ast.expr_context)
                ):
                    continue
                if (
                    isinstance(node, ast.Call)
                    and name in ("args", "keywords")
                    and _name(node.func) in _MESSAGES
                ):
                    continue
                if isinstance(node, ast.Call) and _name(node.func) in _NOT_CALLED_FOR_EFFECT:
                    continue
                if isinstance(node, ast.JoinedStr) and isinstance(child, ast.Constant):
                    # without a place of its own in Python 3.11; _replacements changes it as part of
                    # the whole
                    continue
                if (
                    isinstance(node, ast.If)
                    and _name(node.test) == "TYPE_CHECKING"
                    and name == "body"
                ):
                    continue
                if isinstance(child, ast.Assign) and _name(child.targets[0]) == "__slots__":
                    continue
                if isinstance(child, ast.Import | ast.ImportFrom) or _is_type_alias(child):
                    continue
                yield child

    def _replacements(self, node: ast.AST) -> Iterator[str | tuple[ast.AST, str]]:
        match node:
            case ast.Compare():
                for position, operator in enumerate(node.ops):
                    for other in _COMPARISONS[type(operator)]:
                        changed = copy.deepcopy(node)
                        changed.ops[position] = other()
                        yield _text(changed)
            case ast.BoolOp():
                changed = copy.deepcopy(node)
                changed.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
                yield _text(changed)
                for position in range(len(node.values)):
                    kept = [each for number, each in enumerate(node.values) if number != position]
                    yield _text(kept[0] if len(kept) == 1 else ast.BoolOp(node.op, kept))
            case ast.UnaryOp(op=ast.Not() | ast.USub()):
                yield _text(node.operand)
            case ast.BinOp(op=ast.BitOr() | ast.BitAnd()):
                yield _text(node.left)
                yield _text(node.right)
            case ast.BinOp() if type(node.op) in _ARITHMETIC:
                yield _text(ast.BinOp(node.left, _ARITHMETIC[type(node.op)](), node.right))
            case ast.Constant():
                yield from (repr(value) for value in _other_constants(node.value))
            case ast.JoinedStr():
                for position, piece in enumerate(node.values):
                    if isinstance(piece, ast.Constant):
                        changed = copy.deepcopy(node)
                        changed.values[position] = ast.Constant(f"{piece.value}XX")
                        yield _text(changed)
            case ast.IfExp():
                yield _text(node.body)
                yield _text(node.orelse)
            case ast.If() if _name(node.test) != "TYPE_CHECKING":
                yield node.test, "False"
                yield node.test, "True"
            case ast.While():
                yield node.test, "False"
            case ast.comprehension():
                for condition in node.ifs:
                    yield condition, "True"
            case ast.Call():
                yield from self._calls(node)
            case ast.Return(value=ast.expr()) if not _is_none(node.value):
                yield "return None"
            case ast.Raise() | ast.Expr(value=ast.Call() | ast.Await()):
                yield "pass"
            case ast.Assign() | ast.AnnAssign(value=ast.expr()) if (
                not _is_none(node.value) and self._place
            ):
                yield node.value, "None"
            case ast.AugAssign():
                yield "pass"
            case ast.ExceptHandler(type=ast.Tuple()):
                for position in range(len(node.type.elts)):
                    yield (
                        node.type,
                        _text(
                            ast.Tuple(
                                [
                                    each
                                    for number, each in enumerate(node.type.elts)
                                    if number != position
                                ],
                                ast.Load(),
                            )
                        ),
                    )
            case ast.ExceptHandler(type=ast.expr()):
                yield node.type, "()"
            case ast.Break():
                yield "continue"
            case ast.Continue():
                yield "break"

    def _calls(self, node: ast.Call) -> Iterator[str]:
        name = _name(node.func)
        if isinstance(node.func, ast.Name) and name in _SWAPPED_FUNCTIONS:
            yield _text(
                ast.Call(ast.Name(_SWAPPED_FUNCTIONS[name], ast.Load()), node.args, node.keywords)
            )
        if isinstance(node.func, ast.Attribute):
            if name in _SWAPPED_METHODS:
                swapped = ast.Attribute(node.func.value, _SWAPPED_METHODS[name], ast.Load())
                yield _text(ast.Call(swapped, node.args, node.keywords))
            if name in _DROPPED_METHODS:
                yield _text(node.func.value)
            if name == "get" and len(node.args) == 2:
                yield _text(ast.Call(node.func, node.args[:1], node.keywords))
        if name not in _MESSAGES and name not in _NOT_CALLED_FOR_EFFECT:
            for position in range(len(node.keywords)):
                kept = [each for number, each in enumerate(node.keywords) if number != position]
                yield _text(ast.Call(node.func, node.args, kept))


def _other_constants(value: object) -> Iterator[object]:
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int | float):
        yield value + 1
        yield value - 1
    elif isinstance(value, str | bytes):
        # Shorter, not longer: in a set of characters one more that is there already would change
        # nothing.
        yield value[:-1] if value else b"X" if isinstance(value, bytes) else "X"


def _text(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).splitlines())
    return (
        text
        if isinstance(node, ast.Name | ast.Constant | ast.Attribute | ast.Call)
        else f"({text})"
    )


def _name(node: ast.AST) -> str:
    return (
        node.attr
        if isinstance(node, ast.Attribute)
        else node.id
        if isinstance(node, ast.Name)
        else ""
    )


def _is_none(node: ast.AST | None) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _is_type_alias(node: ast.AST) -> bool:
    if isinstance(node, ast.AnnAssign):
        return _name(node.annotation) == "TypeAlias"
    return (
        isinstance(node, ast.Assign)
        and isinstance(node.value, ast.BinOp)
        and isinstance(node.value.op, ast.BitOr)
    )


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
