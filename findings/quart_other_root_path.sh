#!/usr/bin/env bash
# Quart answers a request from beside its root path with a route for one segment, and not with the 404 that is meant.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
timeout 300 "$dir/venv/bin/pip" install --quiet --disable-pip-version-check \
  quart==0.22.0 httpx==0.28.1 || exit 2

cd "$dir"
timeout 60 venv/bin/python - <<'EOF'
import asyncio, importlib.metadata, sys

import httpx
from quart import Quart

app = Quart("app")


@app.get("/<one>")
async def one_segment(one):
    return f"one = {one!r}"


async def main():
    transport = httpx.ASGITransport(app, root_path="/api")
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        responses = {path: await client.get(path) for path in ("/api/notes", "/notes", "/some/other/page", "/api")}
    return {path: (response.status_code, response.text) for path, response in responses.items()}


seen = asyncio.run(main())
print("Expected: Quart takes a path that does not begin with root_path for somebody else's and answers 404: its source says so,")
print("          and that the path \" \" that it puts in the place matches no route. (ASGI, HTTP connection scope: root_path is")
print("          where the application is mounted.)")
print(f"Seen:     Quart {importlib.metadata.version('quart')}, root_path /api, one route: /<one>")
for path, (status, text) in seen.items():
    print(f"          GET {path:17} {status} {text}")
as_described = seen == {
    "/api/notes": (200, "one = 'notes'"),
    "/notes": (200, "one = ' '"),
    "/some/other/page": (200, "one = ' '"),
    "/api": (200, "one = ' '"),
}
print("As described." if as_described else "CHANGED.")
sys.exit(not as_described)
EOF
