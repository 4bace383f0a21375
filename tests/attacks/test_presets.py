"""Presets do not accept the tokens of other applications by default."""

from __future__ import annotations

from typing import Any

import pytest

from asgi_mcp_auth import (
    ANY_AUDIENCE,
    ConfigurationError,
    IntrospectionTokenVerifier,
    InvalidToken,
    presets,
)
from asgi_mcp_auth.presets.model import Introspected, Preset
from asgi_mcp_auth.testing import INTROSPECTION_CLIENT, Issuer
from tests.support.rows import rows

pytestmark = pytest.mark.case("P17")

NAMES = tuple(presets.CATALOG)
# Where every application of a project, a pool or a tenant gets tokens with the same `aud`, or with
# none.
EVERYBODYS = ("clerk", "cognito", "ory", "stytch", "supabase", "zitadel")


def settings_of(preset: Preset) -> dict[str, Any]:
    more = (
        {"client_id": "rs", "client_secret": "s"} if isinstance(preset.tokens, Introspected) else {}
    )
    return {**{name: each.example for name, each in preset.parameters.items()}, **more}


@rows("name", EVERYBODYS)
def test_a_preset_whose_tokens_any_application_gets_wants_that_said(name: str) -> None:
    """Its parameters name the project; that is not the same as this server."""
    preset = presets.CATALOG[name]
    with pytest.raises(
        ConfigurationError, match=r"This server would accept.*presets\.proxy.*audience="
    ) as caught:
        presets.verifier(name, required_scopes=["notes:read"], **settings_of(preset))
    audience = str(caught.value).rpartition("audience=")[2].split(",")[0].strip("'")
    said = ANY_AUDIENCE if audience == "ANY_AUDIENCE" else audience
    assert said
    presets.verifier(name, audience=said, **settings_of(preset))
    if preset.registration is not None:
        with pytest.raises(ConfigurationError, match="This server would accept"):
            presets.remote(name, base_url="https://mcp.example.com", **settings_of(preset))


@rows("name", [each for each in NAMES if presets.CATALOG[each].tokens is not None])
def test_what_is_accepted_by_default_is_the_resource_or_what_stands_for_one_api(name: str) -> None:
    """The whole catalog, so that adding a provider requires a decision."""
    preset = presets.CATALOG[name]
    audience = getattr(preset.tokens, "audience", None)
    if name in EVERYBODYS:
        assert audience is not None
        assert audience.kind in ("none", "shared")
    elif audience is not None and audience.value is not None:
        assert (name, audience.kind) == ("entra", "named")  # the app registration of this very API


@pytest.mark.asyncio
async def test_the_tokens_of_one_project_come_in_where_that_is_said() -> None:
    with Issuer(path="/oauth/v2") as idp:
        server = idp.issuer.removesuffix("/oauth/v2")
        client_id, secret = INTROSPECTION_CLIENT
        verifier = presets.verifier(
            "zitadel",
            server=server,
            project_id="69",
            audience="69",
            client_id=client_id,
            client_secret=secret,
        )
        assert isinstance(verifier, IntrospectionTokenVerifier)
        assert (
            await verifier.verify(idp.mint_opaque(iss=server, aud=["69", "app-1"]))
        ).resource == "69"
        with pytest.raises(InvalidToken):
            await verifier.verify(idp.mint_opaque(iss=server, aud=["70", "app-2"]))
