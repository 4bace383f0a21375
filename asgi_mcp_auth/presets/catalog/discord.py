"""Discord."""

from __future__ import annotations

from typing import Final

from ..model import OAuth, Preset, Profiles

PRESET: Final = Preset(
    title="Discord",
    source="https://docs.discord.com/developers/topics/oauth2",
    checked="documentation",
    tokens=Profiles(userinfo_url="https://discord.com/api/users/@me", subject_claim="id"),
    login=OAuth(
        authorization_endpoint="https://discord.com/oauth2/authorize",
        token_endpoint="https://discord.com/api/oauth2/token",
        revocation_endpoint="https://discord.com/api/oauth2/token/revoke",
        scopes=("identify",),
        reauth_prompt="consent",
        client_auth_method="client_secret_basic",
    ),
    steps=(
        "Developer Portal > New Application.",
        "OAuth2: add the callback URL as a redirect, and copy the client id and secret.",
    ),
)
