"""Authentik."""

from __future__ import annotations

from typing import Final

from ..model import OIDC, Audience, JWTs, Parameter, Preset
from ._common import OFFLINE_SCOPES

PRESET: Final = Preset(
    title="Authentik",
    source="https://docs.goauthentik.io/add-secure-apps/providers/oauth2/",
    checked="documentation",
    unchecked="the slash at the end of the issuer, that aud is the client id",
    parameters={
        "server": Parameter("url", "the URL of your Authentik", "https://authentik.example.com"),
        "application": Parameter("segment", "the slug of the application", "mcp"),
    },
    tokens=JWTs(
        issuers=("{server}/application/o/{application}/",),
        audience=Audience("named", "aud is the client id of the OAuth2 provider"),
    ),
    login=OIDC(issuers=("{server}/application/o/{application}/",), scopes=OFFLINE_SCOPES),
    steps=(
        (
            "Applications > Create with provider: an OAuth2/OpenID provider, confidential, with"
            " the callback URL."
        ),
        (
            "Select a signing key (without one the tokens are signed with the client secret),"
            " and no encryption key."
        ),
        "Under advanced settings, add the scope mapping offline_access.",
    ),
)
