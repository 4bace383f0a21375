"""OAuth 2.0 Token Introspection (RFC 7662), from the resource server's side."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from asgi_mcp_auth import ANY_AUDIENCE, IntrospectionTokenVerifier, InvalidToken
from asgi_mcp_auth.server import Registration
from asgi_mcp_auth.testing import INTROSPECTION_CLIENT, FrozenClock, Issuer
from tests.support.authorization_server import BASE_URL, CONFIDENTIAL, RESOURCE, deploy
from tests.support.gate import AUDIENCE, NOW, Gate

pytestmark = [pytest.mark.asyncio, pytest.mark.rule("RS-31")]

CLIENT_ID, SECRET = INTROSPECTION_CLIENT


@pytest.fixture
def idp() -> Iterator[Issuer]:
    with Issuer(algorithms=("ES256",), clock=FrozenClock(NOW)) as issuer:
        yield issuer


def gate_for(idp: Issuer, **settings: Any) -> Gate:
    usual = {
        "introspection_url": idp.introspection_url,
        "client_id": CLIENT_ID,
        "client_secret": SECRET,
    }
    clock = idp.clock
    verifier = IntrospectionTokenVerifier(
        **{**usual, "clock": clock, "cache_ttl_seconds": 0, **settings}
    )
    return Gate(verifier, good=lambda: idp.mint_opaque(aud=AUDIENCE), clock=clock)


@pytest.mark.parametrize(
    "settings",
    [
        {"client_auth_method": "client_secret_basic"},
        {"client_auth_method": "client_secret_post"},
        {"client_auth_method": "bearer", "client_id": None},
    ],
    ids=lambda settings: settings["client_auth_method"],
)
async def test_the_request_is_an_authenticated_form_post(
    idp: Issuer, settings: dict[str, Any]
) -> None:
    """§2.1: POST, application/x-www-form-urlencoded, and some form of authorization."""
    gate = gate_for(idp, **settings)
    await gate.accepts(gate.good())
    await gate.refuses("unknown-token", "inactive")
    assert set(idp.hits) == {"/introspect"}


@pytest.mark.parametrize("active", [False, None, "true", "false", 1, 0, [], {}, [True]], ids=repr)
async def test_only_a_token_that_is_active_true_is_accepted(idp: Issuer, active: Any) -> None:
    """§2.2: active is a Boolean; whether it is present and true decides."""
    gate = gate_for(idp)
    good = {"active": True, "client_id": "c", "aud": AUDIENCE, "exp": NOW + 9}
    for body, accepted in ((good, True), ({**good, "active": active}, False), (good, True)):
        idp.answer("/introspect", json.dumps(body).encode())
        if accepted:
            await gate.accepts("token")
        else:
            await gate.only_refuses("token", "inactive")


async def test_an_answer_without_active_is_not_active(idp: Issuer) -> None:
    """§2.2: active is REQUIRED."""
    gate = gate_for(idp)
    await gate.accepts(gate.good())
    idp.answer(
        "/introspect", b'{"scope":"mcp:read","client_id":"c","aud":"%b"}' % AUDIENCE.encode()
    )
    await gate.only_refuses("token", "inactive")
    idp.reset()
    await gate.accepts(gate.good())


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"aud": None}, "missing_aud"),
        ({"aud": "https://other.example"}, "audience"),
        ({"aud": []}, "missing_aud"),
        ({"aud": [5]}, "audience"),
        ({"exp": NOW + 1, "nbf": NOW + 61}, "not_yet_valid"),
        ({"nbf": "x"}, "invalid_nbf"),
        ({"exp": str(NOW + 300)}, "invalid_exp"),
        ({"exp": True}, "invalid_exp"),
        ({"iat": NOW + 61}, "issued_in_future"),
        ({"iss": "https://other.example"}, "issuer"),
        ({"iss": 5}, "issuer"),
        ({"client_id": "a\nb"}, "client_id"),
        ({"sub": "a\nb"}, "subject"),
        ({"sub": ["alice"]}, "subject"),
        ({"cnf": {"jkt": "abc"}}, "bound"),
        ({"cnf": {"x5t#S256": "abc"}}, "bound"),
        ({"token_type": "DPoP"}, "bound"),
        ({"token_type": "mac"}, "type"),
        ({"token_type": "N_A"}, "type"),
        ({"token_type": "refresh_token"}, "type"),
    ],
    ids=str,
)
async def test_what_an_active_answer_says_is_checked_like_a_jwt(
    idp: Issuer, members: dict[str, Any], reason: str
) -> None:
    """§4: the resource server still has to check that the token is meant for it and valid now."""
    gate = gate_for(idp, issuer=idp.issuer)
    good = {
        "active": True,
        "client_id": "c",
        "sub": "s",
        "aud": AUDIENCE,
        "exp": NOW + 9,
        "iss": idp.issuer,
    }
    bad = {name: value for name, value in {**good, **members}.items() if value is not None}
    for body, accepted in ((good, True), (bad, False), (good, True)):
        idp.answer("/introspect", json.dumps(body).encode())
        if accepted:
            await gate.accepts("token")
        else:
            await gate.only_refuses("token", reason)


async def test_an_expired_token_is_refused_even_if_the_issuer_calls_it_active(idp: Issuer) -> None:
    """§4: the protected resource checks exp itself."""
    gate = gate_for(idp)
    for exp, accepted in ((NOW - 1, False), (NOW, False), (NOW + 1, True)):
        body = b'{"active":true,"client_id":"c","aud":"%b","exp":%d}' % (AUDIENCE.encode(), exp)
        idp.answer("/introspect", body)
        if accepted:
            await gate.accepts("token")
        else:
            await gate.only_refuses("token", "expired")


@pytest.mark.parametrize("token_type", ["Bearer", "bearer", "BEARER", "access_token", None])
async def test_a_bearer_token_is_accepted_under_every_name_it_goes_by(
    idp: Issuer, token_type: Any
) -> None:
    """§2.2: token_type is OPTIONAL; RFC 6749 §5.1 calls it case-insensitive. Keycloak answers with
    access_token.
    """
    gate = gate_for(idp)
    await gate.accepts(idp.mint_opaque(aud=AUDIENCE, token_type=token_type))


@pytest.mark.parametrize("name", ["exp", "iat", "nbf", "sub", "iss", "jti", "scope", "token_type"])
async def test_every_member_but_active_may_be_missing(idp: Issuer, name: str) -> None:
    """§2.2: all other members are OPTIONAL."""
    gate = gate_for(idp, issuer=idp.issuer)
    body = {
        "active": True,
        "client_id": "c",
        "sub": "s",
        "aud": AUDIENCE,
        "exp": NOW + 9,
        "iss": idp.issuer,
    }
    body.pop(name, None)
    idp.answer("/introspect", json.dumps(body).encode())
    await gate.accepts("token")


async def test_an_answer_without_aud_needs_any_audience(idp: Issuer) -> None:
    """§2.2: aud is OPTIONAL there; here it is required, unless the configuration says otherwise in
    writing.
    """
    strict, lax = gate_for(idp), gate_for(idp, audience=ANY_AUDIENCE)
    await strict.refuses(idp.mint_opaque(), "missing_aud")
    await lax.accepts(idp.mint_opaque())


async def test_unknown_members_are_kept_for_the_application(idp: Issuer) -> None:
    """§2.2: specific implementations MAY extend the answer."""
    gate = gate_for(idp)
    access = await gate.accepts(
        idp.mint_opaque(aud=AUDIENCE, extension_field={"a": [1]}, username="jdoe")
    )
    assert (access.claims["extension_field"], access.claims["username"]) == ({"a": [1]}, "jdoe")


# ------------------------------------------------------------- from the authorization server's side


async def test_our_verifier_and_our_endpoint_understand_each_other() -> None:
    """§2: a resource server elsewhere asks the introspection endpoint of an OAuthProvider, over
    HTTP.
    """
    registration = Registration(clients=[{**CONFIDENTIAL, "client_id": CLIENT_ID}])
    async with deploy(registration=registration) as server:
        client = await server.register()
        tokens, revoked = await client.sign_in("alice"), await client.sign_in("alice")
        form = {"token": revoked["access_token"], "client_id": client.client_id}
        assert (await server.call("POST", "/revoke", form=form)).status == 200
        transport = httpx.ASGITransport(server.app)  # type: ignore[arg-type]  # its own names for the same types
        async with httpx.AsyncClient(transport=transport, trust_env=False) as http_client:
            verifier = IntrospectionTokenVerifier(
                introspection_url=f"{BASE_URL}/introspect",
                client_id=CLIENT_ID,
                client_secret=CONFIDENTIAL["client_secret"],
                audience=RESOURCE,
                issuer=BASE_URL,
                http_client=http_client,
                clock=server.clock,
            )
            access = await verifier.verify(tokens["access_token"])
            assert (access.subject, access.client_id, access.scopes) == (
                "alice",
                client.client_id,
                ["mcp:read"],
            )
            assert (access.resource, access.expires_at) == (
                RESOURCE,
                int(server.clock.time()) + 3600,
            )
            for token, reason in (
                (revoked["access_token"], "inactive"),
                (tokens["refresh_token"], "audience"),
                ("unknown", "inactive"),
            ):
                with pytest.raises(InvalidToken) as caught:
                    await verifier.verify(token)
                assert caught.value.reason == reason
