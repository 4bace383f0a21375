"""Compares the names and URIs in MCP messages with the patterns of rules. Pure.

A URI has several spellings (RFC 3986 §6.2.2), and servers normalise some of them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import TypeAlias
from urllib.parse import unquote

Matches: TypeAlias = "Callable[[str], re.Match[str] | None]"

VARIABLE = re.compile(r"\{([A-Za-z0-9_]+)\}")
_MAX_URI = 8192  # normalising takes quadratic time
_AMBIGUOUS = re.compile(
    r"[\x00-\x20\x7f\\]|%(?:2f|5c|2e|25|0[0-9a-f]|1[0-9a-f])|/\.{1,2}(?:[/?#]|$)", re.IGNORECASE
)
# Parsers of web URLs repair them, and leave defaults out (WHATWG URL §4.4): of these
# schemes, only a URL with a plain host in its usual place has one reading.
_WEB = re.compile(r"(?:https?|wss?|ftp|file):", re.IGNORECASE)
_NAME = r"(?!.*xn--)(?:[a-z0-9_-]+\.)*[a-z][a-z0-9_-]*"
_QUAD = r"(?:(?:0|[1-9]\d{0,2})\.){3}(?:0|[1-9]\d{0,2})"
_PLAIN_WEB = re.compile(
    rf"(?:(?:https?|wss?|ftp)://(?:{_NAME}|{_QUAD})(?::(?!(?:80|443|21)\b)\d+)?|file://)(?=/|\Z)",
    re.IGNORECASE,
)

# More likely in a path, a list or a regular expression than in the name of a tool.
_ODD = re.compile(r"\A/|[\^$|\\\[\]?,{}]")


def is_odd_name(name: str) -> bool:
    """Return whether the name of a tool may be meant otherwise."""
    return _ODD.search(name) is not None


def matcher(literals: Sequence[str], character: str, quantity: str = "*") -> Matches:
    """Return a pattern of these literals, with characters of a class between them.

    The first place where a literal fits is as good as any later one, so nothing is tried twice.
    """
    escaped = [*map(re.escape, literals)]
    if len(escaped) == 1:
        return re.compile(escaped[0]).fullmatch
    first, *middle, last = escaped
    steps = "".join(f"(?>({character}{quantity}?){literal})" for literal in middle)
    return re.compile(f"{first}{steps}({character}{quantity}){last}", re.DOTALL).fullmatch


def is_ambiguous_uri(uri: str) -> bool:
    """Return whether two parties may take a URI for different ones."""
    if len(uri) > _MAX_URI or _AMBIGUOUS.search(uri) is not None:
        return True
    return _WEB.match(uri) is not None and _PLAIN_WEB.match(uri) is None


def fold_uri(uri: str) -> str:
    """Return ``uri`` without differences that servers may ignore."""
    text = unquote(uri)
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return text.casefold().rstrip("/")


def variables_of(template: str, uri: str) -> dict[str, str]:
    """Return the decoded values of a template's variables; empty if the spelling differs."""
    literals, names = VARIABLE.split(template)[::2], VARIABLE.findall(template)
    match = matcher(literals, ".", "+")(uri)
    values = () if match is None else match.groups()
    return dict(zip(names, map(unquote, values), strict=False))
