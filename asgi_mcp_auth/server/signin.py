"""``/login``: the page of the login step, whichever it is, and what follows."""

from __future__ import annotations

from ..errors import AccessDenied, OAuthError
from .audit import AuditEvent
from .authorization import destination_of, refuse
from .context import Server
from .flow import proceed
from .login import LoginAttempt, LoginForm, LoginRedirect
from .models import Person, check_person
from .page_values import LoginPage
from .requests import Answer, Request, redirect

_OURS = frozenset(("transaction", "csrf"))


async def sign_in(server: Server, request: Request) -> Answer:
    """Ask the login step who the person is, and go on when it says so.

    Raises:
        ForbiddenForm: the form is not from our page.
        AccessDenied: nobody may sign in under this name.
    """
    transaction = request.transaction
    if request.method == "POST":
        server.sessions.check_form_token(request, request.transaction_id)
    parameters = {name: request.parameters.get(name) or "" for name in request.parameters if name not in _OURS}
    authorization = transaction.request
    attempt = LoginAttempt(
        method=request.method,
        parameters=parameters,
        transaction=request.transaction_id,
        url=f"{server.url('login')}?transaction={request.transaction_id}",
        address=request.address,
        login_hint=None if authorization is None else authorization.login_hint,
    )
    outcome = await server.login.sign_in(attempt)
    if isinstance(outcome, LoginRedirect):
        return redirect(outcome.url)
    if isinstance(outcome, LoginForm):
        return await _show(server, request, outcome)
    return await _signed_in(server, request, check_person(outcome))


async def _show(server: Server, request: Request, form: LoginForm) -> Answer:
    if form.failed_account is not None:
        subject = form.failed_account[:128]
        server.report(request, AuditEvent(action="sign_in_failed", subject=subject, reason="credentials"))
    authorization, client = request.transaction.request, None
    if authorization is not None:
        client = (await destination_of(server, authorization)).client.name
    page = LoginPage(
        action=server.url("login"),
        hidden={
            "transaction": request.transaction_id,
            "csrf": server.sessions.form_token(request, request.transaction_id),
        },
        fields=form.fields,
        button=form.button,
        error=form.error,
        client=client,
    )
    return server.pages.answer(page, 200 if form.error is None else 401)


async def _signed_in(server: Server, request: Request, person: Person) -> Answer:
    if await server.clients.acts_for_itself(person.subject):
        # A client that gets tokens for itself has its id as sub: nobody else may (RFC 9700 §4.15).
        raise AccessDenied("This account cannot be used here")
    await server.sessions.end(request)  # a new session, never one that somebody may have set before
    request.session, request.session_id, headers = await server.sessions.begin(person)
    server.report(request, AuditEvent(action="signed_in", subject=person.subject))
    return (await _onward(server, request)).with_headers(*headers)


async def _onward(server: Server, request: Request) -> Answer:
    authorization = request.transaction.request
    if authorization is None:
        await server.sessions.finish_transaction(request.transaction_id)
        return redirect(server.url("applications"))
    destination = await destination_of(server, authorization)
    try:
        since, transaction_id = request.transaction.began_at, request.transaction_id
        return await proceed(server, request, destination, authorization, since=since, transaction_id=transaction_id)
    except OAuthError as error:
        return refuse(server, request, destination, error)
