"""Slack."""

from __future__ import annotations

from typing import Final

from ..model import OIDC, Preset

PRESET: Final = Preset(
    title="Slack",
    source="https://docs.slack.dev/authentication/sign-in-with-slack/",
    checked="documentation",
    unchecked="the place of the metadata",
    tokens=None,
    login=OIDC(issuers=("https://slack.com",), client_auth_method="client_secret_post"),
    steps=(
        "Your apps > Create New App, from scratch.",
        (
            "OAuth & Permissions: add the callback URL, and the user scopes openid, profile and"
            " email."
        ),
    ),
)
