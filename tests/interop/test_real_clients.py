"""Real MCP clients get from a URL to the answer of a tool: challenge, discovery, registration, sign-in, call."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field

import pytest
from fastmcp import Client as FastMCPClient
from fastmcp.client.auth import BearerAuth
from mcp.shared.exceptions import MCPError

from asgi_mcp_auth import AuthEvent, JWTVerifier, MCPAuthMiddleware, RemoteAuthProvider
from tests.interop import clients
from tests.interop.clients import Answer
from tests.interop.identity_provider import IdentityProvider
from tests.interop.servers import WritingNeedsMore, fastmcp_app, mcp_sdk_app, serving
from tests.support.asgi import App

pytestmark = pytest.mark.asyncio

CLIENTS: dict[str, Callable[..., Awaitable[Answer]]] = {
    "python-sdk": clients.python_sdk,
    "python-sdk-with-session": functools.partial(clients.python_sdk, era="legacy"),
    "typescript-sdk": clients.typescript,
    "fastmcp": clients.fastmcp,
}
SERVERS: dict[str, Callable[[], App]] = {"mcp-sdk": mcp_sdk_app, "fastmcp": fastmcp_app}


@dataclass
class Server:
    """An MCP server behind the middleware, and what the middleware refused."""

    url: str = ""
    events: list[AuthEvent] = field(default_factory=list)

    @property
    def refusals(self) -> list[str]:
        return [event.reason for event in self.events]


@pytest.fixture(params=sorted(SERVERS))
def server(request: pytest.FixtureRequest, idp: IdentityProvider) -> Iterator[Server]:
    """Each MCP server in turn; it takes the identity provider's tokens."""
    server = Server()

    def build(base_url: str) -> App:
        verifier = JWTVerifier(issuer=idp.issuer, required_scopes=["mcp:read"])
        provider = RemoteAuthProvider(verifier, authorization_servers=[idp.issuer], base_url=base_url)
        app = WritingNeedsMore(SERVERS[request.param]())
        return MCPAuthMiddleware(app, provider, mcp_path="/mcp", on_event=server.events.append)

    with serving(build) as base_url:
        server.url = f"{base_url}/mcp"
        yield server


@pytest.mark.parametrize("client", sorted(CLIENTS))
async def test_a_client_signs_its_user_in_and_the_tool_knows_who_it_is(
    idp: IdentityProvider, server: Server, client: str
) -> None:
    answer = await CLIENTS[client](server.url, "whoami", user="bob")
    assert set(answer.json().values()) == {"bob"}
    assert (answer.sign_ins, answer.scopes) == (1, {"mcp:read"})
    assert server.refusals == ["missing_token"], "one challenge was enough"
    assert (idp.hits["/reg"], idp.hits["/token"]) == (1, 1)


@pytest.mark.parametrize("client", ["python-sdk", "python-sdk-with-session", "typescript-sdk"])
async def test_a_tool_that_needs_more_makes_the_client_come_back_with_more(server: Server, client: str) -> None:
    answer = await CLIENTS[client](server.url, "write_note")
    assert answer.text == "written"
    assert (answer.sign_ins, answer.scopes) == (2, {"mcp:read", "mcp:write"})
    assert server.refusals == ["missing_token", "insufficient_scope"]


async def test_fastmcp_s_client_gets_in_with_a_token_it_was_given(idp: IdentityProvider, server: Server) -> None:
    async with FastMCPClient(server.url, auth=BearerAuth(idp.token(server.url, user="carol"))) as client:
        result = await client.call_tool("whoami")
    assert '"ours": "carol"' in result.content[0].text
    assert server.refusals == []


async def test_a_client_with_a_token_for_another_server_stays_outside(idp: IdentityProvider, server: Server) -> None:
    token = idp.token("http://127.0.0.1:1/mcp")
    with pytest.raises(MCPError):
        async with FastMCPClient(server.url, auth=BearerAuth(token)):
            pass
    assert set(server.refusals) == {"audience"}
