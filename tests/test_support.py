"""The test helpers themselves, since every test relies on them."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.support.asgi import SERVERS, Spy, call, handshake, serve
from tests.support.rows import rows
from tests.support.services import need


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answer with what the server made of the request."""
    if scope["type"] != "http":
        raise RuntimeError("no lifespan here")  # servers go on without, as the specification asks
    body = b""
    while True:
        message = await receive()
        body += message["body"]
        if not message["more_body"]:
            break
    seen = {name: scope[name] for name in ("method", "path", "root_path")} | {"body": body.decode()}
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps(seen).encode()})


@pytest.mark.asyncio
async def test_call_gives_the_app_what_a_server_gives_it_and_reads_its_answer() -> None:
    app = Spy(headers=[(b"x-one", b"1"), (b"x-one", b"2")])
    response = await call(
        app, "POST", "/a%2Fb?q=1", {"X-Up": "Down"}, body=[b"x", b"y"], root_path="/r"
    )
    assert (response.status, response.body, response.all("X-One")) == (200, b"hello", ["1", "2"])
    assert (app.scope["path"], app.scope["raw_path"], app.scope["query_string"]) == (
        "/a/b",
        b"/a%2Fb",
        b"q=1",
    )
    assert app.scope["headers"] == [(b"host", b"testserver"), (b"x-up", b"Down")]
    assert app.scope["root_path"] == "/r"


@pytest.mark.asyncio
async def test_call_passes_the_whole_body_on() -> None:
    assert (await call(echo, "POST", "/", body=[b"x", b"y"])).json()["body"] == "xy"


@pytest.mark.asyncio
async def test_call_refuses_an_answer_without_an_end() -> None:
    async def unfinished(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    with pytest.raises(AssertionError, match="no end"):
        await call(unfinished)


@pytest.mark.asyncio
async def test_call_refuses_a_header_that_splits_the_response() -> None:
    with pytest.raises(AssertionError, match="split"):
        await call(Spy(headers=[(b"x", b"a\r\nb: c")]))


@pytest.mark.asyncio
async def test_handshake_tells_accepted_closed_and_denied_apart() -> None:
    async def close(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.close", "code": 1008})

    async def deny(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.http.response.start", "status": 401, "headers": []})
        await send({"type": "websocket.http.response.body", "body": b"no"})

    assert (await handshake(Spy())).accepted
    assert (await handshake(close)).close_code == 1008
    denied = (await handshake(deny)).denial
    assert denied is not None
    assert (denied.status, denied.body) == (401, b"no")


@rows("server", SERVERS)
def test_every_server_serves_an_app_below_a_prefix(server: str) -> None:
    with serve(echo, server, prefix="/deep") as base_url:
        request = urllib.request.Request(f"{base_url}/x", data=b"body", method="POST")
        with urllib.request.urlopen(request) as response:
            assert json.load(response) == {
                "method": "POST",
                "path": "/deep/x",
                "root_path": "/deep",
                "body": "body",
            }
        with pytest.raises(urllib.error.HTTPError, match="404") as refused:
            urllib.request.urlopen(base_url.removesuffix("/deep"))
        refused.value.close()


@rows("server", SERVERS)
def test_every_server_runs_the_lifespan(server: str) -> None:
    app = Spy()
    with serve(app, server) as base_url, urllib.request.urlopen(f"{base_url}/") as response:
        assert response.read() == b"hello"
    assert app.lifespan == ["lifespan.startup", "lifespan.shutdown"]


def test_a_missing_service_skips_the_test_on_a_users_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("REQUIRE_SERVICES", raising=False)
    with pytest.raises(pytest.skip.Exception, match="needs node"):
        need("node")


def test_a_missing_service_fails_the_test_where_services_are_required(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("REQUIRE_SERVICES", "1")
    with pytest.raises(pytest.fail.Exception, match="needs node"):
        need("node")


def test_a_service_is_found_on_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "node"
    program.touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert need("node") == str(program)


def test_each_row_that_fails_is_named_and_all_of_them_are_tried() -> None:
    tried: list[tuple[int, int]] = []

    @rows("number", [1, 2, 3])
    @rows(("other", "word"), [(10, "x"), (20, "y")])
    def same(number: int, other: int, word: str, extra: str) -> None:
        tried.append((number, other))
        assert number != 2, f"{extra} {word}"
        with pytest.raises(ValueError, match="b"):
            raise ValueError("a" if other == 20 and number == 3 else "b")

    assert list(inspect.signature(same).parameters) == ["extra"]
    with pytest.raises(AssertionError) as caught:
        same(extra="e")
    assert tried == list(itertools.product([1, 2, 3], [10, 20]))
    first, *lines = str(caught.value).splitlines()
    assert first == "2 of 3 rows"
    assert [line.partition(":")[0] for line in lines] == ["number=2", "number=3"]


@pytest.mark.asyncio
async def test_rows_may_wait_and_a_table_has_some() -> None:
    @rows("seconds", [0, 1], ids=["none", "one"])
    async def waits(seconds: int) -> None:
        await asyncio.sleep(0)
        assert seconds == 0, "too long"

    with pytest.raises(AssertionError, match="1 of 2 rows\none: AssertionError: too long"):
        await waits()
    with pytest.raises(AssertionError, match="proves nothing"):
        rows("seconds", [])
