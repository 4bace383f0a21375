"""uvicorn with h11 and httptools, hypercorn, granian: one table of requests, the same answers."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import closing
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest
from fastmcp import Client
from fastmcp.client.auth import BearerAuth
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from asgi_mcp_auth import MCPAuthMiddleware, Refusal
from asgi_mcp_auth.testing import Issuer
from tests.interop.protection import (
    CHALLENGE,
    METADATA_PATH,
    METADATA_URL,
    RESOURCE,
    as_user,
    provider_for,
)
from tests.interop.servers import mcp_sdk_app
from tests.support.asgi import SERVERS, Receive, Scope, Send, serve

Headers = list[tuple[str, str]]
Answer = tuple[int, http.client.HTTPMessage, bytes]

LOOPBACK = "http://localhost:6274"
REFUSED = f'resource_metadata="{METADATA_URL}", scope="mcp:read"'
INVALID = (
    f'Bearer error="invalid_token", {REFUSED}, error_description="The access token is invalid or'
    ' expired: sign in again"'
)
MALFORMED = (
    f'Bearer error="invalid_request", {REFUSED}, error_description="The Authorization header is'
    ' malformed"'
)
INSUFFICIENT = (
    f'Bearer error="insufficient_scope", {REFUSED}, '
    'error_description="The access token lacks a scope that this operation needs"'
)


async def greeter(scope: Scope, receive: Receive, send: Send) -> None:
    """Say hello to the caller, over HTTP and over a WebSocket."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": f"hello {scope['user'].display_name}"})
        await send({"type": "websocket.close", "code": 1000})
        return
    if scope["type"] == "lifespan":
        raise RuntimeError("no lifespan here")
    while (await receive()).get("more_body"):
        pass
    body = f"{scope['method']} by {scope['user'].display_name}".encode()
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


class Served(NamedTuple):
    """The greeter behind the middleware, on a real server."""

    url: str
    issuer: Issuer
    events: list[Refusal]

    def ask(
        self, method: str, path: str, headers: Headers, body: bytes = b""
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        """Send one request with exactly these header fields, which httpx would fold."""
        with closing(
            http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=10)
        ) as connection:
            connection.putrequest(method, path)
            for name, value in [*headers, *([("Content-Length", str(len(body)))] if body else [])]:
                connection.putheader(name, value)
            connection.endheaders(body or None)
            response = connection.getresponse()
            return response.status, response.headers, response.read()


@pytest.fixture(scope="module", params=SERVERS)
def served(request: pytest.FixtureRequest, session_issuer: Issuer) -> Iterator[Served]:
    """The greeter on each server in turn."""
    session_issuer.reset()
    events: list[Refusal] = []
    app = MCPAuthMiddleware(
        greeter,
        provider_for(session_issuer),
        mcp_path="/mcp",
        public_paths=["/health"],
        on_event=events.append,
    )
    with serve(app, request.param) as url:
        yield Served(url, session_issuer, events)


class Case(NamedTuple):
    """A request, and the answer that every server has to give."""

    method: str
    path: str
    headers: tuple[str, ...]
    status: int
    challenge: str | None
    body: bytes
    reason: str | None


def error(code: str, description: str) -> bytes:
    return f'{{"error":"{code}","error_description":"{description}"}}'.encode()


MISSING_BODY = (
    b'{"error_description":"Sign-in is needed: this MCP server takes OAuth access tokens"}'
)
INVALID_BODY = error("invalid_token", "The access token is invalid or expired: sign in again")
MALFORMED_BODY = error("invalid_request", "The Authorization header is malformed")
INSUFFICIENT_BODY = error(
    "insufficient_scope", "The access token lacks a scope that this operation needs"
)

# $valid, $weak (another scope) and $foreign (another audience) stand for header fields with such
# tokens.
CASES = {
    "no token": Case("POST", "/mcp", (), 401, CHALLENGE, MISSING_BODY, "missing_token"),
    "no token, GET": Case("GET", "/mcp", (), 401, CHALLENGE, MISSING_BODY, "missing_token"),
    "no token, HEAD": Case("HEAD", "/mcp", (), 401, CHALLENGE, b"", "missing_token"),
    "no token, DELETE": Case("DELETE", "/mcp", (), 401, CHALLENGE, MISSING_BODY, "missing_token"),
    "no token, OPTIONS": Case("OPTIONS", "/mcp", (), 401, CHALLENGE, MISSING_BODY, "missing_token"),
    "Basic": Case("POST", "/mcp", ("Basic YTpi",), 401, CHALLENGE, MISSING_BODY, "missing_token"),
    "garbage": Case("POST", "/mcp", ("Bearer garbage",), 401, INVALID, INVALID_BODY, "malformed"),
    "no token68": Case(
        "POST", "/mcp", ("Bearer a b",), 400, MALFORMED, MALFORMED_BODY, "authorization_syntax"
    ),
    "two headers": Case(
        "POST",
        "/mcp",
        ("$valid", "$valid"),
        400,
        MALFORMED,
        MALFORMED_BODY,
        "several_authorizations",
    ),
    "header and query": Case(
        "POST",
        "/mcp?access_token=x",
        ("$valid",),
        400,
        MALFORMED,
        MALFORMED_BODY,
        "several_token_methods",
    ),
    "token in query": Case(
        "POST", "/mcp?access_token=x", (), 401, CHALLENGE, MISSING_BODY, "missing_token"
    ),
    "wrong scope": Case(
        "POST", "/mcp", ("$weak",), 403, INSUFFICIENT, INSUFFICIENT_BODY, "insufficient_scope"
    ),
    "wrong audience": Case("POST", "/mcp", ("$foreign",), 401, INVALID, INVALID_BODY, "audience"),
    "valid": Case("POST", "/mcp", ("$valid",), 200, None, b"POST by alice", None),
    "valid, elsewhere": Case("GET", "/elsewhere", ("$valid",), 200, None, b"GET by alice", None),
    "valid, HEAD": Case("HEAD", "/mcp", ("$valid",), 200, None, b"", None),
    "public": Case("GET", "/health", (), 200, None, b"GET by ", None),
    "not public by an encoded letter": Case(
        "GET", "/he%61lth", (), 401, CHALLENGE, MISSING_BODY, "missing_token"
    ),
    "not public by an encoded slash": Case(
        "GET", "/health%2F", (), 401, CHALLENGE, MISSING_BODY, "missing_token"
    ),
    "not public by dots": Case(
        "GET", "/x/../health", (), 401, CHALLENGE, MISSING_BODY, "missing_token"
    ),
    "unknown document": Case(
        "GET",
        "/.well-known/oauth-protected-resource/x",
        (),
        404,
        None,
        b'{"error":"not_found"}',
        None,
    ),
}


@pytest.mark.case("W44")
@pytest.mark.parametrize("name", sorted(CASES))
def test_every_server_gives_the_same_answer(served: Served, name: str) -> None:
    case = CASES[name]
    issuer = served.issuer
    fields = {
        "$valid": as_user(issuer)["Authorization"],
        "$weak": as_user(issuer, scope="other")["Authorization"],
        "$foreign": as_user(issuer, aud=f"{RESOURCE}-other")["Authorization"],
    }
    headers = [("Authorization", fields.get(value, value)) for value in case.headers]
    served.events.clear()
    body = b"{}" if case.method == "POST" else b""
    status, answered, said = served.ask(case.method, case.path, headers, body)
    assert (status, answered.get_all("www-authenticate"), said) == (
        case.status,
        case.challenge and [case.challenge],
        case.body,
    )
    assert [event.reason for event in served.events] == ([case.reason] if case.reason else [])
    if case.status in (400, 401, 403):
        assert answered["cache-control"] == "no-store"
        assert answered["content-type"] == "application/json"


def test_a_preflight_is_answered_for_a_page_that_may_call_and_for_no_other(served: Served) -> None:
    wish = [
        ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Headers", "authorization"),
    ]
    status, headers, body = served.ask("OPTIONS", "/mcp", [("Origin", LOOPBACK), *wish])
    assert (status, body) == (204, b"")
    assert headers["access-control-allow-origin"] == LOOPBACK
    assert headers["access-control-allow-headers"] == "authorization"
    status, headers, _ = served.ask("OPTIONS", "/mcp", [("Origin", "https://evil.example"), *wish])
    assert (status, headers["access-control-allow-origin"]) == (403, None)


def test_a_page_that_may_call_can_read_challenge_and_answer(served: Served) -> None:
    for headers, expected in (
        ([], 401),
        ([("Authorization", as_user(served.issuer)["Authorization"])], 200),
    ):
        status, answered, _ = served.ask("POST", "/mcp", [("Origin", LOOPBACK), *headers])
        assert (status, answered["access-control-allow-origin"]) == (expected, LOOPBACK)
        assert "WWW-Authenticate" in answered["access-control-expose-headers"]


def test_the_metadata_document_is_served(served: Served) -> None:
    status, headers, body = served.ask("GET", METADATA_PATH, [])
    assert (status, headers["content-type"]) == (200, "application/json")
    assert json.loads(body)["resource"] == RESOURCE
    status, headers, nothing = served.ask("HEAD", METADATA_PATH, [])
    assert (status, headers["content-length"], nothing) == (200, str(len(body)), b"")


@pytest.mark.case("W28", "W44")
def test_the_body_of_a_refused_request_is_not_taken_for_the_next_request(served: Served) -> None:
    headers = as_user(served.issuer)
    with closing(http.client.HTTPConnection(urlsplit(served.url).netloc, timeout=10)) as connection:
        connection.request("POST", "/mcp", body=b"POST /mcp HTTP/1.1\r\n" * 1_000)
        refused = connection.getresponse()
        assert (refused.status, refused.read()) == (401, MISSING_BODY)
        try:
            connection.request("POST", "/mcp", body=b"{}", headers=headers)
            accepted = connection.getresponse()
        except ConnectionError:  # some servers hang up instead of reading the rest
            connection.close()
            connection.request("POST", "/mcp", body=b"{}", headers=headers)
            accepted = connection.getresponse()
        assert (accepted.status, accepted.read()) == (200, b"POST by alice")


def test_a_websocket_is_let_in_with_a_token(served: Served) -> None:
    url = served.url.replace("http:", "ws:") + "/mcp"
    with connect(url, additional_headers=as_user(served.issuer, "bob"), proxy=None) as websocket:
        assert websocket.recv() == "hello bob"


@pytest.mark.case("W44")
@pytest.mark.parametrize("token", [None, "garbage"])
def test_a_websocket_is_refused_at_the_handshake_without_one(
    served: Served, token: str | None
) -> None:
    served.events.clear()
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    with pytest.raises(InvalidStatus) as refused:
        connect(served.url.replace("http:", "ws:") + "/mcp", additional_headers=headers, proxy=None)
    response = refused.value.response
    challenge = CHALLENGE if token is None else INVALID
    assert (response.status_code, response.headers["www-authenticate"]) == (401, challenge)
    assert [event.reason for event in served.events] == [
        "missing_token" if token is None else "malformed"
    ]


@pytest.mark.asyncio
@pytest.mark.parametrize("server", SERVERS)
async def test_a_tool_of_a_real_mcp_server_is_called_on_each_server(
    issuer: Issuer, server: str
) -> None:
    app = MCPAuthMiddleware(mcp_sdk_app(), provider_for(issuer), mcp_path="/mcp")
    token = issuer.mint(aud=RESOURCE, sub="bob", scope="mcp:read")
    with serve(app, server) as url:
        async with Client(f"{url}/mcp", auth=BearerAuth(token)) as client:
            result = await client.call_tool("whoami")
    assert json.loads(result.content[0].text) == {"ours": "bob", "sdk": "bob"}
