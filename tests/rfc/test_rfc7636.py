"""Proof Key for Code Exchange (RFC 7636)."""

from __future__ import annotations

import pytest

from tests.support.authorization_server import challenge_of, deploy
from tests.support.rows import rows
from tests.support.token_endpoint import assert_refused, tokens_of

pytestmark = pytest.mark.asyncio

VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
CHALLENGE = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


async def test_the_example_of_appendix_b() -> None:
    """Appendix B."""
    assert challenge_of(VERIFIER) == CHALLENGE
    async with deploy() as server:
        client = await server.register()
        code = await client.code(code_challenge=CHALLENGE)
        assert_refused(await client.redeem(code, code_verifier=CHALLENGE), "invalid_grant")
        tokens_of(await client.redeem(code, code_verifier=VERIFIER))


@pytest.mark.case("Z17")
@pytest.mark.rule("AS-35")
@rows(("length", "good"), [(42, False), (43, True), (128, True), (129, False)])
async def test_a_verifier_has_43_to_128_characters(length: int, good: bool) -> None:
    """§4.1."""
    async with deploy() as server:
        client = await server.register()
        verifier = "a" * length
        response = await client.redeem(
            await client.code(code_challenge=challenge_of(verifier)), code_verifier=verifier
        )
        if good:
            tokens_of(response)
        else:
            assert_refused(response, "invalid_grant")


@pytest.mark.case("Z14", "Z15")
@pytest.mark.rule("AS-18")
@rows(
    "parameters",
    [
        {"code_challenge": None},
        {"code_challenge_method": None},
        {"code_challenge_method": "plain"},
        {"code_challenge_method": "unknown"},
    ],
)
async def test_a_challenge_is_required_and_its_method_is_s256(
    parameters: dict[str, str | None],
) -> None:
    """§4.3 and §4.4.1. Departs from §4.2, as OAuth 2.1 does: plain is not supported, so neither is
    leaving it out.
    """
    async with deploy() as server:
        client = await server.register()
        url = await server.browser().decide(client.authorization_url(**parameters))
        assert "error=invalid_request" in url


@pytest.mark.case("Z17")
@pytest.mark.rule("AS-35")
async def test_a_wrong_verifier_is_invalid_grant() -> None:
    """§4.6."""
    async with deploy() as server:
        client = await server.register()
        code = await client.code()
        assert_refused(await client.redeem(code, code_verifier="b" * 43), "invalid_grant")
        assert_refused(await client.redeem(code, code_verifier=None), "invalid_grant")
