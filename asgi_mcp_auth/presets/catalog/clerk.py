"""Clerk."""

from __future__ import annotations

from typing import Final

from ..model import OIDC, Audience, ClientRegistration, JWTs, Parameter, Preset
from ._common import OFFLINE_SCOPES

PRESET: Final = Preset(
    title="Clerk",
    source="https://clerk.com/docs/guides/configure/auth-strategies/oauth/how-clerk-implements-oauth",
    checked="documentation",
    unchecked="that aud is left out, the claim client_id",
    parameters={
        "domain": Parameter(
            "host", "the host of your Frontend API URL", "verb-noun-00.clerk.accounts.dev"
        )
    },
    tokens=JWTs(
        issuers=("https://{domain}",),
        audience=Audience("none", "nothing in a token says which of your servers it was made for"),
        client_id_claim="client_id",
    ),
    registration=ClientRegistration(
        "Client ID Metadata Documents or Dynamic Client Registration, switched on",
        "https://{domain}",
    ),
    login=OIDC(issuers=("https://{domain}",), scopes=OFFLINE_SCOPES),
    steps=(
        (
            "OAuth applications > CIMD Clients: advertise CIMD, or switch on Dynamic client"
            " registration."
        ),
        "OAuth applications > Settings: leave Generate access tokens as JWTs on.",
        "For a proxy: OAuth applications > Add, with the callback URL.",
    ),
)
