"""Decide the next page of a sign-in: the login step, the consent page, or the client's answer.

A consent is remembered only for an https redirect URI, because only that identifies the client
(RFC 8252 §8.6), and counts only for a navigation that began on a page of this origin. An error
reaches a self-registered client's address only after the person has clicked (RFC 9700 §4.11.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..._asgi import HeaderList
from ..._urls import is_loopback_redirect, redirect_host, with_parameters
from ...errors import ConsentRequired, ExpiredForm, LoginRequired, OAuthError
from ..audit import AuditEvent
from ..browser.records import Decision, Session, Transaction
from ..grants.records import AuthorizationRequest, Consent
from ..pages.models import ErrorPage
from ..parties import Person
from ..parts import Server
from ..records import hash_of
from ..web import Answer, Request, redirect
from .authorization_request import Destination

CONSENTS = "consent"
# prompts for which it is not enough that somebody is signed in
ANEW = frozenset(("login", "select_account"))


def is_signed_in(server: Server, request: Request, authorization: AuthorizationRequest) -> bool:
    """Return whether the person need not sign in, or sign in again, before this request can go
    on.
    """
    session, transaction = request.session, request.transaction
    if session is None:
        return False
    if _signed_in_here(transaction, session) is not None:
        return True
    too_old = authorization.max_age is not None and (
        authorization.max_age == 0
        or server.clock.time() - session.signed_in_at > authorization.max_age
    )  # OpenID Connect Core §3.1.2.1
    return not (server.login.every_time or too_old or not ANEW.isdisjoint(authorization.prompt))


def _signed_in_here(transaction: Transaction | None, session: Session) -> Person | None:
    # As this very sign-in said it: the session may be of a later one, of another tab.
    person = None if transaction is None else transaction.signed_in
    return person if person is not None and person.subject == session.person.subject else None


async def proceed(
    server: Server, request: Request, destination: Destination, authorization: AuthorizationRequest
) -> Answer:
    """Send the person to the page that comes next, or to the client when nothing is left to ask.

    Raises:
        LoginRequired: a page would be needed, and the request allows none.
        ConsentRequired: the same.
        AccessDenied: the person may grant nothing of this.
    """
    transaction, page = request.transaction, "login"
    if is_signed_in(server, request, authorization) and request.session is not None:
        page, session = "consent", request.session
        scopes = await server.scopes.grantable(
            session.person, destination.client, authorization.scopes
        )
        if transaction is not None and transaction.decision == "approve":
            scopes = [scope for scope in scopes if scope in transaction.scopes]
            return await approve(server, request, session, destination, authorization, scopes)
        if await is_remembered(server, session, authorization, scopes):
            return await _issue(server, request, session, destination, authorization, scopes)
    elif not await may_sign_in(server, request, authorization):
        page = "consent"
    if "none" in authorization.prompt:
        raise LoginRequired if page == "login" else ConsentRequired
    headers: HeaderList = ()
    if transaction is None:
        request.transaction_id, headers = await server.sessions.begin_transaction(
            request, authorization
        )
    return to_page(server, page, request.transaction_id, headers)


async def may_sign_in(
    server: Server, request: Request, authorization: AuthorizationRequest
) -> bool:
    """Return whether the login step may begin; some may not before the person has consented, now or
    before.
    """
    transaction, session = request.transaction, request.session
    if not server.login.consent_first or (
        transaction is not None and transaction.decision == "approve"
    ):
        return True
    return session is not None and await is_remembered(
        server, session, authorization, authorization.scopes
    )


def to_page(server: Server, page: str, transaction_id: str, headers: HeaderList = ()) -> Answer:
    """Send the person to a page of a transaction."""
    return redirect(with_parameters(server.url(page), {"transaction": transaction_id}), headers)


async def decide(
    server: Server, request: Request, decision: Decision, subject: str | None, scopes: list[str]
) -> None:
    """Write down what was decided. Of several who try, one gets through; the same again, a double
    click, does too.

    Raises:
        ExpiredForm: something else was decided before.
    """

    def change(known: Transaction) -> Transaction:
        is_open = known.decision is None or (
            known.decision == decision and known.decided_by is None
        )
        changed = replace(known, decision=decision, decided_by=subject, scopes=scopes)
        if changed != known and not is_open:
            raise ExpiredForm
        return changed

    await server.sessions.change_transaction(request, change)


async def approve(
    server: Server,
    request: Request,
    session: Session,
    destination: Destination,
    authorization: AuthorizationRequest,
    scopes: list[str],
) -> Answer:
    """Remember that the person said yes, and send them to the client with a code."""
    answer = await _issue(server, request, session, destination, authorization, scopes)
    consent = Consent(
        client_id=authorization.client_id,
        client_name=destination.client.name,
        redirect_uri=destination.redirect_uri,
        resource=server.resource,
        scopes=scopes,
        created_at=int(server.clock.time()),
    )
    subject = session.person.subject
    # It also tells the person whom they have allowed, as long as there can be tokens.
    ttl = server.lifetimes.consent_seconds + server.lifetimes.refresh_token_seconds
    key = consent_key(subject, authorization.client_id)
    await server.store.put(CONSENTS, key, consent.dump(), ttl=ttl, group=subject)
    return answer


async def refuse(
    server: Server,
    request: Request,
    destination: Destination,
    error: OAuthError,
    *,
    by_person: bool = False,
) -> Answer:
    """Tell the client of an error at its redirect URI.

    Nobody is sent on to an address that a stranger registered, by a link that a stranger made,
    without a say in it (RFC 9700 §4.11.2): whoever has neither done something about this request
    here (``by_person``) nor approved this application before gets a page with a link, with
    ``prompt=none`` as well.

    Raises:
        OAuthError: this one, when it is none that a client is told.
    """
    if not error.redirectable:
        raise error
    client = destination.client
    server.report(
        request,
        AuditEvent(
            action="refused", client_id=client.client_id, error=error.error, reason=error.reason
        ),
    )
    url = destination.url(server.issuer, error=error.error, error_description=str(error))
    is_ours = client.origin == "configured" or is_loopback_redirect(destination.redirect_uri)
    if by_person or is_ours or await _has_approved(server, request.session, destination):
        return redirect(url)
    page = ErrorPage(
        heading="This cannot go on",
        text=f"The application's request was refused: {error}.",
        link=(url, f"Go back to {redirect_host(destination.redirect_uri)}"),
    )
    return server.pages.answer(page, 400)


async def _has_approved(server: Server, session: Session | None, destination: Destination) -> bool:
    if session is None:
        return False
    record = await server.store.get(
        CONSENTS, consent_key(session.person.subject, destination.client.client_id)
    )
    return (
        record is not None and Consent.load(record.value).redirect_uri == destination.redirect_uri
    )


def consent_key(subject: str, client_id: str) -> str:
    """Return the key of what a person has approved for a client."""
    return hash_of(hash_of(subject) + hash_of(client_id))


async def is_remembered(
    server: Server, session: Session, authorization: AuthorizationRequest, scopes: Sequence[str]
) -> bool:
    """Return whether the person has approved the same before, of an application that can be told
    from others.
    """
    # Whoever runs a program on the person's machine, or registers a scheme there, can pretend to be
    # the client.
    if "consent" in authorization.prompt or not authorization.redirect_uri.startswith("https://"):
        return False
    record = await server.store.get(
        CONSENTS, consent_key(session.person.subject, authorization.client_id)
    )
    if record is None:
        return False
    consent = Consent.load(record.value)
    return (
        (consent.redirect_uri, consent.resource) == (authorization.redirect_uri, server.resource)
        and set(scopes) <= set(consent.scopes)
        and server.clock.time() < consent.created_at + server.lifetimes.consent_seconds
    )


async def _issue(
    server: Server,
    request: Request,
    session: Session,
    destination: Destination,
    authorization: AuthorizationRequest,
    scopes: list[str],
) -> Answer:
    """Send the person to the client with a code (RFC 6749 §4.1.2)."""
    secret, is_repeated = None, False
    person = _signed_in_here(request.transaction, session) or session.person
    if request.transaction is not None:
        is_repeated = request.transaction.decided_by is not None
        await decide(server, request, "approve", session.person.subject, scopes)
        # The same for the second click of a double click: browsers drop the answer to the first.
        secret = server.sessions.secret_of(request.transaction_id)
    await server.clients.keep(destination.client, person.subject)
    code = await server.grants.issue_code(
        authorization, person, scopes, session.signed_in_at, code=secret
    )
    if code is None:
        raise ExpiredForm
    if not is_repeated:
        subject, client_id = person.subject, authorization.client_id
        event = AuditEvent(
            action="approved", client_id=client_id, subject=subject, scopes=tuple(scopes)
        )
        server.report(request, event)
    return redirect(destination.url(server.issuer, code=code))
