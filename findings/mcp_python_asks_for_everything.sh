#!/usr/bin/env bash
# A client of the MCP Python SDK asks for every scope that the authorization server has, and registers where nothing says that it can.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
timeout 300 "$dir/venv/bin/pip" install --quiet --disable-pip-version-check mcp==2.3.0 httpx2==2.16.2 || exit 2

cd "$dir"
timeout 60 venv/bin/python - <<'EOF'
import asyncio, importlib.metadata, json, logging, sys
from urllib.parse import parse_qs, urlsplit

import httpx2
from mcp.client.auth import OAuthClientProvider
from mcp.shared.auth import OAuthClientMetadata

logging.disable()
RESOURCE, ISSUER = "https://mcp.example", "https://as.example"


class Enough(BaseException):
    """The browser has opened, and that is all that is looked at."""


class Storage:
    """Nothing is stored."""

    async def get_tokens(self):
        return None

    async def get_client_info(self):
        return None

    async def set_tokens(self, tokens):
        pass

    async def set_client_info(self, client_info):
        pass


async def sign_in(registers):
    """Call a protected resource whose metadata names no scopes; return the scope that is asked for, and where the client registers."""
    asked, registered = [], []

    def answer(request):
        url = str(request.url)
        if url == f"{RESOURCE}/.well-known/oauth-protected-resource/mcp":
            return httpx2.Response(200, json={"resource": f"{RESOURCE}/mcp", "authorization_servers": [ISSUER]})
        if url == f"{ISSUER}/.well-known/oauth-authorization-server":
            document = {
                "issuer": ISSUER, "authorization_endpoint": f"{ISSUER}/authorize", "token_endpoint": f"{ISSUER}/token",
                "response_types_supported": ["code"], "code_challenge_methods_supported": ["S256"],
                "scopes_supported": ["openid", "notes:read", "admin", "introspection"],
            }
            return httpx2.Response(200, json=document | ({"registration_endpoint": f"{ISSUER}/register"} if registers else {}))
        if url.endswith("/register"):
            registered.append(url)
            return httpx2.Response(201, json=json.loads(request.content) | {"client_id": "client"})
        challenge = f'Bearer resource_metadata="{RESOURCE}/.well-known/oauth-protected-resource/mcp"'
        return httpx2.Response(401 if url == f"{RESOURCE}/mcp" else 404, headers={"www-authenticate": challenge})

    async def browser(url):
        asked.extend(parse_qs(urlsplit(url).query)["scope"])
        raise Enough

    async def callback():
        raise AssertionError

    metadata = OAuthClientMetadata(redirect_uris=["http://127.0.0.1:8123/callback"], client_name="a client")
    auth = OAuthClientProvider(f"{RESOURCE}/mcp", metadata, Storage(), browser, callback)
    try:
        async with httpx2.AsyncClient(transport=httpx2.MockTransport(answer), auth=auth) as http:
            await http.post(f"{RESOURCE}/mcp", json={})
    except Enough:
        pass
    return asked, registered


async def main():
    return await sign_in(registers=True), await sign_in(registers=False)


(asked, at_issuer), (_, elsewhere) = asyncio.run(main())
print("Expected: the challenge and the resource's metadata name no scope: the client leaves `scope` out (MCP, scope selection strategy).")
print("          The issuer's metadata has no registration_endpoint: the client does not register (RFC 8414 §2).")
print(f"Seen:     mcp {importlib.metadata.version('mcp')}")
print(f"          scope at the authorization endpoint: {asked}")
print(f"          without registration_endpoint, POST {elsewhere}")
as_described = (asked, elsewhere) == (["openid notes:read admin introspection"], [f"{RESOURCE}/register"])
print("As described." if as_described else "CHANGED.")
sys.exit(not as_described)
EOF
