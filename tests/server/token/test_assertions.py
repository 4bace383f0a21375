"""Clients that authenticate with signed assertions (private_key_jwt)."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from joserfc import jwt as joserfc_jwt
from joserfc.jwk import ECKey, OKPKey, RSAKey

from asgi_mcp_auth._jose import SigningKey
from asgi_mcp_auth.server import Registration
from asgi_mcp_auth.testing import FrozenClock
from tests.support.assertions import ABSENT, ALGORITHMS, ASSERTION_TYPE, Robot, key_of, key_set
from tests.support.authorization_server import BASE_URL, CONFIDENTIAL, Server, deploy
from tests.support.engines import fresh
from tests.support.products import STORIES
from tests.support.rows import rows
from tests.support.token_endpoint import assert_refused, tokens_of

pytestmark = [pytest.mark.asyncio, pytest.mark.rule("AS-34")]


@asynccontextmanager
async def deploy_with(
    engine: str = "memory", *, algorithm: str = "ES256", **metadata: Any
) -> AsyncIterator[tuple[Server, Robot]]:
    """Run a server that knows a robot; ``metadata`` replaces members of the robot's
    registration.
    """
    clock = FrozenClock()
    robot = Robot(BASE_URL, clock, algorithm=algorithm)
    registration = Registration(clients=[{**robot.metadata, **metadata}, CONFIDENTIAL])
    with fresh(engine) as place:
        async with deploy(
            store=place.store(clock=clock), clock=clock, registration=registration
        ) as server:
            yield server, robot


async def accepts(
    server: Server, robot: Robot, assertion: str | None = None, **more: str | None
) -> None:
    tokens_of(await server.token(**robot.form(assertion, **more)))


async def refuses(
    server: Server,
    robot: Robot,
    assertion: str,
    reason: str = "assertion",
    error: str = "invalid_client",
    **more: Any,
) -> None:
    """Check that an assertion is refused and why, and that a good one gets in before and after
    it.
    """
    await accepts(server, robot)
    server.reasons()
    response = await server.token(**robot.form(assertion, **more))
    assert_refused(response, error, 401 if error == "invalid_client" else 400)
    assert response.header("www-authenticate") is None
    assert server.reasons() == [reason]
    await accepts(server, robot)


# ------------------------------------------------------------------------------------- what is good


@rows("algorithm", ALGORITHMS)
async def test_a_client_may_sign_with_any_asymmetric_algorithm(algorithm: str) -> None:
    async with deploy_with(algorithm=algorithm) as (server, robot):
        await accepts(server, robot)
        await accepts(server, robot, client_id=robot.client_id)


@rows(
    ("algorithm", "kind"),
    [("ES256", ECKey), ("RS256", RSAKey), ("PS256", RSAKey), ("Ed25519", OKPKey)],
)
async def test_what_another_implementation_signs_is_good(algorithm: str, kind: Any) -> None:
    async with deploy_with(algorithm=algorithm) as (server, robot):
        key = kind.import_key(robot.key.pem())
        header = {"alg": algorithm, "kid": robot.key.key_id}
        await accepts(
            server, robot, joserfc_jwt.encode(header, robot.claims(), key, algorithms=[algorithm])
        )


@rows(
    "audience",
    [
        BASE_URL,
        f"{BASE_URL}/",
        f"{BASE_URL}/token",
        f"{BASE_URL}/par",
        [BASE_URL],
    ],
)
async def test_an_assertion_is_addressed_to_the_issuer_or_to_an_endpoint(audience: Any) -> None:
    """RFC 7523 §3; its revision wants the issuer; RFC 9126 §2 the endpoint as well."""
    async with deploy_with() as (server, robot):
        await accepts(server, robot, robot.assertion(aud=audience))


@rows(
    "header",
    [
        {"typ": ABSENT},
        {"typ": "JWT"},
        {"typ": "client-authentication+jwt"},
        {"typ": "application/client-authentication+jwt"},
        {"kid": ABSENT},
        {"x": "unknown members do not matter"},
    ],
)
async def test_what_the_header_may_say(header: dict[str, Any]) -> None:
    async with deploy_with() as (server, robot):
        await accepts(server, robot, robot.assertion(header=header))


async def test_such_a_client_can_sign_people_in_and_use_par_revoke_and_introspect() -> None:
    metadata = {
        "grant_types": ["authorization_code", "refresh_token"],
        "redirect_uris": ["https://robot.example/cb"],
    }
    async with deploy_with(**metadata) as (server, robot):
        client = server.known(
            {**robot.metadata, **metadata, "token_endpoint_auth_method": "private_key_jwt"}
        )
        code = await client.code()
        form = {"grant_type": "authorization_code", "code": code, "code_verifier": client.verifier}
        tokens = tokens_of(await server.token(**robot.form(**form)))
        refreshed = tokens_of(
            await server.token(
                **robot.form(grant_type="refresh_token", refresh_token=tokens["refresh_token"])
            )
        )
        shown = {"client_assertion_type": ASSERTION_TYPE}
        form = {**shown, "client_assertion": robot.assertion(), "token": refreshed["access_token"]}
        assert (await server.call("POST", "/introspect", form=form)).json()["active"] is True
        form["client_assertion"] = robot.assertion(aud=f"{BASE_URL}/revoke")
        assert (await server.call("POST", "/revoke", form=form)).status == 200
        form["client_assertion"] = robot.assertion(aud=f"{BASE_URL}/introspect")
        assert (await server.call("POST", "/introspect", form=form)).json() == {"active": False}


@pytest.mark.rule("AS-52")
async def test_a_client_that_registered_itself_may_sign_too() -> None:
    """With the keys in its registration (``jwks``)."""
    key = key_of("ES384")
    async with deploy() as server:
        client = await server.register(
            token_endpoint_auth_method="private_key_jwt", jwks=key_set(key)
        )
        robot = Robot(BASE_URL, server.clock, algorithm="ES384", client_id=client.client_id)
        form = {
            "grant_type": "authorization_code",
            "code": await client.code(),
            "code_verifier": client.verifier,
        }
        tokens_of(await server.token(**robot.form(**form)))


async def test_a_new_key_set_counts_at_once() -> None:
    """RFC 7592 §2.2: the client replaces its registration."""
    async with deploy() as server:
        first, second = key_of("ES256", "first"), key_of("ES256", "second")
        client = await server.register(
            token_endpoint_auth_method="private_key_jwt", jwks=key_set(first)
        )
        robot = Robot(BASE_URL, server.clock, client_id=client.client_id)

        async def status_of(key: SigningKey) -> int:
            form = {**robot.form(robot.assertion(key=key)), "token": "x"}
            return (
                await server.call(
                    "POST", "/revoke", form={k: v for k, v in form.items() if v is not None}
                )
            ).status

        assert (await status_of(first), await status_of(second)) == (200, 401)
        document = {
            "client_id": client.client_id,
            "redirect_uris": client.information["redirect_uris"],
            "token_endpoint_auth_method": "private_key_jwt",
            "jwks": key_set(second),
        }
        token = client.information["registration_access_token"]
        uri = f"/register?client_id={client.client_id}"
        assert (await server.call("PUT", uri, document=document, bearer=token)).status == 200
        assert (await status_of(first), await status_of(second)) == (401, 200)


# -------------------------------------------------------------------------------------- what is not


OTHER = "https://other.example"
CLAIMS: dict[str, dict[str, Any]] = {
    "another aud": {"aud": OTHER},
    "the resource as aud": {"aud": f"{BASE_URL}/mcp"},
    "the authorization endpoint as aud": {"aud": f"{BASE_URL}/authorize"},
    "no aud": {"aud": ABSENT},
    "two auds": {"aud": [BASE_URL, OTHER]},
    "our two auds": {"aud": [BASE_URL, f"{BASE_URL}/token"]},
    "an empty list of auds": {"aud": []},
    "an aud in upper case": {"aud": BASE_URL.upper()},
    "another iss": {"iss": OTHER},
    "no iss": {"iss": ABSENT},
    "another sub": {"sub": "service"},
    "no sub": {"sub": ABSENT},
    "no exp": {"exp": ABSENT},
    "exp as text": {"exp": "1800000060"},
    "exp is true": {"exp": True},
    "exp now": {"exp": 1_800_000_000},
    "exp a second ago": {"exp": 1_799_999_999},
    "exp in 301 seconds": {"exp": 1_800_000_301},
    "exp in 301 seconds and no iat": {"exp": 1_800_000_301, "iat": ABSENT},
    "exp in ten years": {"exp": 2_100_000_000, "iat": 2_099_999_950},
    "iat in 61 seconds": {"iat": 1_800_000_061, "exp": 1_800_000_100},
    "iat an hour ago and exp in 60 seconds": {"iat": 1_799_996_400},
    "nbf in 61 seconds": {"nbf": 1_800_000_061},
    "no jti": {"jti": ABSENT},
    "an empty jti": {"jti": ""},
    "a number as jti": {"jti": 5},
    "a jti of 257 characters": {"jti": "j" * 257},
    "a key binding": {"cnf": {"jkt": "x"}},
}


@pytest.mark.case("Z69")
@rows("claims", CLAIMS.values(), ids=CLAIMS)
async def test_an_assertion_says_who_to_whom_and_for_how_long(claims: dict[str, Any]) -> None:
    async with deploy_with() as (server, robot):
        await refuses(server, robot, robot.assertion(**claims), client_id=robot.client_id)


@pytest.mark.case("Z69")
@rows(
    "claims",
    [
        {"exp": 1_800_000_001},
        {"exp": 1_800_000_300},
        {"exp": 1_800_000_300, "iat": ABSENT},
        {"iat": 1_800_000_060, "exp": 1_800_000_360},
        {"jti": "j" * 256},
        {"nbf": 1_800_000_060},
    ],
)
async def test_the_bounds_are_part_of_what_is_good(claims: dict[str, Any]) -> None:
    async with deploy_with() as (server, robot):
        await accepts(server, robot, robot.assertion(**claims))


def unsigned(robot: Robot, algorithm: str, sign: Any = lambda _: b"") -> str:
    def encode(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).decode().rstrip("=")

    signing_input = ".".join(
        encode(json.dumps(part).encode()) for part in ({"alg": algorithm}, robot.claims())
    )
    return f"{signing_input}.{encode(sign(signing_input.encode()))}"


@pytest.mark.case("Z69")
async def test_an_assertion_is_signed_with_the_client_s_own_key() -> None:
    async with deploy_with() as (server, robot):
        secret = CONFIDENTIAL["client_secret"].encode()
        public = json.dumps(robot.key.public_jwk()).encode()
        for assertion in (
            robot.assertion(key=key_of("ES256", "stranger")),
            robot.assertion(key=key_of("ES256", "stranger"), header={"kid": robot.key.key_id}),
            robot.assertion(key=key_of("ES256", "stranger"), header={"kid": ABSENT}),
            robot.assertion(header={"kid": "another"}),
            robot.assertion(header={"alg": "none"}),
            robot.assertion(header={"alg": "RS256"}),
            robot.assertion(
                key=key_of("ES256", "stranger"),
                header={"jwk": key_of("ES256", "stranger").public_jwk(), "kid": ABSENT},
            ),
            robot.assertion(
                key=key_of("ES256", "stranger"), header={"jku": f"{OTHER}/jwks", "kid": ABSENT}
            ),
            robot.assertion(header={"crit": ["exp"]}),
            unsigned(robot, "none"),
            unsigned(robot, "HS256", lambda text: hmac.digest(secret, text, "sha256")),
            unsigned(robot, "HS256", lambda text: hmac.digest(public, text, "sha256")),
            robot.assertion()[:-1],
            robot.assertion() + "A",
            robot.assertion() + "=",
        ):
            await refuses(server, robot, assertion, client_id=robot.client_id)


@pytest.mark.case("Z69")
@rows(
    "typ",
    [
        "at+jwt",
        "application/at+jwt",
        "dpop+jwt",
        "oauth-id-jag+jwt",
        "logout+jwt",
        "secevent+jwt",
    ],
)
async def test_no_other_kind_of_token_is_an_assertion(typ: Any) -> None:
    async with deploy_with() as (server, robot):
        await refuses(
            server, robot, robot.assertion(header={"typ": typ}), client_id=robot.client_id
        )


@pytest.mark.case("Z69")
async def test_an_access_token_of_ours_is_no_assertion() -> None:
    async with deploy_with() as (server, robot):
        tokens = tokens_of(await server.token(**robot.form()))
        await refuses(server, robot, tokens["access_token"], client_id=robot.client_id)
        forged = await server.provider._server.signer.sign({"typ": "JWT"}, robot.claims())
        await refuses(server, robot, forged, client_id=robot.client_id)


@pytest.mark.case("Z69")
async def test_a_registered_algorithm_is_the_only_one() -> None:
    """RFC 7591 §2: token_endpoint_auth_signing_alg."""
    keys = key_set(key_of("RS256"), key_of("ES256"))
    async with deploy_with(token_endpoint_auth_signing_alg="RS256", jwks=keys) as (server, robot):
        response = await server.token(**robot.form())
        assert_refused(response, "invalid_client", 401)
        await accepts(server, robot, robot.assertion(key=key_of("RS256")))


ODD = ("x", "a.b", "a.b.c", "a.b.c.d.e", "..", "x" * 60_000, "{}", "é.é.é", "\0", "null")


@pytest.mark.case("Z69")
@rows("assertion", ODD, ids=lambda text: repr(text)[:16])
async def test_what_is_no_jwt_is_refused_with_and_without_a_client_id(assertion: str) -> None:
    async with deploy_with() as (server, robot):
        await refuses(server, robot, assertion, client_id=robot.client_id)
        await refuses(server, robot, assertion, "unknown_client")


@pytest.mark.rule("EXT-03")
async def test_another_assertion_type_is_invalid_client() -> None:
    async with deploy_with() as (server, robot):
        for kind in (None, "", "jwt-bearer", ASSERTION_TYPE.upper(), ASSERTION_TYPE + "x"):
            await refuses(server, robot, robot.assertion(), client_assertion_type=kind)


async def test_an_assertion_names_its_client_unless_client_id_does_and_both_have_to_agree() -> None:
    async with deploy_with() as (server, robot):
        await refuses(server, robot, robot.assertion(iss="nobody", sub="nobody"), "unknown_client")
        await refuses(server, robot, robot.assertion(), "unknown_client", client_id="nobody")
        await refuses(server, robot, robot.assertion(), "auth_method", client_id="service")
        await refuses(server, robot, robot.assertion(iss="service", sub="service"), "auth_method")
        await refuses(server, robot, robot.assertion(iss=5), "unknown_client")


async def test_an_assertion_of_one_client_is_none_of_another_with_the_same_key() -> None:
    clock = FrozenClock()
    one, two = (Robot(BASE_URL, clock, client_id=name) for name in ("one", "two"))
    async with deploy(
        clock=clock, registration=Registration(clients=[one.metadata, two.metadata])
    ) as server:
        for claims in ({"iss": "two"}, {"sub": "two"}):
            await refuses(server, one, one.assertion(**claims), client_id="one")
            await refuses(server, two, one.assertion(**claims), client_id="two")
        await refuses(server, two, one.assertion(), client_id="two")


# --------------------------------------------------------------------------------------------- once


@pytest.mark.case("Z69")
@pytest.mark.parametrize("engine", STORIES)
async def test_an_assertion_is_good_once(engine: str) -> None:
    async with deploy_with(engine) as (server, robot):
        used = robot.assertion()
        await accepts(server, robot, used)
        for delay in (0, 1, 58):
            server.clock.advance(delay)
            await refuses(server, robot, used, "assertion_replayed")
        server.clock.advance(1)
        await refuses(server, robot, used)
        await refuses(
            server,
            robot,
            robot.assertion(jti=json.loads(part_of(used))["jti"]),
            "assertion_replayed",
        )


def part_of(token: str) -> bytes:
    payload = token.split(".")[1]
    return base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))


@pytest.mark.case("Z69")
@pytest.mark.parametrize("engine", STORIES)
async def test_of_20_at_once_one_is_good(engine: str) -> None:
    async with deploy_with(engine) as (server, robot):
        for _ in range(2):
            form = robot.form()
            answers = await asyncio.gather(*(server.token(**form) for _ in range(20)))
            assert sorted(answer.status for answer in answers) == [200] + [401] * 19
            assert set(server.reasons()) == {"assertion_replayed"}


@pytest.mark.case("Z69")
async def test_a_jti_belongs_to_its_client_and_to_every_endpoint() -> None:
    clock = FrozenClock()
    one, two = (Robot(BASE_URL, clock, client_id=name) for name in ("one", "two"))
    async with deploy(
        clock=clock, registration=Registration(clients=[one.metadata, two.metadata])
    ) as server:
        used = one.assertion(jti="the same")
        await accepts(server, one, used)
        await accepts(server, two, two.assertion(jti="the same"))
        form = {"client_assertion_type": ASSERTION_TYPE, "client_assertion": used, "token": "x"}
        assert_refused(await server.call("POST", "/revoke", form=form), "invalid_client", 401)


@pytest.mark.case("Z69")
async def test_the_last_second_of_the_longest_assertion_is_no_gap() -> None:
    """What is accepted for 360 seconds is remembered for as long."""
    async with deploy_with() as (server, robot):
        used = robot.assertion(iat=1_800_000_060, exp=1_800_000_360)
        await accepts(server, robot, used)
        server.clock.advance(359.9)
        await refuses(server, robot, used, "assertion_replayed")
        server.clock.advance(0.1)
        await refuses(server, robot, used, "assertion")


async def test_what_is_refused_is_not_used_up() -> None:
    async with deploy_with() as (server, robot):
        assertion = robot.assertion(jti="once")
        await refuses(server, robot, assertion[:-4] + "AAAA", client_id=robot.client_id)
        await accepts(server, robot, assertion)


async def test_keys_that_cannot_be_used_are_refused_when_they_are_registered() -> None:
    private = {**key_of("ES256").public_jwk(), "d": "x" * 43}
    async with deploy() as server:
        for jwks in (
            {"keys": []},
            {},
            {"keys": [{"kty": "oct", "k": "c2VjcmV0"}]},
            {"keys": [private]},
            "x",
            {"keys": 5},
        ):
            document = {
                "redirect_uris": ["https://robot.example/cb"],
                "token_endpoint_auth_method": "private_key_jwt",
                "jwks": jwks,
            }
            response = await server.call("POST", "/register", document=document)
            assert_refused(response, "invalid_client_metadata")
