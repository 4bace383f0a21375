"""Ory."""

from __future__ import annotations

from typing import Final

from ..model import OIDC, Audience, ClientRegistration, JWTs, Parameter, Preset
from ._common import OFFLINE_SCOPES

PRESET: Final = Preset(
    title="Ory",
    source="https://www.ory.com/docs/oauth2-oidc/jwt-access-token",
    checked="documentation",
    unchecked="the claim client_id",
    parameters={
        "issuer": Parameter(
            "issuer",
            "the issuer as its metadata spells it",
            "https://slug.projects.oryapis.com",
        )
    },
    tokens=JWTs(
        issuers=("{issuer}",),
        audience=Audience(
            "none",
            "aud holds what a client may ask for and asks for with audience=, which MCP clients"
            " do not send",
        ),
        client_id_claim="client_id",
    ),
    registration=ClientRegistration(
        "Dynamic Client Registration, once it is switched on", "{issuer}"
    ),
    login=OIDC(issuers=("{issuer}",), scopes=OFFLINE_SCOPES),
    steps=(
        (
            "OAuth2 > Clients > Create: a server-side client with the callback URL and the"
            " scope offline_access."
        ),
        "For a verifier: set /strategies/access_token to jwt; the tokens are opaque otherwise.",
        "For clients that register: set /oidc/dynamic_client_registration/enabled to true.",
    ),
)
