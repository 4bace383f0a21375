"""The reference pages and the code have the same parameters and reasons."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import time
from dataclasses import fields, is_dataclass
from typing import Any, get_args

import pytest

import asgi_mcp_auth
import asgi_mcp_auth.proxy
import asgi_mcp_auth.server
from asgi_mcp_auth import RequestError
from asgi_mcp_auth.server.table import Kind
from asgi_mcp_auth.types import InvalidTokenReason, OAuthReason, Reason
from tests.examples.pages import ROOT

DOCUMENTED = (
    "MCPAuthMiddleware",
    "Rule",
    "Tool",
    "Resource",
    "Prompt",
    "Method",
    "AccessPolicy",
    "RequireScopes",
    "RemoteAuthProvider",
    "JWTVerifier",
    "JWKSOptions",
    "ClaimRules",
    "IntrospectionTokenVerifier",
    "UserinfoTokenVerifier",
    "MultiAuth",
    "StaticTokenVerifier",
    "TokenVerifier",
    "OAuthProvider",
    "PasswordLogin",
    "AppLogin",
    "DevLogin",
    "Person",
    "Lifetimes",
    "RateLimits",
    "Registration",
    "Pages",
    "ServerOptions",
    "OAuthProxy",
    "OIDCProxy",
    "UpstreamRules",
)


# These share one section.
MESSAGE_RULES = ("Tool", "Resource", "Prompt", "Method")


def documented(name: str) -> Any:
    """Return the class of a section: one of the package's, of its authorization server's, or of its
    proxy's.
    """
    places = (asgi_mcp_auth, asgi_mcp_auth.server, asgi_mcp_auth.proxy)
    return next(getattr(place, name) for place in places if hasattr(place, name))


def section(page: str, heading: str) -> str:
    """Return the text below a heading, up to the next one."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = re.search(
        rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL
    )
    assert found is not None, f"{page} has no section {heading}"
    return found[1]


def rows(text: str) -> list[list[str]]:
    """Return the cells of a section's table, without its head."""
    lines = [line.strip().strip("|") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.split(" | ")] for line in lines[2:]]


def row_of(parameter: inspect.Parameter) -> list[str]:
    """Return a parameter's name and default as the page writes them."""
    if parameter.kind is inspect.Parameter.VAR_KEYWORD:
        return [f"`**{parameter.name}`", "`{}`"]
    return [f"`{parameter.name}`", written(parameter.default)]


def written(default: Any) -> str:
    """Return a default value as the page writes it."""
    if default is inspect.Parameter.empty:
        return "required"
    if default is time:
        return "`time`"
    if repr(default) == "<factory>":
        return "`{}`"
    if isinstance(default, int | float) and not isinstance(default, bool):
        return f"`{default:g}`" if default < 10_000 else f"`{default:.0f}`"
    return f'`"{default}"`' if isinstance(default, str) else f"`{default!r}`"


def parameters_of(value: Any) -> list[inspect.Parameter]:
    """Return the parameters in order, for a dataclass its own first, and then those of its base."""
    parameters = [*inspect.signature(value).parameters.values()]
    if is_dataclass(value):
        own = inspect.get_annotations(value)
        parameters.sort(key=lambda each: each.name not in own)
    return parameters


@pytest.mark.parametrize("name", DOCUMENTED)
def test_the_page_has_each_parameter_with_its_default_in_order(name: str) -> None:
    parameters = parameters_of(documented(name))
    heading = "Tool, Resource, Prompt, Method" if name in MESSAGE_RULES else name
    on_the_page = [row[:2] for row in rows(section("docs/settings.md", heading))]
    assert on_the_page == [row_of(each) for each in parameters]


def test_every_public_class_with_settings_is_on_the_page() -> None:
    with_settings = {
        name
        for name in {
            *asgi_mcp_auth.__all__,
            *asgi_mcp_auth.server.__all__,
            *asgi_mcp_auth.proxy.__all__,
        }
        if inspect.isclass(value := documented(name))
        and not issubclass(value, Exception)
        # What comes out, not what goes in.
        and name
        not in (
            "AccessToken",
            "Admin",
            "Application",
            "ApplicationsPage",
            "AuditEvent",
            "Decision",
            "Refusal",
            "Client",
            "ConsentPage",
            "MessagePage",
            "Field",
            "Grant",
            "LoginAttempt",
            "LoginForm",
            "LoginPage",
            "LoginRedirect",
            "LoginRefusal",
            "Page",
            "JWKSState",
            "UpstreamIdentity",
        )
        # For those who build on the package; their docstrings tell.
        and name not in ("AuthProvider", "Login", "RemoteJWKS")
    }
    assert sorted(DOCUMENTED) == sorted(with_settings)


def test_the_page_has_each_field_of_an_event() -> None:
    text = section("docs/settings.md", "MCPAuthMiddleware")
    assert [name for name in asgi_mcp_auth.Refusal.__slots__ if f"`{name}`" not in text] == []


def test_the_page_has_each_algorithm() -> None:
    from asgi_mcp_auth._jose import ASYMMETRIC, SYMMETRIC

    (row,) = [
        row for row in rows(section("docs/settings.md", "JWTVerifier")) if row[0] == "`algorithm`"
    ]
    assert set(re.findall(r"\b(?:[A-Z]{2}\d{3}K?|EdDSA|Ed\d+)\b", row[2])) == set(
        ASYMMETRIC + SYMMETRIC
    )


def test_the_page_explains_each_reason_of_an_invalid_token_in_order() -> None:
    on_the_page = [
        row[0].strip("`") for row in rows(section("docs/errors.md", "Reasons of invalid_token"))
    ]
    assert on_the_page == list(get_args(InvalidTokenReason))


def test_the_page_explains_each_other_reason() -> None:
    on_the_page = {row[0].strip("`") for row in rows(section("docs/errors.md", "Other reasons"))}
    every = {reason for part in get_args(Reason) for reason in (get_args(part) or (part,))}
    assert on_the_page == every - set(get_args(InvalidTokenReason))


def test_the_page_explains_each_reason_of_the_authorization_server() -> None:
    on_the_page = [
        row[0].strip("`")
        for row in rows(section("docs/errors.md", "Reasons at the authorization server"))
    ]
    assert on_the_page[: len(get_args(OAuthReason))] == list(get_args(OAuthReason))


def test_the_page_has_each_answer_with_its_status_and_code() -> None:
    on_the_page = {
        row[2].strip("`"): (int(row[0]), None if row[1] == "none" else row[1].strip("`"))
        for row in rows(section("docs/errors.md", "What a client sees"))
    }
    answers = {each.__name__: (each.status, each.error) for each in RequestError.__subclasses__()}
    assert on_the_page == answers


def kinds() -> list[Kind[Any]]:
    """Return every kind of record that a module of the package declares."""
    found: dict[int, Kind[Any]] = {}
    for module in pkgutil.walk_packages(asgi_mcp_auth.__path__, "asgi_mcp_auth."):
        if not module.name.endswith(("__main__", ".page_values")):  # the latter only warns
            for value in vars(importlib.import_module(module.name)).values():
                if isinstance(value, Kind):
                    found[id(value)] = value
    return [*found.values()]


def test_the_page_has_each_kind_of_record() -> None:
    """Also how it is declared: by one value with a name that no other has."""
    on_the_page = sorted(rows(section("docs/stores.md", "Records")))
    members = {
        each.name: ", ".join(f"`{field.name}`" for field in fields(each.record)) or "nothing"
        for each in kinds()
    }
    assert len(members) == len(kinds())
    assert on_the_page == sorted(
        [f"`{each.name}`", each.key, members[each.name], each.lifetime] for each in kinds()
    )


def test_no_kind_of_record_has_lost_its_name() -> None:
    """An upgrade that renames one forgets all such records."""
    assert sorted(each.name for each in kinds()) == [
        "client",
        "client_document",
        "code",
        "consent",
        "grant",
        "jti",
        "keys",
        "limit",
        "login",
        "pushed",
        "session",
        "transaction",
        "unused_clients",
        "upstream",
        "upstream_lease",
        "upstream_return",
        "upstream_state",
    ]
