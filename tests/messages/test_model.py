"""The policy decides as an independent model of its documentation does."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_mcp_auth import AccessPolicy, AccessToken, Method, Prompt, Tool
from tests.support.messages import message

pytestmark = pytest.mark.rule("RS-90")

KINDS: dict[str, Any] = {"tool": Tool, "prompt": Prompt, "method": Method}
HANDSHAKE = {"initialize", "notifications/initialized", "server/discover", "ping"}
Row = tuple[str, str, tuple[str, ...] | None]  # kind, pattern, scopes or None for public


# The model: docs/rules.md, as a reader would carry it out by hand.


def fits(pattern: str, name: str) -> bool:
    if not pattern:
        return not name
    if pattern[0] == "*":
        return fits(pattern[1:], name) or (bool(name) and fits(pattern, name[1:]))
    return bool(name) and pattern[0] == name[0] and fits(pattern[1:], name[1:])


def winners(rows: list[Row], kind: str, name: str) -> list[Row]:
    fitting = [row for row in rows if row[0] == kind and fits(row[1], name)]
    exact = [row for row in fitting if "*" not in row[1]]
    if exact:
        return exact
    best = max((len(row[1].replace("*", "")) for row in fitting), default=0)
    return [row for row in fitting if len(row[1].replace("*", "")) == best]


def needs(rows: list[Row], kind: str, name: str, method: str) -> set[str] | None:
    """Return the scopes of one operation, ``None`` for a public one."""
    found = winners(rows, kind, name) if kind != "method" else []
    found = found or winners(rows, "method", method)
    if not found and method in HANDSHAKE and any(row[2] is None for row in rows):
        return None
    if found and all(row[2] is None for row in found):
        return None
    return {"read"}.union(*(row[2] or () for row in found))


def model(rows: list[Row], operations: list[tuple[str, str, str]], held: set[str] | None) -> int:
    needed = [each for each in (needs(rows, *one) for one in operations) if each is not None]
    if not needed:
        return 200
    if held is None:
        return 401
    return 200 if set().union(*needed) <= held else 403


letters = st.text("ab/*", min_size=1, max_size=4)
names = st.text("ab/", max_size=4)
scopes = st.one_of(st.none(), st.lists(st.sampled_from(["x", "y"]), max_size=2).map(tuple))
tables = st.lists(
    st.tuples(st.sampled_from([*KINDS]), letters, scopes), max_size=6, unique_by=lambda row: row[:2]
)
operations = st.one_of(
    st.tuples(st.just("tool"), names, st.just("tools/call")),
    st.tuples(st.just("prompt"), names, st.just("prompts/get")),
    st.tuples(st.just("method"), st.just(""), st.sampled_from(["a", "ab", "ping", "initialize"])),
)


@given(tables, st.lists(operations, min_size=1, max_size=3), st.sampled_from([None, "", "x", "xy"]))
def test_the_policy_decides_as_its_model(
    rows: list[Row], asked: list[tuple[str, str, str]], held: str | None
) -> None:
    rules = [KINDS[kind](name, scopes=own or (), public=own is None) for kind, name, own in rows]
    policy = AccessPolicy(rules, required_scopes=["read"])
    batch = [
        message(method, **({} if kind == "method" else {"name": name}))
        for kind, name, method in asked
    ]
    token = None
    if held is not None:
        token = AccessToken(token="t", client_id="c", scopes=["read", *held])
    decision = asyncio.run(policy.explain(token, batch))
    expected = model(rows, asked, None if token is None else {*token.scopes})
    assert decision.status == expected
