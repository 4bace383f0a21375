"""The lifespan is intercepted, and not required."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from asgiref.testing import ApplicationCommunicator

from asgi_mcp_auth import (
    ConfigurationError,
    JWTVerifier,
    MCPAuthMiddleware,
    RemoteAuthProvider,
    StaticTokenVerifier,
)
from asgi_mcp_auth.testing import Issuer
from tests.support.asgi import App, Spy, call
from tests.support.protection import BASE_URL, TOKENS

pytestmark = [pytest.mark.asyncio, pytest.mark.rule("RS-40")]

STARTUP, SHUTDOWN = {"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}


class Diary(StaticTokenVerifier):
    """A verifier that writes down when it is opened and closed."""

    def __init__(self) -> None:
        super().__init__(TOKENS, base_url=BASE_URL)
        self.entries: list[str] = []

    async def start(self) -> None:
        await asyncio.sleep(0)
        self.entries.append("opened")

    async def stop(self) -> None:
        await asyncio.sleep(0)
        self.entries.append("closed")


def app_with(
    diary: Diary, *steps: Callable[[Any, Any], Awaitable[None]]
) -> ApplicationCommunicator:
    """Return a running lifespan of an app that takes these steps."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "lifespan"
        for step in steps:
            await step(receive, send)

    return running(app, diary)


def running(app: App, diary: Diary) -> ApplicationCommunicator:
    return ApplicationCommunicator(
        MCPAuthMiddleware(app, diary), {"type": "lifespan", "asgi": {"version": "3.0"}}
    )  # type: ignore[arg-type]


def hear(diary: Diary) -> Callable[[Any, Any], Awaitable[None]]:
    async def step(receive: Any, send: Any) -> None:
        diary.entries.append((await receive())["type"])

    return step


def say(kind: str, **members: Any) -> Callable[[Any, Any], Awaitable[None]]:
    async def step(receive: Any, send: Any) -> None:
        await send({"type": kind, **members})

    return step


def fail(text: str) -> Callable[[Any, Any], Awaitable[None]]:
    async def step(receive: Any, send: Any) -> None:
        raise RuntimeError(text)

    return step


async def test_the_provider_opens_before_the_apps_startup_and_closes_after_its_shutdown() -> None:
    diary = Diary()
    lifespan = app_with(
        diary,
        hear(diary),
        say("lifespan.startup.complete"),
        hear(diary),
        say("lifespan.shutdown.complete"),
    )
    await lifespan.send_input(STARTUP)
    assert await lifespan.receive_output() == {"type": "lifespan.startup.complete"}
    assert diary.entries == ["opened", "lifespan.startup"]
    await lifespan.send_input(SHUTDOWN)
    assert await lifespan.receive_output() == {"type": "lifespan.shutdown.complete"}
    # The server hears that shutdown is complete only now: it may kill the process next.
    assert diary.entries == ["opened", "lifespan.startup", "lifespan.shutdown", "closed"]
    await lifespan.wait()


async def refuse_everything(scope: Any, receive: Any, send: Any) -> None:
    raise NotImplementedError(scope["type"])


async def return_at_once(scope: Any, receive: Any, send: Any) -> None:
    return


@pytest.mark.parametrize("app", [refuse_everything, return_at_once])
async def test_for_an_app_without_lifespan_the_middleware_answers(app: App) -> None:
    diary = Diary()
    lifespan = running(app, diary)
    await lifespan.send_input(STARTUP)
    assert await lifespan.receive_output() == {"type": "lifespan.startup.complete"}
    assert diary.entries == ["opened"]
    await lifespan.send_input(SHUTDOWN)
    assert await lifespan.receive_output() == {"type": "lifespan.shutdown.complete"}
    assert diary.entries == ["opened", "closed"]
    await lifespan.wait()


async def test_an_app_that_listens_but_never_answers_is_answered_for() -> None:
    for heard in (1, 2):
        diary = Diary()
        lifespan = app_with(diary, *[hear(diary)] * heard)
        await lifespan.send_input(STARTUP)
        if heard == 2:
            await lifespan.send_input(SHUTDOWN)
        assert await lifespan.receive_output() == {"type": "lifespan.startup.complete"}
        if heard == 1:
            await lifespan.send_input(SHUTDOWN)
        assert await lifespan.receive_output() == {"type": "lifespan.shutdown.complete"}
        assert diary.entries[-1] == "closed"
        await lifespan.wait()


async def test_an_app_that_leaves_after_startup_keeps_the_provider_open_until_shutdown() -> None:
    diary = Diary()
    lifespan = app_with(diary, hear(diary), say("lifespan.startup.complete"))
    await lifespan.send_input(STARTUP)
    assert await lifespan.receive_output() == {"type": "lifespan.startup.complete"}
    assert await lifespan.receive_nothing(timeout=0.02)
    assert "closed" not in diary.entries
    await lifespan.send_input(SHUTDOWN)
    assert await lifespan.receive_output() == {"type": "lifespan.shutdown.complete"}
    assert diary.entries[-1] == "closed"
    await lifespan.wait()


async def test_a_startup_that_raises_is_not_swallowed() -> None:
    diary = Diary()
    lifespan = app_with(diary, hear(diary), fail("no database"))
    await lifespan.send_input(STARTUP)
    with pytest.raises(RuntimeError, match="no database"):
        await lifespan.wait(timeout=5)
    assert diary.entries == ["opened", "lifespan.startup", "closed"]


async def test_a_startup_that_fails_politely_is_passed_on() -> None:
    diary = Diary()
    lifespan = app_with(diary, hear(diary), say("lifespan.startup.failed", message="no database"))
    await lifespan.send_input(STARTUP)
    assert await lifespan.receive_output() == {
        "type": "lifespan.startup.failed",
        "message": "no database",
    }
    await lifespan.wait()
    assert diary.entries == ["opened", "lifespan.startup", "closed"]


async def test_a_shutdown_that_raises_is_not_swallowed_and_the_provider_is_closed() -> None:
    diary = Diary()
    lifespan = app_with(
        diary, hear(diary), say("lifespan.startup.complete"), hear(diary), fail("still busy")
    )
    await lifespan.send_input(STARTUP)
    await lifespan.receive_output()
    await lifespan.send_input(SHUTDOWN)
    with pytest.raises(RuntimeError, match="still busy"):
        await lifespan.wait(timeout=5)
    assert diary.entries[-1] == "closed"


async def test_a_shutdown_that_fails_politely_is_passed_on_after_the_provider_is_closed() -> None:
    diary = Diary()
    failed = say("lifespan.shutdown.failed", message="still busy")
    lifespan = app_with(diary, hear(diary), say("lifespan.startup.complete"), hear(diary), failed)
    await lifespan.send_input(STARTUP)
    await lifespan.receive_output()
    await lifespan.send_input(SHUTDOWN)
    assert await lifespan.receive_output() == {
        "type": "lifespan.shutdown.failed",
        "message": "still busy",
    }
    assert diary.entries[-1] == "closed"
    await lifespan.wait()


async def test_a_shared_provider_opens_once_and_closes_with_the_last() -> None:
    diary = Diary()
    lifespans = [running(return_at_once, diary) for _ in range(2)]
    for lifespan in lifespans:
        await lifespan.send_input(STARTUP)
        await lifespan.receive_output()
    assert diary.entries == ["opened"]
    await lifespans[0].send_input(SHUTDOWN)
    await lifespans[0].receive_output()
    assert diary.entries == ["opened"]
    await lifespans[1].send_input(SHUTDOWN)
    await lifespans[1].receive_output()
    assert diary.entries == ["opened", "closed"]


async def test_the_state_that_the_app_puts_into_its_lifespan_scope_is_the_servers() -> None:
    state: dict[str, Any] = {}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["state"]["pool"] = "mine"

    lifespan = ApplicationCommunicator(
        MCPAuthMiddleware(app, Diary()), {"type": "lifespan", "state": state}
    )  # type: ignore[arg-type]
    await lifespan.send_input(STARTUP)
    await lifespan.receive_output()
    assert state == {"pool": "mine"}
    await lifespan.send_input(SHUTDOWN)
    await lifespan.wait()


async def test_the_middleware_works_before_any_lifespan_and_after_it() -> None:
    with Issuer(algorithms=["ES256"]) as idp:
        provider = RemoteAuthProvider(JWTVerifier(issuer=idp.issuer), [idp.issuer], BASE_URL)
        spy = Spy()
        app = MCPAuthMiddleware(spy, provider)
        headers = {"Authorization": f"Bearer {idp.mint(aud=BASE_URL)}"}
        lifespan = ApplicationCommunicator(app, {"type": "lifespan"})  # type: ignore[arg-type]
        assert (await call(app, "GET", "/", headers)).status == 200
        await lifespan.send_input(STARTUP)
        await lifespan.receive_output()
        assert (await call(app, "GET", "/", headers)).status == 200
        await lifespan.send_input(SHUTDOWN)
        await lifespan.receive_output()
        assert (await call(app, "GET", "/", headers)).status == 200
        assert spy.lifespan == ["lifespan.startup", "lifespan.shutdown"]


@pytest.mark.rule("RS-79")
async def test_a_wrong_setting_that_the_start_finds_is_told_to_the_server() -> None:
    """An exception alone would look like an app without lifespan."""

    class Misconfigured(Diary):
        async def start(self) -> None:
            raise ConfigurationError("write this instead")

    diary = Misconfigured()
    communicator = app_with(diary, hear(diary))
    await communicator.send_input(STARTUP)
    said = await communicator.receive_output()
    assert said == {"type": "lifespan.startup.failed", "message": "write this instead"}
    assert diary.entries == []
    with pytest.raises(ConfigurationError):
        await communicator.wait()
