"""Redirects of ``/authorize``: allowed addresses, and the form of the answers."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

import pytest

from asgi_mcp_auth.server import Registration
from tests.support.authorization_server import (
    BASE_URL,
    CONFIDENTIAL,
    WEB_REDIRECT_URI,
    ClientOf,
    Server,
    answer_of,
    deploy,
)
from tests.support.rows import rows

pytestmark = pytest.mark.asyncio


async def is_accepted(server: Server, client: ClientOf, uri: str | None) -> bool:
    """Return whether a request with this redirect URI goes on; otherwise it ends in a page, for
    that reason.
    """
    path = client.authorization_url(redirect_uri=uri).removeprefix(BASE_URL)
    response = await server.call("GET", path)
    if response.status == 303:
        assert (response.header("location") or "").startswith(f"{BASE_URL}/login?")
        return True
    assert (response.status, response.header("location")) == (400, None)
    assert server.reasons() == ["redirect_uri"]
    assert not uri or len(uri) < 12 or uri.encode() not in response.body
    return False


@pytest.mark.case("P16", "Z21", "Z22", "Z23")
@pytest.mark.rule("AS-11", "AS-12")
@rows(
    "uri",
    [
        "https://evil.example/callback",
        "http://app.example.com/callback",
        "ftp://app.example.com/callback",
        "https://app.example.com/other",
        "https://app.example.com:8443/callback",
        "https://sub.app.example.com/callback",
        "https://app.example.com/callback/",
        "https://app.example.com/callback?",
        "https://app.example.com/callback?x=1",
        "https://app.example.com/callback#",
        "https://app.example.com/callback#f",
        "https://app.example.com/Callback",
        "https://APP.example.com/callback",
        "HTTPS://app.example.com/callback",
        "https://app.example.com/x/../callback",
        "https://app.example.com/%2e/callback",
        "https://app.example.com/%63allback",
        "https://app.example.com:443/callback",
        "https://app.example.com./callback",
        "https://app.example.com//callback",
        " https://app.example.com/callback",
        "https://app.example.com/callback ",
        "https://app.example.com/call\tback",
        "https://app.example.com/callback\n",
        "https://app.example.com/callback\x00",
        "https://app.example.com@evil.example/callback",
        "https://evil.example@app.example.com/callback",
        "https://app.example.com.evil.example/callback",
        "https://app.example.com\\@evil.example/callback",
        "//app.example.com/callback",
        "//evil.example",
        "https:/\\evil.example",
        "/callback",
        "callback",
        "javascript:alert(1)",
        "data:text/html,x",
        "https://\u0430pp.example.com/callback",
        "https://app.example.com/callback" + "x" * 8000,
    ],
)
async def test_a_redirect_uri_is_the_registered_one_or_none(uri: str) -> None:
    async with deploy() as server:
        client = await server.register(redirect_uris=[WEB_REDIRECT_URI])
        assert not await is_accepted(server, client, uri)
        assert await is_accepted(server, client, WEB_REDIRECT_URI)


LOOPBACK = [
    # registered, asked for, accepted
    ("http://127.0.0.1:8123/callback", "http://127.0.0.1:9/callback", True),
    ("http://127.0.0.1:8123/callback", "http://127.0.0.1/callback", True),
    ("http://127.0.0.1/callback", "http://127.0.0.1:65535/callback", True),
    ("http://[::1]:8123/callback", "http://[::1]:9/callback", True),
    ("http://localhost/callback", "http://localhost:9/callback", True),
    ("http://localhost:3000/callback?x=1", "http://localhost:9/callback?x=1", True),
    ("http://127.0.0.1:8123/callback", "http://127.0.0.1:9/other", False),
    ("http://127.0.0.1:8123/callback", "http://127.0.0.1:9/callback/", False),
    ("http://127.0.0.1:8123/callback", "http://127.0.0.1:9/callback?x", False),
    ("http://127.0.0.1:8123/callback", "http://127.0.0.1:9/callback#x", False),
    ("http://127.0.0.1:8123/callback", "https://127.0.0.1:9/callback", False),
    ("http://127.0.0.1:8123/callback", "http://127.0.0.1:123456/callback", False),
    ("http://127.0.0.1:8123/callback", "http://127.0.0.1:/callback", False),
    ("http://127.0.0.1:8123/callback", "http://127.0.0.1:9:9/callback", False),
    ("http://127.0.0.1:8123/callback", "http://127.0.0.1:9@evil.example/callback", False),
    ("http://127.0.0.1:8123/callback", "http://localhost:8123/callback", False),
    ("http://127.0.0.1:8123/callback", "http://[::1]:8123/callback", False),
    ("http://127.0.0.1:8123/callback", "http://127.0.0.2:8123/callback", False),
    ("http://127.0.0.1:8123/callback", "http://127.1:8123/callback", False),
    ("http://127.0.0.1:8123/callback", "http://0x7f.1:8123/callback", False),
    ("http://127.0.0.1:8123/callback", "http://127.0.0.1.evil.example:8123/callback", False),
    ("http://localhost:8123/callback", "http://127.0.0.1:8123/callback", False),
    ("http://localhost:8123/callback", "http://localhost.evil.example:8123/callback", False),
    ("http://localhost:8123/callback", "http://LOCALHOST:8123/callback", False),
    ("http://localhost:8123/callback", "http://localhost.:8123/callback", False),
    ("http://[::1]:8123/callback", "http://[0:0:0:0:0:0:0:1]:8123/callback", False),
]


@pytest.mark.case("Z24", "Z25")
@pytest.mark.rule("AS-13")
@rows(("registered", "uri", "accepted"), LOOPBACK)
async def test_on_loopback_the_port_is_free_and_nothing_else(
    registered: str, uri: str, accepted: bool
) -> None:
    """RFC 8252 §7.3."""
    async with deploy() as server:
        client = await server.register(redirect_uris=[registered])
        assert await is_accepted(server, client, uri) is accepted


@pytest.mark.case("Z27")
@pytest.mark.rule("AS-14")
@pytest.mark.parametrize("uri", ["cursor://anysphere.cursor/callback", "com.example.app:/callback"])
async def test_private_schemes_are_for_those_whom_the_operator_lets_in(uri: str) -> None:
    """RFC 8252 §7.1."""
    async with deploy(allowed_redirect_schemes=["cursor", "com.example.app"]) as server:
        client = await server.register(redirect_uris=[uri])
        location = await server.browser().decide(client.authorization_url())
        assert location.startswith(f"{uri}?code=")
        for other in (f"{uri}/", f"{uri}?x=1", uri.upper(), uri.replace("callback", "other")):
            assert not await is_accepted(server, client, other)


@pytest.mark.case("Z28")
@pytest.mark.parametrize("left_out", [None, ""])
async def test_a_redirect_uri_may_be_left_out_where_there_is_only_one(
    left_out: str | None,
) -> None:
    async with deploy() as server:
        client = await server.register(redirect_uris=[WEB_REDIRECT_URI])
        location = await server.browser().decide(client.authorization_url(redirect_uri=left_out))
        assert location.startswith(f"{WEB_REDIRECT_URI}?code=")
        several = await server.register(
            redirect_uris=[WEB_REDIRECT_URI, "https://app.example.com/other"]
        )
        assert not await is_accepted(server, several, left_out)


@pytest.mark.case("Z30")
async def test_nothing_is_sent_to_an_address_that_was_not_checked() -> None:
    async with deploy() as server:
        client = await server.register()
        for wrong in (
            {"scope": "unknown"},
            {"response_type": "token"},
            {"prompt": "none"},
            {"resource": "x"},
        ):
            assert not await is_accepted(server, client, "https://evil.example/")
            url = client.authorization_url(redirect_uri="https://evil.example/", **wrong)
            response = await server.call("GET", url.removeprefix(BASE_URL))
            assert (response.status, response.header("location")) == (400, None)
            assert server.reasons() == ["redirect_uri"]


@pytest.mark.case("Z31")
@pytest.mark.rule("PX-05")
@pytest.mark.parametrize("action", ["approve", "deny"])
async def test_a_redirect_uri_that_was_taken_back_meanwhile_gets_no_answer(action: str) -> None:
    async with deploy() as server:
        client = await server.register()
        browser = server.browser()
        page = await browser.sign_in(
            await browser.open(client.authorization_url()), username="alice"
        )
        token, url = (
            client.information["registration_access_token"],
            client.information["registration_client_uri"],
        )
        changed = {
            "client_id": client.client_id,
            "redirect_uris": ["https://new.example.com/callback"],
            "token_endpoint_auth_method": "none",
        }
        response = await server.call(
            "PUT", url.removeprefix(BASE_URL), document=changed, bearer=token
        )
        assert response.status == 200, response.body
        for _ in range(2):
            page_after = await browser.submit(page, action=action)
            assert page_after.response.status == 400
            assert "The redirect URI is not registered for this application" in page_after.text
        assert server.reasons() == ["redirect_uri", "redirect_uri"]


@pytest.mark.case("Z31")
@pytest.mark.rule("PX-05")
async def test_a_client_that_has_gone_meanwhile_gets_no_answer() -> None:
    async with deploy() as server:
        client = await server.register()
        browser = server.browser()
        page = await browser.sign_in(
            await browser.open(client.authorization_url()), username="alice"
        )
        await server.provider.admin.delete_client(client.client_id)
        assert (await browser.submit(page, action="approve")).response.status == 400
        assert server.reasons() == ["unknown_client"]


@pytest.mark.case("Z32")
@pytest.mark.rule("AS-23")
async def test_every_redirect_is_a_303_that_may_not_be_stored() -> None:
    async with deploy() as server:
        client, browser = await server.register(), server.browser()
        responses = [await browser.send("GET", client.authorization_url())]
        page = await browser.open(client.authorization_url())
        responses.append(
            await browser.send("POST", page.forms[0][0], {**page.hidden, "username": "alice"})
        )
        page = await browser.open(responses[-1].header("location") or "")
        responses.append(
            await browser.send("POST", page.forms[0][0], {**page.hidden, "action": "approve"})
        )
        assert "code=" in (responses[-1].header("location") or "")
        for response in responses:
            assert response.status == 303
            assert (response.header("cache-control"), response.header("referrer-policy")) == (
                "no-store",
                "no-referrer",
            )
            assert response.body == b""


@pytest.mark.case("Z33")
@rows(
    ("registered", "kept"),
    [
        ("https://app.example.com/callback?tenant=1&x=%20y", [("tenant", "1"), ("x", " y")]),
        ("https://app.example.com/callback?code=old&state=old&iss=old&tenant=1", [("tenant", "1")]),
        ("https://app.example.com/callback?%63ode=old&i%73s=old", []),
        ("https://app.example.com/callback?", []),
        ("https://app.example.com?x=1", [("x", "1")]),
    ],
)
async def test_what_stands_in_the_query_stays_and_ours_wins(
    registered: str, kept: list[tuple[str, str]]
) -> None:
    async with deploy() as server:
        client = await server.register(redirect_uris=[registered])
        url = await server.browser().decide(client.authorization_url())
        pairs = parse_qsl(urlsplit(url).query)
        assert pairs[: len(kept)] == kept
        assert [name for name, _ in pairs[len(kept) :]] == ["code", "state", "iss"]
        assert dict(pairs)["iss"] == BASE_URL


@pytest.mark.case("Z116")
@pytest.mark.rule("AS-20")
async def test_the_issuer_in_every_answer_is_that_of_the_metadata() -> None:
    """RFC 9207 §2."""
    async with deploy() as server:
        client = await server.register()
        metadata = (await server.call("GET", "/.well-known/oauth-authorization-server")).json()
        assert metadata["authorization_response_iss_parameter_supported"] is True
        for action in ("approve", "deny"):
            url = await server.browser().decide(client.authorization_url(), action=action)
            assert answer_of(url)["iss"] == metadata["issuer"]
        response = await server.call(
            "GET", client.authorization_url(scope="x").removeprefix(BASE_URL)
        )
        assert answer_of(response.header("location") or "")["iss"] == metadata["issuer"]


@pytest.mark.rule("AS-16")
async def test_strangers_are_not_sent_on_by_a_link_that_is_wrong() -> None:
    """RFC 9700 §4.11.2: they see a page with a link; who has approved the application is sent."""
    async with deploy() as server:
        client, browser = await server.register(redirect_uris=[WEB_REDIRECT_URI]), server.browser()
        url = client.authorization_url(scope="unknown", state='"><script>')
        page = await browser.open(url)
        assert page.response.status == 400
        assert "Go back to app.example.com" in page.text
        assert f'href="{WEB_REDIRECT_URI}?error=invalid_scope&amp;' in page.text
        assert "<script" not in page.text
        await client.code(browser=browser)
        response = await browser.send("GET", url)
        assert answer_of(response.header("location") or "")["error"] == "invalid_scope"


@pytest.mark.rule("AS-16")
async def test_the_operators_own_clients_are_told_of_errors_in_any_case() -> None:
    async with deploy(registration=Registration(clients=[CONFIDENTIAL])) as server:
        url = server.known(CONFIDENTIAL).authorization_url(scope="unknown")
        response = await server.call("GET", url.removeprefix(BASE_URL))
        assert answer_of(response.header("location") or "")["error"] == "invalid_scope"


async def test_a_private_scheme_is_not_opened_by_a_link_that_is_wrong() -> None:
    async with deploy(allowed_redirect_schemes=["cursor"]) as server:
        client = await server.register(redirect_uris=["cursor://callback"])
        page = await server.browser().open(client.authorization_url(scope="unknown"))
        assert page.response.status == 400
        assert "Go back to cursor:" in page.text
