"""The edges of the Authorization and WWW-Authenticate grammar, one character to each side."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from asgi_mcp_auth.errors import (
    InsufficientScope,
    InvalidRequest,
    InvalidToken,
    MissingToken,
    RequestError,
    TokenTooLarge,
)
from asgi_mcp_auth.headers import (
    MAX_TOKEN_BYTES,
    format_challenge,
    has_query_token,
    is_bearer_token,
    is_scope_token,
    is_visible_ascii,
    parse_bearer,
    parse_credentials,
    prefers_page,
)
from tests.support.rows import rows
from tests.tables import bearer

QUOTES_AND_COMMA = b"\"',"


@rows(("value", "token"), bearer.TOKENS)
def test_credentials_are_the_scheme_spaces_and_one_token(value: bytes, token: str) -> None:
    """RFC 6750 §2.1: "Bearer" 1*SP b64token; RFC 9110 §11.1: the scheme is case-insensitive."""
    assert parse_bearer(value) == token


@pytest.mark.case("W05")
@pytest.mark.rule("RS-17")
@rows("value", bearer.MALFORMED)
def test_anything_else_after_bearer_is_a_malformed_request(value: bytes) -> None:
    """RFC 6750 §3.1: invalid_request."""
    with pytest.raises(InvalidRequest) as caught:
        parse_bearer(value)
    assert caught.value.reason == "authorization_syntax"
    assert (caught.value.status, caught.value.error) == (400, "invalid_request")


@pytest.mark.case("W06")
@rows("value", bearer.OTHER_SCHEMES)
def test_another_scheme_is_no_bearer_token(value: bytes) -> None:
    """RFC 6750 §3: the request lacks authentication information of ours."""
    assert parse_bearer(value) is None
    with pytest.raises(MissingToken):
        parse_credentials(value, 1, b"")


@rows("byte", sorted(set(range(256)) - set(bearer.VISIBLE.encode())))
def test_a_byte_that_no_token_has_is_refused_wherever_it_stands(byte: int) -> None:
    for token in (b"%c", b"a%c", b"%ca", b"a%ca", b"a%c="):
        text = (token % byte).decode("latin-1")
        assert not is_bearer_token(text)
        # Inside a proxy, and in a form, a token may have quotes and commas.
        assert is_visible_ascii(text) is (byte in QUOTES_AND_COMMA)


@rows("is_token", [is_bearer_token, is_visible_ascii])
def test_a_token_has_one_character_at_least(is_token: Callable[[str], bool]) -> None:
    assert [is_token(text) for text in ("", "a", "=", bearer.VISIBLE)] == [
        False,
        True,
        True,
        True,
    ]


def test_a_token_of_64_kib_is_read_and_one_byte_more_is_too_large() -> None:
    assert MAX_TOKEN_BYTES == 65536
    assert parse_bearer(b"Bearer " + b"a" * 65536) == "a" * 65536
    with pytest.raises(TokenTooLarge) as caught:
        parse_bearer(b"Bearer " + b"a" * 65537)
    assert (caught.value.status, caught.value.error, caught.value.reason) == (
        431,
        "invalid_request",
        "too_long",
    )


@rows(("query", "found"), bearer.QUERIES)
def test_a_token_in_the_query_is_found_by_its_exact_name(query: bytes, found: bool) -> None:
    """RFC 6750 §2.3. Credentials beside another query are used."""
    assert has_query_token(query) is found
    if not found:
        assert parse_credentials(b"Bearer a", 1, query) == "a"


@rows(
    ("accept", "is_page"),
    [
        (b"", False),
        (b"text/html", True),
        (b"text/html;q=1, */*;q=0.9", True),
        (b"text/html;q=.25, */*;q=.2", True),
        (b"application/json;q=0.4, text/html;q=0.5", True),
        (b"text/html;qs=0.1;q=0.9", True),
        (b"text/html;level=1;qs=0.1", True),
        (b"text/html,".ljust(512, b"x"), True),
        (b"text/html,".ljust(513, b"x"), False),
        (b"text/html, */*;q=1", False),
        (b"text/html;q=0.5, */*;q=0.5", False),
        (b"text/html;q=0.4, application/json;q=0.5, */*;q=0.1", False),
        *((b"text/html;q=" + weight, False) for weight in (b"", b"0", b"0.", b".", b"2", b"-1")),
        *(
            (b"text/html, " + kind + b";q=x", True)
            for kind in (b"application/json", b"text/event-stream", b"application/*", b"*/*")
        ),
        *(
            (b"text/html, " + kind, False)
            for kind in (b"application/json", b"text/event-stream", b"application/*", b"*/*")
        ),
    ],
)
def test_a_page_is_preferred_where_html_outweighs_what_an_api_sends(
    accept: bytes, is_page: bool
) -> None:
    assert prefers_page(accept) is is_page


@rows("code", range(256))
def test_a_scope_token_is_printable_ascii_without_space_quote_and_backslash(code: int) -> None:
    """RFC 6749 §3.3: %x21 / %x23-5B / %x5D-7E."""
    valid = code == 0x21 or 0x23 <= code <= 0x5B or 0x5D <= code <= 0x7E
    assert is_scope_token(chr(code)) is valid
    assert is_scope_token(f"a{chr(code)}") is valid


def test_an_empty_text_is_no_scope_token() -> None:
    assert not is_scope_token("")


@rows(
    ("error", "options", "challenge"),
    [
        (MissingToken(), {"realm": "mcp"}, 'Bearer realm="mcp"'),
        (
            MissingToken(),
            {"resource_metadata": "https://a"},
            'Bearer resource_metadata="https://a"',
        ),
        (
            MissingToken(),
            {"resource_metadata": "https://a", "scopes": ["b", "a"]},
            'Bearer resource_metadata="https://a", scope="b a"',
        ),
        (
            InvalidToken("expired"),
            {"realm": "mcp", "scopes": []},
            (
                'Bearer realm="mcp", error="invalid_token", error_description="The access token is'
                ' invalid or expired: sign in again"'
            ),
        ),
        (
            InsufficientScope("a"),
            {"resource_metadata": "https://a", "scopes": ["a"]},
            (
                'Bearer error="insufficient_scope", resource_metadata="https://a", scope="a", '
                'error_description="The access token lacks a scope that this operation needs"'
            ),
        ),
    ],
)
def test_a_challenge_holds_what_there_is_in_this_order(
    error: RequestError, options: dict[str, object], challenge: str
) -> None:
    assert format_challenge(error, **options) == challenge.encode()  # type: ignore[arg-type]
