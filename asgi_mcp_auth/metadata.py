"""The protected resource metadata document as a value. Pure.

RFC 9728 §2 and §3.2.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from .types import JSONObject

# Asking for it in a challenge or a metadata document would have every client demand a refresh token.
_NOT_ADVERTISED = frozenset(("offline_access",))


def advertised_scopes(*groups: Sequence[str]) -> list[str]:
    """Return the scopes of all groups in order, each once, without those that nobody should be told to request."""
    return [
        scope for scope in dict.fromkeys(scope for group in groups for scope in group) if scope not in _NOT_ADVERTISED
    ]


def protected_resource_metadata(
    *,
    resource: str,
    authorization_servers: Sequence[str],
    scopes_supported: Sequence[str] = (),
    resource_name: str | None = None,
    resource_documentation: str | None = None,
) -> JSONObject:
    """Return the document. Members without a value are left out: no ``null``, no ``[]`` (RFC 9728 §3.2)."""
    members: JSONObject = {
        "resource": resource,
        "authorization_servers": list(authorization_servers),
        "scopes_supported": advertised_scopes(scopes_supported),
        "bearer_methods_supported": ["header"],
        "resource_name": resource_name,
        "resource_documentation": resource_documentation,
    }
    return {name: value for name, value in members.items() if value}


def format_document(document: JSONObject) -> bytes:
    """Return a metadata document as it goes over the wire."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
