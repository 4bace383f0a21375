"""Browsers: who is signed in, which transaction is whose, and whether a form came from our own
page.

A cookie is a random value; what it stands for is in the store, under its hash.
"""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from urllib.parse import urlsplit

from ..._asgi import HeaderList
from ..._json import encode_base64url
from ..._urls import is_loopback_host, origin_of
from ...errors import ConfigurationError, ExpiredForm, ForbiddenForm, ServerUnavailable
from ...stores import Store
from ...types import Clock
from ..grants.records import AuthorizationRequest
from ..limits import Limits
from ..options import Lifetimes
from ..parties import Person
from ..records import hash_of, new_secret
from ..web import Request
from .records import Session, Transaction

SESSIONS, TRANSACTIONS = "session", "transaction"
SEEN_SECONDS = 60  # how exactly the last use of a session is known

# what new_secret() makes; anything else in a cookie is not ours
_SECRET = re.compile(r"[A-Za-z0-9_-]{43}")
_COOKIE_VALUE = re.compile(r"[A-Za-z0-9_-]{0,256}")


class Cookies:
    """The cookies of this server, by the deployment's name.

    On https they are ``__Host-`` cookies; clients drop Secure ones on an http loopback URL. The
    server is in the name, because cookies know neither ports nor, with that prefix, paths.

    Args:
        issuer: the server's URL.
        tag: tells the server from others, with the same URL too.
    """

    def __init__(self, issuer: str, tag: str) -> None:
        secure = issuer.startswith("https:")
        prefix, tag = "__Host-" if secure else "", tag[:8]
        self.session = f"{prefix}mcp_session_{tag}"
        self.browser = f"{prefix}mcp_browser_{tag}"
        self._login = f"{prefix}mcp_login_{tag}_"
        self._attributes = "; Path=/; HttpOnly; SameSite=Lax" + ("; Secure" if secure else "")

    def login(self, transaction_id: str) -> str:
        """Return the name of what a login step leaves in the browser; each transaction has its
        own.
        """
        return self._login + hash_of(transaction_id)[:8]

    def set(self, name: str, value: str, seconds: float) -> tuple[bytes, bytes]:
        """Return the header that sets a cookie; with 0 seconds it is removed."""
        return b"set-cookie", f"{name}={value}; Max-Age={int(seconds)}{self._attributes}".encode(
            "ascii"
        )


class Sessions:
    """Who is signed in where, and who is on the way to where.

    Args:
        store: keeps both.
        clock: decides what has expired.
        lifetimes: how long.
        issuer: the server's URL.
        keys: the first one makes the tokens of forms, all of them are accepted.
        limits: know how much may be kept for strangers.
    """

    _tag: str
    cookies: Cookies

    def __init__(
        self,
        store: Store,
        clock: Clock,
        lifetimes: Lifetimes,
        issuer: str,
        keys: Sequence[bytes],
        limits: Limits,
    ) -> None:
        self._store = store
        self._issuer = issuer
        self._clock = clock
        self._lifetimes = lifetimes
        self._origin = origin_of(issuer).encode()
        self._is_local = is_loopback_host(urlsplit(issuer).hostname)
        self._keys = keys
        self._limits = limits
        self.bind()

    def bind(self, *identity: str) -> None:
        """Keep apart from other servers with the same URL and store: who is signed in there is not
        signed in here.

        Args:
            identity: what tells this server from those, the same for all its workers.
        """
        self._tag = sha256(json.dumps([self._issuer, *identity]).encode()).hexdigest()
        self.cookies = Cookies(self._issuer, self._tag)

    # ------------------------------------------------------------------------------------- sessions

    async def begin(self, person: Person) -> tuple[Session, str, HeaderList]:
        """Sign somebody in, under a new id; return the session, its id and the cookie."""
        now = int(self._clock.time())
        session, session_id = Session(person=person, signed_in_at=now, seen_at=now), new_secret()
        seconds = self._lifetimes.session_seconds
        await self._store.put(
            SESSIONS, self._key(session_id), session.dump(), ttl=seconds, group=person.subject
        )
        return session, session_id, [self.cookies.set(self.cookies.session, session_id, seconds)]

    async def load(self, request: Request) -> None:
        """Find out who is signed in in this browser."""
        session_id = _secret_in(request, self.cookies.session)
        if session_id is None:
            return
        key = self._key(session_id)
        record = await self._store.get(SESSIONS, key)
        if record is None:
            return
        session, now = Session.load(record.value), self._clock.time()
        ends_at = session.signed_in_at + self._lifetimes.session_seconds
        if now >= min(ends_at, session.seen_at + self._lifetimes.session_idle_seconds):
            return
        if now >= session.seen_at + SEEN_SECONDS:
            # Whether this write wins is all the same: another request has been seen too, or the
            # person signs out. Nor does it keep anybody from a page where the store is full: they
            # may want to take something back.
            with suppress(ServerUnavailable):
                seen = replace(session, seen_at=int(now))
                await self._store.swap(SESSIONS, key, record, seen.dump(), ttl=ends_at - now)
        request.session, request.session_id = session, session_id

    async def end(self, request: Request) -> HeaderList:
        """Sign out in this browser; return the header that removes the cookie."""
        if request.session_id is not None:
            await self._store.delete(SESSIONS, self._key(request.session_id))
        return [self.cookies.set(self.cookies.session, "", 0)]

    # --------------------------------------------------------------------------------- transactions

    async def begin_transaction(
        self, request: Request, authorization: AuthorizationRequest | None
    ) -> tuple[str, HeaderList]:
        """Remember what a person is on the way to; return its id and the cookie that ties it to
        this browser.

        Raises:
            TooManyRequests: too many have begun on their network, and not finished.
            ServerUnavailable: too many have anywhere.
        """
        browser = _secret_in(request, self.cookies.browser) or new_secret()
        now, seconds, transaction_id = (
            int(self._clock.time()),
            self._lifetimes.transaction_seconds,
            new_secret(),
        )
        transaction = Transaction(
            browser=hash_of(browser), expires_at=now + int(seconds), request=authorization
        )
        value = transaction.dump()
        self._limits.keep(request.source, value, seconds)
        await self._store.put(TRANSACTIONS, self._key(transaction_id), value, ttl=seconds)
        return transaction_id, [self.cookies.set(self.cookies.browser, browser, seconds)]

    async def load_transaction(self, request: Request, transaction_id: str) -> None:
        """Find out what the page belongs to.

        Raises:
            ExpiredForm: to nothing, or to nothing any more.
            ForbiddenForm: to something that another browser began.
        """
        record = await self._store.get(TRANSACTIONS, self._key(transaction_id))
        if record is None:
            raise ExpiredForm
        transaction = Transaction.load(record.value)
        if self._clock.time() >= transaction.expires_at:
            raise ExpiredForm
        browser = hash_of(_secret_in(request, self.cookies.browser) or "")
        if not hmac.compare_digest(browser, transaction.browser):
            raise ForbiddenForm(reason="other_browser")
        request.transaction_id, request.transaction = transaction_id, transaction

    async def change_transaction(
        self, request: Request, change: Callable[[Transaction], Transaction]
    ) -> None:
        """Write down how far the person has come.

        Args:
            request: whose transaction it is.
            change: gets it as it is now. What it returns is kept until the transaction would have
                expired, or, once something was decided, for as long as a code is good.

        Raises:
            ExpiredForm: it has ended.
        """
        key, now = self._key(request.transaction_id), self._clock.time()
        while True:
            record = await self._store.get(TRANSACTIONS, key)
            if record is None:
                raise ExpiredForm
            known = Transaction.load(record.value)
            changed = change(known)
            if changed != known:
                if changed.decision == "deny" or changed.decided_by is not None:
                    changed = replace(
                        changed,
                        expires_at=min(known.expires_at, int(now + self._lifetimes.code_seconds)),
                    )
                ttl = max(1.0, changed.expires_at - now)
                if not await self._store.swap(TRANSACTIONS, key, record, changed.dump(), ttl=ttl):
                    continue
            request.transaction = changed
            return

    def login_cookie(self, request: Request, value: str) -> tuple[bytes, bytes]:
        """Return the header that leaves something of the login step's in this browser; an empty
        value removes it.

        Raises:
            ConfigurationError: a cookie cannot hold it.
        """
        if not _COOKIE_VALUE.fullmatch(value):
            raise ConfigurationError(
                "LoginRedirect.cookie must be up to 256 characters of A-Z, a-z, 0-9, _ and -"
            )
        seconds = self._lifetimes.transaction_seconds if value else 0
        return self.cookies.set(self.cookies.login(request.transaction_id), value, seconds)

    def secret_of(self, transaction_id: str) -> str:
        """Return a secret that belongs to the transaction, and that nobody can guess who knows its
        id.
        """
        return self._token(self._keys[0], "secret", (transaction_id,))

    async def end_transaction(self, request: Request) -> None:
        """Let it be over."""
        await self._store.delete(TRANSACTIONS, self._key(request.transaction_id))

    # ---------------------------------------------------------------------------------------- forms

    def form_token(self, endpoint: str, *parts: str) -> str:
        """Return what a form carries to show that it is ours, and is sent where and as it was
        shown.

        Args:
            endpoint: where the form goes.
            parts: what it is for. One of them is a secret that only this browser can use: a
                transaction, or the id of a session.
        """
        return self._token(self._keys[0], endpoint, parts)

    def check_form_token(self, request: Request, *parts: str) -> None:
        """Check the token of a form that was sent.

        Raises:
            ForbiddenForm: it is not the one that ``form_token`` gives.
        """
        sent = (request.parameters.get("csrf") or "").encode("utf-8", "surrogatepass")
        if not any(
            hmac.compare_digest(sent, self._token(key, request.endpoint, parts).encode())
            for key in self._keys
        ):
            raise ForbiddenForm

    def check_host(self, request: Request) -> None:
        """Check that a page of this machine was opened under one of this machine's names.

        Under another name, which somebody lets point here for a moment (DNS rebinding), the page
        would belong to their site, whose scripts could sign in and consent.

        Raises:
            ForbiddenForm: it was not.
        """
        host = request.header(b"host")
        if self._is_local and host is not None and not is_loopback_host(_host_name(host)):
            raise ForbiddenForm("This page has another address", reason="host")

    def check_same_site(self, request: Request) -> None:
        """Check that a form was not sent by a page of another site, as far as the browser says.

        Raises:
            ForbiddenForm: it was.
        """
        # "null": our pages send no referrer, and browsers then hide the origin of a form as well.
        if request.header(b"sec-fetch-site") not in (
            None,
            b"same-origin",
            b"none",
        ) or request.header(b"origin") not in (None, b"null", self._origin):
            raise ForbiddenForm(reason="cross_site")

    def _key(self, secret: str) -> str:
        return hash_of(self._tag + secret)

    @staticmethod
    def _token(key: bytes, endpoint: str, parts: Sequence[str]) -> str:
        # Each part is hashed to the same length, so that nothing can shift from one to the next.
        message = "".join(map(hash_of, (endpoint, *parts)))
        return encode_base64url(hmac.digest(key, message.encode(), "sha256"))


def _secret_in(request: Request, cookie: str) -> str | None:
    value = request.cookie(cookie)
    return value if value is not None and _SECRET.fullmatch(value) else None


def _host_name(host: bytes) -> str | None:
    try:
        return urlsplit(f"//{host.decode('ascii')}").hostname
    except ValueError:
        return None
