"""``/register``: dynamic client registration (RFC 7591) and its management (RFC 7592).

RFC 7592 lets each registration have its own URL; here that is this endpoint with the client id in
the query.
"""

from __future__ import annotations

import hmac
from dataclasses import replace

from ..._urls import with_parameters
from ...errors import (
    AccessDenied,
    InvalidClientMetadata,
    InvalidRegistration,
    InvalidRequest,
    MethodNotAllowed,
    TokenTooLarge,
)
from ...headers import parse_bearer
from ...types import JSONObject
from ..audit import AuditEvent
from ..clients.metadata import SECRET_METHODS, check_client_metadata
from ..clients.requests import ClientRequest
from ..interaction.consents import forget_client, revoke_application
from ..options import call_hook
from ..parties import Client
from ..parts import Parts, Server
from ..records import hash_of, new_secret
from ..web import NO_STORE, Response, json_response

# The members that an update must not contain (RFC 7592 §2.2).
_SERVER_MEMBERS = (
    "registration_access_token",
    "registration_client_uri",
    "client_secret_expires_at",
    "client_id_issued_at",
)
_NO_TOKEN = hash_of("no token has this hash")


async def check_registration_token(server: Server, request: ClientRequest) -> None:
    """Check the initial access token of a registration, or the token that manages one.

    Raises:
        InvalidRegistration: the token is missing or wrong.
        MethodNotAllowed: this server does not offer the management of registrations.
    """
    registration = server.settings.registration
    if request.method != "POST":
        if not registration.management:
            raise MethodNotAllowed(("POST",))
        request.authenticated_as(await _find(server, request))
        return
    expected = registration.initial_access_token
    if expected is not None:
        sent = _bearer(request) or ""
        if not hmac.compare_digest(hash_of(sent), hash_of(expected)):
            raise InvalidRegistration


async def register(server: Server, request: ClientRequest) -> Response:
    """Register a client, or show, replace or delete a registration.

    Raises:
        InvalidRegistration: the registration has been deleted meanwhile.
        InvalidRedirectURI: a redirect URI cannot be registered.
        InvalidClientMetadata: another member cannot be registered.
        AccessDenied: the operator does not approve of this client.
    """
    if request.method == "POST":
        return await _create(server, request)
    client = request.client
    if request.method == "GET":
        return json_response(describe(server, client, token=_bearer(request)))
    if request.method == "PUT":
        return await _replace(server, request, client)
    await delete_client(server, client.client_id, request)
    return Response(204, NO_STORE)


async def _create(server: Server, request: ClientRequest) -> Response:
    registration = server.settings.registration
    metadata = await _check(server, await request.read_document())
    client, secret, token = await server.clients.create(
        metadata, manageable=registration.management, address=request.source
    )
    server.audit.report(AuditEvent(action="client_registered", client_id=client.client_id), request)
    return json_response(describe(server, client, secret=secret, token=token), 201)


async def _replace(server: Server, request: ClientRequest, client: Client) -> Response:
    document = await request.read_document()
    if document.get("client_id") != client.client_id or any(
        name in document for name in _SERVER_MEMBERS
    ):
        raise InvalidClientMetadata(
            "An update must contain the client_id, and no member that the server decides"
        )
    sent = document.get("client_secret")
    if sent is not None and (not isinstance(sent, str) or hash_of(sent) != client.secret_hash):
        raise InvalidClientMetadata("An update cannot change the client_secret")
    metadata = await _check(server, document)
    secret: str | None = None
    secret_hash = client.secret_hash
    if metadata["token_endpoint_auth_method"] not in SECRET_METHODS:
        secret_hash = None
    elif secret_hash is None:
        secret = new_secret()
        secret_hash = hash_of(secret)
    changed = await server.clients.update(
        client.client_id,
        lambda known: replace(known, metadata=metadata, secret_hash=secret_hash),
        address=request.source,
    )
    if changed is None:
        raise InvalidRegistration  # deleted meanwhile
    server.audit.report(AuditEvent(action="client_changed", client_id=client.client_id), request)
    return json_response(describe(server, changed, secret=secret, token=_bearer(request)))


async def delete_client(parts: Parts, client_id: str, request: ClientRequest | None = None) -> bool:
    """Delete a client, its grants and all consents to it; return whether there was one.

    Args:
        parts: of the authorization server.
        client_id: which client.
        request: of the client itself, if it asks for that.
    """
    deleted = await parts.clients.delete(client_id)
    if deleted is None and request is not None:
        return False  # another request was faster
    if deleted is not None and deleted.subjects is not None:
        # A stranger can ask for this, so it must not scan all grants and consents.
        for subject in deleted.subjects:
            await revoke_application(parts, subject, client_id, reason="client_deleted")
    else:
        await parts.grants.revocation.revoke_all("client_deleted", client_id=client_id)
        await forget_client(parts, client_id)
    if deleted is None:
        return False
    event = AuditEvent(action="client_deleted", client_id=client_id)
    parts.audit.report(event, request)
    return True


def describe(
    parts: Parts, client: Client, *, secret: str | None = None, token: str | None = None
) -> JSONObject:
    """Return the client information response (RFC 7591 §3.2.1, RFC 7592 §3)."""
    document: JSONObject = {"client_id": client.client_id, "client_id_issued_at": client.issued_at}
    if secret is not None:
        document |= {"client_secret": secret, "client_secret_expires_at": client.secret_expires_at}
    if token is not None:
        uri = with_parameters(parts.url("register"), {"client_id": client.client_id})
        document |= {"registration_access_token": token, "registration_client_uri": uri}
    return document | client.metadata


async def _check(server: Server, document: JSONObject) -> JSONObject:
    metadata = check_client_metadata(document, server.clients.policy)
    approve = server.settings.registration.approve
    if approve is not None and not await call_hook(approve, dict(metadata)):
        raise AccessDenied("This application is not allowed to register here")
    return metadata


async def _find(server: Server, request: ClientRequest) -> Client:
    token = _bearer(request)
    client_id = request.query("client_id")
    client = None if client_id is None else await server.clients.find_registered(client_id)
    expected = None if client is None else client.registration_token_hash
    # Compared in any case, so that unknown clients take as long as known ones.
    is_equal = hmac.compare_digest(hash_of(token or ""), expected or _NO_TOKEN)
    if not is_equal or client is None or token is None:
        raise InvalidRegistration
    return client


def _bearer(request: ClientRequest) -> str | None:
    try:
        return parse_bearer(request.header(b"authorization") or b"")
    except (InvalidRequest, TokenTooLarge):
        raise InvalidRegistration from None
