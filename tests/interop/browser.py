"""A person at a browser, without the screen: follows redirects, keeps cookies, signs in as who they are."""

from __future__ import annotations

import threading
import webbrowser
from urllib.parse import parse_qsl, urljoin, urlsplit

import httpx


def sign_in(authorization_url: str, redirect_uri: str, user: str = "alice") -> dict[str, str]:
    """Open an authorization URL as ``user``; return what the identity provider sends the client back with.

    The identity provider has no pages: it signs in whoever ``login_hint`` names, and they consent to everything.

    Raises:
        AssertionError: no redirect leads back to the client.
    """
    url = str(httpx.URL(authorization_url).copy_merge_params({"login_hint": user}))
    with httpx.Client(timeout=10) as http:
        while not url.startswith(redirect_uri):
            response = http.get(url)
            assert response.is_redirect, f"{url} answered {response.status_code}: {response.text}"
            url = urljoin(url, response.headers["location"])
    return dict(parse_qsl(urlsplit(url).query))


class Browser(webbrowser.BaseBrowser):
    """What ``webbrowser.open`` opens in these tests; it also visits the redirect URL, where the client listens.

    Attributes:
        user: who sits in front of it.
        opened: the URLs opened so far.
    """

    def __init__(self, user: str = "alice") -> None:
        super().__init__("tests")
        self.user = user
        self.opened: list[str] = []

    def open(self, url: str, new: int = 0, autoraise: bool = True) -> bool:
        """Return at once, as a browser does; the visit goes on in a thread."""
        self.opened.append(url)
        threading.Thread(target=self._visit, args=(url,), daemon=True).start()
        return True

    def _visit(self, url: str) -> None:
        redirect_uri = dict(parse_qsl(urlsplit(url).query))["redirect_uri"]
        answer = sign_in(url, redirect_uri, self.user)
        # The client's callback server may need a moment longer than this sign-in without pages.
        with httpx.Client(transport=httpx.HTTPTransport(retries=5), timeout=10) as http:
            http.get(redirect_uri, params=answer)
