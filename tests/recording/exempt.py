"""Says what of an answer the recording leaves open: sentences for people, and nothing else.

- HTML: the text between tags, the contents of ``<style>``, and attributes that are read out.
  Tags, their order and every other attribute count.
- ``error_description`` in JSON, in ``WWW-Authenticate`` and in the query of a URL.
- ``Content-Length`` of a body that has one of these, or would have one but for HEAD.
"""

from __future__ import annotations

import re
from html import escape
from html.parser import HTMLParser

from .driver import Response

SENTENCE = "…"
_READ_OUT = frozenset(("aria-label", "alt", "title", "placeholder"))
_IN_JSON = re.compile(rb'("error_description":\s*)"(?:[^"\\]|\\.)*"')
_IN_HEADER = re.compile(r'(error_description=)"[^"]*"')
_IN_QUERY = re.compile(r"(error_description=)[^&#\"]*")


def without_sentences(response: Response) -> Response:
    """Return the answer with ``…`` in place of each sentence."""
    kind = response.header("content-type")
    body = response.body
    if kind.startswith("text/html"):
        body = _structure_of(body.decode()).encode()
    elif kind.startswith("application/json"):
        body = _IN_JSON.sub(rf'\1"{SENTENCE}"'.encode(), body)
    is_open = body != response.body if body else _is_page_or_error(response)
    headers = [(name, _open_header(name, value, is_open)) for name, value in response.headers]
    return response._replace(headers=headers, body=body)


def _is_page_or_error(response: Response) -> bool:
    is_page = response.header("content-type").startswith("text/html")
    return response.header("content-length") != "0" and (is_page or response.status >= 400)


def _open_header(name: str, value: str, is_open: bool) -> str:
    if name == "content-length" and is_open:
        return SENTENCE
    if name == "www-authenticate":
        return _IN_HEADER.sub(rf'\1"{SENTENCE}"', value)
    return _open_url(value) if name == "location" else value


def _open_url(value: str) -> str:
    return _IN_QUERY.sub(rf"\1{SENTENCE}", value)


def _structure_of(page: str) -> str:
    parser = _Structure()
    parser.feed(page)
    parser.close()
    return "\n".join(parser.lines)


class _Structure(HTMLParser):
    """Collects a line for each tag, and one for each run of text."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.lines: list[str] = []

    def handle_decl(self, decl: str) -> None:
        self.lines.append(f"<!{decl}>")

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        shown = "".join(f' {name}="{escape(self._value(name, value))}"' for name, value in attrs)
        self.lines.append(f"<{tag}{shown}>")

    def handle_endtag(self, tag: str) -> None:
        self.lines.append(f"</{tag}>")

    def handle_data(self, data: str) -> None:
        if data.strip() and self.lines[-1:] != [SENTENCE]:
            self.lines.append(SENTENCE)

    def _value(self, name: str, value: str | None) -> str:
        if name in _READ_OUT and value:
            return SENTENCE
        return _open_url(value or "")
