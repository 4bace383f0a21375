"""Neither the store nor the log holds a secret that works."""

from __future__ import annotations

import base64
import logging
from urllib.parse import parse_qsl, urlsplit

import pytest

from asgi_mcp_auth.server import RateLimits, Registration
from asgi_mcp_auth.testing import FrozenClock
from tests.support.assertions import Robot
from tests.support.authorization_server import (
    BASE_URL,
    CONFIDENTIAL,
    REDIRECT_URI,
    Server,
    answer_of,
    basic,
    deploy,
)
from tests.support.engines import ENGINES, fresh
from tests.support.token_endpoint import is_alive, tokens_of

pytestmark = pytest.mark.asyncio


async def secrets_of_a_day(server: Server) -> dict[str, str]:
    """Do all that can be done, some of it wrong, and return every secret that came up, by name."""
    found: dict[str, str] = {}
    client = await server.register(token_endpoint_auth_method="client_secret_basic")
    found["client secret"] = client.information["client_secret"]
    found["registration token"] = client.information["registration_access_token"]
    found["verifier"] = client.verifier

    browser = server.browser()
    page = await browser.open(client.authorization_url(state="a-state-that-nobody-keeps"))
    found["transaction"] = dict(parse_qsl(urlsplit(page.url).query))["transaction"]
    found["form token of the login page"] = page.hidden["csrf"]
    page = await browser.sign_in(page, username="alice")
    found["form token of the consent page"] = page.hidden["csrf"]
    found["code"] = answer_of((await browser.submit(page, action="approve")).url)["code"]
    for name, value in browser.cookies.items():
        found[f"cookie {name}"] = value
    found["code that waits"] = await client.code()
    found["state"] = "a-state-that-nobody-keeps"

    tokens = tokens_of(await client.redeem(found["code"]))
    for number in range(2):
        found[f"access token {number}"] = tokens["access_token"]
        found[f"refresh token {number}"] = tokens["refresh_token"]
        assert await is_alive(server, tokens["access_token"])
        tokens = tokens_of(await client.refresh(tokens["refresh_token"]))
    headers = basic(client.client_id, found["client secret"])
    for target in ("/introspect", "/revoke"):
        form = {"token": found["refresh token 1"]}
        assert (await server.call("POST", target, headers=headers, form=form)).status == 200
    assert not await is_alive(server, found["access token 1"])

    form = {"redirect_uri": REDIRECT_URI, "response_type": "code", "code_challenge": "c" * 43}
    pushed = await server.call(
        "POST", "/par", headers=headers, form={**form, "code_challenge_method": "S256"}
    )
    found["pushed request"] = pushed.json()["request_uri"].rpartition(":")[2]
    robot = Robot(BASE_URL, server.clock)
    found["assertion"] = robot.assertion()
    tokens_of(await server.token(**robot.form(found["assertion"])))
    service = basic("service", CONFIDENTIAL["client_secret"])
    found["access token of a client"] = tokens_of(
        await server.token(headers=service, grant_type="client_credentials")
    )["access_token"]
    found["configured secret"] = CONFIDENTIAL["client_secret"]

    # What is refused is written down, too.
    await client.redeem(found["code"])
    await client.redeem(found["code that waits"], code_verifier="w" * 43)
    await client.refresh(found["refresh token 0"])
    await server.token(**robot.form(found["assertion"]))
    await server.token(
        headers=basic("service", found["client secret"]), grant_type="client_credentials"
    )
    await server.call("POST", "/mcp", bearer=found["refresh token 1"])
    await server.call(
        "GET", f"/mcp?access_token={found['access token 0']}", bearer=found["access token 0"]
    )
    found["signing key"] = server.provider._server.signer._keys[0].key.pem().split("\n")[1]  # type: ignore[attr-defined]
    return found


def spellings(secret: str) -> set[bytes]:
    """Return the ways in which a secret may have been written down."""
    data = secret.encode()
    return {
        data,
        base64.b64encode(data).rstrip(b"="),
        base64.urlsafe_b64encode(data).rstrip(b"="),
        data.hex().encode(),
    }


def parts(secret: str) -> set[bytes]:
    """Return what must not be found: each spelling, and of long secrets their ends, which cannot be
    guessed either.
    """
    return {
        part
        for each in spellings(secret)
        for part in (each, *((each[-24:],) if len(each) > 48 else ()))
    }


@pytest.mark.slow
@pytest.mark.case("S16")
@pytest.mark.rule("AS-74", "RS-37")
@pytest.mark.parametrize("engine", ENGINES)
async def test_neither_the_store_nor_the_debug_log_holds_a_secret(
    engine: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    clock = FrozenClock()
    registration = Registration(clients=[CONFIDENTIAL, Robot(BASE_URL, clock).metadata])
    with fresh(engine) as place:
        store = place.store(clock=clock)
        async with deploy(
            store=store, clock=clock, registration=registration, rate_limits=RateLimits()
        ) as server:
            secrets = await secrets_of_a_day(server)
            secrets |= {f"encryption key {number}": key for number, key in enumerate(place.keys)}
            dump = place.dump()
        log = "\n".join(
            f"{record.getMessage()} {vars(record)!r}" for record in caplog.records
        ).encode()
        assert len(secrets) > 20
        assert b"grant" in dump, "there is something to look at"
        assert b"token_issued" in log
        for name, secret in secrets.items():
            assert len(secret) > 20, f"{name} is too short to look for"
            for part in parts(secret):
                assert part not in dump, f"{name} is in the store"
                assert part not in log, f"{name} is in the log"
        assert b"alice" in log, "the log may say who"
        events = repr(server.events).encode()
        assert not any(part in events for secret in secrets.values() for part in parts(secret))
