"""``/applications`` and ``/logout``: a person sees whom they have allowed, takes it back, and
leaves.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from ..._urls import redirect_host
from ...errors import MalformedRequest
from ...stores import scan_all
from ..audit import AuditEvent
from ..browser.records import Session
from ..grants.records import Consent
from ..interaction.flow import CONSENTS, consent_key, to_page
from ..pages.models import Application, ApplicationsPage, ErrorPage
from ..parts import Server
from ..web import Answer, Request, redirect

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
    server.sessions.check_form_token(request, request.session_id or "")
    client_id = request.parameters.get("client_id")
    if client_id is None:
        raise MalformedRequest("The form names no application")
    await revoke_application(server, session.person.subject, client_id, reason="by_user")
    return redirect(server.url("applications"))


async def revoke_application(server: Server, subject: str, client_id: str, *, reason: str) -> int:
    """End what a person has allowed an application, and forget that they did; return how many
    grants ended.
    """
    # First, so that this counts at once, whatever becomes of the rest.
    ended = await server.grants.revoke_all(reason, subject=subject, client_id=client_id)
    await server.store.delete(CONSENTS, consent_key(subject, client_id))
    # And what has begun while the consent was there, which lets an application in without a
    # question.
    return ended + await server.grants.revoke_all(reason, subject=subject, client_id=client_id)


async def logout(server: Server, request: Request) -> Answer:
    """Sign out in this browser.

    Raises:
        ForbiddenForm: the form is not from our page.
    """
    session = request.session
    page = ErrorPage(
        heading="Signed out", text="You are signed out in this browser. You can close this page."
    )
    if session is None:
        # by the first click of a double click, or for lack of time
        return server.pages.answer(page)
    server.sessions.check_form_token(request, request.session_id or "")
    headers = await server.sessions.end(request)
    server.report(request, AuditEvent(action="signed_out", subject=session.person.subject))
    return server.pages.answer(page, headers=headers)


async def _show(server: Server, request: Request, session: Session) -> Answer:
    subject, scopes_of = session.person.subject, dict[str, list[str]]()
    allowed = [
        Consent.load(record.value)
        async for _, record in scan_all(server.store, CONSENTS, group=subject)
    ]
    async for _, grant in server.grants.scan(subject=subject):
        # older ones may reach further than the last
        scopes_of.setdefault(grant.client_id, []).extend(grant.scopes)
    entries = [
        Application(
            client_id=each.client_id,
            name=each.client_name,
            host=redirect_host(each.redirect_uri),
            scopes=_in_words(server, (*each.scopes, *scopes_of.get(each.client_id, ()))),
            since=time.strftime("%Y-%m-%d", time.gmtime(each.created_at)),
        )
        for each in sorted(allowed, key=lambda each: (each.client_name.lower(), each.client_id))
    ]
    form_token, session_id = server.sessions.form_token, request.session_id or ""
    return server.pages.answer(
        ApplicationsPage(
            action=server.url("applications"),
            hidden={"csrf": form_token("applications", session_id)},
            account=session.person.display_name,
            applications=entries,
            logout_action=server.url(LOGOUT),
            logout_hidden={"csrf": form_token(LOGOUT, session_id)},
        )
    )


def _in_words(server: Server, scopes: Sequence[str]) -> list[str]:
    return [text for _, text in server.pages.describe([*dict.fromkeys(scopes)])]
