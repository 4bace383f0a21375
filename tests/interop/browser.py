"""A person at a browser, without the screen: follows redirects, keeps cookies, fills in the forms
that come up.

    python -m tests.interop.browser URL

is a browser for programs that open one (see ``browser_command``). It also visits the redirect URL,
where the program listens.
"""

from __future__ import annotations

import os
import sys
import threading
import webbrowser
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qsl, urljoin, urlsplit

import httpx

PASSWORD = "correct horse battery staple"
"""The password of every person here."""

ROOT = Path(__file__).parents[2]


class Form(NamedTuple):
    """A form of a page: where it goes, its inputs with their values, the values of its buttons by
    name.
    """

    action: str
    inputs: dict[str, str]
    buttons: dict[str, list[str]]


class _Forms(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append(Form(found.get("action", ""), {}, {}))
        elif tag == "input" and self.forms and "name" in found:
            self.forms[-1].inputs[found["name"]] = found.get("value", "")
        elif tag == "button" and self.forms and "name" in found:
            self.forms[-1].buttons.setdefault(found["name"], []).append(found.get("value", ""))


def forms_of(html: str) -> list[Form]:
    """Return the forms of a page."""
    parser = _Forms()
    parser.feed(html)
    return parser.forms


class Person:
    """A person with a browser of their own.

    Args:
        name: their user name; a provider without pages signs in the person named by ``login_hint``.
        password: what they type where one is asked for.
        decision: what they say when an application wants access.

    Attributes:
        pages: the HTML of the pages seen so far.
    """

    def __init__(
        self, name: str = "alice", *, password: str = PASSWORD, decision: str = "approve"
    ) -> None:
        self.name = name
        self.password = password
        self.decision = decision
        self.pages: list[str] = []
        self._cookies = httpx.Cookies()

    def visit(self, authorization_url: str, redirect_uri: str) -> dict[str, str]:
        """Open an authorization URL, sign in and decide; return what the client is sent back with.

        Raises:
            AssertionError: a page comes up that leads no further.
        """
        url = str(httpx.URL(authorization_url).copy_merge_params({"login_hint": self.name}))
        with httpx.Client(timeout=10, cookies=self._cookies) as http:
            response = http.get(url)
            while True:
                if response.is_redirect:
                    url = urljoin(str(response.url), response.headers["location"])
                    if url.startswith(redirect_uri):
                        break
                    response = http.get(url)
                else:
                    response = self._fill_in(http, response)
            self._cookies = http.cookies
        return dict(parse_qsl(urlsplit(url).query))

    def _fill_in(self, http: httpx.Client, page: httpx.Response) -> httpx.Response:
        assert page.status_code == 200, f"{page.url} answered {page.status_code}: {page.text}"
        self.pages.append(page.text)
        forms = forms_of(page.text)
        assert forms, f"{page.url} shows no form: {page.text}"
        form = forms[0]
        ours = {"username": self.name, "password": self.password}
        filled = {name: ours.get(name, value) for name, value in form.inputs.items()}
        if "action" in form.buttons:
            assert self.decision in form.buttons["action"], (
                f"there is no way to {self.decision}: {form}"
            )
            filled["action"] = self.decision
        # What a browser says of a form that a page without a referrer sends.
        headers = {"Origin": "null", "Sec-Fetch-Site": "same-origin"}
        return http.post(urljoin(str(page.url), form.action), data=filled, headers=headers)

    def visit_and_return(self, authorization_url: str) -> None:
        """The same, and go on to the redirect URL."""
        redirect_uri = dict(parse_qsl(urlsplit(authorization_url).query))["redirect_uri"]
        answer = self.visit(authorization_url, redirect_uri)
        # The client's callback server may need a moment longer than this sign-in.
        with httpx.Client(transport=httpx.HTTPTransport(retries=5), timeout=10) as http:
            http.get(redirect_uri, params=answer)


def sign_in(authorization_url: str, redirect_uri: str, user: str = "alice") -> dict[str, str]:
    """Open an authorization URL as ``user``, in a new browser; return what the client is sent back
    with.
    """
    return Person(user).visit(authorization_url, redirect_uri)


class Browser(webbrowser.BaseBrowser):
    """What ``webbrowser.open`` opens in these tests.

    Attributes:
        person: who sits in front of it.
        opened: the URLs opened so far.
    """

    def __init__(self, person: Person) -> None:
        super().__init__("tests")
        self.person = person
        self.opened: list[str] = []

    def open(self, url: str, new: int = 0, autoraise: bool = True) -> bool:
        """Return at once, as a browser does; the visit goes on in a thread."""
        self.opened.append(url)
        threading.Thread(target=self.person.visit_and_return, args=(url,), daemon=True).start()
        return True


def browser_command(folder: Path) -> Path:
    """Put a program ``xdg-open`` into ``folder`` that opens URLs as ``$BROWSER_USER``; return its
    path.

    It keeps a list of them in the file ``opened`` beside it, and what went wrong in ``trouble``.
    """
    command = folder / "xdg-open"
    command.write_text(
        f'#!/bin/sh\ncd {ROOT}\necho "$1" >> {folder}/opened\n'
        f'exec {sys.executable} -m tests.interop.browser "$1" 2>> {folder}/trouble\n'
    )
    command.chmod(0o755)
    return command


if __name__ == "__main__":
    Person(os.environ.get("BROWSER_USER", "alice")).visit_and_return(sys.argv[1])
