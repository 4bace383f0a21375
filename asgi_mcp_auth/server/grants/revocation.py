"""Revokes grants: one, or all of a person or a client, including those that a code may yet
start.
"""

from __future__ import annotations

from ...errors import ServerUnavailable
from ...types import Clock
from ..audit import Audit, AuditEvent
from ..login import Login
from ..options import Lifetimes
from ..table import Table
from .codes import grant_from, grant_of_code
from .ledger import Ledger
from .records import Code, Grant


class Revocation:
    """Revokes grants.

    Args:
        ledger: keeps the grants.
        codes: the authorization codes.
        clock: dates the record of a grant that never started.
        lifetimes: of grants.
        login: releases what it keeps for a grant.
        audit: hears of each revocation.
    """

    def __init__(
        self,
        ledger: Ledger,
        codes: Table[Code],
        clock: Clock,
        lifetimes: Lifetimes,
        login: Login,
        audit: Audit,
    ) -> None:
        self._ledger = ledger
        self._codes = codes
        self._clock = clock
        self._lifetimes = lifetimes
        self._login = login
        self._audit = audit

    async def revoke(self, grant_id: str, reason: str) -> bool:
        """Revoke a grant and all its tokens; return ``False`` if it was revoked before, or never
        existed.

        This process rejects its tokens from now on, even if the store is not responding.

        Args:
            grant_id: which grant.
            reason: for the audit record.
        """
        return await self._finish(await self._end(grant_id, reason))

    async def revoke_code(self, key: str, code: Code, reason: str) -> bool:
        """Revoke the grant of a code, named by its hash, even if the grant has not started yet."""
        return await self._finish(await self._end(grant_of_code(key), reason, unseen=(key, code)))

    async def revoke_all(
        self, reason: str, *, subject: str | None = None, client_id: str | None = None
    ) -> int:
        """Revoke the grants of a person, of a client, or of a person to a client; return how many
        were active.

        Codes that have not been redeemed yet become worthless.
        """
        count = 0
        ended: list[Grant | None] = []
        try:
            async for grant_id, _ in self._ledger.scan(subject=subject, client_id=client_id):
                grant = await self._end(grant_id, reason)
                count += grant is not None
                ended.append(grant)
            # Afterwards, because the grant of a code that is just being redeemed may have started
            # too late for the scan above.
            async for key, code in self._codes.scan(group=subject):
                if client_id in (None, code.client_id):
                    grant_id = grant_of_code(key)
                    ended.append(await self._end(grant_id, reason, unseen=(key, code)))
        finally:
            # Once all are revoked, so that none stays valid while the login step is busy.
            for grant in ended:
                await self._finish(grant)
        return count

    async def _finish(self, grant: Grant | None) -> bool:
        if grant is not None and grant.person is not None:
            await self._login.on_grant_ended(grant.person)
        return grant is not None

    async def _end(
        self, grant_id: str, reason: str, *, unseen: tuple[str, Code] | None = None
    ) -> Grant | None:
        """Revoke a grant and return it, ``None`` if there is no active one.

        Args:
            grant_id: which grant.
            reason: for the audit record.
            unseen: the code that starts it, with its key. If the grant does not exist yet, it is
                stored as already revoked, so that it can never become active.
        """
        self._ledger.mark_dead(grant_id)
        grant = await self._ledger.get(grant_id)
        if grant is None and unseen is not None:
            seconds = self._lifetimes.access_token_seconds
            grant = grant_from(unseen[1], int(self._clock.time()), seconds)
        if grant is None or grant.revoked is not None:
            return None
        try:
            await self._ledger.end(grant_id, grant, reason)
        except ServerUnavailable:
            # A store that is full accepts no records but still removes them.
            if unseen is not None:
                await self._codes.delete(unseen[0])
            await self._ledger.forget(grant_id)
        event = AuditEvent(
            action="grant_revoked",
            client_id=grant.client_id,
            subject=grant.subject,
            grant_id=grant_id,
            reason=reason,
        )
        self._audit.report(event)
        return grant
