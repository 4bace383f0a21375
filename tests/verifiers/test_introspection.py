"""IntrospectionTokenVerifier: what it remembers, and the cost of an issuer that is down."""

from __future__ import annotations

import base64
import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from asgi_mcp_auth import (
    ANY_AUDIENCE,
    AccessToken,
    ClaimRules,
    IntrospectionTokenVerifier,
    InvalidToken,
    ServerUnavailable,
)
from asgi_mcp_auth.testing import INTROSPECTION_CLIENT, FrozenClock, Issuer
from tests.support.gate import AUDIENCE, NOW, Gate
from tests.support.rows import rows
from tests.tables.json_texts import broken_answers

pytestmark = [pytest.mark.asyncio, pytest.mark.rule("RS-31")]


@pytest.fixture
def idp() -> Iterator[Issuer]:
    with Issuer(algorithms=("ES256",), clock=FrozenClock(NOW)) as issuer:
        yield issuer


def verifier_for(idp: Issuer, **settings: Any) -> IntrospectionTokenVerifier:
    client_id, secret = INTROSPECTION_CLIENT
    usual = {
        "introspection_url": idp.introspection_url,
        "client_id": client_id,
        "client_secret": secret,
    }
    return IntrospectionTokenVerifier(
        **{**usual, "audience": AUDIENCE, "clock": idp.clock, **settings}
    )


def clock_of(idp: Issuer) -> FrozenClock:
    assert isinstance(idp.clock, FrozenClock)
    return idp.clock


async def reason_of(verifier: IntrospectionTokenVerifier, token: str) -> str | None:
    try:
        await verifier.verify(token)
    except InvalidToken as refusal:
        return refusal.reason
    return None


async def test_an_active_token_grants_what_the_issuer_says(idp: Issuer) -> None:
    token = idp.mint_opaque(aud=[AUDIENCE, "other"], scope="a b", username="Alice")
    access = await verifier_for(idp).verify(token)
    assert access == AccessToken(
        token=token,
        client_id="test-client",
        scopes=["a", "b"],
        expires_at=NOW + 300,
        resource=AUDIENCE,
        subject="alice",
        claims=access.claims,
    )
    assert (access.claims["username"], access.claims["active"]) == ("Alice", True)


async def test_an_answer_is_asked_for_once_per_ttl(idp: Issuer) -> None:
    verifier, clock = verifier_for(idp, cache_ttl_seconds=60), clock_of(idp)
    token = idp.mint_opaque(aud=AUDIENCE)
    for _ in range(3):
        assert await reason_of(verifier, token) is None
    clock.advance(59)
    assert await reason_of(verifier, token) is None
    assert idp.hits["/introspect"] == 1
    idp.revoke(token)
    assert await reason_of(verifier, token) is None  # the price of remembering
    clock.advance(1)
    assert await reason_of(verifier, token) == "inactive"
    assert idp.hits["/introspect"] == 2


async def test_with_a_ttl_of_zero_every_request_is_asked_for(idp: Issuer) -> None:
    verifier = verifier_for(idp, cache_ttl_seconds=0)
    token = idp.mint_opaque(aud=AUDIENCE)
    assert await reason_of(verifier, token) is None
    idp.revoke(token)
    assert await reason_of(verifier, token) == "inactive"
    assert await reason_of(verifier, token) == "inactive"
    assert idp.hits["/introspect"] == 3


async def test_a_remembered_answer_dies_with_its_exp(idp: Issuer) -> None:
    verifier, clock = verifier_for(idp, cache_ttl_seconds=3600), clock_of(idp)
    token = idp.mint_opaque(aud=AUDIENCE, exp=NOW + 100)
    assert await reason_of(verifier, token) is None
    clock.advance(99)
    assert await reason_of(verifier, token) is None
    clock.advance(1)
    assert await reason_of(verifier, token) == "expired"
    assert idp.hits["/introspect"] == 1


async def test_a_token_without_exp_is_remembered_for_the_ttl_only(idp: Issuer) -> None:
    verifier, clock = verifier_for(idp, cache_ttl_seconds=60), clock_of(idp)
    token = idp.mint_opaque(aud=AUDIENCE, exp=None)
    access = await verifier.verify(token)
    assert access.expires_at is None
    clock.jump(10**6)  # the wall clock says nothing about it
    assert await reason_of(verifier, token) is None
    assert idp.hits["/introspect"] == 1
    clock.advance(60)
    assert await reason_of(verifier, token) is None
    assert idp.hits["/introspect"] == 2


async def test_a_refusal_is_remembered_for_a_few_seconds_only(idp: Issuer) -> None:
    verifier, clock = verifier_for(idp), clock_of(idp)
    token = "not-known-yet"
    for _ in range(3):
        assert await reason_of(verifier, token) == "inactive"
    clock.advance(4.9)
    assert await reason_of(verifier, token) == "inactive"
    assert idp.hits["/introspect"] == 1
    clock.advance(0.1)
    assert await reason_of(verifier, token) == "inactive"
    assert idp.hits["/introspect"] == 2


async def test_two_tokens_never_share_an_answer(idp: Issuer) -> None:
    verifier = verifier_for(idp)
    tokens = {name: idp.mint_opaque(aud=AUDIENCE, sub=name) for name in ("alice", "bob")}
    for _ in range(2):
        for name, token in tokens.items():
            assert (await verifier.verify(token)).subject == name
    first = await verifier.verify(tokens["alice"])
    first.claims["sub"] = "root"
    assert (await verifier.verify(tokens["alice"])).claims["sub"] == "alice"


@pytest.mark.parametrize("token", ["a", "x" * 16_384, "ghp_abc", "a.b.c", "/+~=="])
async def test_tokens_of_any_shape_are_asked_about(idp: Issuer, token: str) -> None:
    assert await reason_of(verifier_for(idp), token) == "inactive"
    assert idp.hits["/introspect"] == 1


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        ("x" * 65_537, "too_long"),
        ("é", "malformed"),
        ("\ud800", "malformed"),
        ("a\u00a0b", "malformed"),
    ],
)
async def test_what_cannot_be_a_token_is_not_asked_about(
    idp: Issuer, token: str, reason: str
) -> None:
    gate = Gate(verifier_for(idp), good=lambda: idp.mint_opaque(aud=AUDIENCE), clock=clock_of(idp))
    await gate.only_refuses(token, reason)
    assert not idp.hits
    await gate.refuses(token, reason)


@pytest.mark.parametrize("token", [None, 5, b"token"])
async def test_a_token_that_is_no_str_is_a_programming_error(idp: Issuer, token: Any) -> None:
    with pytest.raises(TypeError, match="token must be a str"):
        await verifier_for(idp).verify(token)


async def test_an_outage_is_no_verdict(idp: Issuer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    verifier, clock = verifier_for(idp), clock_of(idp)
    token, other = idp.mint_opaque(aud=AUDIENCE), idp.mint_opaque(aud=AUDIENCE)
    idp.fail("/introspect", status=500)
    for _ in range(3):
        with pytest.raises(ServerUnavailable) as caught:
            await verifier.verify_token(token)
        assert caught.value.retry_after_seconds >= 1
    assert idp.hits["/introspect"] == 1  # the others did not have to wait for the same failure
    clock.advance(1)
    with pytest.raises(ServerUnavailable):
        await verifier.verify_token(other)
    assert idp.hits["/introspect"] == 2
    idp.reset()
    clock.advance(1)
    assert await reason_of(verifier, token) is None
    assert await reason_of(verifier, other) is None
    messages = [
        (record.levelname, record.getMessage())
        for record in caplog.records
        if record.name.endswith("lookups")
    ]
    assert messages == [
        (
            "WARNING",
            (
                f"Introspection at {idp.introspection_url} failed: HTTP 500. Tokens are answered"
                " with 503"
            ),
        ),
        ("INFO", f"Introspection at {idp.introspection_url} works again"),
    ]


async def test_remembered_tokens_survive_an_outage(idp: Issuer) -> None:
    verifier = verifier_for(idp)
    token = idp.mint_opaque(aud=AUDIENCE)
    assert await reason_of(verifier, token) is None
    idp.fail("/introspect")
    with pytest.raises(ServerUnavailable):
        await verifier.verify("another-token")
    assert await reason_of(verifier, token) is None


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413])
async def test_an_error_that_may_be_about_one_token_locks_no_other_out(
    idp: Issuer, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    verifier = verifier_for(idp)
    idp.fail("/introspect", status=status, times=1)
    with pytest.raises(ServerUnavailable):
        await verifier.verify("odd-token")
    assert await reason_of(verifier, idp.mint_opaque(aud=AUDIENCE)) is None
    hint = "check client_id and client_secret" in caplog.text
    assert hint == (status in (400, 401, 403))


@rows("body", broken_answers(b'{"active":true}'))
async def test_an_answer_that_makes_no_sense_is_no_verdict(idp: Issuer, body: bytes) -> None:
    idp.answer("/introspect", body)
    with pytest.raises(ServerUnavailable):
        await verifier_for(idp).verify_token("token")


async def test_an_answer_that_never_ends_is_cut_off(idp: Issuer) -> None:
    idp.answer("/introspect", b'{"active":true,"x":"' + b"x" * 65 * 1024 + b'"}')
    with pytest.raises(ServerUnavailable):
        await verifier_for(idp).verify_token("token")


async def test_an_endpoint_that_does_not_exist_is_an_outage() -> None:
    verifier = IntrospectionTokenVerifier(
        introspection_url="http://127.0.0.1:1/introspect",
        client_id="rs",
        client_secret="s",
        audience=AUDIENCE,
    )
    with pytest.raises(ServerUnavailable):
        await verifier.verify_token("token")


async def test_wrong_credentials_say_what_to_check(
    idp: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ServerUnavailable):
        await verifier_for(idp, client_secret="wrong-secret").verify_token("token")
    assert "HTTP 401: check client_id and client_secret" in caplog.text
    assert "wrong-secret" not in caplog.text


@pytest.mark.parametrize("pooled", [True, False])
async def test_connections_are_pooled_while_it_is_open(idp: Issuer, pooled: bool) -> None:
    verifier = verifier_for(idp, cache_ttl_seconds=0)
    token = idp.mint_opaque(aud=AUDIENCE)
    if pooled:
        async with verifier:
            assert await reason_of(verifier, token) is None
    assert await reason_of(verifier, token) is None


async def test_a_client_of_the_users_is_used_and_left_open(idp: Issuer) -> None:
    seen: list[str] = []

    async def look(request: httpx.Request) -> None:
        seen.append(request.headers["x-from"])

    async with httpx.AsyncClient(
        headers={"x-from": "the-user"}, event_hooks={"request": [look]}
    ) as client:
        async with verifier_for(idp, http_client=client, cache_ttl_seconds=0) as verifier:
            assert isinstance(verifier, IntrospectionTokenVerifier)
            assert await reason_of(verifier, idp.mint_opaque(aud=AUDIENCE)) is None
        assert not client.is_closed
    assert seen == ["the-user"]


async def test_claims_are_read_by_the_same_rules_as_those_of_a_jwt(idp: Issuer) -> None:
    rules = ClaimRules(
        scope_claim="permissions",
        client_id_claim="app",
        map_scopes=lambda claims: [f"role:{role}" for role in claims.get("roles", [])],
        scope_hierarchy={"role:admin": ["mcp:write"]},
    )
    verifier = verifier_for(idp, claims=rules)
    access = await verifier.verify(
        idp.mint_opaque(aud=AUDIENCE, permissions="p", app="the-app", roles=["admin"])
    )
    assert (access.client_id, access.scopes) == ("the-app", ["p", "role:admin", "mcp:write"])
    assert await reason_of(verifier, idp.mint_opaque(aud=AUDIENCE)) == "client_id"


async def test_any_audience_is_a_way_out_for_servers_that_send_none(idp: Issuer) -> None:
    verifier = verifier_for(idp, audience=ANY_AUDIENCE)
    assert (await verifier.verify(idp.mint_opaque())).resource is None


async def test_a_url_and_a_secret_of_any_characters_arrive_as_they_are() -> None:
    received: list[tuple[str, str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            received.append((self.path, self.headers["authorization"], body))
            answer = json.dumps({"active": False}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        ).start()
        verifier = IntrospectionTokenVerifier(
            introspection_url=f"http://127.0.0.1:{server.server_port}/introspect?tenant=a%2Fb",
            client_id="r:s é",
            client_secret="p:w+%/ü",
            audience=AUDIENCE,
        )
        assert await reason_of(verifier, "a+b/c==") == "inactive"
        server.shutdown()
    # RFC 6749 §2.3.1: both halves are form-encoded before they are put together. So a colon in them
    # is no separator.
    path, authorization, body = received[0]
    assert path == "/introspect?tenant=a%2Fb"
    assert body == b"token=a%2Bb%2Fc%3D%3D&token_type_hint=access_token"
    assert (
        authorization == "Basic " + base64.b64encode(b"r%3As+%C3%A9:p%3Aw%2B%25%2F%C3%BC").decode()
    )
