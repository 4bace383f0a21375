#!/usr/bin/env bash
# With a root path, what is mounted in a BlackSheep app answers nowhere.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
timeout 300 "$dir/venv/bin/pip" install --quiet --disable-pip-version-check \
  blacksheep==2.6.4 httpx==0.28.1 || exit 2

cd "$dir"
timeout 60 venv/bin/python - <<'EOF'
import asyncio, importlib.metadata, logging, sys

import httpx
from blacksheep import Application, Router

logging.disable()


async def ask(root_path, path):
    app = Application(router=Router())
    inner = Application(router=Router())
    app.mount("/sub", inner)

    @app.router.get("/hello")
    async def outer_hello():
        return "hello"

    @inner.router.get("/hello")
    async def inner_hello():
        return "hello"

    await app.start()
    transport = httpx.ASGITransport(app, root_path=root_path)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        return (await client.get(path)).status_code


async def main():
    requests = [
        ("", "/hello"), ("", "/sub/hello"), ("/api", "/api/hello"), ("/api", "/api/sub/hello"), ("/api", "/hello"), ("/api", "/sub/hello"),
    ]
    return {request: await ask(*request) for request in requests}


seen = asyncio.run(main())
print("Expected: below root_path /api, a mounted app answers where a route of the app itself does: at /api/sub/… (ASGI, WSGI")
print("          compatibility: `path` begins with `root_path`), or at least at /sub/…, where a server passes that.")
print(f"Seen:     BlackSheep {importlib.metadata.version('blacksheep')}")
for (root_path, path), status in seen.items():
    print(f"          root_path {root_path or '-':5} GET {path:15} {status}")
as_described = list(seen.values()) == [200, 200, 200, 404, 200, 404]
print("As described." if as_described else "CHANGED.")
sys.exit(not as_described)
EOF
