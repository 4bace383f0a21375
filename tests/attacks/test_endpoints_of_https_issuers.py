"""Metadata of an https issuer names https URLs only, never a port of this machine."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from asgi_mcp_auth import (
    ConfigurationError,
    JWKSOptions,
    JWTVerifier,
    OAuthProxy,
    ServerUnavailable,
    UserinfoTokenVerifier,
)
from asgi_mcp_auth._http import HTTPFetcher
from asgi_mcp_auth.proxy.upstream import Discovery
from asgi_mcp_auth.testing import FrozenClock, Issuer
from tests.support.rows import rows
from tests.support.tls import Authority, DocumentHost

PLAIN = ("http://localhost:9/x", "http://127.0.0.1:9/x", "http://[::1]:9/x", "HTTP://localhost:9/x")
ELSEWHERE = "http://idp.example.com/x"
NEEDED = ("authorization_endpoint", "token_endpoint", "jwks_uri")
ENDPOINTS = (*NEEDED, "revocation_endpoint", "userinfo_endpoint")


class Host:
    """An https issuer, and a client that believes in its certificate."""

    def __init__(self, host: DocumentHost, http: httpx.AsyncClient) -> None:
        self.host = host
        self.http = http
        self.issuer = host.url("")

    def serve(self, **members: str) -> None:
        """Serve metadata with these members in place of the usual ones."""
        usual = {name: self.host.url(f"/{name}") for name in ENDPOINTS}
        self.host.serve(
            "/.well-known/openid-configuration", {"issuer": self.issuer, **usual, **members}
        )
        self.host.serve("/elsewhere", {"issuer": self.issuer, **usual, **members})

    def discovery(self, issuers: tuple[str, ...], config_url: str | None) -> Discovery:
        """Return what looks for the endpoints."""
        clock: Any = FrozenClock()
        return Discovery(
            issuers, config_url, HTTPFetcher(timeout_seconds=5, client=self.http), clock
        )


@pytest_asyncio.fixture
async def https() -> AsyncIterator[Host]:
    with Authority() as authority, DocumentHost(authority) as host:
        context = ssl.create_default_context(cafile=authority.ca_file)
        async with httpx.AsyncClient(verify=context, trust_env=False) as http:
            yield Host(host, http)


@pytest.fixture
def plain() -> Iterator[Issuer]:
    with Issuer(algorithms=("ES256",)) as issuer:
        yield issuer


@pytest.mark.case("P20")
@pytest.mark.asyncio
@pytest.mark.parametrize("url", [*PLAIN, ELSEWHERE])
@pytest.mark.parametrize("name", ENDPOINTS)
async def test_a_proxy_uses_no_http_endpoint_of_an_https_issuer(
    https: Host, caplog: pytest.LogCaptureFixture, name: str, url: str
) -> None:
    """RFC 8414 §2."""
    https.serve(**{name: url})
    find = https.discovery((https.issuer,), None)
    if name in NEEDED:
        with pytest.raises(ServerUnavailable):
            await find()
    else:
        found = await find()
        assert (found.revocation is None) == (name == "revocation_endpoint")
        assert (found.userinfo is None) == (name == "userinfo_endpoint")
    assert f"{name}='{url}' is not encrypted" in caplog.text


@pytest.mark.asyncio
@pytest.mark.parametrize("issuers", [(), ("http://localhost:9",), ("https://idp.example.com",)])
async def test_where_the_metadata_lie_decides(https: Host, issuers: tuple[str, ...]) -> None:
    config_url = https.host.url(
        "/.well-known/openid-configuration" if not issuers else "/elsewhere"
    )
    https.serve(token_endpoint=PLAIN[0])
    with pytest.raises(ServerUnavailable):
        await https.discovery(issuers, config_url)()
    https.serve()
    assert (await https.discovery(issuers, config_url)()).token == https.host.url("/token_endpoint")


@pytest.mark.asyncio
async def test_who_fetches_the_metadata_from_loopback_may_be_led_there(plain: Issuer) -> None:
    """A program listening there could also name other https addresses."""
    clock: Any = FrozenClock()
    config_url = f"{plain.issuer}/.well-known/openid-configuration"
    find = Discovery(
        ("https://idp.example.com",), config_url, HTTPFetcher(timeout_seconds=5), clock
    )
    assert (await find()).token == f"{plain.issuer}/token"


@pytest.mark.case("K21")
@pytest.mark.asyncio
async def test_a_verifier_fetches_the_keys_of_an_https_issuer_by_https(
    https: Host, plain: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    """A program that can listen there would sign in the issuer's name."""
    https.serve(jwks_uri=plain.jwks_uri)
    verifier = JWTVerifier(
        issuer=https.issuer, audience="us", jwks=JWKSOptions(http_client=https.http)
    )
    token = plain.mint(iss=https.issuer, aud="us")
    with pytest.raises(ServerUnavailable):
        await verifier.verify(token)
    assert plain.hits["/jwks"] == 0
    assert "is not encrypted" in caplog.text
    https.host.serve("/jwks_uri", plain.jwks)
    https.serve()
    fresh = JWTVerifier(
        issuer=https.issuer, audience="us", jwks=JWKSOptions(http_client=https.http)
    )
    assert (await fresh.verify(token)).subject == "alice"


@pytest.mark.asyncio
async def test_an_issuer_on_loopback_may_name_http_there(plain: Issuer) -> None:
    verifier = JWTVerifier(issuer=plain.issuer, audience="us")
    assert (await verifier.verify(plain.mint(aud="us"))).subject == "alice"


@rows("url", PLAIN)
@rows("setting", ["upstream_token_endpoint", "upstream_revocation_endpoint"])
def test_endpoints_of_an_https_provider_in_settings_are_https(setting: str, url: str) -> None:
    endpoints: dict[str, Any] = {
        "upstream_authorization_endpoint": "https://idp.example.com/authorize",
        "upstream_token_endpoint": "https://idp.example.com/token",
        "upstream_revocation_endpoint": "https://idp.example.com/revoke",
    }
    usual: dict[str, Any] = {
        "upstream_client_id": "the-proxy",
        "upstream_client_secret": "the secret",
        "token_verifier": UserinfoTokenVerifier(userinfo_url="https://idp.example.com/me"),
        "base_url": "http://localhost:8000",
        "store": "memory:",
    }
    OAuthProxy(**endpoints, **usual)
    with pytest.raises(ConfigurationError, match=setting) as caught:
        OAuthProxy(**{**endpoints, setting: url}, **usual)
    assert "write https://" in str(caught.value)
    loopback = {name: f"http://localhost:9/{name}" for name in endpoints}
    OAuthProxy(**loopback, **usual)
