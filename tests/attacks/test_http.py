"""Malformed and hostile requests, in process."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest
from asgiref.testing import ApplicationCommunicator

from asgi_mcp_auth import (
    AccessToken,
    ConfigurationError,
    InsufficientScope,
    JWTVerifier,
    MCPAuthMiddleware,
    RemoteAuthProvider,
    Rule,
    StaticTokenVerifier,
    TokenVerifier,
)
from asgi_mcp_auth.testing import FrozenClock, Issuer
from tests.support.asgi import Spy, call, handshake, make_scope
from tests.support.protection import (
    ALICE,
    BASE_URL,
    BOB,
    ISSUER,
    METADATA_PATH,
    METADATA_URL,
    RESOURCE,
    STRANGER,
    TOKENS,
    Guard,
    challenge_of,
    make_provider,
    protect,
)
from tests.support.rows import rows
from tests.tables import bearer

pytestmark = pytest.mark.asyncio

GOOD = b"Bearer alice-token"


async def refused(
    guard: Guard, headers: Any, status: int, reason: str, target: str = "/mcp"
) -> None:
    """Check a refusal, and that a good request gets in before and after it."""
    guard.assert_entered(await call(guard.app, "POST", "/mcp", ALICE))
    guard.assert_refused(await call(guard.app, "POST", target, headers), status, reason)
    guard.assert_entered(await call(guard.app, "POST", "/mcp", ALICE))


@pytest.mark.case("W01")
async def test_no_authorization_is_one_bearer_challenge_without_an_error() -> None:
    guard = protect(required_scopes=["mcp:read"])
    response = await call(guard.app, "POST", "/mcp")
    guard.assert_refused(response, 401, "missing_token")
    assert challenge_of(response) == {"resource_metadata": METADATA_URL, "scope": "mcp:read"}


@pytest.mark.case("W02")
@rows(
    "values",
    [
        (GOOD, b"Bearer bad"),
        (b"Bearer bad", GOOD),
        (GOOD, b"Basic YTpi"),
        (b"Basic YTpi", GOOD),
        (GOOD, GOOD),
        (GOOD, b""),
    ],
)
async def test_two_authorization_headers_are_400_whatever_they_say(
    values: tuple[bytes, bytes],
) -> None:
    headers = [(b"authorization", value) for value in values]
    await refused(protect(), headers, 400, "several_authorizations")


def bearer_guard() -> Guard:
    """A resource whose tokens are those that the tables of headers hold."""
    tokens = {token: {"client_id": "c", "subject": token[:9]} for _, token in bearer.TOKENS}
    verifier = StaticTokenVerifier({**tokens, "alice-token": TOKENS["alice-token"]})
    return protect(provider=RemoteAuthProvider(verifier, [ISSUER], BASE_URL))


@pytest.mark.case("W04")
@pytest.mark.rule("RS-25")
async def test_a_token_enters_however_its_scheme_is_spelled() -> None:
    guard = bearer_guard()
    for value, token in bearer.TOKENS:
        response = await call(guard.app, "POST", "/mcp", [(b"authorization", value)])
        guard.assert_entered(response, token[:9])


@pytest.mark.case("W05")
async def test_what_is_not_one_token_is_refused() -> None:
    guard = bearer_guard()
    for value in bearer.MALFORMED:
        await refused(guard, [(b"authorization", value)], 400, "authorization_syntax")


@pytest.mark.case("W05")
@rows("token", [b"=alice-token", b"alice:token", b"alice-token="])
async def test_a_token_that_only_looks_like_one_of_ours_is_unknown(token: bytes) -> None:
    await refused(protect(), [(b"authorization", b"Bearer " + token)], 401, "unknown_token")


@pytest.mark.case("W06")
async def test_another_scheme_counts_as_none() -> None:
    guard = bearer_guard()
    for value in bearer.OTHER_SCHEMES:
        response = await call(guard.app, "POST", "/mcp", [(b"authorization", value)])
        guard.assert_refused(response, 401, "missing_token")
        assert "error" not in challenge_of(response)


@pytest.mark.case("W07")
@rows("byte", [0x00, 0x07, 0x0A, 0x0B, 0x0D, 0x1B, 0x7F, 0x80, 0x85, 0xA0, 0xAD, 0xE9, 0xFF])
async def test_control_characters_and_bytes_beyond_ascii_are_refused(byte: int) -> None:
    guard = protect()
    for value in (
        b"Bearer alice%ctoken",
        b"Bearer alice-token%c",
        b"Bearer %calice-token",
        b"Bearer%calice-token",
    ):
        await refused(guard, [(b"authorization", value % byte)], 400, "authorization_syntax")


@pytest.mark.case("W08")
@pytest.mark.parametrize("size", [64 * 1024 + 1, 1024 * 1024])
async def test_a_token_longer_than_any_is_refused_without_a_look(size: int) -> None:
    guard = protect()
    await refused(guard, [(b"authorization", b"Bearer " + b"a" * size)], 431, "too_long")


@pytest.mark.case("W08")
async def test_ten_thousand_headers_are_read_once() -> None:
    guard = protect()
    many = [(b"x-%d" % number, b"y") for number in range(10_000)]
    guard.assert_entered(await call(guard.app, "POST", "/mcp", [*many, (b"authorization", GOOD)]))
    guard.assert_refused(await call(guard.app, "POST", "/mcp", many), 401, "missing_token")


@pytest.mark.case("W09")
@pytest.mark.parametrize(
    ("target", "headers"),
    [
        ("/mcp?access_token=alice-token", {}),
        ("/mcp", {"Cookie": "access_token=alice-token; Authorization=Bearer alice-token"}),
        ("/mcp", {"X-Authorization": "Bearer alice-token"}),
        ("/mcp", {"Proxy-Authorization": "Bearer alice-token"}),
        ("/mcp", {"X-Access-Token": "alice-token"}),
        ("/mcp", {"Sec-WebSocket-Protocol": "bearer, alice-token"}),
    ],
)
async def test_a_token_elsewhere_is_ignored(
    target: str, headers: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        await refused(protect(), headers, 401, "missing_token", target)
    assert not [
        record
        for record in caplog.records
        if "alice-token" in f"{record.getMessage()}{record.__dict__}"
    ]


@pytest.mark.case("W09")
async def test_a_token_in_a_form_is_ignored() -> None:
    guard = protect()
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    response = await call(guard.app, "POST", "/mcp", headers, body=b"access_token=alice-token")
    guard.assert_refused(response, 401, "missing_token")


@pytest.mark.case("W10")
async def test_a_header_and_a_query_token_are_one_method_too_many() -> None:
    """A query that only looks like it is the app's."""
    guard = protect()
    for query, found in bearer.QUERIES:
        target = f"/mcp?{query.decode()}"
        if found:
            await refused(guard, ALICE, 400, "several_token_methods", target)
        else:
            guard.assert_entered(await call(guard.app, "POST", target, ALICE))


ODD_PATHS = [
    *("//mcp", "///mcp", "/./mcp", "/x/../mcp", "/mcp/..;/", "/mcp/.", "/mcp/..", "//"),
    *(
        "/%2fmcp",
        "/mcp%2f",
        "/%6dcp",
        "/mcp%00",
        "/mcp%20",
        "/mcp%ff",
        "/\\mcp",
        "\\mcp",
        "/%5cmcp",
        "/%252fmcp",
    ),
    *(
        "/MCP",
        "/Mcp",
        "/mcp/",
        "/mcp;params",
        "/mcp?",
        "/mcp%23",
        "/mcp%3f",
        "/open;/mcp",
        "/mcp.json",
        "/mcp%0a",
    ),
    *("/.well-known/../mcp", "/.well-known/x/%2e%2e/mcp", "/.well-known//x"),
    *(
        "/open/../mcp",
        "/open/%2e%2e/mcp",
        "/open/..%2fmcp",
        "//open/x",
        "/open%2f..%2fmcp",
        "/open/%2e",
        "/OPEN/x",
    ),
    *(
        "",
        "*",
        "mcp",
        "http://evil.example/mcp",
        "evil.example:443",
        "/health/",
        "/healthz",
        "/health/../mcp",
    ),
]


@pytest.mark.case("W11", "W12", "W13", "W14", "W15")
@rows("path", ODD_PATHS)
async def test_no_spelling_of_a_path_gets_in_without_a_token(path: str) -> None:
    guard = protect(public_paths=["/open/", "/health"], rules=[Rule("/mcp", scopes=["mcp:read"])])
    for method in ("GET", "POST", "OPTIONS"):
        response = await call(guard.app, method, path)
        assert (response.status, guard.spy.scopes) == (401, [])
    assert guard.reasons == ["missing_token"] * 3


@pytest.mark.case("W12")
@rows("path", ODD_PATHS)
async def test_the_gate_and_the_app_see_the_same_path(path: str) -> None:
    guard = protect(public_paths=["/open/"])
    scope = make_scope("http", "GET", path, ALICE)
    await call(guard.app, "GET", path, ALICE)
    inner = guard.spy.scope
    assert (inner["path"], inner["raw_path"], inner["root_path"]) == (
        scope["path"],
        scope["raw_path"],
        "",
    )


@pytest.mark.case("W14")
@pytest.mark.parametrize("path", [f"{METADATA_PATH}/%2e%2e/mcp", f"{METADATA_PATH}/../../mcp"])
async def test_a_path_below_our_documents_is_no_way_around(path: str) -> None:
    guard = protect()
    for headers in ({}, ALICE):
        assert (await call(guard.app, "GET", path, headers)).status == 404
    assert guard.spy.scopes == []


@pytest.mark.case("W16")
@rows("root_path", ["", "/api", "/api/", "/a%2fb", "/api//"])
async def test_protection_and_urls_do_not_depend_on_root_path(root_path: str) -> None:
    guard = protect(public_paths=["/open"])
    for prefix in ("", root_path.rstrip("/")):
        members = {"root_path": root_path, "raw_path": None}
        response = await call(guard.app, "POST", path=f"{prefix}/mcp", **members)
        guard.assert_refused(response, 401, "missing_token")
        assert challenge_of(response)["resource_metadata"] == METADATA_URL
        document = await call(guard.app, "GET", path=f"{prefix}{METADATA_PATH}", **members)
        assert (document.status, document.json()["resource"]) == (200, RESOURCE)


@pytest.mark.case("W17")
async def test_tokens_of_two_mounts_are_not_interchangeable() -> None:
    clock = FrozenClock()
    with Issuer(algorithms=["ES256"], clock=clock) as idp:
        guards: dict[str, Guard] = {}
        for path in ("/a", "/b"):
            verifier = JWTVerifier(public_key=idp.public_jwk(), issuer=idp.issuer, clock=clock)
            guards[path] = protect(
                provider=RemoteAuthProvider(verifier, [idp.issuer], BASE_URL), mcp_path=path
            )
        for path, guard in guards.items():
            for other in guards:
                headers = {"Authorization": f"Bearer {idp.mint(aud=BASE_URL + other)}"}
                response = await call(guard.app, "POST", "/x", headers, root_path=path)
                if other == path:
                    guard.assert_entered(response)
                else:
                    guard.assert_refused(response, 401, "audience")


HOSTS: list[list[tuple[bytes, bytes]]] = [
    [(b"host", b"evil.example")],
    [(b"host", b"evil.example/?")],
    [(b"host", b"evil.example"), (b"host", b"mcp.example.com")],
    [(b"host", b"")],
    [(b"host", b"mcp.example.com:99999999")],
    [(b"host", b'evil"\r\nx: y')],
    [(b"host", b"\xff\xfe")],
]


@pytest.mark.case("W18")
@rows("host", HOSTS)
async def test_no_host_header_gets_into_a_url(host: list[tuple[bytes, bytes]]) -> None:
    guard = protect()
    answers = [
        await call(guard.app, "POST", "/mcp", host),
        await call(guard.app, "GET", METADATA_PATH, host),
        await call(guard.app, "GET", "/.well-known/oauth-authorization-server", host),
    ]
    assert [answer.status for answer in answers] == [401, 200, 404]
    assert not [answer for answer in answers if "evil" in f"{answer.headers}{answer.body!r}"]
    assert challenge_of(answers[0])["resource_metadata"] == METADATA_URL


@pytest.mark.case("W18")
async def test_a_request_without_host_is_answered() -> None:
    guard = protect()
    scope = make_scope("http", "POST", "/mcp")
    scope["headers"] = []
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await guard.app(scope, None, send)  # type: ignore[arg-type]
    assert sent[0]["status"] == 401


@pytest.mark.case("W19")
@rows(
    "name",
    [
        *(
            "X-Forwarded-Host",
            "X-Forwarded-Proto",
            "X-Forwarded-Prefix",
            "X-Forwarded-For",
            "X-Forwarded-Path",
        ),
        *("Forwarded", "X-Original-URL", "X-Rewrite-URL", "X-Original-Method", "X-Forwarded-User"),
    ],
)
async def test_forwarded_headers_are_ignored(name: str) -> None:
    guard = protect(public_paths=["/open"])
    response = await call(guard.app, "POST", "/mcp", {name: "/open"})
    guard.assert_refused(response, 401, "missing_token")
    assert challenge_of(response)["resource_metadata"] == METADATA_URL


@pytest.mark.case("W20")
async def test_head_without_a_token_is_401_without_a_body() -> None:
    guard = protect()
    response = await call(guard.app, "HEAD", "/mcp")
    assert response.body == b""
    guard.assert_refused(response, 401, "missing_token")


@pytest.mark.case("W21")
async def test_a_preflight_is_answered_without_the_app_and_without_credentials() -> None:
    guard = protect(allowed_origins="*")
    headers = {"Origin": "https://any.example", "Access-Control-Request-Method": "POST"}
    response = await call(guard.app, "OPTIONS", "/mcp", headers)
    assert (response.status, guard.spy.scopes) == (204, [])
    assert response.header("access-control-allow-origin") == "*"
    assert response.header("access-control-allow-credentials") is None
    assert "WWW-Authenticate" in (response.header("access-control-expose-headers") or "")


@pytest.mark.case("W22")
@pytest.mark.parametrize("origin", ["null", "https://evil.example"])
async def test_every_page_may_read_the_metadata_and_none_with_credentials(origin: str) -> None:
    response = await call(protect().app, "GET", METADATA_PATH, {"Origin": origin})
    assert (response.status, response.header("access-control-allow-origin")) == (200, "*")
    assert response.header("access-control-allow-credentials") is None


@pytest.mark.case("W23")
@rows(
    "method",
    [
        "PUT",
        "PATCH",
        "DELETE",
        "TRACE",
        "CONNECT",
        "PROPFIND",
        "FOO",
        "post",
        "get",
        "options",
        "",
        "GET ",
    ],
)
async def test_no_method_gets_in_without_a_token(method: str) -> None:
    guard = protect()
    for headers in (
        {},
        {"X-HTTP-Method-Override": "OPTIONS", "Access-Control-Request-Method": "GET"},
    ):
        guard.assert_refused(await call(guard.app, method, "/mcp", headers), 401, "missing_token")


@pytest.mark.case("W23")
@pytest.mark.parametrize("method", ["options", "OPTIONS ", "OPTION"])
async def test_what_only_looks_like_a_preflight_needs_a_token(method: str) -> None:
    guard = protect()
    headers = {"Origin": BASE_URL, "Access-Control-Request-Method": "POST"}
    guard.assert_refused(await call(guard.app, method, "/mcp", headers), 401, "missing_token")


@pytest.mark.case("W24")
@rows("denial", [True, False])
@rows(("headers", "reason"), [({}, "missing_token"), (STRANGER, "unknown_token")])
async def test_a_websocket_without_a_valid_token_is_closed_before_accept(
    headers: dict[str, str], reason: str, denial: bool
) -> None:
    guard = protect()
    answer = await handshake(guard.app, "/mcp", headers, denial=denial)
    assert (answer.accepted, guard.reasons, guard.spy.scopes) == (False, [reason], [])
    assert (await handshake(guard.app, "/mcp", ALICE, denial=denial)).accepted


@pytest.mark.case("W26")
async def test_the_lifespan_is_forwarded_exactly_once() -> None:
    spy = Spy()
    lifespan = ApplicationCommunicator(
        MCPAuthMiddleware(spy, make_provider()), {"type": "lifespan"}
    )  # type: ignore[arg-type]
    for phase in ("startup", "shutdown"):
        await lifespan.send_input({"type": f"lifespan.{phase}"})
        assert await lifespan.receive_output() == {"type": f"lifespan.{phase}.complete"}
    await lifespan.wait()
    assert spy.lifespan == ["lifespan.startup", "lifespan.shutdown"]


@pytest.mark.case("W27")
@rows("kind", ["http2.push", "mcp", "", "HTTP", "webtransport"])
async def test_an_unknown_scope_type_is_not_passed_through(kind: str) -> None:
    guard = protect(public_paths=["/open"])
    with pytest.raises(RuntimeError, match="cannot protect the ASGI scope type"):
        await guard.app({**make_scope("http", "GET", "/open", ALICE), "type": kind}, None, None)  # type: ignore[arg-type]
    assert guard.spy.scopes == []


@pytest.mark.case("W31")
async def test_a_client_that_leaves_while_its_token_is_verified_harms_no_other() -> None:
    clock = FrozenClock()
    with Issuer(algorithms=["ES256"], clock=clock) as idp:
        verifier = JWTVerifier(issuer=idp.issuer, clock=clock)
        guard = protect(provider=RemoteAuthProvider(verifier, [idp.issuer], BASE_URL))
        idp.delay("/jwks", 0.1)
        headers = {"Authorization": f"Bearer {idp.mint(aud=RESOURCE)}"}
        tasks = [asyncio.create_task(call(guard.app, "POST", "/mcp", headers)) for _ in range(4)]
        await asyncio.sleep(0.02)
        tasks[0].cancel()  # servers that cancel abandoned requests
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(results[0], asyncio.CancelledError)
        assert [result.status for result in results[1:]] == [200] * 3  # type: ignore[union-attr]
        assert (idp.hits["/jwks"], guard.reasons) == (1, [])


@pytest.mark.case("W32")
@rows("started", [False, True])
@rows("error", [ValueError("mine"), InsufficientScope("mcp:admin"), KeyboardInterrupt()])
async def test_what_the_app_raises_propagates_and_nothing_starts_twice(
    error: BaseException, started: bool
) -> None:
    sent: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if started:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        raise error

    async def send(message: Any) -> None:
        sent.append(f"{message['type']} {message.get('status')}")

    guard = protect(app)
    scope = make_scope("http", "POST", "/mcp", ALICE)
    if isinstance(error, InsufficientScope) and not started:
        await guard.app(scope, None, send)  # type: ignore[arg-type]
        assert sent == ["http.response.start 403", "http.response.body None"]
        return
    with pytest.raises(type(error)) as raised:
        await guard.app(scope, None, send)  # type: ignore[arg-type]
    assert raised.value is error
    assert sent == (["http.response.start 200"] if started else [])


@pytest.mark.case("W33")
async def test_a_stream_outlives_its_token_and_a_new_request_does_not() -> None:
    """The token is checked when the request comes; a stream that has to end with it must do so
    itself.
    """
    clock = FrozenClock()
    with Issuer(algorithms=["ES256"], clock=clock) as idp:
        verifier = JWTVerifier(public_key=idp.public_jwk(), issuer=idp.issuer, clock=clock)

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for minute in range(60):
                clock.advance(60)
                await send(
                    {
                        "type": "http.response.body",
                        "body": b"data: %d\n\n" % minute,
                        "more_body": minute < 59,
                    }
                )

        guard = protect(app, RemoteAuthProvider(verifier, [idp.issuer], BASE_URL))
        headers = {"Authorization": f"Bearer {idp.mint(aud=RESOURCE)}"}
        response = await call(guard.app, "GET", "/mcp", headers)
        assert (response.status, response.body.count(b"data:")) == (200, 60)
        guard.assert_refused(await call(guard.app, "GET", "/mcp", headers), 401, "expired")


@pytest.mark.case("W34")
async def test_an_outer_user_is_overwritten_and_the_outer_scope_is_not() -> None:
    guard = protect()
    outer = make_scope("http", "GET", "/mcp", ALICE, user="root", auth="root", access_token="root")
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    before = dict(outer)
    await guard.app(outer, None, send)  # type: ignore[arg-type]
    assert outer == before
    inner = guard.spy.scope
    assert (inner["user"].identity, inner["access_token"].subject) == ("alice", "alice")
    assert inner["auth"].scopes == ["mcp:read", "mcp:write"]


@pytest.mark.case("W35")
@rows("name", ["X-User", "X-Auth-Subject", "X-Forwarded-User", "Remote-User", "X-Access-Token"])
async def test_identity_headers_are_never_trusted(name: str) -> None:
    guard = protect()
    await refused(guard, {name: "root"}, 401, "missing_token")
    guard.assert_entered(await call(guard.app, "POST", "/mcp", {**ALICE, name: "root"}))


@pytest.mark.case("W36")
@rows("text", ['"', "\\", "\r\nx: y", "é", "\0", "\x7f", "a b"])
async def test_nothing_that_could_break_the_challenge_gets_into_it(text: str) -> None:
    """``call`` refuses a header that would split the response, ``challenge_of`` everything beyond
    RFC 6750's syntax.
    """
    for build in (
        lambda: protect(required_scopes=[text]),
        lambda: protect(rules=[Rule("/x", scopes=[text])]),
        lambda: protect(provider=make_provider(challenge_scopes=[text])),
        lambda: protect(provider=make_provider(f"https://mcp.example.com/{text}")),
        lambda: protect(mcp_path=f"/mcp{text}"),
    ):
        with pytest.raises(ConfigurationError):
            build()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise InsufficientScope(text, "mcp:admin")

    guard = protect(app)
    assert challenge_of(await call(guard.app, "POST", "/mcp", ALICE))["scope"] == "mcp:admin"
    hostile = [
        (b"authorization", f"Bearer {text}".encode()),
        (b"origin", f"http://localhost{text}".encode()),
    ]
    for headers in (hostile[:1], hostile[1:], hostile):
        await call(protect().app, "POST", f"/{'%0d%0ax'}", headers)


@pytest.mark.case("W37")
async def test_the_bodies_of_refusals_are_constant() -> None:
    bodies: dict[int, set[bytes]] = {}
    guard = protect(required_scopes=["mcp:read"])
    cases: list[tuple[str, dict[str, str]]] = [
        ("/mcp", {}),
        ("/a", {}),
        ("/mcp", STRANGER),
        ("/mcp", {"Authorization": "Bearer other"}),
        ("/mcp", BOB),
        ("/b", BOB),
        ("/mcp", {"Authorization": "Bearer ,"}),
        ("/mcp", {"Authorization": "Bearer \x01"}),
    ]
    for target, headers in cases:
        response = await call(guard.app, "POST", target, headers)
        assert response.header("cache-control") == "no-store"
        assert set(response.json()) <= {"error", "error_description"}
        bodies.setdefault(response.status, set()).add(response.body)
    assert {status: len(each) for status, each in bodies.items()} == {401: 2, 403: 1, 400: 1}


@pytest.mark.case("W38", "W39")
@rows(
    ("path", "status"),
    [
        (METADATA_PATH, 200),
        (f"{METADATA_PATH}/", 200),
        ("/.well-known/oauth-protected-resource", 200),
        (f"{METADATA_PATH}?x=1", 200),
        ("/.well-known/oauth-protected-resource/", 404),
        ("/.well-known/oauth-protected-resource/other", 404),
        (f"{METADATA_PATH}//", 404),
        (f"{METADATA_PATH}/..", 404),
        (f"{METADATA_PATH}/../mcp", 404),
        ("/.well-known/oauth-protected-resource//mcp", 404),
        ("/.well-known/oauth-protected-resource/MCP", 404),
        ("/.well-known/oauth-protected-resource%2fmcp", 200),
        ("/.WELL-KNOWN/oauth-protected-resource/mcp", 401),
        ("/.well-known//oauth-protected-resource/mcp", 401),
        ("//.well-known/oauth-protected-resource/mcp", 401),
        ("/x/.well-known/oauth-protected-resource/mcp", 401),
    ],
)
async def test_only_configured_documents_exist_and_the_app_never_answers(
    path: str, status: int
) -> None:
    guard = protect()
    for method in ("GET", "HEAD"):
        response = await call(guard.app, method, path)
        assert (response.status, guard.spy.scopes) == (status, [])
        if status == 200 and method == "GET":
            ending = "/" if path.endswith("/") else ""
            assert json.loads(response.body)["resource"] == RESOURCE + ending


@pytest.mark.case("W40")
@rows(
    "path", ["", "/", "//", "/health/../mcp", "health", "/h.*", "^/health", "/health?x", "/a/./b"]
)
async def test_a_public_path_is_plain_or_refused_at_construction(path: str) -> None:
    with pytest.raises(ConfigurationError, match="public"):
        protect(public_paths=[path])


@pytest.mark.case("W40")
async def test_a_public_path_does_not_open_its_neighbours() -> None:
    guard = protect(public_paths=["/health"])
    guard.assert_entered(await call(guard.app, "GET", "/health"), None)
    guard.assert_refused(await call(guard.app, "GET", "/healthz"), 401, "missing_token")


class Broken(TokenVerifier):
    """A verifier with a bug."""

    async def verify_token(self, token: str) -> AccessToken | None:
        raise KeyError("tenant")


@pytest.mark.case("W41")
async def test_a_verifier_with_a_bug_admits_no_request() -> None:
    guard = protect(provider=RemoteAuthProvider(Broken(), ["https://idp.example.com"], BASE_URL))
    with pytest.raises(KeyError, match="tenant"):
        await call(guard.app, "POST", "/mcp", ALICE)
    with pytest.raises(KeyError, match="tenant"):
        await handshake(guard.app, "/mcp", ALICE)
    assert guard.spy.scopes == []
    guard.assert_refused(await call(guard.app, "POST", "/mcp"), 401, "missing_token")


@pytest.mark.case("W42")
async def test_a_key_set_that_cannot_be_had_is_503_and_not_401() -> None:
    clock = FrozenClock()
    with Issuer(algorithms=["ES256"], clock=clock) as idp:
        verifier = JWTVerifier(issuer=idp.issuer, clock=clock)
        guard = protect(provider=RemoteAuthProvider(verifier, [idp.issuer], BASE_URL))
        idp.fail()
        headers = {"Authorization": f"Bearer {idp.mint(aud=RESOURCE)}"}
        response = await call(guard.app, "POST", "/mcp", headers)
        guard.assert_refused(response, 503, "unavailable")
        assert response.header("www-authenticate") is None
        idp.reset()
        clock.advance(int(response.header("retry-after") or 0))
        guard.assert_entered(await call(guard.app, "POST", "/mcp", headers))
