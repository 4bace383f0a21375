"""Protected resources: what access tokens are for. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from .._urls import is_same_resource


@dataclass(frozen=True, slots=True)
class Resource:
    """A protected resource that the server issues tokens for.

    Attributes:
        identifier: its canonical URI: the ``aud`` of its tokens (RFC 8707 §2).
    """

    identifier: str

    def is_named_by(self, uri: str) -> bool:
        """Return whether a ``resource`` parameter means this resource (RFC 8707 §2)."""
        return is_same_resource(self.identifier, uri)
