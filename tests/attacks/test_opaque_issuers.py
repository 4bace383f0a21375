"""Two issuers of opaque tokens: the same subject at each of them is two people."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from asgi_mcp_auth import (
    ANY_AUDIENCE,
    AccessToken,
    ConfigurationError,
    IntrospectionTokenVerifier,
    InvalidToken,
    JWTVerifier,
    MCPAuthMiddleware,
    MultiAuth,
    RemoteAuthProvider,
    TokenVerifier,
    UserinfoTokenVerifier,
)
from asgi_mcp_auth.proxy.answers import TokenAnswer
from asgi_mcp_auth.proxy.identity import AccessTokenIdentifier
from asgi_mcp_auth.testing import INTROSPECTION_CLIENT, Issuer
from tests.support.asgi import Spy, call
from tests.support.gate import AUDIENCE, BASE_URL
from tests.support.profiles import ProfileServer, serving_profiles

pytestmark = pytest.mark.asyncio

AUTHORIZE = "https://github.example/login/oauth/authorize"


@pytest.fixture
def idp() -> Iterator[Issuer]:
    with Issuer(algorithms=("ES256",)) as issuer:
        yield issuer


@pytest.fixture
def profiles() -> Iterator[ProfileServer]:
    with serving_profiles() as server:
        server.profiles["gho_alice"] = {"sub": "alice", "login": "al"}
        yield server


def introspection(idp: Issuer, **settings: Any) -> IntrospectionTokenVerifier:
    client_id, secret = INTROSPECTION_CLIENT
    usual = {
        "introspection_url": f"{idp.introspection_url}?tenant=a",
        "client_id": client_id,
        "client_secret": secret,
    }
    return IntrospectionTokenVerifier(**{**usual, "audience": AUDIENCE, **settings})


def userinfo(profiles: ProfileServer, **settings: Any) -> UserinfoTokenVerifier:
    return UserinfoTokenVerifier(
        userinfo_url=profiles.userinfo_url, audience=ANY_AUDIENCE, **settings
    )


async def reason_of(
    verifier: IntrospectionTokenVerifier | UserinfoTokenVerifier | MultiAuth, token: str
) -> str | None:
    try:
        await verifier.verify(token)
    except InvalidToken as refusal:
        return refusal.reason
    return None


# ------------------------------------------------------------------------------------ introspection


async def test_an_answer_without_an_issuer_speaks_for_the_one_that_is_configured(
    idp: Issuer,
) -> None:
    verifier = introspection(idp, issuer="https://a.example")
    for _ in range(2):  # also when it is remembered
        access = await verifier.verify(token := idp.mint_opaque(aud=AUDIENCE, iss=None, sub="zoë"))
        assert access.claims["iss"] == "https://a.example"
        assert access.claims == {**access.claims, "active": True, "sub": "zoë"}
        assert (await verifier.verify(token)).claims == access.claims


async def test_an_answer_with_an_issuer_is_left_as_it_is(idp: Issuer) -> None:
    access = await introspection(idp, issuer=["https://a.example", idp.issuer]).verify(
        idp.mint_opaque(aud=AUDIENCE)
    )
    assert access.claims["iss"] == idp.issuer


async def test_with_several_issuers_an_answer_has_to_name_one(idp: Issuer) -> None:
    verifier = introspection(idp, issuer=["https://a.example", "https://b.example"])
    assert await reason_of(verifier, idp.mint_opaque(aud=AUDIENCE, iss=None)) == "missing_iss"
    assert await reason_of(verifier, idp.mint_opaque(aud=AUDIENCE, iss="https://b.example")) is None
    assert (
        await reason_of(verifier, idp.mint_opaque(aud=AUDIENCE, iss="https://c.example"))
        == "issuer"
    )


async def test_without_a_configured_issuer_the_endpoint_stands_for_it(idp: Issuer) -> None:
    verifier = introspection(idp)
    for nothing in (None, "", 5, ["https://a.example"]):
        access = await verifier.verify(idp.mint_opaque(aud=AUDIENCE, iss=nothing))
        assert access.claims["iss"] == idp.introspection_url, "without the query"
    assert (await verifier.verify(idp.mint_opaque(aud=AUDIENCE, iss="https://x.example"))).claims[
        "iss"
    ] == ("https://x.example")


@pytest.mark.parametrize("issuer", [5, True, ["https://a.example"], {"a": 1}])
async def test_with_a_configured_issuer_what_is_no_name_is_refused(
    idp: Issuer, issuer: Any
) -> None:
    verifier = introspection(idp, issuer="https://a.example")
    answer = {"active": True, "iss": issuer, "sub": "alice", "client_id": "c", "aud": AUDIENCE}
    idp.answer("/introspect", json.dumps(answer).encode())
    assert await reason_of(verifier, "token") == "issuer"


# ----------------------------------------------------------------------------------------- profiles


async def test_a_profile_speaks_for_the_configured_issuer_or_for_its_own_address(
    profiles: ProfileServer,
) -> None:
    assert (await userinfo(profiles).verify("gho_alice")).claims["iss"] == profiles.userinfo_url
    access = await userinfo(profiles, issuer="https://github.com").verify("gho_alice")
    assert access.claims == {"sub": "alice", "login": "al", "iss": "https://github.com"}


async def test_a_profile_does_not_speak_for_another_issuer_than_the_configured_one(
    profiles: ProfileServer,
) -> None:
    profiles.profiles["gho_alice"] = {"sub": "alice", "iss": "https://somebody.example"}
    assert await reason_of(userinfo(profiles, issuer="https://github.com"), "gho_alice") == "issuer"


async def test_profiles_have_one_issuer(profiles: ProfileServer) -> None:
    with pytest.raises(ConfigurationError, match=r"issuer=.* must be one"):
        userinfo(profiles, issuer=["https://a.example", "https://b.example"])


# ---------------------------------------------------------------------------------- several sources


async def test_the_app_tells_people_of_two_issuers_apart(
    idp: Issuer, profiles: ProfileServer
) -> None:
    app = Spy()
    multi = MultiAuth(verifiers=[introspection(idp), userinfo(profiles)], base_url=BASE_URL)
    protected = MCPAuthMiddleware(
        app, RemoteAuthProvider(multi, [idp.issuer], BASE_URL), mcp_path="/mcp"
    )
    for token in (idp.mint_opaque(aud=AUDIENCE, iss=None), "gho_alice"):
        assert (
            await call(protected, "GET", "/mcp", {"Authorization": f"Bearer {token}"})
        ).status == 200
    users = [scope["user"] for scope in app.scopes]
    assert [user.identity for user in users] == [
        f"{idp.introspection_url}|alice",
        f"{profiles.userinfo_url}|alice",
    ]
    assert [user.display_name for user in users] == ["alice", "alice"]


async def test_no_source_speaks_in_the_name_of_another_ones_issuer(
    idp: Issuer, profiles: ProfileServer
) -> None:
    jwts = JWTVerifier(issuer=idp.issuer, audience=AUDIENCE)
    multi = MultiAuth(verifiers=[jwts, userinfo(profiles)], base_url=BASE_URL)
    assert await reason_of(multi, "gho_alice") is None
    profiles.profiles["gho_mallory"] = {"sub": "alice", "iss": idp.issuer}
    assert await reason_of(multi, "gho_mallory") == "issuer"
    profiles.profiles["gho_odd"] = {"sub": "alice", "iss": [idp.issuer]}
    assert (await multi.verify("gho_odd")).claims["iss"] == profiles.userinfo_url


@pytest.mark.parametrize("named", [False, True], ids=["by its address", "by its setting"])
async def test_an_issuers_own_endpoint_speaks_for_it_beside_its_signed_tokens(
    idp: Issuer, named: bool
) -> None:
    """A provider that issues tokens of both kinds is one issuer, whichever source stands first."""
    opaque = introspection(idp, **({"issuer": idp.issuer} if named else {}))
    signed = JWTVerifier(issuer=idp.issuer, audience=AUDIENCE)
    for sources in ([signed, opaque], [opaque, signed]):
        multi = MultiAuth(verifiers=sources, base_url=BASE_URL)
        for token in (idp.mint_opaque(aud=AUDIENCE, sub="bob"), idp.mint(aud=AUDIENCE, sub="bob")):
            access = await multi.verify(token)
            assert (access.claims["iss"], access.subject) == (idp.issuer, "bob")


async def test_an_endpoint_beside_an_issuer_does_not_speak_for_it(idp: Issuer) -> None:
    """Another realm of the same host is another issuer, also where one name begins with the
    other.
    """
    realm = f"{idp.issuer}/introspec"
    multi = MultiAuth(
        verifiers=[
            JWTVerifier(issuer=realm, jwks_uri=idp.jwks_uri, audience=AUDIENCE),
            introspection(idp),
        ]
    )
    assert idp.introspection_url.startswith(realm)
    assert await reason_of(multi, idp.mint_opaque(aud=AUDIENCE, iss=realm)) == "issuer"


async def test_no_endpoint_speaks_in_the_name_of_another_ones_address(
    idp: Issuer, profiles: ProfileServer
) -> None:
    """Where no issuer is configured, the address that was asked is the issuer."""
    alice = idp.mint_opaque(aud=AUDIENCE, sub="alice", iss=None)
    mallory = idp.mint_opaque(aud=AUDIENCE, sub="alice", iss=profiles.userinfo_url)
    profiles.profiles["gho_mallory"] = {"sub": "alice", "iss": idp.introspection_url}
    sources = [introspection(idp), userinfo(profiles)]
    for liar, token in zip(sources, (mallory, "gho_mallory"), strict=True):
        # its reason is told, the last one
        multi = MultiAuth(verifiers=sorted(sources, key=lambda each: each is liar))
        assert await reason_of(multi, token) == "issuer"
        assert (await multi.verify(alice)).claims["iss"] == idp.introspection_url


async def test_two_clients_of_one_endpoint_both_speak_for_its_address(idp: Issuer) -> None:
    multi = MultiAuth(
        verifiers=[introspection(idp, audience="https://other.example"), introspection(idp)]
    )
    access = await multi.verify(idp.mint_opaque(aud=AUDIENCE, sub="alice", iss=None))
    assert access.claims["iss"] == idp.introspection_url


async def test_a_verifier_of_ones_own_does_not_either(idp: Issuer) -> None:
    class Liar(TokenVerifier):
        async def verify_token(self, token: str) -> AccessToken:
            return AccessToken(
                token=token, client_id="c", scopes=[], subject="alice", claims={"iss": idp.issuer}
            )

    multi = MultiAuth(
        verifiers=[JWTVerifier(issuer=idp.issuer, audience=AUDIENCE), Liar()], base_url=BASE_URL
    )
    assert await reason_of(multi, "token") == "issuer"


# --------------------------------------------------------------------------------------- in a proxy


async def issuer_in_proxy(verifier: Any, token: str) -> str:
    return (
        await AccessTokenIdentifier(verifier, AUTHORIZE).identify(TokenAnswer(token), "")
    ).issuer


async def test_in_a_proxy_people_keep_the_issuer_that_they_had(
    idp: Issuer, profiles: ProfileServer
) -> None:
    """The subject of a grant is issuer and subject: a new name would be a new person."""
    plain = idp.mint_opaque(aud=AUDIENCE, iss=None)
    assert await issuer_in_proxy(userinfo(profiles), "gho_alice") == "https://github.example"
    assert await issuer_in_proxy(introspection(idp), plain) == "https://github.example"
    assert (
        await issuer_in_proxy(introspection(idp, issuer="https://a.example"), plain)
        == "https://a.example"
    )
    assert await issuer_in_proxy(introspection(idp), idp.mint_opaque(aud=AUDIENCE)) == idp.issuer
    several = MultiAuth(verifiers=[userinfo(profiles), introspection(idp)])
    assert await issuer_in_proxy(several, "gho_alice") == "https://github.example"
    profiles.profiles["gho_alice"] = {"sub": "alice", "iss": "https://said.example"}
    assert await issuer_in_proxy(userinfo(profiles), "gho_alice") == "https://said.example"
