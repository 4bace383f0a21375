"""Bearer Token Usage (RFC 6750): the header in, the challenge out."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_mcp_auth import (
    InsufficientScope,
    InvalidRequest,
    InvalidToken,
    MissingToken,
    TokenTooLarge,
)
from asgi_mcp_auth.errors import RequestError
from asgi_mcp_auth.headers import (
    MAX_TOKEN_BYTES,
    format_challenge,
    is_bearer_token,
    is_scope_token,
    parse_bearer,
    parse_credentials,
)
from tests.support.asgi import call
from tests.support.protection import ALICE, METADATA_URL, protect
from tests.support.rows import rows

B64TOKEN = string.ascii_letters + string.digits + "-._~+/"


@pytest.mark.case("V79")
def test_a_token_beyond_64_kib_is_too_large_and_not_looked_at() -> None:
    for tail in (b"a", b"\xff", b" b", b"=" * 2**20):
        with pytest.raises(TokenTooLarge) as caught:
            parse_bearer(b"Bearer " + b"a" * MAX_TOKEN_BYTES + tail)
        assert caught.value.reason == "too_long"


@given(st.binary(max_size=60))
def test_whatever_the_header_holds_it_is_a_token_another_scheme_or_malformed(value: bytes) -> None:
    for authorization in (value, b"Bearer " + value, b"bearer" + value):
        try:
            token = parse_bearer(authorization)
        except InvalidRequest:
            continue
        if token is not None:
            assert is_bearer_token(token)
            assert authorization[7:].lstrip(b" ") == token.encode()


@given(
    token=st.text(B64TOKEN, min_size=1, max_size=60),
    padding=st.integers(0, 3),
    spaces=st.integers(1, 3),
)
def test_every_b64token_is_found_again(token: str, padding: int, spaces: int) -> None:
    """§2.1: b64token = 1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="."""
    padded = token + "=" * padding
    assert parse_bearer(b"Bearer" + b" " * spaces + padded.encode()) == padded


@pytest.mark.case("W02", "W10")
@pytest.mark.rule("RS-17")
@rows(
    ("authorization", "fields", "query", "reason"),
    [
        (b"Basic YTpi", 1, b"", "missing_token"),
        (b"Basic YTpi", 1, b"access_token=a", "missing_token"),
        (b"Bearer a", 2, b"", "several_authorizations"),
        (b"Basic YTpi", 2, b"", "several_authorizations"),
        (b"Bearer a", 1, b"access_token=a", "several_token_methods"),
        (b"Bearer a", 1, b"x=1&access_token=", "several_token_methods"),
        (b"Bearer a b", 1, b"access_token=a", "authorization_syntax"),
    ],
)
def test_a_token_comes_in_exactly_one_header_and_by_one_method(
    authorization: bytes, fields: int, query: bytes, reason: str
) -> None:
    """§2: no more than one method; §2.3: the query is not used at all."""
    with pytest.raises(RequestError) as caught:
        parse_credentials(authorization, fields, query)
    assert caught.value.reason == reason


@rows("text", ["a", "mcp:read", "https://example.com/scope", "!", "#[]^_`{|}~", "~" * 100])
def test_a_scope_token_is_printable_ascii_without_quote_and_backslash(text: str) -> None:
    """§3: %x21 / %x23-5B / %x5D-7E."""
    assert is_scope_token(text)


@rows("text", ["", " ", "a b", '"', "\\", "a\n", "é", "\x7f", "\x1f", "\u2028"])
def test_anything_else_is_no_scope_token(text: str) -> None:
    """§3."""
    assert not is_scope_token(text)


@given(st.text(max_size=20))
def test_a_scope_token_can_stand_in_a_quoted_string(text: str) -> None:
    if is_scope_token(text):
        challenge = format_challenge(InsufficientScope(text), scopes=[text])
        assert challenge.split(b'scope="')[-1].split(b'"')[0].decode() == text


@pytest.mark.rule("RS-14")
def test_challenges_say_no_more_than_the_client_needs() -> None:
    """§3: at least one attribute, each at most once; §3.1: no error code when there was no
    token.
    """
    url = "https://h/.well-known/oauth-protected-resource"
    assert format_challenge(MissingToken(), realm="mcp") == b'Bearer realm="mcp"'
    assert format_challenge(MissingToken(), scopes=["a", "b"], resource_metadata=url) == (
        f'Bearer resource_metadata="{url}", scope="a b"'.encode()
    )
    assert (
        format_challenge(InvalidToken("expired"), resource_metadata=url)
        == (
            f'Bearer error="invalid_token", resource_metadata="{url}", '
            'error_description="The access token is invalid or expired: sign in again"'
        ).encode()
    )
    assert format_challenge(InvalidRequest("authorization_syntax")).startswith(
        b'Bearer error="invalid_request", '
    )
    assert format_challenge(InsufficientScope("a"), scopes=["a"]) == (
        b'Bearer error="insufficient_scope", scope="a", '
        b'error_description="The access token lacks a scope that this operation needs"'
    )


@pytest.mark.rule("RS-13", "RS-16", "RS-17", "RS-18")
@pytest.mark.asyncio
async def test_over_http_the_five_answers_are_told_apart() -> None:
    """§3 and §3.1: 401 without a code, 400 invalid_request, 401 invalid_token, 403
    insufficient_scope, and success.
    """
    guard = protect(required_scopes=["mcp:write"])
    answers = {}
    for authorization in (
        None,
        "Bearer a b",
        "Bearer unknown",
        "Bearer bob-token",
        "Bearer alice-token",
    ):
        headers = {} if authorization is None else {"Authorization": authorization}
        response = await call(guard.app, "POST", "/mcp", headers)
        answers[authorization] = (
            response.status,
            response.json().get("error") if response.status != 200 else None,
        )
        challenge = response.header("www-authenticate")
        assert (challenge is None) == (response.status == 200)
        assert challenge is None or f'resource_metadata="{METADATA_URL}"' in challenge
    assert list(answers.values()) == [
        (401, None),
        (400, "invalid_request"),
        (401, "invalid_token"),
        (403, "insufficient_scope"),
        (200, None),
    ]


@pytest.mark.case("W09")
@pytest.mark.rule("RS-26")
@pytest.mark.asyncio
async def test_a_token_in_the_query_or_in_the_body_opens_nothing() -> None:
    """§2.2 and §2.3: both are optional methods, and not offered."""
    guard = protect()
    form = {"content-type": "application/x-www-form-urlencoded"}
    in_query = await call(guard.app, "POST", "/mcp?access_token=alice-token")
    guard.assert_refused(in_query, 401, "missing_token")
    in_body = await call(guard.app, "POST", "/mcp", form, body=b"access_token=alice-token")
    guard.assert_refused(in_body, 401, "missing_token")
    guard.assert_entered(await call(guard.app, "POST", "/mcp", ALICE))
