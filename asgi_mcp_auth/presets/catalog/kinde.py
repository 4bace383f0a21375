"""Kinde."""

from __future__ import annotations

from typing import Final

from ..model import OIDC, JWTs, Parameter, Preset
from ._common import API_AUDIENCE

PRESET: Final = Preset(
    title="Kinde",
    source="https://docs.kinde.com/developer-tools/your-apis/register-manage-apis/",
    checked="documentation",
    unchecked="that clients cannot register",
    parameters={
        "domain": Parameter("host", "your Kinde domain, or your custom one", "example.kinde.com")
    },
    tokens=JWTs(issuers=("https://{domain}",), audience=API_AUDIENCE),
    login=OIDC(issuers=("https://{domain}",), scopes=("openid", "profile", "email", "offline")),
    steps=(
        "Applications > Add: a back-end web application with the callback URL.",
        (
            "For tokens of your own API: APIs > Add, the audience is the resource URL; clients"
            " must ask for it."
        ),
    ),
)
