"""Makes untrusted text safe to display on a page. Pure."""

from __future__ import annotations

import unicodedata
from html import escape

MAX_TEXT_CHARS = 128
MAX_NAME_CHARS = 64  # enough for a name, too short for a message
MAX_HOST_CHARS = 260  # a name of 253 and a port
MAX_MARKS = 2  # on one letter; more would cover the text around it

# Controls, text direction, surrogates, private use and unassigned; and enclosing marks, which can
# reach over their neighbours.
_INVISIBLE = frozenset(("Cc", "Cf", "Cs", "Co", "Cn", "Me"))
# Letters that are drawn as nothing: fillers, the empty Braille cell, variation selectors.
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0") | frozenset(
    map(chr, (*range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)))
)
# Only the page itself may put a name in double quotes.
_QUOTES = str.maketrans(dict.fromkeys('"“”„‟«»″〃〝〞〟\uff02', "'"))


def escape_text(text: str, max_chars: int = MAX_TEXT_CHARS) -> str:
    """Return untrusted text as HTML: escaped, single-line, truncated, without invisible
    characters.
    """
    visible = "".join(
        " " if char.isspace() else char
        for char in text[: 8 * MAX_TEXT_CHARS]
        if char.isspace() or (unicodedata.category(char) not in _INVISIBLE and char not in _BLANK)
    )
    kept: list[str] = []
    marks = 0
    # Normalized last, when nothing stands between a letter and its marks any more.
    for char in unicodedata.normalize("NFC", visible):
        marks = marks + 1 if unicodedata.category(char) == "Mn" else 0
        if marks <= MAX_MARKS:
            kept.append(char)
    plain = " ".join("".join(kept).split())
    if len(plain) > max_chars:
        plain = plain[: max_chars - 1] + "…"
    return escape(plain)


def escape_name(name: str) -> str:
    """Return the name of an application as HTML, without double quotes; it may be empty."""
    return escape_text(name.translate(_QUOTES), MAX_NAME_CHARS)


def escape_host(host: str) -> str:
    """Return a host as HTML. A long one loses its beginning: its end tells who owns it."""
    if len(host) > MAX_HOST_CHARS:
        host = "…" + host[1 - MAX_HOST_CHARS :]
    return escape(host)
