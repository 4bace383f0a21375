"""The table of endpoints: which checks run before which handler. Reviews begin here."""

from __future__ import annotations

from typing import Final

from ..._asgi import Route
from ...errors import ConfigurationError
from ..browser.requests import PageRequest
from ..clients.requests import ClientRequest
from ..parts import Parts, Server
from . import documents
from ._checks import (
    authenticate_client,
    check_host,
    check_peer,
    check_registration,
    check_same_site,
    check_single_parameters,
    find_callback,
    limit_clients,
    limit_people,
    limit_registrations,
    load_session,
    load_transaction,
    read_parameters,
    refuse_prefetch,
)
from ._pipeline import Check, ClientEndpoint, EndpointApp, PageEndpoint, R, SwitchedOff
from .applications import applications, logout
from .authorize import authorize
from .consent import consent
from .introspect import introspect
from .login import login
from .par import push
from .register import register
from .revoke import revoke
from .token import token

PEOPLE: Final[tuple[Check[PageRequest], ...]] = (
    check_peer,
    limit_people,
    read_parameters,
    check_single_parameters,
    check_host,
    check_same_site,
    load_session,
)
# Clients are counted once they have authenticated; those that fail to have a limit of their own.
CLIENTS: Final[tuple[Check[ClientRequest], ...]] = (
    check_peer,
    read_parameters,
    check_single_parameters,
    authenticate_client,
    limit_clients,
)


def without(checks: tuple[Check[R], ...], *left_out: Check[R]) -> tuple[Check[R], ...]:
    """Return ``checks`` but for those in ``left_out``."""
    return tuple(check for check in checks if check not in left_out)


GET, POST, GET_POST = ("GET",), ("POST",), ("GET", "POST")
# These forms carry tokens and signed assertions that others made, and none of it is kept.
TOKEN_FORM_BYTES = 64 * 1024

ENDPOINTS: Final = (
    PageEndpoint(
        "authorize",
        authorize,
        GET_POST,
        # It reads repeated parameters itself: which one it is decides whether the client is told.
        # Any site may send people here.
        without(PEOPLE, check_single_parameters, check_same_site),
        metadata_name="authorization_endpoint",
    ),
    ClientEndpoint(
        "token",
        token,
        POST,
        CLIENTS,
        any_origin=True,
        metadata_name="token_endpoint",
        max_form_bytes=TOKEN_FORM_BYTES,
    ),
    ClientEndpoint(
        "register",
        register,
        ("GET", "POST", "PUT", "DELETE"),
        # It reads its document itself, once it is sure that there may be one.
        (check_peer, check_registration, limit_registrations),
        any_origin=True,
        switch="register",
        metadata_name="registration_endpoint",
    ),
    ClientEndpoint(
        "revoke",
        revoke,
        POST,
        CLIENTS,
        any_origin=True,
        switch="revoke",
        metadata_name="revocation_endpoint",
        max_form_bytes=TOKEN_FORM_BYTES,
    ),
    ClientEndpoint(
        "introspect",
        introspect,
        POST,
        CLIENTS,
        switch="introspect",
        metadata_name="introspection_endpoint",
        max_form_bytes=TOKEN_FORM_BYTES,
    ),
    ClientEndpoint(
        "par",
        push,
        POST,
        CLIENTS,
        switch="par",
        metadata_name="pushed_authorization_request_endpoint",
    ),
    PageEndpoint("login", login, GET_POST, (refuse_prefetch, *PEOPLE, load_transaction)),
    PageEndpoint("consent", consent, GET_POST, (*PEOPLE, load_transaction)),
    PageEndpoint("applications", applications, GET_POST, PEOPLE, switch="applications"),
    PageEndpoint("logout", logout, GET_POST, PEOPLE, switch="applications"),
)
# Where a login step's ``callback_path`` brings people back from another site.
CALLBACK: Final = PageEndpoint(
    "callback", login, GET, (refuse_prefetch, *without(PEOPLE, check_same_site), find_callback)
)

# The endpoints whose URLs client assertions may have as their audience.
CLIENT_ENDPOINTS: Final = tuple(
    each.name for each in ENDPOINTS if authenticate_client in each.checks
)

# The one switch with a setting of its own, ``allow_dynamic_registration``.
_OWN_SETTING = "register"


def routes(server: Server) -> list[Route]:
    """Return the endpoints and the public documents; an endpoint that is switched off answers
    404.
    """
    named = {
        endpoint.metadata_name: server.url(endpoint.name)
        for endpoint in ENDPOINTS
        if endpoint.metadata_name is not None and server.has(endpoint.switch)
    }
    found = documents.routes(server, named)
    for endpoint in ENDPOINTS:
        app = (
            EndpointApp(server, endpoint) if server.has(endpoint.switch) else SwitchedOff(endpoint)
        )
        found.append(Route(server.path(endpoint.name), app))
    if server.login.callback_path:
        found.append(Route(server.login.callback_path, EndpointApp(server, CALLBACK)))
    return found


def check_settings(parts: Parts) -> None:
    """Check the settings that depend on which endpoints there are.

    Raises:
        ConfigurationError: ``disabled`` names something that cannot be switched off, or the login
            step's ``callback_path`` is the path of an endpoint.
    """
    switches = [endpoint.switch for endpoint in ENDPOINTS if endpoint.switch != _OWN_SETTING]
    switches += [grant_type.switch for grant_type in parts.known_grant_types]
    known = list(dict.fromkeys(filter(None, switches)))
    for name in parts.settings.options.disabled:
        if name not in known:
            raise ConfigurationError(
                f"disabled has {name!r}, which cannot be switched off: {', '.join(known)} can be"
            )
    path = parts.login.callback_path
    if path.startswith("/.well-known/") or path in {parts.path(each.name) for each in ENDPOINTS}:
        raise ConfigurationError(
            f"callback_path or redirect_path={path!r} is an endpoint of this server: use another"
            " path"
        )
