"""Protected resources: what access tokens are for. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from .._urls import is_same_resource


@dataclass(frozen=True, slots=True)
class Resource:
    """A protected resource that the server issues tokens for.

    Attributes:
        identifier: its canonical URI: the ``aud`` of its tokens (RFC 8707 §2).
        scopes: the scopes that it knows.
    """

    identifier: str
    scopes: tuple[str, ...]

    @classmethod
    def at(cls, identifier: str, scopes: Sequence[str]) -> Self:
        """Return the resource with this identifier."""
        return cls(identifier, tuple(scopes))

    def is_named_by(self, uri: str) -> bool:
        """Return whether a ``resource`` parameter means this resource (RFC 8707 §2)."""
        return is_same_resource(self.identifier, uri)
