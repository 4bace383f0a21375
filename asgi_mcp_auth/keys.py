"""Verification keys: JWK sets as values, and the protocol of the sources that verifiers ask.

RFC 7517 §5.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

from ._jose import UnusableKey, VerifyingKey, keys_from_jwk
from ._json import is_array
from .errors import InvalidToken


class KeySet:
    """Keys by key id and algorithm. Immutable.

    A key that is listed twice, for two tenants or with further members, counts once.

    Args:
        keys: the keys.
    """

    __slots__ = ("_by_algorithm", "_by_name")

    def __init__(self, keys: Iterable[VerifyingKey]) -> None:
        by_name: dict[tuple[str | None, str], dict[bytes, VerifyingKey]] = {}
        by_algorithm: dict[str, dict[bytes, VerifyingKey]] = {}
        # Those without an id first: a token without one is more likely to be theirs.
        for key in sorted(keys, key=lambda each: each.key_id is not None):
            by_name.setdefault((key.key_id, key.algorithm), {}).setdefault(key.material, key)
            by_algorithm.setdefault(key.algorithm, {}).setdefault(key.material, key)
        self._by_name = {name: tuple(found.values()) for name, found in by_name.items()}
        self._by_algorithm = {name: tuple(found.values()) for name, found in by_algorithm.items()}

    def find(self, key_id: str | None, algorithm: str) -> tuple[VerifyingKey, ...]:
        """Return the keys that may have signed a token, by its header.

        They are the keys with its key id (RFC 7517 §4.5: several may share one), or else those
        without any. A token without a key id may be of any key for its algorithm.
        """
        if key_id is None:
            return self._by_algorithm.get(algorithm, ())
        return self._by_name.get((key_id, algorithm)) or self._by_name.get((None, algorithm), ())

    def __len__(self) -> int:
        return sum(map(len, self._by_algorithm.values()))


@runtime_checkable
class KeySource(Protocol):
    """Provides a verifier with keys.

    A verifier may remember a token that it has accepted until ``fresh_until``, or until the key set
    has another ``version``.
    """

    version: int
    fresh_until: float  # monotonic seconds

    async def keys_for(self, key_id: str | None, algorithm: str) -> tuple[VerifyingKey, ...]:
        """Return the keys to try, at least one.

        Raises:
            InvalidToken: there is no such key.
            ServerUnavailable: there may be one, but the key set is not available.
        """
        ...

    async def open(self) -> None:
        """Prepare for requests; never fails."""
        ...

    async def aclose(self) -> None:
        """Close connections and cancel tasks."""
        ...


class StaticKeys:
    """Keys from the configuration."""

    def __init__(self, keys: KeySet) -> None:
        self._keys = keys
        self.version = 1
        self.fresh_until = math.inf

    async def keys_for(self, key_id: str | None, algorithm: str) -> tuple[VerifyingKey, ...]:
        """Return the keys that may have signed the token.

        Raises:
            InvalidToken: there are none.
        """
        found = self._keys.find(key_id, algorithm)
        if not found:
            raise InvalidToken("unknown_key")
        return found

    async def open(self) -> None:
        """Do nothing."""

    async def aclose(self) -> None:
        """Do nothing."""


def key_set_from(
    document: Mapping[str, Any],
    algorithms: Iterable[str],
    *,
    max_keys: int | None = None,
    named: bool = False,
) -> tuple[KeySet, list[str]]:
    """Return the usable keys of a parsed JWK set, and the reasons why others are skipped.

    Args:
        document: the set.
        algorithms: the algorithms to make keys for.
        max_keys: maximum number of keys, usable or not; ``None`` for any number.
        named: with several usable keys, require a ``kid`` in each.

    Raises:
        UnusableKey: ``keys`` is missing, not a list, or too long, or a ``kid`` is missing.
    """
    entries = document.get("keys")
    if not is_array(entries):
        raise UnusableKey("it has no list named keys")
    if max_keys is not None and len(entries) > max_keys:
        raise UnusableKey(f"it has more than {max_keys} keys")
    names = tuple(algorithms)
    keys: list[VerifyingKey] = []
    skipped: list[str] = []
    found = 0
    for position, jwk in enumerate(entries):
        try:
            usable = keys_from_jwk(jwk, names)
        except UnusableKey as error:
            skipped.append(f"key number {position + 1} is skipped: {error}")
            continue
        keys += usable
        found += bool(usable)
    if named and found > 1 and any(key.key_id is None for key in keys):
        raise UnusableKey("it has several keys, and one of them has no kid")
    return KeySet(keys), skipped
