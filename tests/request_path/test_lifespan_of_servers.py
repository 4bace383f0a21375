"""The lifespan as real servers and test clients run it, or do not."""

from __future__ import annotations

import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from asgi_mcp_auth import JWKSOptions, JWTVerifier, MCPAuthMiddleware, RemoteAuthProvider
from asgi_mcp_auth.testing import Issuer
from tests.support.asgi import Spy, serve
from tests.support.protection import BASE_URL, RESOURCE


def starlette_app(seen: list[str], idp: Issuer) -> Starlette:
    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        seen.append(f"startup after {idp.hits['/jwks']} fetch")
        yield
        seen.append("shutdown")

    return Starlette(lifespan=lifespan)


@pytest.mark.parametrize("where", ["outside", "middleware list"])
def test_starlette_keeps_its_lifespan_and_the_key_set_is_warm_before_it_starts(where: str) -> None:
    with Issuer(algorithms=["ES256"]) as idp:
        provider = RemoteAuthProvider(JWTVerifier(issuer=idp.issuer), [idp.issuer], BASE_URL)
        seen: list[str] = []
        app: Any = starlette_app(seen, idp)
        if where == "outside":
            app = MCPAuthMiddleware(app, provider)
        else:
            app.add_middleware(MCPAuthMiddleware, provider=provider)
        with serve(app) as base_url:
            token = idp.mint(aud=BASE_URL)
            request = urllib.request.Request(
                f"{base_url}/none", headers={"Authorization": f"Bearer {token}"}
            )
            # the app's own answer
            with pytest.raises(urllib.request.HTTPError, match="404") as error:
                urllib.request.urlopen(request)
            error.value.close()
        assert idp.hits["/jwks"] == 1
    assert seen == ["startup after 1 fetch", "shutdown"]


def test_a_provider_that_is_down_does_not_stop_the_server_from_starting() -> None:
    with Issuer(algorithms=["ES256"]) as idp:
        idp.fail("/jwks")
        verifier = JWTVerifier(
            issuer=idp.issuer, jwks=JWKSOptions(timeout_seconds=0.5, cooldown_seconds=0.1)
        )
        with serve(
            MCPAuthMiddleware(Spy(), RemoteAuthProvider(verifier, [idp.issuer], BASE_URL))
        ) as base_url:
            url = f"{base_url}/.well-known/oauth-protected-resource"
            with urllib.request.urlopen(url) as response:
                assert response.status == 200


def test_a_test_client_without_with_works_without_lifespan() -> None:
    with Issuer(algorithms=["ES256"]) as idp:
        provider = RemoteAuthProvider(JWTVerifier(issuer=idp.issuer), [idp.issuer], BASE_URL)
        client = TestClient(MCPAuthMiddleware(Spy(), provider, mcp_path="/mcp"))  # type: ignore[arg-type]
        headers = {"Authorization": f"Bearer {idp.mint(aud=RESOURCE)}"}
        # Each request has an event loop of its own, which is closed after it.
        assert [client.get("/mcp", headers=headers).text for _ in range(3)] == ["hello"] * 3
        assert idp.hits["/jwks"] == 1
