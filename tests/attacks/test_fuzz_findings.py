"""Inputs that ``make fuzz`` found, kept as regression tests."""

from __future__ import annotations

import pytest

from asgi_mcp_auth import AccessPolicy, InvalidMessage, Method, Prompt, Rule, Tool
from asgi_mcp_auth.policy import MessageRule
from asgi_mcp_auth.server.pages.escaping import escape_text
from tests.support.asgi import call
from tests.support.authorization_server import deploy
from tests.support.protection import ALICE, protect
from tests.support.rows import rows

pytestmark = pytest.mark.asyncio


@rows("path", ["/open/%2e%2e/admin", "/open/%2fadmin", "/open/100%", "/open/%"])
async def test_a_path_that_changes_when_decoded_again_is_never_public(
    path: str,
) -> None:
    """``raw_path`` is optional in ASGI, so double encoding has to show in the decoded path
    already.
    """
    guard = protect(public_paths=["/open/"])
    guard.assert_refused(
        await call(guard.app, "GET", "/", path=path, raw_path=None), 401, "missing_token"
    )


@rows(
    "target",
    [
        "/open/.%09./admin",
        "/open/.%0a./admin",
        "/open/.%0d./admin",
        "/open/%7f",
        "/open/%e2%80%ae",
        "/open/x%3f/closed",
        "/open/x%23/closed",
    ],
)
async def test_a_path_that_a_url_parser_would_shorten_is_never_public(target: str) -> None:
    guard = protect(public_paths=["/open/"])
    guard.assert_refused(await call(guard.app, "GET", target), 401, "missing_token")


async def test_a_request_target_without_a_slash_does_not_escape_the_rules() -> None:
    """Some servers pass ``GET admin HTTP/1.1`` on as the path ``admin``."""
    guard = protect(rules=[Rule("/admin", scopes=["admin"])])
    guard.assert_refused(await call(guard.app, "GET", "admin", ALICE), 403, "insufficient_scope")


async def test_a_question_mark_in_a_path_does_not_hide_the_rule_that_closes_it() -> None:
    """An app that builds a URL from ``/open/closed?`` reads ``/open/closed`` from it."""
    guard = protect(rules=[Rule("/open", public=True), Rule("/open/closed")])
    guard.assert_entered(await call(guard.app, "GET", "/open/caf%c3%a9"), None)
    guard.assert_refused(await call(guard.app, "GET", "/open/closed%3f"), 401, "missing_token")


@rows(
    "foreign", ["{json}=x", 'quoted="un;', "no value", "a b=c d", "ü=ü", "=", "__Secure-x=1; ;; "]
)
async def test_a_cookie_of_another_application_on_the_host_ends_no_session(foreign: str) -> None:
    """The parser of the standard library stops at the first cookie that it does not like."""
    async with deploy() as server:
        browser = server.browser()
        await browser.decide((await server.register()).authorization_url())
        ours = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
        response = await server.call(
            "GET", "/applications", headers={"Cookie": f"{foreign}; {ours}"}
        )
        assert (response.status, b"Your applications<" in response.body) == (200, True)


@pytest.mark.parametrize(
    "uri",
    ["https://app%2eexample.com/cb", "https://%65vil.example/", "https://app.example.com%2f/"],
)
async def test_a_redirect_uri_has_no_percent_sign_in_its_host(uri: str) -> None:
    """Browsers decode it, and go to another host than the one that was checked and shown."""
    async with deploy() as server:
        response = await server.call("POST", "/register", document={"redirect_uris": [uri]})
        assert (response.status, response.json()["error"]) == (400, "invalid_redirect_uri")


@rows("host", ["%31", "%6cocalhost", "127.0.0.%31", "localhost%2e"])
async def test_an_encoded_host_is_no_public_one(host: str) -> None:
    async with deploy() as server:
        document = {
            "redirect_uris": ["https://app.example.com/cb"],
            "client_uri": f"https://{host}/",
        }
        response = await server.call("POST", "/register", document=document)
        assert (response.status, "client_uri" in response.json()) == (201, False)


@rows("between", ["\0", "\u200b", "\ufe0f", "\u20dd"])
async def test_combining_marks_do_not_pile_up_across_invisible_characters(
    between: str,
) -> None:
    """Such a pile covers the lines above and below, which may be a warning."""
    assert escape_text("a" + f"\u0308\u0308{between}" * 20) == "\u00e4\u0308\u0308"


CALL = b'{"jsonrpc":"2.0","id":1,"method":"%s","params":{"name":"move","arguments":{%s}}}'
TWICE = [
    b'"folder":"secret","folder":"open"',
    b'"folder":"secret","f\\u006flder":"open"',
    b'"folder":{"name":"secret","name":"open"}',
]


@pytest.mark.rule("RS-35")
@rows(
    ("rule", "method"),
    [
        (Tool("move", scopes=lambda arguments, token: []), b"tools/call"),
        (Prompt("*", scopes=lambda arguments, token: []), b"prompts/get"),
        (Method("notes/*", scopes=lambda params, token: []), b"notes/move"),
    ],
)
async def test_arguments_that_are_there_twice_are_refused_where_a_function_decides_on_them(
    rule: MessageRule, method: bytes
) -> None:
    """Some servers take the first of two members, and others the last."""
    asking, plain = AccessPolicy([rule]), AccessPolicy([Tool("other")])
    for arguments in TWICE:
        body = CALL % (method, arguments)
        for each in (body, b"[%s]" % body, body.replace(b"{", b"\n{")):
            with pytest.raises(InvalidMessage, match="twice"):
                await asking.explain(None, each)
            assert (await plain.explain(None, each)).status == 401
    once = CALL % (method, b'"folder":"open","x":[{"a":1},{"a":2}]')
    assert (await asking.explain(None, once)).status == 401
