"""Sessions: which users are signed in, in which browsers.

A session's cookie is a random value; the store keeps the session under its hash.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from ...errors import ServerUnavailable
from ...stores import Store
from ...types import Clock
from ..options import Lifetimes
from ..parties import Person
from ..records import hash_of, new_secret
from ..table import Table
from .cookies import Cookies, secret_in
from .records import SESSIONS, Session
from .requests import PageRequest

SEEN_SECONDS = 60  # the precision with which the last use of a session is stored


class Sessions:
    """Begins, loads and ends sessions.

    Args:
        store: keeps them.
        clock: decides which have expired.
        lifetimes: how long they last.
        cookies: name them in the browser.
        tag: distinguishes this server's sessions from those of other servers in the same store.
    """

    def __init__(
        self, store: Store, clock: Clock, lifetimes: Lifetimes, cookies: Cookies, tag: str
    ) -> None:
        self._table = Table(store, SESSIONS, self._ttl)
        self._clock = clock
        self._lifetimes = lifetimes
        self._cookies = cookies
        self._tag = tag

    async def begin(self, request: PageRequest, person: Person) -> None:
        """Sign a user in in this browser.

        The session is a new one in place of any that the browser had, so that a session id that an
        attacker planted is worth nothing (session fixation).
        """
        await self._delete(request)
        now = int(self._clock.time())
        session_id = new_secret()
        session = Session(person=person, signed_in_at=now, seen_at=now)
        await self._table.put(self._key(session_id), session, group=person.subject)
        request.session, request.session_id = session, session_id
        self._cookies.set(
            request, self._cookies.session, session_id, self._lifetimes.session_seconds
        )

    async def load(self, request: PageRequest) -> None:
        """Load the session of this browser, if there is one that has not expired."""
        session_id = secret_in(request, self._cookies.session)
        if session_id is None:
            return
        key = self._key(session_id)
        now = self._clock.time()
        session = await self._table.get(key)
        if session is None:
            return
        idle_at = session.seen_at + self._lifetimes.session_idle_seconds
        if now >= min(self._ends_at(session), idle_at):
            return
        if now >= session.seen_at + SEEN_SECONDS:
            # A full store must not keep anyone from a page: they may want to revoke something.
            with suppress(ServerUnavailable):
                await self._table.update(key, lambda known: replace(known, seen_at=int(now)))
        request.session, request.session_id = session, session_id

    async def end(self, request: PageRequest) -> None:
        """Sign out in this browser."""
        await self._delete(request)
        self._cookies.set(request, self._cookies.session, "", 0)

    async def _delete(self, request: PageRequest) -> None:
        if request.session is not None:
            await self._table.delete(self._key(request.session_id))

    def _ends_at(self, session: Session) -> float:
        return session.signed_in_at + self._lifetimes.session_seconds

    def _ttl(self, session: Session) -> float:
        return max(1.0, self._ends_at(session) - self._clock.time())

    def _key(self, session_id: str) -> str:
        return hash_of(self._tag + session_id)
