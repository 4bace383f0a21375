"""``/login``: shows the login step, and continues when the user has signed in."""

from __future__ import annotations

from dataclasses import replace

from ...errors import AccessDenied, ExpiredForm, OAuthError, SignInFailed
from ..audit import AuditEvent
from ..browser.requests import PageRequest
from ..grants.records import AuthorizationRequest
from ..interaction.authorization_request import restore_destination
from ..interaction.flow import (
    FORCE_LOGIN_PROMPTS,
    is_signed_in,
    may_sign_in,
    proceed,
    refuse,
    to_page,
)
from ..login import LoginAttempt, LoginForm, LoginRedirect, LoginRefusal
from ..pages.models import LoginPage, MessagePage
from ..parties import Person, check_person
from ..parts import Server
from ..web import Response, redirect

# The parameters of the page itself; the login step gets the others.
_PAGE_PARAMETERS = frozenset(("transaction", "csrf"))


async def login(server: Server, request: PageRequest) -> Response:
    """Ask the login step who the user is, and continue when it knows.

    Raises:
        ForbiddenForm: the form is not from our page.
        ExpiredForm: the page belongs to no transaction.
        AccessDenied: the account cannot be used here.
    """
    if request.transaction is None:
        raise ExpiredForm
    if request.method == "POST":
        server.forms.check_token(request, request.transaction_id)
    authorization = request.transaction.request
    parameters = {
        name: request.parameters.get(name) or ""
        for name in request.parameters
        if name not in _PAGE_PARAMETERS
    }
    if authorization is not None and not await may_sign_in(server, request, authorization):
        return to_page(server, request, "consent")
    is_plain_visit = request.method == "GET" and not parameters
    if (
        is_plain_visit
        and request.session is not None
        and (authorization is None or is_signed_in(server, request, authorization))
    ):
        return await _continue(server, request)  # signed in meanwhile, in another tab
    attempt = _attempt(server, request, authorization, parameters)
    try:
        outcome = await server.login.sign_in(attempt)
    except OAuthError as error:
        if isinstance(error, SignInFailed) and error.force_login:
            server.transactions.set_stale_session(request, is_stale=True)
        if not error.redirectable or authorization is None:
            raise
        destination = await restore_destination(server, request, authorization)
        await server.transactions.end(request)
        return await refuse(server, request, destination, error, by_person=True)
    if isinstance(outcome, LoginRedirect):
        if outcome.cookie is not None:
            server.transactions.set_login_cookie(request, outcome.cookie)
        return redirect(outcome.url)
    if isinstance(outcome, LoginRefusal):
        return await _reject(server, request, authorization, outcome)
    if isinstance(outcome, LoginForm):
        return await _show(server, request, outcome)
    server.transactions.set_stale_session(request, is_stale=False)
    response = await _finish(server, request, check_person(outcome))
    if attempt.cookie is not None:
        server.transactions.set_login_cookie(request, "")
    return response


async def find_callback(server: Server, request: PageRequest) -> None:
    """Load the transaction of a user who comes back from elsewhere to the login step's own path.

    Raises:
        ExpiredForm: there is none.
        ForbiddenForm: another browser began it.
    """
    parameters = {name: request.parameters.get(name) or "" for name in request.parameters}
    transaction_id = await server.login.find_transaction(parameters)
    if transaction_id is None:
        raise ExpiredForm
    await server.transactions.load(request, transaction_id)


def _attempt(
    server: Server,
    request: PageRequest,
    authorization: AuthorizationRequest | None,
    parameters: dict[str, str],
) -> LoginAttempt:
    force_login = server.transactions.has_stale_session(request)
    login_hint: str | None = None
    if authorization is not None:
        force_login |= (
            not FORCE_LOGIN_PROMPTS.isdisjoint(authorization.prompt) or authorization.max_age == 0
        )
        login_hint = authorization.login_hint
    return LoginAttempt(
        method=request.method,
        parameters=parameters,
        transaction=request.transaction_id,
        url=f"{server.url('login')}?transaction={request.transaction_id}",
        address=request.address,
        login_hint=login_hint,
        force_login=force_login,
        cookie=server.transactions.login_cookie(request),
    )


async def _show(server: Server, request: PageRequest, form: LoginForm) -> Response:
    if form.error is not None:
        event = AuditEvent(
            action="sign_in_failed", subject=form.failed_account, reason="credentials"
        )
        server.audit.report(event, request)
    client: str | None = None
    if request.transaction is not None and request.transaction.request is not None:
        destination = await restore_destination(server, request, request.transaction.request)
        client = destination.client.name
    token = server.forms.token("login", request.transaction_id)
    page = LoginPage(
        action=server.url("login"),
        hidden={"transaction": request.transaction_id, "csrf": token},
        fields=form.fields,
        button=form.button,
        error=form.error,
        client=client,
    )
    return server.pages.response(page, 200 if form.error is None else 401)


async def _reject(
    server: Server,
    request: PageRequest,
    authorization: AuthorizationRequest | None,
    refusal: LoginRefusal,
) -> Response:
    """Show the user why they cannot sign in, with a link that also tells the client."""
    error = AccessDenied()
    link: tuple[str, str] | None = None
    client_id: str | None = None
    if authorization is not None:
        destination = await restore_destination(server, request, authorization)
        link = destination.link(error)
        client_id = authorization.client_id
    await server.transactions.end(request)
    event = AuditEvent(
        action="refused", client_id=client_id, error=error.error, reason="not_allowed"
    )
    server.audit.report(event, request)
    page = MessagePage(heading="Access denied", text=refusal.text, link=link)
    return server.pages.response(page, 403)


async def _finish(server: Server, request: PageRequest, person: Person) -> Response:
    """Begin a session for the user who has signed in, and continue."""
    has_begun = False
    try:
        if await server.clients.acts_for_itself(person.subject):
            # The tokens of a client that acts for itself have its id as sub: no user may have the
            # same one (RFC 9700 §4.15).
            raise AccessDenied("This account cannot be used here")
        await server.sessions.begin(request, person)
        has_begun = True
    finally:
        if not has_begun:
            await server.login.on_grant_ended(person)
    server.audit.report(AuditEvent(action="signed_in", subject=person.subject), request)
    return await _continue(server, request, has_just_signed_in=True)


async def _continue(
    server: Server, request: PageRequest, *, has_just_signed_in: bool = False
) -> Response:
    authorization = None if request.transaction is None else request.transaction.request
    if authorization is None:
        await server.transactions.end(request)
        return redirect(server.url("applications"))
    destination = await restore_destination(server, request, authorization)
    try:
        session = request.session
        if (
            has_just_signed_in
            and session is not None
            and not is_signed_in(server, request, authorization)
        ):
            await server.transactions.change(
                request, lambda known: replace(known, signed_in=session.person)
            )
        return await proceed(server, request, destination, authorization)
    except OAuthError as error:
        return await refuse(server, request, destination, error, by_person=has_just_signed_in)
