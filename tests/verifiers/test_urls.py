"""URLs, origins and paths as identifiers: read strictly, compared as they are written."""

from __future__ import annotations

import string
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asgi_mcp_auth import ConfigurationError, ForbiddenOrigin, Rule
from asgi_mcp_auth._cors import AllowedOrigins
from asgi_mcp_auth._settings import check_origin, check_path, check_url
from asgi_mcp_auth._urls import (
    host_root,
    is_ambiguous_path,
    is_loopback_host,
    is_loopback_origin,
    origin_of,
    resource_spellings,
    url_path,
    well_known_url,
)
from asgi_mcp_auth.rules import Rules

WELL_KNOWN = "/.well-known/oauth-protected-resource"


@pytest.mark.parametrize(
    ("resource", "spelling"),
    [
        ("https://h.example", "https://h.example/"),
        ("https://h.example/", "https://h.example/"),
        ("https://h.example/mcp", "https://h.example/mcp"),
        ("https://H.Example/MCP", "https://h.example/MCP"),
        ("https://h.example:443/mcp", "https://h.example/mcp"),
        ("https://h.example:8443", "https://h.example:8443/"),
        ("http://localhost:80", "http://localhost/"),
        ("http://localhost:443", "http://localhost:443/"),
        ("HTTPS://h.example/a?b=C", "https://h.example/a?b=C"),
        ("http://[::1]:8000/mcp", "http://[::1]:8000/mcp"),
    ],
)
def test_a_resource_is_known_as_it_is_written_and_as_browsers_write_it(
    resource: str, spelling: str
) -> None:
    assert resource_spellings(resource) == {resource, spelling}


@pytest.mark.parametrize(
    ("url", "root", "path", "document"),
    [
        ("https://h.example", "https://h.example", "", f"https://h.example{WELL_KNOWN}"),
        ("https://h.example/", "https://h.example", "", f"https://h.example{WELL_KNOWN}"),
        (
            "https://h.example/a/b",
            "https://h.example",
            "/a/b",
            f"https://h.example{WELL_KNOWN}/a/b",
        ),
        (
            "https://H.example:443/a/",
            "https://H.example:443",
            "/a/",
            f"https://H.example:443{WELL_KNOWN}/a/",
        ),
        ("https://h.example?q=1", "https://h.example", "", f"https://h.example{WELL_KNOWN}?q=1"),
        (
            "https://h.example/a?q=/b",
            "https://h.example",
            "/a",
            f"https://h.example{WELL_KNOWN}/a?q=/b",
        ),
    ],
)
def test_a_well_known_url_is_inserted_between_host_and_path(
    url: str, root: str, path: str, document: str
) -> None:
    assert (host_root(url), url_path(url), well_known_url(WELL_KNOWN, url)) == (
        root,
        path,
        document,
    )


@pytest.mark.parametrize(
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


@pytest.mark.parametrize(
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


@pytest.mark.parametrize(
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


@pytest.mark.parametrize(
    "origin",
    [
        "https://app.example/",
        "https://App.example",
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
