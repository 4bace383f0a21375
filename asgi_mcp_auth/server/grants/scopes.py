"""Which scopes a client gets: asked for, known here, within the client's own limit, and granted by
the person.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ..._settings import check_scopes
from ...claims import expand_hierarchy
from ...errors import AccessDenied, InvalidGrant, InvalidScope
from ..options import ScopeHook, ask_hook
from ..parties import OFFLINE_ACCESS, Client, Person


class ScopePolicy:
    """The scope policy.

    Args:
        required: what every request to the resource needs; what a client gets that asks for
            nothing.
        supported: all that there are.
        hierarchy: scopes that a scope includes.
        hook: the operator's say in what a person may grant.
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
        """Return the scopes of a request; where it names none, the usual ones as far as the client
        may have them.

        Raises:
            InvalidScope: one is malformed, unknown, or beyond what the client may have; or none are
                left.

        RFC 6749 §3.3.
        """
        if scope is None:
            found = [each for each in self._default if self._within(each, client)]
        else:
            found = [*dict.fromkeys(filter(None, scope.split(" ")))]
            if any(each not in self._known or not self._within(each, client) for each in found):
                raise InvalidScope
        if not found and self.supported:
            raise InvalidScope
        return found

    async def filter_grantable(
        self, person: Person, client: Client, scopes: Sequence[str]
    ) -> list[str]:
        """Return those of ``scopes`` that the person may grant.

        Raises:
            AccessDenied: none of them.
            ServerUnavailable: nobody knows.
        """
        if self._hook is None:
            return list(scopes)
        answer = check_scopes(
            "grant_scopes returned something that",
            await ask_hook("grant_scopes", self._hook, person, client, [*scopes]),
        )
        granted = [each for each in scopes if each in answer]
        if not granted and scopes:
            raise AccessDenied("This account may not grant what the application asks for")
        return granted

    async def filter_still_grantable(
        self, person: Person, client: Client, granted: Sequence[str], scopes: Sequence[str]
    ) -> list[str]:
        """Return those of ``scopes`` that the person, who has granted ``granted``, may still grant.

        Raises:
            InvalidScope: none of them.
            InvalidGrant: nothing of all that they have granted.
            ServerUnavailable: nobody knows.
        """
        if self._hook is None:
            return list(scopes)
        try:
            still = self._with_implied(await self.filter_grantable(person, client, granted))
        except AccessDenied:
            raise InvalidGrant(reason="nothing_left") from None
        found = [each for each in scopes if each in still]
        if scopes and not found:
            raise InvalidScope
        return found

    def narrow(self, scope: str | None, granted: Sequence[str], client: Client) -> list[str]:
        """Return the scopes of a token of a grant: all that still hold, or some of them.

        Raises:
            InvalidScope: more was asked for than was granted, or none of it.
            InvalidGrant: nothing of it holds any more, so that the client has to begin anew.

        RFC 6749 §6.
        """
        holding = [each for each in granted if each in self._known and self._within(each, client)]
        if granted and not holding:
            raise InvalidGrant(reason="nothing_left")
        if scope is None:
            return holding
        found = [*dict.fromkeys(filter(None, scope.split(" ")))]
        if (granted and not found) or not set(found) <= self._with_implied(holding):
            raise InvalidScope
        return found

    def _within(self, scope: str, client: Client) -> bool:
        # The right to refresh is a matter of grant types, not of limits on what may be done.
        return (
            client.scopes is None
            or scope == OFFLINE_ACCESS
            or scope in self._with_implied(client.scopes)
        )

    def _with_implied(self, scopes: Iterable[str]) -> set[str]:
        return {implied for scope in scopes for implied in (scope, *self._implied.get(scope, ()))}
