"""``AppLogin``: the host application signs users in on its own page.

The application hands the user over in a record of the store. The URL that the browser returns to
carries its name, which is good once, for a minute, and for one transaction.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Final

from ..._settings import check_url
from ..._urls import host_root, url_path, with_parameters
from ...errors import AccessDenied, ConfigurationError, ExpiredForm
from ..parties import Person, check_person
from ..records import Stored, hash_of, new_secret
from ..table import Kind, Table
from .step import Login, LoginAttempt, LoginHost, LoginRedirect

HANDOVER_SECONDS: Final = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Handover(Stored):
    """The result of a sign-in at the application.

    Attributes:
        transaction: hash of the transaction that it is for.
        person: the user who signed in, ``None`` if they cancelled.
    """

    nested: ClassVar[Mapping[str, type[Stored]]] = {"person": Person}

    transaction: str = field(repr=False)
    person: Person | None


HANDOVERS: Final = Kind(
    "login", Handover, key="SHA-256 of the handover", lifetime=f"{HANDOVER_SECONDS} s"
)


class AppLogin(Login):
    """Sends users to the host application's own sign-in page, which calls ``complete``.

    The page gets a ``transaction`` parameter, and ``prompt=login`` if the user must authenticate
    again even if already signed in there. Once it knows the user, it redirects the browser to the
    URL that ``complete`` returns.

    Args:
        login_url: the application's sign-in page.

    Raises:
        ConfigurationError: it is not an https URL (http on loopback).
    """

    skips_session = True

    def __init__(self, login_url: str) -> None:
        self._login_url = check_url("login_url", login_url, query=True)
        self._host: LoginHost | None = None

    def bind(self, host: LoginHost) -> None:
        """Use the server's store and sign-in URL.

        Raises:
            ConfigurationError: the application's page has the URL of the server's own.
        """
        if host_root(self._login_url) + url_path(self._login_url) == host.login_url:
            raise ConfigurationError(
                f"login_url={self._login_url!r} is this server's own sign-in page: give your page"
                " another path, or move ours with options=ServerOptions(path_prefix='/oauth')"
            )
        self._host = host

    async def sign_in(self, attempt: LoginAttempt) -> Person | LoginRedirect:
        """Send the user to the application, or accept the result of the sign-in there.

        Raises:
            ExpiredForm: the handover is used, expired, or for another attempt.
            AccessDenied: the user cancelled.
        """
        name = attempt.parameters.get("handover")
        if name is None:
            parameters = {"transaction": attempt.transaction}
            if attempt.force_login:
                parameters["prompt"] = "login"
            return LoginRedirect(with_parameters(self._login_url, parameters))
        handover = await _handovers(self._bound()).take(hash_of(name))
        if handover is None:
            raise ExpiredForm
        if not hmac.compare_digest(handover.transaction, hash_of(attempt.transaction)):
            raise ExpiredForm
        if handover.person is None:
            raise AccessDenied
        return handover.person

    async def complete(self, transaction: str, person: Person | None) -> str:
        """Complete a sign-in, and return the URL to redirect the browser to.

        Args:
            transaction: the parameter that the application's page received.
            person: the user who signed in; ``None`` if they cancelled, which the client is told.

        Raises:
            ServerUnavailable: the store is not responding.
            ConfigurationError: no ``OAuthProvider`` uses this login, or the person is invalid.
        """
        host = self._bound()
        name = new_secret()
        handover = Handover(
            transaction=hash_of(transaction),
            person=None if person is None else check_person(person),
        )
        await _handovers(host).put(hash_of(name), handover)
        return with_parameters(host.login_url, {"transaction": transaction, "handover": name})

    def _bound(self) -> LoginHost:
        if self._host is None:
            raise ConfigurationError(
                "This AppLogin is not in use yet: pass it to OAuthProvider(login=…) first"
            )
        return self._host


def _handovers(host: LoginHost) -> Table[Handover]:
    return Table(host.store, HANDOVERS, lambda _: HANDOVER_SECONDS)
