"""OneLogin."""

from __future__ import annotations

from typing import Final

from ..model import OIDC, Audience, JWTs, Parameter, Preset

PRESET: Final = Preset(
    title="OneLogin",
    source="https://developers.onelogin.com/openid-connect/api/provider-config",
    checked="documentation",
    unchecked="that clients cannot register",
    parameters={"subdomain": Parameter("label", "the first part of your OneLogin host", "example")},
    tokens=JWTs(
        issuers=("https://{subdomain}.onelogin.com/oidc/2",),
        audience=Audience(
            "resource", "aud is what API Authorization says, which can be the resource URL"
        ),
    ),
    login=OIDC(issuers=("https://{subdomain}.onelogin.com/oidc/2",)),
    steps=(
        (
            "Applications > Add App > OpenId Connect (OIDC): Web, with the callback URL; token"
            " endpoint POST or Basic."
        ),
        (
            "For tokens of your own API: Developers > API Authorization, the audience is the"
            " resource URL."
        ),
    ),
)
