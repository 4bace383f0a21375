"""The contestants: each one's way to protect the same application with the same settings.

Nothing of a contestant is imported before it is built, so that a process holds only the one that it
measures.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from workload import BASE_URL, MCP_PATH, REQUIRED_SCOPES, RESOURCE

Application = Callable[..., Awaitable[None]]


@dataclass(frozen=True)
class Stack:
    """A protected application, and the bare verification inside it."""

    app: Application
    verify: Callable[[str], Awaitable[Any]]


def ours(app: Application, issuer: str, jwks_uri: str, algorithm: str, **settings: Any) -> Stack:
    """Build asgi_mcp_auth as its documentation shows it; the settings go to the verifier."""
    from asgi_mcp_auth import JWTVerifier, MCPAuthMiddleware, RemoteAuthProvider

    verifier = JWTVerifier(
        jwks_uri=jwks_uri, issuer=issuer, required_scopes=REQUIRED_SCOPES, **settings
    )
    provider = RemoteAuthProvider(verifier, authorization_servers=[issuer], base_url=BASE_URL)
    return Stack(MCPAuthMiddleware(app, provider, mcp_path=MCP_PATH), verifier.verify)


def ours_with_sdk(
    app: Application, issuer: str, jwks_uri: str, algorithm: str, **settings: Any
) -> Stack:
    """Build the same where the MCP SDK is loaded, so that its context and its user have to be
    served too.
    """
    import mcp.server.auth.middleware.bearer_auth  # noqa: F401  # being loaded is the point

    return ours(app, issuer, jwks_uri, algorithm, **settings)


def fastmcp(app: Application, issuer: str, jwks_uri: str, algorithm: str, **settings: Any) -> Stack:
    """Build FastMCP's authentication as ``create_streamable_http_app`` assembles it, around the
    same application.
    """
    from fastmcp.server.auth import RemoteAuthProvider
    from fastmcp.server.auth.middleware import RequireAuthMiddleware
    from fastmcp.server.auth.providers.jwt import JWTVerifier
    from pydantic import AnyHttpUrl

    verifier = JWTVerifier(
        jwks_uri=jwks_uri,
        issuer=issuer,
        audience=RESOURCE,
        algorithm=algorithm,
        required_scopes=REQUIRED_SCOPES,
        **settings,
    )
    provider = RemoteAuthProvider(
        verifier, authorization_servers=[AnyHttpUrl(issuer)], base_url=BASE_URL
    )
    metadata_url = AnyHttpUrl(f"{BASE_URL}/.well-known/oauth-protected-resource{MCP_PATH}")
    protected = RequireAuthMiddleware(
        app, provider.required_scopes, metadata_url, provider.challenge_scopes
    )
    return Stack(_wrap(protected, provider.get_middleware()), verifier.verify_token)


def sdk(app: Application, issuer: str, jwks_uri: str, algorithm: str, **settings: Any) -> Stack:
    """Build the MCP SDK's middleware around a verifier written with PyJWT; the settings go to
    PyJWKClient.
    """
    import jwt
    from mcp.server.auth.middleware.auth_context import AuthContextMiddleware
    from mcp.server.auth.middleware.bearer_auth import BearerAuthBackend, RequireAuthMiddleware
    from mcp.server.auth.provider import AccessToken
    from pydantic import AnyHttpUrl
    from starlette.middleware import Middleware
    from starlette.middleware.authentication import AuthenticationMiddleware

    keys = jwt.PyJWKClient(jwks_uri, **settings)

    class Verifier:
        async def verify_token(self, token: str) -> AccessToken | None:
            try:
                claims = jwt.decode(
                    token,
                    keys.get_signing_key_from_jwt(token),
                    algorithms=[algorithm],
                    audience=RESOURCE,
                    issuer=issuer,
                    options={"require": ["exp", "iss", "aud", "sub"]},
                )
            except jwt.PyJWTError:
                return None
            return AccessToken(
                token=token,
                client_id=claims["client_id"],
                scopes=claims["scope"].split(),
                expires_at=claims["exp"],
                resource=RESOURCE,
                subject=claims["sub"],
                claims=claims,
            )

    verifier = Verifier()
    metadata_url = AnyHttpUrl(f"{BASE_URL}/.well-known/oauth-protected-resource{MCP_PATH}")
    protected = RequireAuthMiddleware(app, REQUIRED_SCOPES, metadata_url)
    middleware = [
        Middleware(AuthenticationMiddleware, backend=BearerAuthBackend(verifier)),
        Middleware(AuthContextMiddleware),
    ]
    return Stack(_wrap(protected, middleware), verifier.verify_token)


def mcpauth(app: Application, issuer: str, jwks_uri: str, algorithm: str, **settings: Any) -> Stack:
    """Build mcpauth's bearer middleware; the settings go to the PyJWKClient that it would make
    itself.
    """
    from contextvars import ContextVar

    import jwt
    from mcpauth import MCPAuth
    from mcpauth.config import AuthorizationServerMetadata, AuthServerConfig, AuthServerType
    from mcpauth.utils import create_verify_jwt

    metadata = AuthorizationServerMetadata(
        issuer=issuer,
        authorization_endpoint=f"{issuer}/authorize",
        token_endpoint=f"{issuer}/token",
        registration_endpoint=f"{issuer}/register",
        jwks_uri=jwks_uri,
        response_types_supported=["code"],
        grant_types_supported=["authorization_code"],
        code_challenge_methods_supported=["S256"],
    )
    auth = MCPAuth(
        server=AuthServerConfig(metadata=metadata, type=AuthServerType.OAUTH),
        # Its default is one variable for the whole process, which would remember earlier stacks of
        # a benchmark.
        context_var=ContextVar("mcpauth", default=None),
    )
    verify = create_verify_jwt(jwt.PyJWKClient(jwks_uri, **settings))
    middleware = auth.bearer_auth_middleware(
        verify, audience=RESOURCE, required_scopes=REQUIRED_SCOPES
    )

    async def verify_token(token: str) -> Any:
        return verify(token)

    return Stack(middleware(app), verify_token)


def _wrap(app: Application, middleware: Iterable[Any]) -> Application:
    for each in reversed(list(middleware)):
        app = each.cls(app, *each.args, **each.kwargs)
    return app


STACKS: dict[str, Callable[..., Stack]] = {
    "ours": ours,
    "ours with the SDK loaded": ours_with_sdk,
    "FastMCP": fastmcp,
    "SDK + PyJWT": sdk,
    "mcpauth": mcpauth,
}
