#!/usr/bin/env bash
# A Starlette app mounted in Litestar redirects out of its mount.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
timeout 300 "$dir/venv/bin/pip" install --quiet --disable-pip-version-check \
  litestar==2.25.0 starlette==1.10.0 httpx==0.28.1 || exit 2

cd "$dir"
timeout 60 venv/bin/python - <<'EOF'
import asyncio, importlib.metadata, logging, sys

import httpx
from litestar import Litestar, asgi
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route


async def page(request):
    return PlainTextResponse("page")


async def ask(app):
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        response = await client.get("/part/page")
    return f"{response.status_code} {response.headers.get('location', response.text)}"


part = Starlette(routes=[Route("/page", page)])
logging.disable()
seen = {
    "starlette": asyncio.run(ask(Starlette(routes=[Mount("/part", part)]))),
    "litestar": asyncio.run(ask(Litestar([asgi("/part", is_mount=True, copy_scope=True)(part)]))),
}
print("Expected: what is mounted at /part gets the path as it was asked for, and root_path /part (ASGI, HTTP connection scope).")
print("          Litestar puts a slash behind the path and leaves root_path empty; Starlette then sends the client to the path")
print("          without the slash, which it believes to be at the root.")
print("Seen:     GET /part/page, for a Starlette app with the route /page, mounted at /part in")
for name, answer in seen.items():
    print(f"          {name:9} {importlib.metadata.version(name):7} {answer}")
as_described = seen == {"starlette": "200 page", "litestar": "307 http://localhost/page"}
print("As described." if as_described else "CHANGED.")
sys.exit(not as_described)
EOF
