"""The package's sentences are plain English: docstrings, comments, messages and page texts."""

from __future__ import annotations

import ast
import functools
import io
import re
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.rows import rows

PACKAGE = Path(__file__).parent.parent / "asgi_mcp_auth"
SOURCES = {str(path.relative_to(PACKAGE)): path.read_text() for path in PACKAGE.rglob("*.py")}

# Words of a translation, each with the word an engineer would write.
INSTEAD = {
    "anew": "again, or force_login",
    "anybody": "any client, any user, anyone",
    "aught": "anything",
    "everybody": "all users, all clients",
    "nobody": "no client, no user, unknown",
    "shall": "must, will or should",
    "somebody": "a user, a client, another process",
    "thereof": "of it",
    "whatsoever": "at all",
    "whoever": "a client that, anyone who",
    "whomever": "the user that",
}
STIFF = re.compile(rf"(?<![A-Za-z])({'|'.join(INSTEAD)})(?![A-Za-z])", re.IGNORECASE)
# "What it may be addressed to" is the audience: a noun says it.
CLAUSE = re.compile(r"(?<![A-Za-z])what(?![A-Za-z])", re.IGNORECASE)
CLAUSES_PER_1000_WORDS = 2.0


@functools.cache
def prose(source: str) -> tuple[tuple[int, str], ...]:
    """Return the line and the text of each comment and each string that has a space in it."""
    return tuple(_prose(source))


def _prose(source: str) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.lineno, node.value


@pytest.mark.parametrize("module", sorted(SOURCES))
def test_no_sentence_reads_like_a_translation(module: str) -> None:
    found = {
        f"{module}:{line}: {match[0]} ({INSTEAD[match[0].lower()]})"
        for line, text in prose(SOURCES[module])
        for match in STIFF.finditer(text)
    }
    assert sorted(found) == []


@rows("module", sorted(SOURCES))
def test_no_name_reads_like_a_translation(module: str) -> None:
    names = {
        getattr(node, "name", None) or getattr(node, "id", None) or getattr(node, "attr", None)
        for node in ast.walk(ast.parse(SOURCES[module]))
    }
    words = {word for name in names if isinstance(name, str) for word in name.lower().split("_")}
    assert words & INSTEAD.keys() == set()


def test_nouns_stand_where_nouns_exist() -> None:
    texts = [text for source in SOURCES.values() for _, text in prose(source)]
    words = sum(len(text.split()) for text in texts)
    clauses = Counter(
        module
        for module, source in SOURCES.items()
        for _, text in prose(source)
        for _ in CLAUSE.finditer(text)
    )
    assert 1000 * clauses.total() / words <= CLAUSES_PER_1000_WORDS, clauses.most_common(10)
