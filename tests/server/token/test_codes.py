"""Authorization codes: for one use, one client, one redirect URI, one verifier."""

from __future__ import annotations

import asyncio
import secrets

import pytest

from asgi_mcp_auth.server import Lifetimes
from asgi_mcp_auth.stores.encrypted import EncryptedStore
from asgi_mcp_auth.stores.memory import MemoryStore
from asgi_mcp_auth.testing import FrozenClock
from tests.support.authorization_server import (
    KEY,
    REDIRECT_URI,
    RESOURCE,
    ClientOf,
    Server,
    challenge_of,
    deploy,
)
from tests.support.failing import HeldStore
from tests.support.products import STORIES
from tests.support.rows import rows
from tests.support.token_endpoint import Calls, assert_refused, deploy_on, is_alive, tokens_of

pytestmark = pytest.mark.asyncio

OTHER_REDIRECT_URI = "http://127.0.0.1:8123/other"


async def refuses(client: ClientOf, code: str, reason: str, **form: str | None) -> None:
    """Check that a code cannot be redeemed in this way, and why."""
    client.server.reasons()
    assert_refused(await client.redeem(code, **form), "invalid_grant")
    assert client.server.reasons() == [reason]


def revocations(server: Server) -> list[str | None]:
    """Return why grants have ended so far."""
    return [event.reason for event in server.events if event.action == "grant_revoked"]


# --------------------------------------------------------------------------------------------- PKCE

VERIFIERS: dict[str, str | None] = {
    "missing": None,
    "empty": "",
    "42 characters": "v" * 42,
    "129 characters": "v" * 129,
    "60,000 characters": "v" * 60_000,
    "not ASCII": "é" * 43,
    "a space": "v" * 42 + " ",
    "a plus sign": "v" * 42 + "+",
    "a line feed at the end": "v" * 43 + "\n",
    "another one": "w" * 43,
}


@pytest.mark.case("Z17", "Z18")
@pytest.mark.rule("AS-35")
@rows("verifier", VERIFIERS.values(), ids=VERIFIERS)
async def test_a_wrong_verifier_is_refused_and_the_right_one_still_works(
    verifier: str | None,
) -> None:
    """RFC 7636 §4.6. A thief who has the code cannot spoil the sign-in."""
    async with deploy() as server:
        client = await server.register()
        code = await client.code()
        await refuses(client, code, "code_verifier", code_verifier=verifier)
        await refuses(client, code, "code_verifier", code_verifier=challenge_of(client.verifier))
        tokens_of(await client.redeem(code))


@pytest.mark.case("Z17")
@rows("verifier", ["v" * 43, "v" * 128, "-._~" * 11, "0123456789" * 5])
async def test_verifiers_of_43_to_128_unreserved_characters_are_fine(verifier: str) -> None:
    async with deploy() as server:
        client = await server.register()
        client.verifier = verifier
        tokens_of(await client.redeem(await client.code()))


@pytest.mark.case("Z19", "Z14", "Z15")
async def test_a_challenge_can_neither_be_left_out_nor_be_plain() -> None:
    """For public and confidential clients."""
    async with deploy() as server:
        for method in ("none", "client_secret_basic"):
            client = await server.register(token_endpoint_auth_method=method)
            for parameters in (
                {"code_challenge": None},
                {"code_challenge": "", "code_challenge_method": None},
                {"code_challenge_method": "plain"},
                {"code_challenge_method": None},
                {"code_challenge_method": "S512"},
                {"code_challenge_method": "s256"},
                {"code_challenge_method": ""},
                {"code_challenge": client.verifier},
            ):
                url = await server.browser().decide(client.authorization_url(**parameters))
                assert "error=invalid_request" in url
                assert "code=" not in url


@pytest.mark.case("Z20")
async def test_the_challenge_is_compared_in_constant_time() -> None:
    async with deploy() as server:
        client = await server.register()
        code = await client.code()
        for verifier in ("w" * 43, client.verifier):
            with Calls("compare_digest") as counts:
                await client.redeem(code, code_verifier=verifier)
            assert counts == {"compare_digest": 1}


# ------------------------------------------------------------------------------------- redirect URI


@pytest.mark.case("Z29")
@pytest.mark.rule("AS-35")
@rows(
    ("sent", "reason"),
    [
        (None, None),
        ("", None),
        (REDIRECT_URI, None),
        (OTHER_REDIRECT_URI, "code_redirect_uri"),
        (REDIRECT_URI + "/", "code_redirect_uri"),
        (REDIRECT_URI + "?", "code_redirect_uri"),
        (REDIRECT_URI.replace("8123", "8124"), "code_redirect_uri"),
        (REDIRECT_URI.replace("http", "HTTP", 1), "code_redirect_uri"),
        (" " + REDIRECT_URI, "code_redirect_uri"),
    ],
)
async def test_a_redirect_uri_that_is_sent_has_to_be_the_one_of_the_request(
    sent: str | None, reason: str | None
) -> None:
    """With PKCE it may be left out (OAuth 2.1 §4.1.3)."""
    async with deploy() as server:
        client = await server.register(redirect_uris=[REDIRECT_URI, OTHER_REDIRECT_URI])
        code = await client.code()
        if reason is not None:
            await refuses(client, code, reason, redirect_uri=sent)
        tokens_of(await client.redeem(code, redirect_uri=None if reason else sent))


@pytest.mark.case("Z29")
async def test_a_redirect_uri_that_was_left_out_is_the_registered_one() -> None:
    async with deploy() as server:
        client = await server.register()
        code = await client.code(redirect_uri=None)
        await refuses(client, code, "code_redirect_uri", redirect_uri=OTHER_REDIRECT_URI)
        tokens_of(await client.redeem(code, redirect_uri=REDIRECT_URI))


@pytest.mark.case("Z29")
async def test_the_port_of_a_loopback_redirect_is_the_one_of_the_request() -> None:
    async with deploy() as server:
        client = await server.register()
        moved = REDIRECT_URI.replace("8123", "9999")
        code = await client.code(redirect_uri=moved)
        await refuses(client, code, "code_redirect_uri", redirect_uri=REDIRECT_URI)
        tokens_of(await client.redeem(code, redirect_uri=moved))


# ----------------------------------------------------------------------------------------- resource


@pytest.mark.case("Z09", "Z77")
@pytest.mark.rule("AS-22", "AS-36", "AS-40")
@rows(
    "resources",
    [
        ["https://evil.example/mcp"],
        [RESOURCE + "//"],
        [RESOURCE + "#fragment"],
        [RESOURCE, "https://evil.example/mcp"],
        ["/mcp"],
        ["http://localhost:8000"],
        [RESOURCE.upper()],
    ],
)
async def test_another_resource_is_invalid_target_and_uses_nothing_up(
    resources: list[str],
) -> None:
    """RFC 8707 §2."""
    async with deploy() as server:
        client = await server.register()
        code = await client.code()
        usual = {"client_id": client.client_id}
        form = {
            **usual,
            "grant_type": "authorization_code",
            "code": code,
            "code_verifier": client.verifier,
        }
        pairs = [*form.items(), *(("resource", each) for each in resources)]
        assert_refused(await server.call("POST", "/token", form=pairs), "invalid_target")
        tokens = tokens_of(await client.redeem(code))
        form = {**usual, "grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
        pairs = [*form.items(), *(("resource", each) for each in resources)]
        assert_refused(await server.call("POST", "/token", form=pairs), "invalid_target")
        assert server.reasons() == ["invalid_target", "invalid_target"]
        tokens_of(await client.refresh(tokens["refresh_token"]))


@pytest.mark.case("Z09")
@rows("at_authorize", [None, RESOURCE])
@rows("at_token", [None, RESOURCE])
async def test_a_resource_that_is_left_out_is_the_one_that_there_is(
    at_authorize: str | None, at_token: str | None
) -> None:
    async with deploy() as server:
        client = await server.register()
        tokens = tokens_of(
            await client.redeem(await client.code(resource=at_authorize), resource=at_token)
        )
        assert (await server.call("POST", "/mcp", bearer=tokens["access_token"])).status == 200
        assert server.spy.scope["access_token"].claims["aud"] == RESOURCE


# ---------------------------------------------------------------------------------------- once only


@pytest.mark.case("Z46")
@pytest.mark.rule("AS-36")
@rows("engine", STORIES)
@rows("delay", [2.01, 59, 61, 599])
async def test_a_replay_ends_everything_that_came_of_the_code(engine: str, delay: float) -> None:
    """RFC 6749 §4.1.2: also after the code itself has expired, and after a refresh."""
    async with deploy_on(engine) as server:
        client = await server.register()
        code = await client.code()
        tokens = tokens_of(await client.redeem(code))
        refreshed = tokens_of(await client.refresh(tokens["refresh_token"]))
        assert await is_alive(server, tokens["access_token"])
        server.clock.advance(delay)
        await refuses(client, code, "code_replayed")
        assert revocations(server) == ["code_replayed"]
        for pair in (tokens, refreshed):
            assert not await is_alive(server, pair["access_token"])
        assert_refused(await client.refresh(refreshed["refresh_token"]), "invalid_grant")
        await refuses(client, code, "code_replayed")
        assert revocations(server) == ["code_replayed"], "it ended once"


REPLAYS: dict[str, dict[str, str | None]] = {
    "without a verifier": {"code_verifier": None},
    "with another verifier": {"code_verifier": "w" * 43},
    "with another redirect URI": {"redirect_uri": OTHER_REDIRECT_URI},
}


@pytest.mark.case("Z47")
@rows("engine", STORIES)
@rows("replay", [*REPLAYS, "by another client"])
async def test_a_replay_that_does_not_fit_ends_the_grant_at_once(engine: str, replay: str) -> None:
    async with deploy_on(engine) as server:
        client, other = await server.register(), await server.register()
        code = await client.code()
        tokens = tokens_of(await client.redeem(code))
        if replay in REPLAYS:
            await refuses(client, code, "code_replayed", **REPLAYS[replay])
        else:
            await refuses(other, code, "code_replayed", code_verifier=client.verifier)
        assert not await is_alive(server, tokens["access_token"])


@pytest.mark.case("Z47")
@rows("engine", STORIES)
@rows("delay", [0, 1.99, 2])
async def test_the_same_client_at_once_again_just_loses(engine: str, delay: float) -> None:
    """A client that sends twice, or whose HTTP library does, is not signed out for that."""
    async with deploy_on(engine) as server:
        client = await server.register()
        code = await client.code()
        tokens = tokens_of(await client.redeem(code))
        server.clock.advance(delay)
        await refuses(client, code, "code_used")
        assert revocations(server) == []
        assert await is_alive(server, tokens["access_token"])
        tokens_of(await client.refresh(tokens["refresh_token"]))


@pytest.mark.case("Z47")
async def test_how_long_at_once_lasts_is_a_setting() -> None:
    async with deploy(lifetimes=Lifetimes(code_leeway_seconds=0)) as server:
        client = await server.register()
        code = await client.code()
        tokens_of(await client.redeem(code))
        await refuses(client, code, "code_used")
        server.clock.advance(0.001)
        await refuses(client, code, "code_replayed")


@pytest.mark.case("Z47")
@pytest.mark.parametrize("engine", STORIES)
async def test_of_20_at_once_one_succeeds_and_its_tokens_live(engine: str) -> None:
    async with deploy_on(engine) as server:
        client = await server.register()
        for _ in range(3):
            code = await client.code()
            answers = await asyncio.gather(*(client.redeem(code) for _ in range(20)))
            good = [answer for answer in answers if answer.status == 200]
            assert len(good) == 1
            for answer in answers:
                if answer is not good[0]:
                    assert_refused(answer, "invalid_grant")
            assert set(server.reasons()) == {"code_used"}
            tokens = tokens_of(good[0])
            assert await is_alive(server, tokens["access_token"])
            tokens_of(await client.refresh(tokens["refresh_token"]))


@pytest.mark.case("Z46")
@pytest.mark.parametrize("engine", STORIES)
async def test_a_thief_with_the_code_but_no_verifier_gets_nothing_in_a_race(
    engine: str,
) -> None:
    """In either order, the client gets its tokens, or there are none."""
    async with deploy_on(engine) as server:
        client, thief = await server.register(), await server.register()
        for _ in range(5):
            code = await client.code()
            answers = await asyncio.gather(
                *(thief.redeem(code) for _ in range(3)),
                client.redeem(code),
                *(thief.redeem(code) for _ in range(3)),
            )
            honest = answers.pop(3)
            for answer in answers:
                assert_refused(answer, "invalid_grant")
            if revocations(server):
                if honest.status == 200:
                    assert not await is_alive(server, honest.json()["access_token"])
                server.events.clear()
            else:
                assert await is_alive(server, tokens_of(honest)["access_token"])


# -------------------------------------------------------------------------------------- in its time


@pytest.mark.case("Z48")
@pytest.mark.rule("AS-23")
@rows(
    ("after", "reason"),
    [(0, None), (59, None), (60, "code_expired"), (61, "code_expired"), (599, "code_expired")],
)
async def test_a_code_is_good_for_60_seconds(after: float, reason: str | None) -> None:
    async with deploy() as server:
        client = await server.register()
        code = await client.code()
        server.clock.advance(after)
        if reason is None:
            tokens_of(await client.redeem(code))
        else:
            await refuses(client, code, reason)
            server.clock.advance(1)
            assert_refused(await client.redeem(code), "invalid_grant")


@pytest.mark.case("Z48")
@pytest.mark.parametrize("seconds", [1, 600])
async def test_how_long_a_code_is_good_is_a_setting(seconds: int) -> None:
    async with deploy(lifetimes=Lifetimes(code_seconds=seconds)) as server:
        client = await server.register()
        code, late = await client.code(), await client.code()
        server.clock.advance(seconds - 0.5)
        tokens_of(await client.redeem(code))
        server.clock.advance(0.5)
        assert_refused(await client.redeem(late), "invalid_grant")


@pytest.mark.case("Z48", "S19")
@rows("jump", [-3600, 3600, -59, 300])
async def test_a_clock_that_jumps_revives_no_code_that_was_used(jump: float) -> None:
    async with deploy() as server:
        client = await server.register()
        used, pending = await client.code(), await client.code()
        tokens = tokens_of(await client.redeem(used))
        server.clock.jump(jump)
        assert_refused(await client.redeem(used), "invalid_grant")
        if jump < 0:
            tokens_of(await client.redeem(pending))
        else:
            assert_refused(await client.redeem(pending), "invalid_grant")
        server.clock.jump(-jump)
        for _ in range(2):
            assert_refused(await client.redeem(used), "invalid_grant")
            server.clock.advance(3)
        assert await is_alive(server, tokens["access_token"]) is False


@pytest.mark.case("S19")
@pytest.mark.parametrize("seconds", [3, 50])
async def test_a_request_that_waited_while_another_won_does_not_sign_its_client_out(
    seconds: float,
) -> None:
    """It was here before the other one won, and stood in a queue."""
    clock = FrozenClock()
    held = HeldStore(MemoryStore(clock=clock))
    async with deploy(store=EncryptedStore(held, [KEY]), clock=clock) as server:
        client = await server.register()
        code = await client.code()
        held.hold = ("get", "code")
        late = asyncio.create_task(client.redeem(code))
        await held.arrived.wait()
        clock.advance(seconds)
        tokens = tokens_of(await client.redeem(code))
        held.go.set()
        assert_refused(await late, "invalid_grant")
        assert server.reasons() == ["code_used"]
        assert await is_alive(server, tokens["access_token"])


# -------------------------------------------------------------------------------------- whose it is


@pytest.mark.case("Z49")
@pytest.mark.rule("AS-36")
async def test_another_client_gets_nothing_and_the_code_stays_good() -> None:
    """The audit log has a record of it."""
    async with deploy() as server:
        client, other = await server.register(), await server.register()
        code = await client.code()
        await refuses(other, code, "code_client", code_verifier=client.verifier)
        events = [event for event in server.events if event.action == "refused"]
        assert events == []
        assert_refused(await other.redeem(code, code_verifier=client.verifier), "invalid_grant")
        (event,) = (event for event in server.events if event.action == "refused")
        assert (event.reason, event.client_id, event.endpoint) == (
            "code_client",
            other.client_id,
            "token",
        )
        tokens_of(await client.redeem(code))


@pytest.mark.case("Z50")
async def test_codes_cannot_be_guessed() -> None:
    async with deploy() as server:
        client = await server.register()
        code = await client.code()
        assert len(code) == 43, "256 bits in base64url"
        for guess in (
            *(secrets.token_urlsafe(32) for _ in range(200)),
            code[:-1],
            code + "A",
            code.swapcase(),
            "x",
        ):
            await refuses(client, guess, "unknown_code")
        tokens_of(await client.redeem(code))
        assert len({await client.code() for _ in range(20)}) == 20


@pytest.mark.case("Z50")
@pytest.mark.soak
async def test_a_hundred_thousand_guesses_are_all_wrong() -> None:
    async with deploy() as server:
        client = await server.register()
        for _ in range(100_000):
            response = await client.redeem(secrets.token_urlsafe(32))
            assert response.status == 400
            server.events.clear()


@pytest.mark.case("Z81")
async def test_a_refresh_token_or_an_access_token_is_no_code() -> None:
    async with deploy() as server:
        client = await server.register()
        tokens = await client.sign_in()
        for name in ("refresh_token", "access_token"):
            await refuses(client, tokens[name], "unknown_code")


async def test_a_code_needs_its_parameter() -> None:
    async with deploy() as server:
        client = await server.register()
        assert_refused(await client.token(grant_type="authorization_code"), "invalid_request")
