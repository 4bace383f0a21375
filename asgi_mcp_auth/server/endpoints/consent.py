"""``/consent``: the user decides about an application (RFC 6749 §4.1.1, RFC 9700 §4.2 and
§4.16).
"""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import urlsplit

from ..._urls import redirect_host
from ...errors import AccessDenied, ExpiredForm, ForbiddenForm, MalformedRequest, OAuthError
from ..audit import AuditEvent
from ..browser.records import Session, Transaction
from ..browser.requests import PageRequest
from ..clients.cimd import is_document_url
from ..grants.records import AuthorizationRequest
from ..interaction.authorization_request import Destination, restore_destination
from ..interaction.flow import approve, decide, is_signed_in, may_sign_in, refuse, to_page
from ..pages.models import ConsentPage
from ..parts import Server
from ..web import Response


async def consent(server: Server, request: PageRequest) -> Response:
    """Show the application's request, or carry out the user's decision.

    Raises:
        MalformedRequest: there is nothing to decide about.
        ForbiddenForm: the form is not the one that this user was shown.
        ExpiredForm: it has been decided.
        UnknownClient: the application no longer exists.
        UnregisteredRedirect: its redirect URI is no longer registered.
    """
    transaction = request.transaction
    if transaction is None or transaction.request is None:
        raise MalformedRequest("There is nothing to decide about")
    authorization = transaction.request
    session = request.session if is_signed_in(server, request, authorization) else None
    if session is None and await may_sign_in(server, request, authorization):
        return to_page(server, request, "login")
    destination = await restore_destination(server, request, authorization)
    try:
        scopes = authorization.scopes
        if session is not None:
            scopes = await server.scopes.filter_grantable(
                session.person, destination.client, scopes
            )
        if request.method != "POST":
            if transaction.decision is not None:
                raise ExpiredForm
            return _show(server, request, session, destination, authorization, scopes)
        # The token is bound to this user and these scopes, so they approve exactly the page that
        # they saw.
        server.forms.check_token(
            request, request.transaction_id, _subject_of(session) or "", *scopes
        )
        return await _decide(server, request, session, destination, authorization, scopes)
    except OAuthError as error:
        return await refuse(server, request, destination, error, by_person=request.method == "POST")


async def _decide(
    server: Server,
    request: PageRequest,
    session: Session | None,
    destination: Destination,
    authorization: AuthorizationRequest,
    scopes: list[str],
) -> Response:
    action = request.parameters.get("action")
    if action == "switch":
        return await _switch(server, request)
    if action == "approve" and session is not None:
        return await approve(server, request, session, destination, authorization, scopes)
    if action == "approve":
        await decide(server, request, "approve", None, scopes)
        return to_page(server, request, "login")
    if action != "deny":
        raise ForbiddenForm
    subject = _subject_of(session)
    await decide(server, request, "deny", subject, scopes)
    event = AuditEvent(action="denied", client_id=authorization.client_id, subject=subject)
    server.audit.report(event, request)
    raise AccessDenied


async def _switch(server: Server, request: PageRequest) -> Response:
    """Let the user sign in with another account."""

    def change(known: Transaction) -> Transaction:
        if known.decision is not None or known.request is None:
            raise ExpiredForm
        prompt = [*known.request.prompt, "select_account"]
        return replace(known, signed_in=None, request=replace(known.request, prompt=prompt))

    await server.transactions.change(request, change)
    await server.sessions.end(request)
    return to_page(server, request, "login")


def _show(
    server: Server,
    request: PageRequest,
    session: Session | None,
    destination: Destination,
    authorization: AuthorizationRequest,
    scopes: list[str],
) -> Response:
    client, transaction_id = destination.client, request.transaction_id
    token = server.forms.token("consent", transaction_id, _subject_of(session) or "", *scopes)
    client_host: str | None = None
    if is_document_url(client.client_id):
        client_host = urlsplit(client.client_id).netloc
    page = ConsentPage(
        action=server.url("consent"),
        hidden={"transaction": transaction_id, "csrf": token},
        client=client.name,
        is_verified=client.origin == "configured",
        client_host=client_host,
        redirect_host=redirect_host(destination.redirect_uri),
        is_on_device=not destination.redirect_uri.startswith("https://"),
        resource=authorization.resource,
        scopes=server.pages.describe(scopes),
        account=None if session is None else session.person.display_name,
        provider_host=server.login.provider_host,
        provider_scopes=server.login.provider_scopes,
        applications_url=server.url("applications") if server.has("applications") else None,
    )
    return server.pages.response(page)


def _subject_of(session: Session | None) -> str | None:
    return None if session is None else session.person.subject
