"""Refusals that cost the event loop little, however the request is written.

The tests count calls of Python and C functions, which do not depend on the machine's load. The
times are in docs/performance.md.
"""

from __future__ import annotations

import base64
import re
import sys
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_mcp_auth import JWTVerifier, MultiAuth, PasswordLogin
from asgi_mcp_auth.errors import MalformedRequest
from asgi_mcp_auth.server import RateLimits
from asgi_mcp_auth.server.clients.authentication import ASSERTION_TYPE
from asgi_mcp_auth.server.web import EndpointRequest
from asgi_mcp_auth.stores import Record
from asgi_mcp_auth.stores.encrypted import EncryptedStore
from asgi_mcp_auth.stores.memory import MemoryStore
from asgi_mcp_auth.testing import FrozenClock
from tests.support.asgi import Response, call
from tests.support.authorization_server import KEY, deploy
from tests.support.gate import ISSUER, NOW, Gate, segment, signing_key
from tests.support.protection import protect
from tests.support.rows import rows

FEW_CALLS = 3000
HEAD_BYTES = 60 * 1024
FORM = [("Content-Type", "application/x-www-form-urlencoded")]


async def calls_of(work: Callable[[], Awaitable[Response]]) -> tuple[Response, int]:
    """Return an answer, and how many functions were called on the way to it."""
    calls = 0

    def count(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        answer = await work()
    finally:
        sys.setprofile(None)
    return answer, calls


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "cookies",
    [b";" * HEAD_BYTES, b"a=b; " * (HEAD_BYTES // 5), b"mcp_session=a; " * (HEAD_BYTES // 15)],
    ids=["semicolons", "many cookies", "cookies like ours"],
)
async def test_a_cookie_header_is_not_taken_apart_cookie_by_cookie(cookies: bytes) -> None:
    async with deploy() as server:
        headers = [("Cookie", cookies.decode())]
        answer, calls = await calls_of(lambda: server.call("GET", "/applications", headers=headers))
        assert answer.status == 303
        assert calls < FEW_CALLS


@pytest.mark.asyncio
@rows("piece", [b",", b"*/*;q=1,", b";", b"text/html;q=1,"])
async def test_an_accept_header_that_no_browser_sends_is_not_taken_apart(piece: bytes) -> None:
    guard = protect()
    accept = b"text/html," + piece * (HEAD_BYTES // len(piece))
    for headers in ([(b"accept", accept)], [(b"accept", b"text/html"), (b"accept", accept)]):
        answer, calls = await calls_of(lambda headers=headers: call(guard.app, "GET", "/", headers))
        assert (answer.status, answer.header("content-type")) == (401, "application/json")
        assert calls < FEW_CALLS


def two_issuers() -> MultiAuth:
    """Return a verifier that looks into a payload to see whose keys to use."""
    key, clock = signing_key().public_jwk(), FrozenClock(NOW)
    names = (ISSUER, "https://other.example.com")
    return MultiAuth(
        verifiers=[JWTVerifier(public_key=key, issuer=name, clock=clock) for name in names]
    )


DENSE = ["[],", '{"":0},', "0,", "[[[[]]]],", '"",']


@pytest.mark.asyncio
@rows("piece", DENSE)
async def test_a_part_of_a_token_that_takes_long_to_read_is_refused_unread(piece: str) -> None:
    """Whose signature is not verified yet: headers, and payloads where they say whose keys to
    use.
    """
    dense = segment(f'{{"alg":"ES256","x":[{piece * (45_000 // len(piece))}0]}}'.encode())
    gate = Gate()
    await gate.refuses(f"{dense}.{segment({})}.{segment(b'x' * 64)}", "header")
    several = Gate(two_issuers())
    header = segment({"alg": "ES256"})
    await several.refuses(f"{header}.{dense}.{segment(b'x' * 64)}", "payload")


@pytest.mark.asyncio
async def test_a_large_token_that_is_quickly_read_is_accepted() -> None:
    """Some issuers put a chain of certificates into the header, or a thousand groups into the
    payload.
    """
    groups = [f"00000000-0000-0000-0000-{number:012}" for number in range(900)]
    for gate in (Gate(), Gate(two_issuers())):
        chain = {"x5c": ["MII" + "a" * 2000] * 4}
        await gate.accepts(gate.forge(header=chain, claims={"groups": groups}))


@pytest.mark.asyncio
async def test_an_assertion_that_takes_long_to_read_names_no_client() -> None:
    async with deploy() as server:
        dense = segment(f'{{"iss":"x","x":[{"0," * 20_000}0]}}'.encode())
        form = {
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": f"{segment({'alg': 'ES256'})}.{dense}.{segment(b'x' * 64)}",
        }
        answer = await server.call("POST", "/token", headers=FORM, body=urlencode(form).encode())
        assert (answer.status, answer.json()["error"]) == (401, "invalid_client")
        assert server.reasons() == ["assertion"]


@pytest.mark.case("Z55")
@pytest.mark.asyncio
@rows("piece", ["%C3%A9", "%41", "+", "a%41"])
async def test_a_percent_encoded_form_is_not_read_escape_by_escape(piece: str) -> None:
    async with deploy() as server:
        body = ("client_id=" + piece * (15 * 1024 // len(piece))).encode()
        for target in ("/token", "/par", "/revoke", "/login"):
            answer, calls = await calls_of(
                lambda target=target: server.call("POST", target, headers=FORM, body=body)
            )
            assert answer.status in (400, 401)
            assert calls < FEW_CALLS


@pytest.mark.asyncio
async def test_a_basic_header_that_is_longer_than_any_is_refused_unread() -> None:
    async with deploy() as server:
        credentials = base64.b64encode(b"%41" * 4 * 1024 + b":" + b"%41" * 1024).decode()
        headers = [*FORM, ("Authorization", f"Basic {credentials}")]
        answer, calls = await calls_of(
            lambda: server.call("POST", "/token", headers=headers, body=b"a=b")
        )
        assert (answer.status, answer.json()["error"]) == (401, "invalid_client")
        assert server.reasons() == ["no_credentials"]
        assert calls < FEW_CALLS


@pytest.mark.asyncio
async def test_names_that_are_longer_than_any_account_are_counted_as_they_begin() -> None:
    """Normalising a name of 16 KiB takes milliseconds, and no account has it."""
    login = PasswordLogin({"alice": "secret"})
    async with deploy(login=login, rate_limits=RateLimits(login_failures=2)) as server:
        browser = server.browser()
        page = await browser.open((await server.register()).authorization_url())
        statuses = [
            (
                await browser.submit(page, username="a" * 300 + str(number), password="wrong")
            ).response.status
            for number in range(3)
        ]
        assert statuses == [401, 401, 429]


class CountingStore(MemoryStore):
    """Counts how often it is asked."""

    def __init__(self, clock: FrozenClock) -> None:
        super().__init__(clock=clock)
        self.asked = 0

    async def get(self, ns: str, key: str) -> Record | None:
        self.asked += 1
        return await super().get(ns, key)


@pytest.mark.case("Z122")
@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("target", "limits"),
    [
        ("/register", RateLimits(register=3)),
        ("/token", RateLimits(token=3)),
        ("/applications", RateLimits(authorize=3)),
    ],
)
async def test_requests_over_a_limit_are_refused_without_a_look_at_the_store(
    target: str, limits: RateLimits
) -> None:
    clock = FrozenClock()
    store = CountingStore(clock)
    async with deploy(
        clock=clock, store=EncryptedStore(store, [KEY]), rate_limits=limits
    ) as server:
        for _ in range(4):
            await server.call("POST", target, headers=FORM)
        before = store.asked
        for _ in range(100):
            assert (await server.call("POST", target, headers=FORM)).status == 429
        assert store.asked == before
        clock.advance(60)
        assert (await server.call("POST", target, headers=FORM)).status != 429


def scope_with(**members: Any) -> dict[str, Any]:
    return {"type": "http", "method": "GET", "headers": [], "query_string": b"", **members}


async def nothing() -> Any:
    raise AssertionError("there is no body")


BROKEN_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
PIECES = st.sampled_from(
    [b"%41", b"%C3%A9", b"%", b"+", b"&", b"=", b"a", b"\\", b"u0041", b"%zz", b"%4", b"%ED%A0%80"]
)


@given(st.lists(PIECES | st.binary(max_size=2), max_size=12).map(b"".join))
@pytest.mark.asyncio
async def test_queries_say_what_they_say_to_the_standard_library(query: bytes) -> None:
    request = EndpointRequest("token", scope_with(query_string=query), nothing)
    expected: dict[str, list[str]] | None = {}
    try:
        for name, value in parse_qsl(
            query.decode("ascii"), keep_blank_values=True, errors="strict"
        ):
            expected.setdefault(name, []).extend([value] * bool(value))
    except ValueError:
        expected = None
    if BROKEN_ESCAPE.search(query):  # which the standard library takes for text
        expected = None
    try:
        await request.read_parameters()
    except MalformedRequest:
        assert expected is None
    else:
        assert {name: request.parameters.all(name) for name in request.parameters} == expected
