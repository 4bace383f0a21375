"""ID tokens are refused as access tokens, even with this server as their audience."""

from __future__ import annotations

from typing import Any

import pytest

from asgi_mcp_auth import ClaimRules, IntrospectionTokenVerifier, InvalidToken, JWTVerifier
from asgi_mcp_auth.testing import INTROSPECTION_CLIENT, Issuer
from tests.support.gate import ABSENT, ISSUER, NOW, Gate, signing_key
from tests.support.rows import rows

pytestmark = [pytest.mark.asyncio, pytest.mark.case("V33")]

# Each with an audience that is accepted: LemonLDAP, Authentik and others give both kinds of token
# the same one.
ID_TOKENS: dict[str, dict[str, Any]] = {
    "LemonLDAP": {"azp": "c", "at_hash": "abc", "acr": "loa-1"},
    "of a code flow": {"at_hash": "abc"},
    "of a hybrid flow": {"c_hash": "abc"},
    "of a hybrid flow, FAPI": {"s_hash": "abc"},
    "with a nonce, OpenID Core": {"nonce": "n", "auth_time": NOW - 20},
    "with a nonce and azp": {"nonce": "n", "azp": "c"},
    "Azure AD B2C": {"nonce": "n", "auth_time": NOW, "ver": "1.0", "tfp": "B2C_1_signin"},
    "Keycloak": {"typ": "ID", "azp": "c", "auth_time": NOW, "sid": "s"},
    "Cognito": {"token_use": "id", "auth_time": NOW, "cognito:username": "alice"},
    "with hashes and scopes": {"at_hash": "abc", "scope": "openid email"},
}

ACCESS_TOKENS: dict[str, dict[str, Any]] = {
    "Keycloak before 25": {
        "typ": "Bearer",
        "azp": "c",
        "auth_time": NOW,
        "nonce": "n",
        "scope": "openid email",
    },
    "Keycloak": {"typ": "Bearer", "azp": "c", "auth_time": NOW, "scope": "openid email"},
    "Azure AD B2C": {
        "azp": "c",
        "nonce": "n",
        "scp": "notes.read",
        "tfp": "B2C_1_signin",
        "ver": "1.0",
    },
    "Authentik": {
        "azp": "c",
        "auth_time": NOW,
        "uid": "u",
        "acr": "goauthentik.io/providers/oauth2/default",
    },
    "Okta": {"cid": "c", "auth_time": NOW, "scp": ["notes:read"]},
    "Auth0": {"azp": "c", "scope": "openid notes:read"},
    "Canaille": {"auth_time": NOW + 0.5},
    "Cognito": {"token_use": "access", "auth_time": NOW, "scope": "notes:read"},
    "allauth": {"token_use": "access", "client_id": "c", "scope": "notes:read"},
    "with members that say nothing": {
        "at_hash": None,
        "c_hash": "",
        "nonce": None,
        "azp": "c",
        "auth_time": NOW,
    },
    "with a nonce alone": {"nonce": "n"},
}


def plain(claims: dict[str, Any]) -> dict[str, Any]:
    return {"scope": ABSENT, "client_id": ABSENT, **claims}


@rows("typ", ["JWT", ABSENT])
@rows("kind", ID_TOKENS)
async def test_an_id_token_opens_nothing_even_with_our_audience(kind: str, typ: Any) -> None:
    gate = Gate()
    await gate.refuses(gate.forge(header={"typ": typ}, claims=plain(ID_TOKENS[kind])), "type")


@rows("typ", ["JWT", ABSENT])
@rows("kind", ACCESS_TOKENS)
async def test_an_access_token_that_looks_a_little_like_one_is_still_one(
    kind: str, typ: Any
) -> None:
    gate = Gate()
    await gate.accepts(gate.forge(header={"typ": typ}, claims=plain(ACCESS_TOKENS[kind])))


@rows("typ", ["at+jwt", "AT+JWT", "application/at+jwt"])
@rows("kind", ID_TOKENS)
async def test_what_says_that_it_is_an_access_token_is_believed(kind: str, typ: str) -> None:
    gate = Gate()
    await gate.accepts(gate.forge(header={"typ": typ}, claims=plain(ID_TOKENS[kind])))


async def test_scopes_count_in_the_claim_that_is_configured_too() -> None:
    gate = Gate(claims=ClaimRules(scope_claim="permissions"))
    looks = plain({"azp": "c", "nonce": "n"})
    await gate.accepts(
        gate.forge(header={"typ": "JWT"}, claims={**looks, "permissions": ["notes:read"]})
    )
    await gate.refuses(
        gate.forge(header={"typ": "JWT"}, claims={**looks, "permissions": []}), "type"
    )


@rows("kind", ID_TOKENS)
async def test_a_verifier_that_is_made_for_id_tokens_takes_them(kind: str) -> None:
    class IDTokenVerifier(JWTVerifier):
        refuses_id_tokens = False

    key = signing_key().public_jwk()
    gate = Gate(IDTokenVerifier(public_key=key, issuer=ISSUER, clock=Gate().clock))
    await gate.accepts(gate.forge(header={"typ": "JWT"}, claims=plain(ID_TOKENS[kind])))


@rows("use", ["refresh_token", "refresh", "id_token", "id", "ID_TOKEN"])
async def test_a_token_that_introspection_calls_active_and_something_else_is_refused(
    use: str,
) -> None:
    client_id, secret = INTROSPECTION_CLIENT
    with Issuer(algorithms=("ES256",)) as idp:
        verifier = IntrospectionTokenVerifier(
            introspection_url=idp.introspection_url,
            client_id=client_id,
            client_secret=secret,
            audience="https://a.example",
        )
        for good in (
            {},
            {"token_use": "access_token"},
            {"token_use": "access"},
            {"token_use": None},
        ):
            await verifier.verify(idp.mint_opaque(aud="https://a.example", **good))
        with pytest.raises(InvalidToken) as refusal:
            await verifier.verify(idp.mint_opaque(aud="https://a.example", token_use=use))
    assert refusal.value.reason == "type"
