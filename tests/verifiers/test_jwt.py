"""JWTVerifier in practice: the sources of its keys, and the meaning of claims."""

from __future__ import annotations

import datetime
from typing import Any

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
    JWTVerifier,
    RemoteAuthProvider,
    ServerUnavailable,
)
from asgi_mcp_auth._jose import ASYMMETRIC, SYMMETRIC, SigningKey, UnusableKey, keys_from_pem
from asgi_mcp_auth.claims import expand_hierarchy
from asgi_mcp_auth.testing import FrozenClock, Issuer
from tests.support.gate import ABSENT, AUDIENCE, BASE_URL, ISSUER, NOW, Gate, signing_key

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


@pytest.mark.parametrize("algorithm", ASYMMETRIC)
async def test_every_asymmetric_algorithm_is_there_without_being_asked_for(algorithm: str) -> None:
    gate = Gate(algorithm=algorithm)
    await gate.accepts(gate.good())
    await gate.refuses(gate.forge(key=signing_key(algorithm, "stranger")), "unknown_key")


@pytest.mark.parametrize("algorithm", ["ES256", "RS256"])
@pytest.mark.parametrize(
    "spell",
    [
        lambda key: pem(key),
        lambda key: pem(key).decode(),
        lambda key: [pem(key)],
        lambda key: certificate(key),
        lambda key: certificate(key).decode(),
        lambda key: key.public_jwk(),
        lambda key: {"keys": [key.public_jwk()]},
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


@pytest.mark.parametrize(
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


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"client_id": ABSENT, "sub": ABSENT}, "client_id"),
        ({"client_id": ""}, "client_id"),
        ({"client_id": None}, "client_id"),
        ({"client_id": ["a"]}, "client_id"),
        ({"client_id": "a\nb"}, "client_id"),
        ({"client_id": ABSENT, "azp": 5}, "client_id"),
        ({"client_id": ABSENT, "sub": 5}, "subject"),
    ],
    ids=str,
)
async def test_a_token_that_names_no_client_is_refused(claims: dict[str, Any], reason: str) -> None:
    gate = Gate()
    await gate.refuses(gate.forge(claims=claims), reason)


async def test_another_claim_may_name_the_client_and_then_no_other_does() -> None:
    gate = Gate(
        claims=ClaimRules(client_id_claim="app"), good=lambda: gate.forge(claims={"app": "the-app"})
    )
    assert (await gate.accepts(gate.good())).client_id == "the-app"
    await gate.refuses(gate.forge(), "client_id")


@pytest.mark.parametrize(
    ("hierarchy", "expanded"),
    [
        (None, {}),
        ({}, {}),
        ({"a": []}, {"a": ()}),
        ({"a": ["b"]}, {"a": ("b",)}),
        ({"a": ["b"], "b": ["c"]}, {"a": ("b", "c"), "b": ("c",)}),
        ({"a": ["b"], "b": ["a"]}, {"a": ("b",), "b": ("a",)}),
        ({"a": ["a"]}, {"a": ()}),
        ({"a": ["b", "c"], "b": ["c"], "c": ["b"]}, {"a": ("b", "c"), "b": ("c",), "c": ("b",)}),
    ],
    ids=str,
)
async def test_implied_scopes_are_followed_to_the_end_and_circles_end(
    hierarchy: Any, expanded: Any
) -> None:
    assert {
        name: tuple(sorted(implied)) for name, implied in expand_hierarchy(hierarchy).items()
    } == expanded


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
    assert str(caught.value) == str(other.value) == "The access token is invalid or expired"
