"""From one page to the next: who has to sign in, who has to consent, and who is done.

AS-26: a consent is remembered only where the redirect URI itself says who the client is, that is, where it is https.
"""

from __future__ import annotations

from collections.abc import Sequence

from .._asgi import HeaderList
from .._urls import with_parameters
from ..errors import ConsentRequired, LoginRequired
from .audit import AuditEvent
from .authorization import Destination
from .context import Server
from .models import AuthorizationRequest, Consent, Session, hash_of
from .requests import Answer, Request, redirect

CONSENTS = "consent"


def needs_sign_in(server: Server, session: Session | None, authorization: AuthorizationRequest, since: float) -> bool:
    """Return whether the person has to sign in, or sign in again, before this request can go on.

    Args:
        server: knows the time.
        session: who is signed in.
        authorization: may ask for a fresh sign-in.
        since: epoch seconds from which on a sign-in is fresh.
    """
    if session is None:
        return True
    if session.signed_in_at >= int(since):
        return False
    too_old = (
        authorization.max_age is not None
        and server.clock.time() - session.signed_in_at > authorization.max_age  # OpenID Connect Core §3.1.2.1
    )
    return too_old or not {"login", "select_account"}.isdisjoint(authorization.prompt)


async def proceed(
    server: Server,
    request: Request,
    destination: Destination,
    authorization: AuthorizationRequest,
    *,
    since: float,
    transaction_id: str | None = None,
) -> Answer:
    """Send the person to the page that comes next, or to the client when nothing is left to ask.

    Args:
        server: the authorization server.
        request: tells who is signed in.
        destination: where the client waits.
        authorization: what it asks for.
        since: as for ``needs_sign_in``.
        transaction_id: of the transaction under way, if there is one.

    Raises:
        LoginRequired: a page would be needed, and the request allows none.
        ConsentRequired: the same.
        AccessDenied: the person may grant nothing of this.
    """
    session, silent, page = request.session, "none" in authorization.prompt, "login"
    headers: HeaderList = ()
    if session is not None and not needs_sign_in(server, session, authorization, since):
        page = "consent"
        scopes = await server.scopes.grantable(session.person, destination.client, authorization.scopes)
        if "consent" not in authorization.prompt and await _is_remembered(server, session, authorization, scopes):
            if transaction_id is not None:
                await server.sessions.finish_transaction(transaction_id)
            return await issue(server, request, session, destination, authorization, scopes)
    if silent:
        raise LoginRequired if page == "login" else ConsentRequired
    if transaction_id is None:
        transaction_id, headers = await server.sessions.begin_transaction(request, authorization)
    return to_page(server, page, transaction_id, headers)


def to_page(server: Server, page: str, transaction_id: str, headers: HeaderList = ()) -> Answer:
    """Send the person to a page of a transaction."""
    return redirect(with_parameters(server.url(page), {"transaction": transaction_id}), headers)


async def approve(
    server: Server,
    request: Request,
    session: Session,
    destination: Destination,
    authorization: AuthorizationRequest,
    scopes: list[str],
) -> Answer:
    """Remember that the person said yes, and send them to the client with a code."""
    consent = Consent(
        client_id=authorization.client_id,
        client_name=destination.client.name,
        redirect_uri=destination.redirect_uri,
        scopes=scopes,
        created_at=int(server.clock.time()),
    )
    subject = session.person.subject
    # As long as its tokens can live, because it also tells the person whom they have allowed.
    ttl = max(server.lifetimes.consent_seconds, server.lifetimes.refresh_token_seconds)
    await server.store.put(
        CONSENTS, consent_key(subject, authorization.client_id), consent.dump(), ttl=ttl, group=subject
    )
    return await issue(server, request, session, destination, authorization, scopes)


async def issue(
    server: Server,
    request: Request,
    session: Session,
    destination: Destination,
    authorization: AuthorizationRequest,
    scopes: list[str],
) -> Answer:
    """Send the person to the client with a code (RFC 6749 §4.1.2)."""
    await server.clients.keep(destination.client)
    code = await server.grants.issue_code(authorization, session.person, scopes, session.signed_in_at)
    event = AuditEvent(
        action="approved",
        client_id=authorization.client_id,
        subject=session.person.subject,
        scopes=tuple(scopes),
    )
    server.report(request, event)
    return redirect(destination.url(server.issuer, code=code))


def consent_key(subject: str, client_id: str) -> str:
    """Return the key of what a person has approved for a client."""
    return hash_of(hash_of(subject) + hash_of(client_id))


async def _is_remembered(
    server: Server, session: Session, authorization: AuthorizationRequest, scopes: Sequence[str]
) -> bool:
    # Whoever runs a program on the person's machine, or registers a scheme there, can pretend to be the client.
    if not authorization.redirect_uri.startswith("https://"):
        return False
    record = await server.store.get(CONSENTS, consent_key(session.person.subject, authorization.client_id))
    if record is None:
        return False
    consent = Consent.load(record.value)
    return (
        consent.redirect_uri == authorization.redirect_uri
        and set(scopes) <= set(consent.scopes)
        and server.clock.time() < consent.created_at + server.lifetimes.consent_seconds
    )
