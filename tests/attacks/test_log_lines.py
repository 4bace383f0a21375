"""Text from outside is quoted in the log, so that no sender can write lines of their own."""

from __future__ import annotations

import ast
import logging
import re
from pathlib import Path

import pytest

import asgi_mcp_auth
from asgi_mcp_auth.stores._outage import describe
from tests.support.asgi import call
from tests.support.authorization_server import deploy

SOURCES = Path(asgi_mcp_auth.__file__).parent
CONVERSION = re.compile(r"%[-#0 +]*[\d.]*([a-zA-Z])")

OURS = frozenset(
    (
        # settings, and what is made of them
        "path",
        "self.resource",
        "self.url",
        "self._uri",
        "self._uri or 'of the issuer'",
        "self._where",
        "self._provider.resource_metadata_url",
        "type(provider).__name__",
        "type(error).__name__",
        "setting",
        "ns",
        # literals
        "self.label",
        "self._engine",
        "self._label",
        "self._advice",
        "event.action",
        "refusal.reason",
        "cause",
        "_REMEDIES[cause]",
        "effect",
        "advice if own_root_path else 'leave root_path unset'",
        # hexadecimal
        "extra['token_id']",
        # messages of ours, in which what a peer said is quoted
        "error",
        "why",
        "reason",
        "problem",
        "message",
        "shown",
    )
)


def arguments() -> list[tuple[str, str, str]]:
    """Each argument of each log call, with its conversion and its place."""
    found: list[tuple[str, str, str]] = []
    for path in sorted(SOURCES.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not ast.unparse(node.func).startswith("logger."):
                continue
            place = f"{path.relative_to(SOURCES)}:{node.lineno}"
            given = node.args[1:] if ast.unparse(node.func) == "logger.log" else node.args
            if ast.unparse(node.func) == "logger.isEnabledFor":
                continue
            text = given[0]
            assert isinstance(text, ast.Constant), f"{place}: the message is made of something"
            conversions = CONVERSION.findall(str(text.value).replace("%%", ""))
            assert len(conversions) == len(given) - 1, place
            found += [
                (kind, ast.unparse(each), place)
                for kind, each in zip(conversions, given[1:], strict=True)
            ]
    return found


def test_what_a_log_call_prints_as_it_is_is_ours_and_everything_else_is_quoted() -> None:
    known = arguments()
    assert len(known) > 40
    unquoted = {(each, place) for kind, each, place in known if kind == "s" and each not in OURS}
    assert unquoted == set(), "write %r, or say above why it is harmless"


def test_what_is_listed_as_ours_is_still_there() -> None:
    assert {each for kind, each, _ in arguments() if kind == "s"} >= OURS


@pytest.mark.asyncio
@pytest.mark.parametrize("method", ["GET\r\nINFO:root:all is well", "GET\x1b[2J", "G\u2028ET"])
async def test_a_method_writes_no_line_of_its_own(
    method: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with deploy() as server:
        with caplog.at_level(logging.INFO):
            await call(
                server.app, method, "/mcp\r\nINFO:root:all is well", [("Host", "localhost:8000")]
            )
            await call(server.app, method, "/authorize", [("Host", "localhost:8000")])
    assert caplog.messages
    assert all(each.isprintable() for each in caplog.messages)


def test_an_engine_writes_no_line_of_its_own() -> None:
    assert (
        describe(OSError("it is\rINFO:root:all is well\x1b[2J\nmore"))
        == "OSError: it is?INFO:root:all is well?[2J"
    )
