"""Requests to ``/authorize``: what is accepted, what is refused, and where errors go."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest

from asgi_mcp_auth.server import Registration
from asgi_mcp_auth.server.browser.transactions import MAX_BROWSER_COOKIES
from asgi_mcp_auth.server.web import MAX_QUERY_BYTES
from tests.support.asgi import Response
from tests.support.authorization_server import (
    BASE_URL,
    CONFIDENTIAL,
    REDIRECT_URI,
    RESOURCE,
    WEB_REDIRECT_URI,
    ClientOf,
    Server,
    answer_of,
    deploy,
)
from tests.support.rows import rows

pytestmark = pytest.mark.asyncio

# RFC 6749 §4.1.2.1: what an error_description may hold.
DESCRIPTION = re.compile(r"[\x20-\x21\x23-\x5B\x5D-\x7E]+")


def pairs_of(client: ClientOf, **parameters: str | None) -> list[tuple[str, str]]:
    """Return the parameters of the client's usual request."""
    return parse_qsl(urlsplit(client.authorization_url(**parameters)).query, keep_blank_values=True)


async def ask(
    server: Server, pairs: list[tuple[str, str]] | Mapping[str, str] | bytes, **members: Any
) -> Response:
    """Send an authorization request by GET."""
    query = pairs.decode("latin-1") if isinstance(pairs, bytes) else urlencode(pairs)
    return await server.call("GET", f"/authorize?{query}", **members)


def assert_page(response: Response, status: int = 400) -> None:
    """Check that the browser stays here."""
    assert (response.status, response.header("location")) == (status, None)
    assert response.header("content-type") == "text/html; charset=utf-8"


def assert_told(
    response: Response, error: str, state: str | None = "the-state", to: str = REDIRECT_URI
) -> None:
    """Check that the client is told of an error, as RFC 6749 §4.1.2.1 and RFC 9207 have it."""
    assert response.status == 303, response.body
    location = response.header("location") or ""
    assert location.startswith(f"{to}?")
    answer = answer_of(location)
    assert (answer["error"], answer.get("state"), answer["iss"]) == (error, state, BASE_URL)
    assert DESCRIPTION.fullmatch(answer["error_description"])
    assert answer.keys() <= {"error", "error_description", "state", "iss"}


async def goes_on(server: Server, client: ClientOf) -> None:
    """Check that a good request is still good."""
    response = await ask(server, pairs_of(client))
    assert (response.status, urlsplit(response.header("location") or "").path) == (303, "/login")


@pytest.mark.case("Z01")
@pytest.mark.rule("AS-11")
@rows(
    "client_id",
    [
        None,
        "",
        "nobody",
        "x" * 4096,
        "a\x00b",
        "a\r\nLocation: https://evil.example",
        "' OR 1=1--",
        "\u202ex",
    ],
)
async def test_an_unknown_client_is_a_page(client_id: str | None) -> None:
    async with deploy() as server:
        client = await server.register()
        response = await ask(server, pairs_of(client, client_id=client_id))
        assert_page(response)
        assert server.reasons() == ["unknown_client"]
        if client_id:
            assert client_id.encode() not in response.body
        await goes_on(server, client)


@pytest.mark.case("Z02")
@pytest.mark.rule("AS-15", "AS-17")
@rows(
    ("response_type", "error"),
    [
        (None, "invalid_request"),
        ("", "invalid_request"),
        ("token", "unsupported_response_type"),
        ("id_token", "unsupported_response_type"),
        ("code token", "unsupported_response_type"),
        ("none", "unsupported_response_type"),
        ("CODE", "unsupported_response_type"),
        ("code ", "unsupported_response_type"),
    ],
)
async def test_only_codes_are_issued(response_type: str | None, error: str) -> None:
    async with deploy() as server:
        client = await server.register()
        assert_told(await ask(server, pairs_of(client, response_type=response_type)), error)


@pytest.mark.case("Z03")
@pytest.mark.rule("AS-10")
@rows("name", ["client_id", "redirect_uri"])
@rows("order", [1, -1])
@rows("value", ["the same", "", "https://evil.example/"])
async def test_a_repeated_client_or_redirect_uri_is_a_page(
    name: str, order: int, value: str
) -> None:
    async with deploy() as server:
        client = await server.register()
        pairs = pairs_of(client)
        second = dict(pairs)[name] if value == "the same" else value
        assert_page(await ask(server, [*pairs, (name, second)][::order]))
        await goes_on(server, client)


@pytest.mark.case("Z03")
@pytest.mark.rule("AS-10", "AS-15")
@rows(
    "name",
    [
        "response_type",
        "scope",
        "code_challenge",
        "code_challenge_method",
        "prompt",
        "max_age",
        "login_hint",
        "request",
        "request_uri",
        "response_mode",
        "unknown",
    ],
)
async def test_any_other_repeated_parameter_is_told(name: str) -> None:
    async with deploy() as server:
        client = await server.register()
        pairs = [pair for pair in pairs_of(client) if pair[0] != name]
        response = await ask(server, [*pairs, (name, "code"), (name, "code")])
        assert_told(response, "invalid_request")


@pytest.mark.case("Z03")
async def test_a_repeated_state_is_told_without_a_state() -> None:
    async with deploy() as server:
        client = await server.register()
        assert_told(
            await ask(server, [*pairs_of(client), ("state", "another")]),
            "invalid_request",
            state=None,
        )


@pytest.mark.rule("AS-10", "AS-22")
async def test_resource_may_be_repeated_and_other_parameters_are_ignored() -> None:
    async with deploy() as server:
        client = await server.register()
        pairs = [
            *pairs_of(client),
            ("resource", RESOURCE),
            ("ui_locales", "de"),
            ("nonce", "x"),
            ("audience", "y"),
        ]
        response = await ask(server, pairs)
        assert urlsplit(response.header("location") or "").path == "/login"


@pytest.mark.case("Z04")
@pytest.mark.rule("AS-68")
@rows(
    ("name", "value", "error"),
    [
        ("request", "eyJhbGciOiJub25lIn0.e30.", "request_not_supported"),
        ("request_uri", "https://evil.example/request", "request_uri_not_supported"),
        ("request_uri", "file:///etc/passwd", "request_uri_not_supported"),
        ("request_uri", "http://169.254.169.254/latest", "request_uri_not_supported"),
    ],
)
async def test_request_objects_are_refused_and_never_fetched(
    name: str, value: str, error: str
) -> None:
    async with deploy() as server:
        client = await server.register()
        assert_told(await ask(server, [*pairs_of(client), (name, value)]), error)


@pytest.mark.case("Z05")
@rows("mode", ["fragment", "form_post", "web_message", "query.jwt", "QUERY"])
async def test_answers_go_into_the_query(mode: str) -> None:
    async with deploy() as server:
        client = await server.register()
        assert_told(await ask(server, pairs_of(client, response_mode=mode)), "invalid_request")
        response = await ask(server, pairs_of(client, response_mode="query"))
        assert urlsplit(response.header("location") or "").path == "/login"


@pytest.mark.case("Z06")
@pytest.mark.rule("AS-15", "AS-21")
@rows(
    "scope",
    [
        "mcp:unknown",
        "openid offline_access",
        'mcp:"read',
        "mcp:\\read",
        "mcp:read\x00",
        "mcp:réad",
        "mcp:read\tmcp:write",
        " ".join(f"s{number}" for number in range(2000)),
    ],
)
async def test_a_request_of_which_no_scope_is_left_is_told_those_that_there_are(scope: str) -> None:
    async with deploy() as server:
        client = await server.register()
        response = await ask(server, pairs_of(client, scope=scope))
        assert_told(response, "invalid_scope")
        assert answer_of(response.header("location") or "")["error_description"] == (
            "None of the requested scopes is available to this client. Those that are: mcp:read,"
            " mcp:write"
        )


@pytest.mark.rule("AS-21", "AS-82")
@rows(
    ("asked", "given"),
    [
        ("mcp:read mcp:unknown", "mcp:read"),
        ("openid profile email mcp:write", "mcp:write"),
        ("claudeai mcp:read offline_access", "mcp:read offline_access"),
        (" ".join([f"s{number}" for number in range(500)] + ["mcp:read"]), "mcp:read"),
        (" ", "mcp:read"),
    ],
)
@rows("pushed", [False, True], ids=["at once", "pushed"])
async def test_unknown_scopes_are_left_out_and_the_answer_says_what_was_granted(
    asked: str, given: str, pushed: bool
) -> None:
    """RFC 6749 §3.3, §5.1. A client that repeats its request at a refresh gets the same."""
    async with deploy() as server:
        client = await server.register(scope=asked)
        url = client.authorization_url(scope=asked)
        if pushed:
            form = dict(parse_qsl(urlsplit(url).query))
            document = (await server.call("POST", "/par", form=form)).json()
            query = {"client_id": client.client_id, "request_uri": document["request_uri"]}
            url = f"/authorize?{urlencode(query)}"
        code = answer_of(await server.browser().decide(url))["code"]
        tokens = (await client.redeem(code)).json()
        assert tokens["scope"] == given
        assert (await client.refresh(tokens["refresh_token"], scope=asked)).json()["scope"] == given


@pytest.mark.case("Z06")
async def test_offline_access_is_always_understood() -> None:
    async with deploy() as server:
        tokens = await (await server.register()).sign_in(scope="mcp:read offline_access")
        assert set(tokens["scope"].split()) == {"mcp:read", "offline_access"}


STATES = [
    "s" * 4096,
    "a\r\nSet-Cookie: x=y",
    "\"quoted\" 'single' <svg onload=alert(1)>",
    "nul\x00",
    "grüße 🎉 \u202e",
    "a&b=c#d?e%20f+g h",
    "%00%0d%0a",
    "https://evil.example/",
]


@pytest.mark.case("Z07")
@pytest.mark.rule("AS-19")
@rows("state", STATES)
async def test_the_state_comes_back_as_it_was(state: str) -> None:
    """With a code and with an error."""
    async with deploy() as server:
        client = await server.register()
        answer = answer_of(await server.browser().decide(client.authorization_url(state=state)))
        assert ("code" in answer, answer["state"]) == (True, state)
        assert_told(
            await ask(server, pairs_of(client, state=state, scope="unknown")),
            "invalid_scope",
            state=state,
        )


@pytest.mark.case("Z07")
@pytest.mark.rule("AS-19")
@pytest.mark.parametrize("state", [None, ""])
async def test_where_there_was_no_state_there_is_none(state: str | None) -> None:
    async with deploy() as server:
        client = await server.register()
        answer = answer_of(await server.browser().decide(client.authorization_url(state=state)))
        assert answer.keys() == {"code", "iss"}
        assert_told(
            await ask(server, pairs_of(client, state=state, scope="unknown")),
            "invalid_scope",
            state=None,
        )


@pytest.mark.case("Z08")
@pytest.mark.rule("AS-22")
@rows(
    "resource",
    [
        "https://evil.example/mcp",
        "mcp",
        "/mcp",
        f"{RESOURCE}#f",
        f"{RESOURCE}//",
        f"{RESOURCE}?x",
        RESOURCE.upper(),
        BASE_URL,
        f"{RESOURCE} ",
    ],
)
async def test_another_resource_is_refused(resource: str) -> None:
    async with deploy() as server:
        client = await server.register()
        assert_told(await ask(server, pairs_of(client, resource=resource)), "invalid_target")
        assert_told(
            await ask(server, [*pairs_of(client), ("resource", resource)]), "invalid_target"
        )


@pytest.mark.case("Z08")
async def test_the_spelling_of_javascript_is_understood_and_no_resource_means_ours() -> None:
    async with deploy(base_url="https://MCP.example.com:443") as server:
        client = await server.register()
        for resource in ("https://MCP.example.com:443/mcp", "https://mcp.example.com/mcp", None):
            response = await ask(server, pairs_of(client, resource=resource))
            assert urlsplit(response.header("location") or "").path == "/login", resource


@pytest.mark.case("Z10")
async def test_a_long_query_is_refused_and_head_does_nothing() -> None:
    async with deploy() as server:
        client = await server.register()
        padding = ("x", "y" * MAX_QUERY_BYTES)
        assert_page(await ask(server, [*pairs_of(client), padding]), 413)
        response = await server.call("HEAD", client.authorization_url().removeprefix(BASE_URL))
        assert (response.status, response.header("allow"), response.all("set-cookie")) == (
            405,
            "GET, POST",
            [],
        )


@pytest.mark.case("Z10")
@pytest.mark.rule("AS-10")
async def test_a_form_becomes_a_get_with_the_same_parameters() -> None:
    """The cookies come with the second one."""
    async with deploy() as server:
        client = await server.register()
        pairs = [*pairs_of(client, state="a b&c"), ("resource", RESOURCE)]
        response = await server.call("POST", "/authorize", form=pairs)
        assert (response.status, response.all("set-cookie")) == (303, [])
        url = response.header("location") or ""
        assert url.startswith(f"{BASE_URL}/authorize?")
        assert sorted(parse_qsl(urlsplit(url).query)) == sorted(pairs)
        assert "code" in answer_of(await server.browser().decide(url))
        response = await server.call(
            "POST", "/authorize", form=[*pairs, ("x", "y" * MAX_QUERY_BYTES)]
        )
        assert_page(response, 413)


@rows("method", ["PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
@rows("path", ["/authorize", "/login", "/consent", "/applications"])
async def test_pages_know_get_and_post(method: str, path: str) -> None:
    async with deploy() as server:
        response = await server.call(method, path)
        assert (response.status, response.header("allow")) == (405, "GET, POST")


BAD_BODIES: list[tuple[str, str | None, bytes, int]] = [
    ("JSON", "application/json", b"{}", 400),
    ("multipart", "multipart/form-data; boundary=x", b"--x--", 400),
    ("text", "text/plain", b"client_id=x", 400),
    ("no type", None, b"client_id=x", 400),
    ("too long", "application/x-www-form-urlencoded", b"x=" + b"y" * 65536, 413),
    (
        "many parameters",
        "application/x-www-form-urlencoded",
        b"&".join(b"p%d=1" % n for n in range(1_000)),
        400,
    ),
    ("not UTF-8", "application/x-www-form-urlencoded", b"client_id=%ff%fe", 400),
    ("raw bytes", "application/x-www-form-urlencoded", b"client_id=\xff", 400),
    ("bad escape", "application/x-www-form-urlencoded", b"client_id=%zz", 400),
]


@pytest.mark.case("Z54", "Z55")
@rows(("kind", "body", "status"), [each[1:] for each in BAD_BODIES], ids=[e[0] for e in BAD_BODIES])
@rows("path", ["/authorize", "/login", "/consent", "/applications", "/logout"])
async def test_what_is_no_form_is_refused(
    path: str, kind: str | None, body: bytes, status: int
) -> None:
    async with deploy() as server:
        headers = {} if kind is None else {"Content-Type": kind}
        response = await server.call("POST", path, headers=headers, body=body)
        assert_page(response, status)
        long_name = await server.call("POST", path, form={"k" * 65_000: "1"})
        assert long_name.status < 500


@pytest.mark.case("Z54")
async def test_the_type_of_a_form_may_have_parameters_and_any_case() -> None:
    async with deploy() as server:
        client = await server.register()
        body = urlencode(pairs_of(client)).encode()
        for kind in (
            "application/x-www-form-urlencoded; charset=UTF-8",
            "Application/X-WWW-Form-URLencoded",
        ):
            assert (
                await server.call("POST", "/authorize", headers={"Content-Type": kind}, body=body)
            ).status == 303
        for extra in (("Content-Encoding", "gzip"), ("Content-Type", "text/plain")):
            headers = [("Content-Type", "application/x-www-form-urlencoded"), extra]
            assert_page(await server.call("POST", "/authorize", headers=headers, body=body))


@pytest.mark.case("Z55")
@rows("query", [b"client_id=%ff", b"client_id=\xe9", b"client_id=%", b"client_id=%4", b"%zz=1"])
async def test_a_query_that_cannot_be_read_is_a_page(query: bytes) -> None:
    async with deploy() as server:
        assert_page(await ask(server, query))
        assert server.reasons() == ["invalid_request"]


@pytest.mark.case("Z57")
async def test_parameters_beside_a_form_do_not_count() -> None:
    async with deploy() as server:
        client = await server.register()
        response = await server.call("POST", f"/authorize?{urlencode(pairs_of(client))}", form={})
        assert response.header("location") == f"{BASE_URL}/authorize?"


@pytest.mark.case("Z11")
@pytest.mark.rule("AS-28", "AS-16")
@pytest.mark.parametrize("web", [True, False])
async def test_without_a_session_a_silent_request_ends_in_an_error(web: bool) -> None:
    """For an unknown client on the web a page stands before it."""
    async with deploy() as server:
        client = await server.register(redirect_uris=[WEB_REDIRECT_URI if web else REDIRECT_URI])
        response = await ask(server, pairs_of(client, prompt="none"))
        if web:
            assert_page(response)
            assert server.reasons() == ["login_required"]
        else:
            assert_told(response, "login_required")
        assert response.all("set-cookie") == []


@pytest.mark.case("Z11")
async def test_with_a_session_and_no_consent_it_is_another_error() -> None:
    async with deploy() as server:
        browser, client = server.browser(), await server.register()
        await client.code(browser=browser)
        response = await browser.send("GET", client.authorization_url(prompt="none"))
        assert_told(response, "consent_required")
        response = await browser.send("GET", client.authorization_url(prompt="none login"))
        assert_told(response, "invalid_request")


@pytest.mark.case("Z14", "Z15")
@pytest.mark.rule("AS-18")
@rows("confidential", [True, False])
@rows(
    "parameters",
    [
        {"code_challenge": None},
        {"code_challenge": ""},
        {"code_challenge": None, "code_challenge_method": None},
        {"code_challenge_method": None},
        {"code_challenge_method": ""},
        {"code_challenge_method": "plain"},
        {"code_challenge_method": "S512"},
        {"code_challenge_method": "s256"},
        {"code_challenge": "a" * 42},
        {"code_challenge": "a" * 44},
        {"code_challenge": "a" * 128},
        {"code_challenge": "a" * 42 + "="},
        {"code_challenge": "a" * 42 + "+"},
        {"code_challenge": "a" * 42 + "é"},
    ],
)
async def test_pkce_with_s256_is_required_of_every_client(
    confidential: bool, parameters: dict[str, str | None]
) -> None:
    async with deploy(registration=Registration(clients=[CONFIDENTIAL])) as server:
        client = server.known(CONFIDENTIAL) if confidential else await server.register()
        to = WEB_REDIRECT_URI if confidential else REDIRECT_URI
        assert_told(await ask(server, pairs_of(client, **parameters)), "invalid_request", to=to)
        assert server.reasons() == ["invalid_request"]


@rows("max_age", ["-1", "1.5", "x", "٣", "1" * 10, "+1", " 1"])
async def test_a_max_age_that_is_no_number_is_refused(max_age: str) -> None:
    async with deploy() as server:
        client = await server.register()
        assert_told(await ask(server, pairs_of(client, max_age=max_age)), "invalid_request")


@pytest.mark.rule("AS-45")
async def test_a_client_that_did_not_register_for_codes_gets_none() -> None:
    clients = [{**CONFIDENTIAL, "grant_types": ["client_credentials"]}]
    async with deploy(registration=Registration(clients=clients)) as server:
        assert_page(await ask(server, pairs_of(server.known(CONFIDENTIAL))))
        assert server.reasons() == ["redirect_uri"]  # it has none, then


@pytest.mark.case("W22")
@pytest.mark.rule("AS-27")
@rows("origin", ["null", "https://evil.example", "https://app.example.com"])
@rows("path", ["/authorize", "/login", "/consent", "/applications", "/logout"])
async def test_no_page_is_for_another_origins_scripts(path: str, origin: str) -> None:
    async with deploy() as server:
        for method in ("GET", "POST", "OPTIONS"):
            headers = {"Origin": origin, "Access-Control-Request-Method": "GET"}
            response = await server.call(method, path, headers=headers)
            assert not any(name.startswith("access-control-") for name, _ in response.headers)


@pytest.mark.case("Z120")
async def test_no_error_repeats_what_the_request_said() -> None:
    async with deploy() as server:
        client = await server.register()
        marker = 'Marker"<x>'
        usual = dict(pairs_of(client))
        told = 0
        for name in (
            *usual,
            "request",
            "request_uri",
            "response_mode",
            "prompt",
            "max_age",
            "scope",
        ):
            if name in ("state", "prompt"):
                continue
            response = await ask(server, {**usual, name: marker, "state": "s"})
            text = (response.header("location") or "") + response.body.decode()
            assert "Marker" not in text
            told += response.status == 303
        assert told >= 8


@pytest.mark.case("Z121")
@rows("name", ["client_id", "redirect_uri", "state", "scope", "transaction", "csrf", "login_hint"])
async def test_markup_in_any_parameter_stays_text(name: str) -> None:
    markup = '"><svg onload=alert(1)>'
    async with deploy() as server:
        client = await server.register()
        for path in ("/authorize", "/login", "/consent", "/applications", "/nowhere"):
            response = await server.call(
                "GET", f"{path}?{urlencode({**dict(pairs_of(client)), name: markup})}"
            )
            assert b"<svg" not in response.body
            assert b"onload" not in response.body or b"&quot;&gt;&lt;svg onload" in response.body


async def test_the_login_hint_stands_in_the_form_escaped_and_not_for_ever() -> None:
    async with deploy() as server:
        client = await server.register()
        page = await server.browser().open(
            client.authorization_url(login_hint='"><b>al' + "i" * 1000)
        )
        value = page.forms[0][1]["username"]
        assert value.startswith('"><b>al')
        assert len(value) == 256


async def test_each_request_leaves_one_record_for_ten_minutes() -> None:
    """What strangers can make us keep is bounded by the rate limit times this."""
    async with deploy() as server:
        client = await server.register()
        store = server.provider.store
        before = len(await store.scan("transaction", limit=1000))
        for _ in range(5):
            await ask(server, pairs_of(client))
        assert len(await store.scan("transaction", limit=1000)) - before == 5
        server.clock.advance(600)
        assert await store.scan("transaction", limit=1000) == []


# ------------------------------------------------------------------------------------ tabs at once


@pytest.mark.rule("AS-89")
@pytest.mark.parametrize("count", [2, 4, 16])
async def test_tabs_that_leave_a_fresh_browser_at_once_all_go_on(count: int) -> None:
    """None of them has the cookie yet, and each answer brings one of its own."""
    async with deploy() as server:
        client, browser = await server.register(), server.browser()
        fresh = [server.browser() for _ in range(count)]
        pages = [
            (await each.send("GET", client.authorization_url())).header("location") or ""
            for each in fresh
        ]
        for each in fresh:
            browser.cookies.update(each.cookies)
        assert len(browser.cookies) == count
        for page in pages:
            assert (await browser.send("GET", page)).status == 200
        before = len(browser.cookies)
        await browser.send("GET", client.authorization_url())
        assert len(browser.cookies) == before, "a browser that is known gets no further one"


@pytest.mark.rule("AS-89")
async def test_each_transaction_is_bound_to_the_browser_that_began_it() -> None:
    async with deploy() as server:
        client, one, other = await server.register(), server.browser(), server.browser()
        page = (await one.send("GET", client.authorization_url())).header("location") or ""
        await other.send("GET", client.authorization_url())
        assert (await other.send("GET", page)).status == 403
        # Nor does it help to show one's own secret under the name of the other's cookie.
        (name,), (secret,) = one.cookies, other.cookies.values()
        other.cookies[name] = secret
        assert (await other.send("GET", page)).status == 403
        assert (await one.send("GET", page)).status == 200
        assert server.reasons() == ["other_browser", "other_browser"]


@pytest.mark.rule("AS-89")
async def test_the_oldest_cookies_are_swept_from_a_browser_that_has_too_many() -> None:
    async with deploy() as server:
        client, browser = await server.register(), server.browser()
        pages = []
        for _ in range(MAX_BROWSER_COOKIES + 3):
            fresh = server.browser()
            answer = await fresh.send("GET", client.authorization_url())
            pages.append(answer.header("location") or "")
            browser.cookies.update(fresh.cookies)
        await browser.send("GET", client.authorization_url())
        assert len(browser.cookies) == MAX_BROWSER_COOKIES
        assert sum(len(f"{name}={value}; ") for name, value in browser.cookies.items()) < 2048
        statuses = [(await browser.send("GET", page)).status for page in pages]
        assert statuses == [403] * 3 + [200] * MAX_BROWSER_COOKIES
