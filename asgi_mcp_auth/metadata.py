"""Builds metadata documents. Pure.

RFC 9728 §2 and §3.2 for the protected resource; RFC 8414 §2 and §3.2 for the authorization server.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from .types import JSONObject

# Advertised in a challenge or a document, it would make every client request a refresh token.
_NOT_ADVERTISED = frozenset(("offline_access",))


def advertised_scopes(*groups: Sequence[str]) -> list[str]:
    """Return the scopes of all groups, each once, without those that are never advertised."""
    return [
        scope
        for scope in dict.fromkeys(scope for group in groups for scope in group)
        if scope not in _NOT_ADVERTISED
    ]


def protected_resource_metadata(
    *,
    resource: str,
    authorization_servers: Sequence[str],
    scopes_supported: Sequence[str] = (),
    resource_name: str | None = None,
    resource_documentation: str | None = None,
) -> JSONObject:
    """Return the document. Empty members are omitted: no ``null``, no ``[]`` (RFC 9728 §3.2)."""
    members: JSONObject = {
        "resource": resource,
        "authorization_servers": list(authorization_servers),
        "scopes_supported": advertised_scopes(scopes_supported),
        "bearer_methods_supported": ["header"],
        "resource_name": resource_name,
        "resource_documentation": resource_documentation,
    }
    return {name: value for name, value in members.items() if value}


def authorization_server_metadata(
    *,
    issuer: str,
    endpoints: Mapping[str, str],
    scopes_supported: Sequence[str],
    grant_types: Sequence[str],
    auth_methods: Sequence[str],
    signing_algorithms: Sequence[str],
    resource: str,
    features: Mapping[str, bool],
) -> JSONObject:
    """Return the document. Empty members are omitted; where a default of RFC 8414 does not apply,
    the member is present.

    Args:
        issuer: the server's identifier, byte for byte.
        endpoints: URLs of the enabled endpoints by their names in the document.
        scopes_supported: all scopes that a client can request.
        grant_types: of the token endpoint.
        auth_methods: of the token endpoint and, except ``none``, of introspection.
        signing_algorithms: of client assertions.
        resource: the protected resource (RFC 9728 §4).
        features: members that are present if they are true.
    """
    members: JSONObject = {
        "issuer": issuer,
        **endpoints,
        "scopes_supported": list(scopes_supported),
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": list(grant_types),
        "code_challenge_methods_supported": ["S256"],
        "protected_resources": [resource],
        **features,
    }
    members = {name: value for name, value in members.items() if value}
    # If omitted, it counts as true (OpenID Connect Discovery §3).
    members["request_uri_parameter_supported"] = False
    for endpoint in ("token", "revocation", "introspection"):
        if f"{endpoint}_endpoint" in endpoints:
            methods = [
                method for method in auth_methods if endpoint != "introspection" or method != "none"
            ]
            members[f"{endpoint}_endpoint_auth_methods_supported"] = methods
            members[f"{endpoint}_endpoint_auth_signing_alg_values_supported"] = list(
                signing_algorithms
            )
    return members


def format_document(document: JSONObject) -> bytes:
    """Return a metadata document as bytes."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
