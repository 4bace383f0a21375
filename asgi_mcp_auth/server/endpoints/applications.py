"""``/applications`` and ``/logout``: the applications a user has approved: list, revoke, sign
out.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from ..._urls import redirect_host
from ...errors import MalformedRequest
from ..audit import AuditEvent
from ..browser.records import Session
from ..browser.requests import PageRequest
from ..interaction.consents import consents_of, revoke_application
from ..interaction.flow import to_page
from ..pages.models import Application, ApplicationsPage, MessagePage
from ..parts import Server
from ..web import Response, redirect

LOGOUT = "logout"


async def applications(server: Server, request: PageRequest) -> Response:
    """Show the user's applications, or revoke one.

    Raises:
        ForbiddenForm: the form is not from our page.
        MalformedRequest: it names no application.
    """
    session = request.session
    if session is None:
        await server.transactions.begin(request, None)
        return to_page(server, request, "login")
    if request.method != "POST":
        return await _show(server, request, session)
    server.forms.check_token(request, request.session_id)
    client_id = request.parameters.get("client_id")
    if client_id is None:
        raise MalformedRequest("The form names no application")
    await revoke_application(server, session.person.subject, client_id, reason="by_user")
    return redirect(server.url("applications"))


async def logout(server: Server, request: PageRequest) -> Response:
    """Sign out in this browser, or, as a link to this page is no decision, ask whether to.

    Raises:
        ForbiddenForm: the form is not from our page.
    """
    session = request.session
    if session is not None and request.method != "POST":
        question = MessagePage(
            heading="Sign out",
            text="This signs you out in this browser. Applications that you have allowed keep their"
            " access.",
            action=server.url(LOGOUT),
            hidden={"csrf": server.forms.token(LOGOUT, request.session_id)},
            button="Sign out",
        )
        return server.pages.response(question)
    # Without a session, a double click or a timeout has already ended it.
    if session is not None:
        server.forms.check_token(request, request.session_id)
        await server.sessions.end(request)
        server.audit.report(
            AuditEvent(action="signed_out", subject=session.person.subject), request
        )
    page = MessagePage(
        heading="Signed out", text="You are signed out in this browser. You can close this page."
    )
    return server.pages.response(page)


async def _show(server: Server, request: PageRequest, session: Session) -> Response:
    subject = session.person.subject
    consents = await consents_of(server, subject)
    # Earlier grants may have more scopes than the latest consent.
    granted: dict[str, list[str]] = {}
    async for _, grant in server.grants.ledger.scan(subject=subject):
        granted.setdefault(grant.client_id, []).extend(grant.scopes)
    entries = [
        Application(
            client_id=each.client_id,
            name=each.client_name,
            host=redirect_host(each.redirect_uri),
            scopes=_describe(server, [*each.scopes, *granted.get(each.client_id, ())]),
            since=time.strftime("%Y-%m-%d", time.gmtime(each.created_at)),
        )
        for each in consents
    ]
    page = ApplicationsPage(
        action=server.url("applications"),
        hidden={"csrf": server.forms.token("applications", request.session_id)},
        account=session.person.display_name,
        applications=entries,
        logout_action=server.url(LOGOUT),
        logout_hidden={"csrf": server.forms.token(LOGOUT, request.session_id)},
    )
    return server.pages.response(page)


def _describe(server: Server, scopes: Sequence[str]) -> list[str]:
    unique = list(dict.fromkeys(scopes))
    return [text for _, text in server.pages.describe(unique)]
