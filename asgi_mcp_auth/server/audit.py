"""What the authorization server did, and for whom: one log record and one call of the operator's
hook per outcome.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Literal, TypeAlias

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
    """One outcome, as ``on_event`` gets it and as the log record carries it in ``extra``. It holds
    no secret.

    Attributes:
        action: what happened.
        endpoint: where, ``token`` for example; ``None`` when the operator's own code did it.
        client_id: the client concerned.
        subject: the person concerned.
        grant_id: the grant concerned.
        scopes: what was granted.
        key_id: the signing key concerned.
        address: where the request came from.
        error: the OAuth error code of a refusal.
        reason: why, of a refusal or a revocation.
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
# the others are in the record all the same
_TOLD = frozenset(_FIELDS) - {"action", "address", "scopes"}


class Audit:
    """Reports outcomes.

    Args:
        hook: the operator's, called with each event.
    """

    def __init__(self, hook: EventHook | None) -> None:
        self._hook = hook

    def report(self, event: AuditEvent) -> None:
        """Log the event and tell the hook."""
        # INFO at most: strangers can cause every one of these.
        if logger.isEnabledFor(logging.INFO):
            known = {name: getattr(event, name) for name in _FIELDS}
            told = " ".join(
                f"{name}={value!r}"
                for name, value in known.items()
                if name in _TOLD and value is not None
            )
            logger.info("%s %s", event.action, told, extra=known)
        if self._hook is not None:
            self._hook(event)
