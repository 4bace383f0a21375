"""Google."""

from __future__ import annotations

from typing import Final

from ..model import OIDC, Preset, Profiles

PRESET: Final = Preset(
    title="Google",
    source="https://developers.google.com/identity/openid-connect/openid-connect",
    checked="memory",
    tokens=Profiles(userinfo_url="https://openidconnect.googleapis.com/v1/userinfo"),
    login=OIDC(
        issuers=("https://accounts.google.com",),
        # else there is no refresh token
        authorize_parameters={"access_type": "offline", "prompt": "consent"},
        reauth_prompt="select_account consent",
    ),
    steps=(
        "Google Auth Platform > Clients > Create: a Web application with the callback URL.",
        "Audience: choose Internal, if only users of your own Workspace may sign in.",
    ),
)
