"""Write the tests of each row into requirements.md and security-cases.md; a test compares them.

python -m docs.generate_catalogue

The tests are found by their markers, ``case`` and ``rule``. A row without one keeps its remark.
"""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path
from typing import NamedTuple

DOCS = Path(__file__).parent
TESTS = DOCS.parent / "tests"
PAGES = {"case": DOCS / "security-cases.md", "rule": DOCS / "requirements.md"}

ROW = re.compile(r"\| (?P<id>(?:RS|AS|PX|EXT)-\d{2}|[VWKZPS]\d{2,3}) \|.* \| (?P<last>.*?) ?\|")
LINK = re.compile(r"\[[^]]*\]\(\.\./tests/")
NO_TEST = "no test yet"


class Mark(NamedTuple):
    """An id in a marker of a test module."""

    kind: str
    id: str
    module: Path


@functools.cache
def marks() -> tuple[Mark, ...]:
    """Return the ids of all markers, module by module."""
    found: list[Mark] = []
    for module in sorted(TESTS.rglob("test_*.py")):
        if "node_modules" in module.parts:
            continue
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(
                    func=ast.Attribute(value=ast.Attribute(attr="mark"), attr=kind), args=ids
                ) if kind in PAGES:
                    found += [Mark(kind, ast.literal_eval(each), module) for each in ids]
                case _:
                    pass
    return tuple(found)


def rows(page: Path) -> dict[str, str]:
    """Return the last cell of each row, by id."""
    lines = page.read_text(encoding="utf-8").splitlines()
    return {row["id"]: row["last"] for line in lines if (row := ROW.fullmatch(line))}


def page(kind: str) -> str:
    """Return the page with the tests of each row in its last cell."""
    modules: dict[str, dict[Path, None]] = {}
    for mark in marks():
        if mark.kind == kind:
            modules.setdefault(mark.id, {})[mark.module] = None
    lines = PAGES[kind].read_text(encoding="utf-8").splitlines()
    return "".join(f"{_filled(line, modules)}\n" for line in lines)


def _filled(line: str, modules: dict[str, dict[Path, None]]) -> str:
    row = ROW.fullmatch(line)
    if row is None:
        return line
    if row["id"] in modules:
        last = ", ".join(_link(module) for module in modules[row["id"]])
    elif LINK.match(row["last"]) or not row["last"]:
        last = NO_TEST
    else:
        last = row["last"]
    return f"{line[: row.start('last')]}{last} |"


def _link(module: Path) -> str:
    place = module.relative_to(TESTS).as_posix()
    return f"[{place.removesuffix('.py')}](../tests/{place})"


if __name__ == "__main__":
    for kind, path in PAGES.items():
        path.write_text(page(kind), encoding="utf-8")
        print(f"Wrote {path}")
