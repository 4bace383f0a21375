"""``/register``: clients make themselves known (RFC 7591), and look after what they said (RFC
7592).

RFC 7592 lets each registration have a URL of its own; here it is this endpoint with the client id
in the query.
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
    InvalidToken,
    MethodNotAllowed,
)
from ...headers import parse_bearer
from ...stores import scan_all
from ...types import JSONObject
from ..audit import AuditEvent
from ..clients.metadata import SECRET_METHODS, check_client_metadata
from ..grants.records import Consent
from ..interaction.flow import CONSENTS
from ..options import call_hook
from ..parties import Client
from ..parts import Server
from ..records import hash_of, new_secret
from ..web import NO_STORE, Answer, Request, json_answer
from .applications import revoke_application

# What an update must not say, because it is not the client's to say (RFC 7592 §2.2).
_OURS = (
    "registration_access_token",
    "registration_client_uri",
    "client_secret_expires_at",
    "client_id_issued_at",
)


async def check_registration_token(server: Server, request: Request) -> None:
    """Check the token of a registration, where one is needed, or of its client.

    Raises:
        InvalidRegistration: no token, or a wrong one.
        MethodNotAllowed: registrations cannot be managed here.
    """
    registration = server.settings.registration
    if request.method != "POST":
        if not registration.management:
            raise MethodNotAllowed(("POST",))
        request.client = await _find(server, request)
        return
    wanted = registration.initial_access_token
    if wanted is not None and not hmac.compare_digest(
        hash_of(_bearer(request) or ""), hash_of(wanted)
    ):
        raise InvalidRegistration


async def register(server: Server, request: Request) -> Answer:
    """Make a client known, or show, replace or forget one that is.

    Raises:
        InvalidRegistration: the registration is gone meanwhile.
        InvalidRedirectURI: a redirect URI cannot be registered.
        InvalidClientMetadata: something else cannot.
        AccessDenied: the operator does not want this client.
    """
    if request.method == "POST":
        return await _create(server, request)
    client = request.client
    if request.method == "GET":
        return json_answer(describe(server, client, token=_bearer(request)))
    if request.method == "PUT":
        return await _replace(server, request, client)
    await delete_client(server, client.client_id, request)
    return Answer(204, NO_STORE)


async def _create(server: Server, request: Request) -> Answer:
    registration = server.settings.registration
    await request.read_document()
    metadata = await _check(server, request.document)
    client, secret, token = await server.clients.create(
        metadata, manageable=registration.management, address=request.source
    )
    server.report(request, AuditEvent(action="client_registered", client_id=client.client_id))
    return json_answer(describe(server, client, secret=secret, token=token), 201)


async def _replace(server: Server, request: Request, client: Client) -> Answer:
    await request.read_document()
    document, secret = request.document, None
    if document.get("client_id") != client.client_id or any(name in document for name in _OURS):
        raise InvalidClientMetadata(
            "An update has the client_id, and nothing that the server decides"
        )
    said = document.get("client_secret")
    if said is not None and (not isinstance(said, str) or hash_of(said) != client.secret_hash):
        raise InvalidClientMetadata("An update cannot change the client_secret")
    metadata = await _check(server, document)
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
    server.report(request, AuditEvent(action="client_changed", client_id=client.client_id))
    return json_answer(describe(server, changed, secret=secret, token=_bearer(request)))


async def delete_client(server: Server, client_id: str, request: Request | None = None) -> bool:
    """Forget a client, end its grants, and forget who has consented to it; return whether there was
    one.

    Args:
        server: the authorization server.
        client_id: which client.
        request: of the client itself, if it is the client's wish.
    """
    deleted = await server.clients.delete(client_id)
    if deleted is None and request is not None:
        return False  # somebody was faster
    if deleted is not None and deleted.subjects is not None:
        # Not a look at everybody's grants and consents, which a stranger could ask for.
        for subject in deleted.subjects:
            await revoke_application(server, subject, client_id, reason="client_deleted")
    else:
        await server.grants.revoke_all("client_deleted", client_id=client_id)
        async for key, record in scan_all(server.store, CONSENTS):
            if Consent.load(record.value).client_id == client_id:
                await server.store.delete(CONSENTS, key)
    if deleted is None:
        return False
    event = AuditEvent(action="client_deleted", client_id=client_id)
    if request is None:
        server.audit.report(event)
    else:
        server.report(request, event)
    return True


def describe(
    server: Server, client: Client, *, secret: str | None = None, token: str | None = None
) -> JSONObject:
    """Return the client information response (RFC 7591 §3.2.1, RFC 7592 §3)."""
    document: JSONObject = {"client_id": client.client_id, "client_id_issued_at": client.issued_at}
    if secret is not None:
        document |= {"client_secret": secret, "client_secret_expires_at": client.secret_expires_at}
    if token is not None:
        uri = with_parameters(server.url("register"), {"client_id": client.client_id})
        document |= {"registration_access_token": token, "registration_client_uri": uri}
    return document | client.metadata


async def _check(server: Server, document: JSONObject) -> JSONObject:
    metadata = check_client_metadata(document, server.clients.policy)
    approve = server.settings.registration.approve
    if approve is not None and not await call_hook(approve, dict(metadata)):
        raise AccessDenied("This application is not welcome here")
    return metadata


async def _find(server: Server, request: Request) -> Client:
    token, client_id = _bearer(request), request.query("client_id")
    client = None if client_id is None else await server.clients.find_registered(client_id)
    good = None if client is None else client.registration_token_hash
    if (
        not hmac.compare_digest(hash_of(token or ""), good or hash_of("nobody"))
        or client is None
        or token is None
    ):
        raise InvalidRegistration
    return client


def _bearer(request: Request) -> str | None:
    try:
        return parse_bearer(request.header(b"authorization") or b"")
    except (InvalidRequest, InvalidToken):
        raise InvalidRegistration from None
