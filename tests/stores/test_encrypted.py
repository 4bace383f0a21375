"""EncryptedStore: the engine gets ciphertext only, and unreadable records are an outage."""

from __future__ import annotations

import logging
import secrets

import pytest

from asgi_mcp_auth import ConfigurationError, ServerUnavailable
from asgi_mcp_auth.errors import UnreadableRecord
from asgi_mcp_auth.stores import Record, Store
from asgi_mcp_auth.stores.encrypted import EncryptedStore
from asgi_mcp_auth.stores.memory import MemoryStore

KEY, OTHER_KEY = (secrets.token_urlsafe(32) for _ in range(2))
SECRET = b"a refresh token of somebody's"


@pytest.fixture
def engine() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def store(engine: MemoryStore) -> EncryptedStore:
    return EncryptedStore(engine, [KEY])


async def stored(engine: Store, ns: str = "grant", key: str = "k") -> bytes:
    record = await engine.get(ns, key)
    assert record is not None
    return record.value


def test_it_is_a_store(store: EncryptedStore) -> None:
    assert isinstance(store, Store)


@pytest.mark.asyncio
async def test_no_verb_lets_a_value_through_in_the_clear(
    engine: MemoryStore, store: EncryptedStore
) -> None:
    await store.put("grant", "k", SECRET, group="alice")
    seen = [await stored(engine)]
    record = await store.get("grant", "k")
    assert record is not None
    assert await store.swap("grant", "k", record, SECRET)
    seen.append(await stored(engine))
    assert await store.add("grant", "l", SECRET, group="alice")
    seen.append(await stored(engine, key="l"))
    await store.put("grant", "k", SECRET)
    seen.append(await stored(engine))
    assert not any(SECRET in value for value in seen)
    assert len(set(seen)) == 4, "equal values look different each time"
    assert [key for key, _ in await store.scan("grant", group="alice")] == ["l"]


@pytest.mark.case("S17")
@pytest.mark.asyncio
async def test_an_older_key_decrypts_and_the_first_encrypts(
    engine: MemoryStore, store: EncryptedStore
) -> None:
    await store.put("grant", "k", SECRET)
    rotated = EncryptedStore(engine, [OTHER_KEY, KEY])
    record = await rotated.get("grant", "k")
    assert record is not None
    assert record.value == SECRET
    assert await rotated.swap("grant", "k", record, b"anew")
    with pytest.raises(UnreadableRecord):
        await store.get("grant", "k")
    assert await EncryptedStore(engine, [OTHER_KEY]).take("grant", "k") == b"anew"


@pytest.mark.case("S17")
@pytest.mark.asyncio
async def test_without_its_key_a_record_is_an_outage_said_once_and_counted(
    engine: MemoryStore, store: EncryptedStore, caplog: pytest.LogCaptureFixture
) -> None:
    await store.put("grant", "k", SECRET)
    stranger = EncryptedStore(engine, [OTHER_KEY])
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            with pytest.raises(ServerUnavailable):
                await stranger.get("grant", "k")
        assert await stranger.scan("grant") == []
    assert stranger.unreadable == {"unknown_key": 3}
    (record,) = caplog.records
    assert record.__dict__["reason"] == "unknown_key"
    assert "append it to the list" in record.getMessage()
    assert (await store.get("grant", "k") or Record(b"", 0)).value == SECRET


@pytest.mark.case("S10")
@pytest.mark.asyncio
@pytest.mark.parametrize("position", [0, 8, 19, 20, -1])
async def test_a_changed_byte_makes_a_record_unreadable(
    engine: MemoryStore, store: EncryptedStore, position: int
) -> None:
    await store.put("grant", "k", SECRET)
    value = bytearray(await stored(engine))
    value[position] ^= 1
    await engine.put("grant", "k", bytes(value))
    with pytest.raises(UnreadableRecord):
        await store.get("grant", "k")
    assert store.unreadable == {"unknown_key" if position == 0 else "tampered": 1}


@pytest.mark.case("S10")
@pytest.mark.asyncio
@pytest.mark.parametrize("length", [0, 1, 8, 20, 35])
async def test_a_value_cut_off_makes_a_record_unreadable(
    engine: MemoryStore, store: EncryptedStore, length: int
) -> None:
    await store.put("grant", "k", SECRET)
    await engine.put("grant", "k", (await stored(engine))[:length])
    with pytest.raises(UnreadableRecord):
        await store.get("grant", "k")
    assert store.unreadable == {"truncated": 1}


@pytest.mark.case("S18")
@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("ns", "key"), [("grant", "other"), ("client", "k"), ("gran", "tk"), ("grantk", "")]
)
async def test_a_value_moved_to_another_record_is_unreadable_there(
    engine: MemoryStore, store: EncryptedStore, ns: str, key: str
) -> None:
    await store.put("grant", "k", SECRET)
    await engine.put(ns, key, await stored(engine))
    with pytest.raises(UnreadableRecord):
        await store.get(ns, key)
    assert store.unreadable == {"tampered": 1}


@pytest.mark.asyncio
async def test_take_removes_what_it_cannot_read_and_add_respects_it(
    engine: MemoryStore, store: EncryptedStore
) -> None:
    await engine.put("login", "k", b"somebody else wrote this, and it is long enough")
    assert await store.add("login", "k", b"x") is False
    with pytest.raises(UnreadableRecord):
        await store.take("login", "k")
    assert await engine.get("login", "k") is None
    assert await store.add("login", "k", b"x") is True


@pytest.mark.asyncio
async def test_scan_fills_its_page_past_unreadable_records(
    engine: MemoryStore, store: EncryptedStore
) -> None:
    for number in range(30):
        await (store if number % 10 == 9 else engine).put(
            "grant", f"{number:02}", SECRET, group="g"
        )
    assert [key for key, _ in await store.scan("grant", limit=2)] == ["09", "19"]
    assert [key for key, _ in await store.scan("grant", group="g", after="09", limit=5)] == [
        "19",
        "29",
    ]


@pytest.mark.asyncio
async def test_what_is_not_a_value_passes_through(
    engine: MemoryStore, store: EncryptedStore
) -> None:
    await store.open()
    await store.put("grant", "k", SECRET, ttl=-100)
    assert await engine.get("grant", "k") is None
    assert await store.sweep() == 1
    await store.put("grant", "k", SECRET)
    inner = await engine.get("grant", "k")
    outer = await store.get("grant", "k")
    assert inner is not None
    assert outer is not None
    assert inner.etag == outer.etag
    assert await store.delete("grant", "k") is True
    await store.aclose()


def test_derived_keys_differ_by_purpose_and_follow_the_order_of_the_keys() -> None:
    store = EncryptedStore(MemoryStore(), [KEY, OTHER_KEY])
    first = store.derive("refresh tokens")
    assert [len(key) for key in first] == [32, 32]
    assert first == EncryptedStore(MemoryStore(), [KEY, OTHER_KEY]).derive("refresh tokens")
    assert first == EncryptedStore(MemoryStore(), [OTHER_KEY, KEY]).derive("refresh tokens")[::-1]
    assert not set(first) & set(store.derive("values"))
    assert len({*first, *store.derive("values"), *store.derive("key id")}) == 6


def test_no_key_shows_in_a_representation() -> None:
    store = EncryptedStore(MemoryStore(), [KEY])
    assert repr(store) == "EncryptedStore(MemoryStore())"


@pytest.mark.parametrize(
    "keys",
    [
        [],
        pytest.param(KEY, id="not a list"),
        [KEY[:-1]],
        [KEY + "A"],
        [KEY + "="],
        [""],
        [KEY, "password"],
        [secrets.token_bytes(32)],
        [None],
        [KEY[:-1] + "\u00e4"],
        [KEY[:-1] + "\ud800"],
    ],
)
def test_another_form_of_key_is_refused_with_the_command_that_makes_one(keys: list[str]) -> None:
    with pytest.raises(ConfigurationError, match=r"python -c .*token_urlsafe\(32\)") as refused:
        EncryptedStore(MemoryStore(), keys)
    assert KEY[:-1] not in str(refused.value)
    assert "password" not in str(refused.value)


@pytest.mark.asyncio
async def test_two_users_of_one_engine_have_records_and_derived_keys_of_their_own() -> None:
    store = EncryptedStore(MemoryStore(), [KEY])
    one, other = store.scoped_to("https://a.example"), store.scoped_to("https://b.example")
    assert await one.add("grant", "k", b"one")
    assert await other.add("grant", "k", b"other")
    assert [(await each.get("grant", "k") or Record(b"", 0)).value for each in (one, other)] == [
        b"one",
        b"other",
    ]
    assert await store.get("grant", "k") is None
    assert [len(await each.scan("grant")) for each in (one, other, store)] == [1, 1, 0]
    assert await one.take("grant", "k") == b"one"
    assert not await one.delete("grant", "k")
    assert await other.delete("grant", "k")
    assert len({store.derive("forms"), one.derive("forms"), other.derive("forms")}) == 3
    assert one.derive("forms") == store.scoped_to("https://a.example").derive("forms")
