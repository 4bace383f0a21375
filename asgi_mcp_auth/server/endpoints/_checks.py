"""The checks that run before an endpoint's handler; each raises the error that refuses the
request.
"""

from __future__ import annotations

from ...errors import InvalidClient, InvalidRegistration, MalformedRequest, ServerUnavailable
from ..browser.requests import PageRequest
from ..clients.requests import ClientRequest
from ..limits import FAILED
from ..parts import Server
from ..web import REPEATABLE, EndpointRequest
from .login import find_callback
from .register import check_registration_token

__all__ = [
    "authenticate_client",
    "check_host",
    "check_peer",
    "check_registration",
    "check_same_site",
    "check_single_parameters",
    "find_callback",
    "limit_clients",
    "limit_people",
    "limit_registrations",
    "load_session",
    "load_transaction",
    "read_parameters",
    "refuse_prefetch",
]

# Requests that fail to authenticate have a counter of their own, so that they cannot use up the
# limit of the honest clients in their network.
_UNPROVEN = (InvalidClient, InvalidRegistration, MalformedRequest)


async def check_peer(server: Server, request: EndpointRequest) -> None:
    """Refuse other machines when a setting is meant for development on this one."""
    server.check_peer(request)


async def refuse_prefetch(_: Server, request: PageRequest) -> None:
    """Refuse to be loaded before anyone asks for the page: what it brings can be used only once."""
    for name in (b"sec-purpose", b"purpose", b"x-purpose", b"x-moz"):
        value = (request.header(name) or b"").lower()
        if value.startswith((b"prefetch", b"prerender", b"preview")):
            raise ServerUnavailable  # browsers ask again when the page is wanted


async def limit_people(server: Server, request: EndpointRequest) -> None:
    """Count a visit to a page."""
    await server.limits.count("authorize", request.source)


async def limit_clients(server: Server, request: EndpointRequest) -> None:
    """Count a request of a client."""
    await server.limits.count("token", request.source)


async def limit_registrations(server: Server, request: EndpointRequest) -> None:
    """Count a registration, or a change to one."""
    await server.limits.count("register", request.source)


async def read_parameters(_: Server, request: EndpointRequest) -> None:
    """Read the query or the form, within bounds."""
    await request.read_parameters()


async def check_single_parameters(server: Server, request: EndpointRequest) -> None:
    """Refuse repeated parameters (RFC 6749 §3.2), except for those that the grant type allows."""
    names = request.parameters.all("grant_type") if request.endpoint == "token" else []
    grant_type = server.grant_types.get(names[0]) if len(names) == 1 else None
    request.parameters.check_single(REPEATABLE if grant_type is None else grant_type.repeatable)


async def authenticate_client(server: Server, request: ClientRequest) -> None:
    """Authenticate the client that sent the request."""
    if request.parameters.all("client_assertion"):  # the one proof that is expensive to verify
        server.limits.check("token", request.source, FAILED)
    try:
        client = await server.authenticator.authenticate(request)
    except _UNPROVEN:
        await server.limits.count("token", request.source, FAILED)
        raise
    request.authenticated_as(client)


async def check_registration(server: Server, request: ClientRequest) -> None:
    """Check the token that a registration, or a change to one, needs."""
    try:
        await check_registration_token(server, request)
    except _UNPROVEN:
        await server.limits.count("register", request.source, FAILED)
        raise


async def check_host(server: Server, request: PageRequest) -> None:
    """Refuse host names that another site's DNS points at this machine."""
    server.forms.check_host(request)


async def check_same_site(server: Server, request: PageRequest) -> None:
    """Refuse forms that another site's page submits."""
    if request.method == "POST":
        server.forms.check_same_site(request)


async def load_session(server: Server, request: PageRequest) -> None:
    """Load the session of this browser, if it has one."""
    await server.sessions.load(request)


async def load_transaction(server: Server, request: PageRequest) -> None:
    """Load the transaction that the page belongs to; it must have begun in this browser."""
    await server.transactions.load(request, request.parameters.get("transaction") or "")
