"""docs/requirements.md and docs/security-cases.md: each id has a row, each row its tests."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from docs.generate_catalogue import NO_TEST, PAGES, marks, page, rows
from tests.examples.pages import ROOT

REMARKS = (NO_TEST, "not built", "not applicable")

# P10 to P13 are also rows of docs/performance.md, which numbers its goals. In a comment S105 is a
# rule of ruff's.
ID = re.compile(r"(?<![\w#-])(?:(?:RS|AS|PX|EXT)-\d\d|[VWKPS]\d\d|Z\d{2,3})(?!\w)")
PLACES = ("asgi_mcp_auth", "tests", "docs", "examples", "fuzz", "findings")


def cited() -> Iterator[tuple[str, str]]:
    """Yield each place where an id is cited, with the id."""
    folders = [path for place in PLACES for path in (ROOT / place).rglob("*.*")]
    for path in [*folders, *ROOT.glob("*.md")]:
        if path.suffix not in (".py", ".md") or "node_modules" in path.parts:
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            for each in ID.findall(line.partition("# noqa")[0]):
                yield f"{path.relative_to(ROOT)}:{number}", each


@pytest.mark.parametrize("kind", PAGES)
def test_the_page_has_the_tests_of_the_markers(kind: str) -> None:
    """``python -m docs.generate_catalogue`` writes them."""
    assert PAGES[kind].read_text(encoding="utf-8") == page(kind)


@pytest.mark.parametrize("kind", PAGES)
def test_the_id_of_a_marker_has_a_row(kind: str) -> None:
    assert {mark.id for mark in marks() if mark.kind == kind} <= rows(PAGES[kind]).keys()


@pytest.mark.parametrize("kind", PAGES)
def test_a_row_without_a_test_says_why(kind: str) -> None:
    tested = {mark.id for mark in marks() if mark.kind == kind}
    remarks = {key: last for key, last in rows(PAGES[kind]).items() if key not in tested}
    assert [key for key, remark in remarks.items() if not remark.startswith(REMARKS)] == []


def test_an_id_is_in_one_row() -> None:
    lines = [line for path in PAGES.values() for line in path.read_text("utf-8").splitlines()]
    ids = [match[1] for line in lines if (match := re.match(r"\| ([A-Z]+-?\d+) \|", line))]
    assert len(ids) == len(set(ids))
    assert set(ids) == {key for path in PAGES.values() for key in rows(path)}


def test_every_id_that_is_cited_has_a_row() -> None:
    known = {key for path in PAGES.values() for key in rows(path)}
    assert [(place, each) for place, each in cited() if each not in known] == []
