"""Client authentication at its edges: words, numbers, names of records."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from asgi_mcp_auth._http import PublicFetcher
from asgi_mcp_auth.errors import InvalidClient, MalformedRequest
from asgi_mcp_auth.headers import MAX_TOKEN_BYTES
from asgi_mcp_auth.server import Client, RateLimits, Registration
from asgi_mcp_auth.server.clients.authentication import (
    ASSERTION_TYPE,
    USED_ASSERTIONS,
    ClientAuthenticator,
    Credentials,
    parse_client_credentials,
)
from asgi_mcp_auth.server.clients.keys import ClientKeys
from asgi_mcp_auth.server.clients.registry import dummy_client
from asgi_mcp_auth.server.records import hash_of
from asgi_mcp_auth.server.web import EndpointRequest, Parameters
from asgi_mcp_auth.testing import FrozenClock
from tests.support.assertions import ABSENT, Robot, key_of, key_set
from tests.support.authorization_server import BASE_URL, CONFIDENTIAL, Server, basic, deploy
from tests.support.token_endpoint import assert_refused, tokens_of

pytestmark = pytest.mark.asyncio


def request_of(form: Mapping[str, str] = {}, authorization: str | None = None) -> EndpointRequest:
    headers = [] if authorization is None else [(b"authorization", authorization.encode())]
    request = EndpointRequest("token", {"type": "http", "method": "POST", "headers": headers}, None)  # type: ignore[arg-type]
    request.parameters = Parameters(list(form.items()))
    return request


ASSERTED = {"client_assertion": "a.b.c", "client_assertion_type": ASSERTION_TYPE}
REFUSED: dict[str, tuple[dict[str, str], str | None, type[Exception], str]] = {
    "two methods": (
        {"client_secret": "x"},
        "Basic YTpi",
        MalformedRequest,
        "The request uses two client authentication methods",
    ),
    "three methods": (
        {"client_secret": "x", **ASSERTED},
        "Basic YTpi",
        MalformedRequest,
        "The request uses two client authentication methods",
    ),
    "two clients": (
        {"client_id": "b"},
        "Basic YTpi",
        MalformedRequest,
        "The request names two clients",
    ),
    "an unknown type": (
        {"client_assertion": "a.b.c"},
        None,
        InvalidClient,
        "The client_assertion_type is not supported",
    ),
    "nobody": (
        {},
        None,
        InvalidClient,
        "The request contains no client_id and no client credentials",
    ),
    "a secret of nobody": (
        {"client_secret": "x"},
        None,
        InvalidClient,
        "The request contains no client_id and no client credentials",
    ),
    "another scheme": (
        {},
        "Digest x",
        InvalidClient,
        "The authentication scheme is not supported",
    ),
    "no base64": ({}, "Basic !", InvalidClient, "Client authentication failed"),
    "no colon": ({}, "Basic YWI=", InvalidClient, "Client authentication failed"),
}


@pytest.mark.parametrize(("form", "authorization", "kind", "words"), REFUSED.values(), ids=REFUSED)
async def test_what_a_developer_is_told(
    form: dict[str, str], authorization: str | None, kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind) as caught:
        parse_client_credentials(request_of(form, authorization))
    assert str(caught.value) == words


@pytest.mark.parametrize(
    ("form", "authorization", "shown"),
    [
        ({"client_id": "a"}, None, ("none", "a", "")),
        ({"client_id": "a", "client_secret": "b"}, None, ("client_secret_post", "a", "b")),
        ({}, "Basic YTpi", ("client_secret_basic", "a", "b")),
        ({"client_id": "a"}, "Basic YTpi", ("client_secret_basic", "a", "b")),
        ({}, "Basic Og==", ("client_secret_basic", "", "")),
        ({}, "Basic YTpiOmM=", ("client_secret_basic", "a", "b:c")),
        (
            {},
            "Basic " + base64.b64encode(b"a%3Ab:c%2Bd+e").decode(),
            ("client_secret_basic", "a:b", "c+d e"),
        ),
        (
            {},
            "Basic " + base64.b64encode("ä:ö".encode()).decode(),
            ("client_secret_basic", "ä", "ö"),
        ),
        ({"client_id": "a", **ASSERTED}, None, ("private_key_jwt", "a", "a.b.c")),
        (ASSERTED, None, ("private_key_jwt", "", "a.b.c")),
    ],
)
async def test_what_a_request_shows(
    form: dict[str, str], authorization: str | None, shown: tuple[str, str, str]
) -> None:
    assert tuple(parse_client_credentials(request_of(form, authorization))) == shown


async def test_a_basic_header_of_16_kib_is_read_and_a_longer_one_is_not() -> None:
    text = b"a:" + b"b" * (MAX_TOKEN_BYTES // 4 * 3 - 2)
    shown = parse_client_credentials(request_of({}, "Basic " + base64.b64encode(text).decode()))
    assert shown == Credentials("client_secret_basic", "a", text[2:].decode())
    with pytest.raises(InvalidClient) as caught:
        parse_client_credentials(request_of({}, "Basic " + base64.b64encode(text + b"b").decode()))
    assert caught.value.reason == "no_credentials"


async def test_what_a_client_shows_is_not_shown_again() -> None:
    assert (
        repr(Credentials("client_secret_post", "a", "b"))
        == "Credentials('client_secret_post', 'a')"
    )


async def test_a_secret_with_a_colon_is_split_from_the_id_at_the_first_one() -> None:
    secret = "a:b:" + "x" * 40
    registration = Registration(clients=[{**CONFIDENTIAL, "client_secret": secret}])
    async with deploy(registration=registration) as server:
        tokens_of(
            await server.token(headers=basic("service", secret), grant_type="client_credentials")
        )


# --------------------------------------------------------------------------------------- assertions


@pytest.mark.parametrize(
    ("claims", "good"),
    [
        ({"exp": 1_800_000_300}, True),
        ({"exp": 1_800_000_301}, False),
        ({"exp": 1_800_000_300, "iat": ABSENT}, True),
        ({"exp": 1_800_000_301, "iat": ABSENT}, False),
        ({"jti": "j" * 256}, True),
        ({"jti": "j" * 257}, False),
        ({"jti": ""}, False),
        ({"iss": "other"}, False),
        ({"iss": ABSENT}, False),
        ({"sub": ABSENT, "client_id": "robot"}, False),
        ({"aud": [BASE_URL]}, True),
        ({"aud": [BASE_URL, BASE_URL]}, False),
        ({"aud": "https://other.example"}, False),
    ],
)
async def test_an_assertion_at_its_edges(claims: dict[str, Any], good: bool) -> None:
    robot = Robot(BASE_URL, clock := FrozenClock())
    async with deploy(clock=clock, registration=Registration(clients=[robot.metadata])) as server:
        response = await server.token(**robot.form(robot.assertion(**claims), client_id="robot"))
        if good:
            tokens_of(response)
        else:
            assert_refused(response, "invalid_client", 401)


@pytest.mark.parametrize(
    "typ", ["client-authentication+jwt", "application/client-authentication+jwt", "jwt"]
)
async def test_types_of_assertions(typ: str) -> None:
    robot = Robot(BASE_URL, clock := FrozenClock())
    async with deploy(clock=clock, registration=Registration(clients=[robot.metadata])) as server:
        tokens_of(await server.token(**robot.form(robot.assertion(header={"typ": typ}))))
        for wrong in (typ[:-1], f"{typ}x"):
            response = await server.token(**robot.form(robot.assertion(header={"typ": wrong})))
            assert_refused(response, "invalid_client", 401)


async def test_a_jti_is_remembered_for_as_long_as_the_longest_assertion_and_under_its_name() -> (
    None
):
    """Pinned: two versions of this package on one store have to agree about replays."""
    robot = Robot(BASE_URL, clock := FrozenClock())
    async with deploy(clock=clock, registration=Registration(clients=[robot.metadata])) as server:
        tokens_of(await server.token(**robot.form(robot.assertion(jti="once"))))
        key, store = hash_of(hash_of("robot") + hash_of("once")), server.provider.store
        assert USED_ASSERTIONS.name == "jti"
        clock.advance(359.9)
        assert await store.get("jti", key) is not None
        clock.advance(0.1)
        assert await store.get("jti", key) is None


async def test_an_assertion_without_an_issuer_belongs_to_no_client() -> None:
    robot = Robot(BASE_URL, clock := FrozenClock(), client_id="X")
    async with deploy(clock=clock, registration=Registration(clients=[robot.metadata])) as server:
        response = await server.token(**robot.form(robot.assertion(iss=ABSENT)))
        assert_refused(response, "invalid_client", 401)
        assert server.reasons() == ["unknown_client"]


# --------------------------------------------------------------------- what belongs to which client


def authenticator_of(server: Server, fetcher: PublicFetcher) -> ClientAuthenticator:
    inner = server.provider._server
    keys = ClientKeys(fetcher, inner.clock, inner.limits)
    return ClientAuthenticator(
        inner.clients, inner.store, inner.clock, [BASE_URL], keys, inner.limits
    )


async def test_keys_are_looked_up_by_the_way_that_a_stranger_may_name() -> None:
    asked: list[tuple[str, int]] = []

    def resolve(host: str, port: int) -> list[str]:
        asked.append((host, port))
        return ["10.0.0.1"]

    robot = Robot(BASE_URL, clock := FrozenClock())
    del robot.metadata["jwks"]
    robot.metadata["jwks_uri"] = "https://keys.example:8443/jwks"
    async with deploy(clock=clock, registration=Registration(clients=[robot.metadata])) as server:
        server.provider._server.authenticator = authenticator_of(
            server, PublicFetcher(timeout_seconds=5, resolve=resolve)
        )
        response = await server.token(**robot.form())
        assert_refused(response, "invalid_client", 401)
        assert response.json()["error_description"] == "The key set of the client cannot be used"
        assert asked == [("keys.example", 8443)]


async def test_what_is_known_of_one_set_of_keys_is_not_used_for_another() -> None:
    base = {"grant_types": [], "token_endpoint_auth_method": "private_key_jwt"}
    one, other = (
        Client(
            client_id="one",
            metadata={**base, "jwks": key_set(key_of("ES256", name))},
            origin="registered",
        )
        for name in ("key", "other")
    )
    async with deploy() as server:
        inner = server.provider._server
        keys = ClientKeys(PublicFetcher(timeout_seconds=5), inner.clock, inner.limits)
        for client, name in ((one, "key"), (other, "other"), (one, "key")):
            found = await keys.of(client, "192.0.2.1").keys_for(None, "ES256")
            assert [each.key_id for each in found] == [key_of("ES256", name).key_id]
        assert await keys.find(one, "192.0.2.1") is await keys.find(
            replace(one, client_id="two"), "192.0.2.1"
        )


async def test_a_secret_that_expired_in_the_first_second_has_expired() -> None:
    async with deploy() as server:
        client = await server.register(token_endpoint_auth_method="client_secret_post")
        clients = server.provider._server.clients
        await clients.update(client.client_id, lambda known: replace(known, secret_expires_at=1))
        form = {
            "client_id": client.client_id,
            "client_secret": client.information["client_secret"],
            "token": "x",
        }
        assert_refused(await server.call("POST", "/revoke", form=form), "invalid_client", 401)
        assert server.reasons() == ["secret_expired"]


async def test_a_new_metadata_document_counts_as_a_registration_of_its_address() -> None:
    async with deploy(rate_limits=RateLimits(register=1)) as server:
        await server.register()
        response = await server.token(
            client_id="https://app.example.com/client.json", grant_type="refresh_token"
        )
        assert (response.status, server.reasons()) == (429, ["rate_limit"])


async def test_the_stand_in_for_an_unknown_client_authenticates_no_request() -> None:
    """What is read for an unknown client, so that it takes as long as for a known one."""
    assert dummy_client().secret_hash is None
    assert dummy_client().client_id == "dummy"
    async with deploy() as server:
        for secret in ("", "x" * 43):
            response = await server.token(
                client_id="dummy", client_secret=secret, grant_type="refresh_token"
            )
            assert_refused(response, "invalid_client", 401)
