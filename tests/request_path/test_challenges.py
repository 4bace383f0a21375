"""Challenges: the answers to clients without a sufficient token."""

from __future__ import annotations

import re
from typing import Any

import pytest

from asgi_mcp_auth import (
    AccessToken,
    ClaimRules,
    JWTVerifier,
    RemoteAuthProvider,
    ServerUnavailable,
    StaticTokenVerifier,
    TokenVerifier,
)
from asgi_mcp_auth.testing import FrozenClock, Issuer
from tests.support.asgi import Response, call, serve
from tests.support.protection import (
    ALICE,
    BASE_URL,
    BOB,
    METADATA_URL,
    RESOURCE,
    STRANGER,
    TOKENS,
    challenge_of,
    make_provider,
    protect,
)
from tests.support.rows import rows
from tests.support.sockets import request

pytestmark = pytest.mark.asyncio


@pytest.mark.rule("RS-13", "RS-46")
@rows("method", ["GET", "POST", "DELETE", "HEAD", "OPTIONS", "PUT"])
async def test_no_credentials_are_401_with_an_absolute_metadata_url_for_every_method(
    method: str,
) -> None:
    guard = protect()
    response = await call(guard.app, method, "/mcp")
    guard.assert_refused(response, 401, "missing_token")
    assert challenge_of(response) == {"resource_metadata": METADATA_URL}


@pytest.mark.rule("RS-14")
async def test_no_credentials_are_answered_without_an_error_code() -> None:
    response = await call(protect().app, "POST", "/mcp")
    assert not {"error", "error_description"} & challenge_of(response).keys()
    assert response.json().keys() == {"error_description"}
    assert "Sign-in is needed" in response.json()["error_description"]


@pytest.mark.rule("RS-15")
async def test_the_challenge_names_the_scopes_that_the_operation_needs() -> None:
    guard = protect(
        provider=make_provider(required_scopes=["mcp:read"]), required_scopes=["mcp:write"]
    )
    response = await call(guard.app, "POST", "/mcp")
    assert challenge_of(response) == {
        "resource_metadata": METADATA_URL,
        "scope": "mcp:read mcp:write",
    }


@pytest.mark.rule("RS-15")
async def test_the_challenge_has_no_scope_where_none_is_needed() -> None:
    assert "scope" not in challenge_of(await call(protect().app, "POST", "/mcp"))


async def test_challenge_scopes_of_the_provider_come_first() -> None:
    guard = protect(
        provider=make_provider(
            challenge_scopes=["mcp:all", "mcp:read"], required_scopes=["mcp:read"]
        )
    )
    assert challenge_of(await call(guard.app, "POST", "/mcp"))["scope"] == "mcp:all mcp:read"
    guard.events.clear()
    guard.assert_entered(await call(guard.app, "POST", "/mcp", ALICE))


INVALID: list[tuple[str, dict[str, Any], str]] = [
    ("malformed", {}, "malformed"),
    ("expired", {"exp": 1_799_999_999}, "expired"),
    ("another audience", {"aud": "https://mcp.example.com/mcp-other"}, "audience"),
    ("no audience", {"aud": None}, "missing_aud"),
    ("another issuer", {"iss": "https://evil.example"}, "issuer"),
    ("no expiry", {"exp": None}, "missing_exp"),
    ("not yet valid", {"nbf": 1_800_000_999}, "not_yet_valid"),
]


@pytest.mark.rule("RS-16")
@rows(("case", "claims", "reason"), INVALID, ids=[case for case, _, _ in INVALID])
async def test_an_invalid_token_is_401_invalid_token_with_the_metadata_url_and_scope(
    case: str, claims: dict[str, Any], reason: str
) -> None:
    clock = FrozenClock()
    with Issuer(algorithms=["ES256"], clock=clock) as idp:
        verifier = JWTVerifier(
            public_key=idp.public_jwk(),
            issuer=idp.issuer,
            clock=clock,
            required_scopes=["mcp:read"],
        )
        guard = protect(provider=RemoteAuthProvider(verifier, [idp.issuer], BASE_URL))
        usual = {"aud": RESOURCE, "scope": "mcp:read"}
        token = "not.a-token" if case == "malformed" else idp.mint(**(usual | claims))
        response = await call(guard.app, "POST", "/mcp", {"Authorization": f"Bearer {token}"})
        guard.assert_refused(response, 401, reason)
        challenge = challenge_of(response)
        assert (challenge["error"], challenge["resource_metadata"], challenge["scope"]) == (
            "invalid_token",
            METADATA_URL,
            "mcp:read",
        )
        good = await call(
            guard.app, "POST", "/mcp", {"Authorization": f"Bearer {idp.mint(**usual)}"}
        )
        guard.assert_entered(good)


MALFORMED: list[tuple[str, list[tuple[bytes, bytes]], str]] = [
    ("two headers", [(b"authorization", b"Bearer alice-token")] * 2, "several_authorizations"),
    ("no token", [(b"authorization", b"Bearer ")], "authorization_syntax"),
    (
        "several tokens",
        [(b"authorization", b"Bearer alice-token bob-token")],
        "authorization_syntax",
    ),
    ("not token68", [(b"authorization", b"Bearer alice,token")], "authorization_syntax"),
    ("not ASCII", [(b"authorization", "Bearer alicé".encode())], "authorization_syntax"),
]


@pytest.mark.rule("RS-17")
@rows(("headers", "reason"), [each[1:] for each in MALFORMED], ids=[each[0] for each in MALFORMED])
async def test_a_malformed_request_is_400_invalid_request_with_a_challenge(
    headers: list[tuple[bytes, bytes]], reason: str
) -> None:
    guard = protect()
    response = await call(guard.app, "POST", "/mcp", headers)
    guard.assert_refused(response, 400, reason)
    challenge = challenge_of(response)
    assert (challenge["error"], challenge["resource_metadata"]) == ("invalid_request", METADATA_URL)


@pytest.mark.rule("RS-17")
async def test_a_header_and_a_query_token_are_400() -> None:
    guard = protect()
    response = await call(guard.app, "POST", "/mcp?access_token=alice-token", ALICE)
    guard.assert_refused(response, 400, "several_token_methods")


@pytest.mark.rule("RS-18")
async def test_too_little_scope_is_403_with_the_whole_set() -> None:
    guard = protect(required_scopes=["mcp:read", "mcp:admin"])
    response = await call(guard.app, "POST", "/mcp", ALICE)
    guard.assert_refused(response, 403, "insufficient_scope")
    challenge = challenge_of(response)
    assert challenge["error"] == "insufficient_scope"
    assert challenge["scope"] == "mcp:read mcp:admin"
    assert challenge["resource_metadata"] == METADATA_URL


@pytest.mark.rule("RS-19")
async def test_a_broad_scope_implies_the_narrow_ones() -> None:
    rules = ClaimRules(scope_hierarchy={"mcp:admin": ["mcp:write"], "mcp:write": ["mcp:read"]})
    with Issuer(algorithms=["ES256"]) as idp:
        verifier = JWTVerifier(public_key=idp.public_jwk(), issuer=idp.issuer, claims=rules)
        guard = protect(
            provider=RemoteAuthProvider(verifier, [idp.issuer], BASE_URL),
            required_scopes=["mcp:read"],
        )
        broad = idp.mint(aud=RESOURCE, scope="mcp:admin")
        guard.assert_entered(
            await call(guard.app, "POST", "/mcp", {"Authorization": f"Bearer {broad}"})
        )
        other = idp.mint(aud=RESOURCE, scope="mcp:adm")
        response = await call(guard.app, "POST", "/mcp", {"Authorization": f"Bearer {other}"})
        guard.assert_refused(response, 403, "insufficient_scope")


def every_refusal() -> list[tuple[str, dict[str, str]]]:
    return [
        ("/mcp", {}),
        ("/mcp", STRANGER),
        ("/mcp", BOB),
        ("/mcp", {"Authorization": "Bearer "}),
        ("/mcp?access_token=x", ALICE),
    ]


@pytest.mark.rule("RS-20")
@rows(("target", "headers"), every_refusal())
async def test_every_challenge_keeps_to_the_syntax(target: str, headers: dict[str, str]) -> None:
    guard = protect(required_scopes=["mcp:read", "mcp:admin"])
    challenge = challenge_of(await call(guard.app, "POST", target, headers))  # it checks the syntax
    assert challenge["scope"] == "mcp:read mcp:admin"


@pytest.mark.rule("RS-21")
@rows(("target", "headers"), every_refusal())
async def test_the_unanchored_expressions_of_the_sdks_find_the_right_values(
    target: str, headers: dict[str, str]
) -> None:
    guard = protect(required_scopes=["mcp:read", "mcp:admin"])
    response = await call(guard.app, "POST", target, headers)
    value, challenge = response.header("www-authenticate") or "", challenge_of(response)
    for name in ("scope", "error", "resource_metadata"):
        found = re.search(rf'{name}=(?:"([^"]+)"|([^\s,]+))', value)
        assert (found and found[1]) == challenge.get(name)
    assert list(challenge)[-1] == ("error_description" if "error" in challenge else "scope")
    assert "=" not in challenge.get("error_description", "")


@pytest.mark.rule("RS-22")
async def test_there_is_one_challenge_field_and_it_begins_with_bearer_and_a_parameter() -> None:
    response = await call(protect().app, "POST", "/mcp")
    assert [
        value.startswith('Bearer resource_metadata="') for value in response.all("www-authenticate")
    ] == [True]


async def test_a_bare_verifier_challenges_with_a_realm_only(
    caplog: pytest.LogCaptureFixture,
) -> None:
    guard = protect(provider=StaticTokenVerifier(TOKENS))
    assert [
        (each.levelname, "RemoteAuthProvider" in each.getMessage()) for each in caplog.records
    ] == [("WARNING", True)]
    response = await call(guard.app, "POST", "/mcp")
    guard.assert_refused(response, 401, "missing_token")
    assert response.header("www-authenticate") == 'Bearer realm="mcp"'
    response = await call(guard.app, "POST", "/mcp", STRANGER)
    assert challenge_of(response)["realm"] == "mcp"
    assert (await call(guard.app, "GET", "/.well-known/oauth-protected-resource/mcp")).status == 404


async def test_a_bare_verifier_with_scopes_challenges_with_realm_and_scope() -> None:
    guard = protect(provider=StaticTokenVerifier(TOKENS, required_scopes=["mcp:read"]))
    response = await call(guard.app, "POST", "/mcp")
    assert response.header("www-authenticate") == 'Bearer realm="mcp", scope="mcp:read"'


class Unavailable(TokenVerifier):
    """A verifier whose dependency is down."""

    def __init__(self, retry_after_seconds: float) -> None:
        super().__init__()
        self._seconds = retry_after_seconds

    async def verify_token(self, token: str) -> AccessToken | None:
        raise ServerUnavailable(self._seconds)


@pytest.mark.rule("RS-24")
@rows(("seconds", "header"), [(0, "1"), (1, "1"), (1.2, "2"), (30, "30")])
async def test_an_outage_is_503_with_retry_after_and_no_challenge(
    seconds: float, header: str
) -> None:
    guard = protect(
        provider=RemoteAuthProvider(Unavailable(seconds), ["https://idp.example.com"], BASE_URL)
    )
    response = await call(guard.app, "POST", "/mcp", ALICE)
    guard.assert_refused(response, 503, "unavailable")
    assert response.header("retry-after") == header
    assert response.header("www-authenticate") is None
    assert response.json()["error"] == "temporarily_unavailable"


@pytest.mark.rule("RS-24")
@rows(
    ("target", "headers", "error"),
    [
        ("/mcp", {}, None),
        ("/mcp", STRANGER, "invalid_token"),
        ("/mcp", BOB, "insufficient_scope"),
        ("/mcp", {"Authorization": "Bearer "}, "invalid_request"),
        ("/mcp", {"Origin": "https://evil.example"}, "access_denied"),
    ],
)
async def test_a_refusal_has_a_small_json_body_that_may_not_be_stored(
    target: str, headers: dict[str, str], error: str | None
) -> None:
    response = await call(protect(required_scopes=["mcp:read"]).app, "POST", target, headers)
    assert response.header("content-type") == "application/json"
    assert response.header("cache-control") == "no-store"
    assert response.header("content-length") == str(len(response.body))
    assert len(response.body) < 200
    assert response.json().get("error") == error


@pytest.mark.rule("RS-24")
async def test_the_body_does_not_tell_whether_a_token_exists() -> None:
    bodies: set[bytes] = set()
    clock = FrozenClock()
    tokens = {**TOKENS, "old-token": {"client_id": "client-a", "expires_at": int(clock.time())}}
    guard = protect(
        provider=RemoteAuthProvider(
            StaticTokenVerifier(tokens, clock=clock), ["https://i.example"], BASE_URL
        )
    )
    for token in ("old-token", "unknown-token", "x" * 20_000, "a:b|c"):
        response = await call(guard.app, "POST", "/mcp", {"Authorization": f"Bearer {token}"})
        bodies.add(response.body + (response.header("www-authenticate") or "").encode())
    assert guard.reasons == ["expired", *["unknown_token"] * 3]
    assert len(bodies) == 1


@pytest.mark.rule("RS-47")
async def test_the_first_request_of_a_session_is_treated_like_any_other() -> None:
    guard = protect()
    for method, headers in [
        ("POST", {}),
        ("GET", {}),
        ("POST", {"Mcp-Session-Id": "stolen"}),
        ("DELETE", {"Mcp-Session-Id": "s"}),
    ]:
        guard.assert_refused(await call(guard.app, method, "/mcp", headers), 401, "missing_token")


def wire(response: Response) -> dict[str, Any]:
    return {
        name: response.header(name)
        for name in ("www-authenticate", "content-type", "cache-control", "retry-after")
    }


@pytest.mark.rule("RS-13", "RS-14", "RS-15", "RS-16", "RS-17", "RS-18")
@pytest.mark.parametrize("server", ["uvicorn-h11", "uvicorn-httptools"])
async def test_look_the_same_over_uvicorn(server: str) -> None:
    guard = protect(required_scopes=["mcp:admin"])
    lines = [
        b"",
        b"Authorization: Bearer nobody-knows-this\r\n",
        b"Authorization: Bearer bob-token\r\n",
        b"Authorization: Bearer \r\n",
    ]
    with serve(guard.app, server) as base_url:
        over_the_wire = [
            request(
                base_url, b"POST /mcp HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n" + line + b"\r\n"
            )
            for line in lines
        ]
    reported = guard.reasons
    guard.events.clear()
    for (status, headers, body), line in zip(over_the_wire, lines, strict=True):
        value = line.removeprefix(b"Authorization:").strip()
        local = await call(guard.app, "POST", "/mcp", [(b"authorization", value)] if line else [])
        assert (status, body) == (local.status, local.body)
        assert {name: headers.get(name) for name in wire(local)} == wire(local)
    assert reported == guard.reasons


BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"


@pytest.mark.rule("RS-52")
@pytest.mark.parametrize(
    ("method", "accept", "is_page"),
    [
        ("GET", BROWSER, True),
        ("HEAD", BROWSER, True),
        ("GET", "text/html", True),
        ("GET", "TEXT/HTML;level=1, */*;q=.1", True),
        ("POST", BROWSER, False),
        ("OPTIONS", BROWSER, False),
        ("GET", None, False),
        ("GET", "*/*", False),
        ("GET", "text/html, */*", False),
        ("GET", "application/json, text/event-stream", False),
        ("GET", "text/html, application/json", False),
        ("GET", "text/html;q=0.5, text/event-stream", False),
        ("GET", "text/html;q=0", False),
        ("GET", "text/html;q=x", False),
        ("GET", "text/html;q=.", False),
        ("GET", "text/htmlx", False),
    ],
)
async def test_a_browser_gets_a_page_that_says_what_this_is(
    method: str, accept: str | None, is_page: bool
) -> None:
    guard = protect()
    plain = await call(guard.app, method, "/mcp")
    response = await call(guard.app, method, "/mcp", {} if accept is None else {"Accept": accept})
    assert response.status == 401
    assert response.header("www-authenticate") == plain.header("www-authenticate")
    assert response.header("cache-control") == "no-store"
    if not is_page:
        assert (response.headers, response.body) == (plain.headers, plain.body)
        return
    assert response.header("content-type") == "text/html; charset=utf-8"
    assert response.header("vary") == "Accept"
    policy = response.header("content-security-policy") or ""
    assert policy.startswith("default-src 'none'")
    assert "frame-ancestors 'none'" in policy
    if method == "GET":
        assert f"<code>{RESOURCE}</code>".encode() in response.body
        assert len(response.body) < 700


@pytest.mark.rule("RS-52")
async def test_the_page_is_escaped_and_there_is_one_without_an_address() -> None:
    odd = protect(provider=make_provider("https://h.example/a&b'"))
    page = (await call(odd.app, "GET", "/x", {"Accept": BROWSER})).body
    assert b"https://h.example/a&amp;b&#x27;/mcp" in page
    bare = protect(provider=make_provider().token_verifier)
    page = (await call(bare.app, "GET", "/x", {"Accept": BROWSER})).body
    assert b"This is an MCP server" in page
    assert b"<code>" not in page


@pytest.mark.rule("RS-52")
async def test_a_browser_with_a_token_gets_the_answer_for_clients() -> None:
    headers = {"Accept": BROWSER, "Authorization": "Bearer unknown"}
    response = await call(protect().app, "GET", "/mcp", headers)
    assert response.json()["error_description"].endswith("sign in again")
