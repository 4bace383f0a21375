"""Browsers: who is signed in, which transaction is whose, and whether a form came from our own page.

A cookie is a random value; what it stands for is in the store, under its hash.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256

from .._asgi import HeaderList
from .._json import encode_base64url
from .._urls import origin_of
from ..errors import ExpiredForm, ForbiddenForm
from ..stores import Store
from ..types import Clock
from .models import AuthorizationRequest, Person, Session, Transaction, hash_of, new_secret
from .options import Lifetimes
from .requests import Request

SESSIONS, TRANSACTIONS = "session", "transaction"
SEEN_SECONDS = 60  # how exactly the last use of a session is known


class Cookies:
    """The two cookies of this server, by the deployment's name.

    On https they are ``__Host-`` cookies; clients drop Secure ones on an http loopback URL. The issuer is in the name,
    because cookies know neither ports nor, with that prefix, paths.

    Args:
        issuer: the server's URL.
    """

    def __init__(self, issuer: str) -> None:
        secure = issuer.startswith("https:")
        prefix, tag = "__Host-" if secure else "", sha256(issuer.encode()).hexdigest()[:8]
        self.session = f"{prefix}mcp_session_{tag}"
        self.browser = f"{prefix}mcp_browser_{tag}"
        self._attributes = "; Path=/; HttpOnly; SameSite=Lax" + ("; Secure" if secure else "")

    def set(self, name: str, value: str, seconds: float) -> tuple[bytes, bytes]:
        """Return the header that sets a cookie; with 0 seconds it is removed."""
        return b"set-cookie", f"{name}={value}; Max-Age={int(seconds)}{self._attributes}".encode("ascii")


class Sessions:
    """Who is signed in where, and who is on the way to where.

    Args:
        store: keeps both.
        clock: decides what has expired.
        lifetimes: how long.
        issuer: the server's URL.
        keys: the first one makes the tokens of forms, all of them are accepted.
    """

    def __init__(self, store: Store, clock: Clock, lifetimes: Lifetimes, issuer: str, keys: Sequence[bytes]) -> None:
        self._store = store
        self._clock = clock
        self._lifetimes = lifetimes
        self._origin = origin_of(issuer).encode()
        self._keys = keys
        self.cookies = Cookies(issuer)

    # --------------------------------------------------------------------------------------------------------- sessions

    async def begin(self, person: Person) -> tuple[Session, str, HeaderList]:
        """Sign somebody in, under a new id; return the session, its id and the cookie."""
        now = int(self._clock.time())
        session, session_id = Session(person=person, signed_in_at=now, seen_at=now), new_secret()
        seconds = self._lifetimes.session_seconds
        await self._store.put(SESSIONS, hash_of(session_id), session.dump(), ttl=seconds, group=person.subject)
        return session, session_id, [self.cookies.set(self.cookies.session, session_id, seconds)]

    async def load(self, request: Request) -> None:
        """Find out who is signed in in this browser."""
        session_id = request.cookie(self.cookies.session)
        if session_id is None:
            return
        key = hash_of(session_id)
        record = await self._store.get(SESSIONS, key)
        if record is None:
            return
        session, now = Session.load(record.value), self._clock.time()
        ends_at = session.signed_in_at + self._lifetimes.session_seconds
        if now >= min(ends_at, session.seen_at + self._lifetimes.session_idle_seconds):
            return
        if now >= session.seen_at + SEEN_SECONDS:
            # Whether this write wins is all the same: another request has been seen too, or the person signs out.
            seen = replace(session, seen_at=int(now))
            await self._store.swap(SESSIONS, key, record.etag, seen.dump(), ttl=ends_at - now)
        request.session, request.session_id = session, session_id

    async def end(self, request: Request) -> HeaderList:
        """Sign out in this browser; return the header that removes the cookie."""
        if request.session_id is not None:
            await self._store.delete(SESSIONS, hash_of(request.session_id))
        return [self.cookies.set(self.cookies.session, "", 0)]

    # ----------------------------------------------------------------------------------------------------- transactions

    async def begin_transaction(
        self, request: Request, authorization: AuthorizationRequest | None
    ) -> tuple[str, HeaderList]:
        """Remember what a person is on the way to; return its id and the cookie that ties it to this browser."""
        browser = request.cookie(self.cookies.browser) or new_secret()
        now, seconds, transaction_id = int(self._clock.time()), self._lifetimes.transaction_seconds, new_secret()
        transaction = Transaction(
            browser=hash_of(browser), expires_at=now + int(seconds), began_at=now, request=authorization
        )
        await self._store.put(TRANSACTIONS, hash_of(transaction_id), transaction.dump(), ttl=seconds)
        return transaction_id, [self.cookies.set(self.cookies.browser, browser, seconds)]

    async def load_transaction(self, request: Request) -> None:
        """Find out what the page belongs to.

        Raises:
            ExpiredForm: to nothing, or to nothing any more.
            ForbiddenForm: to something that another browser began.
        """
        transaction_id = request.parameters.get("transaction") or ""
        record = await self._store.get(TRANSACTIONS, hash_of(transaction_id))
        if record is None:
            raise ExpiredForm
        transaction = Transaction.load(record.value)
        if self._clock.time() >= transaction.expires_at:
            raise ExpiredForm
        browser = hash_of(request.cookie(self.cookies.browser) or "")
        if not hmac.compare_digest(browser, transaction.browser):
            raise ForbiddenForm(reason="other_browser")
        request.transaction_id, request.transaction = transaction_id, transaction

    async def finish_transaction(self, transaction_id: str) -> None:
        """End it; of several who try, one gets through.

        Raises:
            ExpiredForm: it has ended before.
        """
        if await self._store.take(TRANSACTIONS, hash_of(transaction_id)) is None:
            raise ExpiredForm

    # ------------------------------------------------------------------------------------------------------------ forms

    def form_token(self, request: Request, *parts: str, endpoint: str | None = None) -> str:
        """Return what a form carries to show that it is ours, in this browser, for this session and these parts.

        Args:
            request: to the page that shows the form.
            parts: what else it is for.
            endpoint: where it will be sent, if not back to the same page.
        """
        return self._form_token(self._keys[0], request, endpoint or request.endpoint, parts)

    def check_form_token(self, request: Request, *parts: str) -> None:
        """Check the token of a form that was sent.

        Raises:
            ForbiddenForm: it is not the one that ``form_token`` gives.
        """
        sent = (request.parameters.get("csrf") or "").encode("utf-8", "surrogatepass")
        if not any(
            hmac.compare_digest(sent, self._form_token(key, request, request.endpoint, parts).encode())
            for key in self._keys
        ):
            raise ForbiddenForm

    def check_same_site(self, request: Request) -> None:
        """Check that a form was not sent by a page of another site, as far as the browser says.

        Raises:
            ForbiddenForm: it was.
        """
        site = request.header(b"sec-fetch-site")
        if site is not None:
            if site not in (b"same-origin", b"none"):
                raise ForbiddenForm(reason="cross_site")
        # "null": our pages send no referrer, and browsers then hide the origin of a form as well.
        elif request.header(b"origin") not in (None, b"null", self._origin):
            raise ForbiddenForm(reason="cross_site")

    def _form_token(self, key: bytes, request: Request, endpoint: str, parts: Sequence[str]) -> str:
        cookie = request.session_id or request.cookie(self.cookies.browser) or ""
        # Each part is hashed to the same length, so that nothing can shift from one to the next.
        message = "".join(map(hash_of, (endpoint, cookie, *parts)))
        return encode_base64url(hmac.digest(key, message.encode(), "sha256"))
