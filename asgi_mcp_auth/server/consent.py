"""``/consent``: a person decides about an application (RFC 6749 §4.1.1, RFC 9700 §4.2 and §4.16)."""

from __future__ import annotations

from urllib.parse import urlsplit

from .._urls import is_loopback_redirect, redirect_host
from ..errors import AccessDenied, ForbiddenForm, MalformedRequest, OAuthError
from .audit import AuditEvent
from .authorization import Destination, destination_of, refuse
from .cimd import is_document_url
from .context import Server
from .flow import approve, needs_sign_in, to_page
from .models import AuthorizationRequest, Session
from .page_values import ConsentPage
from .requests import Answer, Request


async def consent(server: Server, request: Request) -> Answer:
    """Show what the application asks for, or carry out what the person decided.

    Raises:
        MalformedRequest: there is nothing to decide about.
        ForbiddenForm: the form is not the one that was shown to this person.
        UnknownClient: the application has gone meanwhile.
        UnregisteredRedirect: its redirect URI has.
    """
    authorization, session = request.transaction.request, request.session
    if authorization is None:
        raise MalformedRequest("There is nothing to decide about")
    if session is None or needs_sign_in(server, session, authorization, request.transaction.began_at):
        return to_page(server, "login", request.transaction_id)
    destination = await destination_of(server, authorization)
    try:
        scopes = await server.scopes.grantable(session.person, destination.client, authorization.scopes)
        if request.method != "POST":
            return _show(server, request, session, destination, scopes)
        # The token fits this person and these scopes: what is approved is what was shown.
        server.sessions.check_form_token(request, request.transaction_id, *scopes)
        return await _decide(server, request, session, destination, authorization, scopes)
    except OAuthError as error:
        return refuse(server, request, destination, error)


async def _decide(
    server: Server,
    request: Request,
    session: Session,
    destination: Destination,
    authorization: AuthorizationRequest,
    scopes: list[str],
) -> Answer:
    action = request.parameters.get("action")
    if action == "switch":
        headers = await server.sessions.end(request)
        return to_page(server, "login", request.transaction_id, headers)
    if action not in ("approve", "deny"):
        raise ForbiddenForm
    await server.sessions.finish_transaction(request.transaction_id)
    if action == "approve":
        return await approve(server, request, session, destination, authorization, scopes)
    event = AuditEvent(action="denied", client_id=authorization.client_id, subject=session.person.subject)
    server.report(request, event)
    raise AccessDenied


def _show(server: Server, request: Request, session: Session, destination: Destination, scopes: list[str]) -> Answer:
    client = destination.client
    page = ConsentPage(
        action=server.url("consent"),
        hidden={
            "transaction": request.transaction_id,
            "csrf": server.sessions.form_token(request, request.transaction_id, *scopes),
        },
        client=client.name,
        is_verified=client.origin == "configured",
        client_host=urlsplit(client.client_id).netloc if is_document_url(client.client_id) else None,
        redirect_host=redirect_host(destination.redirect_uri),
        is_loopback=is_loopback_redirect(destination.redirect_uri),
        resource=server.resource,
        scopes=server.pages.describe(scopes),
        account=session.person.display_name,
    )
    return server.pages.answer(page)
