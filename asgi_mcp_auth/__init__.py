"""Pure-ASGI authorization for MCP servers and any other ASGI app."""

import typing as _typing
import warnings as _warnings
from importlib import import_module as _import_module

from .auth import AuthProvider, RemoteAuthProvider, TokenVerifier
from .claims import ANY_AUDIENCE, ClaimRules
from .errors import (
    AuthError,
    ConfigurationError,
    ForbiddenOrigin,
    InsufficientScope,
    InvalidMessage,
    InvalidRequest,
    InvalidToken,
    MissingToken,
    RequestError,
    ServerUnavailable,
    TokenTooLarge,
)
from .introspection import IntrospectionTokenVerifier
from .jwks import JWKSOptions, JWKSState, RemoteJWKS
from .jwt import JWTVerifier
from .middleware import MCPAuthMiddleware
from .multi import MultiAuth
from .policy import AccessPolicy, Decision, Method, Prompt, Resource, Tool
from .refusals import Refusal
from .rules import Rule
from .scopes import RequireScopes, insufficient_scope_response
from .static import StaticTokenVerifier
from .tokens import AccessToken, get_access_token
from .userinfo import UserinfoTokenVerifier

if _typing.TYPE_CHECKING:
    from . import presets
    from .proxy import OAuthProxy, OIDCProxy, get_upstream_token
    from .server import AppLogin, DevLogin, OAuthProvider, PasswordLogin
    from .stores import store_from_url

__all__ = [
    "ANY_AUDIENCE",
    "AccessPolicy",
    "AccessToken",
    "AppLogin",
    "AuthError",
    "AuthProvider",
    "ClaimRules",
    "ConfigurationError",
    "Decision",
    "DevLogin",
    "ForbiddenOrigin",
    "InsufficientScope",
    "IntrospectionTokenVerifier",
    "InvalidMessage",
    "InvalidRequest",
    "InvalidToken",
    "JWKSOptions",
    "JWKSState",
    "JWTVerifier",
    "MCPAuthMiddleware",
    "Method",
    "MissingToken",
    "MultiAuth",
    "OAuthProvider",
    "OAuthProxy",
    "OIDCProxy",
    "PasswordLogin",
    "Prompt",
    "Refusal",
    "RemoteAuthProvider",
    "RemoteJWKS",
    "RequestError",
    "RequireScopes",
    "Resource",
    "Rule",
    "ServerUnavailable",
    "StaticTokenVerifier",
    "TokenTooLarge",
    "TokenVerifier",
    "Tool",
    "UserinfoTokenVerifier",
    "get_access_token",
    "get_upstream_token",
    "insufficient_scope_response",
    "presets",
    "store_from_url",
]

# The authorization server is loaded when it is first asked for, so that a resource server does not
# pay for it.
_LAZY = {
    "AppLogin": ".server",
    "DevLogin": ".server",
    "OAuthProvider": ".server",
    "OAuthProxy": ".proxy",
    "OIDCProxy": ".proxy",
    "PasswordLogin": ".server",
    "get_upstream_token": ".proxy",
    "presets": ".presets",
    "store_from_url": ".stores",
}

# Old names that still work, with a DeprecationWarning, until the next version.
_RENAMED = {"AuthEvent": "Refusal"}


def __getattr__(name: str) -> _typing.Any:
    if name in _RENAMED:
        new = _RENAMED[name]
        _warnings.warn(f"{name} is deprecated: write {new}", DeprecationWarning, stacklevel=2)
        return globals()[new]
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = _import_module(_LAZY[name], __name__)
    return module if name == "presets" else getattr(module, name)
