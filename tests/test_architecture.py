"""What keeps the package's shape: import directions, sizes, forbidden statements, the tree of
errors.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import asgi_mcp_auth
from asgi_mcp_auth import errors
from tests.support.rows import rows

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "asgi_mcp_auth"
MODULES = {
    str(path.relative_to(PACKAGE)): path.read_text() for path in sorted(PACKAGE.rglob("*.py"))
}
TREES = {name: ast.parse(text) for name, text in MODULES.items()}

# Data is exempt from the budget of lines; what a module of data is, two tests below say.
CATALOG = [
    name for name in MODULES if name.startswith("presets/catalog/") and "__init__" not in name
]
TREE_OF_ERRORS = "errors.py"

LINES_PER_MODULE = 400
LINES_PER_CLASS = 250
LINES_PER_FUNCTION = 60
PARAMETERS_PER_CONSTRUCTOR = 13

DOOR_ONLY = {"starlette", "fastapi", "mcp", "fastmcp", "pydantic"}


def nodes(*kinds: type[ast.AST]) -> Iterator[tuple[str, ast.AST]]:
    """Yield each node of these kinds with ``module.py:line``."""
    for name, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, kinds):
                yield f"{name}:{getattr(node, 'lineno', 0)}", node


def names_in(node: ast.expr | None) -> set[str]:
    """Return the last names of an expression that is a name, an attribute, a call or a tuple of
    them.
    """
    if node is None:
        return set()
    if isinstance(node, ast.Tuple):
        return set().union(*map(names_in, node.elts))
    if isinstance(node, ast.Call):
        return names_in(node.func)
    return (
        {node.attr}
        if isinstance(node, ast.Attribute)
        else {node.id}
        if isinstance(node, ast.Name)
        else set()
    )


def lint_imports(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run import-linter's command, as ``make lint`` does."""
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_imports_keep_the_contracts_of_pyproject() -> None:
    result = lint_imports()
    assert result.returncode == 0, result.stdout + result.stderr


def test_imports_for_typing_only_keep_the_layers_too(tmp_path: Path) -> None:
    """The doors to libraries open for annotations; the layers do not."""
    text = (ROOT / "pyproject.toml").read_text()
    strict = text.replace(
        "exclude_type_checking_imports = true", "exclude_type_checking_imports = false"
    )
    assert strict != text
    config = tmp_path / "pyproject.toml"
    config.write_text(strict)
    result = lint_imports("--config", str(config), "--contract", "layers")
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_library_in_the_core_dependencies_has_one_door() -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())
    declared = {re.split(r"[\[<>=,]", line)[0] for line in config["project"]["dependencies"]}
    assert declared == {"asgiref", "python-jose", "cryptography", "httpx", "cachetools"}
    guarded = {
        name
        for rule in config["tool"]["importlinter"]["contracts"]
        for name in rule.get("forbidden_modules", ())
    }
    assert {"jose", "httpx", "cachetools"} <= guarded


def test_other_frameworks_are_imported_inside_functions_only() -> None:
    at_import_time = []
    for name, tree in TREES.items():
        todo: list[ast.AST] = list(tree.body)
        while todo:
            node = todo.pop()
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            if isinstance(node, ast.If) and "TYPE_CHECKING" in names_in(node.test):
                todo += node.orelse
                continue
            if isinstance(node, ast.Import):
                imported = {alias.name for alias in node.names}
            else:
                imported = (
                    {node.module or ""}
                    if isinstance(node, ast.ImportFrom) and not node.level
                    else set()
                )
            if {module.partition(".")[0] for module in imported} & DOOR_ONLY:
                at_import_time.append(f"{name}:{getattr(node, 'lineno', 0)}")
            todo += ast.iter_child_nodes(node)
    assert at_import_time == []


@rows("module", sorted(MODULES.keys() - {*CATALOG, TREE_OF_ERRORS}))
def test_a_module_stays_within_its_lines(module: str) -> None:
    assert len(MODULES[module].splitlines()) <= LINES_PER_MODULE


@rows("module", CATALOG)
def test_a_module_of_the_catalog_is_a_docstring_imports_and_values(module: str) -> None:
    docstring, *rest = TREES[module].body
    assert isinstance(docstring, ast.Expr)
    assert all(isinstance(each, ast.ImportFrom | ast.AnnAssign) for each in rest)


def test_the_tree_of_errors_is_classes_with_constructors_and_nothing_else() -> None:
    docstring, *rest = TREES[TREE_OF_ERRORS].body
    assert isinstance(docstring, ast.Expr)
    classes = [each for each in rest if isinstance(each, ast.ClassDef)]
    others = [each for each in rest if not isinstance(each, ast.ClassDef | ast.ImportFrom)]
    assert others == []
    methods = {
        member.name
        for each in classes
        for member in each.body
        if isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert methods == {"__init__"}


@pytest.mark.parametrize(
    ("kinds", "budget"),
    [
        ((ast.FunctionDef, ast.AsyncFunctionDef), LINES_PER_FUNCTION),
        ((ast.ClassDef,), LINES_PER_CLASS),
    ],
    ids=["functions", "classes"],
)
def test_definitions_stay_within_their_lines(kinds: tuple[type[ast.AST], ...], budget: int) -> None:
    long = {
        f"{where} {node.name}": lines
        for where, node in nodes(*kinds)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        and (lines := (node.end_lineno or 0) - node.lineno + 1) > budget
    }
    assert long == {}


def parameters_of(node: ast.ClassDef) -> int:
    """Return how many parameters the constructor written in this class has: ``__init__``'s, or a
    dataclass's fields.
    """
    for member in node.body:
        if isinstance(member, ast.FunctionDef) and member.name == "__init__":
            arguments = member.args
            return len([*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]) - 1
    if not any("dataclass" in names_in(decorator) for decorator in node.decorator_list):
        return 0
    fields = [member for member in node.body if isinstance(member, ast.AnnAssign)]
    return sum("ClassVar" not in ast.unparse(member.annotation) for member in fields)


def test_constructors_stay_within_their_parameters() -> None:
    wide = {
        f"{where} {node.name}": parameters_of(node)
        for where, node in nodes(ast.ClassDef)
        if isinstance(node, ast.ClassDef) and parameters_of(node) > PARAMETERS_PER_CONSTRUCTOR
    }
    assert wide == {}


def test_nothing_is_asserted_at_run_time() -> None:
    """``python -O`` removes assertions: what must hold is checked and raised."""
    assert [where for where, _ in nodes(ast.Assert)] == []


def test_every_except_names_what_it_expects_or_raises_again() -> None:
    """What a foreign app raises cannot be named; such a handler has to let go of what it did not
    mean.
    """
    blanket = [
        where
        for where, node in nodes(ast.ExceptHandler)
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or names_in(node.type) & {"Exception", "BaseException"})
        and not any(isinstance(inner, ast.Raise) and inner.exc is None for inner in ast.walk(node))
    ]
    assert blanket == []


def test_no_error_without_a_class_of_ours_is_raised() -> None:
    bare = [
        where
        for where, node in nodes(ast.Raise)
        if isinstance(node, ast.Raise)
        and names_in(node.exc) & {"ValueError", "Exception", "BaseException", "JOSEError"}
    ]
    assert bare == []


def test_every_exemption_carries_its_reason() -> None:
    """Type-ignores and noqas name a code; these, and ``no cover``, say why."""
    exemption = re.compile(r"#\s*(type: ignore|pyright: ignore|noqa|pragma: no cover)(.*)")
    complete = {
        "type: ignore": re.compile(r"\[[\w, -]+\]\W+\w{3,}.*"),
        "pyright: ignore": re.compile(r"\[[\w, -]+\]\W+\w{3,}.*"),
        "noqa": re.compile(r": ?[A-Z]+\d+(, ?[A-Z]+\d+)*\W+\w{2,}.*"),
        "pragma: no cover": re.compile(r"\W+\w{3,}.*"),
    }
    unexplained = [
        f"{name}:{number}"
        for name, text in MODULES.items()
        for number, line in enumerate(text.splitlines(), 1)
        for kind, rest in exemption.findall(line)
        if not complete[kind].fullmatch(rest)
    ]
    assert unexplained == []


def test_every_error_has_its_line_in_the_tree() -> None:
    for module in pkgutil.walk_packages(asgi_mcp_auth.__path__, "asgi_mcp_auth."):
        if not module.name.endswith(("__main__", ".page_values")):  # the latter only warns
            importlib.import_module(module.name)
    tree = (errors.__doc__ or "").splitlines()
    found: list[type[errors.AuthError]] = [errors.AuthError]
    for kind in found:
        found += kind.__subclasses__()
    ours = {kind for kind in found if kind.__module__.startswith("asgi_mcp_auth")}
    assert errors.InvalidToken in ours
    for kind in ours:
        assert kind.__module__ == "asgi_mcp_auth.errors", f"{kind.__name__} lives outside errors.py"
        line = [line for line in tree if re.search(rf"\b{kind.__name__}\b", line.partition("(")[0])]
        assert len(line) == 1, f"{kind.__name__} needs one line in the tree"
        for told in (getattr(kind, "status", None), getattr(kind, "error", None)):
            assert told is None or str(told) in line[0], (
                f"{kind.__name__}'s line does not say {told}"
            )
