"""Presets: providers that people have, by name. ``remote``, ``proxy`` and ``verifier`` make the
objects for each.

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

from ..auth import RemoteAuthProvider, TokenVerifier
from ..claims import ANY_AUDIENCE, ClaimRules, check_kind
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
        name: which one; the names are in ``CATALOG``.
        audience: accepted ``aud``; by default what the provider puts there, where that can be
            known.
        required_scopes: scopes that every request needs.
        parameters: those of the preset, and settings of the verifier that is made.

    Raises:
        ConfigurationError: no such preset, a parameter is missing or wrong, or no verifier can know
            enough of these tokens without ``audience``.
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
    """Return a provider for a server whose clients register and sign people in at the provider
    itself.

    Args:
        name: which one; the names are in ``CATALOG``.
        base_url: public URL of this server, without the MCP path.
        required_scopes: scopes that every request needs.
        audience: as for ``verifier``.
        parameters: those of the preset, and settings of ``RemoteAuthProvider`` and of the verifier.

    Raises:
        ConfigurationError: as for ``verifier``; or clients cannot register there.
    """
    found, rest = quirks.find(name, parameters)
    if found.registration is None:
        raise ConfigurationError(
            f"MCP clients cannot register at {found.preset.title} by themselves: write"
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
            f"{found.preset.title}'s tokens are opaque, and nobody else can verify them: write "
            f"presets.proxy({found.name!r}, …)"
        )
    common: JSONObject = {"required_scopes": required_scopes, **rest}
    if isinstance(tokens, Profiles):
        check_known(found, rest, UserinfoTokenVerifier, settings_of(UserinfoTokenVerifier))
        if audience != ANY_AUDIENCE:
            raise _no_audience(
                found, "they are opaque, and the profile that they open does not say it either"
            )
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
            " client_id='…' and client_secret='…': those of your server, not of an MCP client"
        )
    return IntrospectionTokenVerifier(
        introspection_url=tokens.introspection_url, issuer=tokens.issuer, **common
    )


def _usual_audience(found: Resolved, audience: Audience) -> list[str] | None:
    if audience.kind == "none":
        raise _no_audience(found, audience.note)
    if audience.kind == "shared":
        raise ConfigurationError(
            f"{found.preset.title}'s tokens name a project, not a server: {audience.note}. A token"
            " of any of its applications would open this server. Write"
            f" presets.proxy({found.name!r}, …), whose tokens are for this server only; or"
            f" audience={audience.value!r}, if all of them may"
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
        f"{found.preset.title}'s tokens do not say which server they were made for: {why}. Any of"
        " them would open this server, also one that was made for another application. Write"
        f" presets.proxy({found.name!r}, …), whose tokens are for this server only; or"
        " audience=ANY_AUDIENCE, if this is what you want"
    )


def _claims(found: Resolved, tokens: JWTs, given: ClaimRules | None) -> ClaimRules:
    check_kind("claims", given, ClaimRules)
    rules = given or ClaimRules()
    return replace(
        rules,
        client_id_claim=rules.client_id_claim or tokens.client_id_claim,
        map_scopes=rules.map_scopes or quirks.map_scopes_of(found),
    )
