"""Decides the next step of a sign-in: log in, consent, or back to the client with a code.

A consent is remembered only for https redirect URIs, which themselves say who the client is, and
counts only if a page of this server began the navigation. No user is sent to a stranger's address
without having had a say.
"""

from __future__ import annotations

from dataclasses import replace

from ..._urls import with_parameters
from ...errors import ConsentRequired, ExpiredForm, LoginRequired, OAuthError
from ..audit import AuditEvent
from ..browser.records import Decision, Session, Transaction
from ..browser.requests import PageRequest
from ..grants.authorization_code import issue_code
from ..grants.records import AuthorizationRequest, Consent
from ..pages.models import MessagePage
from ..parties import Person
from ..parts import Server
from ..web import Response, redirect
from . import consents
from .authorization_request import Destination

# The prompts that a session does not satisfy (OpenID Connect Core §3.1.2.1).
FORCE_LOGIN_PROMPTS = frozenset(("login", "select_account"))


def is_signed_in(server: Server, request: PageRequest, authorization: AuthorizationRequest) -> bool:
    """Return whether the user is signed in well enough for an authorization request."""
    session, transaction = request.session, request.transaction
    if session is None:
        return False
    if _signed_in_here(transaction, session) is not None:
        return True
    if server.login.skips_session or not FORCE_LOGIN_PROMPTS.isdisjoint(authorization.prompt):
        return False
    max_age = authorization.max_age  # OpenID Connect Core §3.1.2.1
    if max_age is None:
        return True
    return max_age > 0 and server.clock.time() - session.signed_in_at <= max_age


def _signed_in_here(transaction: Transaction | None, session: Session) -> Person | None:
    # The user of this very sign-in: the session may be a later one, from another tab.
    person = None if transaction is None else transaction.signed_in
    return person if person is not None and person.subject == session.person.subject else None


async def proceed(
    server: Server,
    request: PageRequest,
    destination: Destination,
    authorization: AuthorizationRequest,
) -> Response:
    """Send the user to the next page, or to the client when there is nothing left to ask.

    Raises:
        LoginRequired: the user would have to sign in, but ``prompt=none`` allows no page.
        ConsentRequired: the user would have to consent, but ``prompt=none`` allows no page.
        AccessDenied: the user may grant none of the scopes.
    """
    transaction, session = request.transaction, request.session
    page = "login"
    if is_signed_in(server, request, authorization) and session is not None:
        page = "consent"
        scopes = await server.scopes.filter_grantable(
            session.person, destination.client, authorization.scopes
        )
        if transaction is not None and transaction.decision == "approve":
            scopes = [scope for scope in scopes if scope in transaction.scopes]
            return await approve(server, request, session, destination, authorization, scopes)
        if await consents.is_remembered(server, session, authorization, scopes):
            return await _issue(server, request, session, destination, authorization, scopes)
    elif not await may_sign_in(server, request, authorization):
        page = "consent"
    if "none" in authorization.prompt:
        raise LoginRequired if page == "login" else ConsentRequired
    if transaction is None:
        await server.transactions.begin(request, authorization)
    return to_page(server, request, page)


async def may_sign_in(
    server: Server, request: PageRequest, authorization: AuthorizationRequest
) -> bool:
    """Return whether the login step may begin; some may not before the user has consented."""
    transaction, session = request.transaction, request.session
    if not server.login.consent_before_login or (
        transaction is not None and transaction.decision == "approve"
    ):
        return True
    return session is not None and await consents.is_remembered(
        server, session, authorization, authorization.scopes
    )


def to_page(server: Server, request: PageRequest, page: str) -> Response:
    """Send the user to a page of the transaction."""
    url = with_parameters(server.url(page), {"transaction": request.transaction_id})
    return redirect(url)


async def decide(
    server: Server, request: PageRequest, decision: Decision, subject: str | None, scopes: list[str]
) -> None:
    """Store a decision. The first one wins; the same one again, a double click, passes too.

    Raises:
        ExpiredForm: another decision was stored before.
    """

    def change(known: Transaction) -> Transaction:
        is_open = known.decision is None or (
            known.decision == decision and known.decided_by is None
        )
        changed = replace(known, decision=decision, decided_by=subject, scopes=scopes)
        if changed != known and not is_open:
            raise ExpiredForm
        return changed

    await server.transactions.change(request, change)


async def approve(
    server: Server,
    request: PageRequest,
    session: Session,
    destination: Destination,
    authorization: AuthorizationRequest,
    scopes: list[str],
) -> Response:
    """Send the user to the client with a code, and remember their consent."""
    response = await _issue(server, request, session, destination, authorization, scopes)
    consent = Consent(
        client_id=authorization.client_id,
        client_name=destination.client.name,
        redirect_uri=destination.redirect_uri,
        resource=authorization.resource,
        scopes=scopes,
        created_at=int(server.clock.time()),
    )
    await consents.remember(server, session.person.subject, consent)
    return response


async def refuse(
    server: Server,
    request: PageRequest,
    destination: Destination,
    error: OAuthError,
    *,
    by_person: bool = False,
) -> Response:
    """Tell the client of an error.

    Otherwise any link could send users to an address that a stranger registered (RFC 9700
    §4.11.2). So the user is redirected only if they did something about this request here
    (``by_person``), have approved this application before, or the destination is trusted. All
    others get a page with a link, even with ``prompt=none``.

    Raises:
        OAuthError: the error, if it must not be sent to the client.
    """
    if not error.redirectable:
        raise error
    event = AuditEvent(
        action="refused",
        client_id=destination.client.client_id,
        error=error.error,
        reason=error.reason,
    )
    server.audit.report(event, request)
    if (
        by_person
        or destination.is_trusted
        or await consents.has_approved(server, request.session, destination)
    ):
        return destination.refuse(error)
    page = MessagePage(
        heading="Something went wrong",
        text=f"The application's request was refused: {error}.",
        link=destination.link(error),
    )
    return server.pages.response(page, 400)


async def _issue(
    server: Server,
    request: PageRequest,
    session: Session,
    destination: Destination,
    authorization: AuthorizationRequest,
    scopes: list[str],
) -> Response:
    """Send the user to the client with a code (RFC 6749 §4.1.2)."""
    secret: str | None = None
    is_repeated = False
    person = _signed_in_here(request.transaction, session) or session.person
    if request.transaction is not None:
        is_repeated = request.transaction.decided_by is not None
        await decide(server, request, "approve", session.person.subject, scopes)
        # The second click of a double click gets the same code: browsers drop the response to the
        # first one.
        secret = server.forms.secret_of(request.transaction_id)
    await server.clients.extend(destination.client, person.subject)
    code = await issue_code(
        server.grants,
        authorization,
        person,
        scopes,
        session.signed_in_at,
        code=secret,
    )
    if code is None:
        raise ExpiredForm
    if not is_repeated:
        event = AuditEvent(
            action="approved",
            client_id=authorization.client_id,
            subject=person.subject,
            scopes=tuple(scopes),
        )
        server.audit.report(event, request)
    return destination.deliver(code)
