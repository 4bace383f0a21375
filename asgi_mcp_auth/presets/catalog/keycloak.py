"""Keycloak."""

from __future__ import annotations

from typing import Final

from ..model import OIDC, Audience, ClientRegistration, JWTs, Parameter, Preset
from ._common import OFFLINE_SCOPES

PRESET: Final = Preset(
    title="Keycloak",
    source="https://www.keycloak.org/securing-apps/mcp-authz-server",
    checked="documentation",
    unchecked="the issuer's form",
    parameters={
        "server": Parameter("url", "the URL of your Keycloak", "https://sso.example.com"),
        "realm": Parameter("segment", "the realm", "staff"),
    },
    tokens=JWTs(
        issuers=("{server}/realms/{realm}",),
        audience=Audience("resource", "aud is what an audience mapper of the client scopes says"),
    ),
    registration=ClientRegistration(
        "Dynamic Client Registration, within the realm's policies", "{server}/realms/{realm}"
    ),
    login=OIDC(issuers=("{server}/realms/{realm}",), scopes=OFFLINE_SCOPES),
    steps=(
        (
            "Client scopes: one for each scope, with an Audience mapper whose custom audience"
            " is the resource URL."
        ),
        (
            "Clients > Client registration: anonymous access policies have to allow these"
            " scopes and hosts."
        ),
        "For a proxy: Clients > Create, with client authentication and the callback URL.",
    ),
)
