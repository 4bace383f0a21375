"""GitHub."""

from __future__ import annotations

from typing import Final

from ..model import OAuth, Parameter, Preset, Profiles

PRESET: Final = Preset(
    title="GitHub",
    source="https://docs.github.com/apps/oauth-apps/building-oauth-apps/authorizing-oauth-apps",
    checked="documentation",
    unchecked="that id never changes",
    parameters={
        "server": Parameter(
            "url", "the URL of GitHub", "https://github.example.com", "https://github.com"
        ),
        "api": Parameter(
            "url",
            "the URL of its API",
            "https://github.example.com/api/v3",
            "https://api.github.com",
        ),
    },
    tokens=Profiles(
        userinfo_url="{api}/user",
        subject_claim="id",
        headers={"accept": "application/vnd.github+json"},
    ),
    login=OAuth(
        authorization_endpoint="{server}/login/oauth/authorize",
        token_endpoint="{server}/login/oauth/access_token",
        scopes=("read:user",),
        reauth_prompt="select_account",
        client_auth_method="client_secret_post",
    ),
    steps=(
        (
            "Settings > Developer settings > OAuth Apps > New: the callback URL is the"
            " authorization callback URL."
        ),
        "Generate a client secret.",
    ),
)
