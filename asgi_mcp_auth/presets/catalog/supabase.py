"""Supabase."""

from __future__ import annotations

from typing import Final

from ..model import OIDC, Audience, ClientRegistration, JWTs, Parameter, Preset

PRESET: Final = Preset(
    title="Supabase",
    source="https://supabase.com/docs/guides/auth/oauth-server/mcp-authentication",
    checked="documentation",
    unchecked="that keys have to be asymmetric",
    parameters={
        "project": Parameter("label", "the reference id of the project", "abcdefghijklmnopqrst")
    },
    tokens=JWTs(
        issuers=("https://{project}.supabase.co/auth/v1",),
        audience=Audience(
            "none",
            "aud is always 'authenticated', unless a Custom Access Token Hook puts your"
            " server's name there",
        ),
        client_id_claim="client_id",  # a token of an ordinary sign-in has none
    ),
    registration=ClientRegistration(
        "Dynamic Client Registration, once it is switched on",
        "https://{project}.supabase.co/auth/v1",
    ),
    login=OIDC(issuers=("https://{project}.supabase.co/auth/v1",)),
    steps=(
        (
            "Authentication > OAuth Server: switch it on, name your authorization page, allow"
            " dynamic registration."
        ),
        "Project settings > JWT keys: use an asymmetric signing key.",
    ),
)
