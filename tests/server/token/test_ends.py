"""What ends, and what ends with it: grants, codes, clients, people."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from asgi_mcp_auth import ConfigurationError
from asgi_mcp_auth.server import Lifetimes, Person, Registration
from asgi_mcp_auth.server.parties import check_person
from tests.support.authorization_server import CONFIDENTIAL, ClientOf, Server, deploy, memory_store
from tests.support.rows import rows

pytestmark = pytest.mark.asyncio

Ending = Callable[[Server, ClientOf], Awaitable[Any]]

ENDINGS: dict[str, Ending] = {
    "by_operator": lambda server, client: server.provider.admin.revoke_person("alice"),
    "for_client": lambda server, client: server.provider.admin.revoke_client(
        "alice", client.client_id
    ),
    "client_deleted": lambda server, client: server.provider.admin.delete_client(client.client_id),
}


async def is_alive(server: Server, access_token: str) -> bool:
    """Return whether the app admits this token."""
    return (await server.call("POST", "/mcp", bearer=access_token)).status == 200


@pytest.mark.case("Z80", "V76")
@pytest.mark.parametrize("ending", ENDINGS)
async def test_access_and_refresh_tokens_end_together(ending: str) -> None:
    """The operator revokes the grant, or deletes the client."""
    async with deploy() as server:
        client, other = await server.register(), await server.register()
        tokens, theirs = await client.sign_in(), await other.sign_in("bob")
        assert await is_alive(server, tokens["access_token"])
        await ENDINGS[ending](server, client)
        assert not await is_alive(server, tokens["access_token"])
        response = await client.refresh(tokens["refresh_token"])
        assert response.json()["error"] == (
            "invalid_client" if ending == "client_deleted" else "invalid_grant"
        )
        assert await is_alive(server, theirs["access_token"])


@pytest.mark.case("Z80")
@pytest.mark.parametrize("ending", ["by_operator", "for_client"])
async def test_a_code_on_its_way_ends_too(ending: str) -> None:
    """A person who is removed cannot redeem a code that is a minute old."""
    async with deploy() as server:
        client = await server.register()
        code = await client.code()
        theirs = await client.code("bob")
        assert await ENDINGS[ending](server, client) == 0
        response = await client.redeem(code)
        assert (response.status, response.json()["error"]) == (400, "invalid_grant")
        assert server.reasons() == ["grant_revoked"]
        assert (await client.redeem(theirs)).status == 200


async def test_the_number_of_grants_that_ended_counts_those_of_fresh_codes_once() -> None:
    async with deploy() as server:
        client = await server.register()
        for _ in range(3):
            await client.sign_in()
        assert await server.provider.admin.revoke_client("alice", "another") == 0
        assert await server.provider.admin.revoke_person("alice") == 3
        assert await server.provider.admin.revoke_person("alice") == 0


async def test_deleting_an_unused_registration_reads_no_grants_of_others() -> None:
    """Registering and deleting is open to strangers, and a look at all grants takes seconds where
    there are many.
    """
    store = memory_store()
    async with deploy(store=store) as server:
        used, unused = await server.register(), await server.register()
        await used.sign_in()
        scanned: list[str] = []
        inner = store.inner.scan

        async def scan(ns: str, **bounds: Any) -> Any:
            scanned.append(ns)
            return await inner(ns, **bounds)

        store.inner.scan = scan  # type: ignore[method-assign]  # counts, and does the work
        for client in (unused, used):
            token = client.information["registration_access_token"]
            uri = f"/register?client_id={client.client_id}"
            assert (await server.call("DELETE", uri, bearer=token)).status == 204
            assert bool(scanned) is (client is used)


@rows(("after", "alive"), [(599, True), (601, True), (3599, True), (3600, False)])
async def test_an_access_token_that_outlives_an_idle_refresh_token_can_still_be_revoked(
    after: float, alive: bool
) -> None:
    async with deploy(lifetimes=Lifetimes(refresh_idle_seconds=600)) as server:
        client = await server.register()
        tokens = await client.sign_in()
        server.clock.advance(after)
        assert await is_alive(server, tokens["access_token"]) is alive
        form = {"token": tokens["access_token"], "client_id": client.client_id}
        assert (await server.call("POST", "/revoke", form=form)).status == 200
        assert not await is_alive(server, tokens["access_token"])
        revoked = [event.reason for event in server.events if event.action == "grant_revoked"]
        assert revoked == (["by_client"] if alive else [])


async def test_an_operator_finds_the_grant_of_an_access_token_whose_refresh_token_idled() -> None:
    async with deploy(lifetimes=Lifetimes(refresh_idle_seconds=600)) as server:
        tokens = await (await server.register()).sign_in()
        server.clock.advance(601)
        assert len([grant async for grant in server.provider.admin.grants()]) == 1
        assert await server.provider.admin.revoke_person("alice") == 1
        assert not await is_alive(server, tokens["access_token"])
        server.clock.advance(3600)
        assert [grant async for grant in server.provider.admin.grants()] == []


@pytest.mark.case("V78")
@pytest.mark.rule("AS-22")
@pytest.mark.parametrize("moved", ["code", "refresh_token"])
async def test_what_was_granted_for_one_resource_is_worth_nothing_for_another(
    moved: str,
) -> None:
    """RFC 8707 §2.2: two servers share issuer and store, or one changed its mcp_path."""
    store = memory_store()
    async with deploy(store=store) as notes, deploy(store=store, mcp_path="/mail") as mail:
        client = await notes.register()
        there = ClientOf(mail, client.information, client.verifier)
        code = await client.code()
        if moved == "code":
            response = await there.redeem(code)
            assert (await client.redeem(code)).status == 200, "it is good where it belongs"
        else:
            tokens = (await client.redeem(code)).json()
            assert await is_alive(notes, tokens["access_token"])
            assert not await is_alive(mail, tokens["access_token"])
            response = await there.refresh(tokens["refresh_token"])
            form = {"token": tokens["refresh_token"], "client_id": client.client_id}
            assert (await mail.call("POST", "/revoke", form=form)).status == 200
            assert (await client.refresh(tokens["refresh_token"])).status == 200, (
                "it is good where it belongs"
            )
        assert (response.status, response.json()["error"]) == (400, "invalid_grant")
        assert mail.reasons() == ["other_resource"]


@pytest.mark.case("Z80")
async def test_a_grant_whose_scopes_are_all_gone_is_over() -> None:
    """The client asked for no scope, so invalid_scope would tell it nothing."""
    store = memory_store()
    async with deploy(store=store) as before:
        client = await before.register()
        tokens = await client.sign_in(scope="mcp:write")
        code = await client.code(scope="mcp:write")
    async with deploy(store=store, scopes_supported=["mcp:read"]) as after:
        client = ClientOf(after, client.information, client.verifier)
        for response in (await client.refresh(tokens["refresh_token"]), await client.redeem(code)):
            assert (response.status, response.json()["error"]) == (400, "invalid_grant")
        assert after.reasons() == ["nothing_left", "nothing_left"]


@pytest.mark.case("Z80")
async def test_a_scope_that_is_taken_from_a_client_is_missing_from_its_next_token() -> None:
    store = memory_store()
    async with deploy(store=store, registration=Registration(clients=[CONFIDENTIAL])) as before:
        tokens = await before.known(CONFIDENTIAL).sign_in(scope="mcp:read mcp:write")
    registration = Registration(clients=[{**CONFIDENTIAL, "scope": "mcp:read"}])
    async with deploy(store=store, registration=registration) as after:
        client = after.known(CONFIDENTIAL)
        refreshed = (await client.refresh(tokens["refresh_token"])).json()
        assert refreshed["scope"] == "mcp:read"
        response = await client.refresh(refreshed["refresh_token"], scope="mcp:write")
        assert response.json()["error"] == "invalid_scope"


@rows(
    "person",
    [
        "alice",
        Person(subject=""),
        Person(subject="a" * 256),
        Person(subject="a\nb"),
        Person(subject="\ud800"),
        Person(subject=5),  # type: ignore[arg-type]
        Person(subject="a", name=5),  # type: ignore[arg-type]
        Person(subject="a", name="\ud800"),
        Person(subject="a", claims=["roles"]),  # type: ignore[arg-type]
        *(
            Person(subject="a", claims=claims)
            for claims in (
                {"sub": "b"},
                {"scope": "mcp:admin"},
                {"cnf": {}},
                {"grant_id": "x"},
                {"x": {1, 2}},
                {"x": float("nan")},
                {"x": float("inf")},
                {"x": 10**30},
                {"x": "\ud800"},
                {"x": "y" * 4096},
                {"x": eval("[" * 40 + "]" * 40)},  # noqa: S307 (our own text)
            )
        ),
    ],
    ids=lambda person: repr(person)[:60],
)
async def test_a_person_that_no_token_can_speak_of_is_refused(person: Any) -> None:
    with pytest.raises(ConfigurationError):
        check_person(person)


async def test_a_person_may_have_a_subject_of_255_characters_and_claims_of_4096_bytes() -> None:
    person = Person(subject="ä" * 255, name="Ä", claims={"x": "y" * (4096 - len('{"x": ""}'))})
    assert check_person(person) is person
