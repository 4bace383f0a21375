#!/usr/bin/env bash
# A part mounted at /part also gets requests for /partners: in Litestar, Hypercorn's dispatcher and BlackSheep.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
timeout 300 "$dir/venv/bin/pip" install --quiet --disable-pip-version-check \
  litestar==2.25.0 hypercorn==0.18.0 blacksheep==2.6.4 starlette==1.10.0 httpx==0.28.1 || exit 2

cd "$dir"
timeout 60 venv/bin/python - <<'EOF'
import asyncio, importlib.metadata, logging, sys

import httpx
from blacksheep import Application, Router
from hypercorn.middleware import DispatcherMiddleware
from litestar import Litestar, asgi
from litestar.types import Receive, Scope, Send
from starlette.applications import Starlette
from starlette.routing import Mount


async def part(scope: Scope, receive: Receive, send: Send) -> None:
    seen = f"the part, with path {scope['path']!r} and root_path {scope['root_path']!r}"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": seen.encode()})


async def ask(app):
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        try:
            response = await client.get("/partners")
        except Exception as error:
            return f"raises {type(error).__name__}"
    return response.text if response.is_success else str(response.status_code)


async def main():
    blacksheep = Application(router=Router())
    blacksheep.mount("/part", Application(router=Router()))

    @blacksheep.router.get("/partners")
    async def partners():
        return "partners"

    await blacksheep.start()
    apps = {
        "starlette": Starlette(routes=[Mount("/part", part)]),
        "litestar": Litestar([asgi("/part", is_mount=True, copy_scope=True)(part)]),
        "hypercorn": DispatcherMiddleware({"/part": part}),
        "blacksheep": blacksheep,
    }
    return {name: await ask(app) for name, app in apps.items()}


logging.disable()
seen = asyncio.run(main())
print("Expected: a part mounted at /part answers for /part and what is below it. /partners is another segment (RFC 3986,")
print("          section 3.3), so it is a 404, or answered by the app's own route (BlackSheep has one here).")
print("Seen:     GET /partners")
for name, answer in seen.items():
    print(f"          {name:10} {importlib.metadata.version(name):7} {answer}")
as_described = seen == {
    "starlette": "404",
    "litestar": "the part, with path 'ners/' and root_path ''",
    "hypercorn": "the part, with path '/partners' and root_path '/part'",
    "blacksheep": "raises InvalidURL",
}
print("As described." if as_described else "CHANGED.")
sys.exit(not as_described)
EOF
