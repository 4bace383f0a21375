"""GitLab."""

from __future__ import annotations

from typing import Final

from ..model import OIDC, Parameter, Preset, Profiles

PRESET: Final = Preset(
    title="GitLab",
    source="https://docs.gitlab.com/integration/openid_connect_provider/",
    checked="documentation",
    unchecked="the issuer",
    parameters={
        "server": Parameter(
            "url", "the URL of GitLab", "https://gitlab.example.com", "https://gitlab.com"
        )
    },
    tokens=Profiles(userinfo_url="{server}/oauth/userinfo"),
    login=OIDC(issuers=("{server}",)),
    steps=(
        (
            "User settings > Applications (or those of a group or the instance): confidential,"
            " with the callback URL."
        ),
        "Select the scopes openid, profile and email.",
    ),
)
