"""A second opinion on every token: joserfc verifies, forty lines of rules decide.

The two agree, except for the listed ``DIFFERENCES``, where we refuse for the reason named.
"""

from __future__ import annotations

import asyncio
import json
import random
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from joserfc import jws
from joserfc.jwk import ECKey, OKPKey, RSAKey

from asgi_mcp_auth import AccessToken, InvalidToken, JWTVerifier
from asgi_mcp_auth._json import encode_base64url
from asgi_mcp_auth.testing import FrozenClock
from tests.support.gate import AUDIENCE, ISSUER, NOW, signing_key

ALGORITHMS = ("ES256", "RS256", "PS384", "EdDSA")
TRUSTED = {name: signing_key(name, f"key-{name}") for name in ALGORITHMS}
STRANGERS = {name: signing_key(name, f"stranger-{name}") for name in ALGORITHMS}

# Our JSON reader refuses what Python's takes: a member given twice, NaN and Infinity, numbers
# beyond 20 digits or beyond a double, lone surrogates, more than 32 levels.
DIFFERENCES = frozenset(("header", "payload"))


class _Registry(jws.JWSRegistry):
    max_header_length = max_payload_length = 64 * 1024


_REGISTRY = _Registry(algorithms=list(ALGORITHMS), strict_check_header=False)
# joserfc wants them to be strings; an implementation that does not use them may ignore them (V37)
for _name in ("typ", "kid", "cty", "x5t", "x5u", "x5c", "jku", "jwk"):
    del _REGISTRY.header_registry[_name]
_CLASSES: dict[str, Any] = {"RSA": RSAKey, "EC": ECKey, "OKP": OKPKey}
_KEYS = {
    key.key_id: _CLASSES[key.public_jwk()["kty"]].import_key(key.public_jwk())
    for key in TRUSTED.values()
}
_ALGORITHM_OF = {key.key_id: key.algorithm for key in TRUSTED.values()}


def oracle(token: str) -> bool:
    """Whether the second implementation accepts the token. It shares no code with the first."""
    try:
        parsed = jws.deserialize_compact(token, _key_for, registry=_REGISTRY)
        header, claims = parsed.headers(), json.loads(parsed.payload)
    except Exception:  # noqa: BLE001  # whatever it trips over, it does not accept
        return False
    return (
        len(token) <= 64 * 1024
        and isinstance(claims, dict)
        and _header_is_fine(header)
        and _claims_are_fine(claims)
    )


def _key_for(parsed: Any) -> Any:
    header = parsed.headers()
    fitting = [kid for kid, name in _ALGORITHM_OF.items() if name == header["alg"]]
    named = header.get("kid")
    if isinstance(named, str) and named:
        fitting = [each for each in fitting if each == named]
    (kid,) = fitting
    return _KEYS[kid]


def _header_is_fine(header: dict[str, Any]) -> bool:
    typ = header.get("typ")
    kinds = {"jwt", "jose", "at+jwt"}
    return not {"crit", "b64", "zip", "enc"} & set(header) and (
        not isinstance(typ, str)
        or typ == ""
        or typ.lower() in kinds | {f"application/{each}" for each in kinds}
    )


def _claims_are_fine(claims: dict[str, Any]) -> bool:
    def number(value: Any) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool)

    def name(value: Any) -> bool:
        return isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool))

    given = {member: value for member, value in claims.items() if value not in (None, "", [], {})}
    aud = given.get("aud")
    client = [
        given[member]
        for member in ("client_id", "azp", "appid", "cid")
        if member in given and name(given[member])
    ][:1]
    sub = [given["sub"]] if "sub" in given else []
    return (
        number(claims.get("exp"))
        and NOW < claims["exp"] < 253_402_300_800
        and ("nbf" not in given or (number(given["nbf"]) and given["nbf"] <= NOW + 60))
        and not (number(given.get("iat")) and given["iat"] > NOW + 60)
        and claims.get("iss") == ISSUER
        and (aud == AUDIENCE or (isinstance(aud, list) and AUDIENCE in aud))
        and "cnf" not in given
        and all(name(each) and str(each).isprintable() for each in (*sub, *client))
    )


class Forger:
    """Makes tokens that are good, or wrong in one to three ways; the same ones for the same
    seed.
    """

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        anything = [
            None,
            True,
            False,
            0,
            -1,
            1.5,
            "",
            "x",
            "é",
            "a\nb",
            "\x7f",
            [],
            [5],
            {},
            {"a": 1},
            [[]],
            "\ud800",
        ]
        self.header_values: dict[str, list[Any]] = {
            "alg": [*anything, *ALGORITHMS, "none", "None", "HS256", "RS512", "es256", "ES256 "],
            "kid": [
                *anything,
                *_ALGORITHM_OF,
                "key-9",
                "k" * 256,
                "k" * 257,
                "\N{SNOWMAN}" * 86,
                "KEY-ES256",
            ],
            "typ": [
                *anything,
                "JWT",
                "jwt",
                "at+jwt",
                "AT+JWT",
                "application/at+jwt",
                "dpop+jwt",
                "id+jwt",
                "JWT ",
                "JOSE",
                "application/jwt",
            ],
            **{
                name: [*anything, ["exp"], ["b64"]]
                for name in ("crit", "b64", "jwk", "jku", "x5u", "x5c", "zip", "enc")
            },
            **dict.fromkeys(("x5t", "cty", "made-up"), anything),
        }
        times = [
            *anything,
            *(NOW + each for each in (-301, -1, 0, 0.5, 1, 59, 60, 60.5, 61, 300)),
            1e300,
            -1e300,
        ]
        self.claim_values: dict[str, list[Any]] = {
            "exp": [
                *times,
                str(NOW + 300),
                253_402_300_799,
                253_402_300_800,
                10**19,
                10**25,
                float("inf"),
                float("nan"),
            ],
            "nbf": [*times, str(NOW), float("-inf")],
            "iat": [*times, str(NOW), float("nan")],
            "iss": [*anything, ISSUER, ISSUER + "/", [ISSUER], ISSUER.upper(), "https"],
            "aud": [
                *anything,
                AUDIENCE,
                [AUDIENCE],
                [AUDIENCE, "x"],
                [AUDIENCE, 5],
                AUDIENCE + "/",
                AUDIENCE.upper(),
                [*map(str, range(63)), AUDIENCE],
                [*map(str, range(64)), AUDIENCE],
            ],
            "cnf": [*anything, {"jkt": "x"}],
            **dict.fromkeys(("sub", "client_id", "azp", "appid", "cid", "jti", "roles"), anything),
            **{name: [*anything, "a b", ["a", "b"], "mcp:read"] for name in ("scope", "scp")},
        }

    def token(self) -> str:
        """Return the next token."""
        choose = self.random.choice
        algorithm = choose(ALGORITHMS)
        header: dict[str, Any] = {
            "alg": algorithm,
            "kid": TRUSTED[algorithm].key_id,
            "typ": "at+jwt",
        }
        claims: dict[str, Any] = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": "alice",
            "client_id": "c",
            "scope": "a b",
            "exp": NOW + 300,
            "iat": NOW - 10,
            "jti": str(self.random.random()),
        }
        texts: list[Callable[[str], str]] = [lambda text: text, lambda text: text]
        key = TRUSTED[algorithm]
        changes: list[Callable[[str], str]] = []
        for _ in range(choose((0, 1, 1, 1, 1, 2, 3))):
            kind = self.random.random()
            if kind < 0.25:
                self._change(header, self.header_values)
            elif kind < 0.75:
                self._change(claims, self.claim_values)
            elif kind < 0.85:
                texts[self.random.randrange(2)] = choose(_TEXT_CHANGES)
            elif kind < 0.95:
                changes.append(choose(_TOKEN_CHANGES))
            else:
                key = choose((STRANGERS[algorithm], TRUSTED[choose(ALGORITHMS)]))
        parts = [
            encode_base64url(change(json.dumps(members)).encode("utf-8", "surrogatepass"))
            for members, change in zip((header, claims), texts, strict=True)
        ]
        signing_input = ".".join(parts)
        token = f"{signing_input}.{encode_base64url(key.sign(signing_input.encode()))}"
        for change in changes:
            token = change(token)
        return token

    def _change(self, members: dict[str, Any], values: dict[str, list[Any]]) -> None:
        name = self.random.choice(list(values))
        if self.random.random() < 0.2:
            members.pop(name, None)
        else:
            members[name] = self.random.choice(values[name])


_TEXT_CHANGES: list[Callable[[str], str]] = [
    lambda text: text[:-1] + ', "exp": 1}' if '"exp"' in text else text[:-1] + ', "alg": "none"}',
    lambda text: text[:-1] + ', "x": 1, "x": 1}',
    lambda text: text[:-1] + ', "x": NaN}',
    lambda text: text[:-1] + ', "x": 1e999}',
    lambda text: text[:-1] + ', "x": ' + "9" * 30 + "}",
    lambda text: text[:-1] + ', "x": "\\ud800"}',
    lambda text: text[:-1] + ', "x": ' + "[" * 40 + "]" * 40 + "}",
    lambda text: text[:-1] + ', "x": ' + "[" * 20 + "]" * 20 + "}",
    lambda text: text[:-1] + ', "x": "[[[[[{{{{{' + "[" * 40 + '"}',
    lambda text: text[:-1] + ",}",
    lambda text: text + " \n",
    lambda text: "\t" + text,
    lambda text: "\ufeff" + text,
    lambda text: text + "x",
    lambda text: f"[{text}]",
    lambda text: text.replace('"', "'"),
    lambda text: text.replace("a", "\\u0061"),
    lambda text: text + "\u00a0",
    lambda text: "",
    lambda text: "null",
    lambda text: text[:-1] + ', "pad": "' + "x" * 12_500 + '"}',
]
_TOKEN_CHANGES: list[Callable[[str], str]] = [
    lambda token: token + "=",
    lambda token: token[:-1],
    lambda token: token[:-1] + ("A" if token[-1] != "A" else "B"),
    lambda token: token + "A",
    lambda token: token.replace(".", "..", 1),
    lambda token: token + ".",
    lambda token: token.rpartition(".")[0] + ".",
    lambda token: token.rpartition(".")[0],
    lambda token: " " + token,
    lambda token: token + "\n",
    lambda token: token.replace("-", "+").replace("_", "/"),
    lambda token: token[: len(token) // 2] + "!" + token[len(token) // 2 :],
    lambda token: token[: len(token) // 2] + "\u00e9" + token[len(token) // 2 :],
    lambda token: (
        token[: len(token) // 3]
        + ("A" if token[len(token) // 3] != "A" else "B")
        + token[len(token) // 3 + 1 :]
    ),
]


def check(tokens: int, seed: int) -> Counter[str]:
    """Compare so many verdicts, and return how often each came about."""
    verifier = JWTVerifier(
        public_key=[key.public_jwk() for key in TRUSTED.values()],
        algorithm=list(ALGORITHMS),
        issuer=ISSUER,
        audience=AUDIENCE,
        clock=FrozenClock(NOW),
    )
    forger, seen = Forger(seed), Counter[str]()

    async def compare() -> None:
        for _ in range(tokens):
            token = forger.token()
            reason = await _reason_of(verifier, token)
            if reason == "accepted":
                assert oracle(token), f"accepted here and refused there: {token}"
            elif oracle(token):
                assert reason in DIFFERENCES, (
                    f"refused here for {reason} and accepted there: {token}"
                )
                reason = f"difference: {reason}"
            seen[reason] += 1

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # joserfc has an opinion on the name EdDSA
        asyncio.run(compare())
    return seen


async def _reason_of(verifier: JWTVerifier, token: str) -> str:
    try:
        access = await verifier.verify(token)
    except InvalidToken as refusal:
        return refusal.reason
    assert isinstance(access, AccessToken)
    return "accepted"


@pytest.mark.slow
@pytest.mark.case("V88")
def test_a_second_implementation_comes_to_the_same_verdict() -> None:
    seen = check(4_000, seed=random.randrange(2**32))
    assert seen["accepted"] > 800  # neither side may win by refusing everything
    assert sum(count for reason, count in seen.items() if reason.startswith("difference")) < 400


@pytest.mark.case("V88")
@pytest.mark.soak
def test_a_second_implementation_comes_to_the_same_100_000_verdicts() -> None:
    seen = check(100_000, seed=88)
    assert seen["accepted"] > 20_000
    every_reason = {
        "malformed",
        "too_long",
        "algorithm",
        "header",
        "critical_header",
        "type",
        "unknown_key",
    }
    every_reason |= {
        "signature",
        "payload",
        "missing_exp",
        "invalid_exp",
        "expired",
        "invalid_nbf",
        "not_yet_valid",
    }
    every_reason |= {
        "issued_in_future",
        "missing_iss",
        "issuer",
        "missing_aud",
        "audience",
        "subject",
    }
    every_reason |= {"client_id", "bound"}
    assert every_reason <= seen.keys(), every_reason - seen.keys()
