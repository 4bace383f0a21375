"""JSON Web Key (RFC 7517) and its parameters (RFC 7518 §6)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_mcp_auth._jose import ASYMMETRIC, SYMMETRIC, SigningKey, UnusableKey, keys_from_jwk
from asgi_mcp_auth._json import decode_base64url, encode_base64url
from asgi_mcp_auth.keys import key_set_from
from tests.rfc.test_rfc7515 import EC, RSA
from tests.support.gate import signing_key
from tests.support.rows import rows
from tests.tables.jwk_members import unusable

# Appendix A.1, whose first key is for encryption.
PUBLIC_KEYS: dict[str, Any] = {
    "keys": [
        {
            "kty": "EC",
            "crv": "P-256",
            "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
            "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
            "use": "enc",
            "kid": "1",
        },
        {
            "kty": "RSA",
            "n": (
                "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZ"
                "CiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJ"
                "ZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBn"
                "iIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
            ),
            "e": "AQAB",
            "alg": "RS256",
            "kid": "2011-04-29",
        },
    ]
}


def test_a_set_that_needs_names_takes_one_key_without_kid_but_not_beside_another() -> None:
    """§4.5: the kid is what tells the keys of a set apart."""
    named, unnamed = (signing_key("ES256", each).public_jwk() for each in ("one", "two"))
    del unnamed["kid"]
    keys, _ = key_set_from({"keys": [unnamed]}, ["ES256"], named=True)
    assert len(keys) == 1
    with pytest.raises(UnusableKey, match="one of them has no kid"):
        key_set_from({"keys": [named, unnamed]}, ["ES256"], named=True)


def test_the_printed_key_set_holds_one_key_that_verifies() -> None:
    """Appendix A.1: the EC key has use enc."""
    keys, skipped = key_set_from(PUBLIC_KEYS, ASYMMETRIC)
    assert len(keys) == 1
    assert [key.key_id for key in keys.find("2011-04-29", "RS256")] == ["2011-04-29"]
    assert keys.find("2011-04-29", "PS256") == ()
    assert skipped == ["key number 1 is skipped: its use is not sig"]


def test_unknown_members_are_ignored() -> None:
    """Section 4: additional members MUST be ignored. So are x5u, x5c and x5t, which would bring
    another key.
    """
    extra = {
        "x5u": "https://evil.example",
        "x5c": ["AAAA"],
        "x5t": "AAAA",
        "made-up": {"a": 1},
        "alg": None,
        "kid": None,
    }
    assert len(keys_from_jwk({**EC, **extra}, ASYMMETRIC)) == 1


def test_a_key_without_alg_serves_the_algorithms_of_its_type() -> None:
    """Section 4.4: alg is OPTIONAL."""
    assert [key.algorithm for key in keys_from_jwk(RSA, ASYMMETRIC)] == [
        "RS256",
        "RS384",
        "RS512",
        "PS256",
        "PS384",
        "PS512",
    ]
    assert [key.algorithm for key in keys_from_jwk(EC, ASYMMETRIC)] == ["ES256"]
    assert [key.algorithm for key in keys_from_jwk({**RSA, "alg": "PS384"}, ASYMMETRIC)] == [
        "PS384"
    ]
    assert keys_from_jwk({**RSA, "alg": "ES256"}, ASYMMETRIC) == []
    assert keys_from_jwk({**RSA, "alg": "HS256"}, SYMMETRIC) == []


@rows("document", [{}, {"keys": None}, {"keys": {}}, {"keys": "x"}, {"key": []}], ids=str)
def test_a_key_set_has_an_array_named_keys(document: dict[str, Any]) -> None:
    """Section 5.1."""
    with pytest.raises(UnusableKey, match="it has no list named keys"):
        key_set_from(document, ASYMMETRIC)


@pytest.mark.case("K18")
def test_a_key_set_has_any_number_of_keys_unless_it_is_a_strangers() -> None:
    """Section 5 sets no limit; for strangers there is one of our own."""
    many = [{**EC, "kid": str(number)} for number in range(65)]
    keys, skipped = key_set_from({"keys": many}, ASYMMETRIC)
    assert [len(keys.find(str(number), "ES256")) for number in (0, 64, 65)] == [1, 1, 0]
    assert skipped == []
    key_set_from({"keys": many[:8]}, ASYMMETRIC, max_keys=8)
    with pytest.raises(UnusableKey, match="more than 8 keys"):
        key_set_from({"keys": many[:9]}, ASYMMETRIC, max_keys=8)


@pytest.mark.case("V11", "K16")
@rows(("member", "why"), unusable({**EC, "kid": "bad"}, RSA))
def test_a_key_that_is_not_understood_is_ignored_and_the_set_is_not(member: Any, why: str) -> None:
    """Section 5: keys of an unknown kty, with missing members or values out of range SHOULD be
    ignored.
    """
    keys, skipped = key_set_from({"keys": [member, {**EC, "kid": "good"}, member]}, ASYMMETRIC)
    assert (len(keys), len(keys.find("good", "ES256"))) == (1, 1)
    assert len(skipped) == 2
    assert all(why in each for each in skipped)


@pytest.mark.parametrize(
    ("crv", "algorithm", "size"),
    [("P-256", "ES256", 32), ("P-384", "ES384", 48), ("P-521", "ES512", 66)],
)
def test_a_coordinate_has_the_full_length_of_its_curve(crv: str, algorithm: str, size: int) -> None:
    """RFC 7518 section 6.2.1.2: leading zero octets are part of it."""
    jwk = signing_key(algorithm).public_jwk()
    assert (jwk["crv"], len(decode_base64url(jwk["x"].encode()))) == (crv, size)
    x = decode_base64url(jwk["x"].encode())
    for wrong in (x + b"\0", b"\0" + x, x[1:], x[:-1]):
        with pytest.raises(UnusableKey, match="its member x has the wrong length"):
            keys_from_jwk({**jwk, "x": encode_base64url(wrong)}, ASYMMETRIC)


def test_a_point_beside_the_curve_is_no_key() -> None:
    """RFC 7518 section 6.2.2; invalid-curve attacks."""
    octets = bytearray(decode_base64url(EC["y"].encode()))
    octets[-1] ^= 1
    with pytest.raises(UnusableKey, match="its numbers are not a key"):
        keys_from_jwk({**EC, "y": encode_base64url(bytes(octets))}, ASYMMETRIC)
    for x, y in ((bytes(32), bytes(32)), (b"\xff" * 32, b"\xff" * 32)):
        with pytest.raises(UnusableKey, match="its numbers are not a key"):
            keys_from_jwk({**EC, "x": encode_base64url(x), "y": encode_base64url(y)}, ASYMMETRIC)


@rows("text", ["A", "AAAAA", "AB", "A=", "A+/A", "A A", ""])
def test_a_number_is_base64url(text: str) -> None:
    """RFC 7518 section 2: Base64urlUInt."""
    with pytest.raises(UnusableKey):
        keys_from_jwk({**RSA, "n": text}, ASYMMETRIC)


@pytest.mark.rule("AS-09")
@rows("algorithm", ASYMMETRIC)
def test_what_we_publish_is_what_we_read(algorithm: str) -> None:
    """Section 3: the published key verifies what the private one signs."""
    key = signing_key(algorithm)
    jwk = key.public_jwk()
    assert {"kid": key.key_id, "alg": algorithm, "use": "sig"}.items() <= jwk.items()
    assert not {"d", "p", "q", "dp", "dq", "qi", "k"} & jwk.keys()
    (verifying,) = keys_from_jwk(jwk, ASYMMETRIC)
    signature = key.sign(b"signed")
    assert verifying.verify(b"signed", signature)
    assert not verifying.verify(b"signet", signature)
    assert not verifying.verify(b"signed", signature[:-1] + bytes([signature[-1] ^ 1]))


def test_a_private_key_may_be_brought_along() -> None:
    made = signing_key("ES384")
    again = SigningKey("ES384", "again", made._private)
    assert again.public_jwk()["x"] == made.public_jwk()["x"]


_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=50)
    | st.sampled_from([*RSA.values(), *EC.values()]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)
_names = st.sampled_from(
    ["kty", "crv", "x", "y", "n", "e", "d", "k", "use", "key_ops", "alg", "kid", "x5c"]
) | st.text(max_size=5)


@given(
    jwk=st.one_of(
        _values,
        st.dictionaries(_names, _values, max_size=8),
        st.builds(
            lambda base, change: {**base, **change},
            st.sampled_from([RSA, EC, signing_key("Ed25519").public_jwk()]),
            st.dictionaries(_names, _values, max_size=3),
        ),
    )
)
def test_whatever_a_key_set_holds_only_unusable_keys_are_reported(jwk: Any) -> None:
    try:
        keys = keys_from_jwk(jwk, ASYMMETRIC)
    except UnusableKey:
        return
    assert all(key.verify(b"signed", b"x" * 64) is False for key in keys)


@pytest.mark.slow
@given(
    document=st.dictionaries(
        st.sampled_from(["keys", "other"]),
        st.one_of(_values, st.lists(st.dictionaries(_names, _values, max_size=6), max_size=4)),
    )
)
def test_whatever_a_document_is_it_is_a_key_set_or_an_unusable_one(
    document: dict[str, Any],
) -> None:
    try:
        keys, skipped = key_set_from(document, ASYMMETRIC)
    except UnusableKey:
        return
    assert len(skipped) <= len(document["keys"])
    assert len(keys) <= 6 * len(document["keys"])
