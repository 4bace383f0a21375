"""What clients read first: metadata of the resource and of the server, keys."""

from __future__ import annotations

from typing import Any

from asgi_mcp_auth.server import Registration

from ..deployments import LOCAL, deployment
from ..recorder import Recorder
from ..signing import private_pem

SERVER = "/.well-known/oauth-authorization-server"
OPENID = "/.well-known/openid-configuration"
RESOURCE = "/.well-known/oauth-protected-resource"
JWKS = "/.well-known/jwks.json"


async def usual(recorder: Recorder) -> None:
    """The documents of a server at the root of its host."""
    async with deployment(recorder) as (place, _):
        await place("The metadata of the protected resource, at its path", "GET", f"{RESOURCE}/mcp")
        await place("The same without the path", "GET", RESOURCE)
        await place("The metadata of the authorization server", "GET", SERVER)
        await place("The same for OpenID Connect Discovery", "GET", OPENID)
        await place("The public keys", "GET", JWKS)
        await place(
            "The server's metadata at the path of the resource is missing", "GET", f"{SERVER}/mcp"
        )
        await place("So is OpenID Connect Discovery there", "GET", f"{OPENID}/mcp")
        await place("The metadata of another resource is missing", "GET", f"{RESOURCE}/other")
        asked = {"Origin": "https://page.example", "Access-Control-Request-Method": "GET"}
        for path, name in ((f"{RESOURCE}/mcp", "resource"), (SERVER, "server"), (JWKS, "keys")):
            await place(f"HEAD of the {name} document", "HEAD", path)
            await place(f"POST to the {name} document", "POST", path)
            await place(f"OPTIONS of the {name} document without a preflight", "OPTIONS", path)
            await place(f"A preflight of the {name} document", "OPTIONS", path, headers=asked)
        await place(
            "A preflight that asks for a header",
            "OPTIONS",
            SERVER,
            headers={**asked, "Access-Control-Request-Headers": "mcp-protocol-version"},
        )
        await place(
            "GET from a page of any origin",
            "GET",
            SERVER,
            headers={"Origin": "https://page.example"},
        )
        await place("A conditional request", "GET", SERVER, headers={"If-None-Match": '"etag"'})
        await place("A WebSocket to a document", "WEBSOCKET", SERVER)
        await place("A document below root_path", "GET", f"/api{SERVER}", root_path="/api", **LOCAL)


async def below_a_path(recorder: Recorder) -> None:
    """The documents of a server whose URL has a path."""
    base_url = "http://localhost:8000/tenant"
    options = {"path_prefix": "/oauth"}
    async with deployment(recorder, base_url=base_url, options=options) as (place, _):
        await place("The resource's metadata, path inserted", "GET", f"{RESOURCE}/tenant/mcp")
        await place("The server's metadata, path inserted", "GET", f"{SERVER}/tenant")
        await place("OpenID Connect Discovery, path inserted", "GET", f"{OPENID}/tenant")
        await place("OpenID Connect Discovery, path appended", "GET", f"/tenant{OPENID}")
        await place("The keys below the path", "GET", f"/tenant{JWKS}")
        await place("The keys behind a proxy that strips the path", "GET", JWKS)
        await place("An endpoint below the path", "GET", "/tenant/oauth/token")
        await place("The same behind a proxy that strips the path", "GET", "/oauth/token")
        await place("The challenge below a path", "POST", "/tenant/mcp")


async def switched_off(recorder: Recorder) -> None:
    """Documents of a server with little switched on."""
    options = {
        "disabled": ["revoke", "introspect", "par", "applications", "client_credentials"],
        "signing_keys": [private_pem(name) for name in ("server", "server_p256", "server_ed25519")],
    }
    closed: dict[str, Any] = {
        "allow_dynamic_registration": False,
        "registration": Registration(metadata_documents=False),
    }
    async with deployment(recorder, options=options, **closed) as (place, _):
        await place("Only what is left is in the metadata", "GET", SERVER)
        await place("The algorithm of the first key is in the OpenID document", "GET", OPENID)
        await place("Several keys are published", "GET", JWKS)
        for endpoint in ("revoke", "introspect", "par", "register", "applications", "logout"):
            await place(
                f"/{endpoint} is switched off", "POST", f"/{endpoint}", form={"token": "a"}, **LOCAL
            )


async def without_path(recorder: Recorder) -> None:
    """The documents of a resource that is the whole host, with pushed requests only."""
    options = {"require_pushed_requests": True, "resource_base_url": "http://localhost:9000"}
    async with deployment(recorder, options=options, mcp_path=None, required_scopes=None) as (
        place,
        _,
    ):
        await place("The metadata of a resource without a path", "GET", RESOURCE)
        await place("The server wants pushed requests", "GET", SERVER)
        await place("Without required scopes, none is in the challenge", "POST", "/")


SCENES = {
    "Documents of a server at the root of its host": usual,
    "Documents of a server below a path": below_a_path,
    "Documents of a server with little switched on": switched_off,
    "Documents of a resource without a path": without_path,
}
