"""AWS Cognito."""

from __future__ import annotations

from typing import Final

from ..model import OIDC, Audience, JWTs, Parameter, Preset

PRESET: Final = Preset(
    title="AWS Cognito",
    source="https://docs.aws.amazon.com/cognito/latest/developerguide/cognito-user-pools-define-resource-servers.html",
    checked="documentation",
    unchecked=(
        "the issuer's form, that aud is left out otherwise, that ID tokens have no client_id"
    ),
    parameters={
        "region": Parameter("label", "the AWS region of the user pool", "eu-central-1"),
        "user_pool_id": Parameter("segment", "the id of the user pool", "eu-central-1_AbCdEfGhI"),
    },
    tokens=JWTs(
        issuers=("https://cognito-idp.{region}.amazonaws.com/{user_pool_id}",),
        audience=Audience(
            "none",
            "aud is left out unless the pool has the Essentials or Plus plan and the client"
            " asks for a resource",
        ),
        client_id_claim="client_id",
    ),
    login=OIDC(issuers=("https://cognito-idp.{region}.amazonaws.com/{user_pool_id}",)),
    steps=(
        "User pools > your pool > Domain: give the pool a domain for its sign-in pages.",
        (
            "App clients: create a confidential client with the authorization code grant and"
            " the callback URL."
        ),
        "Resource servers: add one for your own scopes, if a verifier has to check those.",
    ),
)
