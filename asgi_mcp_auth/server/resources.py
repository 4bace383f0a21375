"""Protected resources: what access tokens are for. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from .._urls import resource_spellings


@dataclass(frozen=True, slots=True)
class Resource:
    """A protected resource that the server issues tokens for.

    Attributes:
        identifier: its canonical URI: the ``aud`` of its tokens (RFC 8707 §2).
        spellings: the URIs that name it in requests, ``identifier`` among them.
        scopes: the scopes that it knows.
    """

    identifier: str
    spellings: frozenset[str]
    scopes: tuple[str, ...]

    @classmethod
    def at(cls, identifier: str, scopes: Sequence[str]) -> Self:
        """Return the resource with this identifier."""
        return cls(identifier, resource_spellings(identifier), tuple(scopes))
