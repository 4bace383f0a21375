"""Typical first mistakes, and the messages that correct them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import AnyHttpUrl

from asgi_mcp_auth import (
    AppLogin,
    ConfigurationError,
    DevLogin,
    JWTVerifier,
    MCPAuthMiddleware,
    OAuthProvider,
    OAuthProxy,
    OIDCProxy,
    PasswordLogin,
    RemoteAuthProvider,
    Rule,
)
from asgi_mcp_auth.proxy import UpstreamRules
from asgi_mcp_auth.server import Lifetimes, Pages, RateLimits, Registration, ServerOptions
from asgi_mcp_auth.stores.memory import MemoryStore
from tests.support.asgi import Spy
from tests.support.rows import rows

ISSUER = "https://idp.example"
BASE_URL = "https://mcp.example.com"


def provider(**settings: Any) -> RemoteAuthProvider:
    usual = {"authorization_servers": [ISSUER], "base_url": BASE_URL}
    return RemoteAuthProvider(JWTVerifier(issuer=ISSUER), **{**usual, **settings})


def protect(**settings: Any) -> MCPAuthMiddleware:
    return MCPAuthMiddleware(Spy(), **{"provider": provider(), **settings})


MISTAKES: dict[str, tuple[Callable[[], Any], str]] = {
    "the class instead of an instance": (
        lambda: protect(provider=JWTVerifier),
        "must be an AuthProvider",
    ),
    "no provider": (lambda: protect(provider=None), "must be an AuthProvider"),
    "the two arguments swapped": (
        lambda: MCPAuthMiddleware(provider(), Spy()),
        "must be an ASGI app",
    ),
    "an issuer without https": (lambda: JWTVerifier(issuer="idp.example"), "write it in full"),
    "a base_url without https": (lambda: provider(base_url="mcp.example.com"), "write it in full"),
    "an unencrypted base_url": (
        lambda: provider(base_url="http://mcp.example.com"),
        "write https://",
    ),
    "FastMCP's URL type": (
        lambda: provider(base_url=AnyHttpUrl(BASE_URL)),
        "write the URL in plain quotes",
    ),
    "FastMCP's URL type in a list": (
        lambda: provider(authorization_servers=[AnyHttpUrl(ISSUER)]),
        "write the URL in plain quotes",
    ),
    "one server instead of a list": (
        lambda: provider(authorization_servers=ISSUER),
        "must be a list",
    ),
    "the URL as mcp_path": (lambda: protect(mcp_path=f"{BASE_URL}/mcp"), "begins with a slash"),
    "a path of a file as key": (
        lambda: JWTVerifier(public_key="/etc/key.pem"),
        "not a PEM public key",
    ),
    "a shared secret without its algorithm": (
        lambda: JWTVerifier(public_key="s" * 40),
        "needs algorithm='HS256'",
    ),
    "the private key": (
        lambda: JWTVerifier(
            public_key="-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"
        ),
        "give the public one",
    ),
    "a wildcard in public_paths": (lambda: protect(public_paths=["/static/*"]), "has a wildcard"),
    "a wildcard in a rule": (lambda: Rule("/static/*", public=True), "has a wildcard"),
    "the path and its prefix": (
        lambda: protect(public_paths=["/docs", "/docs/"]),
        "name '/docs' twice: keep one .a Rule also covers",
    ),
    "an open home page": (lambda: protect(public_paths=["/"]), "'/' would open every path"),
    "an environment variable where a bool belongs": (
        lambda: Rule("/a", public="no"),
        "must be a bool",
    ),
    "the same in the middleware": (
        lambda: protect(forward_authorization="false"),
        "must be a bool",
    ),
    "no audience": (
        lambda: protect(provider=JWTVerifier(issuer=ISSUER)),
        "give the provider or verifier a base_url",
    ),
}


LOCAL = "http://127.0.0.1:8000"


def sign_in(**settings: Any) -> OAuthProvider:
    return OAuthProvider(**{"base_url": LOCAL, "login": DevLogin(), "store": "memory:", **settings})


def knowing(**client: Any) -> OAuthProvider:
    return sign_in(
        required_scopes=["a"], registration=Registration(clients=[{"client_id": "x", **client}])
    )


MISTAKES |= {
    "no login": (lambda: sign_in(login=None), "PasswordLogin.*AppLogin.*DevLogin"),
    "the login class": (lambda: sign_in(login=DevLogin), "must say how people sign in"),
    "users instead of a login": (lambda: sign_in(login={"alice": "secret"}), "PasswordLogin"),
    "an unencrypted server": (lambda: sign_in(base_url="http://mcp.example.com"), "write https://"),
    "the development login in the open": (
        lambda: sign_in(base_url=BASE_URL),
        r"write login=PasswordLogin\(…\)",
    ),
    "plain passwords in the open": (
        lambda: sign_in(base_url=BASE_URL, login=PasswordLogin({"alice": "secret"})),
        "store the result of hash_password",
    ),
    "a password that is not set": (lambda: PasswordLogin({"alice": None}), "hash_password"),
    "a path instead of a login URL": (lambda: AppLogin("/sign-in"), "write it in full"),
    "a file name as store": (lambda: sign_in(store="auth.db"), "sqlite:///auth.db"),
    "two slashes in the store's URL": (
        lambda: sign_in(store="sqlite://auth.db"),
        "write sqlite:///auth.db",
    ),
    "Redis without a key": (
        lambda: sign_in(store="redis://localhost"),
        "encryption_keys.*secrets.token_urlsafe",
    ),
    "a store in the clear": (lambda: sign_in(store=MemoryStore()), "write EncryptedStore"),
    "one scope instead of a list": (
        lambda: sign_in(required_scopes="notes:read"),
        "must be a list",
    ),
    "a scheme with its slashes": (
        lambda: sign_in(allowed_redirect_schemes=["cursor://"]),
        r"like \['cursor'\]",
    ),
    "limits of zero": (lambda: RateLimits(token=0), "write rate_limits=None"),
    "days instead of seconds": (
        lambda: Lifetimes(access_token_seconds=30 * 86_400),
        "between 1 and 86400",
    ),
    "settings as a dict": (lambda: sign_in(lifetimes={"code_seconds": 30}), "must be a Lifetimes"),
    "a client without an id": (
        lambda: sign_in(registration=Registration(clients=[{}])),
        "needs a client_id",
    ),
    "a client with a short secret": (
        lambda: knowing(client_secret="short", grant_types=["client_credentials"]),
        "at least 32 characters.*makes one",
    ),
    "a client with a misspelt member": (
        lambda: knowing(redirect_uri="http://127.0.0.1/"),
        "redirect_uri is not",
    ),
    "a client with a private scheme": (
        lambda: knowing(redirect_uris=["cursor://x"]),
        "allowed_redirect_schemes",
    ),
    "a color by name": (lambda: Pages(color="teal"), "#rrggbb"),
    "descriptions in a list": (lambda: Pages(scope_descriptions=["Read"]), "must be a dict"),
    "one feature instead of a list": (lambda: ServerOptions(disabled="par"), r"like \['par'\]"),
    "a secret as signing algorithm": (
        lambda: ServerOptions(signing_algorithm="HS256"),
        "ES256, RS256, EdDSA",
    ),
    "a prefix without a slash": (lambda: ServerOptions(path_prefix="oauth"), "begins with a slash"),
}


def proxy(**settings: Any) -> OIDCProxy:
    return OIDCProxy(
        **{
            "issuer": ISSUER,
            "client_id": "x",
            "client_secret": "s" * 20,
            "base_url": BASE_URL,
            **settings,
        }
    )


def rules(**settings: Any) -> OIDCProxy:
    return proxy(upstream=UpstreamRules(**settings))


MISTAKES |= {
    "no identity provider": (lambda: proxy(issuer=None), "issuer='https://…'.*config_url"),
    "several tenants without their metadata": (
        lambda: proxy(issuer=[ISSUER, f"{ISSUER}/b"]),
        "several issuers need both",
    ),
    "an empty secret": (lambda: proxy(client_secret=""), "client_secret"),
    "scopes of the provider without openid": (
        lambda: proxy(upstream_scopes=["email"]),
        "needs 'openid'",
    ),
    "a redirect URL where a path belongs": (
        lambda: proxy(redirect_path=f"{BASE_URL}/auth/callback"),
        "begins with a slash",
    ),
    "a dict instead of the rules": (lambda: proxy(upstream={"claims": ["email"]}), "UpstreamRules"),
    "a domain with its at sign": (
        lambda: rules(allowed_domains=["@example.com"]),
        "write the domain alone",
    ),
    "one value instead of a list": (
        lambda: rules(allowed_claims={"tid": "a"}),
        r"must be a list, like \['a'\]",
    ),
    "a parameter that the proxy sets itself": (
        lambda: rules(authorize_parameters={"scope": "openid"}),
        "sets itself: leave it out",
    ),
    "a claim that our tokens have already": (lambda: rules(claims=["sub"]), "leave it out"),
    "a secret and no way to send it": (
        lambda: rules(client_auth_method="none"),
        "leave client_secret out",
    ),
    "a verifier of tokens that are made for us": (
        lambda: OAuthProxy(
            upstream_authorization_endpoint=f"{ISSUER}/authorize",
            upstream_token_endpoint=f"{ISSUER}/token",
            upstream_client_id="x",
            token_verifier=JWTVerifier(issuer=ISSUER),
            base_url=BASE_URL,
        ),
        "needs an audience of its own",
    ),
}


@rows("mistake", MISTAKES)
def test_a_first_mistake_is_told_at_once_and_with_what_to_write(mistake: str) -> None:
    make, told = MISTAKES[mistake]
    with pytest.raises(ConfigurationError, match=told):
        make()
