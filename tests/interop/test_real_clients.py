"""Real MCP clients get from a URL to the answer of a tool."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from fastmcp import Client as FastMCPClient
from fastmcp.client.auth import BearerAuth
from mcp.shared.exceptions import MCPError
from starlette.applications import Starlette
from starlette.routing import Mount

from asgi_mcp_auth import (
    IntrospectionTokenVerifier,
    JWTVerifier,
    MCPAuthMiddleware,
    MultiAuth,
    Refusal,
    RemoteAuthProvider,
    Tool,
)
from tests.interop.clients import CLIENTS, python_sdk
from tests.interop.identity_provider import IdentityProvider
from tests.interop.servers import (
    fastmcp_app,
    fastmcp_server,
    mcp_sdk_app,
    mcp_sdk_server,
    serving,
)
from tests.support.asgi import App
from tests.support.products import once_each

pytestmark = pytest.mark.asyncio

SOME = ("fastmcp", "python-sdk", "python-sdk-with-session", "typescript-sdk")
SERVERS: dict[str, Callable[[], App]] = {"mcp-sdk": mcp_sdk_app, "fastmcp": fastmcp_app}


@dataclass
class Server:
    """An MCP server behind the middleware, and what the middleware refused."""

    url: str = ""
    events: list[Refusal] = field(default_factory=list)

    @property
    def refusals(self) -> list[str]:
        return [event.reason for event in self.events]


@pytest.fixture(params=sorted(SERVERS))
def server(request: pytest.FixtureRequest, idp: IdentityProvider) -> Iterator[Server]:
    """Each MCP server in turn; it takes the identity provider's tokens."""
    server = Server()

    def build(base_url: str) -> App:
        verifier = JWTVerifier(issuer=idp.issuer, required_scopes=["mcp:read"])
        provider = RemoteAuthProvider(
            verifier, authorization_servers=[idp.issuer], base_url=base_url
        )
        return MCPAuthMiddleware(
            SERVERS[request.param](),
            provider,
            mcp_path="/mcp",
            rules=[Tool("write_note", scopes=["mcp:write"])],
            on_event=server.events.append,
        )

    with serving(build) as base_url:
        server.url = f"{base_url}/mcp"
        yield server


@pytest.mark.parametrize(("client", "server"), once_each(SOME, SERVERS), indirect=["server"])
async def test_a_client_signs_its_user_in_and_the_tool_knows_who_it_is(
    idp: IdentityProvider, server: Server, client: str
) -> None:
    async with CLIENTS[client](server.url, "bob") as connection:
        assert set(json.loads(await connection.call("whoami")).values()) == {"bob"}
        assert await connection.call("my_scopes") == "mcp:read"
        assert connection.sign_ins == 1
    assert server.refusals == ["missing_token"], "one challenge was enough"
    assert (idp.hits["/reg"], idp.hits["/token"]) == (1, 1)


@pytest.mark.parametrize(
    ("client", "server"),
    once_each(["python-sdk", "python-sdk-with-session", "typescript-sdk"], SERVERS),
    indirect=["server"],
)
async def test_a_tool_that_needs_more_makes_the_client_come_back_with_more(
    server: Server, client: str
) -> None:
    async with CLIENTS[client](server.url) as connection:
        assert await connection.call("write_note") == "written"
        assert {*(await connection.call("my_scopes")).split()} == {"mcp:read", "mcp:write"}
        assert connection.sign_ins == 2
    assert server.refusals == ["missing_token", "insufficient_scope"]


async def test_a_tool_that_raises_for_a_scope_makes_the_client_come_back_with_it(
    server: Server,
) -> None:
    """In MCP 2026-07-28, whose answers do not begin before the tool is done."""
    async with python_sdk(server.url) as connection:
        assert await connection.call("erase_note") == "erased"
        assert connection.asked >= {"mcp:read", "mcp:write"}
        assert connection.sign_ins == 2
    assert server.refusals == ["missing_token", "insufficient_scope"]


@pytest.mark.parametrize("kind", ["RS256", "PS256", "ES256", "EdDSA", "opaque"])
async def test_a_client_gets_in_with_every_kind_of_token_that_the_provider_issues(
    idp: IdentityProvider, kind: str
) -> None:
    def build(base_url: str) -> App:
        client_id, client_secret = idp.introspection_client
        opaque = IntrospectionTokenVerifier(
            introspection_url=idp.introspection_url,
            client_id=client_id,
            client_secret=client_secret,
        )
        both = MultiAuth(
            verifiers=[JWTVerifier(issuer=idp.issuer), opaque], required_scopes=["mcp:read"]
        )
        provider = RemoteAuthProvider(both, authorization_servers=[idp.issuer], base_url=base_url)
        app = mcp_sdk_server().streamable_http_app(streamable_http_path=f"/{kind}")
        return MCPAuthMiddleware(app, provider, mcp_path=f"/{kind}")

    with serving(build) as base_url:
        async with python_sdk(f"{base_url}/{kind}", "bob") as connection:
            assert json.loads(await connection.call("whoami")) == {"ours": "bob", "sdk": "bob"}
    assert ("/token/introspection" in idp.hits) == (kind == "opaque")


@pytest.mark.parametrize("client", SOME)
async def test_a_client_finds_a_mounted_fastmcp_server_with_our_provider(
    idp: IdentityProvider, client: str
) -> None:
    def build(base_url: str) -> App:
        verifier = JWTVerifier(issuer=idp.issuer, required_scopes=["mcp:read"])
        provider = RemoteAuthProvider(
            verifier, authorization_servers=[idp.issuer], base_url=f"{base_url}/api"
        )
        app = fastmcp_server(auth=provider).http_app()
        return Starlette(
            routes=[*provider.get_well_known_routes("/mcp"), Mount("/api", app)],
            lifespan=app.lifespan,
        )

    with serving(build) as base_url:
        async with CLIENTS[client](f"{base_url}/api/mcp", "bob") as connection:
            assert set(json.loads(await connection.call("whoami")).values()) == {"bob"}
            assert connection.sign_ins == 1


async def test_fastmcp_s_client_gets_in_with_a_token_it_was_given(
    idp: IdentityProvider, server: Server
) -> None:
    async with FastMCPClient(
        server.url, auth=BearerAuth(idp.token(server.url, user="carol"))
    ) as client:
        result = await client.call_tool("whoami")
    assert '"ours": "carol"' in result.content[0].text
    assert server.refusals == []


async def test_a_client_with_a_token_for_another_server_stays_outside(
    idp: IdentityProvider, server: Server
) -> None:
    token = idp.token("http://127.0.0.1:1/mcp")
    with pytest.raises(MCPError):
        async with FastMCPClient(server.url, auth=BearerAuth(token)):
            pass
    assert set(server.refusals) == {"audience"}
