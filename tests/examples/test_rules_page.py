"""The rules on docs/rules.md decide as the text around them says."""

from __future__ import annotations

import json
from typing import Any

import pytest

from asgi_mcp_auth.testing import Issuer
from tests.examples.pages import BASE_URL, python_blocks, run_blocks, run_page
from tests.support.asgi import Response, call

PAGE = "docs/rules.md"
ANSWER = """await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body"})"""

pytestmark = [pytest.mark.asyncio, pytest.mark.rule("RS-35")]


@pytest.fixture(scope="module")
def idp() -> Any:
    with Issuer() as issuer:
        yield issuer


async def post(app: Any, headers: dict[str, str], method: str, **params: Any) -> Response:
    message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    return await call(app, "POST", "/mcp", headers, body=json.dumps(message).encode())


def bearer(idp: Issuer, scope: str) -> dict[str, str]:
    return {"authorization": f"Bearer {idp.mint(aud=BASE_URL + '/mcp', scope=scope)}"}


async def test_the_first_list_of_the_page_decides_as_it_says(idp: Issuer) -> None:
    block = python_blocks(PAGE)[0].replace('"""Stand in for your MCP server."""', ANSWER)
    app = run_blocks([block], idp.issuer, page=PAGE).app
    async with app.provider:
        reader = bearer(idp, "notes:read")
        for headers, expected in (({}, 200), (reader, 200)):
            assert (await post(app, headers, "tools/call", name="search")).status == expected
        for headers, expected in (({}, 401), (reader, 403)):
            answer = await post(app, headers, "tools/call", name="delete_note")
            assert answer.status == expected
            assert 'scope="notes:read notes:write"' in (answer.header("www-authenticate") or "")
        assert (await post(app, {}, "tools/list")).status == 200
        assert (await post(app, {}, "tools/call", name="other")).status == 401
        assert (await call(app, "GET", "/admin", reader)).status == 403


async def test_the_functions_of_the_page_work(idp: Issuer) -> None:
    module = run_page(PAGE, idp.issuer)
    await module.test_readers_delete_nothing()
    assert module.scopes_for_move({"folder": "work"}, None) == ["notes:write", "folder:work"]
    async with module.app.provider:
        answer = await post(
            module.app, bearer(idp, "notes:read"), "tools/call", name="move_note", arguments={}
        )
    assert answer.status == 200
    (challenge,) = answer.json()["result"]["_meta"]["mcp/www_authenticate"]
    assert 'scope="notes:read notes:write folder:inbox"' in challenge
