"""The scope policy: which of the requested scopes a client gets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ..._settings import check_scopes
from ...claims import expand_hierarchy
from ...errors import AccessDenied, InvalidGrant, InvalidScope
from ..options import ScopeHook, ask_hook
from ..parties import OFFLINE_ACCESS, Client, Person


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
        self.supported = tuple(dict.fromkeys((*supported, *required)))
        self._default = tuple(required) or self.supported
        self._implied = expand_hierarchy(hierarchy)
        self._known = frozenset((*self.supported, OFFLINE_ACCESS))
        self._hook = hook

    def parse_requested(self, scope: str | None, client: Client) -> list[str]:
        """Return the scopes of a request, or the default ones if it names none.

        Raises:
            InvalidScope: a scope is malformed, unknown, or beyond the limit of the client; or no
                scope is left.

        RFC 6749 §3.3.
        """
        if scope is None:
            scopes = [each for each in self._default if self._is_within(each, client)]
        else:
            scopes = [*dict.fromkeys(filter(None, scope.split(" ")))]
            if any(each not in self._known or not self._is_within(each, client) for each in scopes):
                raise InvalidScope
        if not scopes and self.supported:
            raise InvalidScope
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
            raise InvalidScope
        return left

    def narrow(self, scope: str | None, granted: Sequence[str], client: Client) -> list[str]:
        """Return the scopes of a new token of a grant.

        Args:
            scope: the requested scopes, ``None`` for all.
            granted: the scopes of the grant.
            client: its client, whose limit may have changed.

        Raises:
            InvalidScope: the request names scopes that were not granted, or an empty list.
            InvalidGrant: no granted scope is valid any more, so the client has to start over.

        RFC 6749 §6.
        """
        valid = [each for each in granted if each in self._known and self._is_within(each, client)]
        if granted and not valid:
            raise InvalidGrant(reason="nothing_left")
        if scope is None:
            return valid
        scopes = [*dict.fromkeys(filter(None, scope.split(" ")))]
        if (granted and not scopes) or not set(scopes) <= self._with_implied(valid):
            raise InvalidScope
        return scopes

    def _is_within(self, scope: str, client: Client) -> bool:
        # Whether a client may refresh depends on its grant types, not on its scopes.
        return (
            client.scopes is None
            or scope == OFFLINE_ACCESS
            or scope in self._with_implied(client.scopes)
        )

    def _with_implied(self, scopes: Iterable[str]) -> set[str]:
        return {implied for scope in scopes for implied in (scope, *self._implied.get(scope, ()))}
