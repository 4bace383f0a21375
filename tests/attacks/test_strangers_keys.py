"""Key sets registered or named by strangers: small, unambiguous, and fetched within limits."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from asgi_mcp_auth._http import PublicFetcher
from asgi_mcp_auth.errors import InvalidToken
from asgi_mcp_auth.server import RateLimits, Registration
from asgi_mcp_auth.server.clients.authentication import ClientAuthenticator
from asgi_mcp_auth.server.clients.keys import ClientKeys
from asgi_mcp_auth.testing import FrozenClock
from tests.support.asgi import Response
from tests.support.assertions import Robot, key_of, key_set
from tests.support.authorization_server import BASE_URL, Server, deploy
from tests.support.rows import rows
from tests.support.tls import Authority, DocumentHost

pytestmark = [pytest.mark.asyncio, pytest.mark.case("Z69")]

NAME = "app.example.com"
FLOODER, OTHER = "192.0.2.1", "198.51.100.1"
KEYS = [key_of("ES256", f"key-{number}").public_jwk() for number in range(9)]
UNNAMED = {name: value for name, value in KEYS[8].items() if name != "kid"}
BAD: dict[str, list[dict[str, Any]]] = {
    "nine": KEYS,
    "nine of which eight are of no use": [*({"kty": "oct", "k": "x"} for _ in range(8)), KEYS[0]],
    "two, one without a kid": [KEYS[0], UNNAMED],
    "two without a kid": [UNNAMED, {**UNNAMED, "alg": "ES256"}],
}
GOOD: dict[str, list[dict[str, Any]]] = {
    "eight": KEYS[:8],
    "one without a kid": [UNNAMED],
    "one without a kid beside one that encrypts": [UNNAMED, {**UNNAMED, "use": "enc"}],
}


@asynccontextmanager
async def fetching(authority: Authority, **settings: Any) -> AsyncIterator[Server]:
    """Run a server that finds clients' key sets on this machine."""
    async with deploy(**settings) as server:
        inner = server.provider._server
        fetcher = PublicFetcher(
            timeout_seconds=5,
            allow_loopback=True,
            ca_file=authority.ca_file,
            resolve=lambda name, port: ["127.0.0.1"],
        )
        keys = ClientKeys(fetcher, inner.clock, inner.limits)
        inner.authenticator = ClientAuthenticator(
            inner.clients, inner.store, inner.clock, [BASE_URL], keys, inner.limits
        )
        yield server


async def show(server: Server, robot: Robot, address: str = FLOODER, **header: Any) -> Response:
    """Authenticate at ``/revoke``, which any known client may use."""
    form = {**robot.form(robot.assertion(header=header)), "token": "x"}
    sent = {name: value for name, value in form.items() if value is not None}
    return await server.call("POST", "/revoke", form=sent, client=(address, 1))


@rows("keys", BAD.values(), ids=BAD)
async def test_a_key_set_that_is_large_or_has_to_be_guessed_from_cannot_be_registered(
    keys: list[Any],
) -> None:
    document = {
        "redirect_uris": ["http://127.0.0.1/cb"],
        "token_endpoint_auth_method": "private_key_jwt",
        "jwks": {"keys": keys},
    }
    async with deploy() as server:
        response = await server.call("POST", "/register", document=document)
        assert (response.status, response.json()["error"]) == (400, "invalid_client_metadata")
        assert "jwks cannot be used: it has " in response.json()["error_description"]


@pytest.mark.parametrize("keys", GOOD.values(), ids=GOOD)
async def test_a_key_set_of_an_honest_client_can_be(keys: list[Any]) -> None:
    async with deploy() as server:
        await server.register(token_endpoint_auth_method="private_key_jwt", jwks={"keys": keys})


@pytest.mark.parametrize("keys", [*BAD.values(), *GOOD.values()], ids=[*BAD, *GOOD])
async def test_the_same_holds_for_a_key_set_at_a_url(
    keys: list[Any], authority: Authority, host: DocumentHost
) -> None:
    host.serve("/jwks", {"keys": keys})
    async with fetching(authority) as server:
        uri = host.url("/jwks", host=NAME)
        client = await server.register(token_endpoint_auth_method="private_key_jwt", jwks_uri=uri)
        robot = Robot(BASE_URL, server.clock, client_id=client.client_id)
        robot.key = key_of("ES256", "key-8" if UNNAMED in keys else "key-0")
        response = await show(server, robot)
        assert (response.status, server.reasons()) == (
            (200, []) if keys in GOOD.values() else (401, ["client_keys"])
        )


@pytest.mark.parametrize(("size", "status"), [(16 * 1024, 200), (16 * 1024 + 1, 401)])
async def test_a_key_set_at_a_url_has_sixteen_kib_at_most(
    size: int, status: int, authority: Authority, host: DocumentHost
) -> None:
    document = {"keys": KEYS[:1], "x": ""}
    host.serve("/jwks", document)
    async with fetching(authority) as server:
        uri = host.url("/jwks", host=NAME)
        client = await server.register(token_endpoint_auth_method="private_key_jwt", jwks_uri=uri)
        body = json.dumps(document).encode()
        host.serve("/jwks", body.replace(b'"x": ""', b'"x": "' + b"x" * (size - len(body)) + b'"'))
        robot = Robot(BASE_URL, server.clock, client_id=client.client_id)
        robot.key = key_of("ES256", "key-0")
        assert (await show(server, robot)).status == status


async def test_an_operators_client_may_have_a_large_key_set_that_strangers_cannot_spoil(
    authority: Authority, host: DocumentHost
) -> None:
    body = {
        "keys": [key_of("ES256", f"many-{number}").public_jwk() for number in range(30)],
        "x": "x" * 100_000,
    }
    host.serve("/jwks", body)
    uri = host.url("/jwks", host=NAME)
    robot = Robot(BASE_URL, clock := FrozenClock())
    del robot.metadata["jwks"]
    robot.metadata |= {"jwks_uri": uri, "token_endpoint_auth_method": "private_key_jwt"}
    robot.key = key_of("ES256", "many-29")
    async with fetching(
        authority, clock=clock, registration=Registration(clients=[robot.metadata])
    ) as server:
        client = await server.register(token_endpoint_auth_method="private_key_jwt", jwks_uri=uri)
        stranger = Robot(BASE_URL, clock, client_id=client.client_id)
        assert (await show(server, stranger)).status == 401
        assert (await show(server, robot, OTHER)).status == 200


async def test_the_operator_may_write_down_a_large_key_set_of_which_four_keys_are_tried() -> None:
    """Two keys of one algorithm without a kid are a rotation of a client that names none."""
    usual = Robot(BASE_URL, FrozenClock()).metadata
    others = [key_of(name).public_jwk() for name in ("RS256", "EdDSA")]
    nameless = [
        {name: value for name, value in jwk.items() if name != "kid"} for jwk in (*KEYS, *others)
    ]
    for keys in (KEYS, nameless, [*KEYS, nameless[0]], [*nameless[7:9], *nameless[9:]]):
        async with deploy(
            registration=Registration(clients=[{**usual, "jwks": {"keys": keys}}])
        ) as server:
            robot = Robot(BASE_URL, server.clock, client_id=usual["client_id"])
            known = await server.provider.admin.get_client(robot.client_id)
            verifier = server.provider._server.authenticator._verifier_for(known, FLOODER)
            assert verifier.tries == 4


async def test_fetches_of_key_sets_count_as_registrations_of_the_address_that_causes_them(
    authority: Authority, host: DocumentHost
) -> None:
    host.serve("/jwks", key_set(key_of("ES256")))
    async with fetching(authority, rate_limits=RateLimits(register=3)) as server:
        robots = []
        for number in range(3):
            host.serve(f"/{number}", key_set(key_of("ES256")))
            client = await server.register(
                token_endpoint_auth_method="private_key_jwt",
                jwks_uri=host.url(f"/{number}", host=NAME),
            )
            robots.append(Robot(BASE_URL, server.clock, client_id=client.client_id))
        assert [(await show(server, each)).status for each in robots] == [200, 200, 200]
        server.clock.advance(5)
        statuses = [
            (await show(server, robots[0], kid=f"unknown-{number}")).status for number in range(3)
        ]
        assert statuses == [429, 429, 429], "a key id that nobody knows is a fetch too"
        assert (await show(server, robots[0])).status == 200, "what is known costs nothing"
        assert (await show(server, robots[0], OTHER, kid="unknown")).status == 401
        assert len(host.requests) == 4


async def test_after_a_failure_the_host_is_left_alone_for_half_a_minute(
    authority: Authority, host: DocumentHost
) -> None:
    host.serve("/jwks", {}, status=503)
    async with fetching(authority) as server:
        uri = host.url("/jwks", host=NAME)
        client = await server.register(token_endpoint_auth_method="private_key_jwt", jwks_uri=uri)
        robot = Robot(BASE_URL, server.clock, client_id=client.client_id)
        for passed, requests in ((0, 1), (1, 1), (28, 1), (1, 2)):
            server.clock.advance(passed)
            for kid in ("one", "two"):
                assert (await show(server, robot, kid=kid)).status == 503
            assert len(host.requests) == requests


async def test_one_assertion_costs_one_signature_check(
    authority: Authority, host: DocumentHost
) -> None:
    """One key is tried, whatever the assertion names."""
    async with deploy() as server:
        inner = server.provider._server
        metadata = {"token_endpoint_auth_method": "private_key_jwt"}
        keys = ClientKeys(PublicFetcher(timeout_seconds=1), inner.clock, inner.limits)
        for entries, kid in itertools.product(GOOD.values(), (None, "unknown", KEYS[0]["kid"])):
            client = await server.register(**metadata, jwks={"keys": entries})
            known = await server.provider.admin.get_client(client.client_id)
            assert inner.authenticator._verifier_for(known, FLOODER).tries == 1
            source = keys.of(known, FLOODER)
            if len(entries) == 8 and kid == "unknown":
                with pytest.raises(InvalidToken):
                    await source.keys_for(kid, "ES256")
            else:
                found = await source.keys_for(kid, "ES256")
                assert len(found) == (8 if len(entries) == 8 and kid is None else 1)
