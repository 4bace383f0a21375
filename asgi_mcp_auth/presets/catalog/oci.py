"""OCI IAM."""

from __future__ import annotations

from typing import Final

from ..model import OIDC, Audience, JWTs, Parameter, Preset
from ._common import OFFLINE_SCOPES

PRESET: Final = Preset(
    title="OCI IAM",
    source="https://docs.oracle.com/iaas/Content/Identity/api-getstarted/AccessToken.htm",
    checked="documentation",
    unchecked="the claim client_id, that clients cannot register",
    parameters={
        "domain": Parameter(
            "host", "the host of your domain URL", "idcs-0123abcd.identity.oraclecloud.com"
        )
    },
    tokens=JWTs(
        # The documentation has all of them. The keys are the domain's own, so no other domain can
        # use these names.
        issuers=(
            "https://identity.oraclecloud.com/",
            "https://identity.oraclecloud.com",
            "https://{domain}",
        ),
        jwks_uri="https://{domain}/admin/v1/SigningCert/jwk",
        audience=Audience(
            "named",
            "aud is the primary audience of the application that is the resource server",
        ),
    ),
    login=OIDC(
        issuers=(
            "https://identity.oraclecloud.com/",
            "https://identity.oraclecloud.com",
            "https://{domain}",
        ),
        config_url="https://{domain}/.well-known/openid-configuration",
        scopes=OFFLINE_SCOPES,
    ),
    steps=(
        (
            "Identity domain > Settings: switch Configure client access on, so that keys can be"
            " fetched."
        ),
        (
            "Integrated applications > Add: confidential, authorization code grant, the"
            " callback URL."
        ),
        (
            "For tokens of your own API: an application as resource server, with primary"
            " audience and scopes."
        ),
    ),
)
