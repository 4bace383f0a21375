#!/usr/bin/env bash
# A client of the MCP Python SDK does not use a refresh token that another process stored: people sign in again.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
timeout 300 "$dir/venv/bin/pip" install --quiet --disable-pip-version-check mcp==2.3.0 httpx2==2.16.2 || exit 2

cd "$dir"
timeout 60 venv/bin/python - <<'EOF'
import asyncio, importlib.metadata, json, logging, sys, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import httpx2
from mcp.client.auth import OAuthClientProvider
from mcp.shared.auth import AuthorizationCodeResult, OAuthClientMetadata

logging.disable()
seen = []  # what reaches the token endpoint and the browser, in order
tokens = 0


class Server(BaseHTTPRequestHandler):
    """A protected resource at /mcp and its authorization server. The newest access token is good, the others are not."""

    def do_GET(self):
        if self.path == "/.well-known/oauth-protected-resource/mcp":
            self.answer(200, {"resource": f"{base}/mcp", "authorization_servers": [base]})
        elif self.path == "/.well-known/oauth-authorization-server":
            names = {"authorization": "authorize", "token": "token", "registration": "register"}
            endpoints = {f"{name}_endpoint": f"{base}/{path}" for name, path in names.items()}
            self.answer(200, {"issuer": base, "response_types_supported": ["code"], "code_challenge_methods_supported": ["S256"]} | endpoints)
        else:
            self.answer(404, {})

    def do_POST(self):
        global tokens
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.path == "/register":
            self.answer(201, json.loads(body) | {"client_id": "client", "token_endpoint_auth_method": "none"})
        elif self.path == "/token":
            seen.append("token request: " + parse_qs(body.decode())["grant_type"][0])
            tokens += 1
            answer = {"access_token": f"access-{tokens}", "token_type": "Bearer", "expires_in": 1, "refresh_token": f"refresh-{tokens}"}
            self.answer(200, answer)
        elif self.headers.get("authorization") == f"Bearer access-{tokens}" and tokens > expired:
            self.answer(200, {})
        else:
            self.answer(401, {}, f'Bearer resource_metadata="{base}/.well-known/oauth-protected-resource/mcp"')

    def answer(self, status, document, challenge=None):
        content = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        if challenge:
            self.send_header("www-authenticate", challenge)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args):
        pass


class Storage:
    """What an application keeps on disk, as the SDK asks for it."""

    tokens = client_info = None

    async def get_tokens(self):
        return self.tokens

    async def set_tokens(self, tokens):
        self.tokens = tokens

    async def get_client_info(self):
        return self.client_info

    async def set_client_info(self, client_info):
        self.client_info = client_info


def new_process(storage):
    """A client as it is after the application's start: nothing but what was stored."""
    states = []

    async def open_browser(url):
        seen.append("browser: " + urlsplit(url).path)
        states.append(parse_qs(urlsplit(url).query)["state"][0])

    async def wait_for_code():
        return AuthorizationCodeResult(code="code", state=states[-1])

    metadata = OAuthClientMetadata(client_name="client", redirect_uris=["http://127.0.0.1:1/callback"])
    auth = OAuthClientProvider(f"{base}/mcp", metadata, storage, open_browser, wait_for_code)
    return httpx2.AsyncClient(auth=auth, timeout=10)


async def main():
    global expired
    steps = {}
    storage = Storage()
    async with new_process(storage) as first:
        for step in ("first sign-in", "same process, token expired"):
            seen.clear()
            status = (await first.post(f"{base}/mcp", json={})).status_code
            steps[step] = [*seen, f"/mcp: {status}"]
            await asyncio.sleep(1.5)  # the token's lifetime is a second
            expired = tokens
    async with new_process(storage) as second:
        seen.clear()
        status = (await second.post(f"{base}/mcp", json={})).status_code
        steps["new process, token expired"] = [*seen, f"/mcp: {status}"]
    return steps


expired = 0
server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
base = f"http://127.0.0.1:{server.server_port}"
threading.Thread(target=server.serve_forever, daemon=True).start()
steps = asyncio.run(main())
server.shutdown()

print("Expected: a client whose access token is refused, and that has a refresh token, uses it (RFC 6749, section 1.5, steps F")
print("          and G), also in the process that comes after the one that got it.")
print(f"Seen:     mcp {importlib.metadata.version('mcp')}")
for step, events in steps.items():
    print(f"          {step:28} {', '.join(events)}")
sign_in = ["browser: /authorize", "token request: authorization_code", "/mcp: 200"]
as_described = list(steps.values()) == [sign_in, ["token request: refresh_token", "/mcp: 200"], sign_in]
print("As described." if as_described else "CHANGED.")
sys.exit(not as_described)
EOF
