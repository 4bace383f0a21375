"""Presets for common identity providers: ``remote``, ``proxy`` and ``verifier`` make the objects.

presets.proxy("google", client_id=…, client_secret=…, base_url="https://mcp.example.com")
presets.remote("auth0", domain="example.eu.auth0.com", base_url="https://mcp.example.com")
presets.verifier("entra", tenant=…, api=…)
"""

from __future__ import annotations

import typing as _typing
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module as _import_module
from typing import Any

from .._settings import check_kind
from ..auth import RemoteAuthProvider, TokenVerifier
from ..claims import ANY_AUDIENCE, ClaimRules
from ..errors import ConfigurationError
from ..introspection import IntrospectionTokenVerifier
from ..jwt import JWTVerifier
from ..types import JSONObject
from ..userinfo import UserinfoTokenVerifier
from . import quirks
from .catalog import CATALOG
from .model import Audience, JWTs, Profiles
from .resolver import Resolved, check_known, settings_of

if _typing.TYPE_CHECKING:
    from .upstream import proxy

__all__ = ["CATALOG", "proxy", "remote", "verifier"]

_Audience = str | Sequence[str] | None


def __getattr__(name: str) -> Any:
    if name != "proxy":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(_import_module(".upstream", __name__), name)


def verifier(
    name: str,
    *,
    audience: _Audience = None,
    required_scopes: Sequence[str] | None = None,
    **parameters: Any,
) -> TokenVerifier:
    """Return a verifier for the access tokens of a provider.

    Args:
        name: of the provider, as in ``CATALOG``.
        audience: accepted ``aud``; by default the value that follows from the parameters, if any.
        required_scopes: scopes that every request needs.
        parameters: parameters of the preset, and settings of the verifier.

    Raises:
        ConfigurationError: no such preset, a parameter is missing or invalid, or the tokens cannot
            be verified safely without ``audience``.
    """
    found, rest = quirks.find(name, parameters)
    return _verifier(found, audience, required_scopes, rest)


def remote(
    name: str,
    *,
    base_url: str,
    required_scopes: Sequence[str] | None = None,
    audience: _Audience = None,
    **parameters: Any,
) -> RemoteAuthProvider:
    """Return a provider for clients that register, and sign users in, at the provider itself.

    Args:
        name: of the provider, as in ``CATALOG``.
        base_url: public URL of this server, without the MCP path.
        required_scopes: scopes that every request needs.
        audience: as for ``verifier``.
        parameters: parameters of the preset, and settings of ``RemoteAuthProvider`` and the
            verifier.

    Raises:
        ConfigurationError: as for ``verifier``; or clients cannot register at the provider.
    """
    found, rest = quirks.find(name, parameters)
    if found.registration is None:
        raise ConfigurationError(
            f"MCP clients cannot register themselves at {found.preset.title}: write"
            f" presets.proxy({name!r}, …). If all your clients are registered by hand, put"
            f" presets.verifier({name!r}, …) into a RemoteAuthProvider"
        )
    own = {setting: rest.pop(setting) for setting in settings_of(RemoteAuthProvider) & rest.keys()}
    checked = _verifier(found, audience, required_scopes, rest)
    return RemoteAuthProvider(checked, [found.registration.issuer], base_url, **own)


def _verifier(
    found: Resolved, audience: _Audience, required_scopes: Sequence[str] | None, rest: JSONObject
) -> TokenVerifier:
    tokens = found.tokens
    if tokens is None:
        raise ConfigurationError(
            f"{found.preset.title}'s tokens are opaque and cannot be verified: write"
            f" presets.proxy({found.name!r}, …)"
        )
    common: JSONObject = {"required_scopes": required_scopes, **rest}
    if isinstance(tokens, Profiles):
        check_known(found, rest, UserinfoTokenVerifier, settings_of(UserinfoTokenVerifier))
        if audience != ANY_AUDIENCE:
            raise _no_audience(found, "they are opaque, and the profile does not say so either")
        return UserinfoTokenVerifier(
            userinfo_url=tokens.userinfo_url,
            subject_claim=tokens.subject_claim,
            headers=tokens.headers,
            audience=ANY_AUDIENCE,
            **common,
        )
    common["audience"] = _usual_audience(found, tokens.audience) if audience is None else audience
    if isinstance(tokens, JWTs):
        check_known(found, rest, JWTVerifier, settings_of(JWTVerifier))
        common["claims"] = _claims(found, tokens, rest.get("claims"))
        return JWTVerifier(issuer=tokens.issuers, jwks_uri=tokens.jwks_uri, **common)
    check_known(found, rest, IntrospectionTokenVerifier, settings_of(IntrospectionTokenVerifier))
    if not {"client_id", "client_secret"} <= rest.keys():
        raise ConfigurationError(
            f"preset {found.name!r} asks {found.preset.title} about each token, which needs"
            " client_id='…' and client_secret='…' of your server, not of an MCP client"
        )
    return IntrospectionTokenVerifier(
        introspection_url=tokens.introspection_url, issuer=tokens.issuer, **common
    )


def _usual_audience(found: Resolved, audience: Audience) -> list[str] | None:
    if audience.kind == "none":
        raise _no_audience(found, audience.note)
    if audience.kind == "shared":
        raise ConfigurationError(
            f"{found.preset.title}'s tokens name a project, not a server: {audience.note}. This"
            " server would accept the tokens of all its applications. Write"
            f" presets.proxy({found.name!r}, …), whose tokens are for this server only; or"
            f" audience={audience.value!r}, if that is what you want"
        )
    known = quirks.audiences_of(found, audience)
    if known is None and audience.kind == "named":
        optional = [
            f"{key}='…'" for key, each in found.preset.parameters.items() if not each.required
        ]
        raise ConfigurationError(
            f"preset {found.name!r} needs {' or '.join([*optional, 'audience=…'])}: {audience.note}"
        )
    return known


def _no_audience(found: Resolved, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"{found.preset.title}'s tokens do not say which server they are for: {why}. This server"
        " would accept tokens for other applications. Write"
        f" presets.proxy({found.name!r}, …), whose tokens are for this server only; or"
        " audience=ANY_AUDIENCE, if that is what you want"
    )


def _claims(found: Resolved, tokens: JWTs, given: ClaimRules | None) -> ClaimRules:
    check_kind("claims", given, ClaimRules)
    rules = given or ClaimRules()
    return replace(
        rules,
        client_id_claim=rules.client_id_claim or tokens.client_id_claim,
        map_scopes=rules.map_scopes or quirks.map_scopes_of(found),
    )
