"""A person's browser: keeps cookies and reads forms, follows nothing by itself."""

from __future__ import annotations

from collections.abc import Mapping
from html.parser import HTMLParser
from typing import Any

from .driver import Response
from .recorder import Place


class Form(HTMLParser):
    """The forms of a page, each with its action and inputs."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        members = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.found.append((members["action"], {}))
        elif tag == "input":
            self.found[-1][1][members["name"]] = members["value"]


class Browser:
    """Cookies of one place; the page that was opened last."""

    def __init__(self, place: Place, **headers: str) -> None:
        self.place = place
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self.cookies: dict[str, str] = {}
        self.page = Response(0, [], b"")

    @property
    def location(self) -> str:
        """Where the last answer leads."""
        return self.page.header("location")

    def form(self, number: int = 0) -> tuple[str, dict[str, str]]:
        """Return the action and the inputs of a form of the page."""
        return Form(self.page.body.decode()).found[number]

    async def open(
        self, sentence: str | None, url: str, method: str = "GET", **more: Any
    ) -> Response:
        """Send a request with the cookies, and keep those that come back."""
        headers = {**self.headers, **more.pop("headers", {})}
        if self.cookies:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        self.page = await self.place(sentence, method, url, headers=headers, **more)
        for name, value in self.page.headers:
            if name == "set-cookie":
                cookie, _, rest = value.partition("=")
                self.cookies[cookie] = rest.partition(";")[0]
                if "Max-Age=0" in rest:
                    del self.cookies[cookie]
        return self.page

    async def follow(self, sentence: str | None) -> Response:
        """Go where the last answer leads."""
        return await self.open(sentence, self.location)

    async def submit(self, sentence: str | None, number: int = 0, **values: str) -> Response:
        """Fill in a form of the page and send it."""
        return await self.post(sentence, self.form(number), None, **values)

    async def post(
        self,
        sentence: str | None,
        form: tuple[str, dict[str, str]],
        headers: Mapping[str, str] | None = None,
        **values: str,
    ) -> Response:
        """Fill in a form of an earlier page and send it."""
        action, inputs = form
        filled = {**inputs, **values}
        return await self.open(sentence, action, "POST", form=filled, headers=headers or {})
