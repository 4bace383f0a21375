"""PingOne."""

from __future__ import annotations

from typing import Final

from ..model import OIDC, Audience, JWTs, Parameter, Preset

PRESET: Final = Preset(
    title="PingOne",
    source="https://developer.pingidentity.com/pingone-api/platform/resources/resources-1.html",
    checked="documentation",
    unchecked="the issuer's form, that clients cannot register",
    parameters={
        "environment_id": Parameter(
            "uuid", "the id of the environment", "11111111-2222-4333-8444-555555555555"
        ),
        "host": Parameter("host", "the host of your region", "auth.pingone.eu", "auth.pingone.com"),
    },
    tokens=JWTs(
        issuers=("https://{host}/{environment_id}/as",),
        audience=Audience(
            "resource",
            "aud is the audience of a custom resource, which can be the resource URL",
        ),
    ),
    login=OIDC(issuers=("https://{host}/{environment_id}/as",)),
    steps=(
        "Applications > Add: OIDC Web App with the callback URL and the refresh token grant.",
        (
            "For tokens of your own API: Applications > Resources > Add, the audience is the"
            " resource URL; add scopes."
        ),
    ),
)
