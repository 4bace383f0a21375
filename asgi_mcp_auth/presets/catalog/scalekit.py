"""Scalekit."""

from __future__ import annotations

from typing import Final

from ..model import Audience, ClientRegistration, JWTs, Parameter, Preset

PRESET: Final = Preset(
    title="Scalekit",
    source="https://docs.scalekit.com/authenticate/mcp/quickstart/",
    checked="documentation",
    parameters={
        "domain": Parameter("host", "the host of your environment URL", "example.scalekit.com"),
        "resource_id": Parameter(
            "segment", "the id of the MCP server in the dashboard", "res_0123456789"
        ),
    },
    tokens=JWTs(
        issuers=("https://{domain}",),
        audience=Audience("resource", "aud has the Server URL that you set in the dashboard"),
    ),
    registration=ClientRegistration(
        "Dynamic Client Registration or Client ID Metadata Documents",
        "https://{domain}/resources/{resource_id}",
    ),
    login=None,
    steps=(
        "MCP servers > Add: set the Server URL to the resource URL, and add the scopes.",
        "Switch dynamic client registration and CIMD on.",
    ),
)
