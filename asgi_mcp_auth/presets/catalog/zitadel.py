"""ZITADEL."""

from __future__ import annotations

from typing import Final

from ..model import OIDC, Audience, Introspected, Parameter, Preset
from ._common import OFFLINE_SCOPES

PRESET: Final = Preset(
    title="ZITADEL",
    source="https://zitadel.com/docs/apis/openidoauth/claims",
    checked="documentation",
    unchecked="the introspection endpoint, that clients cannot register",
    parameters={
        "server": Parameter("url", "the URL of your instance", "https://example.zitadel.cloud"),
        "project_id": Parameter("segment", "the id of the project", "69234237810729019"),
    },
    tokens=Introspected(  # a JWT of ZITADEL would not name its scopes
        issuer="{server}",
        introspection_url="{server}/oauth/v2/introspect",
        audience=Audience(
            "shared",
            "aud is the id of the project, whichever of its applications it was made for",
            "{project_id}",
        ),
    ),
    login=OIDC(issuers=("{server}",), scopes=OFFLINE_SCOPES),
    steps=(
        "Project > Applications > New: Web, Code, with the callback URL and refresh tokens.",
        (
            "For a verifier: New > API, Basic; its id and secret are client_id and"
            " client_secret here."
        ),
    ),
)
