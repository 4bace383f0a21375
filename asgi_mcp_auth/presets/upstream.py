"""``presets.proxy``, in its own module so that a resource server does not load the authorization
server.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from .._settings import check_kind
from ..errors import ConfigurationError
from ..proxy import OAuthProxy, OIDCProxy, UpstreamRules
from ..proxy.options import ServerSettings
from ..types import JSONObject
from ..userinfo import UserinfoTokenVerifier
from . import quirks
from .model import OIDC, Profiles, SignInMethod
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
    """Return a proxy: clients register here, and users sign in at the provider.

    Args:
        name: of the provider, as in ``CATALOG``.
        client_id: client id of this server at the provider.
        client_secret: its secret there.
        base_url: public URL of this server, without the MCP path.
        upstream_scopes: scopes to request from the provider; by default those that identify users.
            ``required_scopes`` are our own, and most providers do not know them.
        upstream: how to talk to the provider, and who may use the service; the settings that the
            provider needs are added.
        parameters: parameters of the preset, and settings of the proxy, such as ``store`` and
            ``required_scopes``.

    Raises:
        ConfigurationError: no such preset, a parameter is missing or invalid, or a proxy is
            unnecessary.
    """
    found, rest = quirks.find(name, parameters)
    login = found.login
    if login is None:
        raise ConfigurationError(
            f"MCP clients can register themselves at {found.preset.title}: write"
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
            f"preset {found.name!r} has no profile, so a proxy cannot identify users"
        )
    tokens = found.tokens
    return UserinfoTokenVerifier(
        userinfo_url=tokens.userinfo_url,
        subject_claim=tokens.subject_claim,
        headers=tokens.headers,
        http_client=rules.http_client,
    )


def _with_needs_of(login: SignInMethod, rules: UpstreamRules, *, has_secret: bool) -> UpstreamRules:
    """Return the rules completed with the provider's needs; the user's settings win."""
    auth_method, prompt = rules.client_auth_method, rules.reauth_prompt
    if auth_method is None and has_secret:
        auth_method = login.client_auth_method
    if prompt == UpstreamRules().reauth_prompt:
        prompt = login.reauth_prompt
    return replace(
        rules,
        authorize_parameters={**login.authorize_parameters, **rules.authorize_parameters},
        client_auth_method=auth_method,
        reauth_prompt=prompt,
    )
