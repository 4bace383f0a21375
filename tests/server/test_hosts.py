"""Deployments: at the root, below a path, behind the middleware, mounted, inside other servers."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from mcp.server.auth.settings import AuthSettings
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from asgi_mcp_auth import DevLogin, JWTVerifier, MCPAuthMiddleware, MultiAuth, OAuthProvider
from asgi_mcp_auth.mounting import CHALLENGES_BEFORE_WARNING
from asgi_mcp_auth.server import ServerOptions
from asgi_mcp_auth.testing import FrozenClock, Issuer
from tests.interop.servers import GREETING, MCP_HEADERS, fastmcp_server, mcp_sdk_server, started
from tests.support.asgi import App, Spy, call, mounted
from tests.support.authorization_server import ClientOf, Server, deploy, memory_store
from tests.support.rows import rows

pytestmark = pytest.mark.asyncio

ROOT, BELOW = "http://localhost:8000", "http://localhost:8000/t1"


def provider_at(base_url: str, clock: FrozenClock | None = None, **options: Any) -> OAuthProvider:
    clock = clock or FrozenClock()
    return OAuthProvider(
        base_url=base_url,
        login=DevLogin(),
        store=memory_store(clock),
        required_scopes=["mcp:read"],
        options=ServerOptions(clock=clock, **options),
    )


async def tool(request: Request) -> PlainTextResponse:
    return PlainTextResponse(f"hello {request.user.display_name}")


def by_the_middleware(provider: OAuthProvider) -> App:
    return MCPAuthMiddleware(Spy(), provider, mcp_path="/mcp")


def by_starlettes_middleware(provider: OAuthProvider) -> App:
    middleware = [Middleware(MCPAuthMiddleware, provider=provider, mcp_path="/mcp")]
    return Starlette(routes=[Route("/mcp", tool), Route("/t1/mcp", tool)], middleware=middleware)


def by_hand(provider: OAuthProvider) -> App:
    """Its routes among others at the root of the host, and behind them what is protected."""
    inner = MCPAuthMiddleware(Starlette(routes=[Route("/mcp", tool)]), provider, mcp_path="/mcp")
    path = (provider.base_url or "").removeprefix(ROOT)
    return Starlette(
        routes=[Route("/other", tool), *provider.get_routes("/mcp"), Mount(path or "/", inner)]
    )


def below_a_mount(provider: OAuthProvider) -> App:
    """Mounted below the path, and at the root only what lies below ``/.well-known/``."""
    inner = MCPAuthMiddleware(Starlette(routes=[Route("/mcp", tool)]), provider, mcp_path="/mcp")
    path = (provider.base_url or "").removeprefix(ROOT)
    return Starlette(routes=[*provider.get_well_known_routes("/mcp"), Mount(path or "/", inner)])


def behind_a_proxy_that_strips(provider: OAuthProvider) -> App:
    """All that is asked for arrives without the path of base_url, root_path aside."""
    path = (provider.base_url or "").removeprefix(ROOT)
    inner = MCPAuthMiddleware(Spy(), provider, mcp_path="/mcp")

    async def proxy(scope: Any, receive: Any, send: Any) -> None:
        stripped = scope["path"]
        if path and (stripped == path or stripped.startswith(f"{path}/")):
            stripped = stripped[len(path) :] or "/"
        await inner({**scope, "path": stripped, "raw_path": stripped.encode()}, receive, send)

    return proxy


HOSTS = [
    by_the_middleware,
    by_starlettes_middleware,
    by_hand,
    below_a_mount,
    behind_a_proxy_that_strips,
]


@rows("base_url", [ROOT, BELOW])
@rows("host", HOSTS, ids=lambda host: host.__name__)
async def test_a_client_finds_everything_and_gets_in(
    host: Callable[[OAuthProvider], App], base_url: str
) -> None:
    """From the challenge on, over nothing but the URLs that it is told."""
    clock = FrozenClock()
    provider = provider_at(base_url, clock)
    server = Server(provider, host(provider), Spy(), clock, [])  # type: ignore[arg-type]  # any app will do
    path = base_url.removeprefix(ROOT)
    async with provider:
        refused = await server.call("POST", f"{path}/mcp")
        assert refused.status == 401
        location = (
            (refused.header("www-authenticate") or "")
            .partition('resource_metadata="')[2]
            .partition('"')[0]
        )
        resource = (await server.call("GET", location.removeprefix(ROOT))).json()
        assert resource["resource"] == f"{base_url}/mcp"
        (issuer,) = resource["authorization_servers"]
        inserted = f"/.well-known/oauth-authorization-server{issuer.removeprefix(ROOT)}"
        metadata = (await server.call("GET", inserted)).json()
        document = {
            "redirect_uris": ["http://127.0.0.1/callback"],
            "token_endpoint_auth_method": "none",
        }
        target = metadata["registration_endpoint"].removeprefix(ROOT)
        registered = await server.call("POST", target, document=document)
        assert registered.status == 201
        client = ClientOf(server, registered.json())
        assert metadata["authorization_endpoint"] == f"{base_url}/authorize"
        code = await client.code()
        form = {"grant_type": "authorization_code", "code": code, "code_verifier": client.verifier}
        target = metadata["token_endpoint"].removeprefix(ROOT)
        tokens = (
            await server.call("POST", target, form={**form, "client_id": client.client_id})
        ).json()
        method = "POST" if host in (by_the_middleware, behind_a_proxy_that_strips) else "GET"
        accepted = await server.call(method, f"{path}/mcp", bearer=tokens["access_token"])
        assert (accepted.status, accepted.body[:5]) == (200, b"hello")
        keys = await server.call("GET", metadata["jwks_uri"].removeprefix(ROOT))
        assert len(keys.json()["keys"]) == 1
        for target in (
            f"/.well-known/openid-configuration{path}",
            f"{path}/.well-known/openid-configuration",
        ):
            assert (await server.call("GET", target)).json()["issuer"] == base_url


async def test_a_prefix_moves_the_endpoints_and_leaves_the_documents() -> None:
    async with deploy(options={"path_prefix": "/oauth"}) as server:
        await registered_at(server, "/oauth/register")
        metadata = (await server.call("GET", "/.well-known/oauth-authorization-server")).json()
        assert metadata["token_endpoint"] == f"{ROOT}/oauth/token"
        assert metadata["jwks_uri"] == f"{ROOT}/.well-known/jwks.json"
        for target in ("/token", "/register", "/authorize", "/login"):
            # the app's, and so protected
            assert (await server.call("POST", target, form={})).status == 401


async def registered_at(server: Server, target: str) -> dict[str, Any]:
    document = {
        "redirect_uris": ["http://127.0.0.1/callback"],
        "token_endpoint_auth_method": "none",
    }
    response = await server.call("POST", target, document=document)
    assert response.status == 201
    information: dict[str, Any] = response.json()
    return information


# ----------------------------------------------------------------------------- inside other servers


async def test_several_issuers_beside_a_server_of_our_own() -> None:
    """MultiAuth: its routes and metadata are the server's, tokens of all issuers count."""
    clock = FrozenClock()
    provider = provider_at(ROOT, clock)
    with Issuer(algorithms=("ES256",), clock=clock) as issuer:
        other = JWTVerifier(issuer=issuer.issuer, jwks_uri=issuer.jwks_uri, clock=clock)
        both = MultiAuth(server=provider, verifiers=[other])
        spy = Spy()
        app = MCPAuthMiddleware(spy, both, mcp_path="/mcp")
        server = Server(provider, app, spy, clock, [])
        async with both:
            tokens = await (await server.register()).sign_in("alice")
            theirs = issuer.mint(aud=f"{ROOT}/mcp", sub="bob", scope="mcp:read")
            for token, subject in ((tokens["access_token"], "alice"), (theirs, "bob")):
                assert (await server.call("POST", "/mcp", bearer=token)).status == 200
                assert spy.scopes[-1]["access_token"].subject == subject
            refused = await server.call(
                "POST", "/mcp", bearer=issuer.mint(aud="https://other.example", scope="mcp:read")
            )
            assert refused.status == 401
            assert "resource_metadata" in (refused.header("www-authenticate") or "")
            form = {"token": tokens["access_token"], "client_id": await client_id_of(server)}
            assert (await server.call("POST", "/revoke", form=form)).status == 200
            assert (await server.call("POST", "/mcp", bearer=tokens["access_token"])).status == 401
            assert (await server.call("POST", "/mcp", bearer=theirs)).status == 200


async def client_id_of(server: Server) -> str:
    (client,) = [each async for each in server.provider.admin.clients()]
    return client.client_id


@asynccontextmanager
async def running(app: App, provider: OAuthProvider, clock: FrozenClock) -> AsyncIterator[Server]:
    async with started(app), provider:
        yield Server(provider, app, Spy(), clock, [])  # type: ignore[arg-type]  # any app will do


@pytest.mark.parametrize("base_url", [ROOT, BELOW])
async def test_fastmcp_takes_it_as_its_own_provider(base_url: str) -> None:
    clock = FrozenClock()
    provider = provider_at(base_url, clock)
    path = base_url.removeprefix(ROOT)
    inner: Any = fastmcp_server(auth=provider).http_app(path="/mcp")
    app = (
        inner
        if not path
        else Starlette(
            routes=[*provider.get_well_known_routes("/mcp"), Mount(path, inner)],
            lifespan=inner.lifespan,
        )
    )
    async with running(app, provider, clock) as server:
        refused = await call(app, "POST", f"{path}/mcp", MCP_HEADERS)
        assert refused.status == 401
        assert f'resource_metadata="{ROOT}/.well-known/oauth-protected-resource{path}/mcp"' in (
            refused.header("www-authenticate") or ""
        )
        tokens = await sign_in(server, path)
        headers = {**MCP_HEADERS, "Authorization": f"Bearer {tokens['access_token']}"}
        response = await server.call("POST", f"{path}/mcp", headers=headers, document=GREETING)
        assert response.status == 200


async def test_the_mcp_sdk_takes_it_as_its_verifier_beside_its_routes() -> None:
    clock = FrozenClock()
    provider = provider_at(ROOT, clock)
    routes = provider.get_routes("/mcp")
    settings = AuthSettings(
        issuer_url=ROOT,
        resource_server_url=f"{ROOT}/mcp",
        required_scopes=["mcp:read"],
        validate_token_resource=True,
    )
    inner: Any = mcp_sdk_server(token_verifier=provider, auth=settings).streamable_http_app()
    app = Starlette(routes=[*routes, Mount("/", inner)], lifespan=inner.router.lifespan_context)
    async with running(app, provider, clock) as server:
        assert (await call(app, "POST", "/mcp", MCP_HEADERS)).status == 401
        tokens = await sign_in(server)
        headers = {**MCP_HEADERS, "Authorization": f"Bearer {tokens['access_token']}"}
        assert (await server.call("POST", "/mcp", headers=headers, document=GREETING)).status == 200


async def sign_in(server: Server, path: str = "") -> dict[str, Any]:
    client = ClientOf(server, await registered_at(server, f"{path}/register"))
    form = {
        "grant_type": "authorization_code",
        "code": await client.code(),
        "code_verifier": client.verifier,
    }
    response = await server.call(
        "POST", f"{path}/token", form={**form, "client_id": client.client_id}
    )
    assert response.status == 200
    tokens: dict[str, Any] = response.json()
    return tokens


async def test_two_servers_in_one_host_have_clients_keys_and_documents_of_their_own() -> None:
    clock = FrozenClock()
    store = memory_store(clock)
    providers = [
        OAuthProvider(
            base_url=f"{ROOT}/{name}",
            login=DevLogin(),
            store=store,
            required_scopes=["mcp:read"],
            options=ServerOptions(clock=clock),
        )
        for name in ("a", "b")
    ]
    inner = [MCPAuthMiddleware(Spy(), each, mcp_path="/mcp") for each in providers]
    documents = [route for each in providers for route in each.get_well_known_routes("/mcp")]
    app = Starlette(routes=[*documents, Mount("/a", inner[0]), Mount("/b", inner[1])])
    servers = [Server(each, app, Spy(), clock, []) for each in providers]  # type: ignore[arg-type]  # any app
    async with providers[0], providers[1]:
        tokens = [
            await sign_in(server, f"/{name}") for server, name in zip(servers, "ab", strict=True)
        ]
        for mine, name in enumerate("ab"):
            for index, each in enumerate(tokens):
                response = await call(
                    app, "POST", f"/{name}/mcp", {"Authorization": f"Bearer {each['access_token']}"}
                )
                assert response.status == (200 if index == mine else 401)
            document = await call(app, "GET", f"/.well-known/oauth-authorization-server/{name}")
            assert document.json()["issuer"] == f"{ROOT}/{name}"


async def test_below_a_mount_a_few_requests_log_what_the_host_has_to_add(
    caplog: pytest.LogCaptureFixture,
) -> None:
    provider = provider_at(BELOW)
    app = mounted(MCPAuthMiddleware(Spy(), provider, mcp_path="/mcp"), "/t1")
    with caplog.at_level(logging.WARNING, "asgi_mcp_auth"):
        for _ in range(CHALLENGES_BEFORE_WARNING):
            assert (await call(app, "POST", "/t1/mcp")).status == 401
    assert "get_well_known_routes('/mcp')" in caplog.text
