"""Which rule decides on an operation, and what it needs."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import AnyUrl

from asgi_mcp_auth import (
    AccessPolicy,
    AccessToken,
    ConfigurationError,
    InvalidMessage,
    Method,
    Prompt,
    Resource,
    Rule,
    Tool,
)
from tests.support.rows import rows

pytestmark = [pytest.mark.asyncio, pytest.mark.rule("RS-35")]

READER = AccessToken(token="t", client_id="c", scopes=["read"])


def call(name: str, **arguments: Any) -> dict[str, Any]:
    return request("tools/call", name=name, arguments=arguments)


def read(uri: str) -> dict[str, Any]:
    return request("resources/read", uri=uri)


def request(method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


RULES = [
    Tool("delete_*", scopes=["write"]),
    Tool("delete_draft"),
    Tool("*_public", public=True),
    Tool("delete_*_forever", scopes=["admin"]),
    Tool("search", public=True),
    Prompt("*", scopes=["prompts"]),
    Prompt("hello", public=True),
    Resource("notes://private/{id}", scopes=["private"]),
    Resource("notes://public/{id}", public=True),
    Resource("notes://private/index", scopes=["index"]),
    Method("tools/list", public=True),
    Method("logging/*", scopes=["logs"]),
]
POLICY = AccessPolicy(RULES, required_scopes=["read"])

NEEDS: list[tuple[dict[str, Any], tuple[str, ...] | None]] = [
    # the scopes, or None for what is public
    (call("other"), ("read",)),
    (call("delete_note"), ("read", "write")),
    (call("delete_"), ("read", "write")),
    (call("Delete_note"), ("read",)),
    (call("delete_draft"), ("read",)),
    (call("delete_draft "), ("read", "write")),
    (call("delete_note_forever"), ("read", "admin")),
    (call("search"), None),
    (call("search "), ("read",)),
    (call("Search"), ("read",)),
    (call("search\0"), ("read",)),
    (call("news_public"), None),
    (call("delete_public"), ("read", "write")),  # both patterns tie: both count
    (request("prompts/get", name="greet"), ("read", "prompts")),
    (request("prompts/get", name="hello"), None),
    (request("completion/complete", ref={"type": "ref/prompt", "name": "hello"}), None),
    (request("completion/complete", ref={"type": "ref/prompt", "name": "x"}), ("read", "prompts")),
    (read("notes://other/1"), ("read",)),
    (read("notes://private/1"), ("read", "private")),
    (read("notes://private/index"), ("read", "index")),
    (read("NOTES://Private/1"), ("read", "private")),
    (read("notes://private/1/"), ("read", "private")),
    (read("notes://%70rivate/1"), ("read", "private")),
    (read("notes://private/a b"), ("read", "private", "index")),
    (read("notes://private/1/2"), ("read", "private")),
    (read("notes://private/index?page=2"), ("read", "index")),
    (read("notes://private/index#top"), ("read", "index")),
    (read("notes://public/1"), None),
    (read("notes://public/%31"), ("read",)),
    (read("NOTES://public/1"), ("read",)),
    (read("notes://public/1/2"), ("read",)),
    (read("notes://public/"), ("read",)),
    (read("notes://public/1?x"), ("read",)),
    # what servers may read in two ways needs what all resources need
    (read("notes://public/../private/1"), ("read", "private", "index")),
    (read("notes://public/.."), ("read", "private", "index")),
    (read("notes://public/%2e%2e/private/1"), ("read", "private", "index")),
    (read("notes://public/..%2fprivate"), ("read", "private", "index")),
    (read("notes://public\\private"), ("read", "private", "index")),
    (read("notes://public/1\n"), ("read", "private", "index")),
    (read(" notes://private/1"), ("read", "private", "index")),
    (read("notes://public/%2570"), ("read", "private", "index")),
    (request("resources/subscribe", uri="notes://private/1"), ("read", "private")),
    (
        request(
            "subscriptions/listen",
            notifications={"resourceSubscriptions": ["notes://public/1", "notes://private/1"]},
        ),
        ("read", "private"),
    ),
    (request("tools/list"), None),
    (request("resources/list"), ("read",)),
    (request("logging/setLevel"), ("read", "logs")),
    # the handshake, because something is public
    (request("initialize"), None),
    (request("notifications/initialized"), None),
    (request("server/discover"), None),
    (request("ping"), None),
    ({"jsonrpc": "2.0", "id": 1, "result": {}}, ("read",)),
]


async def test_the_most_specific_rule_decides() -> None:
    for message, scopes in NEEDS:
        decision = await POLICY.explain(None, message)
        assert (decision.status, decision.scopes) == (
            (200, ()) if scopes is None else (401, scopes)
        ), message


async def test_a_token_gets_what_it_has_the_scopes_for() -> None:
    for message, scopes in NEEDS:
        decision = await POLICY.explain(READER, message)
        missing = tuple(scope for scope in scopes or () if scope != "read")
        assert (decision.status, decision.missing) == (403 if missing else 200, missing), message


async def test_a_batch_needs_what_its_members_need_together() -> None:
    batch = [call("search"), call("delete_x"), request("logging/setLevel")]
    assert (await POLICY.explain(READER, batch)).missing == ("write", "logs")
    assert (await POLICY.explain(None, [call("search"), request("ping")])).status == 200
    assert (await POLICY.explain(None, [call("search"), call("x")])).status == 401


async def test_the_decision_names_its_rules() -> None:
    decision = await POLICY.explain(READER, call("delete_public"))
    assert [str(rule) for rule in decision.rules] == ["Tool('delete_*')", "Tool('*_public')"]
    assert (await POLICY.explain(READER, call("x"))).rules == ()


async def test_without_a_public_rule_the_handshake_needs_a_token() -> None:
    policy = AccessPolicy([Tool("x", scopes=["x"])])
    assert (await policy.explain(None, request("initialize"))).status == 401


async def test_a_rule_for_the_handshake_is_kept() -> None:
    policy = AccessPolicy([Tool("x", public=True), Method("initialize", scopes=["hello"])])
    assert (await policy.explain(READER, request("initialize"))).missing == ("hello",)
    assert (await policy.explain(None, request("ping"))).status == 200


async def test_scopes_may_depend_on_the_arguments_and_the_token() -> None:
    asked: list[Any] = []

    def sync(arguments: Any, token: AccessToken) -> list[str]:
        asked.append((dict(arguments), token.client_id))
        return [f"folder:{arguments.get('folder', 'inbox')}"]

    async def later(arguments: Any, token: AccessToken) -> list[str]:
        return sync(arguments, token)

    for scopes in (sync, later):
        policy = AccessPolicy(
            [
                Tool("move", scopes=scopes),
                Resource("notes://{owner}/{id}", scopes=scopes),
                Method("logging/setLevel", scopes=scopes),
            ]
        )
        decision = await policy.explain(READER, call("move", folder="work"))
        assert decision.missing == ("folder:work",)
        await policy.explain(READER, read("notes://bob/a%20b"))
        await policy.explain(READER, request("logging/setLevel", level="info"))
        assert (await policy.explain(None, call("move"))).status == 401
    assert (
        asked
        == [
            ({"folder": "work"}, "c"),
            ({"owner": "bob", "id": "a b"}, "c"),
            ({"level": "info"}, "c"),
        ]
        * 2
    )


async def test_a_function_that_returns_no_scopes_is_reported() -> None:
    policy = AccessPolicy([Tool("x", scopes=lambda arguments, token: "write")])
    with pytest.raises(ConfigurationError, match=r"Tool\('x'\) scopes='write' must be a list"):
        await policy.explain(READER, call("x"))


WRONG: list[tuple[Any, str]] = [
    (lambda: Tool(""), "write a name"),
    (lambda: Tool(7), "write a name"),  # type: ignore[arg-type]  # what is tested
    (lambda: Tool("a\n"), "write a name"),
    (lambda: Tool("a", scopes="write"), "must be a list of scopes"),
    (lambda: Tool("a", scopes=["two words"]), "which is not one scope"),
    (lambda: Tool("a", scopes=["x"], public=True), "leave out one of the two"),
    (lambda: Tool("a", public="no"), "must be True or False"),  # type: ignore[arg-type]  # the same
    (lambda: Tool("a", public=True, hidden=True), "leave out hidden"),
    (lambda: Tool("a", scopes=lambda a, t: [], hidden=True), "leave out hidden"),
    (lambda: AccessPolicy([Resource("notes://*")]), "write a URI, a template"),
    (lambda: AccessPolicy([Resource("private")]), "write a URI, a template"),
    (lambda: AccessPolicy([Resource("notes/{id}")]), "write a URI, a template"),
    (lambda: AccessPolicy([Resource("notes://{+path}")]), "write a URI, a template"),
    (lambda: AccessPolicy([Resource("notes://{a}/{b,c}")]), "write a URI, a template"),
    (lambda: AccessPolicy([Tool("a"), Tool("a", scopes=["x"])]), "for the same: keep one"),
    (lambda: AccessPolicy([Resource("a://{x}"), Resource("A://{y}")]), "for the same: keep one"),
    (lambda: AccessPolicy(Tool("a")), "must be like [Tool('name', scopes=[…])]"),  # type: ignore[arg-type]
    (lambda: AccessPolicy([Rule("/a")]), "must be like [Tool('name', scopes=[…])]"),  # type: ignore[list-item]
    (lambda: AccessPolicy([Tool]), "must be like [Tool('name', scopes=[…])]"),  # type: ignore[list-item]
    (lambda: AccessPolicy([], required_scopes="read"), "required_scopes='read' must be a list"),
]


async def test_a_wrong_rule_says_what_to_write() -> None:
    for make, text in WRONG:
        with pytest.raises(ConfigurationError) as caught:
            make()
        assert text in str(caught.value), caught.value


@rows("name", ["^delete_.*$", "read|write", "a, b", "/admin", "get_{id}", "x?", "[ab]"])
async def test_a_name_that_is_more_likely_something_else_is_a_warning(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    AccessPolicy([Tool(name)])
    assert f"{Tool(name)!r} is for a tool of just this name" in caplog.text


@rows("name", ["*", "delete_*", "notes.*", "a/b", "My tool (beta)", "søk-v2"])
async def test_other_names_are_no_warning(name: str, caplog: pytest.LogCaptureFixture) -> None:
    AccessPolicy([Tool(name), Prompt("what?"), Method("a/b")])
    assert caplog.messages == []


async def test_the_same_name_may_stand_in_rules_of_different_kinds() -> None:
    policy = AccessPolicy([Tool("x", scopes=["a"]), Prompt("x", scopes=["b"]), Method("x")])
    assert policy.scopes == ("a", "b")


async def test_patterns_try_nothing_twice() -> None:
    """Backtracking would take hours for these, and normalising minutes."""
    rules = [
        Tool("*a*a*a*b", scopes=["x"]),
        Resource("n://{a}-{b}-{c}/x", scopes=["y"]),
        Resource("n://{a}a{b}a{c}", public=True),
    ]
    policy = AccessPolicy(rules)
    assert (await policy.explain(READER, call("a" * 500_000))).status == 200
    assert (await policy.explain(READER, call("a" * 500_000 + "b"))).missing == ("x",)
    for uri in ("n://" + "-" * 8000, "n://" + "a" * 8000 + "/", "n://" + "\u0315\u0300" * 500_000):
        await policy.explain(READER, read(uri))


async def test_a_caller_without_a_token_is_told_the_scopes_of_many_operations_at_most() -> None:
    policy = AccessPolicy([Tool("x", public=True), Method("a", scopes=["a"])])
    batch = [request("a")] * 3000
    assert len((await policy.explain(None, batch)).rules) == 1000
    assert len((await policy.explain(READER, batch)).rules) == 3000
    late = [call("x")] * 3000 + [request("a")]
    assert (await policy.explain(None, late)).status == 401


async def test_a_batch_is_read_whatever_its_arguments_have_twice() -> None:
    twice = b'[{"method":"tools/call","params":{"name":"other","arguments":{"a":1,"a":2}}}]'
    assert (await POLICY.explain(READER, twice)).status == 200
    for body in (twice.replace(b'"a":1', b'"a":NaN'), twice[:-1] + b",7]", twice[:-1] + b",[]]"):
        with pytest.raises(InvalidMessage):
            await POLICY.explain(READER, body)
    with pytest.raises(InvalidMessage, match="twice"):
        await POLICY.explain(READER, twice.replace(b'"name"', b'"name":"x","name"'))


WEB = "https://docs.example.com/secret"
SPELLINGS = [
    "HTTPS://Docs.Example.com/secret",
    "https://docs.example.com:443/secret",
    "https://docs.example.com:/secret",
    "https://me@docs.example.com/secret",
    "https:/docs.example.com/secret",
    "https:docs.example.com/secret",
    "https:///docs.example.com/secret",
    "https://docs%2Eexample.com/secret",
    "https://docs.example.com/secret?a",
    "https://docs.example.com/./secret",
]


async def test_a_rule_covers_each_spelling_that_url_parsers_read_as_the_same() -> None:
    """Of these, pydantic's parser makes the one that the rule names; the others are near."""
    policy = AccessPolicy([Resource(WEB, scopes=["secret"]), Method("*", public=True)])
    same = [str(AnyUrl(each)) == WEB for each in SPELLINGS]
    assert sum(same) >= 6
    for uri in [WEB, *SPELLINGS]:
        assert (await policy.explain(READER, read(uri))).missing == ("secret",), uri
    for uri in (
        "https://docs.example.com/open",
        "https://docs.example.com:8443/secret",
        "http://127.0.0.1:8080/x",
        "https://my_host.local/x",
        "file:///tmp/x",
    ):
        assert (await policy.explain(None, read(uri))).status == 200, uri
    for uri in ("https://127.1/x", "https://xn--bcher-kva.example/x", "file://localhost/x"):
        assert (await policy.explain(READER, read(uri))).missing == ("secret",), uri
