"""What strangers wrote, on every built-in page: another HTML parser finds the same markup as around
harmless words.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from typing import Any
from unicodedata import category

from asgi_mcp_auth.server.pages import html
from asgi_mcp_auth.server.pages.escaping import MAX_TEXT_CHARS, escape_text
from asgi_mcp_auth.server.pages.models import (
    Application,
    ApplicationsPage,
    ConsentPage,
    Field,
    LoginPage,
    MessagePage,
    Page,
)
from fuzz.markup import Markup

DICTIONARY: tuple[bytes, ...] = (
    *(
        b"<",
        b">",
        b'"',
        b"'",
        b"&",
        b"&amp;",
        b"&lt;",
        b"&#60;",
        b"&#x3c",
        b"</",
        b"/>",
        b"<!--",
        b"-->",
        b"<![CDATA[",
    ),
    *(
        b"<script>",
        b"</title>",
        b"</style>",
        b"<svg onload=x>",
        b'" onfocus="',
        b"'>",
        b"</p>",
        b"<b>",
        b"<?x",
        b"]]>",
    ),
    *(
        b"\0",
        b"\n",
        b"\r",
        b"\t",
        b"\x0b",
        b"\x1f",
        b"\x7f",
        b"\xc2\x85",
        b"\xc2\xa0",
        b"\xe2\x80\xa8",
        b"\xe2\x80\xae",
    ),
    *(
        b"\xe2\x80\x9d",
        b"\xe2\x81\xa9",
        b"\xef\xbb\xbf",
        b"\xcc\x88" * 9,
        b"\xf3\xa0\x80\x81",
        b"\xed\xa0\x80",
        b"x" * 200,
    ),
)
_WORD = "word"
_NONCE = "a-nonce"


def _login(text: str) -> Page:
    field = Field(name="username", label="User name", value=text)
    return LoginPage(
        action="https://a.example/login",
        hidden={"csrf": "x"},
        fields=[field],
        error=None,
        client=text,
    )


def _failed(text: str) -> Page:
    fields = [Field(name="username", label="User name", value=text)]
    return LoginPage(
        action=f"/login?x={text}", hidden={"csrf": text}, fields=fields, error="Wrong", client=text
    )


def _consent(text: str) -> Page:
    return ConsentPage(
        action="https://a.example/consent",
        hidden={"transaction": text},
        client=text,
        is_verified=False,
        client_host=_host(text),
        redirect_host=_host(text),
        is_on_device=False,
        resource=_host(text),
        scopes=[("a", text), (text, text)],
        account=text,
        applications_url="https://a.example/applications",
    )


def _host(text: str) -> str:
    """Return what a host can be at worst."""
    return "host" + "".join(
        char for char in text if char.isascii() and char.isprintable() and char != " "
    )


def _applications(text: str) -> Page:
    application = Application(
        client_id=text, name=text, host=_host(text), scopes=[text], since="1 May 2026"
    )
    return ApplicationsPage(
        action="https://a.example/applications",
        hidden={"csrf": "x"},
        account=text,
        applications=[application, application],
        logout_action="https://a.example/logout",
        logout_hidden={"csrf": text},
    )


def _error(text: str) -> Page:
    return MessagePage(
        heading="Something went wrong",
        text="Why",
        link=(f"https://a.example/?x={text}", _host(text)),
    )


_PAGES: list[tuple[Callable[[str], Page], Callable[[Any, str | None, str], str]]] = [
    (_login, html.login),
    (_failed, html.login),
    (_consent, html.consent),
    (_applications, html.applications),
    (_error, html.message),
]


def seeds() -> list[bytes]:
    """Return inputs: a byte for the page, then the text."""
    texts = [
        *(
            b"",
            b"An application",
            b"<script>alert(1)</script>",
            b'"><img src=x onerror=x>',
            b"&lt;b&gt;",
            b"a & b",
            b"'",
        ),
        *(
            "\u202eevil\u2066\u200b".encode(),
            b" \t\r\n\0 ",
            "Zo\u00eb \U0001f600 e\u0301".encode(),
            b"\xff\xfe",
            b"x" * 600,
        ),
        *(
            b"</style><style>",
            b"<!-- ",
            b"&#0;&#x80;&nosemi",
            "\ufdfa".encode() * 200,
            b"](javascript:x)",
            b"\xe2\x80\x9c",
        ),
    ]
    return [bytes([page]) + text for page in range(len(_PAGES)) for text in texts]


def check(data: bytes) -> None:
    """Put one text wherever there is somebody else's text on a page."""
    page, text = (data[0] if data else 0) % len(_PAGES), data[1:].decode("utf-8", "replace")
    _check_escaped(text)
    harmless = _WORD if escape_text(text) else "\0" if text else ""
    _markup(page, text).check_like(_harmless(page, harmless))


@functools.cache
def _harmless(page: int, text: str) -> Markup:
    return _markup(page, text)


def _markup(page: int, text: str) -> Markup:
    make, render = _PAGES[page]
    return Markup(_render(make(text), render))


def _render(page: Page, render: Callable[[Any, str | None, str], str]) -> str:
    return render(replace(page, title="Example", nonce=_NONCE), None, "#1d4ed8")


def _check_escaped(text: str) -> None:
    """Check the promises of ``escape_text``: the same text, unless something had to go."""
    escaped = escape_text(text)
    assert not set(escaped) & set("<>\"'"), escaped
    plain = unescape(escaped)
    assert len(plain) <= MAX_TEXT_CHARS
    assert plain == plain.strip()
    assert "\n" not in plain
    for quote in ('"', "'"):
        (value,) = Markup(f"<input value={quote}{escaped}{quote}>").values or [""]
        assert value == plain
    assert escape_text(plain) == escaped, "not escaped alike"
    assert not re.search(
        "m{3}", "".join("m" if category(char) == "Mn" else "-" for char in plain)
    ), "a heap of marks"
    if text.isascii() and text.isprintable() and len(text) <= MAX_TEXT_CHARS:
        assert plain == " ".join(text.split()), "nothing had to go"
