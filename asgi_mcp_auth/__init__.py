"""Pure-ASGI authorization for MCP servers and any other ASGI app."""

from .auth import AuthProvider, RemoteAuthProvider, TokenVerifier
from .claims import ANY_AUDIENCE, ClaimRules
from .errors import (
    AuthError,
    AuthEvent,
    ConfigurationError,
    ForbiddenOrigin,
    InsufficientScope,
    InvalidRequest,
    InvalidToken,
    MissingToken,
    RequestError,
    ServerUnavailable,
)
from .introspection import IntrospectionTokenVerifier
from .jwks import JWKSOptions, JWKSState, RemoteJWKS
from .jwt import JWTVerifier
from .middleware import MCPAuthMiddleware, RequireScopes, insufficient_scope_response
from .multi import MultiAuth
from .rules import Rule
from .static import StaticTokenVerifier
from .tokens import AccessToken, get_access_token

__all__ = [
    "ANY_AUDIENCE",
    "AccessToken",
    "AuthError",
    "AuthEvent",
    "AuthProvider",
    "ClaimRules",
    "ConfigurationError",
    "ForbiddenOrigin",
    "InsufficientScope",
    "IntrospectionTokenVerifier",
    "InvalidRequest",
    "InvalidToken",
    "JWKSOptions",
    "JWKSState",
    "JWTVerifier",
    "MCPAuthMiddleware",
    "MissingToken",
    "MultiAuth",
    "RemoteAuthProvider",
    "RemoteJWKS",
    "RequestError",
    "RequireScopes",
    "Rule",
    "ServerUnavailable",
    "StaticTokenVerifier",
    "TokenVerifier",
    "get_access_token",
    "insufficient_scope_response",
]
