"""Tokens that look unusual, and large ones: what is passed on, and what is answered otherwise."""

from __future__ import annotations

import pytest

from asgi_mcp_auth import AccessToken, MCPAuthMiddleware, StaticTokenVerifier, TokenVerifier
from asgi_mcp_auth._cache import LRUCache
from asgi_mcp_auth.tokens import VerifiedToken, claims_weight
from tests.support.asgi import Spy, call
from tests.support.gate import AUDIENCE, Gate
from tests.support.rows import rows

pytestmark = pytest.mark.asyncio

CLOUDFLARE = "user-1:9f86d081884c7d65:9a2feaa0c55ad015"
SANCTUM = "1|a3bf4f1b2b0b822cd15d6c15b0f00a08"


class Own(TokenVerifier):
    """A verifier of one's own that knows every token."""

    seen: list[str]

    async def verify_token(self, token: str) -> AccessToken | None:
        self.seen.append(token)
        return AccessToken(token=token, client_id="c", scopes=[])


@pytest.mark.rule("RS-64")
@rows("token", [CLOUDFLARE, SANCTUM, "=a", "a=b", "{x}", "a\\b", "!#$%&()*+-./:;<=>?@[\\]^_`{|}~"])
async def test_a_token_of_visible_ascii_reaches_a_verifier_as_it_is(token: str) -> None:
    own = Own()
    own.seen = []
    spy = Spy()
    response = await call(
        MCPAuthMiddleware(spy, own), "POST", "/mcp", {"Authorization": f"Bearer {token}"}
    )
    assert (response.status, own.seen) == (200, [token])
    static = StaticTokenVerifier({token: {"client_id": "c"}})
    assert (await static.verify(token)).token == token
    # Where only JWTs can be read, it is none.
    await Gate().refuses(token, "malformed")


@pytest.mark.rule("RS-64")
@rows("token", ['a"b', "a'b", "a,b", "a b", "a\tb", "a\x7f", "a\x00", b"\xc3\xa9", b"a\xff", ""])
async def test_what_no_token_has_is_a_malformed_request(token: str | bytes) -> None:
    own = Own()
    own.seen = []
    data = token if isinstance(token, bytes) else token.encode()
    response = await call(
        MCPAuthMiddleware(Spy(), own), "POST", "/mcp", [(b"authorization", b"Bearer " + data)]
    )
    assert (response.status, response.json()["error"], own.seen) == (400, "invalid_request", [])


@pytest.mark.rule("RS-65")
@rows("size", [64 * 1024, 64 * 1024 + 1])
async def test_a_token_beyond_64_kib_is_too_large_and_not_invalid(size: int) -> None:
    own, events = Own(), []
    own.seen = []
    app = MCPAuthMiddleware(Spy(), own, on_event=events.append)
    response = await call(app, "POST", "/mcp", {"Authorization": f"Bearer {'a' * size}"})
    if size == 64 * 1024:
        assert (response.status, len(own.seen)) == (200, 1)
        return
    assert (response.status, own.seen) == (431, [])
    assert response.header("www-authenticate") is None, "nobody is asked to sign in again"
    assert response.json()["error"] == "invalid_request"
    assert "larger than 64 KiB" in response.json()["error_description"]
    assert [each.reason for each in events] == ["too_long"]


@pytest.mark.rule("RS-65")
async def test_large_claims_count_for_several_tokens_in_the_cache() -> None:
    def packed(size: int) -> tuple[object, ...]:
        return VerifiedToken("c", (), None, None, None, b"x" * size).pack()

    assert [claims_weight(packed(size)) for size in (0, 4095, 4096, 8192, 48_000)] == [  # type: ignore[arg-type]  # a plain tuple
        *(1, 1, 2, 3, 12)
    ]
    cache: LRUCache[str] = LRUCache(4, len)
    for key, value in ((b"1", "a"), (b"2", "bb"), (b"3", "cc"), (b"4", "ddddd")):
        cache.put(key, value)
    assert [cache.get(key) for key in (b"1", b"2", b"3", b"4")] == [None, "bb", "cc", None]
    cache.put(b"3", "c" * 5)
    assert cache.get(b"3") is None, "an entry that has become too large is gone"
    assert len(cache) == 1


@pytest.mark.rule("RS-65")
async def test_a_token_with_more_claims_than_the_cache_holds_is_verified_each_time() -> None:
    gate = Gate(token_cache_size=2)
    groups = [f"group-{number:06}" for number in range(2_000)]
    token = gate.forge(claims={"groups": groups, "aud": AUDIENCE})
    for _ in range(2):
        access = await gate.verifier.verify(token)
        assert access.claims["groups"] == groups
    assert gate.verifier.token_cache()(token.encode()) is None
    small = gate.forge()
    await gate.verifier.verify(small)
    assert gate.verifier.token_cache()(small.encode()) is not None
