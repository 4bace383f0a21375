"""What the upstream identity providers of these tests have in common.

async with certified_upstream(callback=f"{base_url}/auth/callback") as upstream:
    ...  # a browser is sent to the upstream's authorization endpoint: url
    # browser is an httpx client, back a URL of the callback
    back = await upstream.sign_in(browser, url, "alice")
    assert await upstream.reused() == set()
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit

import httpx
from playwright.async_api import Page

from tests.interop.browser import forms_of


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """What an upstream noted of a request to its token endpoint.

    Attributes:
        grant_type: as it was sent.
        client_id: who asked.
        client_auth: how the client authenticated, as ``token_endpoint_auth_method`` names it.
        hash: SHA-256 of the code or refresh token, in hex.
        parameters: the names of what was sent, sorted.
        status: what was answered; ``None`` when nothing was, so far.
        injected: whether it failed because the test wanted it to, before the upstream had done
            anything.
    """

    grant_type: str
    client_id: str
    client_auth: str
    hash: str
    parameters: tuple[str, ...]
    status: int | None
    injected: bool


class Upstream(ABC):
    """A running identity provider that knows one client, the proxy, and where it sends people back
    to.

    Attributes:
        name: for test ids.
        issuer: its issuer identifier; ``None`` where there is no such thing.
        has_two_pages: whether consent is asked for on a page of its own.
        callback: the only redirect URI.
        client_id: of the proxy.
        client_secret: of the proxy.
        authorization_endpoint: where people are sent.
        token_endpoint: where codes and refresh tokens are redeemed.
        userinfo_endpoint: says who an access token belongs to.
        revocation_endpoint: ends tokens.
    """

    name: ClassVar[str]
    has_two_pages: ClassVar[bool] = True
    issuer: str | None
    callback: str
    client_id: str
    client_secret: str
    authorization_endpoint: str
    token_endpoint: str
    userinfo_endpoint: str
    revocation_endpoint: str

    @property
    def origin(self) -> str:
        """Where its pages are."""
        parts = urlsplit(self.authorization_endpoint)
        return f"{parts.scheme}://{parts.netloc}/"

    @abstractmethod
    async def down(self) -> None:
        """Stop listening; issued tokens are not forgotten."""

    @abstractmethod
    async def up(self) -> None:
        """Listen again, where it did before."""

    def authorization_url(self, **parameters: str | None) -> str:
        """Return an authorization URL of a client that tests the upstream alone; ``None`` leaves a
        parameter out.
        """
        usual = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": self.callback,
            "state": "a-state",
        }
        sent = {name: value for name, value in {**usual, **parameters}.items() if value is not None}
        return f"{self.authorization_endpoint}?{urlencode(sent)}"

    async def sign_in(
        self,
        browser: httpx.AsyncClient,
        authorization_url: str,
        user: str = "alice",
        *,
        decision: str = "approve",
    ) -> str:
        """Go through the upstream's pages as a person; return the URL of the callback that the
        browser is sent to.

        Args:
            browser: its cookies are the browser's, so that who comes again is still signed in.
            authorization_url: where the browser was sent.
            user: who they are.
            decision: ``approve``, ``deny`` at the first page, or ``deny later``: they sign in, and
                do not agree then.

        Raises:
            AssertionError: a page comes up that leads no further.
        """
        url, pages = authorization_url, 0
        response = await browser.get(url)
        while True:
            if response.is_redirect:
                url = urljoin(str(response.url), response.headers["location"])
                if url.startswith(self.callback):
                    return url
                response = await browser.get(url)
            else:
                pages += 1
                said = {"deny": "deny", "deny later": "approve" if pages == 1 else "deny"}.get(
                    decision, "approve"
                )
                response = await self._fill_in(browser, response, user, said)

    async def use_pages(
        self, page: Page, user: str = "alice", *, decision: str = "approve"
    ) -> None:
        """Do the same in a real browser that shows the first of the upstream's pages.

        Args:
            page: of the browser.
            user: who they are.
            decision: as for ``sign_in``.
        """
        name = page.get_by_role("textbox")
        if await name.count():
            await name.fill(user)
        await page.get_by_role("button").nth(1 if decision == "deny" else 0).click()
        if self.has_two_pages and decision != "deny":
            consent = page.get_by_role(
                "button", name="Deny" if decision == "deny later" else "Authorize"
            )
            # Who has agreed before is not asked again.
            while page.url.startswith(self.origin) and not await consent.count():
                await page.wait_for_timeout(50)
            if page.url.startswith(self.origin):
                await consent.click()

    async def _fill_in(
        self, browser: httpx.AsyncClient, page: httpx.Response, user: str, decision: str
    ) -> httpx.Response:
        assert page.status_code == 200, f"{page.url} answered {page.status_code}: {page.text}"
        forms = forms_of(page.text)
        assert forms, f"{page.url} shows no form: {page.text}"
        form = forms[0]
        assert decision in form.buttons["action"], f"there is no way to {decision}: {form}"
        filled = {**form.inputs, "action": decision}
        if "username" in filled:
            filled["username"] = user
        return await browser.post(urljoin(str(page.url), form.action), data=filled)


class WatchedUpstream(Upstream):
    """An upstream that notes what it is asked."""

    @abstractmethod
    async def requests(self) -> list[TokenRequest]:
        """Return the requests to the token endpoint so far, in order."""

    @abstractmethod
    async def fail_one_refresh_in(self, every: int) -> None:
        """Answer one refresh in so many with 503, before anything is done."""

    @abstractmethod
    async def refuse(self, **parameters: str) -> None:
        """Answer the next authorization request at once with these parameters."""

    @abstractmethod
    async def revoke_user(self, user: str) -> None:
        """End everything that this person has granted."""

    async def refreshes(self) -> list[TokenRequest]:
        """Return the refreshes so far, in order."""
        return [each for each in await self.requests() if each.grant_type == "refresh_token"]

    async def reused(self) -> set[str]:
        """Return the hashes of codes and refresh tokens that were sent again after the upstream had
        processed them.
        """
        processed = [each for each in await self.requests() if not each.injected]
        return {
            found for found, times in Counter(each.hash for each in processed).items() if times > 1
        }


def answer_at(callback_url: str) -> dict[str, str]:
    """Return the parameters of an authorization response."""
    return dict(parse_qsl(urlsplit(callback_url).query, keep_blank_values=True))


async def ask(url: str, method: str = "POST", **more: Any) -> httpx.Response:
    """Send one request with a client of its own; ``more`` is httpx's."""
    async with httpx.AsyncClient(timeout=10, trust_env=False) as http:
        return await http.request(method, url, **more)


def bearer(token: str) -> Mapping[str, str]:
    """Return the header that carries an access token."""
    return {"Authorization": f"Bearer {token}"}
