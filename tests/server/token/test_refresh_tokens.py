"""Refresh tokens as text: one spelling, the same in every worker, refused when changed."""

from __future__ import annotations

import base64
import hmac

import pytest

from asgi_mcp_auth.errors import InvalidGrant
from asgi_mcp_auth.server.tokens.refresh import RefreshTokens
from tests.support.rows import rows

KEY, OTHER = b"k" * 32, b"o" * 32
GRANT = "abcdefghij_-KLMNOPQRST"


def mac(text: str, key: bytes = KEY) -> str:
    return base64.urlsafe_b64encode(hmac.digest(key, text.encode(), "sha256")).decode().rstrip("=")


@rows("generation", [0, 1, 9, 10, 999_999_999])
def test_a_token_is_the_grant_the_generation_and_a_mac_over_both(generation: int) -> None:
    tokens = RefreshTokens([KEY])
    token = f"rt_{GRANT}.{generation}.{mac(f'{GRANT}.{generation}')}"
    assert tokens.make(GRANT, generation) == token
    assert tokens.parse(token) == (GRANT, generation)


def test_the_first_key_makes_them_and_all_keys_are_accepted() -> None:
    tokens = RefreshTokens([KEY, OTHER])
    assert tokens.make(GRANT, 3) == RefreshTokens([KEY]).make(GRANT, 3)
    for key in (KEY, OTHER):
        assert tokens.parse(RefreshTokens([key]).make(GRANT, 3)) == (GRANT, 3)
    with pytest.raises(InvalidGrant):
        RefreshTokens([OTHER]).parse(tokens.make(GRANT, 3))


@rows(
    "token",
    [
        "",
        f"rt_{GRANT}.3.{mac(f'{GRANT}.4')}",
        f"rt_{GRANT}.3.{mac(f'{GRANT}.3', OTHER)}",
        f"rt_{GRANT}.03.{mac(f'{GRANT}.3')}",
        f"rt_{GRANT}.03.{mac(f'{GRANT}.03')}",
        f"rt_{GRANT}.00.{mac(f'{GRANT}.0')}",
        f"rt_{GRANT}.1000000000.{mac(f'{GRANT}.1000000000')}",
        f"rt_{GRANT}.+3.{mac(f'{GRANT}.3')}",
        f"rt_{GRANT}.3.{mac(f'{GRANT}.3')}\n",
        f"rt_{GRANT}.3.{mac(f'{GRANT}.3')}=",
        f"rt_{GRANT}x.3.{mac(f'{GRANT}x.3')}",
        f"rt_{GRANT[:-1]}.3.{mac(f'{GRANT[:-1]}.3')}",
        f"rt_{GRANT[:-1]}+.3.{mac(f'{GRANT[:-1]}+.3')}",
        f"Rt_{GRANT}.3.{mac(f'{GRANT}.3')}",
        f"{GRANT}.3.{mac(f'{GRANT}.3')}",
        f"rt_{GRANT}-3-{mac(f'{GRANT}.3')}",
    ],
)
def test_whatever_differs_is_refused(token: str) -> None:
    with pytest.raises(InvalidGrant) as caught:
        RefreshTokens([KEY]).parse(token)
    assert caught.value.reason == "unknown_refresh_token"
