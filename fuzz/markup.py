"""HTML as another parser reads it: what is markup in a page, and what is text."""

from __future__ import annotations

import unicodedata
from html.parser import HTMLParser

# Elements that have no end (WHATWG HTML §13.1.2).
_VOID = frozenset(("meta", "input", "img", "link", "br", "hr"))


class Markup(HTMLParser):
    """A page: its elements with the names of their attributes, its texts, the values of its
    attributes.

    Args:
        html: the page.
    """

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, tuple[str, ...]]] = []
        self.texts: list[str] = []
        self.values: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert not self._open, f"never closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.elements.append((tag, tuple(name for name, _ in attrs)))
        self.values += [value for _, value in attrs if value]
        if tag not in _VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Hold the end to the beginning."""
        assert self._open.pop() == tag, f"</{tag}> closes something else"
        self.elements.append((f"/{tag}", ()))

    def handle_data(self, data: str) -> None:
        """Note a text."""
        if self._open[-1:] != ["style"]:
            self.texts.append(data)

    def handle_comment(self, data: str) -> None:
        """Refuse a comment: our pages have none."""
        raise AssertionError(f"a comment: {data!r}")

    def handle_decl(self, decl: str) -> None:
        """Allow the document type only."""
        assert decl == "doctype html"

    def unknown_decl(self, data: str) -> None:
        """Refuse everything else of the kind."""
        raise AssertionError(f"a declaration: {data!r}")

    def handle_pi(self, data: str) -> None:
        """Refuse processing instructions."""
        raise AssertionError(f"an instruction: {data!r}")

    def check_like(self, other: Markup) -> None:
        """Hold it to a page that says the same with harmless words."""
        assert self.elements == other.elements, "text became markup"
        for text in self.texts:
            # In the order of the Unicode categories: controls, text directions, surrogates,
            # private, line separators.
            odd = [
                char
                for char in text
                if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
            ]
            assert not set(odd) - {"\n"}, f"{text!r} hides something"
