"""The scope policy: which of the requested scopes a client gets.

Scopes that this server does not have are left out, and the answer says what was granted (RFC 6749
§3.3). Many clients ask for scopes of their own, or of OpenID Connect, whatever the server lists.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from textwrap import shorten

from ..._settings import check_scopes
from ..._urls import MAX_DESCRIPTION_CHARS
from ...claims import expand_hierarchy
from ...errors import AccessDenied, InvalidGrant, InvalidScope
from ..options import ScopeHook, ask_hook
from ..parties import OFFLINE_ACCESS, Client, Person

BEYOND_GRANT = (
    "The request names a scope that was not granted. To get it, the application has to send the"
    " user to sign in again, with all the scopes that it needs"
)


class ScopePolicy:
    """Decides which scopes a client gets: they must be known, within the limit of the client, and
    such as the person may grant.

    Args:
        required: the scopes that every request to the resource needs. Also those that a client gets
            if it asks for none.
        supported: all scopes.
        hierarchy: the scopes that a scope includes.
        hook: the operator's function that decides what a person may grant.
    """

    def __init__(
        self,
        required: Sequence[str],
        supported: Sequence[str],
        hierarchy: Mapping[str, Sequence[str]] | None,
        hook: ScopeHook | None,
    ) -> None:
        self._supported = dict.fromkeys((*supported, *required))
        self._default = tuple(required) or self.supported
        self._implied = expand_hierarchy(hierarchy)
        self._hook = hook

    @property
    def supported(self) -> tuple[str, ...]:
        """All scopes, in order."""
        return tuple(self._supported)

    @property
    def names(self) -> Set[str]:
        """All scopes, including those that are added later."""
        return self._supported.keys()

    def add(self, scopes: Iterable[str]) -> None:
        """Add scopes that clients may ask for, but do not get without asking."""
        self._supported.update(dict.fromkeys(scopes))

    def parse_requested(self, scope: str | None, client: Client) -> list[str]:
        """Return the scopes of a request that the client may have, or the default ones if it names
        none.

        Raises:
            InvalidScope: there are scopes, but none of those that were meant is left.

        RFC 6749 §3.3.
        """
        meant = _parse(scope) or self._default
        scopes = [each for each in meant if self._is_known(each) and self._is_within(each, client)]
        # A refresh token alone is of no use.
        lost = _without_offline_access(meant) and not _without_offline_access(scopes)
        if lost and self._supported:
            raise self._none_left(client)
        return scopes

    async def filter_grantable(
        self, person: Person, client: Client, scopes: Sequence[str]
    ) -> list[str]:
        """Return the scopes that the person may grant.

        Raises:
            AccessDenied: the person may grant none of them.
            ServerUnavailable: the operator's function failed.
        """
        if self._hook is None:
            return list(scopes)
        answer = check_scopes(
            "grant_scopes returned something that",
            await ask_hook("grant_scopes", self._hook, person, client, [*scopes]),
        )
        granted = [each for each in scopes if each in answer]
        if not granted and scopes:
            raise AccessDenied("This account is not allowed to grant what the application asks for")
        return granted

    async def filter_still_grantable(
        self, person: Person, client: Client, granted: Sequence[str], scopes: Sequence[str]
    ) -> list[str]:
        """Return the scopes of a token that the person may still grant.

        Args:
            person: the person behind the grant.
            client: its client.
            granted: all scopes of the grant.
            scopes: the scopes of the token.

        Raises:
            InvalidScope: the person may grant none of ``scopes`` any more.
            InvalidGrant: the person may grant none of ``granted`` any more.
            ServerUnavailable: the operator's function failed.
        """
        if self._hook is None:
            return list(scopes)
        try:
            still = self._with_implied(await self.filter_grantable(person, client, granted))
        except AccessDenied:
            raise InvalidGrant(reason="nothing_left") from None
        left = [each for each in scopes if each in still]
        if scopes and not left:
            raise InvalidScope(BEYOND_GRANT)
        return left

    def narrow(self, scope: str | None, granted: Sequence[str], client: Client) -> list[str]:
        """Return the scopes of a new token of a grant.

        Args:
            scope: the requested scopes, ``None`` for all.
            granted: the scopes of the grant.
            client: its client, whose limit may have changed.

        Raises:
            InvalidScope: the request names a scope of this server that was not granted, or none
                that was.
            InvalidGrant: no granted scope is valid any more, so the client has to start over.

        RFC 6749 §6: a refresh never widens a grant. What this server does not have is left out,
        because clients repeat what they asked for at first.
        """
        valid = [each for each in granted if self._is_known(each) and self._is_within(each, client)]
        if granted and not valid:
            raise InvalidGrant(reason="nothing_left")
        asked = _parse(scope)
        if not asked:
            return valid
        scopes = [each for each in asked if self._is_known(each)]
        if not set(scopes) <= self._with_implied(valid) or (valid and not scopes):
            raise InvalidScope(BEYOND_GRANT)
        return scopes

    def _is_known(self, scope: str) -> bool:
        return scope in self._supported or scope == OFFLINE_ACCESS

    def _none_left(self, client: Client) -> InvalidScope:
        available = ", ".join(each for each in self._supported if self._is_within(each, client))
        text = f"{InvalidScope.description}. Those that are: {available or 'none'}"
        return InvalidScope(shorten(text, MAX_DESCRIPTION_CHARS, placeholder=" ..."))

    def _is_within(self, scope: str, client: Client) -> bool:
        # Whether a client may refresh depends on its grant types, not on its scopes.
        return (
            client.scopes is None
            or scope == OFFLINE_ACCESS
            or scope in self._with_implied(client.scopes)
        )

    def _with_implied(self, scopes: Iterable[str]) -> set[str]:
        return {implied for scope in scopes for implied in (scope, *self._implied.get(scope, ()))}


def _parse(scope: str | None) -> list[str]:
    return [*dict.fromkeys(filter(None, (scope or "").split(" ")))]


def _without_offline_access(scopes: Iterable[str]) -> list[str]:
    return [each for each in scopes if each != OFFLINE_ACCESS]
