"""``/applications`` and ``/logout``: a person sees whom they have allowed, takes it back, and leaves."""

from __future__ import annotations

import time

from ..errors import ForbiddenForm, MalformedRequest
from ..stores import scan_all
from .audit import AuditEvent
from .context import Server
from .flow import CONSENTS, consent_key, to_page
from .models import Consent, Session
from .page_values import Application, ApplicationsPage, ErrorPage
from .requests import Answer, Request, redirect

LOGOUT = "logout"


async def applications(server: Server, request: Request) -> Answer:
    """Show the person's applications, or revoke one.

    Raises:
        ForbiddenForm: the form is not from our page.
        MalformedRequest: it names no application.
    """
    session = request.session
    if session is None:
        transaction_id, headers = await server.sessions.begin_transaction(request, None)
        return to_page(server, "login", transaction_id, headers)
    if request.method != "POST":
        return await _show(server, request, session)
    server.sessions.check_form_token(request)
    client_id = request.parameters.get("client_id")
    if client_id is None:
        raise MalformedRequest("The form names no application")
    await revoke_application(server, session.person.subject, client_id, reason="by_user")
    return redirect(server.url("applications"))


async def revoke_application(server: Server, subject: str, client_id: str, *, reason: str) -> int:
    """End what a person has allowed an application, and forget that they did; return how many grants ended."""
    await server.store.delete(CONSENTS, consent_key(subject, client_id))
    return await server.grants.revoke_all(reason, subject=subject, client_id=client_id)


async def logout(server: Server, request: Request) -> Answer:
    """Sign out in this browser.

    Raises:
        ForbiddenForm: the form is not from our page.
    """
    session = request.session
    if session is None:
        raise ForbiddenForm
    server.sessions.check_form_token(request)
    headers = await server.sessions.end(request)
    server.report(request, AuditEvent(action="signed_out", subject=session.person.subject))
    page = ErrorPage(heading="Signed out", text="You are signed out in this browser. You can close this page.")
    return server.pages.answer(page, headers=headers)


async def _show(server: Server, request: Request, session: Session) -> Answer:
    subject = session.person.subject
    allowed = [Consent.load(record.value) async for _, record in scan_all(server.store, CONSENTS, group=subject)]
    entries = [
        Application(
            client_id=each.client_id,
            name=each.client_name,
            scopes=[text for _, text in server.pages.describe(each.scopes)],
            since=time.strftime("%Y-%m-%d", time.gmtime(each.created_at)),
        )
        for each in sorted(allowed, key=lambda each: each.client_name.lower())
    ]
    sessions = server.sessions
    return server.pages.answer(
        ApplicationsPage(
            action=server.url("applications"),
            hidden={"csrf": sessions.form_token(request)},
            account=session.person.display_name,
            applications=entries,
            logout_action=server.url(LOGOUT),
            logout_hidden={"csrf": sessions.form_token(request, endpoint=LOGOUT)},
        )
    )
