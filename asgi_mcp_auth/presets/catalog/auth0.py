"""Auth0."""

from __future__ import annotations

from typing import Final

from ..model import OIDC, ClientRegistration, JWTs, Parameter, Preset
from ._common import API_AUDIENCE, OFFLINE_SCOPES

PRESET: Final = Preset(
    title="Auth0",
    source="https://auth0.com/ai/docs/mcp",
    checked="documentation",
    parameters={
        "domain": Parameter(
            "host", "your tenant's domain, or your custom one", "example.eu.auth0.com"
        )
    },
    tokens=JWTs(issuers=("https://{domain}/",), audience=API_AUDIENCE),
    registration=ClientRegistration(
        "Dynamic Client Registration, once it is switched on", "https://{domain}/"
    ),
    login=OIDC(issuers=("https://{domain}/",), scopes=OFFLINE_SCOPES),
    steps=(
        (
            "Applications > APIs: create an API whose identifier is the resource URL, and add"
            " its scopes."
        ),
        (
            "Settings > Advanced: switch on Resource Parameter Compatibility Profile and"
            " Dynamic Client Registration."
        ),
        (
            "Under the API's default permissions for third-party applications, allow user"
            " access with these scopes."
        ),
        "Promote the connections that people sign in with to the domain level.",
        "For a proxy: Applications > Create, a Regular Web Application with the callback URL.",
    ),
)
