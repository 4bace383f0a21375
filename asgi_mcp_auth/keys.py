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

MAX_KEYS = 64


class KeySet:
    """Keys by key id and algorithm. Immutable.

    Args:
        keys: the keys.
        ambiguous: key ids that several different keys claim. These keys are left out.
    """

    __slots__ = ("_by_algorithm", "_by_id", "_unnamed")

    def __init__(self, keys: Iterable[VerifyingKey], *, ambiguous: Iterable[str] = ()) -> None:
        refused = frozenset(ambiguous)
        self._by_id: dict[tuple[str, str], tuple[VerifyingKey]] = {}
        self._by_algorithm: dict[str, tuple[VerifyingKey, ...]] = {}
        self._unnamed: dict[str, tuple[VerifyingKey, ...]] = {}
        for key in keys:
            if key.key_id in refused:
                continue
            self._by_algorithm[key.algorithm] = (*self._by_algorithm.get(key.algorithm, ()), key)
            if key.key_id is None:
                self._unnamed[key.algorithm] = (*self._unnamed.get(key.algorithm, ()), key)
            else:
                self._by_id[key.key_id, key.algorithm] = (key,)

    def find(self, key_id: str | None, algorithm: str) -> tuple[VerifyingKey, ...]:
        """Return the key that a token's header names, if there is one.

        Without a key id, that is the only key for the algorithm.

        Raises:
            InvalidToken: no key id, and several keys fit (RFC 7515 §4.1.4).
        """
        if key_id is not None:
            return self._by_id.get((key_id, algorithm), ())
        fitting = self._by_algorithm.get(algorithm, ())
        if len(fitting) > 1:
            raise InvalidToken("ambiguous_key")
        return fitting

    def unnamed(self, algorithm: str) -> tuple[VerifyingKey, ...]:
        """Return the keys without a key id."""
        return self._unnamed.get(algorithm, ())

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
    """Keys from the configuration.

    A key without an id, such as a PEM, is tried for tokens with any key id.
    """

    def __init__(self, keys: KeySet) -> None:
        self._keys = keys
        self.version = 1
        self.fresh_until = math.inf

    async def keys_for(self, key_id: str | None, algorithm: str) -> tuple[VerifyingKey, ...]:
        """Return the key with that id, or else every key without one.

        Raises:
            InvalidToken: there is no such key.
        """
        found: tuple[VerifyingKey, ...] = ()
        if key_id is not None:
            found = self._keys.find(key_id, algorithm)
        found = found or self._keys.unnamed(algorithm)
        if not found and key_id is None:
            found = self._keys.find(None, algorithm)
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
    max_keys: int = MAX_KEYS,
    named: bool = False,
) -> tuple[KeySet, list[str]]:
    """Return the usable keys of a parsed JWK set, and the reasons why others are skipped.

    Args:
        document: the set.
        algorithms: the algorithms to make keys for.
        max_keys: maximum number of keys, usable or not.
        named: with several usable keys, require a ``kid`` in each.

    Raises:
        UnusableKey: ``keys`` is missing, not a list, or too long, or a ``kid`` is missing.
    """
    entries = document.get("keys")
    if not is_array(entries):
        raise UnusableKey("it has no list named keys")
    if len(entries) > max_keys:
        raise UnusableKey(f"it has more than {max_keys} keys")
    names = tuple(algorithms)
    keys: list[VerifyingKey] = []
    skipped: list[str] = []
    seen: dict[str, Any] = {}
    ambiguous: set[str] = set()
    found = 0
    unnamed = 0
    for position, jwk in enumerate(entries):
        try:
            usable = keys_from_jwk(jwk, names)
        except UnusableKey as error:
            skipped.append(f"key number {position + 1} is skipped: {error}")
            continue
        key_id = jwk.get("kid")
        found += bool(usable)
        unnamed += bool(usable) and key_id is None
        if key_id in seen:
            # Equal twins are one key; different keys with one kid are ambiguous (RFC 7517 §4.5).
            if seen[key_id] != jwk:
                ambiguous.add(key_id)
                skipped.append(
                    f"key number {position + 1} is skipped: another key has the same kid, so"
                    " neither is used"
                )
            continue
        if key_id is not None:
            seen[key_id] = jwk
        keys += usable
    if named and unnamed and found > 1:
        raise UnusableKey("it has several keys, and one of them has no kid")
    return KeySet(keys, ambiguous=ambiguous), skipped
