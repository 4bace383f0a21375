"""What data cannot say. Keep it small: a second provider that needs the same gets a field in the
model instead.
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
# They stand for "whoever has an account somewhere"; the tokens name a real tenant all the same.
_ANY = ("common", "organizations", "consumers")


def find(name: str, parameters: Mapping[str, Any]) -> tuple[Resolved, JSONObject]:
    """Return the preset, filled in, as its provider really is, and what of ``parameters`` is none
    of its own.

    Raises:
        ConfigurationError: no such preset, or parameters that are wrong or do not go together.
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
            f"preset 'entra': tenant={tenant!r} would let anybody with a Microsoft account in."
            " Write the ids of the tenants that may come in: tenant=['…', '…']"
        )


def audiences_of(found: Resolved, audience: Audience) -> list[str] | None:
    """Return the accepted ``aud`` values that follow from the parameters, ``None`` where none
    do.
    """
    if audience.value is None:
        return None
    # In version 1.0 it is the id or the URI of the API, as the client happened to ask for it.
    is_old = found.name == "entra" and found.values["version"] == ("1.0",)
    return [audience.value, f"api://{audience.value}"] if is_old else [audience.value]


def map_scopes_of(found: Resolved) -> Callable[[JSONObject], Iterable[str]] | None:
    """Return a function from claims to scopes for ``ClaimRules``, where a provider needs one.

    Clients ask Entra ID for ``api://…/mcp.read``, and ``scp`` says ``mcp.read``: both names count.
    """
    if found.name != "entra" or "api" not in found.values:
        return None
    (api,) = found.values["api"]

    def long_names(claims: JSONObject) -> list[str]:
        scp = claims.get("scp")
        return [_long_name(api, scope) for scope in scp.split()] if isinstance(scp, str) else []

    return long_names


def upstream_scopes_of(found: Resolved, required_scopes: Sequence[str] | None) -> list[str]:
    """Return what a proxy asks the provider for when nobody says otherwise.

    What a client of ours needs (``mcp.read``) means nothing to most providers. Entra ID knows it,
    if ``api`` is given.
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
        # The metadata of version 1.0 lies at another host than its issuer, where no rule would look
        # for it.
        tokens = replace(
            tokens,
            issuers=(f"https://sts.windows.net/{tenant}/",),
            jwks_uri=f"{_ENTRA}/{tenant}/discovery/keys",
        )
    return replace(found, tokens=tokens, login=login)
