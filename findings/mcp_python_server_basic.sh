#!/usr/bin/env bash
# The MCP Python SDK's authorization server offers client_secret_basic and then wants the client id in the form as well.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
timeout 300 "$dir/venv/bin/pip" install --quiet --disable-pip-version-check mcp==2.3.0 starlette==1.10.0 httpx2==2.16.2 || exit 2

cd "$dir"
timeout 60 venv/bin/python -W ignore - <<'EOF'
import asyncio, base64, importlib.metadata, logging, sys

import httpx2
from mcp.server.auth.routes import create_auth_routes
from mcp.shared.auth import OAuthClientInformationFull
from pydantic import AnyHttpUrl
from starlette.applications import Starlette

logging.disable()
CLIENT = OAuthClientInformationFull(
    client_id="client", client_secret="secret", redirect_uris=["https://app.example/callback"], token_endpoint_auth_method="client_secret_basic",
    grant_types=["authorization_code", "refresh_token"],
)


class Provider:
    """Knows one client, and no refresh token."""

    async def get_client(self, client_id):
        return CLIENT if client_id == CLIENT.client_id else None

    async def load_refresh_token(self, client, refresh_token):
        return None


async def main():
    app = Starlette(routes=create_auth_routes(Provider(), issuer_url=AnyHttpUrl("https://as.example")))
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="https://as.example") as http:
        metadata = (await http.get("/.well-known/oauth-authorization-server")).json()
        header = {"authorization": "Basic " + base64.b64encode(b"client:secret").decode()}
        form = {"grant_type": "refresh_token", "refresh_token": "unknown"}
        alone = await http.post("/token", data=form, headers=header)
        both = await http.post("/token", data={**form, "client_id": "client"}, headers=header)
    return metadata["token_endpoint_auth_methods_supported"], alone, both


methods, alone, both = asyncio.run(main())
print("Expected: client_secret_basic is in the metadata, so id and secret in the header are enough (RFC 6749 §2.3.1). The refresh token is not")
print("          known, so the answer to a client that has been let through is invalid_grant.")
print(f"Seen:     mcp {importlib.metadata.version('mcp')}; methods in the metadata: {methods}")
print(f"          id and secret in the header:                      {alone.status_code} {alone.text}")
print(f"          id and secret in the header, the id in the form:  {both.status_code} {both.text}")
as_described = (
    "client_secret_basic" in methods
    and (alone.status_code, alone.json()["error"]) == (401, "invalid_client")
    and (both.status_code, both.json()["error"]) == (400, "invalid_grant")
)
print("As described." if as_described else "CHANGED.")
sys.exit(not as_described)
EOF
