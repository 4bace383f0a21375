"""``DevLogin``: sign in without a password, on this machine only."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from ..._urls import is_loopback_host
from ...errors import ConfigurationError
from ..pages.models import Field
from ..parties import Person, is_subject
from .networks import parse_networks
from .step import Login, LoginAttempt, LoginForm, LoginHost


class DevLogin(Login):
    """One click, no password: for development, on this machine only.

    Args:
        subject: the user who signs in by default.
        networks: other networks that may use the server, ``["172.17.0.0/16"]`` for example if it
            runs in a container and the browser does not. Anyone there can sign in as any user.

    Raises:
        ConfigurationError: a network is invalid.
    """

    for_development = "DevLogin(networks=['{address}'])"

    def __init__(self, subject: str = "developer", *, networks: Sequence[str] = ()) -> None:
        self._subject = subject
        self.networks = parse_networks("networks", networks)

    def bind(self, host: LoginHost) -> None:
        """Check that the server is on loopback.

        Raises:
            ConfigurationError: it is not.
        """
        if not is_loopback_host(urlsplit(host.base_url).hostname):
            raise ConfigurationError(
                f"DevLogin lets anyone in, and base_url={host.base_url!r} is not loopback: write"
                " login=PasswordLogin(…) or login=AppLogin(…)"
            )

    async def sign_in(self, attempt: LoginAttempt) -> Person | LoginForm:
        """Sign in any user, without a password."""
        name = attempt.parameters.get("username") or self._subject
        error = None
        if attempt.method == "POST":
            if is_subject(name):
                return Person(subject=name)
            error = "This user name is not valid."
        field = Field(
            name="username",
            label="Sign in as",
            value=attempt.login_hint or self._subject,
        )
        return LoginForm((field,), button="Continue", error=error)
