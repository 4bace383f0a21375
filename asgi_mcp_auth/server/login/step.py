"""The contract of a login step: how users sign in.

A login step knows nothing of OAuth. It is called with each request to the sign-in page until it
returns the user.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Final, NamedTuple

from ..._deprecated import renamed_fields
from ...stores import Store
from ...types import Clock
from ..limits import Limits
from ..options import Lifetimes
from ..pages.models import Field
from ..parties import Person
from .networks import Network

# The new name for each old one, of attributes and methods that subclasses override.
_RENAMED: Final = {
    "every_time": "skips_session",
    "consent_first": "consent_before_login",
    "renew": "reauthorize",
    "ended": "on_grant_ended",
}


@renamed_fields(anew="force_login")
@dataclass(frozen=True, slots=True, kw_only=True)
class LoginAttempt:
    """A request to the sign-in page, as a login step sees it.

    Attributes:
        method: ``GET`` when the page is opened, ``POST`` when its form is submitted.
        parameters: of the query or the form, each at most once.
        transaction: identifies the attempt; useless in another browser.
        url: the sign-in page's URL for this attempt.
        address: the IP address that the request comes from.
        login_hint: who the client expects to sign in (OpenID Connect Core §3.1.2.1).
        force_login: whether the user must authenticate again, even if already signed in.
        cookie: the value of ``LoginRedirect.cookie`` if this browser has one for this attempt.
    """

    method: str
    parameters: Mapping[str, str] = field(repr=False)
    transaction: str = field(repr=False)
    url: str = field(repr=False)
    address: str
    login_hint: str | None = None
    force_login: bool = False
    cookie: str | None = field(default=None, repr=False)


class LoginForm(NamedTuple):
    """Show the user a form.

    Attributes:
        fields: the inputs.
        button: the label of the submit button.
        error: the reason why the submitted values were rejected.
        failed_account: the account that was tried, only if it exists. Raw input may be a password
            typed into the wrong field and must not reach the audit log.
    """

    fields: tuple[Field, ...]
    button: str = "Sign in"
    error: str | None = None
    failed_account: str | None = None


class LoginRedirect(NamedTuple):
    """Send the user to another site.

    They return to the attempt's ``url``, or to the step's ``callback_path``.

    Attributes:
        url: the destination.
        cookie: a value to keep in the user's browser until then, up to 256 characters of
            ``[A-Za-z0-9_-]``.
    """

    url: str
    cookie: str | None = None

    def __repr__(self) -> str:
        return "LoginRedirect()"


class LoginRefusal(NamedTuple):
    """Refuse the user access, and explain why.

    The page has a link back to the application, which gets an ``access_denied`` error.
    """

    text: str


class LoginHost(NamedTuple):
    """The parts of the server that a login step may use."""

    base_url: str
    login_url: str
    store: Store
    limits: Limits
    clock: Clock
    lifetimes: Lifetimes


class Login(ABC):
    """Signs users in. Implement ``sign_in``; all other members are optional.

    Attributes:
        skips_session: whether each authorization request runs this step, because another site knows
            who is signed in there. Otherwise users stay signed in here for a while.
        consent_before_login: whether users consent before this step, because the step itself would
            disclose something.
        callback_path: a path below ``base_url``, such as ``/auth/callback``, to which another site
            sends users back. A request there becomes an attempt like any other;
            ``find_transaction`` returns its transaction.
        provider_host: where users sign in, if not here. Shown on the consent page.
        provider_scopes: scopes requested there. Shown on the consent page.
        kinds: the kinds of store records that this step keeps beyond a sign-in.
        for_development: set by a step that lets anyone in. The server then answers only this
            machine, and this text tells operators how to allow ``{address}`` as well.
        networks: networks allowed nevertheless.
    """

    skips_session: ClassVar[bool] = False
    consent_before_login: ClassVar[bool] = False
    callback_path: str = ""
    provider_host: str | None = None
    provider_scopes: Sequence[str] = ()
    kinds: ClassVar[Sequence[str]] = ()
    for_development: str = ""
    networks: Sequence[Network] = ()

    def __init_subclass__(cls) -> None:
        # Overrides under old names must keep working: without them, consent would come too late,
        # and blocked users would keep their grants.
        super().__init_subclass__()
        for old, new in _RENAMED.items():
            owner = next(each for each in cls.__mro__ if old in vars(each) or new in vars(each))
            if owner is not cls and issubclass(owner, Login):
                continue  # done when it was defined; a mixin is no Login, and is not
            if old in vars(owner):
                _warn(cls, old, new, stacklevel=4)  # past abc's own frame
                setattr(cls, new, vars(owner)[old])
            else:
                setattr(cls, old, vars(owner)[new])  # for overrides that call super()

    def __setattr__(self, name: str, value: object) -> None:
        if name in _RENAMED:
            _warn(type(self), name, _RENAMED[name], stacklevel=3)
        super().__setattr__(_RENAMED.get(name, name), value)

    def bind(self, host: LoginHost) -> None:  # noqa: B027  # optional
        """Receive the parts of the server that this step may use.

        Raises:
            ConfigurationError: the step does not fit this server.
        """

    async def find_transaction(self, parameters: Mapping[str, str]) -> str | None:
        """Return the transaction of a request to ``callback_path``, ``None`` if it has none.

        Raises:
            ServerUnavailable: the answer is not available now.
        """
        return None

    async def start(self) -> None:  # noqa: B027  # optional
        """Acquire resources; runs on the event loop of the server's lifespan."""

    async def stop(self) -> None:  # noqa: B027  # optional
        """Release the resources that ``start`` acquired."""

    async def reauthorize(self, person: Person, seconds: float) -> Person | None:
        """Decide whether a user keeps access, before a grant is created or refreshed.

        Args:
            person: as ``sign_in`` or the last ``reauthorize`` returned it.
            seconds: how long the grant lasts unless it is refreshed again.

        Returns:
            The user with new claims and the same subject; ``None`` if nothing has changed.

        Raises:
            InvalidGrant: access has been withdrawn or the sign-in has ended; the grant ends too.
            ServerUnavailable: the answer is not available now; the client may try again.
        """
        return None

    async def on_grant_ended(self, person: Person) -> None:  # noqa: B027  # optional
        """React to the end of a user's grant, or to a sign-in that did not lead to one.

        Must neither raise nor take long.
        """

    renew = reauthorize  # for overrides under the old names that call super()
    ended = on_grant_ended

    async def sweep(self) -> None:  # noqa: B027  # optional
        """Do pending work, about once a minute. Requests wait for it, so it must not take long.

        Raises:
            ServerUnavailable: the work is left for the next call.
        """

    @abstractmethod
    async def sign_in(
        self, attempt: LoginAttempt
    ) -> Person | LoginForm | LoginRedirect | LoginRefusal:
        """Return the user, or the next step towards finding out who it is.

        Raises:
            AccessDenied: the user cancelled or is not allowed in; the client gets this error.
            TooManyRequests: the user has failed too often.
            ServerUnavailable: users cannot sign in now.
        """


def _warn(cls: type, old: str, new: str, *, stacklevel: int) -> None:
    warnings.warn(
        f"{cls.__name__}.{old} is deprecated: rename it to {new}",
        DeprecationWarning,
        stacklevel=stacklevel,
    )
