"""Members of a JSON Web Key that make it unusable, or change nothing (RFC 7517 §4; RFC 7518 §6)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Optional members that are empty or of another type count as left out; others allow it.
HARMLESS: list[tuple[str, Any]] = [
    *(("use", each) for each in (None, "", [], 1, ["enc"], ["sig"], "sig")),
    *(("key_ops", each) for each in (None, "", [], "verify", {"verify": True})),
    *(("key_ops", each) for each in (["verify"], ["sign", "verify"], ["verify", "sign"])),
    *(("alg", each) for each in (None, "", [], {}, 1, ["ES256"], "ES256")),
    *((each, None) for each in ("d", "p", "k", "oth", "x5c", "x5u")),
    *((each, value) for each in ("d", "k", "p", "oth") for value in ("", [], {})),
]


def unusable(ec: Mapping[str, Any], rsa: Mapping[str, Any]) -> list[tuple[Any, str]]:
    """Return what is no key to verify with, and why.

    Args:
        ec: the public JWK of a key for ES256.
        rsa: the one of a key for RS256, of 2048 bits.
    """

    def without(jwk: Mapping[str, Any], name: str) -> dict[str, Any]:
        return {key: value for key, value in jwk.items() if key != name}

    not_sig, not_verify = "its use is not sig", "its key_ops do not include verify"
    no_type, not_text = "its kty or crv is not supported", "missing or not base64url"
    kid, point = {"kid": ec["kid"]}, "AQ" * 21 + "A"  # 32 bytes
    return [
        *((each, "not an object") for each in (None, "key", 5, [], [ec], [("kty", "RSA")])),
        *(({**ec, "use": each}, not_sig) for each in ("enc", "other", "SIG", " ")),
        *(({**ec, "key_ops": each}, not_verify) for each in (["encrypt"], ["sign"], [None])),
        ({**ec, "use": "enc", "key_ops": ["verify"]}, not_sig),
        *(
            ({**ec, "alg": each}, "its alg is not supported")
            for each in ("none", "es256", "ES257", "RSA-OAEP")
        ),
        *(
            ({**jwk, each: "AQAB"}, "it is private or symmetric")
            for jwk in (ec, rsa)
            for each in ("d", "p", "q", "dp", "dq", "qi", "k")
        ),
        ({**rsa, "oth": [{"r": "AAAA"}]}, "it is private or symmetric"),
        ({"kty": "OKP", "crv": "Ed25519", "x": point, "d": "AQAB", **kid}, "it is private"),
        ({**ec, "oth": "AQAB"}, "it is private or symmetric"),
        ({"kty": "oct", "k": "A" * 43, **kid}, "it is private or symmetric"),
        ({}, no_type),
        *(({**ec, "kty": each}, no_type) for each in ("ec", "OKP", "XX", None, [], ["EC"])),
        *((without(ec, each), no_type) for each in ("kty", "crv")),
        *(({**ec, "crv": each}, no_type) for each in ("p-256", "P-192", "P-224", "P-1", "P-999")),
        *(({**ec, "crv": each}, no_type) for each in (None, [], ["P-256"], {}, "Ed25519")),
        *(({**rsa, "kty": each}, no_type) for each in ("EC", "rsa", None)),
        ({"kty": "OKP", "crv": "X25519", "x": point, **kid}, no_type),
        ({**ec, "kty": "RSA"}, "member n is missing"),
        (without(rsa, "e"), "member e is missing"),
        (without(ec, "x"), "member x is missing"),
        (without(ec, "y"), "member y is missing"),
        *(
            ({**ec, "x": each}, f"member x is {not_text}")
            for each in ("", 1, "!!!!", ec["x"] + "=", "A" * 3_000, "é" * 43)
        ),
        *(
            ({**rsa, "n": each}, f"member n is {not_text}")
            for each in ("", "_" * 2730 + "8", "A" * 3_000)
        ),
        ({**ec, "crv": "P-384"}, "member x has the wrong length"),
        *(
            ({**ec, "x": each}, "member x has the wrong length")
            for each in (ec["x"] + "A", "A" + ec["x"], ec["x"][:-3])
        ),
        *(
            ({**ec, "x": each}, "numbers are not a key")
            for each in ("AAAAA", ec["x"] + "AA", "AA" + ec["x"], ec["x"][:-2])
        ),
        ({**ec, "y": ec["x"]}, "numbers are not a key"),
        *(
            ({"kty": "OKP", "crv": curve, "x": each, **kid}, "numbers are not a key")
            for curve, each in (("Ed25519", "AAAA"), ("Ed448", point))
        ),
        ({**rsa, "n": "_" * 2042 + "8"}, "RSA keys have 2048 to 8192 bits"),
        ({**rsa, "n": rsa["n"][:172]}, "RSA keys have 2048 to 8192 bits"),
        ({**rsa, "e": "AQ"}, "its RSA exponent is not safe"),
    ]
