#!/usr/bin/env bash
# A server of the MCP Python SDK adds a slash to its issuer, and the SDK's own client then refuses the issuer's metadata.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
timeout 300 "$dir/venv/bin/pip" install --quiet --disable-pip-version-check mcp==2.3.0 httpx2==2.16.2 starlette==1.10.0 pydantic==2.14.4 || exit 2

cd "$dir"
timeout 60 venv/bin/python - <<'EOF'
import asyncio, importlib.metadata, logging, sys

import httpx2
from mcp.client.auth import OAuthClientProvider
from mcp.server.auth.routes import create_protected_resource_routes
from mcp.server.auth.settings import AuthSettings
from mcp.shared.auth import OAuthClientMetadata
from pydantic import AnyHttpUrl
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

logging.disable()
ISSUER = "http://localhost"


class Storage:
    async def get_tokens(self):
        return None

    async def get_client_info(self):
        return None

    async def set_client_info(self, client_info):
        pass


class BrowserOpened(Exception):
    pass


async def mcp(request):
    return JSONResponse({}, 401)


async def issuer_metadata(request):
    names = {"authorization": "authorize", "token": "token", "registration": "register"}
    endpoints = {f"{name}_endpoint": f"{ISSUER}/{path}" for name, path in names.items()}
    return JSONResponse({"issuer": ISSUER, "response_types_supported": ["code"], "code_challenge_methods_supported": ["S256"]} | endpoints)


async def register(request):
    return JSONResponse(await request.json() | {"client_id": "client"}, 201)


async def open_browser(url):
    raise BrowserOpened


async def wait_for_code():
    raise AssertionError("nobody signs in here")


async def sign_in(issuer_url):
    settings = AuthSettings(issuer_url=issuer_url, resource_server_url=f"{ISSUER}/mcp", validate_token_resource=True)
    routes = [
        Route("/mcp", mcp, methods=["POST"]),
        Route("/.well-known/oauth-authorization-server", issuer_metadata),
        Route("/register", register, methods=["POST"]),
        *create_protected_resource_routes(settings.resource_server_url, [settings.issuer_url]),
    ]
    transport = httpx2.ASGITransport(Starlette(routes=routes))  # in memory: nothing listens
    async with httpx2.AsyncClient(transport=transport) as client:
        metadata = await client.get(f"{ISSUER}/.well-known/oauth-protected-resource/mcp")
    client_metadata = OAuthClientMetadata(redirect_uris=["http://127.0.0.1:1/callback"])
    auth = OAuthClientProvider(f"{ISSUER}/mcp", client_metadata, Storage(), open_browser, wait_for_code)
    async with httpx2.AsyncClient(transport=transport, auth=auth) as client:
        try:
            await client.post(f"{ISSUER}/mcp")
        except BrowserOpened:
            outcome = "the client opens the browser"
        except Exception as error:
            outcome = f"{type(error).__name__}: {error}"
    return metadata.json()["authorization_servers"][0], outcome


seen = {
    f'"{ISSUER}"': asyncio.run(sign_in(ISSUER)),
    f'AnyHttpUrl("{ISSUER}")': asyncio.run(sign_in(AnyHttpUrl(ISSUER))),
}
print(f"Expected: the server names the issuer as it was told, {ISSUER}, and the client finds the same in the issuer's metadata")
print("          (RFC 8414, section 3.3: identical; RFC 9728, section 2, authorization_servers: the issuer identifier).")
print(f"Seen:     mcp {importlib.metadata.version('mcp')}, pydantic {importlib.metadata.version('pydantic')}")
for setting, (published, outcome) in seen.items():
    print(f"          issuer_url={setting:30} the server publishes {published:18} {outcome}")
as_described = list(seen.values()) == [
    (ISSUER, "the client opens the browser"),
    (f"{ISSUER}/", f"OAuthFlowError: Authorization server metadata issuer mismatch: {ISSUER} != {ISSUER}/"),
]
print("As described." if as_described else "CHANGED.")
sys.exit(not as_described)
EOF
