"""Answers with the pages that users see: plain HTML forms, without scripts or external resources.

Each page is a value. ``Pages`` renders it with a built-in function or with one of the operator's.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias, get_args

from ..._deprecated import renamed_fields
from ...errors import ConfigurationError
from ..web import NO_STORE, Response
from . import html
from .models import ApplicationsPage, ConsentPage, LoginPage, MessagePage, Page

PageName: TypeAlias = Literal["login", "consent", "applications", "error"]


@renamed_fields(colour="color")
@dataclass(frozen=True, slots=True, kw_only=True)
class Pages:
    """Appearance of the pages.

    Args:
        title: the name of your service; defaults to the host of ``base_url``.
        logo: an image as a ``data:`` URI; pages load nothing from other sites.
        color: of buttons, ``#rrggbb``. Their text is white or black, whichever is readable.
        scope_descriptions: scopes with the descriptions that users see.
        render: functions that return the HTML of a whole page, for ``login``, ``consent``,
            ``applications`` or ``error``. Each is called with the page as a value, and must escape
            all text that it inserts.

    Raises:
        ConfigurationError: a setting is invalid.
    """

    title: str = ""
    logo: str | None = None
    color: str = "#1d4ed8"
    scope_descriptions: Mapping[str, str] = field(default_factory=dict[str, str])
    render: Mapping[PageName, Callable[[Any], str]] = field(
        default_factory=dict[PageName, Callable[[Any], str]]
    )

    def __post_init__(self) -> None:
        if str(self.title) != self.title:
            raise ConfigurationError(f"title={self.title!r} must be a str")
        if not _COLOR.fullmatch(str(self.color)):
            raise ConfigurationError(f"color={self.color!r} must be written as #rrggbb")
        if self.logo is not None and not _LOGO.fullmatch(str(self.logo)):
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
        text = built_in(complete, self.logo, self.color) if custom is None else custom(complete)
        # No form-action: browsers apply it to the redirect after a form too, and that goes to the
        # client.
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
            (scope, self.scope_descriptions.get(scope) or _DESCRIPTIONS.get(scope) or scope)
            for scope in scopes
        ]


_COLOR = re.compile(r"#[0-9a-fA-F]{6}")
_LOGO = re.compile(r"data:image/(?:png|jpeg|webp|gif|svg\+xml);base64,[A-Za-z0-9+/=]+")
_DESCRIPTIONS = {"offline_access": "Keep access while you are away"}
_RENDERERS: Mapping[type[Page], tuple[PageName, Callable[[Any, str | None, str], str]]] = {
    LoginPage: ("login", html.login),
    ConsentPage: ("consent", html.consent),
    ApplicationsPage: ("applications", html.applications),
    MessagePage: ("error", html.message),
}
