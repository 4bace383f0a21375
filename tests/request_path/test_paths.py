"""Which paths need a token: public paths, rules, and everything else protected."""

from __future__ import annotations

from typing import Any

import pytest

from asgi_mcp_auth import ConfigurationError, Rule
from tests.support.asgi import call, handshake
from tests.support.protection import ALICE, BOB, challenge_of, make_provider, protect
from tests.support.rows import rows

pytestmark = pytest.mark.asyncio


@pytest.mark.rule("RS-43")
@rows("path", ["/", "/mcp", "/mcp/", "/mcpx", "/other", "/health", "/favicon.ico", ""])
async def test_without_rules_every_path_is_protected(path: str) -> None:
    guard = protect()
    guard.assert_refused(await call(guard.app, "GET", path), 401, "missing_token")
    guard.assert_entered(await call(guard.app, "GET", path, ALICE))


@pytest.mark.rule("RS-43")
@rows(
    ("path", "public"),
    [
        ("/health", True),
        ("/health?deep=1", True),
        ("/he%61lth", False),  # some routers never decode, and take it for another page
        ("/static/caf%C3%A9", True),
        ("/static/%20", True),
        ("/health/", False),
        ("/health/x", False),
        ("/healthz", False),
        ("/Health", False),
        ("/health%20", False),
        ("/static", False),
        ("/static/", True),
        ("/static/a/b.css", True),
        ("/static/.hidden", True),
        ("/static/..x", True),
        ("/statics", False),
        ("/open", True),
        ("/open/", True),
        ("/open/x", True),
        ("/opened", False),
        ("/open/closed", False),
        ("/open/closed/x", False),
        ("/open/closedx", True),
    ],
)
async def test_a_public_path_is_exact_a_prefix_or_a_rule(path: str, public: bool) -> None:
    rules = [Rule("/open", public=True), Rule("/open/closed")]
    guard = protect(public_paths=["/health", "/static/"], rules=rules)
    response = await call(guard.app, "GET", path)
    if public:
        guard.assert_entered(response, None)
    else:
        guard.assert_refused(response, 401, "missing_token")


@pytest.mark.rule("RS-43")
@rows(
    "path",
    [
        "//open/x",
        "/open//x",
        "/open/../mcp",
        "/open/%2e%2e/mcp",
        "/open/./x",
        "/open/..",
        "/open/.",
        "/open%2fx",
        "/open/%2Fx",
        "/open/%5Cx",
        "/open/%5cx",
        "/open/..%2fmcp",
        "/open/%252e%252e/mcp",
        "/open/;x",
        "/open/x;y=1",
        "/open/..;/mcp",
        "/open\\x",
        "/open/%00",
        "/open/x%00y",
    ],
)
async def test_a_path_that_two_parties_may_read_differently_is_never_public(path: str) -> None:
    guard = protect(public_paths=["/open/"])
    guard.assert_refused(await call(guard.app, "GET", path), 401, "missing_token")


async def test_an_ambiguous_path_needs_the_scopes_of_every_rule() -> None:
    guard = protect(
        rules=[Rule("/a", scopes=["a"]), Rule("/b", scopes=["b", "a"]), Rule("/c", public=True)]
    )
    response = await call(guard.app, "GET", "/c/../a", ALICE)
    guard.assert_refused(response, 403, "insufficient_scope")
    assert set(challenge_of(response)["scope"].split()) == {"a", "b"}


async def test_a_path_that_the_server_gives_only_decoded_is_matched_as_it_is() -> None:
    guard = protect(public_paths=["/open/"])
    guard.assert_entered(await call(guard.app, "GET", "/open/x", raw_path=None), None)
    guard.assert_refused(
        await call(guard.app, "GET", "/open/../x", raw_path=None), 401, "missing_token"
    )


@rows(
    ("path", "scopes"),
    [
        ("/", "base more"),
        ("/admin", "base more admin"),
        ("/admin/", "base more admin"),
        ("/admin/users", "base more admin"),
        ("/administrators", "base more"),
        ("/admin/audit", "base more audit"),
        ("/admin/audit/x", "base more audit"),
        ("/ADMIN", "base more admin"),
        ("/Admin/", "base more admin"),
        ("/Administrators", "base more"),
        ("/reports", "base more reports"),
        ("/reports/", "base more reports"),
        ("/Reports", "base more reports"),
    ],
)
async def test_the_longest_rule_adds_its_scopes_to_the_providers_and_the_middlewares(
    path: str, scopes: str
) -> None:
    guard = protect(
        provider=make_provider(required_scopes=["base"]),
        required_scopes=["more", "base"],
        rules=[
            Rule("/admin", scopes=["admin"]),
            Rule("/admin/audit", scopes=["audit"]),
            Rule("/reports/", scopes=["reports"]),
        ],
    )
    response = await call(guard.app, "GET", path, BOB)
    guard.assert_refused(response, 403, "insufficient_scope")
    assert challenge_of(response)["scope"] == scopes


async def test_a_rule_for_the_root_covers_everything_that_no_longer_rule_covers() -> None:
    guard = protect(rules=[Rule("/", scopes=["mcp:admin"]), Rule("/mcp", scopes=["mcp:read"])])
    guard.assert_entered(await call(guard.app, "GET", "/mcp", ALICE))
    guard.assert_refused(await call(guard.app, "GET", "/else", ALICE), 403, "insufficient_scope")


async def test_scopes_are_checked_exactly() -> None:
    guard = protect(required_scopes=["mcp:rea"])
    guard.assert_refused(await call(guard.app, "GET", "/mcp", ALICE), 403, "insufficient_scope")


async def test_a_rule_covers_websockets_too() -> None:
    guard = protect(rules=[Rule("/ws", scopes=["mcp:admin"]), Rule("/chat", public=True)])
    denial = (await handshake(guard.app, "/ws/x", ALICE)).denial
    assert denial is not None
    guard.assert_refused(denial, 403, "insufficient_scope")
    assert (await handshake(guard.app, "/chat")).accepted


async def test_a_public_path_asks_for_no_token_and_reads_none() -> None:
    guard = protect(public_paths=["/health"])
    for headers in (
        {},
        {"Authorization": "Bearer not-known"},
        {"Authorization": "Bearer \x01"},
        ALICE,
    ):
        guard.assert_entered(await call(guard.app, "GET", "/health", headers), None)


@rows(
    ("settings", "told"),
    [
        ({"public_paths": "/health"}, r"write \['/health'\]"),
        ({"public_paths": ["health"]}, "begins with a slash"),
        ({"public_paths": [""]}, "begins with a slash"),
        ({"public_paths": ["/"]}, "every path"),
        ({"public_paths": ["//"]}, "every path"),
        ({"public_paths": ["/a/../b"]}, "plain path"),
        ({"public_paths": ["/a%20b"]}, "plain path"),
        ({"public_paths": ["/a?b"]}, "plain path"),
        ({"public_paths": ["/a#b"]}, "plain path"),
        ({"public_paths": ["/a b"]}, "plain path"),
        ({"public_paths": ["/a\x07"]}, "plain path"),
        ({"public_paths": [None]}, "begins with a slash"),
        ({"public_paths": ["/a", "/a"]}, "twice"),
        ({"public_paths": ["/a"], "rules": [Rule("/a", scopes=["b"])]}, "twice"),
        ({"public_paths": ["/A/"], "rules": [Rule("/a", scopes=["b"])]}, "one path"),
        ({"public_paths": ["/a"], "rules": [Rule("/a/")]}, "one path"),
        ({"rules": [Rule("/a", scopes=["b"]), Rule("/A", scopes=["c"])]}, "one path"),
        ({"rules": [Rule("/straße", scopes=["b"]), Rule("/STRASSE")]}, "one path"),
        (
            {"public_paths": ["/mcp"]},
            r"'/mcp' public, which covers mcp_path='/mcp'.*leave mcp_path out",
        ),
        ({"public_paths": ["/mcp/"]}, "leave mcp_path out"),
        ({"public_paths": ["/MCP"]}, "leave mcp_path out"),
        ({"rules": [Rule("/mcp", public=True)]}, "leave mcp_path out"),
        ({"public_paths": ["/a/"], "mcp_path": "/a/mcp"}, "leave mcp_path out"),
        (
            {
                "public_paths": ["/api/mcp"],
                "provider": make_provider("https://mcp.example.com/api"),
            },
            "leave mcp_path out",
        ),
        ({"rules": ["/a"]}, "Rule"),
        ({"rules": Rule("/a")}, "must be a list"),
        ({"public_paths": 1}, "must be a list"),
        ({"public_paths": ["/static/*"]}, "wildcard"),
        ({"rules": [Rule("/a")], "public_paths": ["/*"]}, "wildcard"),
        ({"required_scopes": "mcp:read"}, "list of scopes"),
        ({"required_scopes": ["mcp read"]}, "not one scope"),
        ({"mcp_path": "mcp"}, "begins with a slash"),
        ({"mcp_path": "/mcp?x"}, "plain path"),
        ({"mcp_path": "https://mcp.example.com/mcp"}, "begins with a slash"),
    ],
)
async def test_a_wrong_setting_says_what_to_write(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        protect(**settings)


@rows(
    ("arguments", "told"),
    [
        ({"path": "/", "public": True}, "every path"),
        ({"path": "/a", "public": True, "scopes": ["b"]}, "leave out one"),
        ({"path": "a"}, "begins with a slash"),
        ({"path": "/a/*"}, "wildcard"),
        ({"path": "/a//b"}, "plain path"),
        ({"path": "/a", "scopes": "b"}, "list of scopes"),
        ({"path": "/a", "scopes": ['b"c']}, "not one scope"),
    ],
)
async def test_a_wrong_rule_says_what_to_write(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        Rule(**arguments)


@rows(
    "settings",
    [
        {"public_paths": ["/mcp"], "mcp_path": None},
        {"public_paths": ["/mcp/health", "/mcpx"]},
        {"public_paths": ["/a/"], "rules": [Rule("/a/mcp")], "mcp_path": "/a/mcp"},
        {"public_paths": ["/Health", "/health"]},
    ],
)
async def test_what_can_be_meant_is_no_wrong_setting(settings: dict[str, Any]) -> None:
    protect(**settings)


@rows(
    ("path", "scopes"),
    [
        ("/admin/audit", {"audit"}),
        # no rule has all that it may mean: all of all
        ("/ADMIN/audit", {"admin", "audit", "one", "more", "closed"}),
        ("/admin/AUDIT", {"admin", "audit", "one", "more", "closed"}),
        ("/ADMIN/users", {"admin"}),
        ("/all/ONE", {"one", "more"}),
        ("/open/Closed", {"closed"}),
        ("/ad%6Din", {"admin", "audit", "one", "more", "closed"}),
        ("/sk%C4%B1", {"closed"}),
        ("/%C4%B0nside", {"closed"}),
    ],
)
async def test_another_spelling_needs_the_scopes_of_every_rule_that_it_may_mean(
    path: str, scopes: set[str]
) -> None:
    guard = protect(
        rules=[
            Rule("/admin", scopes=["admin"]),
            Rule("/admin/audit", scopes=["audit"]),
            Rule("/all", scopes=["one"]),
            Rule("/all/one", scopes=["one", "more"]),
            Rule("/open", public=True),
            Rule("/open/closed", scopes=["closed"]),
            Rule("/ski", scopes=["closed"]),
            Rule("/inside", scopes=["closed"]),
        ]
    )
    response = await call(guard.app, "GET", path, BOB)
    guard.assert_refused(response, 403, "insufficient_scope")
    assert set(challenge_of(response)["scope"].split()) == scopes


async def test_a_public_path_is_public_in_its_own_spelling_only() -> None:
    guard = protect(public_paths=["/Health"], rules=[Rule("/Part/", public=True)])
    for path in ("/Health", "/Part/", "/Part/x"):
        guard.assert_entered(await call(guard.app, "GET", path), None)
    for path in ("/health", "/Part", "/part/x"):
        guard.assert_refused(await call(guard.app, "GET", path), 401, "missing_token")
