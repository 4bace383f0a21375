"""What goes over the wire, and what operators are told, is what was recorded.

A difference that is meant is written down by ``python -m tests.recording``; its diff shows,
sentence by sentence, what clients and operators will see. What is left open stands in
``exempt.py``.
"""

from __future__ import annotations

import difflib
import subprocess
import sys
from pathlib import Path

import pytest

from tests.recording.driver import Response
from tests.recording.exempt import without_sentences
from tests.support.rows import rows

ROOT = Path(__file__).parents[2]
EXCHANGES = Path(__file__).with_name("exchanges.txt")


def test_every_exchange_is_as_it_was_recorded() -> None:
    """In a process of its own, because its random values are none."""
    command = [sys.executable, "-m", "tests.recording", "--print"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    assert result.returncode == 0, result.stderr.decode()
    recorded, now = EXCHANGES.read_text(), result.stdout.decode()
    if now != recorded:
        lines = difflib.unified_diff(
            recorded.splitlines(), now.splitlines(), "recorded", "now", lineterm="", n=12
        )
        pytest.fail("\n".join(lines), pytrace=False)


def html(text: str, **headers: str) -> Response:
    """Return a page."""
    length = ("content-length", str(len(text)))
    return Response(200, [("content-type", "text/html"), *headers.items(), length], text.encode())


def test_pages_may_say_the_same_in_other_words() -> None:
    first = html('<h1>Sign in</h1><button name="a" value="b" aria-label="Go">Go</button>')
    second = html('<h1>Log in here</h1><button name="a" value="b" aria-label="On">On</button>')
    assert without_sentences(first) == without_sentences(second)


@rows(
    "page",
    [
        '<h1>Sign in</h1><button name="a" value="c">Go</button>',
        '<h1>Sign in</h1><button value="b" name="a">Go</button>',
        '<h2>Sign in</h2><button name="a" value="b">Go</button>',
        '<h1>Sign in</h1><button name="a" value="b"></button>',
        "<h1>Sign in</h1>",
    ],
)
def test_pages_may_not_differ_in_tags_and_attributes(page: str) -> None:
    usual = html('<h1>Sign in</h1><button name="a" value="b">Go</button>')
    assert without_sentences(html(page)) != without_sentences(usual)


def test_only_descriptions_of_errors_are_left_out_of_json_headers_and_urls() -> None:
    body = b'{"error":"a","error_description":"with \\"quotes\\"","scope":"b"}'
    headers = [
        ("content-type", "application/json"),
        ("www-authenticate", 'Bearer error="a", scope="b", error_description="c"'),
        ("location", "https://app.example/?error=a&error_description=c+d&state=e"),
        ("content-length", "60"),
    ]
    shown = without_sentences(Response(400, headers, body))
    assert shown.body.decode() == '{"error":"a","error_description":"…","scope":"b"}'
    assert shown.header("www-authenticate") == 'Bearer error="a", scope="b", error_description="…"'
    assert shown.header("location") == "https://app.example/?error=a&error_description=…&state=e"
    assert shown.header("content-length") == "…"


def test_a_body_without_sentences_keeps_its_length() -> None:
    headers = [("content-type", "application/json"), ("content-length", "2")]
    assert without_sentences(Response(200, headers, b"{}")).header("content-length") == "2"


@pytest.mark.parametrize(
    ("status", "kind", "shown"),
    [
        (405, "text/html; charset=utf-8", "…"),
        (401, "application/json", "…"),
        (200, "application/json", "20"),
    ],
)
def test_head_leaves_the_length_of_sentences_open_too(status: int, kind: str, shown: str) -> None:
    headers = [("content-type", kind), ("content-length", "20")]
    assert without_sentences(Response(status, headers, b"")).header("content-length") == shown
