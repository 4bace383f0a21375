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
    """Keys by key id and algorithm. Immutable: a refresh makes a new one.

    A key id that two different keys claim belongs to neither.
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
        """Return the key that a token's header names, or nothing; without a key id the only one
        that fits.

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
        """Return the keys that have no key id."""
        return self._unnamed.get(algorithm, ())

    def __len__(self) -> int:
        return sum(map(len, self._by_algorithm.values()))


@runtime_checkable
class KeySource(Protocol):
    """What a verifier needs to know of its keys."""

    # of the key set in use; a new one means that what the old one verified needs another look
    serial: int
    settled_until: float  # monotonic seconds; from then on everything needs another look

    async def keys_for(self, key_id: str | None, algorithm: str) -> tuple[VerifyingKey, ...]:
        """Return the keys to try, at least one.

        Raises:
            InvalidToken: there is no such key.
            ServerUnavailable: there might be, but the key set cannot be had.
        """
        ...

    async def open(self) -> None:
        """Get ready for requests; never fails."""
        ...

    async def aclose(self) -> None:
        """Let go of connections and tasks."""
        ...


class StaticKeys:
    """Keys from the configuration. A PEM has no key id, so whatever id a token names, it may be
    meant.
    """

    def __init__(self, keys: KeySet) -> None:
        self._keys = keys
        self.serial = 1
        self.settled_until = math.inf

    async def keys_for(self, key_id: str | None, algorithm: str) -> tuple[VerifyingKey, ...]:
        """Return the key with that id, else every key that has none."""
        found = (
            (key_id is not None and self._keys.find(key_id, algorithm))
            or self._keys.unnamed(algorithm)
            or (self._keys.find(None, algorithm) if key_id is None else ())
        )
        if not found:
            raise InvalidToken("unknown_key")
        return found

    async def open(self) -> None:
        """Nothing to do."""

    async def aclose(self) -> None:
        """Nothing to do."""


def key_set_from(
    document: Mapping[str, Any],
    algorithms: Iterable[str],
    *,
    max_keys: int = MAX_KEYS,
    named: bool = False,
) -> tuple[KeySet, list[str]]:
    """Return the usable keys of a parsed JWK set, and for each of the others why it is skipped.

    Args:
        document: the set.
        algorithms: to make keys for.
        max_keys: how many it may have, usable or not.
        named: whether each needs a ``kid`` where several are usable.

    Raises:
        UnusableKey: ``keys`` is missing, no list, or too long, or a ``kid`` is missing.
    """
    entries = document.get("keys")
    if not is_array(entries):
        raise UnusableKey("it has no list named keys")
    if len(entries) > max_keys:
        raise UnusableKey(f"it has more than {max_keys} keys")
    names, keys, skipped = tuple(algorithms), list[VerifyingKey](), list[str]()
    seen, ambiguous, found, unnamed = dict[str, Any](), set[str](), 0, 0
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
