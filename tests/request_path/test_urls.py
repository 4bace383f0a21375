"""URLs, paths and origins in settings: accepted as they are, or refused with a reason."""

from __future__ import annotations

from typing import Any

import pytest

from asgi_mcp_auth import ConfigurationError
from asgi_mcp_auth._settings import check_path, check_url
from asgi_mcp_auth._urls import (
    host_root,
    is_loopback_host,
    origin_of,
    resource_spellings,
    url_path,
    well_known_url,
)
from tests.support.rows import rows


@rows(
    "url",
    [
        "https://mcp.example.com",
        "https://mcp.example.com/",
        "https://MCP.example.com:443/A/b",
        "https://mcp.example.com/a%20b",
        "https://[2001:db8::1]:8443/mcp",
        "http://localhost:8000",
        "http://app.localhost",
        "http://127.0.0.1",
        "http://[::1]:1",
    ],
)
def test_a_url_is_taken_as_it_is_written(url: str) -> None:
    assert check_url("base_url", url) == url


@rows(
    ("url", "told"),
    [
        (None, "must be given"),
        (b"https://mcp.example.com", "must be a str, not bytes"),
        (5, "must be a str, not int"),
        ("", "not an absolute"),
        ("mcp.example.com", "not an absolute"),
        ("/mcp", "not an absolute"),
        ("https://", "not an absolute"),
        ("https:///mcp", "not an absolute"),
        ("ftp://mcp.example.com", "not an absolute"),
        ("https://mcp.example.com:0", "not an absolute"),
        ("https://mcp.example.com:99999", "not a URL"),
        ("https://mcp.example.com:x", "not a URL"),
        ("https://[::1", "not a URL"),
        ("http://mcp.example.com", "not encrypted"),
        ("http://127.0.0.1.example.com", "not encrypted"),
        ("http://10.0.0.1", "not encrypted"),
        ("https://mcp.example.com/#x", "has a fragment"),
        ("https://mcp.example.com/#", "has a fragment"),
        ("https://mcp.example.com/?x=1", "has a query"),
        ("https://mcp.example.com/?", "has a query"),
        ("https://user@mcp.example.com", "has a user name"),
        ("https://user:secret@mcp.example.com", "has a user name"),
        ("https://mcp.example.com/a/../b", "has a dot segment"),
        ("https://mcp.example.com/.", "has a dot segment"),
        ("https://mcp.example.com/a b", "characters that a URL cannot have"),
        ("https://mcp.example.com/é", "characters that a URL cannot have"),
        ('https://mcp.example.com/"', "characters that a URL cannot have"),
        ("https://mcp.example.com/\\", "characters that a URL cannot have"),
        ("https://mcp.example.com/\r\n", "characters that a URL cannot have"),
    ],
)
def test_another_url_is_refused_by_name_and_with_the_reason(url: Any, told: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^base_url.*{told}"):
        check_url("base_url", url)


def test_a_query_is_allowed_where_one_makes_sense() -> None:
    assert (
        check_url("jwks_uri", "https://idp.example/keys?tenant=1", query=True)
        == "https://idp.example/keys?tenant=1"
    )


@pytest.mark.parametrize("path", ["/café", "/日本"])
def test_a_path_that_is_matched_may_hold_what_a_url_cannot(path: str) -> None:
    assert check_path("public_paths", path) == path
    with pytest.raises(ConfigurationError, match=r"mcp_path=.* characters that a URL cannot have"):
        check_path("mcp_path", path, in_url=True)


@rows(
    ("host", "loopback"),
    [
        ("localhost", True),
        ("a.localhost", True),
        ("127.0.0.1", True),
        ("127.255.0.9", True),
        ("::1", True),
        ("localhost.example", False),
        ("notlocalhost", False),
        ("0.0.0.0", False),
        ("10.0.0.1", False),
        ("2130706433", False),
        ("127.1", False),
        ("::", False),
        ("", False),
        (None, False),
    ],
)
def test_loopback_is_what_can_only_be_this_machine(host: str | None, loopback: bool) -> None:
    assert is_loopback_host(host) is loopback


@rows(
    ("url", "root", "path", "origin"),
    [
        ("https://h.example", "https://h.example", "", "https://h.example"),
        ("https://h.example/", "https://h.example", "", "https://h.example"),
        ("https://H.example:443/a/b/", "https://H.example:443", "/a/b/", "https://h.example"),
        ("http://[::1]:80/a", "http://[::1]:80", "/a", "http://[::1]"),
        ("https://h.example:80?q=/x", "https://h.example:80", "", "https://h.example:80"),
    ],
)
def test_the_parts_of_a_url_keep_their_spelling_but_for_the_origin(
    url: str, root: str, path: str, origin: str
) -> None:
    assert (host_root(url), url_path(url), origin_of(url)) == (root, path, origin)


def test_a_query_of_the_resource_goes_after_the_inserted_path() -> None:
    """RFC 9728 §3.1."""
    assert (
        well_known_url("/.well-known/x", "https://h.example/a?b=c")
        == "https://h.example/.well-known/x/a?b=c"
    )


@rows(
    ("resource", "others"),
    [
        ("https://h.example/mcp", {"https://h.example/mcp/"}),
        ("https://h.example/mcp/", {"https://h.example/mcp"}),
        ("https://h.example", {"https://h.example/"}),
        ("https://h.example/", set()),
        ("https://h.example:8443", {"https://h.example:8443/"}),
        ("http://localhost:80", {"http://localhost/"}),
        ("http://localhost:443", {"http://localhost:443/"}),
        ("http://[::1]:8000/mcp", {"http://[::1]:8000/mcp/"}),
        (
            "https://H.example:443/Mcp",
            {"https://H.example:443/Mcp/", "https://h.example/Mcp", "https://h.example/Mcp/"},
        ),
        ("https://h.example?a=b", {"https://h.example/?a=b"}),
    ],
)
def test_a_resource_has_the_spelling_of_the_configuration_and_that_of_a_browser(
    resource: str, others: set[str]
) -> None:
    """Each with both endings of its path."""
    assert resource_spellings(resource) == {resource} | others
