"""How people sign in: one method to implement, and two ways that need no password.

A login step knows nothing of OAuth. It is asked until it says who the person is.
"""

from __future__ import annotations

import hmac
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple
from urllib.parse import urlsplit

from ..._settings import check_url
from ..._urls import host_root, is_loopback_host, url_path, with_parameters
from ...errors import AccessDenied, ConfigurationError, ExpiredForm
from ...stores import Store
from ...types import Clock
from ..limits import Limits
from ..options import Lifetimes
from ..pages.models import Field
from ..parties import Person, check_person, is_subject
from ..records import hash_of, new_secret
from .networks import Network, parse_networks

HANDOVERS = "login"
HANDOVER_SECONDS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginAttempt:
    """What a login step may know of a request to the sign-in page.

    Attributes:
        method: ``GET`` when the page is opened, ``POST`` when its form was sent.
        parameters: of the query or the form, each once.
        transaction: names the attempt; of no use in another browser.
        url: of the sign-in page, for this attempt.
        address: where the request comes from.
        login_hint: who the client thinks that it is (OpenID Connect Core §3.1.2.1).
        anew: whether the client or the person wants more than that somebody is recognised.
        cookie: what ``LoginRedirect.cookie`` left in this browser, for this attempt.
    """

    method: str
    parameters: Mapping[str, str] = field(repr=False)
    transaction: str = field(repr=False)
    url: str = field(repr=False)
    address: str
    login_hint: str | None = None
    anew: bool = False
    cookie: str | None = field(default=None, repr=False)


class LoginForm(NamedTuple):
    """Ask the person: show a form with these fields.

    Attributes:
        fields: to fill in.
        button: the label of its button.
        error: what was wrong with what they sent.
        failed_account: whose account it was meant to be, if there is one: people type passwords
            into the wrong field, and this goes to the audit record.
    """

    fields: tuple[Field, ...]
    button: str = "Sign in"
    error: str | None = None
    failed_account: str | None = None


class LoginRedirect(NamedTuple):
    """Send the person somewhere else; they come back to the attempt's ``url``, or to the step's
    ``callback_path``.

    Attributes:
        url: where to.
        cookie: what to leave in their browser meanwhile, up to 256 characters of ``[A-Za-z0-9_-]``.
    """

    url: str
    cookie: str | None = None

    def __repr__(self) -> str:
        return "LoginRedirect()"


class LoginRefusal(NamedTuple):
    """Tell the person why they may not come in; a link takes them back to the application, which is
    told as well.
    """

    text: str


class LoginHost(NamedTuple):
    """What a login step gets of the server when the server is made."""

    base_url: str
    login_url: str
    store: Store
    limits: Limits
    clock: Clock
    lifetimes: Lifetimes


class Login(ABC):
    """How people sign in. Implement ``sign_in``; the rest is for steps that hand people over to
    somebody else.

    Attributes:
        every_time: whether each authorization request passes this step, because somebody else knows
            who is signed in there; otherwise who has signed in here stays so for a while.
        consent_first: whether people consent before this step, because it would give something away
            by itself.
        callback_path: a path below ``base_url``, ``/auth/callback`` for example, to which people
            come back; what comes with them is an attempt like any other. ``find_transaction`` tells
            which.
        provider_host: where they sign in, if not here; the consent page says so.
        provider_scopes: what is asked for there; the page says that, too.
        kinds: of records in the store that this step keeps for longer than a sign-in takes.
        for_development: empty, but where only this machine may use the server because this step
            lets in whoever comes: then what to write so that ``{address}`` may as well.
        networks: which may use it nevertheless.
    """

    every_time: ClassVar[bool] = False
    consent_first: ClassVar[bool] = False
    callback_path: str = ""
    provider_host: str | None = None
    provider_scopes: Sequence[str] = ()
    kinds: ClassVar[Sequence[str]] = ()
    for_development: str = ""
    networks: Sequence[Network] = ()

    def bind(self, host: LoginHost) -> None:  # noqa: B027  # optional
        """Get to know the server.

        Raises:
            ConfigurationError: this way to sign in is not for such a server.
        """

    async def find_transaction(self, parameters: Mapping[str, str]) -> str | None:
        """Return the transaction of a request to ``callback_path``, ``None`` when it belongs to
        none.

        Raises:
            ServerUnavailable: it cannot be found out now.
        """
        return None

    async def start(self) -> None:  # noqa: B027  # optional
        """Get ready on the running event loop."""

    async def stop(self) -> None:  # noqa: B027  # optional
        """Let go of what ``start`` took."""

    async def renew(self, person: Person, seconds: float) -> Person | None:
        """Decide anew about somebody who is in, before a grant of theirs begins or is refreshed.

        Args:
            person: as ``sign_in`` or the last ``renew`` returned it.
            seconds: how long the grant lasts if nothing more happens.

        Returns:
            What their tokens shall say from now on, with the same subject; ``None`` for what they
            said before.

        Raises:
            InvalidGrant: they may not come in any more, or their sign-in has ended; the grant ends.
            ServerUnavailable: that cannot be found out now; the client may try again.
        """
        return None

    async def ended(self, person: Person) -> None:  # noqa: B027  # optional
        """Learn that a grant of this person has been ended, or that none has come of their sign-in.

        It must neither raise nor keep anybody waiting.
        """

    async def sweep(self) -> None:  # noqa: B027  # optional
        """Do what is left to do, about once a minute; it must not keep anybody waiting.

        Raises:
            ServerUnavailable: later, then.
        """

    @abstractmethod
    async def sign_in(
        self, attempt: LoginAttempt
    ) -> Person | LoginForm | LoginRedirect | LoginRefusal:
        """Return who the person is, or what has to happen before that is known.

        Raises:
            AccessDenied: they will not say, or may not come in; the client is told.
            TooManyRequests: the person has failed too often.
            ServerUnavailable: it cannot be found out now.
        """


class DevLogin(Login):
    """One click, no password: for development, on this machine only.

    Args:
        subject: who signs in, unless something else is typed.
        networks: from where else the server may be used, ``["172.17.0.0/16"]`` for example where it
            runs in a container and the browser does not. Whoever is there can sign in as anybody.

    Raises:
        ConfigurationError: a network cannot be read.
    """

    for_development = "DevLogin(networks=['{address}'])"

    def __init__(self, subject: str = "developer", *, networks: Sequence[str] = ()) -> None:
        self._subject = subject
        self.networks = parse_networks("networks", networks)

    def bind(self, host: LoginHost) -> None:
        """Get to know the server.

        Raises:
            ConfigurationError: it is not for this machine only.
        """
        if not is_loopback_host(urlsplit(host.base_url).hostname):
            raise ConfigurationError(
                f"DevLogin lets everybody in, and base_url={host.base_url!r} is not loopback: write"
                " login=PasswordLogin(…) or login=AppLogin(…)"
            )

    async def sign_in(self, attempt: LoginAttempt) -> Person | LoginForm:
        """Take the person's word for it."""
        name, error = attempt.parameters.get("username") or self._subject, None
        if attempt.method == "POST":
            if is_subject(name):
                return Person(subject=name)
            error = "Nobody can have this name."
        field = Field(
            name="username",
            label="Who do you want to be?",
            value=attempt.login_hint or self._subject,
        )
        return LoginForm((field,), button="Continue", error=error)


class AppLogin(Login):
    """The host application signs people in on its own page, and calls ``complete``.

    The page gets a ``transaction`` parameter, and ``prompt=login`` where it shall not just
    recognise who is signed in there. Once it knows who the person is, it redirects to what
    ``complete`` returns.

    Args:
        login_url: the application's page.

    Raises:
        ConfigurationError: it is not an https URL (http on loopback).
    """

    every_time = True

    def __init__(self, login_url: str) -> None:
        self._login_url = check_url("login_url", login_url, query=True)
        self._host: LoginHost | None = None

    def bind(self, host: LoginHost) -> None:
        """Get to know the server.

        Raises:
            ConfigurationError: the application's page would be the server's own.
        """
        if host_root(self._login_url) + url_path(self._login_url) == host.login_url:
            raise ConfigurationError(
                f"login_url={self._login_url!r} is this server's own sign-in page: give your page"
                " another path, or move ours with options=ServerOptions(path_prefix='/oauth')"
            )
        self._host = host

    async def sign_in(self, attempt: LoginAttempt) -> Person | LoginRedirect:
        """Send the person to the application, or take what it has left for them.

        Raises:
            ExpiredForm: it was taken before, too late, or is for another attempt.
            AccessDenied: they did not want to sign in.
        """
        handover = attempt.parameters.get("handover")
        if handover is None:
            prompt = {"prompt": "login"} if attempt.anew else {}
            return LoginRedirect(
                with_parameters(self._login_url, {"transaction": attempt.transaction, **prompt})
            )
        data = await self._bound().store.take(HANDOVERS, hash_of(handover))
        if data is None:
            raise ExpiredForm
        members = json.loads(data)
        if not hmac.compare_digest(members["transaction"], hash_of(attempt.transaction)):
            raise ExpiredForm
        if members["person"] is None:
            raise AccessDenied
        return Person.of(members["person"])

    async def complete(self, transaction: str, person: Person | None) -> str:
        """Say who the person is; return the URL to redirect their browser to.

        Args:
            transaction: the parameter that the application's page got.
            person: who signed in there; ``None`` when they do not want to, which the client is
                told.

        Raises:
            ServerUnavailable: the store does not answer.
            ConfigurationError: this login belongs to no ``OAuthProvider``, or the person has no
                subject.
        """
        host, handover = self._bound(), new_secret()
        members = None if person is None else json.loads(check_person(person).dump())
        record = {"transaction": hash_of(transaction), "person": members}
        await host.store.put(
            HANDOVERS, hash_of(handover), json.dumps(record).encode(), ttl=HANDOVER_SECONDS
        )
        return with_parameters(host.login_url, {"transaction": transaction, "handover": handover})

    def _bound(self) -> LoginHost:
        if self._host is None:
            raise ConfigurationError(
                "AppLogin belongs to no OAuthProvider yet: OAuthProvider(login=…)"
            )
        return self._host
