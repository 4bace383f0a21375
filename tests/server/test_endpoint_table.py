"""Each endpoint runs exactly these checks, in this order, before its handler."""

from __future__ import annotations

import pytest

from asgi_mcp_auth.server.endpoints import CHECKS, ENDPOINTS

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
    "login": (*PEOPLE, "load_transaction"),
    "consent": (*PEOPLE, "load_transaction"),
    "applications": PEOPLE,
    "logout": PEOPLE,
    "callback": (
        "check_peer",
        "limit_people",
        "read_parameters",
        "check_single_parameters",
        "check_host",
        "load_session",
        "find_callback",
    ),
}


def checks_of(name: str) -> tuple[str, ...]:
    column = list(ENDPOINTS).index(name)
    return tuple(check.__name__ for check, columns in CHECKS.items() if columns[column])


def test_there_are_no_other_endpoints() -> None:
    assert set(ENDPOINTS) == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_an_endpoint_runs_exactly_these_checks_in_this_order(name: str) -> None:
    assert checks_of(name) == EXPECTED[name]
