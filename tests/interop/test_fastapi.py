"""FastAPI: the middleware, and a Security dependency that appears in the OpenAPI document."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI, Request, Security
from fastapi.security import OpenIdConnect, SecurityScopes

from asgi_mcp_auth import (
    AccessToken,
    InsufficientScope,
    MCPAuthMiddleware,
    get_access_token,
    insufficient_scope_response,
)
from asgi_mcp_auth.testing import Issuer
from tests.interop.protection import (
    BASE_URL,
    CHALLENGE,
    METADATA_PATH,
    RESOURCE,
    as_user,
    provider_for,
)
from tests.support.asgi import App, call

pytestmark = pytest.mark.asyncio

# The recipe of docs/: the scheme is there for the document, the middleware has done the checking
# already.
scheme = OpenIdConnect(
    openIdConnectUrl=f"{BASE_URL}/.well-known/openid-configuration", auto_error=False
)


def caller(
    request: Request, needed: SecurityScopes, _: Annotated[str | None, Depends(scheme)]
) -> AccessToken:
    token = get_access_token(request)
    if token is None or not token.has_scopes(*needed.scopes):
        raise InsufficientScope(*needed.scopes)
    return token


Caller = Annotated[AccessToken, Security(caller)]
Writer = Annotated[AccessToken, Security(caller, scopes=["notes:write"])]


def api() -> FastAPI:
    app = FastAPI()

    @app.get("/who")
    async def who(token: Caller) -> dict[str, Any]:
        return {"subject": token.subject, "scopes": token.scopes}

    @app.post("/notes")
    def write(token: Writer) -> str:
        here = get_access_token()
        assert here is not None
        assert here.token == token.token
        return f"written by {token.subject}"

    @app.get("/health")
    async def health() -> str:
        return "ok"

    return app


PUBLIC = ["/health", "/openapi.json"]


def listed(issuer: Issuer) -> App:
    """Return an app with the middleware in its list."""
    app = api()
    app.add_middleware(
        MCPAuthMiddleware, provider=provider_for(issuer), mcp_path="/mcp", public_paths=PUBLIC
    )
    return app


def wrapped(issuer: Issuer) -> App:
    """Return an app with the middleware around it."""
    app = api()
    app.add_exception_handler(InsufficientScope, insufficient_scope_response)
    return MCPAuthMiddleware(app, provider_for(issuer), mcp_path="/mcp", public_paths=PUBLIC)


both_ways = pytest.mark.parametrize("build", [listed, wrapped])


@both_ways
async def test_the_dependency_hands_the_token_to_the_endpoint(issuer: Issuer, build: Any) -> None:
    response = await call(build(issuer), "GET", "/who", as_user(issuer, "bob"))
    assert response.json() == {"subject": "bob", "scopes": ["mcp:read"]}


@both_ways
async def test_without_a_token_the_middleware_answers(issuer: Issuer, build: Any) -> None:
    app = build(issuer)
    refused = await call(app, "GET", "/who")
    assert (refused.status, refused.header("www-authenticate")) == (401, CHALLENGE)
    assert (await call(app, "GET", METADATA_PATH)).json()["resource"] == RESOURCE
    assert (await call(app, "GET", "/health")).json() == "ok"


@both_ways
async def test_an_endpoint_that_needs_more_gives_a_challenge_with_the_whole_set(
    issuer: Issuer, build: Any
) -> None:
    app = build(issuer)
    refused = await call(app, "POST", "/notes", as_user(issuer))
    assert refused.status == 403
    challenge = refused.header("www-authenticate") or ""
    assert 'error="insufficient_scope"' in challenge
    assert 'scope="mcp:read notes:write"' in challenge
    accepted = await call(app, "POST", "/notes", as_user(issuer, "bob", "mcp:read notes:write"))
    assert accepted.json() == "written by bob"


@both_ways
async def test_the_openapi_document_says_which_endpoint_needs_what(
    issuer: Issuer, build: Any
) -> None:
    document = (await call(build(issuer), "GET", "/openapi.json")).json()
    assert document["components"]["securitySchemes"] == {
        "OpenIdConnect": {
            "type": "openIdConnect",
            "openIdConnectUrl": f"{BASE_URL}/.well-known/openid-configuration",
        }
    }
    assert document["paths"]["/notes"]["post"]["security"] == [{"OpenIdConnect": ["notes:write"]}]
    assert document["paths"]["/who"]["get"]["security"] == [{"OpenIdConnect": []}]
    assert "security" not in document["paths"]["/health"]["get"]
