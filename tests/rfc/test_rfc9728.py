"""OAuth 2.0 Protected Resource Metadata (RFC 9728)."""

from __future__ import annotations

from typing import Any

import pytest

from asgi_mcp_auth import (
    ConfigurationError,
    MCPAuthMiddleware,
    RemoteAuthProvider,
    StaticTokenVerifier,
)
from tests.support.asgi import Spy, call
from tests.support.protection import TOKENS, challenge_of
from tests.support.rows import rows
from tests.tables import metadata_paths

ISSUER = "https://idp.example.com"


def provider_at(base_url: str, **settings: Any) -> RemoteAuthProvider:
    return RemoteAuthProvider(
        StaticTokenVerifier(TOKENS, required_scopes=["mcp:read"]), [ISSUER], base_url, **settings
    )


@pytest.mark.case("W38")
@pytest.mark.rule("RS-01", "RS-03")
@rows(("base_url", "mcp_path", "root", "path"), metadata_paths.RESOURCES)
@pytest.mark.asyncio
async def test_the_document_is_at_the_inserted_path_and_names_the_configured_resource(
    base_url: str, mcp_path: str | None, root: str, path: str
) -> None:
    """§3.1: between host and path; §3.3: the resource value MUST be identical to the identifier it
    was found by.
    """
    provider = provider_at(base_url)
    app = MCPAuthMiddleware(Spy(), provider, mcp_path=mcp_path)
    location = f"{metadata_paths.RESOURCE}{path}"
    response = await call(app, "GET", location)
    assert (response.status, response.header("content-type")) == (200, "application/json")
    assert response.json()["resource"] == root + path
    assert provider.resource_metadata_url == root + location
    for target in (mcp_path or "/", "/anything"):
        challenge = challenge_of(await call(app, "POST", target))
        assert challenge["resource_metadata"] == root + location


@pytest.mark.rule("RS-06")
@pytest.mark.asyncio
async def test_members_without_a_value_are_left_out() -> None:
    """§3.2: parameters with zero values MUST be omitted."""
    bare = RemoteAuthProvider(StaticTokenVerifier(TOKENS), [ISSUER], "https://h.example")
    document = (
        await call(MCPAuthMiddleware(Spy(), bare), "GET", "/.well-known/oauth-protected-resource")
    ).json()
    assert document == {
        "resource": "https://h.example",
        "authorization_servers": [ISSUER],
        "bearer_methods_supported": ["header"],
    }


@pytest.mark.rule("RS-05")
@pytest.mark.asyncio
async def test_members_with_a_value_are_there() -> None:
    """§2."""
    full = provider_at(
        "https://h.example",
        scopes_supported=["mcp:read", "mcp:write", "offline_access"],
        resource_name="Wetter",
        resource_documentation="https://h.example/docs#auth",
        resource_base_url="https://r.example",
    )
    app = MCPAuthMiddleware(Spy(), full, mcp_path="/mcp")
    document = (await call(app, "GET", "/.well-known/oauth-protected-resource/mcp")).json()
    assert document == {
        "resource": "https://r.example/mcp",
        "authorization_servers": [ISSUER],
        "scopes_supported": ["mcp:read", "mcp:write"],
        "bearer_methods_supported": ["header"],
        "resource_name": "Wetter",
        "resource_documentation": "https://h.example/docs#auth",
    }
    assert (
        full.resource_metadata_url == "https://r.example/.well-known/oauth-protected-resource/mcp"
    )


@rows("url", ["http://h.example", "https://h.example#f", "https://h.example/?q", "h.example", ""])
def test_the_resource_is_an_https_url_without_fragment(url: str) -> None:
    """§1.2 and §2."""
    with pytest.raises(ConfigurationError, match=r"^base_url="):
        provider_at(url)


@pytest.mark.rule("RS-13", "RS-16")
@pytest.mark.asyncio
async def test_the_challenge_points_at_the_document_also_for_a_bad_token() -> None:
    """§5.1: the resource_metadata parameter."""
    app = MCPAuthMiddleware(Spy(), provider_at("https://h.example"), mcp_path="/mcp")
    url = "https://h.example/.well-known/oauth-protected-resource/mcp"
    for headers in ({}, {"Authorization": "Bearer unknown"}, {"Authorization": "Bearer bob-token"}):
        response = await call(app, "POST", "/mcp", headers)
        assert f'resource_metadata="{url}"' in (response.header("www-authenticate") or "")
