"""Providers where people have accounts anyway. They know nothing of your API: a proxy asks them who
somebody is.
"""

from __future__ import annotations

from .model import OIDC, OAuth, Parameter, Preset, Profiles, Registration

PRESETS: dict[str, Preset] = {
    "discord": Preset(
        title="Discord",
        source="https://docs.discord.com/developers/topics/oauth2",
        checked="documentation",
        tokens=Profiles(userinfo_url="https://discord.com/api/users/@me", subject_claim="id"),
        login=OAuth(
            authorization_endpoint="https://discord.com/oauth2/authorize",
            token_endpoint="https://discord.com/api/oauth2/token",
            revocation_endpoint="https://discord.com/api/oauth2/token/revoke",
            scopes=("identify",),
            anew_prompt="consent",
            client_auth_method="client_secret_basic",
        ),
        steps=(
            "Developer Portal > New Application.",
            "OAuth2: add the callback URL as a redirect, and copy the client id and secret.",
        ),
    ),
    "github": Preset(
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
            anew_prompt="select_account",
            client_auth_method="client_secret_post",
        ),
        steps=(
            (
                "Settings > Developer settings > OAuth Apps > New: the callback URL is the"
                " authorization callback URL."
            ),
            "Generate a client secret.",
        ),
    ),
    "gitlab": Preset(
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
    ),
    "google": Preset(
        title="Google",
        source="https://developers.google.com/identity/openid-connect/openid-connect",
        checked="memory",
        tokens=Profiles(userinfo_url="https://openidconnect.googleapis.com/v1/userinfo"),
        login=OIDC(
            issuers=("https://accounts.google.com",),
            # else there is no refresh token
            authorize_parameters={"access_type": "offline", "prompt": "consent"},
            anew_prompt="select_account consent",
        ),
        steps=(
            "Google Auth Platform > Clients > Create: a Web application with the callback URL.",
            "Audience: choose Internal, if only your own Workspace may come in.",
        ),
    ),
    "huggingface": Preset(
        title="Hugging Face",
        source="https://huggingface.co/docs/hub/oauth",
        checked="documentation",
        unchecked="the address of the profile",
        tokens=Profiles(userinfo_url="https://huggingface.co/oauth/userinfo"),
        registration=Registration("Client ID Metadata Documents", "https://huggingface.co"),
        login=OIDC(issuers=("https://huggingface.co",), client_auth_method="client_secret_basic"),
        steps=(
            (
                "Settings > Connected Applications > Create App: the callback URL; scopes openid,"
                " profile, email."
            ),
        ),
    ),
    "linkedin": Preset(
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
    ),
    "slack": Preset(
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
    ),
}
