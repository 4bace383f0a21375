#!/usr/bin/env bash
# Litestar takes root_path away wherever it stands in the path, with all that is in front of it.
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
from litestar import Litestar, get
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route


@get("/{page:path}", media_type="text/plain")
async def litestar_page(page: str) -> str:
    return page


async def starlette_page(request):
    return PlainTextResponse("/" + request.path_params["page"])


async def ask(app):
    transport = httpx.ASGITransport(app, root_path="/api")
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        return [(await client.get(path)).text for path in PATHS]


PATHS = ["/api/notes", "/docs/api/notes", "/docs/apis"]
logging.disable()
seen = {
    "starlette": asyncio.run(ask(Starlette(routes=[Route("/{page:path}", starlette_page)]))),
    "litestar": asyncio.run(ask(Litestar([litestar_page]))),
}
print("Expected: root_path is a prefix (ASGI, HTTP connection scope: the path at which the application is mounted), so that a")
print("          /api further inside belongs to the page's name.")
print("Seen:     root_path /api, one route for every page, and the page that it is asked for")
for name, pages in seen.items():
    asked = "".join(f"  {path} -> {page}" for path, page in zip(PATHS, pages))
    print(f"          {name:9} {importlib.metadata.version(name):7}{asked}")
as_described = seen == {"starlette": ["/notes", "/docs/api/notes", "/docs/apis"], "litestar": ["/notes", "/notes", "/s"]}
print("As described." if as_described else "CHANGED.")
sys.exit(not as_described)
EOF
