"""Each endpoint runs exactly these checks, in this order, before its handler."""

from __future__ import annotations

from asgi_mcp_auth import DevLogin, OAuthProvider
from asgi_mcp_auth.server.endpoints import CALLBACK, ENDPOINTS
from tests.support.rows import rows

CLIENTS = (
    "check_peer",
    "read_parameters",
    "check_single_parameters",
    "authenticate_client",
    "limit_clients",
)
PEOPLE = (
    "check_peer",
    "limit_people",
    "read_parameters",
    "check_single_parameters",
    "check_host",
    "check_same_site",
    "load_session",
)
EXPECTED = {
    "authorize": ("check_peer", "limit_people", "read_parameters", "check_host", "load_session"),
    "par": CLIENTS,
    "token": CLIENTS,
    "revoke": CLIENTS,
    "introspect": CLIENTS,
    "register": ("check_peer", "check_registration", "limit_registrations"),
    "login": ("refuse_prefetch", *PEOPLE, "load_transaction"),
    "consent": (*PEOPLE, "load_transaction"),
    "applications": PEOPLE,
    "logout": PEOPLE,
    "callback": (
        "refuse_prefetch",
        "check_peer",
        "limit_people",
        "read_parameters",
        "check_single_parameters",
        "check_host",
        "load_session",
        "find_callback",
    ),
}


ROWS = {endpoint.name: endpoint for endpoint in (*ENDPOINTS, CALLBACK)}


def test_there_are_no_other_endpoints() -> None:
    assert set(ROWS) == set(EXPECTED)


@rows("name", EXPECTED)
def test_an_endpoint_runs_exactly_these_checks_in_this_order(name: str) -> None:
    assert tuple(check.__name__ for check in ROWS[name].checks) == EXPECTED[name]


class LoginElsewhere(DevLogin):
    callback_path = "/callback"


def test_a_login_step_may_bring_people_back_to_any_path_that_no_endpoint_has() -> None:
    provider = OAuthProvider(
        base_url="http://localhost:8000", login=LoginElsewhere(), store="memory:"
    )
    assert "/callback" in [route.path for route in provider.get_routes()]
