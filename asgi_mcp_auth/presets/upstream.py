"""``presets.proxy``. A module of its own, so that a resource server does not load the authorization
server.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..claims import check_kind
from ..errors import ConfigurationError
from ..proxy import OAuthProxy, OIDCProxy, UpstreamRules
from ..proxy.options import ServerSettings
from ..types import JSONObject
from ..userinfo import UserinfoTokenVerifier
from . import quirks
from .model import OIDC, Login, Profiles
from .resolver import Resolved, check_known, settings_of


def proxy(
    name: str,
    *,
    client_id: str,
    client_secret: str | None = None,
    base_url: str,
    upstream_scopes: Sequence[str] | None = None,
    upstream: UpstreamRules | None = None,
    **parameters: Any,
) -> OIDCProxy | OAuthProxy:
    """Return a proxy: clients register here, and people sign in at the provider.

    Args:
        name: which one; the names are in ``CATALOG``.
        client_id: who this server is at the provider.
        client_secret: its secret there.
        base_url: public URL of this server, without the MCP path.
        upstream_scopes: scopes to ask the provider for; by default those that say who somebody is.
            ``required_scopes`` are our own, and most providers have never heard of them.
        upstream: what else is asked of the provider, and who may come in; what the provider needs
            is added to it.
        parameters: those of the preset, and settings of the proxy, such as ``store`` and
            ``required_scopes``.

    Raises:
        ConfigurationError: no such preset, a parameter is missing or wrong, or there is no use for
            a proxy.
    """
    found, rest = quirks.find(name, parameters)
    login = found.login
    if login is None:
        raise ConfigurationError(
            f"MCP clients register at {found.preset.title} themselves: write"
            f" presets.remote({name!r}, …)"
        )
    kind = OIDCProxy if isinstance(login, OIDC) else OAuthProxy
    check_known(found, rest, kind, settings_of(kind, *ServerSettings.__annotations__))
    check_kind("upstream", upstream, UpstreamRules)
    rules = _with_needs_of(login, upstream or UpstreamRules(), has_secret=client_secret is not None)
    if upstream_scopes is None:
        upstream_scopes = quirks.upstream_scopes_of(found, rest.get("required_scopes"))
    common: JSONObject = {
        "base_url": base_url,
        "upstream": rules,
        "upstream_scopes": upstream_scopes,
        **rest,
    }
    if isinstance(login, OIDC):
        common |= {"issuer": login.issuers, "config_url": login.config_url}
        return OIDCProxy(client_id=client_id, client_secret=client_secret, **common)
    return OAuthProxy(
        upstream_authorization_endpoint=login.authorization_endpoint,
        upstream_token_endpoint=login.token_endpoint,
        upstream_revocation_endpoint=login.revocation_endpoint,
        upstream_client_id=client_id,
        upstream_client_secret=client_secret,
        token_verifier=_upstream_verifier(found, rules),
        **common,
    )


def _upstream_verifier(found: Resolved, rules: UpstreamRules) -> UserinfoTokenVerifier:
    if not isinstance(found.tokens, Profiles):
        raise ConfigurationError(
            f"preset {found.name!r} has no profile, so a proxy cannot find out who signed in"
        )
    tokens = found.tokens
    return UserinfoTokenVerifier(
        userinfo_url=tokens.userinfo_url,
        subject_claim=tokens.subject_claim,
        headers=tokens.headers,
        http_client=rules.http_client,
    )


def _with_needs_of(login: Login, rules: UpstreamRules, *, has_secret: bool) -> UpstreamRules:
    """Return the rules with what the provider needs; whatever the user has said stays."""
    usual = UpstreamRules()
    return replace(
        rules,
        authorize_parameters={**login.authorize_parameters, **rules.authorize_parameters},
        client_auth_method=rules.client_auth_method
        or (login.client_auth_method if has_secret else None),
        anew_prompt=(
            login.anew_prompt if rules.anew_prompt == usual.anew_prompt else rules.anew_prompt
        ),
    )
