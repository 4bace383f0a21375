"""Okta."""

from __future__ import annotations

from typing import Final

from ..model import OIDC, Audience, JWTs, Parameter, Preset
from ._common import OFFLINE_SCOPES

PRESET: Final = Preset(
    title="Okta",
    source="https://developer.okta.com/docs/guides/customize-authz-server/main/",
    checked="documentation",
    unchecked="the claims cid and scp, that registration needs a token of an administrator",
    parameters={
        "domain": Parameter("host", "your Okta domain, or your custom one", "example.okta.com"),
        "authorization_server": Parameter(
            "segment", "the id of the custom authorization server", "aus1a2b", "default"
        ),
    },
    tokens=JWTs(
        issuers=("https://{domain}/oauth2/{authorization_server}",),
        audience=Audience(
            "resource",
            "aud is the Audience of the authorization server, which can be the resource URL",
        ),
    ),
    login=OIDC(issuers=("https://{domain}/oauth2/{authorization_server}",), scopes=OFFLINE_SCOPES),
    steps=(
        (
            "Applications > Create App Integration: OIDC, Web Application, with the callback"
            " URL and refresh tokens."
        ),
        ("Security > API > your authorization server: allow the application in an access policy."),
        (
            "For tokens of your own API: set the server's Audience to the resource URL, and add"
            " the scopes."
        ),
    ),
)
