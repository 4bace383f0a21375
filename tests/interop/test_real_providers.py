"""Authorization servers as they are installed, with their default settings: docs/providers.md says
what to write for each.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from asgi_mcp_auth import (
    ANY_AUDIENCE,
    IntrospectionTokenVerifier,
    InvalidToken,
    JWTVerifier,
    OAuthProxy,
    OIDCProxy,
)
from asgi_mcp_auth.auth import TokenVerifier
from asgi_mcp_auth.testing import FrozenClock
from asgi_mcp_auth.tokens import SCOPE_KEY
from tests.interop.real_providers import BASE_URL, Provider, running
from tests.support.authorization_server import answer_of, deploy
from tests.support.proxy import come_back, depart, upstream_token

pytestmark = pytest.mark.asyncio

RESOURCE = f"{BASE_URL}/mcp"


# -------------------------------------------------------------------------- as providers to a proxy

OPENID: dict[str, tuple[int, list[str]]] = {
    "oauth2-mock-server": (3600, ["openid"]),
    "better-auth": (3600, ["openid", "offline_access"]),
    "Authlib": (100, ["openid"]),
    "allauth": (100, ["openid"]),
    "django-oidc-provider": (100, ["openid"]),
    "django-oauth-toolkit": (36000, ["openid"]),
}
"""How long its access tokens live, and the scopes that the proxy asks for."""


@pytest.mark.parametrize("name", OPENID)
async def test_a_sign_in_at_a_real_provider_lasts_until_the_provider_ends_it(name: str) -> None:
    """The proxy is told the issuer, an id and a secret that has to be encoded, and nothing else."""
    seconds, scopes = OPENID[name]
    provider = running(name)
    await lasts(
        provider,
        seconds,
        kind=OIDCProxy,
        issuer=provider.issuer,
        client_id=provider.client_id,
        client_secret=provider.client_secret,
        upstream_scopes=scopes,
    )


@pytest.mark.parametrize("name", ["Authlib", "django-oauth-toolkit"])
async def test_the_same_without_openid_connect(name: str) -> None:
    """Who signed in is what a verifier of access tokens says."""
    provider = running(name)
    found = await provider.metadata()
    verifier = {
        "Authlib": lambda: jwt(provider, RESOURCE),
        "django-oauth-toolkit": lambda: introspection(provider, ANY_AUDIENCE),
    }
    await lasts(
        provider,
        OPENID[name][0],
        kind=OAuthProxy,
        upstream_authorization_endpoint=found["authorization_endpoint"],
        upstream_token_endpoint=found["token_endpoint"],
        upstream_client_id=provider.client_id,
        upstream_client_secret=provider.client_secret,
        upstream_scopes=["read"],
        token_verifier=verifier[name](),
    )


async def lasts(provider: Provider, seconds: int, **settings: Any) -> None:
    """Sign in through a proxy, refresh, and refresh once more after the provider has ended it.

    Args:
        provider: that is behind it.
        seconds: the lifetime of the provider's access tokens.
        settings: of the proxy.
    """
    clock = FrozenClock(time.time())
    async with deploy(base_url=BASE_URL, clock=clock, **settings) as server:
        client, browser = await server.register(), server.browser()
        back = await provider.sign_in(await depart(browser, client))
        answer = answer_of((await come_back(browser, back)).header("location") or "")
        assert "code" in answer, answer
        tokens = (await client.redeem(answer["code"])).json()
        assert (await server.call("POST", "/mcp", bearer=tokens["access_token"])).status == 200
        subject = server.spy.scope[SCOPE_KEY].subject
        assert subject.startswith(f"{provider.issuer}|"), subject

        clock.advance(seconds - 20)  # it is due, and new ID tokens are not expired here
        response = await client.refresh(tokens["refresh_token"])
        assert response.status == 200, response.body
        tokens = response.json()
        await provider.end_sign_ins()
        clock.advance(30)  # the first has expired, and there is no third
        assert await upstream_token(server, tokens["access_token"])

        clock.advance(seconds)
        response = await client.refresh(tokens["refresh_token"])
        assert (response.status, response.json()["error"]) == (400, "invalid_grant")
        assert server.reasons() == ["sign_in_ended"]


# ---------------------------------------------------------------------- as issuers of access tokens


def jwt(provider: Provider, audience: Any) -> TokenVerifier:
    return JWTVerifier(issuer=provider.issuer, audience=audience)


def introspection(provider: Provider, audience: Any) -> TokenVerifier:
    path, method = {
        "allauth": ("/identity/o/api/introspect", "client_secret_post"),
        "django-oauth-toolkit": ("/introspect/", "client_secret_basic"),
    }[provider.name]
    return IntrospectionTokenVerifier(
        introspection_url=f"{provider.issuer}{path}",
        client_id=provider.client_id,
        client_secret=provider.client_secret,
        client_auth_method=method,
        issuer=provider.issuer,
        audience=audience,
    )


ISSUERS: dict[str, tuple[Callable[[Provider, Any], TokenVerifier], str, str | None]] = {
    "oauth2-mock-server": (jwt, "openid", None),
    "better-auth": (jwt, "openid", RESOURCE),
    "Authlib": (jwt, "openid", None),
    "allauth": (introspection, "openid", RESOURCE),
    "django-oauth-toolkit": (introspection, "read", RESOURCE),
}
"""What verifies its tokens, the scopes to ask for, and the resource, where it reads that."""


@pytest.mark.parametrize("name", ISSUERS)
async def test_access_tokens_of_a_real_provider_are_for_this_server(name: str) -> None:
    verifier, scope, resource = ISSUERS[name]
    provider = running(name)
    access_token = await provider.token(scope, resource)
    if name == "oauth2-mock-server":  # writes no audience: it is the only way there
        token = await verifier(provider, ANY_AUDIENCE).verify(access_token)
    else:
        token = await verifier(provider, RESOURCE).verify(access_token)
        assert token.resource == RESOURCE
        assert set(scope.split()) <= set(token.scopes)
    assert token.subject
    assert token.claims["iss"] == provider.issuer
    with pytest.raises(InvalidToken) as refused:
        await verifier(provider, "https://other.example.com/mcp").verify(access_token)
    assert refused.value.reason in {"audience", "missing_aud"}
