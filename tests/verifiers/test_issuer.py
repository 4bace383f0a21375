"""``asgi_mcp_auth.testing``, which users' own tests rely on."""

from __future__ import annotations

import base64
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

import pytest

from asgi_mcp_auth import ANY_AUDIENCE, InvalidToken, JWTVerifier
from asgi_mcp_auth.testing import INTROSPECTION_CLIENT, FrozenClock, Issuer, sign_jwt
from tests.support.rows import rows
from tests.tables.metadata_paths import ISSUERS


def get(url: str, form: dict[str, str] | None = None, authorization: str = "") -> tuple[int, Any]:
    data = None if form is None else urllib.parse.urlencode(form).encode()
    request = urllib.request.Request(
        url, data, {"Authorization": authorization} if authorization else {}
    )
    try:
        with urllib.request.urlopen(request) as response:
            return response.status, json.loads(response.read() or b"null")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read() or b"null")


def claims_of(token: str) -> dict[str, Any]:
    payload = token.split(".")[1]
    claims: dict[str, Any] = json.loads(
        base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
    )
    return claims


def test_a_frozen_clock_moves_only_when_it_is_told_to() -> None:
    clock = FrozenClock(at=1000.0)
    assert (clock.time(), clock.time()) == (1000.0, 1000.0)
    before = clock.monotonic()
    clock.advance(10)
    assert (clock.time(), clock.monotonic() - before) == (1010.0, 10)
    clock.jump(-500)
    assert (clock.time(), clock.monotonic() - before) == (510.0, 10)


@rows(("path", "targets"), ISSUERS)
def test_the_issuer_is_found_where_the_standards_look_for_it(path: str, targets: list[str]) -> None:
    with Issuer(path=path) as idp:
        assert idp.issuer.endswith(path)
        path = path.removesuffix("/")
        root = idp.jwks_uri.removesuffix(f"{path}/jwks")
        for target in targets:
            status, document = get(root + target)
            assert (status, document["issuer"], document["jwks_uri"]) == (
                200,
                idp.issuer,
                idp.jwks_uri,
            )
        assert get(idp.jwks_uri) == (200, idp.jwks)
        assert get(f"{root}{path}/nothing")[0] == 404
        assert (idp.hits["/jwks"], idp.hits["/nothing"]) == (1, 1)


def test_a_minted_token_has_the_usual_claims_and_those_that_were_asked_for() -> None:
    clock = FrozenClock()
    idp = Issuer(algorithms=["ES256"], clock=clock)
    with idp:
        usual = claims_of(idp.mint())
        now = int(clock.time())
        assert {name: usual[name] for name in ("iss", "sub", "client_id", "iat", "exp")} == {
            "iss": idp.issuer,
            "sub": "alice",
            "client_id": "test-client",
            "iat": now,
            "exp": now + 300,
        }
        assert "aud" not in usual
        other = claims_of(idp.mint(sub=None, scope="a b", iss="https://other.example"))
        assert ("sub" in other, other["scope"], other["iss"]) == (
            False,
            "a b",
            "https://other.example",
        )
        assert claims_of(idp.mint())["jti"] != claims_of(idp.mint())["jti"]


@pytest.mark.asyncio
async def test_each_algorithm_has_its_key_and_a_header_can_be_bent() -> None:
    algorithms = ["RS256", "ES256", "EdDSA", "PS256", "ES256K", "Ed448"]
    with Issuer(algorithms=algorithms) as idp:
        verifier = JWTVerifier(issuer=idp.issuer, audience=ANY_AUDIENCE)
        for algorithm in algorithms:
            assert (await verifier.verify(idp.mint(algorithm=algorithm))).subject == "alice"
        for header, reason in (
            ({"kid": "x"}, "unknown_key"),
            ({"alg": None}, "algorithm"),
            ({"typ": "x"}, "type"),
        ):
            with pytest.raises(InvalidToken) as refused:
                await verifier.verify(idp.mint(header=header))
            assert refused.value.reason == reason
        impossible = sign_jwt(
            idp.keys["ES256"], {"alg": "ES256", "kid": idp.keys["ES256"].key_id}, b"not json"
        )
        with pytest.raises(InvalidToken) as refused:
            await verifier.verify(impossible)
        assert refused.value.reason == "payload"


@pytest.mark.asyncio
async def test_rotation_keeps_old_keys_published_unless_they_are_dropped() -> None:
    with Issuer(algorithms=["ES256"]) as idp:
        old = idp.mint()
        idp.rotate()
        assert len(idp.jwks["keys"]) == 2
        for token in (old, idp.mint()):
            verifier = JWTVerifier(issuer=idp.issuer, audience=ANY_AUDIENCE)
            assert (await verifier.verify(token)).subject == "alice"
        idp.rotate(drop=True)
        assert idp.jwks["keys"] == [idp.public_jwk("ES256")]


def basic(client_id: str, secret: str) -> str:
    return "Basic " + base64.b64encode(f"{client_id}:{secret}".encode()).decode()


def test_introspection_answers_its_client_only() -> None:
    clock = FrozenClock()
    client_id, secret = INTROSPECTION_CLIENT
    with Issuer(algorithms=["ES256"], clock=clock) as idp:
        token = idp.mint_opaque(scope="a", sub="bob", client_id=None)
        form = {"token": token}
        status, answer = get(idp.introspection_url, form, basic(client_id, secret))
        assert (status, answer["active"], answer["sub"], answer["scope"]) == (200, True, "bob", "a")
        assert (answer["iss"], "client_id" in answer) == (idp.issuer, False)
        assert (
            get(idp.introspection_url, {**form, "client_id": client_id, "client_secret": secret})[1]
            == answer
        )
        assert get(idp.introspection_url, form, f"Bearer {secret}")[1] == answer
        for authorization in (
            "",
            basic(client_id, "wrong"),
            basic("wrong", secret),
            "Bearer wrong",
            "Digest x",
        ):
            assert get(idp.introspection_url, form, authorization) == (
                401,
                {"error": "invalid_client"},
            )


def test_an_opaque_token_ends_when_it_is_revoked_unknown_or_expired() -> None:
    clock = FrozenClock()
    client = basic(*INTROSPECTION_CLIENT)
    with Issuer(algorithms=["ES256"], clock=clock) as idp:
        tokens = [idp.mint_opaque(), idp.mint_opaque(exp=None), "unknown"]
        idp.revoke(idp.mint_opaque())
        revoked = idp.mint_opaque()
        idp.revoke(revoked)
        clock.advance(300)
        answers = [
            get(idp.introspection_url, {"token": token}, client)[1]["active"]
            for token in (*tokens, revoked)
        ]
        assert answers == [False, True, False, False]


def test_the_issuer_misbehaves_as_often_as_it_is_told_to() -> None:
    with Issuer(algorithms=["ES256"]) as idp:
        idp.fail("/jwks", status=500, times=2)
        assert [get(idp.jwks_uri)[0] for _ in range(3)] == [500, 500, 200]
        idp.answer("/jwks", b'{"mine": 1}', headers={"content-type": "text/plain"})
        assert get(idp.jwks_uri) == (200, {"mine": 1})
        idp.delay("/jwks", 0.1)
        began = time.monotonic()
        get(idp.jwks_uri)
        assert time.monotonic() - began >= 0.1
        idp.jwks_headers = {"cache-control": "max-age=60"}
        idp.reset()
        assert get(idp.jwks_uri) == (200, idp.jwks)
        assert idp.jwks_headers == {}
        with urllib.request.urlopen(idp.jwks_uri) as response:
            assert response.headers["cache-control"] is None
