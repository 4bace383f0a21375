"""Consents: stores which scopes a user has approved for which application, and revokes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ..browser.records import Session
from ..grants.records import AuthorizationRequest, Consent
from ..parts import Parts, Server
from ..records import hash_of
from ..table import Kind, Table
from .authorization_request import Destination

CONSENTS: Final = Kind(
    "consent",
    Consent,
    key="SHA-256 of the hashes of the subject and the client id",
    lifetime="`consent_seconds` plus `refresh_token_seconds`",
)


async def remember(server: Server, subject: str, consent: Consent) -> None:
    """Store a consent of a user, in place of any earlier one for the same application."""
    await _table(server).put(_key(subject, consent.client_id), consent, group=subject)


async def is_remembered(
    server: Server, session: Session, authorization: AuthorizationRequest, scopes: Sequence[str]
) -> bool:
    """Return whether the user has approved the same before, for an application that can be told
    from others.
    """
    # Any program on the user's machine can pretend to be the client of a loopback URL or of a
    # private-use scheme.
    if "consent" in authorization.prompt or not authorization.redirect_uri.startswith("https://"):
        return False
    key = _key(session.person.subject, authorization.client_id)
    consent = await _table(server).get(key)
    return (
        consent is not None
        and consent.redirect_uri == authorization.redirect_uri
        and consent.resource == authorization.resource
        and set(scopes) <= set(consent.scopes)
        and server.clock.time() < consent.created_at + server.lifetimes.consent_seconds
    )


async def has_approved(server: Server, session: Session | None, destination: Destination) -> bool:
    """Return whether the user has ever approved this application at this redirect URI."""
    if session is None:
        return False
    key = _key(session.person.subject, destination.client.client_id)
    consent = await _table(server).get(key)
    return consent is not None and consent.redirect_uri == destination.redirect_uri


async def consents_of(server: Server, subject: str) -> list[Consent]:
    """Return the consents of a user, by the names of the applications."""
    found = [consent async for _, consent in _table(server).scan(group=subject)]
    return sorted(found, key=lambda each: (each.client_name.lower(), each.client_id))


async def revoke_application(parts: Parts, subject: str, client_id: str, *, reason: str) -> int:
    """End the grants of a user to an application and forget their consent; return how many grants
    ended.
    """
    # First, so that it counts at once, even if the rest fails.
    ended = await parts.grants.revocation.revoke_all(reason, subject=subject, client_id=client_id)
    await _table(parts).delete(_key(subject, client_id))
    # And the grants that began meanwhile, because of the consent.
    return ended + await parts.grants.revocation.revoke_all(
        reason, subject=subject, client_id=client_id
    )


async def forget_client(parts: Parts, client_id: str) -> None:
    """Forget all consents for an application; it looks at every consent."""
    table = _table(parts)
    async for key, consent in table.scan():
        if consent.client_id == client_id:
            await table.delete(key)


async def forget_person(parts: Parts, subject: str) -> None:
    """Forget all consents of a user."""
    table = _table(parts)
    async for key, _ in table.scan(group=subject):
        await table.delete(key)


def _table(parts: Parts) -> Table[Consent]:
    # An old consent is asked for again, but it still shows the user which applications may have
    # tokens.
    seconds = parts.lifetimes.consent_seconds + parts.lifetimes.refresh_token_seconds
    return Table(parts.store, CONSENTS, lambda _: seconds)


def _key(subject: str, client_id: str) -> str:
    return hash_of(hash_of(subject) + hash_of(client_id))
