"""LinkedIn."""

from __future__ import annotations

from typing import Final

from ..model import OAuth, Preset, Profiles

PRESET: Final = Preset(
    title="LinkedIn",
    source="https://learn.microsoft.com/linkedin/consumer/integrations/self-serve/sign-in-with-linkedin-v2",
    checked="memory",
    unchecked="all but the product and its scopes",
    tokens=Profiles(userinfo_url="https://api.linkedin.com/v2/userinfo"),
    login=OAuth(  # its ID tokens carry no nonce, so they prove too little
        authorization_endpoint="https://www.linkedin.com/oauth/v2/authorization",
        token_endpoint="https://www.linkedin.com/oauth/v2/accessToken",
        scopes=("openid", "profile", "email"),
        client_auth_method="client_secret_post",
    ),
    steps=(
        (
            "Developer portal > Create app; under Products, request Sign In with LinkedIn using"
            " OpenID Connect."
        ),
        "Auth: add the callback URL, and copy the client id and secret.",
    ),
)
