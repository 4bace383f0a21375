"""Apps mounted below a path, under TestClient, without a lifespan, in two event loops at once."""

from __future__ import annotations

import asyncio
import logging
import threading
import time

import anyio
import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

from asgi_mcp_auth import JWTVerifier, MCPAuthMiddleware, RemoteAuthProvider, _http
from asgi_mcp_auth.mounting import CHALLENGES_BEFORE_WARNING
from asgi_mcp_auth.testing import FrozenClock, Issuer
from tests.interop.protection import BASE_URL, RESOURCE, as_user, provider_for
from tests.support.asgi import App, Receive, Scope, Send, Spy, call, mounted, serve

MOUNTED_RESOURCE = f"{BASE_URL}/api/mcp"
MOUNTED_METADATA_PATH = "/.well-known/oauth-protected-resource/api/mcp"


async def hello(request: Request) -> Response:
    return PlainTextResponse(f"hello {request.user.display_name}")


async def without_lifespan(scope: Scope, receive: Receive, send: Send) -> None:
    """Refuse everything but HTTP, as the ASGI specification allows."""
    if scope["type"] != "http":
        raise ValueError(f"no {scope['type']} here")
    await PlainTextResponse(f"hello {scope['user'].display_name}")(scope, receive, send)


# -------------------------------------------------------------------------------- below another app


def mounted_in_starlette(issuer: Issuer) -> App:
    provider = provider_for(issuer, f"{BASE_URL}/api")
    inner = MCPAuthMiddleware(Starlette(routes=[Route("/mcp", hello)]), provider, mcp_path="/mcp")
    return Starlette(routes=[*provider.get_well_known_routes("/mcp"), Mount("/api", inner)])


@pytest.mark.asyncio
async def test_below_a_mount_challenge_document_and_audience_agree(issuer: Issuer) -> None:
    app = mounted_in_starlette(issuer)
    refused = await call(app, "GET", "/api/mcp")
    assert refused.status == 401
    assert f'resource_metadata="{BASE_URL}{MOUNTED_METADATA_PATH}"' in (
        refused.header("www-authenticate") or ""
    )
    document = await call(app, "GET", MOUNTED_METADATA_PATH)
    assert (document.status, document.json()["resource"]) == (200, MOUNTED_RESOURCE)
    accepted = await call(app, "GET", "/api/mcp", as_user(issuer, "bob", aud=MOUNTED_RESOURCE))
    assert accepted.body == b"hello bob"
    assert (await call(app, "GET", "/api/mcp", as_user(issuer))).status == 401, (
        "a token for the unmounted resource"
    )


@pytest.mark.asyncio
async def test_below_a_mount_nothing_is_logged_where_the_host_app_has_the_documents(
    issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    app = mounted_in_starlette(issuer)
    with caplog.at_level(logging.WARNING, "asgi_mcp_auth"):
        for _ in range(CHALLENGES_BEFORE_WARNING + 1):
            await call(app, "GET", "/api/mcp")
    assert caplog.records == []


@pytest.mark.asyncio
@pytest.mark.parametrize("prefix", ["/a", "/a/b"])
async def test_one_app_mounted_anywhere_protects_the_same_paths(
    issuer: Issuer, prefix: str
) -> None:
    provider = provider_for(issuer, BASE_URL + prefix)
    spy = Spy()
    app = mounted(
        MCPAuthMiddleware(spy, provider, mcp_path="/mcp", public_paths=["/health"]), prefix
    )
    assert (await call(app, "GET", f"{prefix}/mcp")).status == 401
    assert (await call(app, "GET", f"{prefix}/health")).status == 200
    assert (await call(app, "GET", f"{prefix}/health/more")).status == 401
    assert [scope["user"].is_authenticated for scope in spy.scopes] == [False]


@pytest.mark.asyncio
async def test_two_resources_on_one_host_do_not_take_each_other_s_tokens(issuer: Issuer) -> None:
    a, b = (
        MCPAuthMiddleware(Spy(), provider_for(issuer, f"{BASE_URL}/{name}"), mcp_path="/mcp")
        for name in "ab"
    )
    app = Starlette(routes=[Mount("/a", a), Mount("/b", b)])
    token = as_user(issuer, aud=f"{BASE_URL}/a/mcp")
    assert (await call(app, "GET", "/a/mcp", token)).status == 200
    assert (await call(app, "GET", "/b/mcp", token)).status == 401


# -------------------------------------------------------------- with, without and between lifespans


def app_with_clock(issuer: Issuer, inner: App | None = None) -> tuple[App, FrozenClock]:
    """Return a protected app whose verifier knows no time but the clock's."""
    clock = FrozenClock(time.time())
    verifier = JWTVerifier(issuer=issuer.issuer, audience=RESOURCE, clock=clock)
    provider = RemoteAuthProvider(verifier, [issuer.issuer], BASE_URL)
    return MCPAuthMiddleware(
        inner or Starlette(routes=[Route("/mcp", hello)]), provider, mcp_path="/mcp"
    ), clock


def greet(client: TestClient, issuer: Issuer, user: str = "alice") -> str:
    return client.get("/mcp", headers=as_user(issuer, user)).text


def test_testclient_without_with_gives_each_request_a_loop_and_a_fetch_of_its_own(
    issuer: Issuer,
) -> None:
    app, clock = app_with_clock(issuer)
    client = TestClient(app)
    assert [greet(client, issuer, user) for user in ("alice", "bob")] == [
        "hello alice",
        "hello bob",
    ]
    assert issuer.hits["/jwks"] == 1
    issuer.rotate()
    clock.advance(5)
    assert greet(client, issuer, "carol") == "hello carol"
    assert issuer.hits["/jwks"] == 2


def test_testclients_lifespan_warms_up_the_keys_and_the_app_works_without_it_too(
    issuer: Issuer,
) -> None:
    app, clock = app_with_clock(issuer)
    fetches = 0
    for _ in range(2):
        with TestClient(app) as client:
            assert issuer.hits["/jwks"] == fetches + 1, "fetched before the first request"
            assert greet(client, issuer) == "hello alice"
        issuer.rotate()
        clock.advance(5)
        assert greet(TestClient(app), issuer) == "hello alice"
        fetches = issuer.hits["/jwks"]


def test_an_app_without_a_lifespan_is_served_and_its_keys_are_warmed_up_all_the_same(
    issuer: Issuer,
) -> None:
    app, _ = app_with_clock(issuer, without_lifespan)
    with serve(app) as base_url:
        assert issuer.hits["/jwks"] == 1
        answer = httpx.get(f"{base_url}/mcp", headers=as_user(issuer))
    assert answer.text == "hello alice"


def test_two_event_loops_at_once_share_one_app(issuer: Issuer) -> None:
    app, clock = app_with_clock(issuer)
    statuses: list[int] = []

    def requests_in_a_loop_of_their_own() -> None:
        async def ten() -> None:
            answers = await asyncio.gather(
                *(call(app, "GET", "/mcp", as_user(issuer)) for _ in range(10))
            )
            statuses.extend(answer.status for answer in answers)

        asyncio.run(ten())

    for fetches in (2, 4):
        issuer.delay("/jwks", 0.2)
        threads = [threading.Thread(target=requests_in_a_loop_of_their_own) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert issuer.hits["/jwks"] <= fetches, "at most one fetch in each loop"
        issuer.rotate()
        clock.advance(5)
    assert statuses == [200] * 40


def test_a_loop_beside_the_server_s_own_does_not_touch_its_connections(issuer: Issuer) -> None:
    app, clock = app_with_clock(issuer)
    with serve(app) as base_url:
        for _ in range(2):
            assert httpx.get(f"{base_url}/mcp", headers=as_user(issuer)).text == "hello alice"
            issuer.rotate()
            clock.advance(5)
            assert asyncio.run(call(app, "GET", "/mcp", as_user(issuer))).body == b"hello alice"
            issuer.rotate()
            clock.advance(5)


def test_the_first_fetch_of_a_process_may_come_from_an_anyio_task(issuer: Issuer) -> None:
    """Starlette's TestClient begins all requests in one; what httpx needs is loaded then."""
    app, _ = app_with_clock(issuer)
    headers = as_user(issuer)

    async def ask() -> int:
        _http._ssl_context.cache_clear()
        return (await call(app, "GET", "/mcp", headers)).status

    assert anyio.run(ask) == 200
