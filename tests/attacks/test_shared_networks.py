"""A network's limits: pages and neighbours cannot use up the part that its honest clients need."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from asgi_mcp_auth.server import RateLimits, Registration
from tests.support.assertions import ASSERTION_TYPE, Robot
from tests.support.authorization_server import (
    BASE_URL,
    CONFIDENTIAL,
    REDIRECT_URI,
    WEB_REDIRECT_URI,
    Server,
    basic,
    deploy,
)
from tests.support.rows import rows

pytestmark = [pytest.mark.asyncio, pytest.mark.case("Z122")]

METADATA = {"redirect_uris": [REDIRECT_URI], "token_endpoint_auth_method": "none"}
EVIL = "https://evil.example"
OPENED = {
    "Sec-Fetch-Site": "cross-site",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Dest": "document",
}
IMAGE = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}
FRAME = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}
BLIND = {
    "Sec-Fetch-Site": "cross-site",
    "Sec-Fetch-Mode": "no-cors",
    "Sec-Fetch-Dest": "empty",
    "Origin": EVIL,
}
SCRIPT = {
    "Sec-Fetch-Site": "cross-site",
    "Sec-Fetch-Mode": "cors",
    "Sec-Fetch-Dest": "empty",
    "Origin": EVIL,
}
SIBLING = {**SCRIPT, "Sec-Fetch-Site": "same-site"}
OLD = {"Origin": EVIL}

PREFETCH = {**OPENED, "Sec-Purpose": "prefetch"}

BY_PAGES = {
    "image": IMAGE,
    "prefetch": PREFETCH,
    "frame": FRAME,
    "no-cors": BLIND,
    "cors": SCRIPT,
    "same-site": SIBLING,
    "old browser": OLD,
}
BY_OTHERS = {
    "a program": {},
    "Node's fetch": {"Sec-Fetch-Mode": "cors"},
    "a link": OPENED,
    "a typed address": {**OPENED, "Sec-Fetch-Site": "none"},
    "our own page": {
        "Sec-Fetch-Site": "same-origin",
        "Sec-Fetch-Mode": "navigate",
        "Sec-Fetch-Dest": "document",
    },
}
KINDS = {
    "register": ("POST", "/register", {"document": METADATA}),
    "authorize": ("GET", "/authorize", {}),
    "token": ("POST", "/token", {"form": {"client_id": "x"}}),
}


async def statuses(server: Server, kind: str, headers: dict[str, str], number: int) -> list[int]:
    method, target, body = KINDS[kind]
    return [
        (await server.call(method, target, headers=headers, **body)).status for _ in range(number)
    ]


@rows("headers", BY_PAGES.values(), ids=list(BY_PAGES))
@rows("kind", ["register", "authorize", "token"])
async def test_what_a_page_has_its_visitors_send_uses_up_nothing_of_their_network(
    kind: str, headers: dict[str, str]
) -> None:
    async with deploy(rate_limits=RateLimits(**{kind: 3})) as server:
        flood = await statuses(server, kind, headers, 10)
        assert 429 not in flood[:3], "a client in a browser has a limit of the same size"
        assert flood[3:] == [429] * 7
        assert 429 not in await statuses(server, kind, {}, 3)


@rows("headers", BY_OTHERS.values(), ids=list(BY_OTHERS))
async def test_everything_else_counts_for_the_network(headers: dict[str, str]) -> None:
    async with deploy(rate_limits=RateLimits(authorize=3)) as server:
        assert 429 not in await statuses(server, "authorize", headers, 3)
        assert await statuses(server, "authorize", {}, 1) == [429]


async def test_networks_are_apart_also_behind_a_page() -> None:
    async with deploy(rate_limits=RateLimits(register=1)) as server:
        found = [
            (
                await server.call(
                    "POST", "/register", headers=SCRIPT, document=METADATA, client=(address, 1)
                )
            ).status
            for address in ("2001:db8::1", "2001:db8::ffff:1:2:3", "2001:db8:0:1::1")
        ]
        assert found == [201, 429, 201]


@pytest.mark.parametrize("target", ["/authorize", "/token"])
async def test_documents_that_a_page_has_us_fetch_use_up_no_registrations_of_its_visitors(
    target: str,
) -> None:
    registration = Registration(metadata_documents=True)
    async with deploy(registration=registration, rate_limits=RateLimits(register=1)) as server:
        for number in range(3):
            client_id = f"https://evil.invalid/{number}.json"
            if target == "/token":
                await server.call("POST", target, headers=BLIND, form={"client_id": client_id})
            else:
                await server.call("GET", f"{target}?client_id={client_id}", headers=IMAGE)
        assert server.reasons() == ["document_unreachable", *["rate_limit"] * 2]
        assert await statuses(server, "register", {}, 1) == [201]


# ------------------------------------------------------------------------------- who proves nothing


@rows("endpoint", ["token", "revoke", "introspect", "par"])
async def test_wrong_secrets_use_up_nothing_of_the_clients_limit(endpoint: str) -> None:
    registration = Registration(clients=[{**CONFIDENTIAL, "redirect_uris": [WEB_REDIRECT_URI]}])
    async with deploy(registration=registration, rate_limits=RateLimits(token=3)) as server:

        async def ask(client_id: str, secret: str) -> int:
            form = {"token": "x", "grant_type": "client_credentials"}
            return (
                await server.call(
                    "POST", f"/{endpoint}", headers=basic(client_id, secret), form=form
                )
            ).status

        found = [await ask("service", "wrong") for _ in range(5)] + [
            await ask("nobody", "x") for _ in range(5)
        ]
        assert found == [401] * 3 + [429] * 7
        good = [await ask("service", CONFIDENTIAL["client_secret"]) for _ in range(4)]
        assert not {401, 429} & set(good[:3])
        assert good[3] == 429


@rows("method", ["POST", "GET", "PUT", "DELETE"])
async def test_wrong_tokens_use_up_no_registrations(method: str) -> None:
    token = "an-initial-access-token-of-32-characters-or-more"
    limits, registration = (
        RateLimits(register=3),
        Registration(initial_access_token=token, metadata_documents=False),
    )
    async with deploy(registration=registration, rate_limits=limits) as server:

        async def ask(bearer: str, how: str = method) -> int:
            return (
                await server.call(how, "/register?client_id=x", bearer=bearer, document=METADATA)
            ).status

        assert [await ask("wrong") for _ in range(5)] == [401] * 3 + [429] * 2
        assert [await ask(token, "POST") for _ in range(4)] == [201] * 3 + [429]


async def test_a_flood_of_bad_assertions_is_turned_away_before_a_signature_is_checked() -> None:
    """Behind its limit, a secret costs a hash; a signature would cost half a millisecond."""
    async with deploy() as plain:
        robot = Robot(BASE_URL, plain.clock)
    limits, registration = RateLimits(token=2), Registration(clients=[robot.metadata, CONFIDENTIAL])
    async with deploy(registration=registration, rate_limits=limits, clock=plain.clock) as server:

        async def ask(assertion: str) -> Any:
            form = {"client_assertion_type": ASSERTION_TYPE, "client_assertion": assertion}
            response = await server.call(
                "POST", "/token", form={"grant_type": "client_credentials", **form}
            )
            return response.status

        bad = robot.assertion(aud="https://elsewhere.example")
        assert [await ask(bad) for _ in range(4)] == [401, 401, 429, 429]
        assert await ask(robot.assertion()) == 429, (
            "its signature would have to be checked to know that it is good"
        )
        headers = basic("service", CONFIDENTIAL["client_secret"])
        response = await server.call(
            "POST", "/token", headers=headers, form={"grant_type": "client_credentials"}
        )
        assert response.status == 200


# ----------------------------------------------------------------------- what is kept for a network

SMALL = RateLimits(unfinished_bytes=64 * 1024)


@pytest.mark.parametrize("target", ["/authorize", "/par"])
async def test_sign_ins_begun_by_a_page_leave_room_for_the_visitors_network(
    target: str,
) -> None:
    async with deploy(rate_limits=SMALL) as server:
        client = await server.register()
        query = urlsplit(client.authorization_url(state="s" * 4000)).query
        form = dict(parse_qsl(query))

        async def begin(headers: dict[str, str]) -> int:
            if target == "/par":
                return (await server.call("POST", target, headers=headers, form=form)).status
            return (await server.call("GET", f"{target}?{query}", headers=headers)).status

        assert 429 in [await begin(BLIND if target == "/par" else IMAGE) for _ in range(20)]
        assert await begin({}) in (201, 303)


async def test_a_page_with_visitors_in_many_networks_does_not_use_up_what_is_kept_for_all() -> None:
    async with deploy(rate_limits=SMALL) as server:
        client = await server.register()
        query = urlsplit(client.authorization_url(state="s" * 400)).query
        for number in range(100):
            await server.call(
                "GET", f"/authorize?{query}", headers=IMAGE, client=(f"198.51.100.{number}", 1)
            )
        for number in range(5):
            opened = await server.call(
                "GET", f"/authorize?{query}", headers=OPENED, client=(f"192.0.2.{number}", 1)
            )
            assert opened.status == 303


async def test_who_has_a_token_goes_on_when_their_network_has_begun_too_many_sign_ins() -> None:
    async with deploy(rate_limits=SMALL) as server:
        client = await server.register()
        tokens = await client.sign_in()
        query = urlsplit(client.authorization_url(state="s" * 4000)).query
        assert 429 in [(await server.call("GET", f"/authorize?{query}")).status for _ in range(20)]
        assert (await server.call("GET", f"/authorize?{query[:-3950]}")).status == 303
        while (await server.call("GET", f"/authorize?{query[:-3950]}")).status != 429:
            pass
        server.clock.advance(60)  # the counters of a minute start over
        assert (await client.refresh(tokens["refresh_token"])).status == 200
        assert (await server.call("POST", "/register", document=METADATA)).status == 201


async def test_clients_that_sign_go_on_when_sign_ins_have_used_up_everything() -> None:
    async with deploy() as plain:
        robot = Robot(BASE_URL, plain.clock)
    async with deploy(
        rate_limits=RateLimits(unfinished_bytes=256 * 1024), clock=plain.clock
    ) as server:
        keys = {"token_endpoint_auth_method": "private_key_jwt", "jwks": robot.metadata["jwks"]}
        client = await server.register(**keys)
        robot.client_id = client.client_id
        query = urlsplit(client.authorization_url(state="s" * 400)).query
        for number in range(256):
            await server.call("GET", f"/authorize?{query}", client=(f"198.51.100.{number}", 1))
        assert (
            await server.call("GET", f"/authorize?{query}", client=("192.0.2.1", 1))
        ).status == 503
        form = {
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": robot.assertion(),
            "token": "t",
        }
        assert (await server.call("POST", "/introspect", form=form)).status == 200
