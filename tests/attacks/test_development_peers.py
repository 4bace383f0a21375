"""Development settings answer this machine only, whatever address the socket listens on."""

from __future__ import annotations

from typing import Any

import pytest

from asgi_mcp_auth import AppLogin, ConfigurationError, DevLogin, PasswordLogin
from asgi_mcp_auth.server import Registration
from tests.support.authorization_server import Server, deploy
from tests.support.passwords import cheap
from tests.support.rows import rows

pytestmark = [pytest.mark.asyncio, pytest.mark.case("Z125")]

FOREIGN = ("172.17.0.1", 1)
ENDPOINTS = [
    *(("GET", path) for path in ("/authorize", "/login", "/consent", "/applications")),
    *(
        ("POST", path)
        for path in ("/authorize", "/login", "/consent", "/token", "/par", "/revoke", "/introspect")
    ),
    *(("POST", path) for path in ("/register", "/logout")),
]


async def status(server: Server, client: Any, path: str = "/authorize") -> int:
    return (await server.call("GET", path, client=client)).status


@rows(("method", "path"), ENDPOINTS)
async def test_a_server_that_identifies_no_one_answers_this_machine_only(
    method: str, path: str
) -> None:
    """Bound to all addresses, or published by a container, DevLogin let the whole network in under
    any name.
    """
    async with deploy(login=DevLogin()) as server:
        body: dict[str, Any] = {} if method == "GET" else {"form": {}}
        response = await server.call(method, path, client=FOREIGN, **body)
        assert (response.status, server.reasons()) == (403, ["peer"])
        said = response.body.decode().replace("&#x27;", "'")
        assert "this request comes from 172.17.0.1" in said
        assert "DevLogin(networks=['172.17.0.1'])" in said
        assert (await server.call(method, path, **body)).status != 403 or path in (
            "/login",
            "/consent",
            "/logout",
        )


@rows(
    "address",
    ["127.0.0.1", "127.8.9.10", "::1", "0:0:0:0:0:0:0:1", "::ffff:127.0.0.1", "testclient"],
)
async def test_this_machine_is_loopback_and_a_test_client(address: str) -> None:
    async with deploy(login=DevLogin()) as server:
        assert await status(server, (address, 1)) == 400


@rows(
    "client",
    [
        None,
        ("", 0),
        ("192.0.2.1", 1),
        ("::ffff:192.0.2.1", 1),
        ("2001:db8::1", 1),
        ("fe80::1%lo", 1),
        ("0.0.0.0", 1),
        ("localhost", 1),
        ("unknown", 1),
        ("127.0.0.1.evil.example", 1),
        ("127.1", 1),
        ("TESTCLIENT", 1),
    ],
    ids=str,
)
async def test_what_is_not_known_to_be_this_machine_is_not(client: Any) -> None:
    """Behind a Unix socket, where there is no address, stands a proxy that serves whomever."""
    async with deploy(login=DevLogin()) as server:
        assert await status(server, client) == 403


async def test_a_network_may_be_let_in_and_no_other_is() -> None:
    login = DevLogin(networks=["172.17.0.0/16", "2001:db8::7"])
    async with deploy(login=login) as server:
        found = [
            await status(server, (address, 1))
            for address in (
                "172.17.0.1",
                "::ffff:172.17.3.4",
                "2001:db8::7",
                "127.0.0.1",
                "172.18.0.1",
                "2001:db8::8",
            )
        ]
        assert found == [400, 400, 400, 400, 403, 403]
        assert await status(server, None) == 403


@rows("networks", ["172.17.0.0/16", None, 5, [5], ["localhost"], [""], ["*"], [None]])
async def test_networks_are_a_list_of_networks(networks: Any) -> None:
    with pytest.raises(
        ConfigurationError,
        match=r"^networks=.* must be a list of networks, like \['172.17.0.0/16'\]$",
    ):
        DevLogin(networks=networks)


async def test_an_address_with_the_length_of_its_network_is_told_which_network_that_is() -> None:
    """That is how ``ip addr`` shows a container's gateway."""
    with pytest.raises(
        ConfigurationError, match=r"'172.17.0.1/16' is an address in one: write '172.17.0.0/16'$"
    ):
        DevLogin(networks=["172.17.0.1/16"])


@pytest.mark.parametrize(
    ("settings", "hint"),
    [
        ({"login": PasswordLogin({"alice": "plain"})}, "hash_password"),
        (
            {
                "login": AppLogin("http://localhost:8000/account"),
                "registration": Registration(development_documents=True),
            },
            "Registration(development_documents=False)",
        ),
    ],
    ids=["plain passwords", "development documents"],
)
async def test_other_settings_for_this_machine_are_for_this_machine_too(
    settings: Any, hint: str
) -> None:
    async with deploy(**settings) as server:
        response = await server.call("GET", "/authorize", client=FOREIGN)
        assert response.status == 403
        assert hint in response.body.decode()
        assert await status(server, ("127.0.0.1", 1)) == 400


@pytest.mark.parametrize(
    "login", [PasswordLogin({"alice": cheap("x")}), AppLogin("http://localhost:8000/a")]
)
async def test_a_loopback_server_that_identifies_people_answers_every_address(login: Any) -> None:
    """A tunnel, a container, a test from another machine: what protects it does not depend on where
    they are.
    """
    async with deploy(login=login) as server:
        assert await status(server, FOREIGN) == 400


async def test_the_app_and_the_metadata_are_as_open_as_before() -> None:
    async with deploy(login=DevLogin()) as server:
        assert await status(server, FOREIGN, "/.well-known/oauth-authorization-server") == 200
        assert await status(server, FOREIGN, "/mcp") == 401
