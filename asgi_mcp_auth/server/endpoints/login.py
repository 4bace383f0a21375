"""``/login``: the page of the login step, whichever it is, and what follows."""

from __future__ import annotations

from dataclasses import replace

from ..._urls import redirect_host
from ...errors import AccessDenied, ExpiredForm, OAuthError
from ..audit import AuditEvent
from ..grants.records import AuthorizationRequest
from ..interaction.authorization_request import destination_of
from ..interaction.flow import ANEW, is_signed_in, may_sign_in, proceed, refuse, to_page
from ..login import LoginAttempt, LoginForm, LoginRedirect, LoginRefusal
from ..pages.models import ErrorPage, LoginPage
from ..parties import Person, check_person
from ..parts import Server
from ..web import Answer, Request, redirect

_OURS = frozenset(("transaction", "csrf"))


async def sign_in(server: Server, request: Request) -> Answer:
    """Ask the login step who the person is, and go on when it says so.

    Raises:
        ForbiddenForm: the form is not from our page.
        ExpiredForm: the page belongs to nothing.
        AccessDenied: nobody may sign in under this name.
    """
    if request.transaction is None:
        raise ExpiredForm
    if request.method == "POST":
        server.sessions.check_form_token(request, request.transaction_id)
    authorization = request.transaction.request
    parameters = {
        name: request.parameters.get(name) or "" for name in request.parameters if name not in _OURS
    }
    if authorization is not None and not await may_sign_in(server, request, authorization):
        return to_page(server, "consent", request.transaction_id)
    is_plain_visit = request.method == "GET" and not parameters and request.session is not None
    if is_plain_visit and (authorization is None or is_signed_in(server, request, authorization)):
        return await _onward(server, request)  # signed in meanwhile, in another tab
    attempt = _attempt(server, request, authorization, parameters)
    try:
        outcome = await server.login.sign_in(attempt)
    except OAuthError as error:
        if not error.redirectable or authorization is None:
            raise
        destination = await destination_of(server, request, authorization)
        await server.sessions.end_transaction(request)
        return await refuse(server, request, destination, error, by_person=True)
    if isinstance(outcome, LoginRedirect):
        headers = (
            []
            if outcome.cookie is None
            else [server.sessions.login_cookie(request, outcome.cookie)]
        )
        return redirect(outcome.url, headers)
    if isinstance(outcome, LoginRefusal):
        return await _turn_away(server, request, authorization, outcome)
    if isinstance(outcome, LoginForm):
        return await _show(server, request, outcome)
    answer = await _signed_in(server, request, check_person(outcome))
    return (
        answer
        if attempt.cookie is None
        else answer.with_headers(server.sessions.login_cookie(request, ""))
    )


async def find_callback(server: Server, request: Request) -> None:
    """Find out which transaction somebody comes back to from elsewhere, at the login step's own
    path.

    Raises:
        ExpiredForm: none.
        ForbiddenForm: one that another browser began.
    """
    parameters = {name: request.parameters.get(name) or "" for name in request.parameters}
    transaction_id = await server.login.find_transaction(parameters)
    if transaction_id is None:
        raise ExpiredForm
    await server.sessions.load_transaction(request, transaction_id)


def _attempt(
    server: Server,
    request: Request,
    authorization: AuthorizationRequest | None,
    parameters: dict[str, str],
) -> LoginAttempt:
    anew, login_hint = False, None
    if authorization is not None:
        anew = not ANEW.isdisjoint(authorization.prompt) or authorization.max_age == 0
        login_hint = authorization.login_hint
    return LoginAttempt(
        method=request.method,
        parameters=parameters,
        transaction=request.transaction_id,
        url=f"{server.url('login')}?transaction={request.transaction_id}",
        address=request.address,
        login_hint=login_hint,
        anew=anew,
        cookie=request.cookie(server.sessions.cookies.login(request.transaction_id)),
    )


async def _show(server: Server, request: Request, form: LoginForm) -> Answer:
    if form.error is not None:
        event = AuditEvent(
            action="sign_in_failed", subject=form.failed_account, reason="credentials"
        )
        server.report(request, event)
    client, transaction = None, request.transaction
    if transaction is not None and transaction.request is not None:
        client = (await destination_of(server, request, transaction.request)).client.name
    page = LoginPage(
        action=server.url("login"),
        hidden={
            "transaction": request.transaction_id,
            "csrf": server.sessions.form_token("login", request.transaction_id),
        },
        fields=form.fields,
        button=form.button,
        error=form.error,
        client=client,
    )
    return server.pages.answer(page, 200 if form.error is None else 401)


async def _turn_away(
    server: Server,
    request: Request,
    authorization: AuthorizationRequest | None,
    refusal: LoginRefusal,
) -> Answer:
    link, error, client_id = None, AccessDenied(), None
    if authorization is not None:
        destination = await destination_of(server, request, authorization)
        url = destination.url(server.issuer, error=error.error, error_description=str(error))
        link, client_id = (
            (url, f"Go back to {redirect_host(destination.redirect_uri)}"),
            authorization.client_id,
        )
    await server.sessions.end_transaction(request)
    event = AuditEvent(
        action="refused", client_id=client_id, error=error.error, reason="not_allowed"
    )
    server.report(request, event)
    return server.pages.answer(
        ErrorPage(heading="You may not come in", text=refusal.text, link=link), 403
    )


async def _signed_in(server: Server, request: Request, person: Person) -> Answer:
    is_in = False
    try:
        if await server.clients.acts_for_itself(person.subject):
            # A client that gets tokens for itself has its id as sub: nobody else may (RFC 9700
            # §4.15).
            raise AccessDenied("This account cannot be used here")
        # a new session, never one that somebody may have set before
        await server.sessions.end(request)
        request.session, request.session_id, headers = await server.sessions.begin(person)
        is_in = True
    finally:
        if not is_in:
            await server.login.ended(person)
    server.report(request, AuditEvent(action="signed_in", subject=person.subject))
    return (await _onward(server, request, newly=True)).with_headers(*headers)


async def _onward(server: Server, request: Request, *, newly: bool = False) -> Answer:
    authorization = None if request.transaction is None else request.transaction.request
    if authorization is None:
        await server.sessions.end_transaction(request)
        return redirect(server.url("applications"))
    destination = await destination_of(server, request, authorization)
    try:
        if (
            newly
            and request.session is not None
            and not is_signed_in(server, request, authorization)
        ):
            person = request.session.person
            await server.sessions.change_transaction(
                request, lambda known: replace(known, signed_in=person)
            )
        return await proceed(server, request, destination, authorization)
    except OAuthError as error:
        return await refuse(server, request, destination, error, by_person=newly)
