"""The MCP SDK and FastMCP: wrapped from outside, and with our provider or verifier as their own."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import fastmcp.server.auth
import pytest
from mcp.server.auth.middleware.auth_context import get_access_token as sdk_access_token
from mcp.server.auth.settings import AuthSettings
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from asgi_mcp_auth import (
    ANY_AUDIENCE,
    AuthProvider,
    IntrospectionTokenVerifier,
    JWTVerifier,
    MCPAuthMiddleware,
    MultiAuth,
    RemoteAuthProvider,
    ServerUnavailable,
    UserinfoTokenVerifier,
)
from asgi_mcp_auth.testing import INTROSPECTION_CLIENT, Issuer
from tests.interop.protection import (
    BASE_URL,
    CHALLENGE,
    METADATA_PATH,
    RESOURCE,
    as_user,
    provider_for,
)
from tests.interop.servers import (
    GREETING,
    MCP_HEADERS,
    answer_of,
    call_message,
    fastmcp_server,
    mcp_sdk_server,
    started,
)
from tests.support.asgi import App, Receive, Scope, Send, call
from tests.support.asgi import Response as Answer
from tests.support.profiles import serving_profiles

pytestmark = pytest.mark.asyncio


def sdk_wrapped(issuer: Issuer) -> App:
    """The MCP SDK's app inside the middleware."""
    return MCPAuthMiddleware(
        mcp_sdk_server().streamable_http_app(), provider_for(issuer), mcp_path="/mcp"
    )


def fastmcp_wrapped(issuer: Issuer) -> App:
    """FastMCP's app inside the middleware."""
    return MCPAuthMiddleware(fastmcp_server().http_app(), provider_for(issuer), mcp_path="/mcp")


def fastmcp_with_our_provider(issuer: Issuer) -> App:
    """FastMCP with our provider where it takes its own."""
    return fastmcp_server(auth=provider_for(issuer)).http_app()


def sdk_with_our_verifier(issuer: Issuer) -> App:
    """The MCP SDK with our verifier where it takes its own; challenges and metadata are the SDK's
    then.
    """
    settings = AuthSettings(
        issuer_url=issuer.issuer,
        resource_server_url=RESOURCE,
        required_scopes=["mcp:read"],
        validate_token_resource=True,
    )
    verifier = JWTVerifier(issuer=issuer.issuer, audience=RESOURCE)
    return mcp_sdk_server(token_verifier=verifier, auth=settings).streamable_http_app()


OURS = [sdk_wrapped, fastmcp_wrapped, fastmcp_with_our_provider]
ALL = [*OURS, sdk_with_our_verifier]


async def post(
    app: App, caller: dict[str, str], message: Any = None, session: str | None = None
) -> Answer:
    """Send one JSON-RPC message, in a session if there is one."""
    headers = {**MCP_HEADERS, **caller, "Mcp-Protocol-Version": "2025-11-25"}
    if session is not None:
        headers["Mcp-Session-Id"] = session
    return await call(app, "POST", "/mcp", headers, body=json.dumps(message or GREETING).encode())


async def open_session(app: App, caller: dict[str, str]) -> str:
    """Greet the server and return the id of the session it opened."""
    greeted = await post(app, caller)
    assert greeted.status == 200, greeted
    session = greeted.header("mcp-session-id")
    assert session is not None
    done = await post(
        app, caller, {"jsonrpc": "2.0", "method": "notifications/initialized"}, session
    )
    assert done.status == 202
    return session


async def ask(app: App, caller: dict[str, str], session: str, tool: str) -> str:
    """Call a tool in a session and return what it said."""
    answered = await post(app, caller, call_message(tool), session)
    assert answered.status == 200, answered
    return answer_of(answered.body.decode())


# ----------------------------------------------------------------------------------- who is calling


@pytest.mark.parametrize("build", OURS)
async def test_a_tool_sees_the_caller_through_every_library(
    issuer: Issuer, build: Callable[[Issuer], App]
) -> None:
    app, bob = build(issuer), as_user(issuer, "bob")
    async with started(app):
        seen = json.loads(await ask(app, bob, await open_session(app, bob), "whoami"))
    assert set(seen) >= {"ours", "sdk"}
    assert set(seen.values()) == {"bob"}


async def test_with_our_verifier_in_the_sdk_a_tool_sees_the_caller_through_the_sdk(
    issuer: Issuer,
) -> None:
    app, bob = sdk_with_our_verifier(issuer), as_user(issuer, "bob")
    async with started(app):
        seen = json.loads(await ask(app, bob, await open_session(app, bob), "whoami"))
    assert seen == {"ours": None, "sdk": "bob"}


@pytest.mark.parametrize("build", OURS)
async def test_in_a_session_a_tool_sees_the_token_of_its_own_call(
    issuer: Issuer, build: Callable[[Issuer], App]
) -> None:
    app, reader = build(issuer), as_user(issuer, scope="mcp:read")
    async with started(app):
        session = await open_session(app, reader)
        assert await ask(app, reader, session, "my_scopes") == "mcp:read"
        writer = as_user(issuer, scope="mcp:read mcp:write")
        assert await ask(app, writer, session, "my_scopes") == "mcp:read mcp:write"
        assert await ask(app, reader, session, "my_scopes") == "mcp:read"


# -------------------------------------------------------------------------- a session has one owner

OTHERS = {
    "another user": {"sub": "mallory"},
    "the same user with another client": {"client_id": "other-client"},
    "no user": {"sub": None},
}


@pytest.mark.rule("RS-38")
@pytest.mark.parametrize("build", ALL)
@pytest.mark.parametrize("other", sorted(OTHERS))
async def test_other_users_cannot_enter_a_session(
    issuer: Issuer, build: Callable[[Issuer], App], other: str
) -> None:
    app, alice = build(issuer), as_user(issuer, "alice")
    intruder = as_user(issuer, **OTHERS[other])
    async with started(app):
        session = await open_session(app, alice)
        assert (await post(app, intruder, call_message("whoami"), session)).status == 404
        for method in ("GET", "DELETE"):
            headers = {**MCP_HEADERS, **intruder, "Mcp-Session-Id": session}
            assert (await call(app, method, "/mcp", headers)).status == 404
        assert '"alice"' in await ask(app, alice, session, "whoami"), (
            "the session still lives, and is hers"
        )


@pytest.mark.rule("RS-38")
@pytest.mark.parametrize("build", ALL)
async def test_the_owner_of_a_session_comes_back_with_a_new_token(
    issuer: Issuer, build: Callable[[Issuer], App]
) -> None:
    app = build(issuer)
    async with started(app):
        session = await open_session(app, as_user(issuer, "alice"))
        assert '"alice"' in await ask(app, as_user(issuer, "alice"), session, "whoami")


@pytest.mark.rule("RS-38")
@pytest.mark.parametrize("server", ["sdk", "fastmcp"])
async def test_the_same_subject_of_another_issuer_is_another_user(
    issuer: Issuer, server: str
) -> None:
    with Issuer(algorithms=("ES256",)) as second:
        both = MultiAuth(
            verifiers=[JWTVerifier(issuer=issuer.issuer), JWTVerifier(issuer=second.issuer)]
        )
        provider = RemoteAuthProvider(both, [issuer.issuer, second.issuer], BASE_URL)
        inner = (
            mcp_sdk_server().streamable_http_app()
            if server == "sdk"
            else fastmcp_server().http_app()
        )
        app = MCPAuthMiddleware(inner, provider, mcp_path="/mcp")
        async with started(app):
            session = await open_session(app, as_user(issuer, "alice"))
            assert (
                await post(app, as_user(second, "alice"), call_message("whoami"), session)
            ).status == 404


@pytest.mark.parametrize("server", ["sdk", "fastmcp"])
@pytest.mark.parametrize("named", [True, False], ids=["issuer=", "no issuer="])
async def test_the_same_subject_of_another_introspection_endpoint_is_another_user(
    server: str, named: bool
) -> None:
    """Neither of them says ``iss``, and both know an Alice who uses the same client."""
    with Issuer(algorithms=("ES256",)) as first, Issuer(algorithms=("ES256",)) as second:
        app = _behind(
            server, [_introspection(first, named=named), _introspection(second, named=named)]
        )
        alice, again, other = (
            {"Authorization": f"Bearer {idp.mint_opaque(aud=RESOURCE, scope='mcp:read', iss=None)}"}
            for idp in (first, first, second)
        )
        async with started(app):
            session = await open_session(app, alice)
            assert (await post(app, other, call_message("whoami"), session)).status == 404
            assert '"alice"' in await ask(app, again, session, "whoami"), (
                "the session still lives, and is hers"
            )
            assert '"alice"' in await ask(app, other, await open_session(app, other), "whoami")


@pytest.mark.parametrize("server", ["sdk", "fastmcp"])
async def test_the_same_subject_of_another_provider_of_profiles_is_another_user(
    server: str,
) -> None:
    with serving_profiles() as first, serving_profiles() as second:
        for provider, token in ((first, "first-1"), (first, "first-2"), (second, "second-1")):
            provider.profiles[token] = {"sub": "alice"}
        sources = [
            UserinfoTokenVerifier(userinfo_url=each.userinfo_url, audience=ANY_AUDIENCE)
            for each in (first, second)
        ]
        app = _behind(server, sources)
        async with started(app):
            session = await open_session(app, {"Authorization": "Bearer first-1"})
            intruder = {"Authorization": "Bearer second-1"}
            assert (await post(app, intruder, call_message("whoami"), session)).status == 404
            assert '"alice"' in await ask(
                app, {"Authorization": "Bearer first-2"}, session, "whoami"
            )


def _introspection(idp: Issuer, *, named: bool) -> IntrospectionTokenVerifier:
    client_id, secret = INTROSPECTION_CLIENT
    return IntrospectionTokenVerifier(
        introspection_url=idp.introspection_url,
        client_id=client_id,
        client_secret=secret,
        issuer=idp.issuer if named else None,
    )


def _behind(server: str, sources: Sequence[AuthProvider]) -> App:
    provider = RemoteAuthProvider(MultiAuth(verifiers=sources), ["https://idp.example"], BASE_URL)
    inner = (
        mcp_sdk_server().streamable_http_app() if server == "sdk" else fastmcp_server().http_app()
    )
    return MCPAuthMiddleware(inner, provider, mcp_path="/mcp")


# ----------------------------------------------------------------------------------- FastMCP(auth=)


async def test_fastmcp_takes_our_provider_for_one_of_its_own(issuer: Issuer) -> None:
    provider = provider_for(issuer)
    fastmcp_server(auth=provider).http_app()
    assert isinstance(provider, fastmcp.server.auth.AuthProvider)


async def test_inside_fastmcp_refusals_are_ours(issuer: Issuer) -> None:
    app = fastmcp_with_our_provider(issuer)
    nobody = await post(app, {})
    assert (nobody.status, nobody.header("www-authenticate")) == (401, CHALLENGE)
    forged = await post(app, {"Authorization": "Bearer a.b.c"})
    assert forged.status == 401
    assert 'error="invalid_token"' in (forged.header("www-authenticate") or "")
    unable = await post(app, as_user(issuer, scope="other"))
    assert unable.status == 403
    assert 'error="insufficient_scope"' in (unable.header("www-authenticate") or "")
    assert 'scope="mcp:read"' in (unable.header("www-authenticate") or "")
    issuer.rotate(drop=True)
    issuer.fail("/jwks")
    down = await post(fastmcp_with_our_provider(issuer), as_user(issuer))
    assert (down.status, down.header("www-authenticate")) == (503, None)
    assert down.header("retry-after") == "1"


async def test_inside_fastmcp_the_metadata_document_is_ours(issuer: Issuer) -> None:
    document = await call(fastmcp_with_our_provider(issuer), "GET", METADATA_PATH)
    assert document.json() == {
        "resource": RESOURCE,
        "authorization_servers": [issuer.issuer],
        "scopes_supported": ["mcp:read"],
        "bearer_methods_supported": ["header"],
    }


async def test_our_routes_are_of_the_kind_that_fastmcp_looks_for(issuer: Issuer) -> None:
    """It names the metadata document in challenges of its own only where a real Starlette route
    serves it.
    """
    provider = provider_for(issuer)
    assert METADATA_PATH in [
        route.path for route in provider.get_routes("/mcp") if isinstance(route, Route)
    ]
    assert provider._get_resource_url("/mcp") == RESOURCE


async def test_inside_fastmcp_custom_routes_are_protected_as_well(issuer: Issuer) -> None:
    server = fastmcp_server(auth=provider_for(issuer))

    @server.custom_route("/health", methods=["GET"])
    async def health(request: Request) -> Response:
        return PlainTextResponse(f"{request.user.display_name} with {request.user.username}")

    app = server.http_app()
    assert (await call(app, "GET", "/health")).status == 401
    assert (
        await call(app, "GET", "/health", as_user(issuer, "bob"))
    ).body == b"bob with test-client"


# ----------------------------------------------------------------------- MCPServer(token_verifier=)


async def test_inside_the_sdk_our_verifier_decides(issuer: Issuer) -> None:
    app = sdk_with_our_verifier(issuer)
    refused = {
        "none": await post(app, {}),
        "garbage": await post(app, {"Authorization": "Bearer garbage"}),
        "audience": await post(app, as_user(issuer, aud=f"{RESOURCE}-other")),
        "expired": await post(app, as_user(issuer, exp=1)),
        "scope": await post(app, as_user(issuer, scope="other")),
    }
    assert {name: answer.status for name, answer in refused.items()} == {
        "none": 401,
        "garbage": 401,
        "audience": 401,
        "expired": 401,
        "scope": 403,
    }
    async with started(app):
        assert (await post(app, as_user(issuer))).status == 200


async def test_inside_the_sdk_an_outage_is_an_error_of_the_server_and_not_a_refusal(
    issuer: Issuer,
) -> None:
    """The SDK has no answer for it, so it is 500 there; with the middleware in front it is 503 and
    Retry-After.
    """
    issuer.fail("/jwks")
    app = sdk_with_our_verifier(issuer)

    async def server(scope: Scope, receive: Receive, send: Send) -> None:
        with pytest.raises(ServerUnavailable):
            await app(scope, receive, send)

    assert (await post(server, as_user(issuer))).status == 500


async def test_a_public_path_is_anonymous_for_the_sdk_despite_an_outer_layers_user(
    issuer: Issuer,
) -> None:
    """An identity set by an outer layer is overwritten."""
    seen: list[object] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(sdk_access_token())
        await PlainTextResponse("")(scope, receive, send)

    inner = MCPAuthMiddleware(app, provider_for(issuer), mcp_path="/mcp", public_paths=["/health"])
    outer = MCPAuthMiddleware(inner, provider_for(issuer), mcp_path="/mcp")
    assert (await call(outer, "GET", "/mcp", as_user(issuer, "alice"))).status == 200
    assert (await call(outer, "GET", "/health", as_user(issuer, "alice"))).status == 200
    assert [getattr(each, "subject", None) for each in seen] == ["alice", None]
