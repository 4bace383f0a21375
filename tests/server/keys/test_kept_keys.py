"""Signing keys in the store: one set for all workers, rotated with overlap."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest

from asgi_mcp_auth import ServerUnavailable
from asgi_mcp_auth.server.audit import Audit, AuditEvent
from asgi_mcp_auth.server.options import Lifetimes, ServerOptions
from asgi_mcp_auth.server.tokens.signing import (
    AHEAD_SECONDS,
    RELOAD_SECONDS,
    STALE_SECONDS,
    StoredSigningKeys,
)
from asgi_mcp_auth.stores import Store
from asgi_mcp_auth.stores.encrypted import EncryptedStore
from asgi_mcp_auth.stores.memory import MemoryStore
from asgi_mcp_auth.testing import FrozenClock
from tests.support.authorization_server import KEY, deploy, memory_store
from tests.support.engines import SHARED_ENGINES, fresh
from tests.support.failing import FailingStore
from tests.support.gate import header_of, segment
from tests.support.products import STORIES
from tests.support.rows import rows
from tests.support.store_processes import Child

pytestmark = pytest.mark.asyncio

DAY, HOUR = 86_400, 3600
ROTATION = 10 * DAY
OVERLAP = HOUR + RELOAD_SECONDS  # what a token lives, and what a worker may not yet know


@dataclass
class Worker:
    """The keys of one worker, without a server around them."""

    keys: StoredSigningKeys
    events: list[AuditEvent]

    async def kids(self) -> list[str]:
        """The ids of the published keys, in order."""
        return [key["kid"] for key in (await self.keys.jwks())["keys"]]

    async def kid(self) -> str:
        """The id of the key that signs now."""
        return str(header_of(await self.keys.sign({}, {}))["kid"])


def worker(store: Store, clock: FrozenClock, **options: Any) -> Worker:
    events = list[AuditEvent]()
    settings = ServerOptions(**{"key_rotation_seconds": ROTATION, **options})
    return Worker(
        StoredSigningKeys(store, clock, settings, Lifetimes(), Audit(events.append)), events
    )


async def test_the_first_key_is_made_at_the_start_and_stays() -> None:
    clock = FrozenClock()
    async with deploy(store=memory_store(clock), clock=clock) as server:
        (event,) = server.events
        (key,) = (await server.call("GET", "/.well-known/jwks.json")).json()["keys"]
        assert (event.action, event.key_id) == ("key_created", key["kid"])
        async with deploy(store=server.provider.store, clock=clock) as later:
            assert (await later.call("GET", "/.well-known/jwks.json")).json()["keys"] == [key]
            assert later.events == []


@pytest.mark.parametrize("engine", STORIES)
async def test_private_keys_are_not_in_the_clear_in_the_engine(engine: str) -> None:
    with fresh(engine) as place:
        async with deploy(store=place.store()):
            dump = place.dump()
    assert b"keys" in dump  # the kind of the record, which is no secret
    assert b"PRIVATE KEY" not in dump
    assert b"-----BEGIN" not in dump


@pytest.mark.parametrize("engine", SHARED_ENGINES)
async def test_processes_that_start_at_once_end_with_one_key(engine: str) -> None:
    with fresh(engine) as place:
        child = Child(place, "begin", 4)
        found = json.loads(child.hear())
        child.close()
    assert len(found) == 4
    assert len(set(found)) == 1
    assert " " not in found[0]


async def test_workers_that_start_at_once_end_with_one_key_and_say_so_once() -> None:
    store, clock = memory_store(), FrozenClock()
    workers = [worker(store, clock) for _ in range(20)]
    await asyncio.gather(*(each.keys.open() for each in workers))
    kids = [await each.kids() for each in workers]
    assert all(each == kids[0] for each in kids)
    assert sum(len(each.events) for each in workers) == 1


@pytest.mark.rule("AS-09")
async def test_a_key_is_published_an_hour_before_it_signs_and_as_long_as_its_tokens_live() -> None:
    """Rotation with overlap, at every boundary of the clock."""
    store, clock = memory_store(), FrozenClock()
    one = worker(store, clock)
    (old,) = await one.kids()
    steps: list[tuple[float, int, bool]] = [
        # when, how many keys are published then, whether the old one signs
        (ROTATION - AHEAD_SECONDS - RELOAD_SECONDS, 1, True),
        (ROTATION - AHEAD_SECONDS - 1, 1, True),
        # a minute late: it looks once a minute
        (ROTATION - AHEAD_SECONDS + RELOAD_SECONDS, 2, True),
        (ROTATION - 1, 2, True),
        (ROTATION + RELOAD_SECONDS, 2, False),
        (ROTATION + OVERLAP - 1, 2, False),
        (ROTATION + OVERLAP + 2 * RELOAD_SECONDS, 1, False),
        (2 * ROTATION - AHEAD_SECONDS - 1, 1, False),
        (2 * ROTATION + 2 * RELOAD_SECONDS, 2, False),
    ]
    began = clock.time()
    for at, published, old_signs in steps:
        clock.advance(began + at - clock.time())
        assert (len(await one.kids()), (await one.kid()) == old) == (published, old_signs), at
    assert len(one.events) == 3


@rows("before", [1, 2, RELOAD_SECONDS, HOUR - 1])
async def test_a_token_is_good_to_its_end_however_its_key_is_rotated_meanwhile(
    before: float,
) -> None:
    """Signed in the last moments of the old key; verified by a worker that has started since."""
    clock = FrozenClock()
    store = memory_store(clock)
    options = {"key_rotation_seconds": ROTATION}
    async with deploy(store=store, clock=clock, options=options) as server:
        clock.advance(ROTATION - AHEAD_SECONDS)
        client = await server.register()
        await server.call("GET", "/.well-known/jwks.json")  # makes the next key
        clock.advance(AHEAD_SECONDS - before)
        tokens = await client.sign_in()
        old = header_of(tokens["access_token"])["kid"]
        clock.advance(HOUR - 1)
        async with deploy(store=store, clock=clock, options=options) as later:
            new = header_of((await client.sign_in())["access_token"])["kid"]
            assert new != old
            for each in (server, later):
                assert (
                    await each.call("POST", "/mcp", bearer=tokens["access_token"])
                ).status == 200


async def test_a_server_idle_for_long_signs_with_its_old_key_until_the_next_one_is_known() -> None:
    store, clock = memory_store(), FrozenClock()
    one = worker(store, clock)
    old = await one.kid()
    clock.advance(10 * ROTATION)
    assert (await one.kid(), len(await one.kids())) == (old, 2)
    clock.advance(AHEAD_SECONDS + RELOAD_SECONDS)
    assert await one.kid() != old


@pytest.mark.case("S19", "K28")
@rows("jump", [-HOUR, -5 * 60, 5 * 60, HOUR, DAY])
async def test_a_clock_that_is_set_costs_no_token(jump: float) -> None:
    """Another worker's clock may also differ."""
    store, clock = memory_store(), FrozenClock()
    one = worker(store, clock)
    signed = await one.keys.sign({}, {})
    clock.jump(jump)
    clock.advance(RELOAD_SECONDS)
    for each in (one, worker(store, clock)):
        header = header_of(signed)
        assert await each.keys.keys_for(str(header["kid"]), str(header["alg"]))
        assert await each.kid() == header["kid"]


# -------------------------------------------------------------------------------- another algorithm


async def test_another_algorithm_signs_at_once_and_what_the_old_one_signed_stays_good() -> None:
    clock = FrozenClock()
    store = memory_store(clock)
    async with deploy(store=store, clock=clock) as server:
        old = (await (await server.register()).sign_in())["access_token"]
        async with deploy(
            store=store, clock=clock, options={"signing_algorithm": "RS256"}
        ) as later:
            new = (await (await later.register()).sign_in())["access_token"]
            assert (header_of(old)["alg"], header_of(new)["alg"]) == ("ES256", "RS256")
            # a process looks for a key that it does not know at most once a second
            clock.advance(1)
            for each in (server, later):
                for token in (old, new):
                    assert (await each.call("POST", "/mcp", bearer=token)).status == 200
            algorithms = [
                key["alg"]
                for key in (await later.call("GET", "/.well-known/jwks.json")).json()["keys"]
            ]
            assert algorithms == ["ES256", "RS256"]


async def test_workers_with_different_algorithms_do_not_make_keys_in_turn() -> None:
    """A deployment that is being rolled out, or back again."""
    store, clock = memory_store(), FrozenClock()
    workers = [
        worker(store, clock, signing_algorithm=algorithm) for algorithm in ("ES256", "EdDSA")
    ]
    kids = [await each.kid() for each in workers]
    for _ in range(100):
        clock.advance(RELOAD_SECONDS)
        assert [await each.kid() for each in workers] == kids
    assert sum(len(each.events) for each in workers) == 2
    back = worker(store, clock)
    assert await back.kid() == kids[0]
    assert sorted(await back.kids()) == sorted(kids)


async def test_the_key_of_an_algorithm_no_longer_used_is_removed_in_the_end() -> None:
    store, clock = memory_store(), FrozenClock()
    old = await worker(store, clock).kid()
    one = worker(store, clock, signing_algorithm="EdDSA")
    assert old in await one.kids()
    clock.advance(ROTATION + OVERLAP - 1)
    assert old in await one.kids()
    clock.advance(1 + RELOAD_SECONDS)
    assert old not in await one.kids()


# ----------------------------------------------------------------------------------------- rotating


async def test_a_key_can_be_rotated_by_hand() -> None:
    clock = FrozenClock()
    store = memory_store(clock)
    async with (
        deploy(store=store, clock=clock) as server,
        deploy(store=store, clock=clock) as other,
    ):
        client = await server.register()
        old = (await client.sign_in())["access_token"]
        assert (await other.call("POST", "/mcp", bearer=old)).status == 200
        await server.provider.admin.rotate_keys()
        new = (await client.sign_in())["access_token"]
        assert header_of(new)["kid"] != header_of(old)["kid"]
        clock.advance(1)  # a process looks for a key that it does not know at most once a second
        for each in (server, other):
            for token in (old, new):
                assert (await each.call("POST", "/mcp", bearer=token)).status == 200
        assert [event.action for event in server.events].count("key_created") == 2


async def test_a_key_that_is_in_wrong_hands_can_be_retired() -> None:
    """Its tokens are refused: here at once, elsewhere within a minute; refresh tokens live on."""
    clock = FrozenClock()
    store = memory_store(clock)
    async with (
        deploy(store=store, clock=clock) as server,
        deploy(store=store, clock=clock) as other,
    ):
        client = await server.register()
        tokens = await client.sign_in()
        for each in (server, other):
            assert (await each.call("POST", "/mcp", bearer=tokens["access_token"])).status == 200
        await server.provider.admin.rotate_keys(retire=True)
        assert (await server.call("POST", "/mcp", bearer=tokens["access_token"])).status == 401
        assert len((await server.call("GET", "/.well-known/jwks.json")).json()["keys"]) == 1
        clock.advance(RELOAD_SECONDS)
        assert (await other.call("POST", "/mcp", bearer=tokens["access_token"])).status == 401
        assert (await client.refresh(tokens["refresh_token"])).status == 200


@pytest.mark.parametrize("engine", STORIES)
async def test_workers_that_rotate_at_once_lose_no_key(engine: str) -> None:
    """Each may have signed with its own already."""
    with fresh(engine) as place:
        clock = FrozenClock()
        stores = [place.store(), place.store()]
        workers = [worker(store, clock) for store in stores]
        for store in stores:
            await store.open()
        await asyncio.gather(*(each.keys.rotate() for each in workers for _ in range(3)))
        created = [event.key_id for each in workers for event in each.events]
        await workers[0].keys._load()
        assert sorted(created) == sorted(await workers[0].kids())
        assert len(created) == 6
        for store in stores:
            await store.aclose()


# ----------------------------------------------------------------------------- a store that is down


@contextmanager
def failing(clock: FrozenClock) -> Iterator[tuple[FailingStore, EncryptedStore]]:
    inner = FailingStore(MemoryStore(clock=clock))
    yield inner, EncryptedStore(inner, [KEY])


def break_(store: FailingStore, *, broken: bool = True) -> None:
    store.fail_at, store.for_good = (len(store.calls) + 1 if broken else 0), True


async def test_a_store_that_is_down_at_the_start_does_not_prevent_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = FrozenClock()
    with failing(clock) as (inner, store), caplog.at_level(logging.WARNING, "asgi_mcp_auth"):
        break_(inner)
        async with deploy(store=store, clock=clock) as server:
            assert [
                each.getMessage() for each in caplog.records if each.name.endswith("signing")
            ] == ["The signing keys cannot be loaded yet: the store is not responding"]
            for _ in range(3):
                response = await server.call("GET", "/.well-known/jwks.json")
                assert (response.status, response.header("retry-after")) == (503, "1")
            break_(inner, broken=False)
            assert (await server.call("GET", "/.well-known/jwks.json")).status == 200


@pytest.mark.parametrize(
    ("down_for", "good"),
    [(RELOAD_SECONDS, True), (STALE_SECONDS - 1, True), (STALE_SECONDS, False)],
)
async def test_keys_at_hand_are_used_for_a_day_while_the_store_is_down(
    down_for: float, good: bool
) -> None:
    clock = FrozenClock()
    with failing(clock) as (inner, store):
        one = worker(store, clock)
        await one.keys.open()
        signed = header_of(await one.keys.sign({}, {}))
        break_(inner)
        clock.advance(down_for)
        if good:
            assert await one.kid() == signed["kid"]
            assert await one.keys.keys_for(str(signed["kid"]), "ES256")
            calls = len(inner.calls)
            assert await one.kids() == [signed["kid"]]
            assert len(inner.calls) == calls  # it does not look again for five seconds
        else:
            with pytest.raises(ServerUnavailable):
                await one.kid()
        with pytest.raises(ServerUnavailable):  # it may be a new one
            await one.keys.keys_for("unknown", "ES256")
        break_(inner, broken=False)
        clock.advance(5)
        assert await one.kid() == signed["kid"]


@pytest.mark.case("K03")
async def test_unknown_keys_make_it_look_once_a_second() -> None:
    """However many tokens name one."""
    clock = FrozenClock()
    with failing(clock) as (inner, store):
        async with deploy(store=store, clock=clock) as server:
            token = (await (await server.register()).sign_in())["access_token"]
            forged = token.replace(token.split(".")[0], _header("unknown"))
            clock.advance(1)
            calls = len([call for call in inner.calls if call[1].startswith("keys")])
            for _ in range(20):
                assert (await server.call("POST", "/mcp", bearer=forged)).status == 401
            assert len([call for call in inner.calls if call[1].startswith("keys")]) == calls + 1


def _header(kid: str) -> str:
    return segment({"typ": "at+jwt", "alg": "ES256", "kid": kid})


# ------------------------------------------------------------------------- keys that cannot be read


@pytest.mark.case("S17")
async def test_keys_that_cannot_be_read_are_kept_and_everything_is_503(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One worker with a wrong setting must not throw away what all others use."""
    clock = FrozenClock()
    inner = MemoryStore(clock=clock)
    async with deploy(store=EncryptedStore(inner, [KEY]), clock=clock) as server:
        client = await server.register()
        token = (await client.sign_in())["access_token"]
        before = (await server.call("GET", "/.well-known/jwks.json")).json()
        caplog.clear()
        wrong = EncryptedStore(inner, [secrets.token_urlsafe(32)])
        async with deploy(store=wrong, clock=clock) as other:
            for _ in range(5):
                clock.advance(1)
                assert (await other.call("GET", "/.well-known/jwks.json")).status == 503
                assert (await other.call("POST", "/mcp", bearer=token)).status == 503
            await other.register()  # what needs no key goes on
        errors = [each.getMessage() for each in caplog.records if each.levelno >= logging.ERROR]
        assert len(errors) == 1
        assert "encryption_keys" in errors[0]
        assert "rotate_keys(retire=True)" in errors[0]
        clock.advance(RELOAD_SECONDS)
        assert (await server.call("GET", "/.well-known/jwks.json")).json() == before
        assert (await server.call("POST", "/mcp", bearer=token)).status == 200


@pytest.mark.case("S17")
async def test_keys_that_cannot_be_read_are_tried_every_five_seconds() -> None:
    """Strangers can ask as often as they like."""
    clock = FrozenClock()
    inner = MemoryStore(clock=clock)
    await worker(EncryptedStore(inner, [KEY]), clock).keys.open()
    store = FailingStore(inner)
    one = worker(EncryptedStore(store, [secrets.token_urlsafe(32)]), clock)
    for passed, attempts in ((0, 1), (0, 1), (4, 1), (1, 2), (1, 2)):
        clock.advance(passed)
        with pytest.raises(ServerUnavailable):
            await one.kid()
        assert len([call for call in store.calls if call[0] == "get"]) == attempts


@pytest.mark.case("S17")
async def test_an_operator_can_give_them_up() -> None:
    clock = FrozenClock()
    inner = MemoryStore(clock=clock)
    async with deploy(store=EncryptedStore(inner, [KEY]), clock=clock):
        pass
    async with deploy(
        store=EncryptedStore(inner, [secrets.token_urlsafe(32)]), clock=clock
    ) as server:
        assert (await server.call("GET", "/.well-known/jwks.json")).status == 503
        with pytest.raises(ServerUnavailable):
            await server.provider.admin.rotate_keys()
        await server.provider.admin.rotate_keys(retire=True)
        assert len((await server.call("GET", "/.well-known/jwks.json")).json()["keys"]) == 1
        assert (await (await server.register()).sign_in())["token_type"] == "Bearer"


@pytest.mark.case("S17")
async def test_the_old_key_behind_the_new_one_reads_them() -> None:
    clock = FrozenClock()
    inner = MemoryStore(clock=clock)
    new = secrets.token_urlsafe(32)
    async with deploy(store=EncryptedStore(inner, [KEY]), clock=clock) as server:
        client = await server.register()
        tokens = await client.sign_in()
        async with deploy(store=EncryptedStore(inner, [new, KEY]), clock=clock) as other:
            assert (await other.call("POST", "/mcp", bearer=tokens["access_token"])).status == 200
            assert (
                await replace(client, server=other).refresh(tokens["refresh_token"])
            ).status == 200
