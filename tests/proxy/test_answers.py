"""What a provider answers to a refresh: tokens, sign in again, or something that a person cannot
mend.
"""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from asgi_mcp_auth._http import FetchFailed
from asgi_mcp_auth.errors import InvalidGrant, ServerUnavailable, SignInFailed
from asgi_mcp_auth.proxy.answers import Matter, TokenAnswer, read_answer, read_refusal
from asgi_mcp_auth.proxy.client import UpstreamClient
from asgi_mcp_auth.proxy.options import UpstreamRules
from asgi_mcp_auth.proxy.upstream import Endpoints
from tests.support.proxy import attempt_error, deploy_proxy, tokens_for
from tests.support.rows import rows
from tests.support.upstream import CLIENT_ID, CLIENT_SECRET, Upstream

pytestmark = pytest.mark.asyncio


def body(error: Any, **more: Any) -> bytes:
    return json.dumps({"error": error, **more}).encode()


ENDS: dict[str, tuple[int, bytes]] = {
    "invalid_grant": (400, body("invalid_grant")),
    "invalid_grant with another status": (401, body("invalid_grant")),
    "invalid_grant with an odd status": (409, body("invalid_grant")),
    "unauthorized_client": (403, body("unauthorized_client")),
    "unauthorized_client as the standard has it": (400, body("unauthorized_client")),
    "interaction_required": (400, body("interaction_required", suberror="basic_action")),
    "login_required": (400, body("login_required")),
    "consent_required": (400, body("consent_required")),
    "account_selection_required": (400, body("account_selection_required")),
    "invalid_request": (400, body("invalid_request")),
    "invalid_scope": (400, body("invalid_scope")),
    "invalid_target": (400, body("invalid_target")),
    "access_denied": (403, body("access_denied")),
    "invalid_token": (401, body("invalid_token")),
    "expired_token": (400, body("expired_token")),
    "a word of its own": (400, body("Refresh token revoked")),
    "a number": (400, body(400, message="Bad Request")),
    "another number": (401, body(190)),
    "an object": (400, body({"code": 190, "type": "OAuthException"})),
    "a list": (400, body(["invalid_grant"])),
    "a word in an object": (400, body({"code": "invalid_grant", "message": "no"})),
    "with a 200": (200, body("bad_refresh_token")),
    "ok is false": (200, body("token_revoked", ok=False)),
    "ok is false, and it says nothing known": (200, body("account_inactive", ok=False)),
}
STAYS: dict[str, tuple[int, bytes]] = {
    "invalid_client": (401, body("invalid_client")),
    "invalid_client with another status": (400, body("invalid_client")),
    "invalid_client in capitals": (400, body("INVALID_CLIENT")),
    "invalid_client in an object": (400, body({"type": "invalid_client"})),
    "invalid_client with a 200": (200, body("incorrect_client_credentials")),
    "bad_client_secret": (200, body("bad_client_secret", ok=False)),
    "unsupported_grant_type": (400, body("unsupported_grant_type")),
    "temporarily_unavailable": (400, body("temporarily_unavailable")),
    "server_error": (400, body("server_error")),
    "slow_down": (400, body("slow_down")),
    "too many, with a 200": (200, body("ratelimited", ok=False)),
    "too many, in words": (403, body("Rate limit exceeded")),
    "too many, as a number": (400, body(429)),
    "too many, in an object": (403, body({"code": 429})),
    "broken, as a number": (400, body(500)),
    "429": (429, body("invalid_grant")),
    "408": (408, b""),
    "500": (500, body("invalid_grant")),
    "503": (503, b"<html>"),
    "the wrong method": (405, body("method_not_allowed")),
    "no error": (400, b"{}"),
    "an empty error": (400, body("")),
    "no JSON": (403, b"<html>Forbidden</html>"),
    "no object": (400, b'["invalid_grant"]'),
    "ok is false without a word": (200, b'{"ok":false}'),
}


async def verdicts(upstream: Upstream, answers: dict[str, tuple[int, bytes]]) -> dict[str, str]:
    """What the proxy as a client makes of each answer to a refresh."""
    endpoints = Endpoints(authorization=upstream.issuer, token=f"{upstream.issuer}/token")

    async def find() -> Endpoints:
        return endpoints

    client = UpstreamClient(find, CLIENT_ID, CLIENT_SECRET, UpstreamRules(), "")
    await client.fetcher.open()
    found: dict[str, str] = {}
    for name, (status, content) in answers.items():
        upstream.answer("/token", content, status=status, times=1)
        try:
            await client.refresh("r1")
        except (InvalidGrant, SignInFailed, ServerUnavailable) as error:
            found[name] = "ends" if error.reason == "sign_in_ended" else "stays"
    await client.fetcher.aclose()
    return found


@pytest.mark.rule("PX-13")
async def test_a_refusal_in_any_words_ends_a_sign_in_unless_a_person_cannot_mend_it(
    upstream: Upstream,
) -> None:
    assert await verdicts(upstream, ENDS) == dict.fromkeys(ENDS, "ends")
    assert await verdicts(upstream, STAYS) == dict.fromkeys(STAYS, "stays")


@pytest.mark.rule("PX-13")
async def test_a_client_whose_provider_refuses_is_told_to_start_again(upstream: Upstream) -> None:
    """And one that meets a mistake in our settings keeps what it has."""
    async with deploy_proxy(upstream) as server:
        client = await server.register()
        tokens = await tokens_for(upstream, client)
        server.clock.advance(3601)
        upstream.answer("/token", body("invalid_client"), status=401, times=1)
        refused = await client.refresh(tokens["refresh_token"])
        assert (refused.status, refused.json()["error"]) == (503, "temporarily_unavailable")
        server.clock.advance(1)
        upstream.answer("/token", body("interaction_required"), status=400, times=1)
        for _ in range(2):
            refused = await client.refresh(tokens["refresh_token"])
            assert (refused.status, refused.json()["error"]) == (400, "invalid_grant")


@pytest.mark.rule("PX-13")
async def test_other_words_than_invalid_grant_count_once_the_access_token_has_expired(
    upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="asgi_mcp_auth.proxy")
    async with deploy_proxy(upstream) as server:
        client = await server.register()
        tokens = await tokens_for(upstream, client)
        upstream.answer("/token", body("invalid_request"), status=400)
        server.clock.advance(3598)
        tokens = (await client.refresh(tokens["refresh_token"])).json()
        server.clock.advance(1.9)
        tokens = (await client.refresh(tokens["refresh_token"])).json()
        server.clock.advance(1.1)
        refused = await client.refresh(tokens["refresh_token"])
        assert (refused.status, refused.json()["error"]) == (400, "invalid_grant")
        said = "The identity provider does not refresh the tokens of a sign-in: HTTP 400, "
        assert f"{said}invalid_request" in caplog.messages


@pytest.mark.rule("PX-13")
async def test_a_word_that_new_sign_ins_get_as_well_ends_no_grant(upstream: Upstream) -> None:
    """A disabled application gets the same word for its codes; one whose refresh token is gone
    does not.
    """
    async with deploy_proxy(upstream) as server:
        client = await server.register()
        tokens = await tokens_for(upstream, client)
        server.clock.advance(3601)
        upstream.answer("/token", body("unauthorized_client"), status=403, times=3)
        assert await attempt_error(server, upstream) == "server_error"
        for _ in range(2):
            assert (await client.refresh(tokens["refresh_token"])).status == 503
            server.clock.advance(1)
        await tokens_for(upstream, await server.register(), "bob")
        upstream.answer("/token", body("unauthorized_client"), status=403)
        refused = await client.refresh(tokens["refresh_token"])
        assert (refused.status, refused.json()["error"]) == (400, "invalid_grant")


@rows(
    ("status", "document", "matter"),
    [
        (200, {"access_token": "a"}, None),
        (200, {"access_token": "a", "error": None}, None),
        (200, {"access_token": "a", "error": ""}, None),
        (200, {"access_token": "a", "ok": True}, None),
        (200, {"access_token": "a", "ok": False}, "proxy"),
        (201, {"access_token": "a"}, "proxy"),
        (400, {"error": True}, "other"),
        (400, {"error": "Invalid-Grant"}, "grant"),
        (400, {"error": {"status": 599}}, "passing"),
        (400, {"error": {"status": 600}}, "other"),
        (410, {"error": "gone"}, "other"),
        (404, {"error": "Not Found"}, "proxy"),
        (404, {"error": "invalid_grant"}, "grant"),
    ],
)
async def test_each_refusal_is_about_one_thing(
    status: int, document: dict[str, Any], matter: Matter | None
) -> None:
    refusal = read_refusal(status, document)
    assert (None if refusal is None else refusal.matter) == matter


@pytest.mark.rule("PX-14")
@rows(
    ("expires_in", "seconds"),
    [
        *((value, value) for value in (0, 1, 315_360_000, 10**11 - 1)),
        *(("5250", 5250), ("3599.75", 3599), (3599.75, 3599), ("0", 0)),
        *((value, None) for value in (None, "", -1, "-1", 10**11, "soon", "nan", True, [], {})),
    ],
)
async def test_a_lifetime_is_read_as_a_number_or_as_unknown(
    expires_in: Any, seconds: int | None
) -> None:
    answer = read_answer({"access_token": "a", "expires_in": expires_in})
    assert answer == TokenAnswer("a", None, seconds, None)


@pytest.mark.rule("PX-14")
@rows("kind", ["Bearer", "bearer", "BEARER", "BearerToken", "bot", "", None, 7])
async def test_a_token_type_is_borne_unless_it_binds_the_token_to_a_key(kind: Any) -> None:
    assert read_answer({"access_token": "a", "token_type": kind}).access_token == "a"
    for other in ("DPoP", "dpop", "mac", "PoP", "N_A"):
        with pytest.raises(FetchFailed, match="token_type"):
            read_answer({"access_token": "a", "token_type": other})


@pytest.mark.rule("PX-14")
@rows("value", [None, "", {}, 7, "two words", "é", "t" * 70_000])
async def test_only_the_access_token_has_to_be_there(value: Any) -> None:
    answer = read_answer({"access_token": "a", "refresh_token": value, "id_token": value})
    assert answer == TokenAnswer("a")
    with pytest.raises(FetchFailed, match="access_token"):
        read_answer({"access_token": value})
