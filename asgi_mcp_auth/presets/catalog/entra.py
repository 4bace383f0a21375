"""Microsoft Entra ID."""

from __future__ import annotations

from typing import Final

from ..model import OIDC, Audience, JWTs, Parameter, Preset
from ._common import OFFLINE_SCOPES

PRESET: Final = Preset(
    title="Microsoft Entra ID",
    source="https://learn.microsoft.com/entra/identity-platform/access-tokens",
    checked="documentation",
    unchecked="the address of the keys of version 1.0, that clients cannot register",
    parameters={
        "tenant": Parameter(
            "uuid",
            "the id of the tenant, or a list",
            "72f988bf-86f1-41af-91ab-2d7cd011db47",
            several=True,
        ),
        "api": Parameter(
            "uuid",
            "the application (client) id of the app registration that stands for your server",
            "11111111-2222-4333-8444-555555555555",
            required=False,
        ),
        "version": Parameter(
            "choice", "of the access tokens", "2.0", "2.0", choices=("1.0", "2.0")
        ),
    },
    tokens=JWTs(
        issuers=("https://login.microsoftonline.com/{tenant}/v2.0",),
        audience=Audience(
            "named",
            "aud is the client id of the API; in version 1.0, or its api:// URI",
            "{api}",
        ),
    ),
    login=OIDC(
        issuers=("https://login.microsoftonline.com/{tenant}/v2.0",),
        scopes=OFFLINE_SCOPES,
        client_auth_method="client_secret_post",
    ),
    steps=(
        "App registrations > New registration: a Web platform with the callback URL.",
        "Certificates & secrets: add a client secret.",
        (
            "For tokens of your own API: Expose an API, keep the URI api://<client id>, and add"
            " the scopes."
        ),
        (
            "Manifest: set requestedAccessTokenVersion to 2; without it the tokens are of"
            " version 1.0."
        ),
    ),
)
