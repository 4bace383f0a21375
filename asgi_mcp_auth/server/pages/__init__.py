"""What people see: plain HTML forms, no script, nothing loaded from elsewhere.

Each page is a value; ``Pages`` turns it into HTML, or a function of the operator's does.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias, get_args

from ...errors import ConfigurationError
from ..web import NO_STORE, Response
from . import html
from .models import ApplicationsPage, ConsentPage, LoginPage, MessagePage, Page

PageName: TypeAlias = Literal["login", "consent", "applications", "error"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pages:
    """How the pages look.

    Args:
        title: the name of your service; by default the host of ``base_url``.
        logo: an image as a ``data:`` URI; nothing is loaded from elsewhere.
        colour: of buttons, ``#rrggbb``; the text on them is white or black, whichever can be read.
        scope_descriptions: scopes in words.
        render: functions that return the HTML of a whole page, for ``login``, ``consent``,
            ``applications`` or ``error``. They get the page as a value, and must escape what they
            insert.

    Raises:
        ConfigurationError: a setting is wrong.
    """

    title: str = ""
    logo: str | None = None
    colour: str = "#1d4ed8"
    scope_descriptions: Mapping[str, str] = field(default_factory=dict[str, str])
    render: Mapping[PageName, Callable[[Any], str]] = field(
        default_factory=dict[PageName, Callable[[Any], str]]
    )

    def __post_init__(self) -> None:
        colour, logo, title = (str(each) for each in (self.colour, self.logo, self.title))
        if title != self.title:
            raise ConfigurationError(f"title={self.title!r} must be a str")
        if not re.fullmatch(r"#[0-9a-fA-F]{6}", colour):
            raise ConfigurationError(f"colour={self.colour!r} must be written as #rrggbb")
        if self.logo is not None and not re.fullmatch(
            r"data:image/(?:png|jpeg|webp|gif|svg\+xml);base64,[A-Za-z0-9+/=]+", logo
        ):
            raise ConfigurationError(
                "logo must be a data: URI of an image, like 'data:image/png;base64,…'"
            )
        for setting, value, example in (
            ("scope_descriptions", self.scope_descriptions, "{'notes:read': 'Read your notes'}"),
            ("render", self.render, "{'error': error_page}"),
        ):
            mapping: object = value
            if not isinstance(mapping, Mapping) or not all(
                isinstance(each, str) or callable(each) for each in value.values()
            ):
                raise ConfigurationError(f"{setting} must be a dict, like {example}")
        for name, function in self.render.items():
            if name not in get_args(PageName) or not callable(function):
                raise ConfigurationError(
                    f"render has {name!r}: give functions for {', '.join(get_args(PageName))}"
                )

    def response(
        self, page: Page, status: int = 200, headers: Sequence[tuple[bytes, bytes]] = ()
    ) -> Response:
        """Return the page as a response."""
        nonce = secrets.token_urlsafe(16)
        name, built_in = _RENDERERS[type(page)]
        complete = replace(page, title=self.title, nonce=nonce)
        custom = self.render.get(name)
        text = built_in(complete, self.logo, self.colour) if custom is None else custom(complete)
        # No form-action: browsers apply it to the redirect that follows a form, and that one leads
        # to the client.
        policy = (
            f"default-src 'none'; style-src 'nonce-{nonce}'; img-src data:; base-uri 'none';"
            " frame-ancestors 'none'"
        )
        sent = [
            (b"content-type", b"text/html; charset=utf-8"),
            *NO_STORE,
            (b"content-security-policy", policy.encode("ascii")),
            (b"x-frame-options", b"DENY"),
            (b"x-content-type-options", b"nosniff"),
            (b"referrer-policy", b"no-referrer"),
            *headers,
        ]
        return Response(status, sent, text.encode("utf-8", "replace"))

    def describe(self, scopes: Sequence[str]) -> list[tuple[str, str]]:
        """Return each scope with its description."""
        return [
            (scope, self.scope_descriptions.get(scope) or _USUAL.get(scope) or scope)
            for scope in scopes
        ]


_USUAL = {"offline_access": "Keep access while you are away"}
_RENDERERS: Mapping[type[Page], tuple[PageName, Callable[[Any, str | None, str], str]]] = {
    LoginPage: ("login", html.login),
    ConsentPage: ("consent", html.consent),
    ApplicationsPage: ("applications", html.applications),
    MessagePage: ("error", html.error),
}
