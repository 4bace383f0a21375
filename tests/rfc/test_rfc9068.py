"""JWT Profile for OAuth 2.0 Access Tokens (RFC 9068)."""

from __future__ import annotations

from typing import Any

import pytest

from asgi_mcp_auth import ClaimRules
from tests.support.gate import ABSENT, AUDIENCE, ISSUER, NOW, Gate

pytestmark = pytest.mark.asyncio

STRICT = ClaimRules(require_at_jwt=True)


async def test_a_token_as_section_3_prints_it_is_accepted() -> None:
    """§3: the example, with our issuer and times."""
    gate = Gate(claims=STRICT)
    claims = {
        "iss": ISSUER,
        "sub": "5ba552d67",
        "aud": AUDIENCE,
        "exp": NOW + 60,
        "client_id": "s6BhdRkqt3_",
        "scope": "openid profile reademail",
        "iat": NOW,
        "jti": "dbe39bf3a3ba4238a513f51d6e1691c4",
    }
    access = await gate.accepts(gate.forge(header={"typ": "at+JWT"}, claims=claims))
    assert access.claims == claims
    assert (access.subject, access.client_id) == ("5ba552d67", "s6BhdRkqt3_")
    assert access.scopes == ["openid", "profile", "reademail"]


@pytest.mark.parametrize(
    ("typ", "strict", "lax"),
    [
        ("at+jwt", True, True),
        ("AT+JWT", True, True),
        ("application/at+jwt", True, True),
        ("JWT", False, True),
        (ABSENT, False, True),
        ("id+jwt", False, False),
        ("application/jwt", False, False),
    ],
)
async def test_the_type_is_at_jwt(typ: Any, strict: bool, lax: bool) -> None:
    """§2.1 and §4: MUST be checked. Departure by default: Entra, Okta, Auth0 and Keycloak send JWT or nothing."""
    for rules, accepted in ((STRICT, strict), (ClaimRules(), lax)):
        gate = Gate(claims=rules)
        token = gate.forge(header={"typ": typ})
        if accepted:
            await gate.accepts(token)
        else:
            await gate.refuses(token, "type")


@pytest.mark.parametrize(
    ("name", "reason"),
    [("iss", "missing_iss"), ("exp", "missing_exp"), ("aud", "missing_aud"), ("sub", "subject")],
)
async def test_a_required_claim_may_not_be_missing(name: str, reason: str) -> None:
    """§2.2: iss, exp, aud, sub, client_id, iat and jti are REQUIRED; §4 says which of them a resource server checks."""
    gate = Gate(claims=STRICT)
    await gate.refuses(gate.forge(claims={name: ABSENT}), reason)


async def test_alg_none_is_refused() -> None:
    """§2.1 and §4: access tokens MUST be signed."""
    gate = Gate(claims=STRICT)
    await gate.refuses(gate.forge(header={"alg": "none"}, sign=lambda _: b""), "algorithm")


async def test_issuer_and_audience_are_ours() -> None:
    """§4: iss MUST exactly match; aud MUST contain a resource indicator that names this server."""
    gate = Gate(claims=STRICT)
    await gate.refuses(gate.forge(claims={"iss": ISSUER + "/"}), "issuer")
    await gate.refuses(gate.forge(claims={"aud": "https://another.example.com"}), "audience")


async def test_an_expired_token_is_refused() -> None:
    """§4: the current time MUST be before exp; §2.2: leeway of no more than a few minutes."""
    gate = Gate(claims=STRICT)
    await gate.refuses(gate.forge(claims={"exp": NOW}), "expired")


async def test_the_client_stands_for_itself_when_there_is_no_user() -> None:
    """§2.2: sub is the client then; §5 and RFC 9700 §4.15: what tells them apart is not our guess."""
    gate = Gate(claims=STRICT)
    access = await gate.accepts(gate.forge(claims={"sub": "the-client", "client_id": "the-client"}))
    assert (access.subject, access.client_id) == ("the-client", "the-client")


@pytest.mark.parametrize("name", ["groups", "roles", "entitlements"])
async def test_roles_and_groups_become_scopes_only_by_the_configuration(name: str) -> None:
    """§2.2.3.1."""
    plain = Gate()
    mapped = Gate(claims=ClaimRules(map_scopes=lambda claims: [f"{name}:{each}" for each in claims.get(name, [])]))
    for gate, scopes in ((plain, ["mcp:read"]), (mapped, ["mcp:read", f"{name}:admin"])):
        assert (await gate.accepts(gate.forge(claims={name: ["admin"]}))).scopes == scopes
