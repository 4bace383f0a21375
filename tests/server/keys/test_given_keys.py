"""Signing keys in the settings: the first one signs, all of them verify."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from asgi_mcp_auth import ConfigurationError, DevLogin, OAuthProvider
from asgi_mcp_auth.server import ServerOptions
from tests.support.authorization_server import deploy, memory_store
from tests.support.gate import header_of, signing_key
from tests.support.rows import rows

P256 = ec.generate_private_key(ec.SECP256R1())


def pem(key: Any, password: bytes | None = None) -> str:
    encryption = NoEncryption() if password is None else BestAvailableEncryption(password)
    return str(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption), "ascii")


def provider_with(*keys: Any) -> OAuthProvider:
    options = ServerOptions(signing_keys=keys)
    return OAuthProvider(
        base_url="http://localhost", login=DevLogin(), store=memory_store(), options=options
    )


BAD: dict[str, tuple[Any, str]] = {
    "no PEM": ("a file name", "not an unencrypted PEM private key"),
    "nothing": ("", "not an unencrypted PEM private key"),
    "an encrypted PEM": (pem(P256, b"password"), "not an unencrypted PEM private key"),
    "a public key": (
        str(
            P256.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), "ascii"
        ),
        "not an unencrypted PEM private key",
    ),
    "a damaged PEM": (pem(P256).replace("M", "N", 5), "not an unencrypted PEM private key"),
    "characters that no PEM has": ("\ud800", "not an unencrypted PEM private key"),
    "a weak RSA key": (
        pem(rsa.generate_private_key(65537, 1024)),  # noqa: S505  # weak is the point
        "RSA keys have 2048 to 8192 bits",
    ),
    "a curve that is not known": (
        pem(ec.generate_private_key(ec.SECP384R1())),
        "not RSA, EC on P-256",
    ),
    "secp256k1": (pem(ec.generate_private_key(ec.SECP256K1())), "not RSA, EC on P-256"),
    "Ed448": (pem(ed448.Ed448PrivateKey.generate()), "not RSA, EC on P-256"),
    "X25519": (pem(x25519.X25519PrivateKey.generate()), "not RSA, EC on P-256"),
    "DSA": (
        pem(dsa.generate_private_key(1024)),  # noqa: S505 (signs nothing, and long ones take long)
        "not RSA, EC on P-256",
    ),
}


@pytest.mark.case("Z124")
@rows("case", BAD)
def test_a_key_that_cannot_be_used_is_found_at_construction(case: str) -> None:
    key, why = BAD[case]
    with pytest.raises(
        ConfigurationError, match=rf"^signing_keys has a key that cannot be used: .*{why}"
    ) as refused:
        provider_with(pem(P256), key)
    assert "PRIVATE KEY--" not in str(refused.value)


@pytest.mark.case("Z124")
def test_a_key_that_is_there_twice_is_found_at_construction() -> None:
    with pytest.raises(ConfigurationError, match=r"^signing_keys has one key twice: keep one"):
        provider_with(pem(P256), pem(P256))


@pytest.mark.case("Z124")
@rows("keys", ["a PEM", b"x", [b"x"], [5], [None], 5, {"a": "b"}], ids=repr)
def test_keys_are_a_list_of_pems(keys: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^signing_keys must be a list, like \[open\("):
        ServerOptions(signing_keys=keys)


GOOD = {
    "ES256": P256,
    "RS256": rsa.generate_private_key(65537, 2048),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}


@pytest.mark.asyncio
@pytest.mark.parametrize("algorithm", GOOD)
async def test_a_key_decides_on_the_algorithm(algorithm: str) -> None:
    async with deploy(options={"signing_keys": [pem(GOOD[algorithm])]}) as server:
        token = (await (await server.register()).sign_in())["access_token"]
        assert header_of(token)["alg"] == algorithm
        assert (await server.call("POST", "/mcp", bearer=token)).status == 200
        assert [event for event in server.events if event.action == "key_created"] == []
        assert await server.provider.store.get("keys", "signing") is None


@pytest.mark.asyncio
async def test_the_first_key_signs_and_the_others_count_too() -> None:
    """To rotate: the new one in front, the old one behind, as long as its tokens live."""
    old, new = (signing_key("ES256", name).pem() for name in ("old", "new"))
    async with deploy(options={"signing_keys": [old]}) as server:
        client = await server.register()
        before = (await client.sign_in())["access_token"]
        later = deploy(
            store=server.provider.store, clock=server.clock, options={"signing_keys": [new, old]}
        )
        async with later as rotated:
            after = (await (await rotated.register()).sign_in())["access_token"]
            kids = [
                key["kid"]
                for key in (await rotated.call("GET", "/.well-known/jwks.json")).json()["keys"]
            ]
            assert kids == [header_of(after)["kid"], header_of(before)["kid"]]
            for token in (before, after):
                assert (await rotated.call("POST", "/mcp", bearer=token)).status == 200
            assert (await server.call("POST", "/mcp", bearer=after)).status == 401
        with pytest.raises(
            ConfigurationError, match="signing_keys cannot be rotated here: put a new key in front"
        ):
            await server.provider.admin.rotate_keys()
