"""Defines grant types: one value per type, and the parts that all of them share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from ...errors import InvalidGrant, MalformedRequest
from ...stores import Store
from ...types import Clock
from ..audit import Audit, AuditAction
from ..clients.metadata import GrantRules
from ..login import Login
from ..options import Lifetimes
from ..parties import Client, check_person
from ..table import Table
from ..tokens.refresh import RefreshTokens
from ..web import REPEATABLE, Parameters
from .ledger import MARGIN_SECONDS, USED_CODE_SECONDS, Ledger
from .records import CODES, Grant
from .revocation import Revocation
from .scopes import ScopePolicy


class TokenRequest(NamedTuple):
    """A request to the token endpoint, its client authenticated."""

    client: Client
    parameters: Parameters
    resource: str

    def __repr__(self) -> str:
        return f"TokenRequest({self.client!r})"

    def required(self, name: str) -> str:
        """Return a parameter that has to be there.

        Raises:
            MalformedRequest: it is missing.
        """
        value = self.parameters.get(name)
        if value is None:
            raise MalformedRequest(f"The {name} is missing")
        return value


class Granted(NamedTuple):
    """A grant, and the tokens that its client gets now."""

    grant_id: str
    grant: Grant
    scopes: list[str]
    refresh_token: str | None = None

    def __repr__(self) -> str:
        return f"Granted({self.grant_id!r}, {self.grant!r})"


class Grants:
    """The parts that grant types are made of.

    Args:
        store: where grants and codes are kept; a grant type may have tables of its own in it.
        clock: decides what has expired.
        lifetimes: of grants and their tokens.
        scopes: the scope policy.
        audit: hears of each revocation.
        keys: of the refresh tokens.
        login: decides whether a sign-in is still valid.
        rotate_confidential: whether refresh tokens of confidential clients rotate too.

    Attributes:
        codes: the authorization codes, each under its hash.
        ledger: keeps the grants.
        revocation: revokes them.
        refresh_tokens: makes and parses refresh tokens.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        lifetimes: Lifetimes,
        scopes: ScopePolicy,
        audit: Audit,
        keys: Sequence[bytes],
        login: Login,
        *,
        rotate_confidential: bool,
    ) -> None:
        self.store = store
        self.clock = clock
        self.lifetimes = lifetimes
        self.scopes = scopes
        self.login = login
        self.rotate_confidential = rotate_confidential
        self.refresh_tokens = RefreshTokens(keys)
        self.codes = Table(store, CODES, lambda _: USED_CODE_SECONDS)
        self.ledger = Ledger(store, clock, lifetimes)
        self.revocation = Revocation(self.ledger, self.codes, clock, lifetimes, login, audit)

    async def with_current_person(self, grant: Grant) -> Grant:
        """Return the grant with its person as the login step describes them now.

        Raises:
            InvalidGrant: the sign-in behind the grant is not valid any more.
            ServerUnavailable: the login step cannot tell.
        """
        if grant.person is None:
            return grant
        person = await self.login.reauthorize(grant.person, self.ledger.ttl(grant))
        if person is None:
            return grant
        # The person of a grant never changes.
        if check_person(person).subject != grant.person.subject:
            raise InvalidGrant(reason="sign_in_ended")
        return replace(grant, person=person)


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantType(GrantRules):
    """A grant type: everything that the server knows of it.

    The token endpoint, the metadata, the rules of registration, ``ServerOptions.disabled`` and the
    audit record follow from this value.

    Args:
        use: carries out a token request with this grant type.
        event: the action in the audit record of a success.
        switch: the name under which it can be disabled; ``None`` if it cannot be.
        repeatable: the parameters of a token request that may be repeated.
    """

    use: Callable[[Grants, TokenRequest], Awaitable[Granted]]
    event: AuditAction = "token_issued"
    switch: str | None = None
    repeatable: frozenset[str] = REPEATABLE


def is_recent(since: float, began: float, leeway: float) -> bool:
    """Return whether a request that began at ``began`` may be a retry of one that won at ``since``.

    It may have begun before that, and have waited for the store or for us since.
    """
    return -MARGIN_SECONDS <= began - since <= leeway
