"""Redirect URIs at their edges: registration, matching, and the parameters of an answer."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pytest

from asgi_mcp_auth import ConfigurationError
from asgi_mcp_auth._urls import (
    check_redirect_schemes,
    check_redirect_uri,
    is_loopback_redirect,
    redirect_host,
    redirect_uri_matches,
    with_parameters,
)
from asgi_mcp_auth.errors import InvalidRedirectURI

LENGTH = "A redirect URI must be a string of 1 to 2048 characters"
CHARACTERS = "A redirect URI has characters that a URI cannot have"
FRAGMENT = "A redirect URI has a fragment"
ABSOLUTE = "A redirect URI must be absolute, with its scheme in lower case"
EMPTY = "A redirect URI has nothing after its scheme"
NEVER = "A redirect URI has a scheme that is never allowed"
OTHER = (
    "The redirect URI scheme {} is not allowed here; the operator can add it to"
    " allowed_redirect_schemes"
)
HOST = "A redirect URI needs a plain host: no user name, wildcard or % encoding, a valid port"
HTTP = "A redirect URI must be https; http is for 127.0.0.1, [::1] and localhost only"


@pytest.mark.parametrize("kind", [list, tuple, set, frozenset])
def test_schemes_may_come_in_any_collection(kind: Any) -> None:
    assert check_redirect_schemes("x", kind(["cursor", "vscode"])) == {"cursor", "vscode"}
    assert check_redirect_schemes("x", kind()) == frozenset()


@pytest.mark.parametrize(
    "schemes",
    ["cursor", {"cursor": 1}, None, [5], ["Cursor"], ["cursor://"], [""], ["c"], ["https"]],
)
def test_what_is_no_list_of_schemes_is_refused(schemes: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^x"):
        check_redirect_schemes("x", schemes)


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        (5, LENGTH),
        ("", LENGTH),
        ("https://a/" + "b" * 2039, LENGTH),
        ("https://a/ b", CHARACTERS),
        ("https://ä/", CHARACTERS),
        ("https://a/#", FRAGMENT),
        ("https", ABSOLUTE),
        ("cursor", ABSOLUTE),
        ("HTTPS://a/", ABSOLUTE),
        ("h:a", ABSOLUTE),
        ("//a/b", ABSOLUTE),
        ("/a", ABSOLUTE),
        (":", ABSOLUTE),
        ("cursor:", EMPTY),
        ("cursor://", EMPTY),
        ("cursor:///", EMPTY),
        ("javascript:alert(1)", NEVER),
        ("data:text/html,x", NEVER),
        ("file:///a", NEVER),
        ("vscode://a", OTHER.format("vscode")),
        ("https:", HOST),
        ("https:a", HOST),
        ("https:/a", HOST),
        ("https:///a", HOST),
        ("https://", HOST),
        ("https://a@b/", HOST),
        ("https://*.a/", HOST),
        ("https://a%2eb/", HOST),
        ("https://a:0/", HOST),
        ("https://a:65536/", HOST),
        ("https://a:b/", HOST),
        ("https://[::1/", HOST),
        ("http://a/", HTTP),
        ("http://127.0.0.2/", HTTP),
        ("http://localhost.a/", HTTP),
    ],
)
def test_what_may_not_be_registered_and_why(uri: Any, words: str) -> None:
    with pytest.raises(InvalidRedirectURI) as caught:
        check_redirect_uri(uri, {"cursor"})
    assert str(caught.value) == words


@pytest.mark.parametrize(
    "uri",
    [
        "https://a",
        "https://a:1/",
        "https://a:65535/b?c=d",
        "https://a/" + "b" * 2038,
        "https://[2001:db8::1]/cb",
        "http://localhost",
        "http://127.0.0.1:80/",
        "http://[::1]:65535/cb?x=y",
        "cursor:a",
        "cursor://a/b?c=d",
    ],
)
def test_what_may_be_registered(uri: str) -> None:
    assert check_redirect_uri(uri, {"cursor"}) == uri


@pytest.mark.parametrize(
    ("uri", "registered", "matches"),
    [
        ("https://a/cb", ["https://a/cb"], True),
        ("https://a/cb", ["https://b/cb", "https://a/cb"], True),
        ("https://a/cb/", ["https://a/cb"], False),
        ("https://a:443/cb", ["https://a/cb"], False),
        ("https://a/cb", [], False),
        ("http://127.0.0.1:5/cb", ["http://127.0.0.1/cb"], True),
        ("http://127.0.0.1/cb", ["http://127.0.0.1:5/cb"], True),
        ("http://127.0.0.1:5/cb", ["http://127.0.0.1:6/cb"], True),
        ("http://localhost:5", ["http://localhost:6"], True),
        ("http://127.0.0.1:5/cb", ["http://localhost/cb"], False),
        ("http://127.0.0.1:5/cb", ["http://127.0.0.1/cb?x"], False),
        ("http://127.0.0.1:5/CB", ["http://127.0.0.1/cb"], False),
        ("http://127.0.0.1:123456/cb", ["http://127.0.0.1/cb"], False),
        ("http://127.0.0.1:5/cb", ["https://127.0.0.1/cb", "https://a/"], False),
    ],
)
def test_what_matches(uri: str, registered: Collection[str], matches: bool) -> None:
    assert redirect_uri_matches(uri, registered) is matches


@pytest.mark.parametrize(
    ("uri", "loopback"),
    [("http://localhost/", True), ("https://localhost/", False), ("cursor:a", False)],
)
def test_what_leads_to_this_machine(uri: str, loopback: bool) -> None:
    assert is_loopback_redirect(uri) is loopback


@pytest.mark.parametrize(
    ("uri", "host"),
    [
        ("https://a.b:8/c?d", "a.b:8"),
        ("http://[::1]:8/", "[::1]:8"),
        ("cursor:a", "cursor:"),
        ("cursor://a/b", "cursor:"),
    ],
)
def test_what_a_person_is_told_of_it(uri: str, host: str) -> None:
    assert redirect_host(uri) == host


@pytest.mark.parametrize(
    ("uri", "parameters", "result"),
    [
        ("https://a", {"code": "x"}, "https://a?code=x"),
        ("https://a/?", {"code": "x"}, "https://a/?code=x"),
        ("https://a/?b=c", {"code": "x"}, "https://a/?b=c&code=x"),
        (
            "https://a/?b=c=d&code=old&e",
            {"code": "x", "iss": "https://y/"},
            "https://a/?b=c=d&e&code=x&iss=https%3A%2F%2Fy%2F",
        ),
        ("https://a/?code=b=c", {"code": "x"}, "https://a/?code=x"),
        ("https://a/", {"state": "a b&c/d+e%ä"}, "https://a/?state=a%20b%26c%2Fd%2Be%25%C3%A4"),
    ],
)
def test_what_an_answer_adds(uri: str, parameters: dict[str, str], result: str) -> None:
    assert with_parameters(uri, parameters) == result
