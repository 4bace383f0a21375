"""What a newcomer writes wrong on the first evening, and the words in the message that put it right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import AnyHttpUrl

from asgi_mcp_auth import ConfigurationError, JWTVerifier, MCPAuthMiddleware, RemoteAuthProvider, Rule
from tests.support.asgi import Spy

ISSUER = "https://idp.example"
BASE_URL = "https://mcp.example.com"


def provider(**settings: Any) -> RemoteAuthProvider:
    usual = {"authorization_servers": [ISSUER], "base_url": BASE_URL}
    return RemoteAuthProvider(JWTVerifier(issuer=ISSUER), **{**usual, **settings})


def protect(**settings: Any) -> MCPAuthMiddleware:
    return MCPAuthMiddleware(Spy(), **{"provider": provider(), **settings})


MISTAKES: dict[str, tuple[Callable[[], Any], str]] = {
    "the class instead of an instance": (lambda: protect(provider=JWTVerifier), "must be an AuthProvider"),
    "no provider": (lambda: protect(provider=None), "must be an AuthProvider"),
    "the two arguments swapped": (lambda: MCPAuthMiddleware(provider(), Spy()), "must be an ASGI app"),
    "an issuer without https": (lambda: JWTVerifier(issuer="idp.example"), "write it in full"),
    "a base_url without https": (lambda: provider(base_url="mcp.example.com"), "write it in full"),
    "an unencrypted base_url": (lambda: provider(base_url="http://mcp.example.com"), "write https://"),
    "FastMCP's URL type": (lambda: provider(base_url=AnyHttpUrl(BASE_URL)), "write the URL in plain quotes"),
    "FastMCP's URL type in a list": (
        lambda: provider(authorization_servers=[AnyHttpUrl(ISSUER)]),
        "write the URL in plain quotes",
    ),
    "one server instead of a list": (lambda: provider(authorization_servers=ISSUER), "must be a list"),
    "the URL as mcp_path": (lambda: protect(mcp_path=f"{BASE_URL}/mcp"), "begins with a slash"),
    "a path of a file as key": (lambda: JWTVerifier(public_key="/etc/key.pem"), "not a PEM public key"),
    "a shared secret without its algorithm": (lambda: JWTVerifier(public_key="s" * 40), "needs algorithm='HS256'"),
    "the private key": (
        lambda: JWTVerifier(public_key="-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"),
        "give the public one",
    ),
    "a wildcard in public_paths": (lambda: protect(public_paths=["/static/*"]), "has a wildcard"),
    "a wildcard in a rule": (lambda: Rule("/static/*", public=True), "has a wildcard"),
    "the path and its prefix": (
        lambda: protect(public_paths=["/docs", "/docs/"]),
        "name '/docs' twice: keep one .a Rule covers all below",
    ),
    "an open home page": (lambda: protect(public_paths=["/"]), "'/' would open every path"),
    "an environment variable where a bool belongs": (lambda: Rule("/a", public="no"), "must be a bool"),
    "the same in the middleware": (lambda: protect(forward_authorization="false"), "must be a bool"),
    "no audience": (lambda: protect(provider=JWTVerifier(issuer=ISSUER)), "give the provider or verifier a base_url"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_first_mistake_is_told_at_once_and_with_what_to_write(mistake: str) -> None:
    make, told = MISTAKES[mistake]
    with pytest.raises(ConfigurationError, match=told):
        make()
