"""Descope."""

from __future__ import annotations

from typing import Final

from ..model import OIDC, Audience, ClientRegistration, JWTs, Parameter, Preset
from ._common import OFFLINE_SCOPES

PRESET: Final = Preset(
    title="Descope",
    source="https://docs.descope.com/agentic-identity-hub/mcp-servers",
    checked="documentation",
    parameters={
        "project_id": Parameter("segment", "the id of your project", "P2abcDEF0123456789"),
        "mcp_server_id": Parameter(
            "segment", "the id of the MCP server in the Agentic Identity Hub", "MS2abcDEF0123"
        ),
        "api": Parameter(
            "url", "the API's URL", "https://api.example.com", "https://api.descope.com"
        ),
    },
    tokens=JWTs(
        issuers=("{api}/v1/apps/agentic/{project_id}/{mcp_server_id}",),
        jwks_uri="{api}/{project_id}/.well-known/jwks.json",
        audience=Audience("resource", "aud is the MCP Server URL that you set in the console"),
    ),
    registration=ClientRegistration(
        "Dynamic Client Registration (on by default) or Client ID Metadata Documents",
        "{api}/v1/apps/agentic/{project_id}/{mcp_server_id}",
    ),
    login=OIDC(
        issuers=("{api}/v1/apps/agentic/{project_id}/{mcp_server_id}",), scopes=OFFLINE_SCOPES
    ),
    steps=(
        (
            "Agentic Identity Hub > MCP Servers: add a server, set its URL to the resource URL,"
            " and add its scopes."
        ),
        "For a proxy: register a client with the callback URL under Clients.",
    ),
)
