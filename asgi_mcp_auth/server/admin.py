"""The operator's interface: clients, grants, sessions, signing keys, health."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from ..errors import InvalidClient, InvalidClientMetadata, ServerUnavailable
from ..stores import scan_all
from ..types import JSONObject
from .audit import AuditEvent
from .browser.records import SESSIONS
from .clients.kept import DOCUMENTS
from .clients.metadata import check_client_metadata
from .clients.records import CLIENTS, UNUSED
from .endpoints.register import delete_client, describe
from .grants.records import GRANTS, Grant
from .interaction.consents import CONSENTS, forget_person, revoke_application
from .parties import Client
from .parts import Parts


class Admin:
    """The operator's interface to an authorization server; ``OAuthProvider.admin`` is one.

    Every method raises ``ServerUnavailable`` while the store is not responding.

    Args:
        parts: of the authorization server.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def create_client(self, metadata: Mapping[str, Any]) -> JSONObject:
        """Create a client, and return its ``client_id`` and its ``client_secret``.

        The secret is returned only now; the store keeps a hash of it.

        Args:
            metadata: members of RFC 7591 §2. Unlike a client that registers itself, this one may
                have the grant type ``client_credentials``.

        Raises:
            InvalidClientMetadata: a member cannot be registered.
            InvalidRedirectURI: a redirect URI cannot be registered.
        """
        parts = self._parts
        if not {"client_id", "client_secret"}.isdisjoint(metadata):
            raise InvalidClientMetadata(
                "client_id and client_secret are generated: to choose your own, write"
                " Registration(clients=…)"
            )
        checked = check_client_metadata(metadata, parts.clients.operator_policy)
        client, secret, _ = await parts.clients.create(checked, origin="configured")
        parts.audit.report(AuditEvent(action="client_registered", client_id=client.client_id))
        return describe(parts, client, secret=secret)

    async def get_client(self, client_id: str) -> Client | None:
        """Return a client, ``None`` if there is none. For the URL of a metadata document, the
        document is fetched.
        """
        try:
            return await self._parts.clients.find(client_id)
        except InvalidClient:
            return None

    def clients(self) -> AsyncIterator[Client]:
        """Return all clients, except those with a metadata document, which do not register."""
        return self._parts.clients.all()

    async def delete_client(self, client_id: str) -> bool:
        """Revoke the grants of a client and delete it; return whether it was in the store.

        The clients in ``Registration(clients=…)`` and those with a metadata document cannot be
        deleted: only their grants are revoked.
        """
        return await delete_client(self._parts, client_id)

    def grants(
        self, *, subject: str | None = None, client_id: str | None = None
    ) -> AsyncIterator[tuple[str, Grant]]:
        """Return the active grants with their ids: all of them, those of a user, or those of a
        client.
        """
        return self._parts.grants.ledger.scan(subject=subject, client_id=client_id)

    async def revoke_grant(self, grant_id: str) -> bool:
        """Revoke a grant and all its tokens; return whether it was active."""
        return await self._parts.grants.revocation.revoke(grant_id, "by_operator")

    async def revoke_client(self, subject: str, client_id: str) -> int:
        """Revoke the grants of a user to a client; return how many were active."""
        return await revoke_application(self._parts, subject, client_id, reason="by_operator")

    async def revoke_person(self, subject: str) -> int:
        """Sign a user out everywhere and revoke all their grants; return how many were active.

        For a user who leaves, or whose password changes. They can sign in again.
        """
        parts = self._parts
        # First, so that it counts at once, even if the rest fails.
        revoked = await parts.grants.revocation.revoke_all("by_operator", subject=subject)
        async for key, _ in scan_all(parts.store, SESSIONS.name, group=subject):
            await parts.store.delete(SESSIONS.name, key)
        await forget_person(parts, subject)
        # And the grants that began while the user was still signed in.
        return revoked + await parts.grants.revocation.revoke_all("by_operator", subject=subject)

    async def rotate_keys(self, *, retire: bool = False) -> None:
        """Sign with a new key from now on.

        Args:
            retire: whether to reject tokens signed with the old keys, because one of them has
                leaked; other processes follow within a minute.

        Raises:
            ConfigurationError: the keys are yours (``signing_keys``).
        """
        await self._parts.signer.rotate(retire=retire)

    async def sweep(self) -> int:
        """Remove all expired records; return how many. The server also does so by itself, bit by
        bit.
        """
        swept = 0
        while found := await self._parts.store.sweep():
            swept += found
        await self._parts.login.sweep()
        return swept

    async def drop_unreadable(self) -> int:
        """Delete all records that cannot be decrypted; return how many.

        For when an encryption key is lost, or was removed from ``encryption_keys`` because it had
        leaked: clients register again, users sign in again. Signing keys are left to
        ``rotate_keys``.
        """
        parts = self._parts
        kinds = [kind.name for kind in (CLIENTS, DOCUMENTS, UNUSED, CONSENTS, GRANTS, SESSIONS)]
        kinds += parts.login.kinds
        return sum([await parts.store.drop_unreadable(kind) for kind in kinds])

    async def is_healthy(self) -> bool:
        """Return whether the store is responding and there is a signing key."""
        try:
            await self._parts.store.get("health", "none")
            await self._parts.signer.ready()
        except ServerUnavailable:
            return False
        return True
