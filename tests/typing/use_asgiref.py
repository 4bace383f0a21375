"""Plain ASGI with asgiref's own types: what a careful author of an app without a framework
writes.
"""

from __future__ import annotations

import logging
from typing import assert_type

from asgiref.typing import ASGIReceiveCallable, ASGISendCallable
from asgiref.typing import Scope as AsgirefScope

from asgi_mcp_auth import (
    ANY_AUDIENCE,
    AccessToken,
    ClaimRules,
    InsufficientScope,
    IntrospectionTokenVerifier,
    InvalidToken,
    JWKSOptions,
    JWTVerifier,
    MCPAuthMiddleware,
    MultiAuth,
    Refusal,
    RemoteAuthProvider,
    RequireScopes,
    Rule,
    StaticTokenVerifier,
    TokenVerifier,
    get_access_token,
)
from asgi_mcp_auth.types import Receive, Scope, Send

logger = logging.getLogger(__name__)


async def plain(scope: Scope, receive: Receive, send: Send) -> None:
    token = get_access_token(scope)
    assert_type(token, AccessToken | None)
    if token is not None and not token.has_scopes("notes:write"):
        raise InsufficientScope("notes:write")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send(
        {"type": "http.response.body", "body": (token.client_id if token else "nobody").encode()}
    )


async def annotated_with_asgiref(
    scope: AsgirefScope, receive: ASGIReceiveCallable, send: ASGISendCallable
) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [], "trailers": False})


def report(event: Refusal) -> None:
    logger.info(
        "%s %s",
        event.status,
        event.reason,
        extra={"client_id": event.client_id, "path": event.path},
    )


verifier = JWTVerifier(
    issuer=["https://idp.example", "https://other.example"],
    jwks_uri="https://idp.example/jwks",
    algorithm=["ES256", "RS256"],
    required_scopes=["notes:read"],
    leeway_seconds=5,
    jwks=JWKSOptions(ttl_seconds=600),
    claims=ClaimRules(require_at_jwt=True, scope_claim="permissions"),
)
static = JWTVerifier(public_key={"kty": "OKP"}, audience=ANY_AUDIENCE)
opaque = IntrospectionTokenVerifier(
    introspection_url="https://idp.example/introspect",
    client_id="rs",
    client_secret="not-a-secret",
    audience="https://mcp.example.com/mcp",
)
development = StaticTokenVerifier(
    tokens={"dev-token": {"client_id": "me", "scopes": ["notes:read"]}}
)
several = MultiAuth(verifiers=[verifier, opaque], base_url="https://mcp.example.com")
provider = RemoteAuthProvider(verifier, ["https://idp.example"], "https://mcp.example.com")

app = MCPAuthMiddleware(
    RequireScopes(plain, ["notes:read"]),
    provider,
    mcp_path="/mcp",
    required_scopes=("notes:read",),
    public_paths=["/health"],
    rules=[Rule("/admin", scopes=["admin"]), Rule("/open", public=True)],
    allowed_origins=["https://app.example.com"],
    on_event=report,
    forward_authorization=False,
)
nested = MCPAuthMiddleware(app, several)
outer = MCPAuthMiddleware(annotated_with_asgiref, development)


class Custom(TokenVerifier):
    async def verify_token(self, token: str) -> AccessToken | None:
        return (
            AccessToken(token=token, client_id="c", scopes=["a"]) if token == "let-me-in" else None
        )


async def by_hand() -> None:
    assert_type(await verifier.verify_token("t"), AccessToken | None)
    try:
        assert_type(await verifier.verify("t"), AccessToken)
    except InvalidToken as error:
        assert_type(error.reason == "expired", bool)
    async with provider:
        assert_type(get_access_token(), AccessToken | None)
