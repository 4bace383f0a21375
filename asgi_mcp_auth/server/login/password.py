"""``PasswordLogin``: sign in with a user name and a password.

Limits the work that guessing can cause, and keeps response times from telling which names exist.
"""

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
from .hashing import (
    DUMMY_HASH,
    HASH,
    HASH_COMMAND,
    check_password,
    dummy_hash_like,
    hash_password,
    work_of,
)
from .step import Login, LoginAttempt, LoginForm, LoginHost

# Each check takes 32 MiB and at least a fifth of a second of one core. One core remains for the
# event loop.
MAX_AT_ONCE = max(1, min(2, (os.cpu_count() or 1) - 1))
MAX_OF_A_NETWORK = 2  # checks running or waiting
MAX_WAIT_SECONDS = 10.0
USUAL_SECONDS = 0.25

PasswordLookup: TypeAlias = Callable[[str], str | Awaitable[str | None] | None]
PasswordUpdate: TypeAlias = Callable[[str, str], Awaitable[None] | None]


class _Outcome(NamedTuple):
    is_right: bool
    new_hash: str | None  # of the same password, if the stored one is too cheap

    def __repr__(self) -> str:
        return f"_Outcome({self.is_right})"


class PasswordLogin(Login):
    """Checks passwords, for small deployments.

    Guessing is rate-limited by ``RateLimits.passwords`` and ``RateLimits.login_failures``.

    One password is checked at a time, or two on a machine with more than two cores. A network may
    have two checks running or waiting, and networks without recent wrong guesses go first. A flood
    therefore leaves the event loop a core, and delays mostly its own network.

    Args:
        users: account names with results of ``hash_password``; or a function, which may be
            asynchronous, that returns the hash for an account name, or ``None`` if it is unknown.
            Plain passwords are accepted if ``base_url`` is loopback.
        person: a function that returns the ``Person`` for an account name. By default, the name as
            typed is the subject. Set it if ``users`` accepts several spellings of one name.
        rehash: called with the account name and a new hash to store, when a user signs in whose
            hash takes less work than ``hash_password`` uses today. It may be asynchronous.

    Raises:
        ConfigurationError: ``users`` is empty, or not of that form.
    """

    def __init__(
        self,
        users: Mapping[str, str] | PasswordLookup,
        *,
        person: Callable[[str], Person | Awaitable[Person]] | None = None,
        rehash: PasswordUpdate | None = None,
    ) -> None:
        self._plain: list[str] = []
        # Every check does the work of the most expensive hash seen so far, even for unknown names
        # and cheaper hashes: otherwise, response times would tell which names exist.
        self._hardest = DUMMY_HASH
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
            hashes = {
                name: hash_password(stored) if name in self._plain else stored
                for name, stored in users.items()
            }
            self._hardest = dummy_hash_like(max(hashes.values(), key=work_of))
            self._lookup = hashes.get
        if self._plain:
            self.for_development = "hashes of hash_password() instead of plain passwords"
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
        """Use the server's limits.

        Raises:
            ConfigurationError: there are plain passwords, and the server is not on loopback.
        """
        if self._plain and not is_loopback_host(urlsplit(host.base_url).hostname):
            raise ConfigurationError(
                f"PasswordLogin has a plain password for {self._plain[0]!r}, or a hash that is not"
                " a result of hash_password(), and base_url is not loopback: store the result of"
                f" hash_password() instead; {HASH_COMMAND} prints it"
            )
        self._host = host

    async def sign_in(self, attempt: LoginAttempt) -> Person | LoginForm:
        """Check the submitted password, or ask for one.

        Raises:
            TooManyRequests: too many wrong ones, or too many altogether.
            ServerUnavailable: too many checks are waiting, or the store is not responding.
        """
        if attempt.method != "POST":
            return self._form(attempt.login_hint or "")
        name = attempt.parameters.get("username", "")
        password = attempt.parameters.get("password", "")
        # First the limit that bounds the rest: counters, look-ups and checks of one address.
        if self._host is not None:
            await self._host.limits.count("passwords", attempt.address)
        # Counted as a failure before the check, and taken back afterwards: otherwise, many guesses
        # at once would all be under the limit.
        await self._count(name, attempt.address, 1)
        stored: str | None = None
        if is_subject(name):
            stored = await call_hook(self._lookup, name) or None
        try:
            outcome = await self._check(attempt.address, password, stored)
        except (ServerUnavailable, TooManyRequests):
            await self._count(name, attempt.address, -1)
            raise
        if not outcome.is_right:
            failed = None if stored is None else name
            return self._form(name, "The user name or password is incorrect.", failed=failed)
        # An office shares one address: many sign-ins, few guesses.
        self._places.forgive(network_of(attempt.address))
        await self._count(name, attempt.address, -1)
        if self._rehash is not None and outcome.new_hash is not None:
            await call_hook(self._rehash, name, outcome.new_hash)
        if self._person is None:
            return Person(subject=name)
        person: Person = await call_hook(self._person, name)
        return person

    async def _check(self, address: str, password: str, stored: str | None) -> _Outcome:
        if stored is not None and work_of(stored) > work_of(self._hardest):
            self._hardest = dummy_hash_like(stored)
        place = await self._places.enter(network_of(address))
        work = self._workers.submit(
            _check, password, stored, self._hardest, rehash=self._rehash is not None
        )
        # Only when the thread is done: a cancelled request does not stop it.
        work.add_done_callback(place.leave)
        return await asyncio.wrap_future(work)

    async def _count(self, name: str, address: str, add: int) -> None:
        if self._host is not None:
            # One counter for all spellings: many look-ups treat Alice, alice and ALICE as the same
            # account. Names are cut because normalizing a long one would block the event loop, and
            # no account has a longer name.
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


def _check(password: str, stored: str | None, hardest: str, *, rehash: bool) -> _Outcome:
    is_right = check_password(password, stored or hardest, work=work_of(hardest))
    if stored is None or not is_right:
        return _Outcome(is_right=False, new_hash=None)
    needs_rehash = rehash and work_of(stored) < work_of(DUMMY_HASH)
    return _Outcome(is_right=True, new_hash=hash_password(password) if needs_rehash else None)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)
