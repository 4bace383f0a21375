"""OAuth 2.0 Pushed Authorization Requests (RFC 9126)."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest

from asgi_mcp_auth.server import Lifetimes, Registration
from tests.support.asgi import Response
from tests.support.authorization_server import (
    BASE_URL,
    CONFIDENTIAL,
    RESOURCE,
    ClientOf,
    Server,
    answer_of,
    basic,
    deploy,
)
from tests.support.engines import fresh
from tests.support.products import STORIES
from tests.support.rows import rows

pytestmark = pytest.mark.asyncio

SECRET = CONFIDENTIAL["client_secret"]


def parameters_of(client: ClientOf, **parameters: str | None) -> dict[str, str]:
    """Return the parameters of the client's usual request."""
    return dict(parse_qsl(urlsplit(client.authorization_url(**parameters)).query))


async def push(client: ClientOf, form: Any = None, **parameters: str | None) -> Response:
    """Push a request, authenticated as the client."""
    headers = basic(client.client_id, str(SECRET)) if "client_secret" in client.information else {}
    return await client.server.call(
        "POST",
        "/par",
        headers=headers,
        form=form if form is not None else parameters_of(client, **parameters),
    )


def url_for(client: ClientOf, request_uri: str, **more: str) -> str:
    """Return the authorization URL for a pushed request."""
    query = urlencode({"client_id": client.client_id, "request_uri": request_uri, **more})
    return f"{BASE_URL}/authorize?{query}"


async def is_refused(server: Server, url: str, reason: str) -> None:
    """Check that a URL ends in a page."""
    response = await server.call("GET", url.removeprefix(BASE_URL))
    assert (response.status, response.header("location")) == (400, None)
    assert server.reasons() == [reason]


@pytest.mark.rule("AS-66")
@pytest.mark.parametrize("confidential", [True, False])
async def test_a_pushed_request_is_carried_out(confidential: bool) -> None:
    """§2.1 and §2.2: 201, one URI, its lifetime, and no caching."""
    async with deploy(registration=Registration(clients=[CONFIDENTIAL])) as server:
        client = server.known(CONFIDENTIAL) if confidential else await server.register()
        response = await push(client, state="a b", scope="mcp:write")
        assert response.status == 201
        document = response.json()
        assert document.keys() == {"request_uri", "expires_in"}
        assert document["expires_in"] == 60
        prefix, _, secret = document["request_uri"].rpartition(":")
        assert (prefix, len(secret)) == ("urn:ietf:params:oauth:request_uri", 43)
        assert (response.header("content-type"), response.header("cache-control")) == (
            "application/json",
            "no-store",
        )
        assert response.header("access-control-allow-origin") is None
        answer = answer_of(await server.browser().decide(url_for(client, document["request_uri"])))
        assert answer["state"] == "a b"
        assert (await client.redeem(answer["code"])).json()["scope"] == "mcp:write"


@pytest.mark.rule("AS-67")
async def test_what_was_pushed_counts_and_nothing_beside_it() -> None:
    """§4: other parameters of the URL are ignored."""
    async with deploy() as server:
        client = await server.register()
        uri = (await push(client, state="pushed")).json()["request_uri"]
        evil = {
            "redirect_uri": "https://evil.example/",
            "state": "evil",
            "scope": "unknown",
            "response_type": "token",
        }
        url = await server.browser().decide(url_for(client, uri, **evil))
        assert url.startswith(client.information["redirect_uris"][0])
        assert answer_of(url)["state"] == "pushed"


@pytest.mark.rule("AS-67")
async def test_a_request_uri_works_once() -> None:
    """§7.3."""
    async with deploy() as server:
        client = await server.register()
        uri = (await push(client)).json()["request_uri"]
        assert (await server.call("GET", url_for(client, uri).removeprefix(BASE_URL))).status == 303
        await is_refused(server, url_for(client, uri), "request_uri")


@pytest.mark.parametrize("engine", STORIES)
async def test_of_many_browsers_at_once_one_uses_it(engine: str) -> None:
    with fresh(engine) as place:
        async with deploy(store=place.store()) as server:
            client = await server.register()
            uri = (await push(client)).json()["request_uri"]
            target = url_for(client, uri).removeprefix(BASE_URL)
            responses = await asyncio.gather(*(server.call("GET", target) for _ in range(20)))
            assert sorted(response.status for response in responses) == [303] + [400] * 19
            assert set(server.reasons()) == {"request_uri"}


@pytest.mark.parametrize(("age", "is_good"), [(29, True), (30, False)])
async def test_a_request_uri_expires(age: int, is_good: bool) -> None:
    async with deploy(lifetimes=Lifetimes(pushed_request_seconds=30)) as server:
        client = await server.register()
        document = (await push(client)).json()
        assert document["expires_in"] == 30
        server.clock.advance(age)
        response = await server.call(
            "GET", url_for(client, document["request_uri"]).removeprefix(BASE_URL)
        )
        assert (response.status == 303) is is_good


@pytest.mark.rule("AS-67")
async def test_a_request_uri_is_its_clients_and_another_does_not_use_it_up() -> None:
    """§2.2."""
    async with deploy() as server:
        client, other = await server.register(), await server.register()
        uri = (await push(client)).json()["request_uri"]
        await is_refused(server, url_for(other, uri), "request_uri")
        query = urlencode({"request_uri": uri})
        await is_refused(server, f"{BASE_URL}/authorize?{query}", "request_uri")
        twice = f"{url_for(client, uri)}&client_id={other.client_id}"
        await is_refused(server, twice, "unknown_client")
        assert (await server.call("GET", url_for(client, uri).removeprefix(BASE_URL))).status == 303


@rows("secret", ["", "x", "a" * 43, "a" * 5000, "é", "\x00"])
async def test_a_made_up_request_uri_is_a_page(secret: str) -> None:
    async with deploy() as server:
        client = await server.register()
        await is_refused(
            server, url_for(client, f"urn:ietf:params:oauth:request_uri:{secret}"), "request_uri"
        )


@pytest.mark.rule("AS-66")
@rows(
    ("parameters", "error"),
    [
        ({"response_type": None}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"scope": "unknown"}, "invalid_scope"),
        ({"resource": "https://evil.example"}, "invalid_target"),
        ({"redirect_uri": "https://evil.example"}, "invalid_request"),
        ({"request": "x.y.z"}, "request_not_supported"),
        ({"request_uri": "urn:ietf:params:oauth:request_uri:x"}, "invalid_request"),
        ({"request_uri": "https://evil.example"}, "invalid_request"),
        ({"prompt": "none login"}, "invalid_request"),
        ({"response_mode": "fragment"}, "invalid_request"),
    ],
)
async def test_what_could_not_be_answered_is_refused_at_once(
    parameters: dict[str, str | None], error: str
) -> None:
    """§2.3: as JSON, never as a redirect."""
    async with deploy() as server:
        client = await server.register()
        usual = parameters_of(client)
        form = {name: value for name, value in {**usual, **parameters}.items() if value is not None}
        response = await push(client, form)
        assert (response.status, response.json()["error"]) == (400, error)
        assert response.header("location") is None
        assert response.header("cache-control") == "no-store"
        assert await server.provider.store.scan("pushed") == []


@pytest.mark.rule("AS-66")
async def test_a_client_proves_who_it_is_as_at_the_token_endpoint() -> None:
    """§2: client authentication comes first."""
    async with deploy(registration=Registration(clients=[CONFIDENTIAL])) as server:
        client = server.known(CONFIDENTIAL)
        form = parameters_of(client)
        for headers in ({}, basic("service", "wrong")):
            response = await server.call("POST", "/par", headers=headers, form=form)
            assert (response.status, response.json()["error"]) == (401, "invalid_client")
        public = await server.register()
        response = await server.call(
            "POST", "/par", form={**parameters_of(public), "client_id": "nobody"}
        )
        assert (response.status, response.json()["error"]) == (401, "invalid_client")
        response = await server.call(
            "POST", "/par", headers=basic("service", str(SECRET)), form=parameters_of(public)
        )
        assert response.status in (400, 401)


@pytest.mark.case("Z56")
@rows("name", ["state", "client_id", "redirect_uri", "scope", "x"])
async def test_a_repeated_parameter_is_refused(name: str) -> None:
    async with deploy() as server:
        client = await server.register()
        pairs = [*parameters_of(client).items(), (name, "one"), (name, "two")]
        response = await push(client, pairs)
        assert (response.status, response.json()["error"]) == (400, "invalid_request")
        pairs = [*parameters_of(client).items(), ("resource", RESOURCE)]
        assert (await push(client, pairs)).status == 201


BODIES = [
    ("GET", None, b"", 405),
    ("PUT", None, b"", 405),
    ("POST", "application/json", b"{}", 400),
    ("POST", "multipart/form-data; boundary=x", b"--x--", 400),
    ("POST", None, b"client_id=x", 400),
    ("POST", "application/x-www-form-urlencoded", b"x=" + b"y" * 65_536, 413),
    ("POST", "application/x-www-form-urlencoded", b"&".join(b"p%d=" % n for n in range(100)), 400),
    ("POST", "application/x-www-form-urlencoded", b"client_id=%ff", 400),
    ("POST", "application/x-www-form-urlencoded", b"client_id=%z", 400),
]


@pytest.mark.case("Z54", "Z55")
@rows(("method", "kind", "body", "status"), BODIES)
async def test_what_is_no_form_is_refused(
    method: str, kind: str | None, body: bytes, status: int
) -> None:
    async with deploy() as server:
        response = await server.call(
            method, "/par", headers={"Content-Type": kind} if kind else {}, body=body
        )
        assert (response.status, response.json()["error"]) == (status, "invalid_request")
        assert response.header("allow") == ("POST" if status == 405 else None)


@pytest.mark.case("Z57")
async def test_parameters_of_the_query_do_not_count() -> None:
    async with deploy() as server:
        client = await server.register()
        query = urlencode(parameters_of(client))
        response = await server.call("POST", f"/par?{query}", form={"client_id": client.client_id})
        assert (response.status, response.json()["error"]) == (400, "invalid_request")


@pytest.mark.rule("AS-67")
@pytest.mark.parametrize("who", ["server", "client"])
async def test_where_requests_have_to_be_pushed_others_are_refused(who: str) -> None:
    """§5 and §6."""
    options = {"require_pushed_requests": who == "server"}
    metadata = {"require_pushed_authorization_requests": True} if who == "client" else {}
    async with deploy(options=options) as server:
        document = (await server.call("GET", "/.well-known/oauth-authorization-server")).json()
        assert document.get("require_pushed_authorization_requests", False) is (who == "server")
        client = await server.register(**metadata)
        response = await server.call("GET", client.authorization_url().removeprefix(BASE_URL))
        assert answer_of(response.header("location") or "")["error"] == "invalid_request"
        uri = (await push(client)).json()["request_uri"]
        assert "code" in answer_of(await server.browser().decide(url_for(client, uri)))


@pytest.mark.rule("AS-08")
async def test_where_it_is_switched_off_there_is_none() -> None:
    async with deploy(options={"disabled": ["par"]}) as server:
        client = await server.register()
        document = (await server.call("GET", "/.well-known/oauth-authorization-server")).json()
        assert "pushed_authorization_request_endpoint" not in document
        assert (await push(client)).status == 404
        url = client.authorization_url(request_uri="urn:ietf:params:oauth:request_uri:x")
        response = await server.call("GET", url.removeprefix(BASE_URL))
        assert answer_of(response.header("location") or "")["error"] == "request_uri_not_supported"


async def test_a_redirect_uri_that_was_taken_back_after_the_push_gets_no_answer() -> None:
    async with deploy() as server:
        client = await server.register()
        uri = (await push(client)).json()["request_uri"]
        await server.provider.admin.delete_client(client.client_id)
        await is_refused(server, url_for(client, uri), "unknown_client")


async def test_a_pushed_request_is_kept_and_its_uri_is_not() -> None:
    async with deploy() as server:
        uri = (await push(await server.register())).json()["request_uri"]
        ((key, record),) = await server.provider.store.scan("pushed")
        secret = uri.rpartition(":")[2]
        assert secret not in key
        assert secret.encode() not in record.value
