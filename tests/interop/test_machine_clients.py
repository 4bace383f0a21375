"""Clients that act for themselves (client_credentials), with the MCP SDKs' own providers for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from fastmcp import FastMCP
from fastmcp.server.extensions import ServerExtension
from joserfc.jwk import ECKey, RSAKey
from mcp.client.auth.extensions.client_credentials import (
    ClientCredentialsOAuthProvider,
    PrivateKeyJWTOAuthProvider,
    SignedJWTParameters,
)
from mcp.server.extension import Extension
from mcp.server.mcpserver import MCPServer

from asgi_mcp_auth.server import Registration
from tests.interop.clients import NPM, Memory, Refused, python_sdk_with, typescript
from tests.interop.deployment import Deployment, deployed, whoever
from tests.interop.identity_provider import FOLDER
from tests.interop.servers import mcp_sdk_app

pytestmark = pytest.mark.asyncio

EXTENSION = "io.modelcontextprotocol/oauth-client-credentials"
SECRET = "a-secret-that-is-long-enough-for-this"


def pem_of(key: Any) -> str:
    return str(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())


KEYS = {
    "ES256": pem_of(ec.generate_private_key(ec.SECP256R1())),
    "RS256": pem_of(rsa.generate_private_key(public_exponent=65537, key_size=2048)),
}
PUBLIC = [
    kind.import_key(KEYS[algorithm]).as_dict(private=False)
    for kind, algorithm in ((ECKey, "ES256"), (RSAKey, "RS256"))
]
MACHINES = [
    {"client_id": "robot", "client_secret": SECRET,
     "grant_types": ["client_credentials"], "scope": "mcp:read"},
    {"client_id": "writer", "client_secret": SECRET,
     "token_endpoint_auth_method": "client_secret_post",
     "grant_types": ["client_credentials"]},
    {"client_id": "signer", "jwks": {"keys": PUBLIC}, "grant_types": ["client_credentials"]},
]  # fmt: skip


@pytest.fixture
def deployment() -> Iterator[Deployment]:
    """A server that knows three machines, and has no registration."""
    registration = Registration(clients=MACHINES, metadata_documents=False)
    with deployed(
        mcp_sdk_app(), registration=registration, allow_dynamic_registration=False
    ) as server:
        yield server


def by_secret(deployment: Deployment, client_id: str, method: Any, secret: str = SECRET) -> Any:
    issuer = deployment.provider.base_url
    return ClientCredentialsOAuthProvider(
        deployment.url,
        Memory(),
        client_id,
        secret,
        token_endpoint_auth_method=method,
        issuer=issuer,
    )


def by_key(deployment: Deployment, algorithm: str) -> Any:
    assertions = SignedJWTParameters(
        issuer="signer", subject="signer", signing_key=KEYS[algorithm], signing_algorithm=algorithm
    ).create_assertion_provider()
    return PrivateKeyJWTOAuthProvider(
        deployment.url, Memory(), "signer", assertions, issuer=deployment.provider.base_url
    )


async def revoke_all(deployment: Deployment) -> None:
    """Have the operator end what machines got; time cannot do it, because they sign by their own
    clocks.
    """
    admin = deployment.provider.admin
    for grant_id, _ in [each async for each in admin.grants()]:
        await admin.revoke_grant(grant_id)
    assert deployment.done() == ["grant_revoked"]


PYTHON: dict[str, tuple[str, Callable[[Deployment], Any]]] = {
    "secret in the header": (
        "robot",
        lambda server: by_secret(server, "robot", "client_secret_basic"),
    ),
    "secret in the body": (
        "writer",
        lambda server: by_secret(server, "writer", "client_secret_post"),
    ),
    "ES256": ("signer", lambda server: by_key(server, "ES256")),
    "RS256": ("signer", lambda server: by_key(server, "RS256")),
}


@pytest.mark.rule("EXT-01", "EXT-02")
@pytest.mark.parametrize("how", PYTHON)
async def test_a_machine_gets_in_with_the_python_sdk_also_after_a_revocation(
    deployment: Deployment, how: str
) -> None:
    name, provider = PYTHON[how]
    async with python_sdk_with(deployment.url, provider(deployment)) as client:
        for _ in range(2):
            result = await client.call_tool("whoami")
            assert whoever(result.content[0].text) == {name}
            assert deployment.done() == ["token_issued"]
            await revoke_all(deployment)


@pytest.mark.rule("EXT-01", "EXT-02")
@pytest.mark.parametrize("packages", [FOLDER, NPM], ids=["first generation", "second generation"])
@pytest.mark.parametrize("how", ["secret", "ES256", "RS256"])
async def test_a_machine_gets_in_with_the_typescript_sdk_also_after_a_revocation(
    deployment: Deployment, packages: Path, how: str
) -> None:
    credentials = {"clientId": "robot", "clientSecret": SECRET}
    if how != "secret":
        credentials = {"clientId": "signer", "privateKey": KEYS[how], "algorithm": how}
    credentials["expectedIssuer"] = deployment.provider.base_url or ""
    async with typescript(deployment.url, packages=packages, credentials=credentials) as client:
        for _ in range(2):
            assert whoever(await client.call("whoami")) == {credentials["clientId"]}
            assert deployment.done() == ["token_issued"]
            await revoke_all(deployment)


async def test_a_machine_that_may_only_read_stays_outside_of_what_needs_more(
    deployment: Deployment,
) -> None:
    credentials = {"clientId": "robot", "clientSecret": SECRET, "scope": "mcp:read"}
    async with typescript(deployment.url, packages=NPM, credentials=credentials) as client:
        assert await client.call("my_scopes") == "mcp:read"
        with pytest.raises(Refused):
            await client.call("write_note")
    assert "insufficient_scope" in deployment.reasons()


async def test_a_machine_with_a_wrong_secret_stays_outside(deployment: Deployment) -> None:
    credentials = {"clientId": "robot", "clientSecret": "wrong"}
    async with typescript(deployment.url, packages=NPM, credentials=credentials) as client:
        with pytest.raises(Refused, match="Client authentication failed"):
            await client.call("whoami")
    assert {event.reason for event in deployment.events if event.action == "refused"} == {"secret"}


# ------------------------------------------------------------------------ the server says it can do


class SDKClientCredentials(Extension):
    identifier = EXTENSION


class FastMCPClientCredentials(ServerExtension):
    identifier = EXTENSION


@pytest.mark.rule("EXT-04")
@pytest.mark.parametrize("library", ["mcp-sdk", "fastmcp"])
async def test_a_server_advertises_the_extension_with_its_library_s_own_means(library: str) -> None:
    """Two lines; a helper of ours would save none."""
    if library == "mcp-sdk":
        server: Any = MCPServer("notes", extensions=[SDKClientCredentials()])
    else:
        server = FastMCP("notes")
        server.add_extension(FastMCPClientCredentials())
    app = server.streamable_http_app() if library == "mcp-sdk" else server.http_app()
    with deployed(app, registration=Registration(clients=MACHINES)) as deployment:
        oauth = by_secret(deployment, "robot", "client_secret_basic")
        async with python_sdk_with(deployment.url, oauth) as client:
            assert client.protocol_version == "2026-07-28", "which greets with server/discover"
            assert client.server_capabilities.extensions[EXTENSION] == {}
