"""Transactions: a user's way from ``/authorize`` to the application, in one browser.

A transaction's id is a random value in the URLs of its pages; the store keeps the transaction under
its hash. A cookie ties it to the browser that began it.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable
from dataclasses import replace

from ...errors import ConfigurationError, ExpiredForm, ForbiddenForm
from ...stores import Store
from ...types import Clock
from ..grants.records import AuthorizationRequest
from ..limits import Limits
from ..options import Lifetimes
from ..records import hash_of, new_secret
from ..table import Table
from .cookies import Cookies, secret_in
from .records import TRANSACTIONS, Transaction
from .requests import PageRequest

# Of about a hundred bytes each; servers and proxies take 8 KiB of headers. With more, the oldest
# are removed.
MAX_BROWSER_COOKIES = 16
_LOGIN_COOKIE = re.compile(r"[A-Za-z0-9_-]{0,256}")


class Transactions:
    """Begins, loads, changes and ends transactions.

    Args:
        store: keeps them.
        clock: decides which have expired.
        lifetimes: how long they last.
        cookies: tie them to browsers.
        tag: distinguishes this server's transactions from those of other servers in the same store.
        limits: bound how much is kept for strangers.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        lifetimes: Lifetimes,
        cookies: Cookies,
        tag: str,
        limits: Limits,
    ) -> None:
        self._table = Table(store, TRANSACTIONS, self._ttl)
        self._clock = clock
        self._lifetimes = lifetimes
        self._cookies = cookies
        self._tag = tag
        self._limits = limits

    async def begin(self, request: PageRequest, authorization: AuthorizationRequest | None) -> None:
        """Begin a transaction in this browser.

        Args:
            request: gets its id.
            authorization: the request that the user is asked about; ``None`` if they only sign in.

        Raises:
            TooManyRequests: too many from this network are unfinished.
            ServerUnavailable: too many from all networks are.
        """
        known = self._cookies.browser_secrets(request)
        browser = known[-1] if known else new_secret()
        seconds, transaction_id = self._lifetimes.transaction_seconds, new_secret()
        transaction = Transaction(
            browser=hash_of(browser),
            expires_at=int(self._clock.time()) + int(seconds),
            request=authorization,
        )
        self._limits.keep(request.source, transaction.dump(), seconds)
        await self._table.put(self._key(transaction_id), transaction)
        request.transaction_id = transaction_id
        self._cookies.set(request, self._cookies.browser(hash_of(browser)), browser, seconds)
        for old in known[:-MAX_BROWSER_COOKIES]:
            self._cookies.set(request, self._cookies.browser(hash_of(old)), "", 0)

    async def load(self, request: PageRequest, transaction_id: str) -> None:
        """Load the transaction that a page belongs to.

        Raises:
            ExpiredForm: there is none with this id, or it has expired.
            ForbiddenForm: another browser began it.
        """
        transaction = await self._table.get(self._key(transaction_id))
        if transaction is None or self._clock.time() >= transaction.expires_at:
            raise ExpiredForm
        browser = hash_of(secret_in(request, self._cookies.browser(transaction.browser)) or "")
        if not hmac.compare_digest(browser, transaction.browser):
            raise ForbiddenForm(reason="other_browser")
        request.transaction, request.transaction_id = transaction, transaction_id

    async def change(
        self, request: PageRequest, change: Callable[[Transaction], Transaction]
    ) -> None:
        """Change the transaction of a request.

        Once it is decided, it is kept for as long as an authorization code.

        Args:
            request: whose transaction; it gets the changed one.
            change: gets the newest version.

        Raises:
            ExpiredForm: it has ended.
        """
        code_expires_at = int(self._clock.time() + self._lifetimes.code_seconds)

        def change_and_shorten(known: Transaction) -> Transaction:
            changed = change(known)
            is_decided = changed.decision == "deny" or changed.decided_by is not None
            if changed == known or not is_decided:
                return changed
            return replace(changed, expires_at=min(known.expires_at, code_expires_at))

        changed = await self._table.update(self._key(request.transaction_id), change_and_shorten)
        if changed is None:
            raise ExpiredForm
        request.transaction = changed

    async def end(self, request: PageRequest) -> None:
        """Delete the transaction of a request."""
        await self._table.delete(self._key(request.transaction_id))

    def login_cookie(self, request: PageRequest) -> str | None:
        """Return the value that the login step left in this browser for the transaction."""
        return request.cookie(self._cookies.login(request.transaction_id))

    def set_login_cookie(self, request: PageRequest, value: str) -> None:
        """Leave a value of the login step in this browser for the transaction; an empty one removes
        it.

        Raises:
            ConfigurationError: a cookie cannot hold it.
        """
        if not _LOGIN_COOKIE.fullmatch(value):
            raise ConfigurationError(
                "LoginRedirect.cookie must be up to 256 characters of A-Z, a-z, 0-9, _ and -"
            )
        seconds = self._lifetimes.transaction_seconds if value else 0
        self._cookies.set(request, self._cookies.login(request.transaction_id), value, seconds)

    def has_stale_session(self, request: PageRequest) -> bool:
        """Return whether the last sign-in in this browser failed because of an old session
        elsewhere.
        """
        return request.cookie(self._cookies.stale) is not None

    def set_stale_session(self, request: PageRequest, *, is_stale: bool) -> None:
        """Remember in this browser whether a session elsewhere is too old, for some minutes."""
        if is_stale or self.has_stale_session(request):
            seconds = self._lifetimes.transaction_seconds if is_stale else 0
            self._cookies.set(request, self._cookies.stale, "1" if is_stale else "", seconds)

    def _ttl(self, transaction: Transaction) -> float:
        return max(1.0, transaction.expires_at - self._clock.time())

    def _key(self, transaction_id: str) -> str:
        return hash_of(self._tag + transaction_id)
