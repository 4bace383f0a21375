"""The audit trail: one log record and one call of the operator's hook per outcome."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Literal, Protocol, TypeAlias

logger = logging.getLogger(__name__)

AuditAction: TypeAlias = Literal[
    "client_registered",
    "client_changed",
    "client_deleted",
    "signed_in",
    "sign_in_failed",
    "signed_out",
    "approved",
    "denied",
    "token_issued",
    "token_refreshed",
    "grant_revoked",
    "key_created",
    "refused",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent:
    """One outcome: the argument of ``on_event``, and the ``extra`` of the log record. It holds no
    secret.

    Attributes:
        action: the kind of outcome.
        endpoint: the endpoint, such as ``token``; ``None`` if the operator's own code did it.
        client_id: the client concerned.
        subject: the user concerned.
        grant_id: the grant concerned.
        scopes: the scopes that were granted.
        key_id: the signing key concerned.
        address: the address that the request came from.
        error: the OAuth error code of a refusal.
        reason: the reason for a refusal or a revocation.
    """

    action: AuditAction
    endpoint: str | None = None
    client_id: str | None = None
    subject: str | None = None
    grant_id: str | None = None
    scopes: tuple[str, ...] | None = None
    key_id: str | None = None
    address: str | None = None
    error: str | None = None
    reason: str | None = None


EventHook: TypeAlias = Callable[[AuditEvent], None]
_FIELDS = tuple(each.name for each in fields(AuditEvent))
# In the message, too; ``extra`` has all of them.
_IN_MESSAGE = frozenset(_FIELDS) - {"action", "address", "scopes"}


class Source(Protocol):
    """A request, as far as an audit record tells where an outcome comes from."""

    @property
    def endpoint(self) -> str:
        """The name of the endpoint."""
        ...

    @property
    def address(self) -> str:
        """The address of the peer."""
        ...


class Audit:
    """Reports outcomes to the log and to the operator.

    Args:
        hook: the operator's function, called with each event.
    """

    def __init__(self, hook: EventHook | None) -> None:
        self._hook = hook

    def report(self, event: AuditEvent, request: Source | None = None) -> None:
        """Log the event and call the hook.

        Args:
            event: the outcome.
            request: the request that led to it, if one did: its endpoint and address are added.
        """
        if request is not None:
            event = replace(event, endpoint=request.endpoint, address=request.address)
        # INFO at most: strangers can cause every one of these.
        if logger.isEnabledFor(logging.INFO):
            values = {name: getattr(event, name) for name in _FIELDS}
            message = " ".join(
                f"{name}={value!r}"
                for name, value in values.items()
                if name in _IN_MESSAGE and value is not None
            )
            logger.info("%s %s", event.action, message, extra=values)
        if self._hook is not None:
            self._hook(event)
