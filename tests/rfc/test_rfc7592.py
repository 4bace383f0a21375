"""OAuth 2.0 Dynamic Client Registration Management (RFC 7592)."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import pytest

from asgi_mcp_auth.server import Registration
from tests.support.asgi import Response
from tests.support.authorization_server import (
    CONFIDENTIAL,
    WEB_REDIRECT_URI,
    ClientOf,
    Server,
    basic,
    deploy,
)
from tests.support.rows import rows

pytestmark = [pytest.mark.asyncio, pytest.mark.rule("AS-58")]

GUESS = "a-guess-that-is-as-long-as-a-registration-access-token"


async def manage(
    server: Server, client: ClientOf, method: str, document: Any = None, *, token: str | None = None
) -> Response:
    """Send a request to the client's registration, as it was told to."""
    parts = urlsplit(client.information["registration_client_uri"])
    bearer = client.information["registration_access_token"] if token is None else token
    return await server.call(
        method, f"{parts.path}?{parts.query}", document=document, bearer=bearer
    )


def update_of(client: ClientOf, **changes: Any) -> dict[str, Any]:
    """Return an update: what the client was told, without what is the server's to say, with
    changes.
    """
    ours = (
        "registration_access_token",
        "registration_client_uri",
        "client_secret_expires_at",
        "client_id_issued_at",
    )
    document = {
        name: value for name, value in client.information.items() if name not in ours
    } | changes
    return {name: value for name, value in document.items() if value is not None}


async def test_a_client_reads_what_it_has_registered() -> None:
    """§2.1, §3. Its secret is not known here any more, only its hash."""
    async with deploy() as server:
        client = await server.register(
            client_name="A name", token_endpoint_auth_method="client_secret_basic"
        )
        response = await manage(server, client, "GET")
        assert (response.status, response.header("cache-control")) == (200, "no-store")
        hidden = ("client_secret", "client_secret_expires_at")
        assert response.json() == {
            name: each for name, each in client.information.items() if name not in hidden
        }


async def test_an_update_replaces_everything() -> None:
    """§2.2: a member that is left out is gone, or has its default again."""
    async with deploy() as server:
        client = await server.register(
            client_name="Old", client_uri="https://old.example", scope="mcp:read"
        )
        document = update_of(
            client, client_name="New", client_uri=None, scope=None, redirect_uris=[WEB_REDIRECT_URI]
        )
        response = await manage(server, client, "PUT", document)
        assert response.status == 200
        expected = {**client.information, "client_name": "New", "redirect_uris": [WEB_REDIRECT_URI]}
        del expected["client_uri"], expected["scope"]
        assert response.json() == expected == (await manage(server, client, "GET")).json()
        # the old redirect URI
        assert (await server.browser().send("GET", client.authorization_url())).status == 400
        assert (await ClientOf(server, response.json()).sign_in())["token_type"] == "Bearer"


@rows(
    ("changes", "error"),
    [
        ({"client_id": None}, "invalid_client_metadata"),
        ({"client_id": "another"}, "invalid_client_metadata"),
        ({"registration_access_token": "x"}, "invalid_client_metadata"),
        ({"registration_client_uri": "x"}, "invalid_client_metadata"),
        ({"client_secret_expires_at": 0}, "invalid_client_metadata"),
        ({"client_id_issued_at": 1_800_000_000}, "invalid_client_metadata"),
        ({"client_secret": "another"}, "invalid_client_metadata"),
        ({"client_secret": ""}, "invalid_client_metadata"),
        ({"client_secret": 5}, "invalid_client_metadata"),
        ({"redirect_uris": None}, "invalid_redirect_uri"),
        ({"redirect_uris": ["javascript:alert(1)"]}, "invalid_redirect_uri"),
        ({"grant_types": ["password"]}, "invalid_client_metadata"),
        ({"token_endpoint_auth_method": "tls_client_auth"}, "invalid_client_metadata"),
    ],
    ids=str,
)
async def test_an_update_has_the_client_id_and_nothing_that_is_the_servers_to_say(
    changes: dict[str, Any], error: str
) -> None:
    """§2.2. Nothing is changed then."""
    async with deploy() as server:
        client = await server.register(token_endpoint_auth_method="client_secret_basic")
        before = (await manage(server, client, "GET")).json()
        response = await manage(server, client, "PUT", update_of(client, **changes))
        assert (response.status, response.json()["error"]) == (400, error)
        assert (await manage(server, client, "GET")).json() == before


async def test_a_secret_stays_as_long_as_the_client_has_one() -> None:
    """§2.2: it may be sent, if it is the same."""
    async with deploy() as server:
        client = await server.register(token_endpoint_auth_method="client_secret_basic")
        for document in (update_of(client), update_of(client, client_secret=None)):
            response = await manage(server, client, "PUT", document)
            assert response.status == 200
            assert "client_secret" not in response.json()
        headers = basic(client.client_id, client.information["client_secret"])
        response = await server.token(headers=headers, grant_type="authorization_code", code="x")
        assert response.json()["error"] == "invalid_grant"


async def test_who_becomes_public_loses_the_secret_and_who_becomes_confidential_gets_one() -> None:
    async with deploy() as server:
        client = await server.register(token_endpoint_auth_method="client_secret_basic")
        public = update_of(client, token_endpoint_auth_method="none")
        assert "client_secret" not in (await manage(server, client, "PUT", public)).json()
        old = basic(client.client_id, client.information["client_secret"])
        assert (
            await server.token(headers=old, grant_type="authorization_code", code="x")
        ).status == 401
        confidential = update_of(
            client, client_secret=None, token_endpoint_auth_method="client_secret_post"
        )
        document = (await manage(server, client, "PUT", confidential)).json()
        assert document["client_secret_expires_at"] == 0
        form = {"client_id": client.client_id, "client_secret": document["client_secret"]}
        response = await server.token(**form, grant_type="authorization_code", code="x")
        assert response.json()["error"] == "invalid_grant"


@pytest.mark.rule("AS-76")
async def test_a_client_that_deletes_itself_is_gone_with_its_tokens() -> None:
    """§2.3: 204, and everything that it was granted ends."""
    async with deploy() as server:
        client, other = await server.register(), await server.register()
        tokens, kept = await client.sign_in(), await other.sign_in()
        code = await client.code()
        response = await manage(server, client, "DELETE")
        assert (response.status, response.body, response.header("cache-control")) == (
            204,
            b"",
            "no-store",
        )
        assert (await server.call("POST", "/mcp", bearer=tokens["access_token"])).status == 401
        assert (await client.refresh(tokens["refresh_token"])).json()["error"] == "invalid_client"
        assert (await client.redeem(code)).json()["error"] == "invalid_client"
        assert (await server.browser().send("GET", client.authorization_url())).status == 400
        assert (await server.call("POST", "/mcp", bearer=kept["access_token"])).status == 200
        for method in ("GET", "PUT", "DELETE"):
            assert (await manage(server, client, method, update_of(client))).status == 401
        actions = [
            (event.action, event.reason)
            for event in server.events
            if event.client_id == client.client_id
        ]
        assert actions[-1] == ("client_deleted", None)
        assert ("grant_revoked", "client_deleted") in actions


METHODS = ("GET", "PUT", "DELETE")


@rows("method", METHODS)
@rows(
    "token",
    ["", GUESS, "{mine}x", "{other}", "{secret}"],
)
async def test_a_registration_is_accessible_with_its_own_token_only(
    method: str, token: str
) -> None:
    """§2.1 to §2.3: 401, and nothing tells whether there is such a client."""
    async with deploy() as server:
        client, other = [
            await server.register(token_endpoint_auth_method="client_secret_post") for _ in range(2)
        ]
        parts = urlsplit(client.information["registration_client_uri"])
        sent = token.format(
            mine=client.information["registration_access_token"],
            other=other.information["registration_access_token"],
            secret=client.information["client_secret"],
        )
        answers = []
        for query in (
            parts.query,
            "client_id=unknown",
            "client_id=service",
            "client_id=",
            "",
            f"{parts.query}&{parts.query}",
        ):
            headers = {"Authorization": f"Bearer {sent}"} if sent else {}
            response = await server.call(
                method, f"/register?{query}", headers=headers, document=update_of(client)
            )
            answers.append((response.status, response.header("www-authenticate"), response.body))
        assert len(set(answers)) == 1
        assert answers[0][:2] == (401, 'Bearer realm="register"')
        assert set(server.reasons()) == {"registration_token"}
        assert (await manage(server, client, "GET")).status == 200


@pytest.mark.parametrize("method", METHODS)
async def test_a_client_that_the_operator_wrote_down_is_not_its_own_to_manage(method: str) -> None:
    async with deploy(registration=Registration(clients=[CONFIDENTIAL])) as server:
        for bearer in (GUESS, "service-secret-of-at-least-32-characters", "nobody"):
            response = await server.call(
                method, "/register?client_id=service", bearer=bearer, document={}
            )
            assert response.status == 401
        created = await server.provider.admin.create_client({"redirect_uris": [WEB_REDIRECT_URI]})
        target = f"/register?client_id={created['client_id']}"
        assert (
            await server.call(method, target, bearer=created["client_secret"], document={})
        ).status == 401


@pytest.mark.parametrize("method", METHODS)
async def test_asking_for_a_registration_fetches_no_document(method: str) -> None:
    """The id of a client with a metadata document is a URL; a request without a token does not make
    us fetch it.
    """
    fetched: list[str] = []
    async with deploy(
        registration=Registration(trust_document=lambda url: bool(fetched.append(url)))
    ) as server:
        target = "/register?client_id=https://client.example/metadata.json"
        assert (await server.call(method, target, bearer=GUESS, document={})).status == 401
        assert fetched == []


@rows("method", ["PATCH", "HEAD", "OPTIONS", "TRACE"])
async def test_another_method_is_not_allowed(method: str) -> None:
    async with deploy() as server:
        client = await server.register()
        response = await manage(server, client, method)
        assert (response.status, response.header("allow")) == (405, "GET, POST, PUT, DELETE")


@pytest.mark.parametrize("method", METHODS)
async def test_where_registrations_cannot_be_managed_there_is_no_token_and_no_way(
    method: str,
) -> None:
    async with deploy(registration=Registration(management=False)) as server:
        client = await server.register()
        assert not {"registration_access_token", "registration_client_uri"} & set(
            client.information
        )
        target = f"/register?client_id={client.client_id}"
        response = await server.call(method, target, bearer=GUESS, document=update_of(client))
        assert (response.status, response.header("allow")) == (405, "POST")


@rows("prefix", ["", "/oauth"])
@rows("base_url", ["http://localhost:8000", "http://localhost:8000/a"])
async def test_the_registration_lies_below_base_url(base_url: str, prefix: str) -> None:
    async with deploy(base_url=base_url, options={"path_prefix": prefix}) as server:
        target = f"{urlsplit(base_url).path}{prefix}/register"
        document = (
            await server.call("POST", target, document={"redirect_uris": [WEB_REDIRECT_URI]})
        ).json()
        client = ClientOf(server, document)
        assert (
            document["registration_client_uri"]
            == f"{base_url}{prefix}/register?client_id={client.client_id}"
        )
        assert (await manage(server, client, "GET")).status == 200


@pytest.mark.rule("AS-57")
async def test_the_operators_say_counts_for_changes_too() -> None:
    welcome = Registration(approve=lambda metadata: metadata.get("client_name") != "Unwelcome")
    async with deploy(registration=welcome) as server:
        client = await server.register()
        response = await manage(server, client, "PUT", update_of(client, client_name="Unwelcome"))
        assert (response.status, response.json()["error"]) == (400, "access_denied")
