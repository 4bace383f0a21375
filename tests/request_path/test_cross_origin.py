"""Browser clients: which pages may call, and which parts of the answer they can read."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from asgi_mcp_auth import ConfigurationError, RemoteAuthProvider, StaticTokenVerifier
from tests.support.asgi import Spy, call, handshake, serve
from tests.support.protection import ALICE, BASE_URL, ISSUER, TOKENS, make_provider, protect
from tests.support.rows import rows
from tests.support.sockets import request

pytestmark = pytest.mark.asyncio

PREFLIGHT = {
    "Origin": BASE_URL,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type,mcp-protocol-version",
}


@pytest.mark.rule("RS-23")
async def test_a_preflight_passes_without_credentials_and_without_the_app() -> None:
    guard = protect()
    response = await call(guard.app, "OPTIONS", "/mcp", PREFLIGHT)
    assert (response.status, response.body, guard.spy.scopes, guard.reasons) == (204, b"", [], [])
    assert response.header("access-control-allow-origin") == BASE_URL
    assert (
        response.header("access-control-allow-headers")
        == PREFLIGHT["Access-Control-Request-Headers"]
    )
    assert "DELETE" in (response.header("access-control-allow-methods") or "")
    assert response.header("access-control-allow-credentials") is None
    assert response.header("vary") == "Origin"


async def test_a_204_has_no_content_length() -> None:
    """RFC 9110 §8.6."""
    response = await call(protect().app, "OPTIONS", "/mcp", PREFLIGHT)
    assert (response.status, response.header("content-length")) == (204, None)


@rows("asked", [None, "", "x\u00e9", "a" * 1025, 'x"y'])
async def test_a_preflight_that_asks_for_no_or_odd_headers_gets_the_usual_ones(
    asked: str | None,
) -> None:
    headers = {**PREFLIGHT, "Access-Control-Request-Headers": asked}
    sent = {name: value for name, value in headers.items() if value is not None}
    granted = (await call(protect().app, "OPTIONS", "/mcp", sent)).header(
        "access-control-allow-headers"
    ) or ""
    assert {"Authorization", "MCP-Protocol-Version", "Mcp-Session-Id", "DPoP"} <= set(
        granted.split(", ")
    )


async def test_an_options_request_that_is_no_preflight_needs_a_token() -> None:
    guard = protect()
    guard.assert_refused(
        await call(guard.app, "OPTIONS", "/mcp", {"Origin": BASE_URL}), 401, "missing_token"
    )
    guard.assert_refused(
        await call(guard.app, "OPTIONS", "/mcp", {"Access-Control-Request-Method": "POST"}),
        401,
        "missing_token",
    )
    guard.assert_entered(await call(guard.app, "OPTIONS", "/mcp", {**ALICE, "Origin": BASE_URL}))


@pytest.mark.rule("RS-23")
@pytest.mark.parametrize(
    ("headers", "status"),
    [({}, 401), ({"Authorization": "Bearer bob-token"}, 403), ({"Authorization": "Bearer "}, 400)],
)
async def test_a_refusal_can_be_read_by_the_page(headers: dict[str, str], status: int) -> None:
    guard = protect(required_scopes=["mcp:read"])
    response = await call(guard.app, "POST", "/mcp", {**headers, "Origin": BASE_URL})
    assert response.status == status
    assert response.header("access-control-allow-origin") == BASE_URL
    exposed = (response.header("access-control-expose-headers") or "").split(", ")
    assert {"WWW-Authenticate", "DPoP-Nonce", "Mcp-Session-Id"} <= set(exposed)


@pytest.mark.rule("RS-23")
async def test_the_apps_own_responses_get_the_headers_they_lack() -> None:
    guard = protect()
    response = await call(guard.app, "POST", "/mcp", {**ALICE, "Origin": BASE_URL})
    assert (response.body, response.header("content-type")) == (b"hello", "text/plain")
    assert response.header("access-control-allow-origin") == BASE_URL
    assert response.header("vary") == "Origin"
    assert "Mcp-Session-Id" in (response.header("access-control-expose-headers") or "")


async def test_an_app_that_answers_for_itself_is_left_alone() -> None:
    own = [(b"access-control-allow-origin", b"https://mine.example"), (b"vary", b"Accept")]
    response = await call(protect(Spy(own)).app, "POST", "/mcp", {**ALICE, "Origin": BASE_URL})
    assert response.headers == [
        ("content-type", "text/plain"),
        *[(n.decode(), v.decode()) for n, v in own],
    ]


async def test_headers_that_the_app_sends_already_are_not_sent_twice() -> None:
    own = [(b"access-control-expose-headers", b"X-Mine"), (b"vary", b"Accept")]
    response = await call(protect(Spy(own)).app, "POST", "/mcp", {**ALICE, "Origin": BASE_URL})
    assert response.header("access-control-allow-origin") == BASE_URL
    assert response.header("access-control-expose-headers") == "X-Mine"
    assert response.all("vary") == ["Accept", "Origin"]


async def test_an_app_that_names_no_headers_gets_them_too() -> None:
    async def bare(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body"})

    response = await call(protect(bare).app, "POST", "/mcp", {**ALICE, "Origin": BASE_URL})
    assert response.header("access-control-allow-origin") == BASE_URL


async def test_a_request_without_an_origin_gets_no_cross_origin_headers() -> None:
    guard = protect()
    for headers in ({}, ALICE):
        response = await call(guard.app, "POST", "/mcp", headers)
        assert not [
            name
            for name, _ in response.headers
            if name.startswith("access-control") or name == "vary"
        ]


async def test_a_public_path_leaves_cross_origin_questions_to_the_app() -> None:
    guard = protect(public_paths=["/health"])
    response = await call(guard.app, "GET", "/health", {"Origin": "https://evil.example"})
    guard.assert_entered(response, None)
    assert response.header("access-control-allow-origin") is None


FORBIDDEN = [
    "null",
    "https://evil.example",
    "https://mcp.example.com.evil.example",
    "http://mcp.example.com",
    "https://mcp.example.com:8443",
    "https://mcp.example.com/",
    "http://localhost.evil.example",
    "http://127.0.0.1.evil.example",
    "http://localhost@evil.example",
    "http://evil.example#localhost",
    "http://localhost:3000/path",
    "http://localhost:evil",
    "http://[::1",
    "http://[:::::]",
    "http://local\thost",
    "file://localhost",
    "localhost",
    "",
]


@pytest.mark.rule("RS-34")
@rows("origin", FORBIDDEN)
@rows("method", ["POST", "OPTIONS"])
async def test_an_origin_that_is_not_allowed_is_403_whatever_the_token(
    origin: str, method: str
) -> None:
    guard = protect()
    headers = {**PREFLIGHT, **ALICE, "Origin": origin}
    response = await call(guard.app, method, "/mcp", headers)
    guard.assert_refused(response, 403, "origin")
    assert response.header("access-control-allow-origin") is None
    assert response.header("www-authenticate") is None
    assert response.json()["error"] == "access_denied"


@pytest.mark.rule("RS-34")
@rows(
    "origin",
    [
        BASE_URL,
        "http://localhost",
        "http://localhost:6274",
        "https://localhost:3000",
        "http://app.localhost:3000",
        "http://127.0.0.1:6274",
        "http://127.9.9.9",
        "http://[::1]:6274",
    ],
)
async def test_the_servers_own_origin_and_loopback_are_allowed_by_default(origin: str) -> None:
    guard = protect()
    response = await call(guard.app, "POST", "/mcp", {**ALICE, "Origin": origin})
    guard.assert_entered(response)
    assert response.header("access-control-allow-origin") == origin


@pytest.mark.rule("RS-34")
@pytest.mark.parametrize(
    ("base_url", "origin"),
    [
        ("https://MCP.example.com:443/api", "https://mcp.example.com"),
        ("https://mcp.example.com:8443", "https://mcp.example.com:8443"),
        ("http://[::1]:8000", "http://[::1]:8000"),
    ],
)
async def test_the_own_origin_is_written_as_browsers_write_it(base_url: str, origin: str) -> None:
    guard = protect(provider=make_provider(base_url), allowed_origins=[])
    guard.assert_entered(await call(guard.app, "POST", "/mcp", {**ALICE, "Origin": origin}))
    response = await call(guard.app, "POST", "/mcp", {**ALICE, "Origin": "http://localhost"})
    guard.assert_refused(response, 403, "origin")


@pytest.mark.rule("RS-34")
async def test_without_a_base_url_only_loopback_is_allowed_and_host_is_not_asked() -> None:
    guard = protect(provider=StaticTokenVerifier(TOKENS))
    guard.assert_entered(
        await call(guard.app, "POST", "/mcp", {**ALICE, "Origin": "http://localhost:1"})
    )
    headers = {**ALICE, "Host": "rebound.example", "Origin": "http://rebound.example"}
    guard.assert_refused(await call(guard.app, "POST", "/mcp", headers), 403, "origin")


async def test_a_list_of_origins_replaces_loopback() -> None:
    guard = protect(
        allowed_origins=["https://app.example", "vscode-webview://panel", "http://[::1]:99"]
    )
    for origin in ("https://app.example", "vscode-webview://panel", "http://[::1]:99", BASE_URL):
        guard.assert_entered(await call(guard.app, "POST", "/mcp", {**ALICE, "Origin": origin}))
    for origin in ("http://localhost", "https://app.example:444", "https://app.example."):
        guard.assert_refused(
            await call(guard.app, "POST", "/mcp", {**ALICE, "Origin": origin}), 403, "origin"
        )


@pytest.mark.parametrize("origin", ["null", "https://anybody.example"])
async def test_a_star_allows_every_page_without_credentials(origin: str) -> None:
    guard = protect(allowed_origins="*")
    response = await call(guard.app, "POST", "/mcp", {**ALICE, "Origin": origin})
    guard.assert_entered(response)
    assert response.header("access-control-allow-origin") == "*"
    assert response.header("access-control-allow-credentials") is None
    assert response.header("vary") is None


@rows(
    ("setting", "told"),
    [
        ("https://app.example", r"write \['https://app.example'\]"),
        (["*"], "no path"),
        (["https://app.example/"], "no path"),
        (["https://*.app.example"], "no wildcard"),
        (["http://[:::::]"], "no path"),
        (["null"], "no path"),
        (["https://app.example/x"], "no path"),
        (["https://user@app.example"], "no path"),
        (["https://app.example:443"], "'https://app.example'"),
        (["https://app.example:99999"], "no path"),
        ([b"https://app.example"], "no path"),
        ([""], "no path"),
    ],
)
async def test_an_origin_that_no_browser_would_send_is_refused_at_construction(
    setting: Any, told: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"allowed_origins.*{told}"):
        protect(allowed_origins=setting)


@pytest.mark.rule("RS-34")
async def test_a_websocket_of_a_foreign_page_is_refused() -> None:
    guard = protect()
    denial = (
        await handshake(guard.app, "/mcp", {**ALICE, "Origin": "https://evil.example"})
    ).denial
    assert denial is not None
    guard.assert_refused(denial, 403, "origin")
    assert (await handshake(guard.app, "/mcp", {**ALICE, "Origin": "http://localhost:1"})).accepted


@pytest.mark.rule("RS-23", "RS-34")
async def test_a_browsers_exchange_over_uvicorn() -> None:
    guard = protect(provider=RemoteAuthProvider(StaticTokenVerifier(TOKENS), [ISSUER], BASE_URL))
    with serve(guard.app) as base_url:
        status, headers, _ = request(
            base_url,
            b"OPTIONS /mcp HTTP/1.1\r\nHost: h\r\nOrigin: http://localhost:6274\r\n"
            b"Access-Control-Request-Method: POST\r\n\r\n",
        )
        assert (status, headers["access-control-allow-origin"]) == (204, "http://localhost:6274")
        assert "content-length" not in headers
        status, headers, body = request(
            base_url,
            b"POST /mcp HTTP/1.1\r\nHost: h\r\nOrigin: http://localhost:6274\r\nAuthorization:"
            b" Bearer alice-token\r\nContent-Length: 0\r\n\r\n",
        )
        assert (status, body, headers["access-control-allow-origin"]) == (
            200,
            b"hello",
            "http://localhost:6274",
        )
        status, headers, _ = request(
            base_url, b"GET /mcp HTTP/1.1\r\nHost: h\r\nOrigin: http://h\r\n\r\n"
        )
        assert (status, "access-control-allow-origin" in headers) == (403, False)


SAFARI = "safari-web-extension://0A1B2C3D-4E5F-6071-8293-A4B5C6D7E8F9"


@pytest.mark.rule("RS-56")
@pytest.mark.parametrize(
    ("allowed", "sent"),
    [
        (SAFARI, SAFARI),
        (SAFARI.lower(), SAFARI),
        (SAFARI, SAFARI.lower()),
        ("https://App.Example.com", "https://app.example.com"),
        ("https://app.example.com", "https://APP.example.com"),
        *(
            (origin, origin)
            for origin in (
                "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
                "moz-extension://12345678-90ab-cdef-1234-567890abcdef",
                "tauri://localhost",
                "http://tauri.localhost",
                "capacitor://localhost",
                "ionic://localhost",
                "vscode-webview://1abcdefgh2ijklmnop",
                "vscode-file://vscode-app",
                "app://obsidian.md",
                "app://-",
                "app://",
                "file://",
            )
        ),
    ],
)
async def test_an_origin_of_an_extension_or_app_is_compared_without_case(
    allowed: str, sent: str
) -> None:
    guard = protect(allowed_origins=[allowed])
    preflight = await call(guard.app, "OPTIONS", "/mcp", {**PREFLIGHT, "Origin": sent})
    response = await call(guard.app, "POST", "/mcp", {**ALICE, "Origin": sent})
    for each, status in ((preflight, 204), (response, 200)):
        assert (each.status, each.header("access-control-allow-origin")) == (status, sent)
    for other in (f"{sent}x", f"{sent}.evil.example", f"x{sent}", f"{sent}/", f"{sent}:1"):
        response = await call(guard.app, "POST", "/mcp", {**ALICE, "Origin": other})
        assert response.status == 403, other


@pytest.mark.rule("RS-57")
async def test_a_refusal_names_the_origin_in_the_log_and_not_to_the_page(
    caplog: pytest.LogCaptureFixture,
) -> None:
    guard = protect()
    sent = "https://evil.example\n" + "x" * 300
    with caplog.at_level(logging.INFO, "asgi_mcp_auth.refusals"):
        response = await call(guard.app, "POST", "/mcp", {**ALICE, "Origin": sent})
        await call(guard.app, "POST", "/mcp")
    assert b"evil" not in response.body
    first, second = caplog.records
    assert first.getMessage() == f"'POST' '/mcp' refused with 403: origin {sent[:256]!r}"
    assert (first.__dict__["origin"], second.__dict__["origin"]) == (sent[:256], None)
    assert [event.origin for event in guard.events] == [sent[:256], None]
