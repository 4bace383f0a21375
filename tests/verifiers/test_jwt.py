"""JWTVerifier in practice: the sources of its keys, the meaning of claims, header members, lengths,
the cache, and settings that contradict each other.
"""

from __future__ import annotations

import asyncio
import datetime
import functools
import inspect
import json
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from asgi_mcp_auth import (
    ANY_AUDIENCE,
    ClaimRules,
    ConfigurationError,
    InvalidToken,
    JWKSOptions,
    JWTVerifier,
    RemoteAuthProvider,
    RemoteJWKS,
    ServerUnavailable,
)
from asgi_mcp_auth._jose import ASYMMETRIC, SYMMETRIC, SigningKey, UnusableKey, keys_from_pem
from asgi_mcp_auth._json import encode_base64url
from asgi_mcp_auth.testing import FrozenClock, Issuer
from tests.support.gate import ABSENT, AUDIENCE, BASE_URL, ISSUER, NOW, Gate, signing_key
from tests.support.rows import rows
from tests.tables.json_texts import broken

pytestmark = pytest.mark.asyncio


def pem(key: SigningKey) -> bytes:
    made: bytes = key._private.public_key().public_bytes(
        Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
    )
    return made


def certificate(key: SigningKey) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "idp")])
    start = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key._private.public_key())
        .serial_number(1)
        .not_valid_before(start)
        # long past: the configuration vouches for the key
        .not_valid_after(start + datetime.timedelta(days=1))
        .sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    )
    return made.public_bytes(Encoding.PEM)


@rows("algorithm", ASYMMETRIC)
async def test_every_asymmetric_algorithm_is_there_without_being_asked_for(algorithm: str) -> None:
    gate = Gate(algorithm=algorithm)
    await gate.accepts(gate.good())
    await gate.refuses(gate.forge(key=signing_key(algorithm, "stranger")), "unknown_key")


@rows("algorithm", ["ES256", "RS256"])
@rows(
    "spell",
    [
        lambda key: pem(key),
        lambda key: pem(key).decode(),
        lambda key: [pem(key)],
        lambda key: certificate(key),
        lambda key: certificate(key).decode(),
        lambda key: key.public_jwk(),
        lambda key: {"keys": [signing_key("RS512").public_jwk(), key.public_jwk()]},
        lambda key: [key.public_jwk(), pem(signing_key("RS512"))],
        lambda key: b"Subject: something\n" + pem(key),
    ],
    ids=[
        "bytes",
        "str",
        "list",
        "certificate",
        "certificate-str",
        "jwk",
        "jwks",
        "mixed",
        "with-preamble",
    ],
)
async def test_a_public_key_can_be_given_in_every_usual_form(algorithm: str, spell: Any) -> None:
    gate = Gate(algorithm=algorithm, public_key=spell(signing_key(algorithm)))
    await gate.refuses(
        gate.forge(key=signing_key(algorithm, "stranger")), "signature", "unknown_key"
    )


async def test_a_pem_has_no_key_id_so_a_token_may_name_any() -> None:
    gate = Gate(public_key=pem(signing_key()))
    for kid in ("key-1", "whatever", ABSENT):
        await gate.accepts(gate.forge(header={"kid": kid}))


async def test_a_jwk_with_a_key_id_answers_to_that_one_only() -> None:
    gate = Gate(public_key=[signing_key().public_jwk()])
    await gate.accepts(gate.forge(header={"kid": ABSENT}))
    await gate.refuses(gate.forge(header={"kid": "whatever"}), "unknown_key")
    mixed = Gate(public_key=[signing_key("ES256", "named").public_jwk(), pem(signing_key())])
    await mixed.accepts(mixed.forge(header={"kid": "whatever"}))
    await mixed.accepts(mixed.forge(key=signing_key("ES256", "named")))
    await mixed.refuses(
        mixed.forge(key=signing_key("ES256", "named"), header={"kid": "whatever"}), "signature"
    )


async def test_old_and_new_shared_secrets_work_side_by_side() -> None:
    import hmac

    old, new = "0" * 32, "1" * 32
    verifier = JWTVerifier(
        public_key=[old, new], algorithm=SYMMETRIC, issuer=ISSUER, clock=FrozenClock(NOW)
    )

    def signed(secret: str) -> str:
        return gate.forge(
            header={"alg": "HS256"}, sign=lambda data: hmac.digest(secret.encode(), data, "sha256")
        )

    gate = Gate(verifier, good=lambda: signed(old))
    await gate.accepts(signed(new))
    await gate.refuses(signed("2" * 32), "signature")


@pytest.mark.parametrize("path", ["", "/tenant", "/tenant/a"])
async def test_with_only_an_issuer_its_keys_are_discovered(path: str) -> None:
    with Issuer(algorithms=("ES256",), path=path) as idp:
        gate = Gate(
            JWTVerifier(issuer=idp.issuer, token_cache_size=0), good=lambda: idp.mint(aud=AUDIENCE)
        )
        await gate.refuses(idp.mint(aud="x"), "audience")
        assert idp.hits["/jwks"] == 1
        assert [each.state.jwks_uri for each in gate.verifier.jwks] == [idp.jwks_uri]


async def test_several_issuers_may_share_one_key_set() -> None:
    with Issuer(algorithms=("ES256",)) as idp:
        issuers = [idp.issuer, f"{idp.issuer}/other"]
        verifier = JWTVerifier(issuer=issuers, jwks_uri=idp.jwks_uri, token_cache_size=0)
        gate = Gate(verifier, good=lambda: idp.mint(aud=AUDIENCE))
        await gate.accepts(idp.mint(aud=AUDIENCE, iss=issuers[1]))
        await gate.refuses(idp.mint(aud=AUDIENCE, iss=f"{idp.issuer}/third"), "issuer")
        assert len(verifier.jwks) == 1
        assert idp.hits["/jwks"] == 1


async def test_fixed_keys_are_no_remote_key_sets() -> None:
    verifier = JWTVerifier(public_key=signing_key().public_jwk(), audience=AUDIENCE)
    assert verifier.jwks == ()
    async with verifier:
        pass


async def test_keys_that_cannot_be_had_are_an_outage_and_not_a_verdict() -> None:
    verifier = JWTVerifier(issuer=ISSUER, jwks_uri="http://127.0.0.1:1/jwks", audience=AUDIENCE)
    with pytest.raises(ServerUnavailable):
        await verifier.verify_token(Gate().good())
    async with verifier:  # and the start does not fail
        with pytest.raises(ServerUnavailable):
            await verifier.verify_token(Gate().good())


async def test_the_audience_is_bound_by_the_provider_that_knows_the_resource() -> None:
    key = signing_key().public_jwk()
    verifier = JWTVerifier(
        public_key=key, issuer=ISSUER, base_url=f"{BASE_URL}/", clock=FrozenClock(NOW)
    )
    verifier.set_mcp_path("/mcp")
    assert (await verifier.verify(Gate().good())).resource == AUDIENCE
    verifier.bind_audience(AUDIENCE)
    with pytest.raises(ConfigurationError, match="cannot protect two resources"):
        verifier.bind_audience("https://other.example")
    explicit = JWTVerifier(
        public_key=key, issuer=ISSUER, audience="api://x", clock=FrozenClock(NOW)
    )
    RemoteAuthProvider(explicit, [ISSUER], BASE_URL).set_mcp_path("/mcp")
    assert await explicit.verify_token(Gate().good()) is None


@rows(
    ("claims", "client_id"),
    [
        ({"client_id": "a", "azp": "b", "appid": "c", "cid": "d"}, "a"),
        ({"client_id": ABSENT, "azp": "b", "appid": "c", "cid": "d"}, "b"),
        ({"client_id": ABSENT, "appid": "c", "cid": "d"}, "c"),
        ({"client_id": ABSENT, "cid": "d"}, "d"),
        ({"client_id": ABSENT}, "alice"),
    ],
    ids=str,
)
async def test_the_client_is_named_by_the_first_claim_that_is_there(
    claims: dict[str, Any], client_id: str
) -> None:
    gate = Gate()
    assert (await gate.accepts(gate.forge(claims=claims))).client_id == client_id


@rows(
    ("claims", "client_id"),
    [
        ({"client_id": ABSENT, "sub": ABSENT}, "unknown"),
        ({"client_id": "", "sub": ""}, "unknown"),
        ({"client_id": None, "sub": None}, "unknown"),
        ({"client_id": ["a"], "sub": "alice"}, "alice"),
        ({"client_id": None, "azp": 5}, "5"),
        ({"client_id": ABSENT, "sub": 5}, "5"),
    ],
    ids=str,
)
async def test_a_token_that_names_no_client_is_its_subjects_or_an_unknown_ones(
    claims: dict[str, Any], client_id: str
) -> None:
    gate = Gate()
    assert (await gate.accepts(gate.forge(claims=claims))).client_id == client_id


async def test_a_client_that_cannot_be_printed_is_refused_after_an_audience_that_is_not_ours() -> (
    None
):
    gate = Gate()
    await gate.refuses(gate.forge(claims={"client_id": "a\nb"}), "client_id")
    for claims in ({"client_id": "a\nb"}, {"sub": "a\nb"}, {"client_id": ABSENT, "sub": ABSENT}):
        await gate.refuses(gate.forge(claims={**claims, "aud": "https://other"}), "audience")
        await gate.refuses(gate.forge(claims={**claims, "aud": None}), "missing_aud")


async def test_another_claim_may_name_the_client_and_then_no_other_does() -> None:
    gate = Gate(
        claims=ClaimRules(client_id_claim="app"), good=lambda: gate.forge(claims={"app": "the-app"})
    )
    assert (await gate.accepts(gate.good())).client_id == "the-app"
    await gate.refuses(gate.forge(), "client_id")


async def test_a_broad_scope_grants_the_narrow_ones_and_not_the_other_way_round() -> None:
    rules = ClaimRules(scope_hierarchy={"admin": ["write"], "write": ["read"]})
    gate = Gate(
        claims=rules, required_scopes=["read"], good=lambda: gate.forge(claims={"scope": "admin"})
    )
    assert (await gate.accepts(gate.good())).scopes == ["admin", "write", "read"]
    assert (await gate.accepts(gate.forge(claims={"scope": "read x"}))).scopes == ["read", "x"]
    wide = Gate(
        claims=rules, required_scopes=["admin"], good=lambda: gate.forge(claims={"scope": "admin"})
    )
    assert (await wide.call(gate.forge(claims={"scope": "write read"}))).status == 403


async def test_roles_become_scopes_and_imply_others() -> None:
    rules = ClaimRules(
        map_scopes=lambda claims: (f"role:{role}" for role in claims.get("roles", ())),
        scope_hierarchy={"role:admin": ["mcp:read", "mcp:write"]},
    )
    gate = Gate(claims=rules)
    access = await gate.accepts(gate.forge(claims={"roles": ["admin", "user"]}))
    assert access.scopes == ["mcp:read", "role:admin", "role:user", "mcp:write"]
    assert (await gate.accepts(gate.good())).scopes == ["mcp:read"]


async def test_scopes_of_a_claim_with_dots_or_a_url_for_a_name() -> None:
    gate = Gate(claims=ClaimRules(scope_claim="https://example.com/permissions"))
    access = await gate.accepts(
        gate.forge(claims={"https://example.com/permissions": ["a", "b", "a"]})
    )
    assert access.scopes == ["a", "b"]


async def test_a_fractional_expiry_counts_to_its_fraction() -> None:
    gate = Gate(token_cache_size=10)
    token = gate.forge(claims={"exp": NOW + 10.5})
    assert (await gate.accepts(token)).expires_at == NOW + 10
    gate.clock.advance(10.4)
    await gate.accepts(token)
    gate.clock.advance(0.1)
    await gate.only_refuses(token, "expired")


@pytest.mark.parametrize(
    "junk", [b"", b"not a key", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"]
)
async def test_what_is_no_pem_is_an_unusable_key(junk: bytes) -> None:
    with pytest.raises(UnusableKey, match="not a PEM public key"):
        keys_from_pem(junk, ASYMMETRIC)


async def test_any_audience_still_needs_everything_else() -> None:
    gate = Gate(audience=ANY_AUDIENCE)
    await gate.refuses(gate.forge(claims={"iss": "x"}), "issuer")
    await gate.refuses(gate.forge(claims={"exp": NOW}), "expired")


async def test_the_reason_of_a_refusal_is_for_the_operator_and_not_for_the_client() -> None:
    gate = Gate()
    with pytest.raises(InvalidToken) as caught:
        await gate.verifier.verify(gate.forge(claims={"exp": NOW}))
    assert caught.value.reason == "expired"
    with pytest.raises(InvalidToken) as other:
        await gate.verifier.verify(gate.forge(claims={"aud": "x"}))
    assert (
        str(caught.value)
        == str(other.value)
        == ("The access token is invalid or expired: sign in again")
    )


# ------------------------------------------------------------------------------------- at the edges

SECRET = "a shared secret of 32 bytes: é" + "x" * 8


@functools.cache
def signer(algorithm: str = "Ed25519", key_id: str = "one") -> SigningKey:
    return SigningKey(algorithm, key_id)


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


@rows(
    ("members", "reason"),
    [
        ({"alg": "none"}, "algorithm"),
        ({"alg": "ed25519"}, "algorithm"),
        ({"alg": None}, "algorithm"),
        ({"alg": ["Ed25519"]}, "algorithm"),
        ({"alg": "HS256"}, "algorithm"),
        ({"crit": []}, "critical_header"),
        ({"crit": None}, "critical_header"),
        *(({name: value}, "header") for name in ("b64", "zip", "enc") for value in ("", None)),
        ({"typ": "dpop+jwt"}, "type"),
        ({"typ": "application/jw"}, "type"),
        ({"typ": "at+jw"}, "type"),
        ({"kid": "x" * 257}, "unknown_key"),
        ({"kid": "é" * 1000}, "unknown_key"),
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


@rows(
    "typ",
    [
        *("JWT", "jwt", "application/jwt", "JOSE", "application/jose"),
        *("at+jwt", "AT+JWT", "application/at+jwt", "Application/At+Jwt"),
    ],
)
async def test_the_types_of_access_tokens_are_taken(typ: str) -> None:
    assert (await verifier().verify(forge(header(typ=typ)))).client_id == "cli"


@rows(
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


async def test_header_members_that_say_nothing_are_ignored() -> None:
    for members in ({"cty": "JWT"}, {"x5t": "x"}, {"anything": [1]}):
        await verifier().verify(forge(header(**members)))
    await verifier().verify(forge({"alg": "Ed25519"}))


@rows("kid", [None, "", 0, 1, True, 1.5, [], ["one"], {}, {"one": 1}])
async def test_a_key_id_that_is_no_name_counts_as_none(kid: Any) -> None:
    await verifier().verify(forge(header(kid=kid)))
    assert await refusal(verifier(), forge(header(kid=kid), key=signer(key_id="x"))) == "signature"


@rows("token", ["", ".", "a.b", "a.b.c.d", "a..b.c.d", "é.b.c", "opaque"])
async def test_what_has_not_three_ascii_parts_is_malformed(token: str) -> None:
    assert await refusal(verifier(), token) == "malformed"


@rows("head", broken(json.dumps(header()).encode()))
async def test_a_header_that_is_no_object_is_refused_as_header(head: bytes) -> None:
    assert await refusal(verifier(), forge(head)) == "header"


@rows("payload", broken(b'{"exp":1}'))
async def test_a_payload_that_is_no_object_is_refused_after_its_signature_only(
    payload: bytes,
) -> None:
    assert await refusal(verifier(), forge(claims=payload)) == "payload"
    assert (
        await refusal(verifier(), forge(claims=payload, key=SigningKey("Ed25519", "one")))
        == "signature"
    )


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


async def test_a_token_of_64_kib_is_looked_at_and_a_longer_one_is_not() -> None:
    own, empty = verifier(), len(forge(claims={"pad": ""}))
    size = (65536 - empty) * 3 // 4
    sizes = {
        len(token): token
        for token in (forge(claims={"pad": "x" * each}) for each in range(size - 3, size + 4))
    }
    for length, token in sizes.items():
        if length <= 65536:
            await own.verify(token)
        else:
            assert await refusal(own, token) == "too_long"
    assert max(length for length in sizes if length <= 65536) >= 65535
    assert await refusal(own, "x" * 65536) == "malformed"
    assert await refusal(own, "x" * 65537) == "too_long"


@rows("token", [None, b"a.b.c", 1, ["a"]])
async def test_what_is_no_text_is_a_programming_error(token: Any) -> None:
    with pytest.raises(TypeError, match="must be a str"):
        await verifier().verify(token)


@rows("size", [0, 1, 10])
@rows("leeway", [0, 30])
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


async def test_a_remembered_token_may_be_younger_than_the_clock_after_it_was_set_back() -> None:
    clock = FrozenClock(NOW)
    own = verifier(clock=clock)
    token = forge()
    await own.verify(token)
    clock.jump(-3600)
    assert (await own.verify(token)).client_id == "cli"


async def test_the_caches_forget_what_was_used_longest_ago() -> None:
    own = verifier(token_cache_size=3)
    for number in range(300):
        await own.verify(forge(header(pad=number), {"jti": f"{number}"}))
    assert len(own._tokens) == 3
    assert len(own._headers) == 256


async def test_10_000_tokens_are_remembered_unless_a_setting_says_otherwise() -> None:
    assert inspect.signature(JWTVerifier).parameters["token_cache_size"].default == 10_000


@rows(("length", "remembered"), [(4096, 1), (4098, 0)])
async def test_a_header_of_4_kib_is_remembered_and_a_longer_one_is_not(
    length: int, remembered: int
) -> None:
    own = verifier()
    empty = len(json.dumps(header(pad="")))
    token = forge(header(pad="x" * (length * 3 // 4 - empty)))
    assert token.index(".") == length
    for _ in range(2):
        await own.verify(token)
        assert len(own._headers) == remembered


async def test_a_refused_header_is_not_remembered() -> None:
    own = verifier()
    for number in range(5):
        await refusal(own, forge(header(alg="none", pad=number)))
    assert len(own._headers) == 0


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


async def test_only_the_named_algorithms_are_allowed() -> None:
    rsa = signer("RS256").public_jwk() | {"alg": None}
    own = verifier(public_key=rsa, algorithm="RS512")
    assert await refusal(own, forge({"alg": "RS256"}, key=signer("RS256"))) == "algorithm"
    assert verifier()._algorithms == frozenset(ASYMMETRIC)
    assert verifier(algorithm=["Ed25519", "RS256"])._algorithms == {"Ed25519", "RS256"}


@rows(
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
async def test_settings_that_contradict_each_other_are_refused(
    settings: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        verifier(**settings)


@pytest.mark.asyncio
async def test_two_keys_with_one_name_are_both_tried() -> None:
    other = SigningKey("Ed25519", "one")
    for own in (
        verifier(public_key=[signer().public_jwk(), other.public_jwk()]),
        verifier(public_key={"keys": [other.public_jwk(), signer().public_jwk()]}),
    ):
        await own.verify(forge())
        await own.verify(forge(key=other))
        assert await refusal(own, forge(key=SigningKey("Ed25519", "one"))) == "signature"


async def test_one_key_set_serves_all_issuers_and_discovery_makes_one_for_each() -> None:
    issuers = [ISSUER, "https://b.example"]
    (shared,) = verifier(public_key=None, jwks_uri="https://a/jwks?v=1", issuer=issuers).jwks
    assert isinstance(shared, RemoteJWKS)
    assert shared.state.jwks_uri == "https://a/jwks?v=1"
    found = verifier(public_key=None, issuer=issuers, jwks=JWKSOptions(timeout_seconds=1)).jwks
    assert [each.state.jwks_uri for each in found] == [None, None]
    assert len(set(found)) == 2
    (anyone,) = verifier(public_key=None, jwks_uri="https://a/jwks", issuer=None).jwks
    assert anyone is not shared


async def test_with_several_issuers_the_claimed_one_is_looked_up_before_any_key_is_fetched() -> (
    None
):
    own = verifier(public_key=None, issuer=[ISSUER, "https://b.example"])
    assert await refusal(own, forge(claims={"iss": "https://c.example"})) == "issuer"
    assert await refusal(own, forge(claims=b"{}")) == "missing_iss"
    assert await refusal(own, forge(claims={"iss": 1})) == "missing_iss"
    assert [each.state.fetches for each in own.jwks] == [0, 0]


async def test_static_keys_need_no_start_and_mind_none() -> None:
    own = verifier(issuer=[ISSUER, "https://b.example"])
    async with own:
        await own.verify(forge())
    assert (await own.verify(forge(claims={"iss": "https://b.example"}))).client_id == "cli"
    assert own.takes_opaque_tokens is False
    assert own.issuers == (ISSUER, "https://b.example")


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


async def test_scopes_and_url_of_this_server_are_the_verifiers() -> None:
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
