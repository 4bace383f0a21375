"""Signing in with a name and a password: what a guess costs the server, and what its time tells."""

from __future__ import annotations

import asyncio
import os
import unicodedata
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeAlias
from urllib.parse import urlsplit

from ..._places import Places, network_of
from ..._settings import check_hook
from ..._urls import is_loopback_host
from ...errors import ConfigurationError, ServerUnavailable, TooManyRequests
from ..options import call_hook
from ..pages.models import Field
from ..parties import MAX_SUBJECT_CHARS, Person, is_subject
from . import Login, LoginAttempt, LoginForm, LoginHost
from .hashing import HASH, HASH_COMMAND, NOBODY, check_password, hash_password, nobody_like, work_of

# Each check takes 32 MiB, and a core for a fifth of a second or more; one core is left to the event
# loop.
MAX_AT_ONCE = max(1, min(2, (os.cpu_count() or 1) - 1))
MAX_OF_A_NETWORK = 2  # that are checked or wait at the same time
MAX_WAIT_SECONDS = 10.0
USUAL_SECONDS = 0.25

PasswordLookup: TypeAlias = Callable[[str], str | Awaitable[str | None] | None]
PasswordUpdate: TypeAlias = Callable[[str, str], Awaitable[None] | None]


class _Outcome(NamedTuple):
    good: bool
    fresh: str | None  # a new hash of the same password, to be kept instead


class PasswordLogin(Login):
    """Passwords, for small deployments. Who guesses one is slowed down; ``RateLimits`` says how
    much.

    One password is checked at a time, or two on a machine with more than two cores. A network may
    have two under way, and networks that have not guessed wrong lately go first. So a flood leaves
    the event loop a core, and keeps its own network waiting.

    Args:
        users: account name → what ``hash_password`` returned; or a function from the one to the
            other, which returns ``None`` for unknown names and may be asynchronous. Plain passwords
            will do where ``base_url`` is loopback.
        person: a function from the account name to the ``Person``; by default the name is the
            subject, as it was typed. Give it where the look-up finds one account under several
            spellings.
        rehash: called with the account name and a new hash when somebody has signed in whose hash
            is cheaper to check than what ``hash_password`` returns today; keep the new one instead.
            It may be asynchronous.

    Raises:
        ConfigurationError: no users, or no hashes.
    """

    def __init__(
        self,
        users: Mapping[str, str] | PasswordLookup,
        *,
        person: Callable[[str], Person | Awaitable[Person]] | None = None,
        rehash: PasswordUpdate | None = None,
    ) -> None:
        self._plain: list[str] = []
        # Every check takes the work of the most expensive hash seen so far, for unknown names and
        # cheaper hashes too: time shall not tell which names there are.
        self._hardest = NOBODY
        if callable(users):
            self._lookup: PasswordLookup = users
        else:
            if (
                not isinstance(users, Mapping)
                or not users
                or not all(map(_is_text, (*users, *users.values())))
            ):
                raise ConfigurationError(
                    "PasswordLogin needs users: {'alice': hash_password('…')}, or a function"
                )
            self._plain = sorted(
                name for name, stored in users.items() if not HASH.fullmatch(stored)
            )
            known = {
                name: hash_password(each) if name in self._plain else each
                for name, each in users.items()
            }
            self._hardest = nobody_like(max(known.values(), key=work_of))
            self._lookup = known.get
        if self._plain:
            self.for_development = "what hash_password() returns instead of each plain password"
        check_hook("person", person)
        check_hook("rehash", rehash)
        self._person = person
        self._rehash = rehash
        self._workers = ThreadPoolExecutor(MAX_AT_ONCE, "passwords")
        self._places = Places(
            MAX_AT_ONCE,
            each=MAX_OF_A_NETWORK,
            wait_seconds=MAX_WAIT_SECONDS,
            usual_seconds=USUAL_SECONDS,
        )
        self._host: LoginHost | None = None

    def bind(self, host: LoginHost) -> None:
        """Get to know the server.

        Raises:
            ConfigurationError: plain passwords, and the server is not for this machine only.
        """
        if self._plain and not is_loopback_host(urlsplit(host.base_url).hostname):
            raise ConfigurationError(
                f"PasswordLogin has a plain password for {self._plain[0]!r}, or a hash that is not"
                " of hash_password(), and base_url is not loopback: write what hash_password()"
                f" returns instead; {HASH_COMMAND} prints it"
            )
        self._host = host

    async def sign_in(self, attempt: LoginAttempt) -> Person | LoginForm:
        """Check the password that was sent, or ask for one.

        Raises:
            TooManyRequests: too many were wrong, or too many were sent.
            ServerUnavailable: too many others are being checked, or the store does not answer.
        """
        name, password = (
            attempt.parameters.get("username", ""),
            attempt.parameters.get("password", ""),
        )
        if attempt.method != "POST":
            return self._form(attempt.login_hint or "")
        # First what bounds everything else: how many counters, look-ups and checks an address can
        # cause.
        if self._host is not None:
            await self._host.limits.count("passwords", attempt.address)
        # Counted before, taken back afterwards: many guesses at once shall not all find that there
        # were few so far.
        await self._count(name, attempt.address, 1)
        stored = (await call_hook(self._lookup, name) or None) if is_subject(name) else None
        try:
            outcome = await self._check(attempt.address, password, stored)
        except (ServerUnavailable, TooManyRequests):
            await self._count(name, attempt.address, -1)
            raise
        if not outcome.good:
            failed = None if stored is None else name
            return self._form(name, "The user name or the password is wrong.", failed=failed)
        # an office signs in often, and guesses seldom
        self._places.forgive(network_of(attempt.address))
        await self._count(name, attempt.address, -1)
        if self._rehash is not None and outcome.fresh is not None:
            await call_hook(self._rehash, name, outcome.fresh)
        if self._person is None:
            return Person(subject=name)
        person: Person = await call_hook(self._person, name)
        return person

    async def _check(self, address: str, password: str, stored: str | None) -> _Outcome:
        if stored is not None and work_of(stored) > work_of(self._hardest):
            self._hardest = nobody_like(stored)
        place = await self._places.enter(network_of(address))
        work = self._workers.submit(
            _check, password, stored, self._hardest, renew=self._rehash is not None
        )
        # when the thread has ended, also when nobody waits for it any more
        work.add_done_callback(place.leave)
        return await asyncio.wrap_future(work)

    async def _count(self, name: str, address: str, add: int) -> None:
        if self._host is not None:
            # However it is spelled: many a look-up knows Alice, alice and ALICE as the same
            # account. No account has a longer name, and what a long one costs to normalise all
            # others would wait for.
            account = unicodedata.normalize("NFKC", name[:MAX_SUBJECT_CHARS]).casefold().strip()
            await self._host.limits.count("login_failures", address, account, add=add)

    def _form(self, name: str, error: str | None = None, failed: str | None = None) -> LoginForm:
        fields = (
            Field(name="username", label="User name", value=name, autocomplete="username"),
            Field(
                name="password", label="Password", type="password", autocomplete="current-password"
            ),
        )
        return LoginForm(fields, error=error, failed_account=failed)


def _check(password: str, stored: str | None, hardest: str, *, renew: bool) -> _Outcome:
    good = check_password(password, stored or hardest, work=work_of(hardest)) and stored is not None
    is_cheap = stored is not None and work_of(stored) < work_of(NOBODY)
    return _Outcome(good, hash_password(password) if good and renew and is_cheap else None)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)
