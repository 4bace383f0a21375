"""The fuzz targets, run for a second on their seeds and on some mutations of them.

As under ``make fuzz``, ``check`` raises on a wrong verdict and on any undocumented exception.
"""

from __future__ import annotations

import base64
import importlib
import inspect
import json
import random
from collections.abc import Callable
from typing import Any

import pytest

from asgi_mcp_auth.operations import MCPMessage, parse_message
from fuzz.targets import NAMES, client_auth, form, token

pytestmark = pytest.mark.case("V86")

MUTATIONS = 400


def mutate(data: bytes, words: tuple[bytes, ...], chance: random.Random) -> bytes:
    """Return ``data`` after one to four changes of the kinds that fuzzers make."""
    text = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(len(text) + 1)
        match chance.randrange(5):
            case 0:
                text[place : place + 1] = bytes([chance.randrange(256)])
            case 1:
                text[place:place] = chance.choice(words)
            case 2:
                del text[place : place + chance.randint(1, 8)]
            case 3:
                word = chance.choice(words)
                text[place : place + len(word)] = word
            case _:
                start = chance.randrange(len(text) + 1)
                text[place:place] = text[start : start + chance.randint(1, 16)]
    return bytes(text)


@pytest.mark.parametrize("name", NAMES)
def test_a_fuzz_target_finds_nothing_in_its_seeds_and_some_mutations_of_them(name: str) -> None:
    target: Any = importlib.import_module(f"fuzz.targets.{name}")
    seeds = target.seeds()
    chance = random.Random(name)
    for data in seeds:
        target.check(data)
    for _ in range(MUTATIONS):
        target.check(mutate(chance.choice(seeds), target.DICTIONARY, chance))


def test_the_token_target_gets_past_the_signature_with_every_algorithm() -> None:
    accepted = [data for data in token.seeds() if token.is_accepted(data)]
    assert {data[0] for data in accepted} == set(range(len(token.SIGNERS) + 1))
    assert len(accepted) > 30


def test_the_targets_of_the_token_endpoint_get_tokens_in_every_way_that_there_is() -> None:
    earned = [data for data in form.seeds() if data[:1] == b"\0" and form.is_earned(data)]
    grants = ("authorization_code", "refresh_token", "client_credentials")
    assert all(any(f"grant_type={grant}".encode() in data for data in earned) for grant in grants)
    accepted = [data for data in client_auth.seeds() if client_auth.is_accepted(data)]
    assert {data[0] for data in accepted} == set(range(4))


def _last_wins(body: bytes, **settings: Any) -> MCPMessage:
    return parse_message(json.dumps(json.loads(body)).encode(), **settings)


@pytest.mark.parametrize(
    ("name", "parser", "sloppy"),
    [
        ("base64url", "decode_base64url", lambda data: base64.urlsafe_b64decode(data + b"==")),
        ("json_text", "parse_json", json.loads),
        ("mcp_message", "parse_message", _last_wins),
        ("mcp_message", "check_headers", lambda headers, message: None),
    ],
)
def test_a_target_notices_a_parser_that_is_too_lenient(
    name: str, parser: str, sloppy: Callable[..., Any]
) -> None:
    """A fuzzer is as good as its checks: here they are shown a sloppy parser, in a copy of the
    target.
    """
    original: Any = importlib.import_module(f"fuzz.targets.{name}")
    copy: dict[str, Any] = {"__name__": "sloppy"}
    exec(compile(inspect.getsource(original), "sloppy.py", "exec"), copy)  # noqa: S102 (our own source)
    copy[parser] = sloppy
    with pytest.raises((AssertionError, ValueError)):
        any(copy["check"](data) for data in original.seeds())
