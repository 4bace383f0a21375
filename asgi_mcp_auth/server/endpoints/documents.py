"""The public documents: the metadata of the authorization server (RFC 8414) and its public keys
(RFC 7517).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

from ..._asgi import Route, send_response
from ..._cors import PublicDocument
from ..._urls import WELL_KNOWN_OPENID, WELL_KNOWN_SERVER, url_path
from ...errors import ServerUnavailable
from ...metadata import authorization_server_metadata, format_document
from ...types import JSONObject, Receive, Scope, Send
from ..clients.metadata import ASSERTION_ALGORITHMS, AUTH_METHODS
from ..parties import OFFLINE_ACCESS
from ..parts import JWKS_PATH, Server


def metadata(server: Server, endpoints: Mapping[str, str], scopes: Sequence[str]) -> JSONObject:
    """Return the metadata document.

    Args:
        server: the authorization server.
        endpoints: URLs of the endpoints, by their names in the document.
        scopes: those that clients may ask for.
    """
    return authorization_server_metadata(
        issuer=server.issuer,
        endpoints={**endpoints, "jwks_uri": server.issuer + JWKS_PATH},
        scopes_supported=list(dict.fromkeys((*scopes, OFFLINE_ACCESS))),
        grant_types=list(server.grant_types),
        auth_methods=AUTH_METHODS,
        signing_algorithms=ASSERTION_ALGORITHMS,
        resource=server.resource.identifier,
        features={
            "authorization_response_iss_parameter_supported": True,
            "client_id_metadata_document_supported": server.has_documents,
            "require_pushed_authorization_requests": (
                server.settings.options.require_pushed_requests
            ),
        },
    )


def routes(server: Server, endpoints: Mapping[str, str]) -> list[Route]:
    """Return the public documents, the metadata at every path that clients try (RFC 8414 §3.1,
    OpenID Connect Discovery §4).
    """
    path = url_path(server.issuer)

    @functools.lru_cache(maxsize=1)
    def bodies(scopes: tuple[str, ...]) -> tuple[bytes, bytes]:
        members = metadata(server, endpoints, scopes)
        return format_document(members), format_document(members | _openid_members(server))

    # A middleware that is made later may add scopes.
    document = PublicDocument(lambda: bodies(server.scopes.supported)[0])
    openid = PublicDocument(lambda: bodies(server.scopes.supported)[1])
    places = {
        WELL_KNOWN_SERVER + path: document,
        WELL_KNOWN_OPENID + path: openid,
        path + WELL_KNOWN_OPENID: openid,
    }
    return [*(Route(*each) for each in places.items()), Route(JWKS_PATH, KeySetDocument(server))]


def _openid_members(server: Server) -> JSONObject:
    """Return the members that OpenID Connect Discovery §3 requires.

    The MCP SDK for TypeScript rejects a document without them. They are about ID tokens, which this
    server does not issue: there is no scope ``openid``.
    """
    return {
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": [server.signer.algorithm],
    }


class KeySetDocument:
    """Serves the current public keys (RFC 7517 §5)."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as ``PublicDocument`` does, or with 503 while the keys cannot be read."""
        try:
            keys = format_document(await self._server.signer.jwks())
        except ServerUnavailable:
            await send_response(scope, receive, send, 503, [(b"retry-after", b"1")], b"")
        else:
            await PublicDocument(lambda: keys)(scope, receive, send)
