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
"""By name, for ``@pytest.mark.parametrize("name", UPSTREAMS)``; each takes ``callback=`` and settings of its own."""

SCOPES = {"certified": ["openid", "email", "groups"], "glewlwyd": ["openid", "notes"], "github": ["read:user"]}
"""What the proxy asks each upstream for."""

_GITHUB_IDS = {"alice": 1001, "bob": 1002}


def proxy_for(upstream: Upstream) -> tuple[Callable[..., Any], dict[str, Any]]:
    """Return the class of the proxy, and its settings that concern the upstream."""
    settings: dict[str, Any] = {"upstream_scopes": SCOPES[upstream.name]}
    if upstream.issuer is not None:
        settings |= {"issuer": upstream.issuer, "client_id": upstream.client_id}
        return OIDCProxy, {**settings, "client_secret": upstream.client_secret or None}
    settings |= {
        "upstream_authorization_endpoint": upstream.authorization_endpoint,
        "upstream_token_endpoint": upstream.token_endpoint,
        "upstream_revocation_endpoint": upstream.revocation_endpoint,
        "upstream_client_id": upstream.client_id,
        "upstream_client_secret": upstream.client_secret,
        "token_verifier": UserinfoTokenVerifier(userinfo_url=upstream.userinfo_endpoint, subject_claim="id"),
    }
    return OAuthProxy, settings


def subject_of(upstream: Upstream, user: str = "alice") -> str:
    """Return what the proxy's tokens say of a person; Glewlwyd makes up a name for each, so it is not known there."""
    if upstream.issuer is not None:
        return f"{upstream.issuer}|id-of-{user}"
    return f"{upstream.origin.rstrip('/')}|{_GITHUB_IDS[user]}"
