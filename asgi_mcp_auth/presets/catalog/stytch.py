"""Stytch."""

from __future__ import annotations

from typing import Final

from ..model import OIDC, Audience, ClientRegistration, JWTs, Parameter, Preset
from ._common import OFFLINE_SCOPES

PRESET: Final = Preset(
    title="Stytch",
    source="https://stytch.com/docs/connected-apps/guides/mcp-auth-overview",
    checked="documentation",
    parameters={
        "domain": Parameter("host", "the project's domain", "noun-verb-1234.customers.stytch.dev"),
        "project_id": Parameter(
            "segment", "the id of the project", "project-test-11111111-2222-4333-8444-5555"
        ),
    },
    tokens=JWTs(
        issuers=("https://{domain}",),
        audience=Audience(
            "shared",
            "aud is the project, whichever connected app it was made for",
            "{project_id}",
        ),
        client_id_claim="client_id",
    ),
    registration=ClientRegistration(
        "Dynamic Client Registration, once it is switched on", "https://{domain}"
    ),
    login=OIDC(issuers=("https://{domain}",), scopes=OFFLINE_SCOPES),
    steps=(
        "Connected Apps: switch on dynamic client registration, and set the authorization URL.",
        "Host the page with Stytch's IdentityProvider component there; people consent on it.",
    ),
)
