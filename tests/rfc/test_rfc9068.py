"""JWT Profile for OAuth 2.0 Access Tokens (RFC 9068)."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from joserfc import jwk as joserfc_jwk
from joserfc import jwt as joserfc_jwt
from joserfc.errors import SecurityWarning

from asgi_mcp_auth import ClaimRules
from asgi_mcp_auth.server import Login, Person, Registration
from asgi_mcp_auth.server.login import LoginAttempt
from tests.support.authorization_server import BASE_URL, CONFIDENTIAL, RESOURCE, deploy
from tests.support.gate import ABSENT, AUDIENCE, ISSUER, NOW, Gate
from tests.support.rows import rows

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


@pytest.mark.rule("RS-29")
@rows(
    ("typ", "strict", "lax"),
    [
        ("at+jwt", True, True),
        ("AT+JWT", True, True),
        ("application/at+jwt", True, True),
        ("JWT", False, True),
        (ABSENT, False, True),
        ("id+jwt", False, False),
        ("application/jwt", False, True),
    ],
)
async def test_the_type_is_at_jwt(typ: Any, strict: bool, lax: bool) -> None:
    """§2.1 and §4: MUST be checked. Departure by default: Entra, Okta, Auth0 and Keycloak send JWT
    or nothing.
    """
    for rules, accepted in ((STRICT, strict), (ClaimRules(), lax)):
        gate = Gate(claims=rules)
        token = gate.forge(header={"typ": typ})
        if accepted:
            await gate.accepts(token)
        else:
            await gate.refuses(token, "type")


@pytest.mark.rule("RS-29")
@rows(
    ("name", "reason"),
    [("iss", "missing_iss"), ("exp", "missing_exp"), ("aud", "missing_aud"), ("sub", "subject")],
)
async def test_a_required_claim_may_not_be_missing(name: str, reason: str) -> None:
    """§2.2: iss, exp, aud, sub, client_id, iat and jti are REQUIRED; §4 says which of them a
    resource server checks.
    """
    gate = Gate(claims=STRICT)
    await gate.refuses(gate.forge(claims={name: ABSENT}), reason)


async def test_alg_none_is_refused() -> None:
    """§2.1 and §4: access tokens MUST be signed."""
    gate = Gate(claims=STRICT)
    await gate.refuses(gate.forge(header={"alg": "none"}, sign=lambda _: b""), "algorithm")


@pytest.mark.rule("RS-29", "RS-27")
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
    """§2.2: sub is the client then; §5 and RFC 9700 §4.15: what tells them apart is not our
    guess.
    """
    gate = Gate(claims=STRICT)
    access = await gate.accepts(gate.forge(claims={"sub": "the-client", "client_id": "the-client"}))
    assert (access.subject, access.client_id) == ("the-client", "the-client")


@pytest.mark.parametrize("name", ["groups", "roles", "entitlements"])
async def test_roles_and_groups_become_scopes_only_by_the_configuration(name: str) -> None:
    """§2.2.3.1."""
    plain = Gate()
    mapped = Gate(
        claims=ClaimRules(
            map_scopes=lambda claims: [f"{name}:{each}" for each in claims.get(name, [])]
        )
    )
    for gate, scopes in ((plain, ["mcp:read"]), (mapped, ["mcp:read", f"{name}:admin"])):
        assert (await gate.accepts(gate.forge(claims={name: ["admin"]}))).scopes == scopes


# ------------------------------------------------------------------------ what OAuthProvider issues


@pytest.mark.case("Z61")
@pytest.mark.rule("AS-38")
@pytest.mark.parametrize("algorithm", ["ES256", "RS256", "EdDSA"])
async def test_what_we_issue_is_such_a_token_also_for_another_implementation(
    algorithm: str,
) -> None:
    """§2.1, §2.2, §4: verified by joserfc with the key set that is published; RS256 MUST be
    supported.
    """
    async with deploy(options={"signing_algorithm": algorithm}) as server:
        client = await server.register()
        tokens = await client.sign_in("alice", scope="mcp:read mcp:write")
        document = (await server.call("GET", "/.well-known/jwks.json")).json()
        keys = joserfc_jwk.KeySet.import_key_set(document)
        with warnings.catch_warnings():
            # joserfc prefers the name Ed25519 to EdDSA
            warnings.simplefilter("ignore", SecurityWarning)
            token = joserfc_jwt.decode(tokens["access_token"], keys, algorithms=[algorithm])
        now = int(server.clock.time())
        assert token.header == {
            "typ": "at+jwt",
            "alg": algorithm,
            "kid": document["keys"][0]["kid"],
        }
        claims = dict(token.claims)
        assert claims.pop("jti")
        assert claims.pop("grant_id")
        assert claims == {
            "iss": BASE_URL,
            "sub": "alice",
            "aud": RESOURCE,
            "client_id": client.client_id,
            "scope": "mcp:read mcp:write",
            "iat": now,
            "exp": now + 3600,
            "auth_time": now,
        }


@pytest.mark.rule("AS-38")
async def test_each_token_has_its_own_jti() -> None:
    """§2.2."""
    async with deploy() as server:
        client = await server.register()
        tokens, seen = await client.sign_in(), set[str]()
        for _ in range(3):
            assert (await server.call("POST", "/mcp", bearer=tokens["access_token"])).status == 200
            seen.add(server.spy.scopes[-1]["access_token"].claims["jti"])
            tokens = (await client.refresh(tokens["refresh_token"])).json()
        assert len(seen) == 3


async def test_auth_time_stays_that_of_the_sign_in() -> None:
    """§2.2.1: also for tokens that come of refreshing."""
    async with deploy() as server:
        client = await server.register()
        browser = server.browser()
        began = int(server.clock.time())
        await client.code(browser=browser)
        server.clock.advance(100)
        code = await client.code(browser=browser)
        tokens = (await client.redeem(code)).json()
        server.clock.advance(100)
        tokens = (await client.refresh(tokens["refresh_token"])).json()
        assert (await server.call("POST", "/mcp", bearer=tokens["access_token"])).status == 200
        claims = server.spy.scope["access_token"].claims
        assert (claims["auth_time"], claims["iat"]) == (began, began + 200)


async def test_a_token_of_a_client_itself_has_the_client_as_its_subject() -> None:
    """§2.2."""
    async with deploy(registration=Registration(clients=[CONFIDENTIAL])) as server:
        tokens = (await server.known(CONFIDENTIAL).token(grant_type="client_credentials")).json()
        assert (await server.call("POST", "/mcp", bearer=tokens["access_token"])).status == 200
        claims = server.spy.scope["access_token"].claims
        assert claims["sub"] == claims["client_id"] == "service"
        assert "auth_time" not in claims


class _Steward(Login):
    async def sign_in(self, attempt: LoginAttempt) -> Person:
        return Person(
            subject="carol",
            name="Carol",
            claims={"roles": ["steward"], "email": "carol@example.com"},
        )


@pytest.mark.case("Z61")
async def test_identity_claims_are_there_when_the_login_step_says_so_and_only_then() -> None:
    """§2.2.2 and §2.2.3.1; §6: nothing about a person is said by default, not even the name."""
    async with deploy(login=_Steward()) as server:
        tokens = await (await server.register()).sign_in("carol")
        assert (await server.call("POST", "/mcp", bearer=tokens["access_token"])).status == 200
        claims = server.spy.scope["access_token"].claims
        assert (claims["roles"], claims["email"], claims["sub"]) == (
            ["steward"],
            "carol@example.com",
            "carol",
        )
        assert "name" not in claims
