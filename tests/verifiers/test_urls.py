"""URLs, origins and paths as identifiers: read strictly, compared as they are written; and redirect
URIs.
"""

from __future__ import annotations

import string
from collections.abc import Collection
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asgi_mcp_auth import ConfigurationError, ForbiddenOrigin, Rule
from asgi_mcp_auth._cors import AllowedOrigins
from asgi_mcp_auth._settings import check_origin, check_path, check_url
from asgi_mcp_auth._urls import (
    check_redirect_schemes,
    check_redirect_uri,
    host_root,
    is_ambiguous_path,
    is_loopback_host,
    is_loopback_origin,
    is_loopback_redirect,
    origin_of,
    redirect_host,
    redirect_uri_matches,
    resource_spellings,
    url_path,
    well_known_url,
    with_parameters,
)
from asgi_mcp_auth.errors import InvalidRedirectURI
from asgi_mcp_auth.rules import Rules
from tests.support.rows import rows
from tests.tables.metadata_paths import RESOURCE as WELL_KNOWN
from tests.tables.metadata_paths import RESOURCES


@rows(
    ("url", "root", "path", "rest"),
    [
        *((root + path, root, path, path) for _, _, root, path in RESOURCES),
        ("https://h.example/", "https://h.example", "", ""),
        ("https://h.example/a/b", "https://h.example", "/a/b", "/a/b"),
        ("https://h.example?q=1", "https://h.example", "", "?q=1"),
        ("https://h.example/a?q=/b", "https://h.example", "/a", "/a?q=/b"),
    ],
)
def test_a_well_known_url_is_inserted_between_host_and_path(
    url: str, root: str, path: str, rest: str
) -> None:
    assert (host_root(url), url_path(url)) == (root, path)
    assert well_known_url(WELL_KNOWN, url) == f"{root}{WELL_KNOWN}{rest}"


@rows(
    ("host", "loopback"),
    [
        ("localhost", True),
        ("app.localhost", True),
        ("127.0.0.1", True),
        ("127.255.0.9", True),
        ("::1", True),
        ("localhost.example", False),
        ("127.0.0.1.example", False),
        ("xlocalhost", False),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("2130706433", False),
        ("0x7f000001", False),
        ("127.1", False),
        ("", False),
        (None, False),
    ],
)
def test_loopback_is_this_machine_for_certain(host: str | None, loopback: bool) -> None:
    assert is_loopback_host(host) == loopback


@rows(
    ("origin", "loopback"),
    [
        ("http://localhost", True),
        ("http://localhost:3000", True),
        ("https://127.0.0.1:1", True),
        ("http://[::1]:8080", True),
        ("null", False),
        ("", False),
        ("http://localhost/", False),
        ("http://localhost:3000/x", False),
        ("http://localhost?x", False),
        ("http://localhost#x", False),
        ("http://user@localhost", False),
        ("http://localhost@evil.example", False),
        ("http://localhost.evil.example", False),
        ("http://evil.example", False),
        ("http://[::1", False),
        ("http://[v1.x]", False),
        ("http://local\nhost", False),
        ("file://localhost", False),
        ("chrome-extension://localhost", False),
        ("//localhost", False),
        ("localhost", False),
        (" http://localhost", False),
        ("http://localhost ", False),
    ],
)
def test_a_page_of_this_machine_has_a_plain_loopback_origin(origin: str, loopback: bool) -> None:
    assert is_loopback_origin(origin) == loopback


@rows(
    "origin",
    [
        "https://app.example",
        "http://localhost:3000",
        "https://[2001:db8::1]:8443",
        "chrome-extension://abcdef",
    ],
)
def test_an_origin_is_what_browsers_send(origin: str) -> None:
    assert check_origin("allowed_origins", origin) == origin


@rows(
    "origin",
    [
        "https://app.example/",
        "https://app.example:443",
        "https://*.app.example",
        "*",
        "null",
        "",
        "app.example",
        "https://",
        "https://a b",
        "https://app.example\n",
        "https://u@app.example",
        "https://app.example:99999",
        "https://[::g]",
        None,
        5,
        b"https://app.example",
    ],
    ids=repr,
)
def test_anything_else_is_no_origin(origin: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^allowed_origins has "):
        check_origin("allowed_origins", origin)


@given(
    st.one_of(
        st.binary(max_size=60),
        st.text("htps:/[]@.:*?#\n 019azAZlocalhost", max_size=40).map(str.encode),
    )
)
@example(b"http://[::1]:99999")
@example(b"http://localhost:")
@example("http://localhost\u3002evil".encode())
@example(b"http://[fe80::1%25lo]")
def test_whatever_an_origin_header_holds_the_page_may_call_or_it_may_not(value: bytes) -> None:
    default, listed = (
        AllowedOrigins(None, "https://h.example"),
        AllowedOrigins(["https://app.example"], None),
    )
    for prefix in (b"", b"http://", b"https://"):
        with suppress(ForbiddenOrigin):
            assert default.check(prefix + value) == prefix + value
            text = (prefix + value).decode("latin-1")
            assert text == "https://h.example" or is_loopback_origin(text)
        with suppress(ForbiddenOrigin):
            assert listed.check(prefix + value) == b"https://app.example"
    assert AllowedOrigins("*", None).check(value) == b"*"


URLISH = st.text(
    string.ascii_letters + string.digits + "-._~:/?#[]@!$&'()*+,;=%\\\"<> \n\té😀\0", max_size=40
)


@given(
    rest=URLISH,
    scheme=st.sampled_from(["https://", "http://", "https://h", "http://localhost", ""]),
    query=st.booleans(),
)
@example(rest="[", scheme="https://", query=False)
@example(rest=":99999", scheme="https://h", query=False)
@example(rest="\u2100.example", scheme="https://", query=False)
def test_whatever_a_url_setting_is_it_stays_as_it_is_or_is_refused(
    rest: str, scheme: str, query: bool
) -> None:
    url = scheme + rest
    try:
        checked = check_url("base_url", url, query=query)
    except ConfigurationError as error:
        assert str(error).startswith("base_url")  # noqa: PT017  # not every text raises
        return
    assert checked is url
    assert url.isascii()
    assert url.isprintable()
    assert not set(url) & set('" \\<>#')
    assert query or "?" not in url
    assert url.startswith("https://") or is_loopback_origin(origin_of(url))
    assert url in resource_spellings(url)
    assert well_known_url(WELL_KNOWN, url).startswith(host_root(url) + WELL_KNOWN)


PATHISH = st.text('ab/.;%\\?# \0\n"é', max_size=12)


@given(rest=PATHISH)
def test_whatever_a_path_setting_is_it_stays_as_it_is_or_is_refused(rest: str) -> None:
    path = "/" + rest
    try:
        checked = check_path("mcp_path", path)
    except ConfigurationError:
        return
    assert checked is path
    assert not is_ambiguous_path(path, path.encode())
    assert not set(path) & set('?#%;\\ \0\n"')


@given(path=st.one_of(PATHISH.map("/public/".__add__), PATHISH), raw=st.binary(max_size=20))
def test_a_path_that_can_be_read_in_two_ways_is_never_public(path: str, raw: bytes) -> None:
    rules = Rules(["/public/", "/health"], [Rule("/admin", scopes=["admin"])])
    rule = rules.match(path, raw)
    if rule.public:
        assert path == "/health" or path.startswith("/public/")
        assert not {"", ".", ".."} & set(path[1:].removesuffix("/").split("/"))
        assert not set(path) & set(";\\%?#\0\n")
        assert not any(code in raw.lower() for code in (b"%2f", b"%5c", b"%25"))


# ------------------------------------------------------------------------------------ redirect URIs

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


@rows("kind", [list, tuple, set, frozenset])
def test_schemes_may_come_in_any_collection(kind: Any) -> None:
    assert check_redirect_schemes("x", kind(["cursor", "vscode"])) == {"cursor", "vscode"}
    assert check_redirect_schemes("x", kind()) == frozenset()


@rows(
    "schemes",
    ["cursor", {"cursor": 1}, None, [5], ["Cursor"], ["cursor://"], [""], ["1c"], ["https"]],
)
def test_what_is_no_list_of_schemes_is_refused(schemes: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^x"):
        check_redirect_schemes("x", schemes)


@rows(
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
        ("h:a", OTHER.format("h")),
        ("h" * 65 + ":a", OTHER.format("h" * 64)),
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


@rows(
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


def test_a_known_redirect_uri_may_be_registered_and_no_other_with_its_scheme() -> None:
    known = {"app://callback"}
    assert check_redirect_uri("app://callback", (), known) == "app://callback"
    with pytest.raises(InvalidRedirectURI):
        check_redirect_uri("app://callback/", (), known)


@rows(
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
        ("http://127.0.0.1:5/cb", ["https://a/", "http://127.0.0.1/", "http://127.0.0.1/cb"], True),
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


@rows(
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


@rows(
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
