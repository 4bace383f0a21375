"""Step-up from inside the app: RequireScopes, InsufficientScope, exception handlers."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from asgi_mcp_auth import (
    ConfigurationError,
    InsufficientScope,
    InvalidToken,
    MCPAuthMiddleware,
    MissingToken,
    RequestError,
    RequireScopes,
    ServerUnavailable,
    insufficient_scope_response,
)
from tests.support.asgi import App, Spy, call, handshake
from tests.support.protection import (
    ALICE,
    BASE_URL,
    METADATA_URL,
    challenge_of,
    make_provider,
    protect,
)
from tests.support.rows import rows

pytestmark = [pytest.mark.asyncio, pytest.mark.rule("RS-18")]


def raising(error: Exception, *, after: list[dict[str, Any]] | None = None) -> App:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await receive()
        for message in after or []:
            await send(message)
        raise error

    return app


async def test_insufficient_scope_raised_before_the_response_is_the_403_challenge() -> None:
    guard = protect(
        raising(InsufficientScope("mcp:admin", "mcp:read")), required_scopes=["mcp:read"]
    )
    response = await call(guard.app, "POST", "/mcp", ALICE)
    guard.assert_refused(response, 403, "insufficient_scope")
    challenge = challenge_of(response)
    assert (challenge["scope"], challenge["resource_metadata"]) == (
        "mcp:read mcp:admin",
        METADATA_URL,
    )


@pytest.mark.parametrize(
    ("error", "status", "code", "header"),
    [
        (InvalidToken("revoked"), 401, "invalid_token", "www-authenticate"),
        (MissingToken(), 401, None, "www-authenticate"),
        (ServerUnavailable(7), 503, "temporarily_unavailable", "retry-after"),
    ],
)
async def test_other_refusals_that_an_app_raises_are_answered_too(
    error: RequestError, status: int, code: str | None, header: str
) -> None:
    """A token may turn out to have ended while the app uses it."""
    guard = protect(raising(error))
    response = await call(guard.app, "POST", "/mcp", ALICE)
    assert (response.status, response.json().get("error")) == (status, code)
    assert response.header(header)
    assert guard.reasons == [error.reason]


async def test_an_insufficient_scope_raised_for_a_page_can_be_read_by_it() -> None:
    guard = protect(raising(InsufficientScope("mcp:admin")))
    response = await call(guard.app, "POST", "/mcp", {**ALICE, "Origin": BASE_URL})
    assert (response.status, response.header("access-control-allow-origin")) == (403, BASE_URL)


async def test_an_insufficient_scope_raised_after_the_response_has_started_propagates() -> None:
    error = InsufficientScope("mcp:admin")
    sent: list[Any] = []
    guard = protect(
        raising(error, after=[{"type": "http.response.start", "status": 200, "headers": []}])
    )

    async def send(message: Any) -> None:
        sent.append(message["type"])

    async def outer(scope: Any, receive: Any, _: Any) -> None:
        await guard.app(scope, receive, send)

    with pytest.raises(InsufficientScope) as raised:
        await call(outer, "POST", "/mcp", ALICE)
    assert raised.value is error
    assert (sent, guard.reasons) == (["http.response.start"], [])


async def test_an_insufficient_scope_raised_at_a_handshake_denies_it() -> None:
    guard = protect(raising(InsufficientScope("mcp:admin")))
    denial = (await handshake(guard.app, "/mcp", ALICE)).denial
    assert denial is not None
    guard.assert_refused(denial, 403, "insufficient_scope")
    assert (await handshake(guard.app, "/mcp", ALICE, denial=False)).close_code == 1008


@rows("scope", ['a"b', "a b", "a\r\nx: y", "é", "\\", ""])
async def test_a_scope_that_is_none_cannot_get_into_the_challenge(scope: str) -> None:
    guard = protect(raising(InsufficientScope(scope, "mcp:admin")))
    response = await call(guard.app, "POST", "/mcp", ALICE)
    guard.assert_refused(response, 403, "insufficient_scope")
    assert challenge_of(response)["scope"] == "mcp:admin"


@rows("scope", [["mcp:admin"], ("a", "b"), None])
async def test_a_list_of_scopes_is_an_error_that_says_what_to_write(scope: Any) -> None:
    with pytest.raises(ConfigurationError, match="write the scopes one by one, like"):
        InsufficientScope(scope)


async def test_another_exception_of_the_app_propagates_unchanged() -> None:
    error = ValueError("mine")
    guard = protect(raising(error))
    with pytest.raises(ValueError, match="mine") as raised:
        await call(guard.app, "POST", "/mcp", ALICE)
    assert raised.value is error
    assert guard.reasons == []


@pytest.mark.rule("RS-13")
async def test_an_anonymous_caller_on_a_public_path_is_challenged_with_the_needed_scopes() -> None:
    """Never 403 for "not logged in"."""
    raised = protect(raising(InsufficientScope("mcp:admin")), public_paths=["/open"])
    required = protect(RequireScopes(Spy(), ["mcp:admin"]), public_paths=["/open"])
    for guard in (raised, required):
        response = await call(guard.app, "GET", "/open")
        guard.assert_refused(response, 401, "missing_token")
        assert challenge_of(response) == {"resource_metadata": METADATA_URL, "scope": "mcp:admin"}


async def test_require_scopes_asks_for_more_in_a_sub_app() -> None:
    admin = Spy()
    app = Starlette(routes=[Mount("/admin", RequireScopes(admin, ["mcp:read", "mcp:admin"]))])
    guard = protect(app, required_scopes=["mcp:write"])
    response = await call(guard.app, "GET", "/admin/x", ALICE)
    guard.assert_refused(response, 403, "insufficient_scope")
    assert admin.scopes == []
    assert challenge_of(response)["scope"] == "mcp:write mcp:read mcp:admin"


async def test_require_scopes_lets_those_through_who_have_them_all() -> None:
    inner = Spy()
    guard = protect(RequireScopes(inner, ["mcp:read", "mcp:write"]))
    assert (await call(guard.app, "GET", "/x", ALICE)).status == 200
    assert (await handshake(guard.app, "/x", ALICE)).accepted
    assert [scope["type"] for scope in inner.scopes] == ["http", "websocket"]


async def test_require_scopes_denies_a_handshake() -> None:
    guard = protect(RequireScopes(Spy(), ["mcp:admin"]))
    denial = (await handshake(guard.app, "/x", ALICE)).denial
    assert denial is not None
    guard.assert_refused(denial, 403, "insufficient_scope")


async def test_require_scopes_passes_the_lifespan_on() -> None:
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    await RequireScopes(app, ["a"])({"type": "lifespan"}, None, None)  # type: ignore[arg-type]
    assert seen == ["lifespan"]


async def test_require_scopes_without_the_middleware_admits_no_request() -> None:
    inner = Spy()
    for members in ({}, {"asgi_mcp_auth.challenger": "mine"}):
        with pytest.raises(ConfigurationError, match="no MCPAuthMiddleware around this app"):
            await call(RequireScopes(inner, ["a"]), "GET", "/", **members)
    assert inner.scopes == []


@pytest.mark.parametrize("scopes", ["mcp:admin", ["two words"], [""]])
async def test_require_scopes_takes_a_list_of_scopes(scopes: Any) -> None:
    with pytest.raises(ConfigurationError, match="scope"):
        RequireScopes(Spy(), scopes)


def starlette_app() -> Starlette:
    def endpoint(request: Request) -> PlainTextResponse:
        raise InsufficientScope("mcp:admin")

    return Starlette(routes=[Route("/mcp", endpoint)])


async def test_a_handler_inside_starlettes_middleware_list_needs_no_exception_handler() -> None:
    app = starlette_app()
    app.add_middleware(MCPAuthMiddleware, provider=make_provider(), mcp_path="/mcp")
    response = await call(app, "GET", "/mcp", ALICE)
    assert (response.status, challenge_of(response)["scope"]) == (403, "mcp:admin")


async def test_wrapped_from_outside_the_exception_handler_gives_the_same_answer() -> None:
    app = starlette_app()
    app.add_exception_handler(InsufficientScope, insufficient_scope_response)
    guard = protect(app)
    response = await call(guard.app, "GET", "/mcp", {**ALICE, "Origin": BASE_URL})
    assert guard.reasons == ["insufficient_scope"]
    assert guard.events[0].client_id == "client-a"
    assert (response.status, challenge_of(response)["scope"]) == (403, "mcp:admin")
    assert response.header("access-control-allow-origin") == BASE_URL


async def test_the_exception_handler_without_the_middleware_is_a_configuration_error() -> None:
    app = starlette_app()
    app.add_exception_handler(InsufficientScope, insufficient_scope_response)
    with pytest.raises(ConfigurationError, match="no MCPAuthMiddleware around this app"):
        await call(app, "GET", "/mcp", ALICE)


async def test_the_exception_handler_gives_other_exceptions_back() -> None:
    error = ValueError("mine")
    with pytest.raises(ValueError, match="mine"):
        await insufficient_scope_response(Request({"type": "http"}), error)
