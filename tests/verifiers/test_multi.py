"""MultiAuth: which source gets a token, and which settings are shared."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from asgi_mcp_auth import (
    ConfigurationError,
    IntrospectionTokenVerifier,
    InvalidToken,
    JWTVerifier,
    MCPAuthMiddleware,
    MultiAuth,
    RemoteAuthProvider,
    ServerUnavailable,
    StaticTokenVerifier,
)
from asgi_mcp_auth.testing import INTROSPECTION_CLIENT, Issuer
from tests.support.asgi import Spy, call
from tests.support.gate import AUDIENCE, BASE_URL, Gate

pytestmark = pytest.mark.asyncio

CLIENT_ID, SECRET = INTROSPECTION_CLIENT


@pytest.fixture
def a() -> Iterator[Issuer]:
    with Issuer(algorithms=("ES256",)) as issuer:
        yield issuer


@pytest.fixture
def b() -> Iterator[Issuer]:
    with Issuer(algorithms=("ES256",), path="/tenant") as issuer:
        yield issuer


def introspection(idp: Issuer, **settings: Any) -> IntrospectionTokenVerifier:
    return IntrospectionTokenVerifier(
        introspection_url=idp.introspection_url,
        client_id=CLIENT_ID,
        client_secret=SECRET,
        **settings,
    )


async def reason_of(multi: MultiAuth, token: str) -> str | None:
    try:
        await multi.verify(token)
    except InvalidToken as refusal:
        return refusal.reason
    return None


async def test_a_jwt_goes_to_the_source_that_its_issuer_names_and_to_no_other(
    a: Issuer, b: Issuer
) -> None:
    multi = MultiAuth(
        verifiers=[JWTVerifier(issuer=a.issuer), JWTVerifier(issuer=b.issuer)], base_url=BASE_URL
    )
    gate = Gate(multi, good=lambda: a.mint(aud=AUDIENCE))
    assert (await gate.accepts(a.mint(aud=AUDIENCE, sub="of-a"))).subject == "of-a"
    assert not b.hits
    assert (await gate.accepts(b.mint(aud=AUDIENCE, sub="of-b"))).subject == "of-b"
    await gate.refuses(b.mint(aud="elsewhere"), "audience")
    await gate.refuses(a.mint(aud=AUDIENCE, exp=1), "expired")
    await gate.refuses("opaque", "issuer")
    await gate.refuses(a.mint(aud=AUDIENCE, iss="https://nobody.example"), "issuer")
    assert multi.issuers == (a.issuer, b.issuer)


async def test_an_opaque_token_goes_to_those_that_take_opaque_ones(a: Issuer, b: Issuer) -> None:
    static = StaticTokenVerifier({"dev-token": {"client_id": "me"}})
    multi = MultiAuth(
        verifiers=[JWTVerifier(issuer=a.issuer), introspection(b), static], base_url=BASE_URL
    )
    gate = Gate(multi, good=lambda: a.mint(aud=AUDIENCE))
    await gate.accepts("dev-token")
    await gate.accepts(b.mint_opaque(aud=AUDIENCE))
    await gate.refuses("nobody-knows-this", "unknown_token")
    assert not b.hits["/jwks"]
    assert a.hits["/jwks"] == 1


async def test_the_jwts_of_an_issuer_may_be_introspected(a: Issuer) -> None:
    static = StaticTokenVerifier({"dev-token": {"client_id": "me"}})
    multi = MultiAuth(verifiers=[introspection(a, issuer=a.issuer), static], base_url=BASE_URL)
    gate = Gate(multi, good=lambda: "dev-token")
    await gate.refuses(a.mint(aud=AUDIENCE), "inactive")  # the endpoint knows only opaque ones
    await gate.accepts(a.mint_opaque(aud=AUDIENCE))


async def test_a_source_without_issuers_gets_the_remaining_tokens(a: Issuer, b: Issuer) -> None:
    anybody = JWTVerifier(public_key=b.public_jwk())
    multi = MultiAuth(verifiers=[JWTVerifier(issuer=a.issuer), anybody], base_url=BASE_URL)
    gate = Gate(multi, good=lambda: b.mint(aud=AUDIENCE))
    await gate.refuses(a.mint(aud=AUDIENCE, iss=None), "unknown_key")
    await gate.refuses(b.mint(aud=AUDIENCE, iss=a.issuer), "unknown_key")


async def test_a_source_that_is_down_takes_no_other_down(a: Issuer, b: Issuer) -> None:
    static = StaticTokenVerifier({"dev-token": {"client_id": "me"}})
    multi = MultiAuth(verifiers=[introspection(a), static], base_url=BASE_URL)
    gate = Gate(multi, good=lambda: "dev-token")
    a.fail("/introspect")
    await gate.accepts("dev-token")
    with pytest.raises(ServerUnavailable):
        await multi.verify_token("only-the-other-might-know-this")
    assert (await gate.call("only-the-other-might-know-this")).status == 503
    await gate.accepts("dev-token")


async def test_a_responsible_source_that_is_down_is_an_outage(a: Issuer, b: Issuer) -> None:
    multi = MultiAuth(
        verifiers=[JWTVerifier(issuer=a.issuer), JWTVerifier(issuer=b.issuer)], base_url=BASE_URL
    )
    gate = Gate(multi, good=lambda: b.mint(aud=AUDIENCE))
    for path in ("/jwks", "/.well-known/oauth-authorization-server"):
        a.fail(path)
    with pytest.raises(ServerUnavailable):
        await multi.verify_token(a.mint(aud=AUDIENCE))
    await gate.accepts(gate.good())


async def test_one_verifier_need_not_be_in_a_list(a: Issuer) -> None:
    multi = MultiAuth(verifiers=JWTVerifier(issuer=a.issuer, audience="x"))
    assert await reason_of(multi, a.mint(aud="x")) is None
    assert multi.resource_metadata_url is None
    assert multi.get_routes() == []


async def test_the_server_speaks_for_all_sources(a: Issuer, b: Issuer) -> None:
    server = RemoteAuthProvider(
        JWTVerifier(issuer=a.issuer, required_scopes=["mcp:read"]),
        [a.issuer, b.issuer],
        BASE_URL,
        scopes_supported=["mcp:read", "mcp:write"],
        challenge_scopes=["profile"],
    )
    multi = MultiAuth(
        server=server, verifiers=[JWTVerifier(issuer=b.issuer, required_scopes=["mcp:read", "x"])]
    )
    events = []
    app = MCPAuthMiddleware(Spy(), multi, mcp_path="/mcp", on_event=events.append)
    document = (await call(app, "GET", "/.well-known/oauth-protected-resource/mcp")).json()
    assert document["authorization_servers"] == [a.issuer, b.issuer]
    assert document["scopes_supported"] == multi.scopes_supported == ["mcp:read", "mcp:write"]
    assert multi.base_url == BASE_URL
    assert multi.required_scopes == ["mcp:read", "x"]
    assert multi.get_challenge_scopes() == ["profile", "mcp:read", "x"]
    assert multi.resource_metadata_url == f"{BASE_URL}/.well-known/oauth-protected-resource/mcp"
    challenge = (await call(app, "POST", "/mcp")).header("www-authenticate") or ""
    assert 'scope="profile mcp:read x"' in challenge
    for idp in (a, b):
        token = idp.mint(aud=AUDIENCE, scope="mcp:read x")
        assert (await call(app, "POST", "/mcp", {"Authorization": f"Bearer {token}"})).status == 200
    refused = a.mint(aud=AUDIENCE, scope="mcp:read x", exp=1)
    assert (await call(app, "POST", "/mcp", {"Authorization": f"Bearer {refused}"})).status == 401
    assert [event.reason for event in events] == ["missing_token", "expired"]


async def test_without_a_server_it_speaks_for_itself(a: Issuer) -> None:
    multi = MultiAuth(
        verifiers=[JWTVerifier(issuer=a.issuer, required_scopes=["x"])], required_scopes=["y"]
    )
    assert (multi.required_scopes, multi.scopes_supported, multi.get_challenge_scopes()) == (
        ["y"],
        ["y"],
        ["y"],
    )
    assert multi.get_challenge_scopes(["z", "offline_access"]) == ["z"]


async def test_it_can_stand_behind_a_remote_provider(a: Issuer, b: Issuer) -> None:
    multi = MultiAuth(verifiers=[JWTVerifier(issuer=a.issuer), JWTVerifier(issuer=b.issuer)])
    provider = RemoteAuthProvider(multi, [a.issuer, b.issuer], BASE_URL)
    app = MCPAuthMiddleware(Spy(), provider, mcp_path="/mcp")
    for idp in (a, b):
        headers = {"Authorization": f"Bearer {idp.mint(aud=AUDIENCE)}"}
        assert (await call(app, "POST", "/mcp", headers)).status == 200
    assert provider.issuers == (a.issuer, b.issuer)


async def test_without_a_base_url_each_source_needs_an_audience(a: Issuer) -> None:
    MCPAuthMiddleware(Spy(), MultiAuth(verifiers=[JWTVerifier(issuer=a.issuer, audience="x")]))
    with pytest.raises(ConfigurationError, match="the audience is not known"):
        MCPAuthMiddleware(Spy(), MultiAuth(verifiers=[JWTVerifier(issuer=a.issuer)]))


async def test_it_opens_and_closes_every_source(a: Issuer, b: Issuer) -> None:
    server = RemoteAuthProvider(JWTVerifier(issuer=a.issuer), [a.issuer], BASE_URL)
    multi = MultiAuth(server=server, verifiers=[JWTVerifier(issuer=b.issuer)])
    async with multi:
        assert (a.hits["/jwks"], b.hits["/jwks"]) == (1, 1)


@pytest.mark.parametrize(
    "token", ["a.!.c", "a.e30.c", "..", "a.W10.c", "a.é.c", "a.b", "a.eyJpc3MiOjV9.c"]
)
async def test_a_token_without_an_issuer_has_no_verifier_and_causes_no_fetch(
    a: Issuer, token: str
) -> None:
    multi = MultiAuth(verifiers=[JWTVerifier(issuer=a.issuer)], base_url=BASE_URL)
    gate = Gate(multi, good=lambda: a.mint(aud=AUDIENCE))
    await gate.only_refuses(token, "issuer")
    assert not a.hits
    await gate.refuses(token, "issuer")
