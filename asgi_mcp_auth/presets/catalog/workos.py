"""WorkOS AuthKit."""

from __future__ import annotations

from typing import Final

from ..model import OIDC, Audience, ClientRegistration, JWTs, Parameter, Preset
from ._common import OFFLINE_SCOPES

PRESET: Final = Preset(
    title="WorkOS AuthKit",
    source="https://workos.com/docs/user-management/mcp",
    checked="documentation",
    unchecked="the address of the keys, that aud is the resource indicator",
    parameters={"domain": Parameter("host", "your AuthKit domain", "example.authkit.app")},
    tokens=JWTs(
        issuers=("https://{domain}",),
        jwks_uri="https://{domain}/oauth2/jwks",
        audience=Audience(
            "resource", "aud is the resource indicator that you allow in the dashboard"
        ),
    ),
    registration=ClientRegistration(
        "Client ID Metadata Documents or Dynamic Client Registration, switched on",
        "https://{domain}",
    ),
    login=OIDC(issuers=("https://{domain}",), scopes=OFFLINE_SCOPES),
    steps=(
        (
            "Connect > Configuration: switch client registration on, and add the resource URL"
            " as a resource indicator."
        ),
        (
            "For a proxy: Connect > Applications > Create an OAuth application with the"
            " callback URL."
        ),
    ),
)
