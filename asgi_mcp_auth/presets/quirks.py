"""Provider-specific code, for facts that are not data.

Keep it small: when a second provider needs the same, add a field to the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..errors import ConfigurationError
from ..types import JSONObject
from .model import OIDC, Audience, JWTs
from .resolver import Resolved, resolve

_ENTRA = "https://login.microsoftonline.com"
# Pseudo-tenants that accept any Microsoft account; their tokens name a real tenant all the same.
_ANY = ("common", "organizations", "consumers")


def find(name: str, parameters: Mapping[str, Any]) -> tuple[Resolved, JSONObject]:
    """Return the preset for these parameters, and the parameters that are not its own.

    Raises:
        ConfigurationError: no such preset, or parameters that are invalid or contradictory.
    """
    _check_tenant(name, parameters)
    found, rest = resolve(name, parameters)
    return (_entra(found) if name == "entra" else found), rest


def _check_tenant(name: str, parameters: Mapping[str, Any]) -> None:
    tenant = parameters.get("tenant")
    named = [
        each
        for each in _ANY
        if tenant == each or (isinstance(tenant, list | tuple) and each in tenant)
    ]
    if name == "entra" and named:
        raise ConfigurationError(
            f"preset 'entra': tenant={tenant!r} would admit every Microsoft account. List"
            " the ids of the tenants whose users may sign in: tenant=['…', '…']"
        )


def audiences_of(found: Resolved, audience: Audience) -> list[str] | None:
    """Return the accepted ``aud`` values, ``None`` if the parameters do not determine any."""
    if audience.value is None:
        return None
    # In version 1.0 it is the id or the URI of the API, whichever the client has asked for.
    is_old = found.name == "entra" and found.values["version"] == ("1.0",)
    return [audience.value, f"api://{audience.value}"] if is_old else [audience.value]


def map_scopes_of(found: Resolved) -> Callable[[JSONObject], Iterable[str]] | None:
    """Return the ``map_scopes`` function that a provider needs, if any.

    Clients ask Entra ID for ``api://…/mcp.read``, but ``scp`` contains ``mcp.read``: accept both
    names.
    """
    if found.name != "entra" or "api" not in found.values:
        return None
    (api,) = found.values["api"]

    def long_names(claims: JSONObject) -> list[str]:
        scp = claims.get("scp")
        return [_long_name(api, scope) for scope in scp.split()] if isinstance(scp, str) else []

    return long_names


def upstream_scopes_of(found: Resolved, required_scopes: Sequence[str] | None) -> list[str]:
    """Return the scopes that a proxy requests from the provider by default.

    Our own scopes (``mcp.read``) mean nothing to most providers. Entra ID knows them if ``api`` is
    given.
    """
    scopes = list(found.login.scopes if found.login is not None else ())
    for api in found.values.get("api", ()) if found.name == "entra" else ():
        scopes += [_long_name(api, scope) for scope in required_scopes or ()]
    return scopes


def _long_name(api: str, scope: str) -> str:
    return scope if "/" in scope else f"api://{api}/{scope}"


def _entra(found: Resolved) -> Resolved:
    tenant, *others = found.values["tenant"]
    tokens, login = found.tokens, found.login
    if isinstance(login, OIDC) and others:
        login = replace(
            login, config_url=f"{_ENTRA}/organizations/v2.0/.well-known/openid-configuration"
        )
    if isinstance(tokens, JWTs) and found.values["version"] == ("1.0",):
        if others:
            raise ConfigurationError(
                "preset 'entra': version='1.0' takes one tenant. Let the API issue version 2.0"
                " (requestedAccessTokenVersion in its manifest), or put a MultiAuth around one"
                " verifier for each"
            )
        # The metadata of version 1.0 is on another host than its issuer, where discovery would not
        # find it.
        tokens = replace(
            tokens,
            issuers=(f"https://sts.windows.net/{tenant}/",),
            jwks_uri=f"{_ENTRA}/{tenant}/discovery/keys",
        )
    return replace(found, tokens=tokens, login=login)
