"""Hugging Face."""

from __future__ import annotations

from typing import Final

from ..model import OIDC, ClientRegistration, Preset, Profiles

PRESET: Final = Preset(
    title="Hugging Face",
    source="https://huggingface.co/docs/hub/oauth",
    checked="documentation",
    unchecked="the address of the profile",
    tokens=Profiles(userinfo_url="https://huggingface.co/oauth/userinfo"),
    registration=ClientRegistration("Client ID Metadata Documents", "https://huggingface.co"),
    login=OIDC(issuers=("https://huggingface.co",), client_auth_method="client_secret_basic"),
    steps=(
        (
            "Settings > Connected Applications > Create App: the callback URL; scopes openid,"
            " profile, email."
        ),
    ),
)
