"""PropelAuth."""

from __future__ import annotations

from typing import Final

from ..model import Audience, ClientRegistration, Introspected, Parameter, Preset

PRESET: Final = Preset(
    title="PropelAuth",
    source="https://docs.propelauth.com/reference/api/mcp",
    checked="documentation",
    unchecked=(
        "the issuer, the introspection endpoint and its credentials, that aud is the resource"
    ),
    parameters={"server": Parameter("url", "your Auth URL", "https://auth.example.com")},
    tokens=Introspected(
        issuer="{server}/oauth/2.1",
        introspection_url="{server}/oauth/2.1/introspect",
        audience=Audience("resource", "aud is the resource that the client asked for"),
    ),
    registration=ClientRegistration("Dynamic Client Registration", "{server}/oauth/2.1"),
    login=None,
    steps=(
        "MCP: switch it on, add the scopes, and allow clients to register.",
        "Request validation: create credentials; they are client_id and client_secret here.",
    ),
)
