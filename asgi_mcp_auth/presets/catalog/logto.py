"""Logto."""

from __future__ import annotations

from typing import Final

from ..model import OIDC, JWTs, Parameter, Preset
from ._common import API_AUDIENCE, OFFLINE_SCOPES

PRESET: Final = Preset(
    title="Logto",
    source="https://docs.logto.io/authorization/validate-access-tokens",
    checked="documentation",
    unchecked="that clients cannot register, that refresh tokens need prompt=consent",
    parameters={"server": Parameter("url", "your tenant's endpoint", "https://example.logto.app")},
    tokens=JWTs(issuers=("{server}/oidc",), audience=API_AUDIENCE),
    login=OIDC(
        issuers=("{server}/oidc",),
        scopes=OFFLINE_SCOPES,
        authorize_parameters={"prompt": "consent"},
        reauth_prompt="login consent",
    ),
    steps=(
        "Applications > Create: Traditional web, with the callback URL.",
        ("For tokens of your own API: API resources > Create, the indicator is the resource URL."),
    ),
)
