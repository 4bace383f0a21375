"""JWTVerifier at its edges: header members, lengths, the cache, contradictory settings."""

from __future__ import annotations

import asyncio
import functools
import inspect
import json
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from asgi_mcp_auth import (
    ClaimRules,
    ConfigurationError,
    InvalidToken,
    JWKSOptions,
    JWTVerifier,
    RemoteJWKS,
)
from asgi_mcp_auth._jose import ASYMMETRIC, SigningKey
from asgi_mcp_auth._json import encode_base64url
from asgi_mcp_auth.testing import FrozenClock

NOW = 1_800_000_000
ISSUER = "https://idp.example.com"
AUDIENCE = "https://mcp.example.com/mcp"
SECRET = "a shared secret of 32 bytes: é" + "x" * 8


@functools.cache
def signer(algorithm: str = "Ed25519", key_id: str = "one") -> SigningKey:
    return SigningKey(algorithm, key_id)


def pem() -> bytes:
    key: bytes = (
        signer()._private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    return key


def verifier(**settings: Any) -> JWTVerifier:
    usual = {
        "public_key": signer().public_jwk(),
        "issuer": ISSUER,
        "audience": AUDIENCE,
        "clock": FrozenClock(NOW),
    }
    return JWTVerifier(**{**usual, **settings})


def header(**changes: Any) -> dict[str, Any]:
    return {"alg": "Ed25519", "kid": "one", **changes}


def forge(head: Any = None, claims: Any = None, key: Any = None) -> str:
    usual = {"iss": ISSUER, "aud": AUDIENCE, "exp": NOW + 300, "client_id": "cli"}
    payload = (
        claims if isinstance(claims, bytes) else json.dumps({**usual, **(claims or {})}).encode()
    )
    first = head if isinstance(head, bytes) else json.dumps(head or header()).encode()
    signing_input = f"{encode_base64url(first)}.{encode_base64url(payload)}"
    return f"{signing_input}.{encode_base64url((key or signer()).sign(signing_input.encode()))}"


async def refusal(own: JWTVerifier, token: str) -> str:
    with pytest.raises(InvalidToken) as caught:
        await own.verify(token)
    return caught.value.reason


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"alg": "none"}, "algorithm"),
        ({"alg": "ed25519"}, "algorithm"),
        ({"alg": None}, "algorithm"),
        ({"alg": ["Ed25519"]}, "algorithm"),
        ({"alg": "HS256"}, "algorithm"),
        ({"crit": []}, "critical_header"),
        ({"crit": None}, "critical_header"),
        *(
            ({name: value}, "header")
            for name in ("jwk", "jku", "x5u", "x5c", "b64", "zip", "enc")
            for value in ("", None)
        ),
        ({"typ": ""}, "type"),
        ({"typ": None}, "type"),
        ({"typ": 1}, "type"),
        ({"typ": ["JWT"]}, "type"),
        ({"typ": "dpop+jwt"}, "type"),
        ({"typ": "application/jwt"}, "type"),
        ({"typ": "at+jw"}, "type"),
        ({"kid": ""}, "key_id"),
        ({"kid": None}, "key_id"),
        ({"kid": 1}, "key_id"),
        ({"kid": "x" * 257}, "key_id"),
        ({"kid": "é" * 129}, "key_id"),
        ({"kid": "x" * 256}, "unknown_key"),
        ({"kid": "é" * 128}, "unknown_key"),
        ({"kid": "two"}, "unknown_key"),
        ({"kid": "x"}, "unknown_key"),
        ({"alg": "EdDSA"}, "unknown_key"),
        ({"alg": "ES256"}, "unknown_key"),
    ],
)
async def test_a_header_member_that_is_wrong_refuses_the_token(
    members: dict[str, Any], reason: str
) -> None:
    own = verifier()
    token = forge(header(**members))
    assert await refusal(own, token) == reason
    assert await refusal(own, token) == reason, "the second time"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "typ", ["JWT", "jwt", "at+jwt", "AT+JWT", "application/at+jwt", "Application/At+Jwt"]
)
async def test_the_types_of_access_tokens_are_taken(typ: str) -> None:
    assert (await verifier().verify(forge(header(typ=typ)))).client_id == "cli"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("typ", "accepted"),
    [("at+jwt", True), ("application/at+jwt", True), ("JWT", False), (None, False)],
)
async def test_rfc_9068_wants_its_own_type(typ: str | None, accepted: bool) -> None:
    own = verifier(claims=ClaimRules(require_at_jwt=True))
    token = forge(header() if typ is None else header(typ=typ), {"sub": "alice"})
    if accepted:
        assert (await own.verify(token)).subject == "alice"
    else:
        assert await refusal(own, token) == "type"


@pytest.mark.asyncio
async def test_header_members_that_say_nothing_are_ignored() -> None:
    for members in ({"cty": "JWT"}, {"x5t": "x"}, {"anything": [1]}):
        await verifier().verify(forge(header(**members)))
    await verifier().verify(forge({"alg": "Ed25519"}))


@pytest.mark.asyncio
@pytest.mark.parametrize("token", ["", ".", "a.b", "a.b.c.d", "a..b.c.d", "é.b.c", "opaque"])
async def test_what_has_not_three_ascii_parts_is_malformed(token: str) -> None:
    assert await refusal(verifier(), token) == "malformed"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "head", [b"", b"{", b"[]", b'"x"', b"\xff", b'{"alg":"Ed25519","alg":"Ed25519"}']
)
async def test_a_header_that_is_no_object_is_refused_as_header(head: bytes) -> None:
    assert await refusal(verifier(), forge(head)) == "header"


@pytest.mark.asyncio
@pytest.mark.parametrize("payload", [b"", b"{", b"[]", b"1", b'{"exp":1,"exp":1}', b'{"exp":NaN}'])
async def test_a_payload_that_is_no_object_is_refused_after_its_signature_only(
    payload: bytes,
) -> None:
    assert await refusal(verifier(), forge(claims=payload)) == "payload"
    assert (
        await refusal(verifier(), forge(claims=payload, key=SigningKey("Ed25519", "one")))
        == "signature"
    )


@pytest.mark.asyncio
async def test_another_spelling_of_a_part_is_refused() -> None:
    head, payload, signature = forge().split(".")
    own = verifier()
    assert await refusal(own, f"{head}=.{payload}.{signature}") == "header"
    assert await refusal(own, f"{head}.{payload}=.{signature}") == "signature"
    assert await refusal(own, f"{head}.{payload}.{signature}=") == "malformed"
    assert await refusal(own, f"{head}.{payload}.") == "signature"
    assert await refusal(own, f"{head}..{signature}") == "signature"
    assert await refusal(own, f".{payload}.{signature}") == "header"
    await own.verify(f"{head}.{payload}.{signature}")


@pytest.mark.asyncio
async def test_a_token_of_16_kib_is_looked_at_and_a_longer_one_is_not() -> None:
    own, empty = verifier(), len(forge(claims={"pad": ""}))
    size = (16384 - empty) * 3 // 4
    sizes = {
        len(token): token
        for token in (forge(claims={"pad": "x" * each}) for each in range(size - 3, size + 4))
    }
    for length, token in sizes.items():
        if length <= 16384:
            await own.verify(token)
        else:
            assert await refusal(own, token) == "too_long"
    assert max(length for length in sizes if length <= 16384) >= 16383
    assert await refusal(own, "x" * 16384) == "malformed"
    assert await refusal(own, "x" * 16385) == "too_long"


@pytest.mark.asyncio
@pytest.mark.parametrize("token", [None, b"a.b.c", 1, ["a"]])
async def test_what_is_no_text_is_a_programming_error(token: Any) -> None:
    with pytest.raises(TypeError, match="must be a str"):
        await verifier().verify(token)


@pytest.mark.asyncio
@pytest.mark.parametrize("size", [0, 1, 10])
@pytest.mark.parametrize("leeway", [0, 30])
async def test_a_remembered_token_ends_in_the_same_second_as_a_new_one(
    size: int, leeway: int
) -> None:
    clock = FrozenClock(NOW)
    own = verifier(clock=clock, token_cache_size=size, leeway_seconds=leeway)
    token = forge(claims={"exp": NOW + 10, "scope": "a"})
    first = await own.verify(token)
    clock.advance(9.75 + leeway)
    again = await own.verify(token)
    assert again is not first
    assert (again.scopes, again.claims, again.token) == (["a"], first.claims, token)
    assert len(own._tokens) == min(size, 1)
    clock.advance(0.25)
    assert await refusal(own, token) == "expired"


@pytest.mark.asyncio
async def test_a_remembered_token_may_be_younger_than_the_clock_after_it_was_set_back() -> None:
    clock = FrozenClock(NOW)
    own = verifier(clock=clock)
    token = forge()
    await own.verify(token)
    clock.jump(-3600)
    assert (await own.verify(token)).client_id == "cli"


@pytest.mark.asyncio
async def test_the_caches_forget_what_was_used_longest_ago() -> None:
    own = verifier(token_cache_size=3)
    for number in range(300):
        await own.verify(forge(header(pad=number), {"jti": f"{number}"}))
    assert len(own._tokens) == 3
    assert len(own._headers) == 256
    assert inspect.signature(JWTVerifier).parameters["token_cache_size"].default == 10_000


@pytest.mark.asyncio
async def test_a_refused_header_is_not_remembered() -> None:
    own = verifier()
    for number in range(5):
        await refusal(own, forge(header(alg="none", pad=number)))
    assert len(own._headers) == 0


@pytest.mark.asyncio
@pytest.mark.parametrize("key", ["pem", "pem text", "jwk", "list", "set", "mixed"])
async def test_a_public_key_may_be_given_in_each_of_these_forms(key: str) -> None:
    jwk, other = signer().public_jwk(), signer("ES256", "two").public_jwk()
    forms = {
        "pem": pem(),
        "pem text": pem().decode(),
        "jwk": jwk,
        "list": [other, jwk],
        "set": {"keys": [other, jwk]},
        "mixed": [other, pem()],
    }
    own = verifier(public_key=forms[key])
    assert (await own.verify(forge())).client_id == "cli"
    assert await refusal(own, forge(key=SigningKey("Ed25519", "one"))) == "signature"
    assert own.jwks == ()


@pytest.mark.asyncio
async def test_a_shared_secret_is_bytes_or_text_in_utf_8() -> None:
    for algorithm in ("HS256", "HS384", "HS512"):
        token = forge({"alg": algorithm}, key=SigningKey(algorithm, "one", SECRET.encode()))
        for form in (SECRET, SECRET.encode()):
            assert (
                await verifier(public_key=form, algorithm=algorithm).verify(token)
            ).client_id == "cli"
            await verifier(public_key=form, algorithm=["HS256", "HS384", "HS512"]).verify(token)
        assert (
            await refusal(verifier(public_key=SECRET + "x", algorithm=algorithm), token)
            == "signature"
        )
        assert await refusal(verifier(), token) == "algorithm"


@pytest.mark.asyncio
async def test_only_the_named_algorithms_are_allowed() -> None:
    rsa = signer("RS256").public_jwk() | {"alg": None}
    own = verifier(public_key=rsa, algorithm="RS512")
    assert await refusal(own, forge({"alg": "RS256"}, key=signer("RS256"))) == "algorithm"
    assert verifier()._algorithms == frozenset(ASYMMETRIC)
    assert verifier(algorithm=["Ed25519", "RS256"])._algorithms == {"Ed25519", "RS256"}


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"jwks_uri": "https://a"}, "both set"),
        ({"public_key": None, "algorithm": "HS256"}, "needs the shared secret"),
        (
            {"public_key": None, "algorithm": "HS256", "jwks_uri": "https://a"},
            "needs the shared secret",
        ),
        ({"public_key": None, "issuer": None}, "no keys"),
        ({"public_key": None, "issuer": "not a url"}, "issuer"),
        ({"public_key": None, "jwks_uri": "http://a"}, "jwks_uri"),
        ({"algorithm": "none"}, "is not one of"),
        ({"algorithm": []}, "algorithm"),
        ({"algorithm": ["Ed25519", "HS256"]}, "mixes"),
        ({"algorithm": ["HS256", "RS256"], "public_key": SECRET}, "mixes"),
        ({"algorithm": "RS256"}, "matches none"),
        ({"public_key": []}, "matches none"),
        ({"public_key": {"keys": []}}, "matches none"),
        ({"public_key": {"keys": None}}, "cannot be used"),
        ({"public_key": {}}, "cannot be used"),
        ({"public_key": 1}, "cannot be used"),
        ({"public_key": "x"}, "cannot be used"),
        ({"public_key": SECRET}, "cannot be used"),
        ({"public_key": "x" * 31, "algorithm": "HS256"}, "32 bytes"),
        ({"clock": 1}, "clock"),
        ({"claims": {}}, "claims"),
        ({"jwks": {}}, "jwks"),
        ({"token_cache_size": -1}, "token_cache_size"),
        ({"token_cache_size": True}, "token_cache_size"),
        ({"leeway_seconds": 301}, "leeway_seconds"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    settings: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        verifier(**settings)


def test_two_keys_with_one_name_are_refused_unless_their_algorithms_tell_them_apart() -> None:
    with pytest.raises(ConfigurationError, match="same kid"):
        verifier(public_key=[signer().public_jwk(), SigningKey("Ed25519", "one").public_jwk()])
    verifier(public_key=[signer().public_jwk(), signer("ES256", "one").public_jwk()])
    verifier(public_key=[pem(), pem()])


def test_one_key_set_serves_all_issuers_and_discovery_makes_one_for_each() -> None:
    issuers = [ISSUER, "https://b.example"]
    (shared,) = verifier(public_key=None, jwks_uri="https://a/jwks?v=1", issuer=issuers).jwks
    assert isinstance(shared, RemoteJWKS)
    assert shared.state.jwks_uri == "https://a/jwks?v=1"
    found = verifier(public_key=None, issuer=issuers, jwks=JWKSOptions(timeout_seconds=1)).jwks
    assert [each.state.jwks_uri for each in found] == [None, None]
    assert len(set(found)) == 2
    (anyone,) = verifier(public_key=None, jwks_uri="https://a/jwks", issuer=None).jwks
    assert anyone is not shared


@pytest.mark.asyncio
async def test_with_several_issuers_the_claimed_one_is_looked_up_before_any_key_is_fetched() -> (
    None
):
    own = verifier(public_key=None, issuer=[ISSUER, "https://b.example"])
    assert await refusal(own, forge(claims={"iss": "https://c.example"})) == "issuer"
    assert await refusal(own, forge(claims=b"{}")) == "missing_iss"
    assert await refusal(own, forge(claims={"iss": 1})) == "missing_iss"
    assert [each.state.fetches for each in own.jwks] == [0, 0]


@pytest.mark.asyncio
async def test_static_keys_need_no_start_and_mind_none() -> None:
    own = verifier(issuer=[ISSUER, "https://b.example"])
    async with own:
        await own.verify(forge())
    assert (await own.verify(forge(claims={"iss": "https://b.example"}))).client_id == "cli"
    assert own.takes_opaque_tokens is False
    assert own.issuers == (ISSUER, "https://b.example")


@pytest.mark.asyncio
@pytest.mark.parametrize(("size", "calls"), [(10, 1), (0, 3)])
async def test_a_remembered_token_is_not_read_again(size: int, calls: int) -> None:
    """``map_scopes`` is called once per token."""
    seen: list[Any] = []

    def remember(claims: Any) -> list[str]:
        seen.append(claims)
        return ["mapped"]

    clock = FrozenClock(NOW)
    rules = ClaimRules(map_scopes=remember)
    own = verifier(clock=clock, token_cache_size=size, leeway_seconds=30, claims=rules)
    token = forge(claims={"exp": NOW + 10})
    for _ in range(3):
        assert (await own.verify(token)).scopes == ["mapped"]
        clock.advance(13)
    assert len(seen) == calls


def test_scopes_and_url_of_this_server_are_the_verifiers() -> None:
    own = verifier(required_scopes=["a", "b"], base_url="https://mcp.example.com")
    assert own.required_scopes == ["a", "b"]
    assert own.base_url == "https://mcp.example.com"
    assert (verifier().required_scopes, verifier().base_url) == ([], None)


class Provider:
    """A key set and its metadata behind a client of the user's own: no network, and every request
    counted.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.client = httpx.AsyncClient(transport=httpx.MockTransport(self.answer))

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.url.path)
        keys = {"keys": [signer().public_jwk()]}
        document = (
            keys
            if request.url.path == "/jwks"
            else {"issuer": ISSUER, "jwks_uri": f"{ISSUER}/jwks"}
        )
        return httpx.Response(200, stream=httpx.ByteStream(json.dumps(document).encode()))


@pytest.mark.asyncio
@pytest.mark.parametrize("discovered", [False, True])
async def test_keys_are_fetched_and_renewed_as_the_options_say(discovered: bool) -> None:
    provider, clock = Provider(), FrozenClock(NOW)
    options = JWKSOptions(ttl_seconds=100, http_client=provider.client)
    source = {} if discovered else {"jwks_uri": f"{ISSUER}/jwks"}
    own = verifier(public_key=None, clock=clock, jwks=options, **source)
    token = forge()
    async with provider.client:
        await own.verify(token)
        assert provider.asked.count("/jwks") == 1
        assert len(provider.asked) == 1 + discovered
        clock.advance(79.75)
        await own.verify(token)
        await asyncio.sleep(0.01)
        assert provider.asked.count("/jwks") == 1
        clock.advance(0.25)
        # the keys have reached 80 % of their lifetime: a refresh starts in the background
        await own.verify(token)
        await asyncio.sleep(0.05)
        assert provider.asked.count("/jwks") == 2
        await own.stop()
