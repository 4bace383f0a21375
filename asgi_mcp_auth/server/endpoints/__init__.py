"""Which checks stand before which endpoint: the table to read first when reviewing the
authorization server.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from ..._asgi import Route, send_response
from ...errors import ConfigurationError, InvalidClient, InvalidRegistration, MalformedRequest
from ...types import Receive, Scope, Send
from ..limits import FAILED
from ..parts import Server
from ..web import NO_STORE, Request
from ._pipeline import Check, Endpoint, Kind, Work
from .applications import applications, logout
from .authorize import authorize
from .consent import consent
from .introspect import introspect
from .login import find_callback, sign_in
from .par import push
from .register import check_registration_token, register
from .revoke import revoke
from .token import token


async def check_peer(server: Server, request: Request) -> None:
    """Refuse other machines where settings are for development on this one."""
    server.check_peer(request)


# Who proves nothing, and who they are not, is counted apart: nobody uses up the limit of others in
# their network.
_UNPROVEN = (InvalidClient, InvalidRegistration, MalformedRequest)


async def limit_people(server: Server, request: Request) -> None:
    """Count a visit to a page."""
    await server.limits.count("authorize", request.source)


async def limit_clients(server: Server, request: Request) -> None:
    """Count a request of a client."""
    await server.limits.count("token", request.source)


async def limit_registrations(server: Server, request: Request) -> None:
    """Count a registration, or a change of one."""
    await server.limits.count("register", request.source)


async def read_parameters(_: Server, request: Request) -> None:
    """Read query or form, within bounds."""
    await request.read_parameters()


async def check_single_parameters(_: Server, request: Request) -> None:
    """Refuse repeated parameters (RFC 6749 §3.2)."""
    request.parameters.check_single()


async def authenticate_client(server: Server, request: Request) -> None:
    """Find out which client sends this, and have it prove that."""
    if request.parameters.all("client_assertion"):  # the one proof that costs something to check
        server.limits.check("token", request.source, FAILED)
    try:
        await server.authenticator.authenticate(request)
    except _UNPROVEN:
        await server.limits.count("token", request.source, FAILED)
        raise


async def check_registration(server: Server, request: Request) -> None:
    """Check the token of a registration."""
    try:
        await check_registration_token(server, request)
    except _UNPROVEN:
        await server.limits.count("register", request.source, FAILED)
        raise


async def check_host(server: Server, request: Request) -> None:
    """Refuse pages under a name that somebody else lets point to this machine."""
    server.sessions.check_host(request)


async def check_same_site(server: Server, request: Request) -> None:
    """Refuse forms that another site's page sends."""
    if request.method == "POST":
        server.sessions.check_same_site(request)


async def load_session(server: Server, request: Request) -> None:
    """Find out who is signed in in this browser."""
    await server.sessions.load(request)


async def load_transaction(server: Server, request: Request) -> None:
    """Find out what this page belongs to, and that this browser began it."""
    await server.sessions.load_transaction(request, request.parameters.get("transaction") or "")


class _Row(NamedTuple):
    kind: Kind
    work: Work


_PAGE, _FORM = ("GET", "POST"), ("POST",)
# tokens and signed assertions of other makers are in these forms, and nothing of it is kept
_TOKEN_BYTES = 64 * 1024

ENDPOINTS: Final[Mapping[str, _Row]] = {
    "authorize": _Row(Kind(_PAGE, for_people=True), authorize),
    "par": _Row(Kind(_FORM), push),
    "token": _Row(Kind(_FORM, cross_origin=True, max_form_bytes=_TOKEN_BYTES), token),
    "revoke": _Row(Kind(_FORM, cross_origin=True, max_form_bytes=_TOKEN_BYTES), revoke),
    "introspect": _Row(Kind(_FORM, max_form_bytes=_TOKEN_BYTES), introspect),
    "register": _Row(Kind(("GET", "POST", "PUT", "DELETE"), cross_origin=True), register),
    "login": _Row(Kind(_PAGE, for_people=True), sign_in),
    "consent": _Row(Kind(_PAGE, for_people=True), consent),
    "applications": _Row(Kind(_PAGE, for_people=True), applications),
    "logout": _Row(Kind(_FORM, for_people=True), logout),
    # of a login step that has one, at its own path
    "callback": _Row(Kind(("GET",), for_people=True), sign_in),
}

# fmt: off
_ = False
X = True
CHECKS: Final[Mapping[Check, tuple[bool, ...]]] = {
    # authorize par token revoke introspect register login consent applications logout callback
    check_peer:              (X,       X,  X,    X,     X,         X,       X,    X,      X,           X,     X),
    limit_people:            (X,       _,  _,    _,     _,         _,       X,    X,      X,           X,     X),
    read_parameters:         (X,       X,  X,    X,     X,         _,       X,    X,      X,           X,     X),
    check_single_parameters: (_,       X,  X,    X,     X,         _,       X,    X,      X,           X,     X),
    authenticate_client:     (_,       X,  X,    X,     X,         _,       _,    _,      _,           _,     _),
    check_registration:      (_,       _,  _,    _,     _,         X,       _,    _,      _,           _,     _),
    limit_clients:           (_,       X,  X,    X,     X,         _,       _,    _,      _,           _,     _),
    limit_registrations:     (_,       _,  _,    _,     _,         X,       _,    _,      _,           _,     _),
    check_host:              (X,       _,  _,    _,     _,         _,       X,    X,      X,           X,     X),
    check_same_site:         (_,       _,  _,    _,     _,         _,       X,    X,      X,           X,     _),
    load_session:            (X,       _,  _,    _,     _,         _,       X,    X,      X,           X,     X),
    load_transaction:        (_,       _,  _,    _,     _,         _,       X,    X,      _,           _,     _),
    find_callback:           (_,       _,  _,    _,     _,         _,       _,    _,      _,           _,     X),
}
# /authorize reads repeated parameters itself: whether they can be told to the client depends on
# which they are. Clients are counted when they have shown who they are: those who have not have a
# limit of their own. /register reads its document itself: whoever may not register shall not make
# us read anything. fmt: on


def routes(server: Server) -> list[Route]:
    """Return the endpoints; one that is switched off answers 404."""
    found: list[Route] = []
    for position, (name, row) in enumerate(ENDPOINTS.items()):
        path = server.login.callback_path if name == "callback" else server.path(name)
        if not path:
            continue
        checks = [check for check, columns in CHECKS.items() if columns[position]]
        app = Endpoint(server, name, row.kind, checks, row.work) if server.has(name) else _SwitchedOff()
        found.append(Route(path, app))
    return found


def check_callback_path(server: Server) -> None:
    """Check that the login step comes back to a path that is free.

    Raises:
        ConfigurationError: it is another endpoint's.
    """
    path = server.login.callback_path
    if path in {server.path(name) for name in ENDPOINTS} or path.startswith("/.well-known/"):
        raise ConfigurationError(
            f"callback_path or redirect_path={path!r} is an endpoint of this server: take another one"
        )


class _SwitchedOff:
    """Answers 404; the middleware would ask for a token first."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"application/json"), *NO_STORE]
        await send_response(scope, receive, send, 404, headers, b'{"error":"not_found"}')
