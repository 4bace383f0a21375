"""Each upstream with a proxy in front of it.

async with UPSTREAMS["certified"](callback=f"{base_url}/auth/callback") as upstream:
    kind, settings = proxy_for(upstream)
    provider = kind(base_url=base_url, **settings)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from asgi_mcp_auth import OAuthProxy, OIDCProxy, UserinfoTokenVerifier
from tests.proxy.upstreams.certified import certified_upstream
from tests.proxy.upstreams.github import github_upstream
from tests.proxy.upstreams.glewlwyd import glewlwyd_upstream
from tests.proxy.upstreams.upstream import Upstream

UPSTREAMS: Mapping[str, Callable[..., AbstractAsyncContextManager[Any]]] = {
    "certified": certified_upstream,
    "glewlwyd": glewlwyd_upstream,
    "github": github_upstream,
}
"""By name, for ``@pytest.mark.parametrize("name", UPSTREAMS)``.

Each takes ``callback=`` and settings of its own.
"""

SCOPES = {
    "certified": ["openid", "email", "groups"],
    "glewlwyd": ["openid", "notes"],
    "github": ["read:user"],
}
"""What the proxy asks each upstream for."""

_GITHUB_IDS = {"alice": 1001, "bob": 1002}


def proxy_for(upstream: Upstream) -> tuple[Callable[..., Any], dict[str, Any]]:
    """Return the class of the proxy, and its settings that concern the upstream."""
    return proxy_with(**known_of(upstream))


def known_of(upstream: Upstream) -> dict[str, Any]:
    """Return what ``proxy_with`` wants to know of an upstream, as JSON can say it."""
    names = (
        "name",
        "issuer",
        "client_id",
        "client_secret",
        "authorization_endpoint",
        "token_endpoint",
    )
    return {
        name: getattr(upstream, name)
        for name in (*names, "userinfo_endpoint", "revocation_endpoint")
    }


def proxy_with(
    *,
    name: str,
    issuer: str | None,
    client_id: str,
    client_secret: str,
    authorization_endpoint: str,
    token_endpoint: str,
    userinfo_endpoint: str,
    revocation_endpoint: str,
) -> tuple[Callable[..., Any], dict[str, Any]]:
    """Return the class of the proxy, and its settings that concern the upstream, in another process
    perhaps.
    """
    settings: dict[str, Any] = {"upstream_scopes": SCOPES[name]}
    if issuer is not None:
        settings |= {
            "issuer": issuer,
            "client_id": client_id,
            "client_secret": client_secret or None,
        }
        return OIDCProxy, settings
    settings |= {
        "upstream_authorization_endpoint": authorization_endpoint,
        "upstream_token_endpoint": token_endpoint,
        "upstream_revocation_endpoint": revocation_endpoint,
        "upstream_client_id": client_id,
        "upstream_client_secret": client_secret,
        "token_verifier": UserinfoTokenVerifier(userinfo_url=userinfo_endpoint, subject_claim="id"),
    }
    return OAuthProxy, settings


def subject_of(upstream: Upstream, user: str = "alice") -> str:
    """Return what the proxy's tokens say of a person; Glewlwyd makes up a name for each, so it is
    not known there.
    """
    if upstream.issuer is not None:
        return f"{upstream.issuer}|id-of-{user}"
    return f"{upstream.origin.rstrip('/')}|{_GITHUB_IDS[user]}"
