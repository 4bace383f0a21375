"""What an operator's own code can do: clients, grants, sessions, keys, and whether all is well."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from ..errors import InvalidClient, InvalidClientMetadata, ServerUnavailable
from ..stores import scan_all
from ..types import JSONObject
from .audit import AuditEvent
from .browser.records import SESSIONS
from .clients.metadata import check_client_metadata
from .clients.records import CLIENTS, UNUSED
from .endpoints.register import delete_client, describe
from .grants.records import GRANTS, Grant
from .interaction.consents import CONSENTS, forget_person, revoke_application
from .parties import Client
from .parts import Parts


class Admin:
    """The operator's side of an authorization server; ``OAuthProvider.admin`` is one.

    Every method raises ``ServerUnavailable`` while the store does not answer.

    Args:
        server: the authorization server.
    """

    def __init__(self, server: Parts) -> None:
        self._server = server

    async def create_client(self, metadata: Mapping[str, Any]) -> JSONObject:
        """Make a client and return its ``client_id`` and, this once, its ``client_secret``.

        Args:
            metadata: with the names of RFC 7591 §2; the client may act for itself
                (``client_credentials``).

        Raises:
            InvalidClientMetadata: a member cannot be registered.
            InvalidRedirectURI: a redirect URI cannot.
        """
        server = self._server
        if not {"client_id", "client_secret"}.isdisjoint(metadata):
            raise InvalidClientMetadata(
                "client_id and client_secret are made here; Registration(clients=…) takes yours"
            )
        checked = check_client_metadata(metadata, server.clients.operator_policy)
        client, secret, _ = await server.clients.create(checked, origin="configured")
        server.audit.report(AuditEvent(action="client_registered", client_id=client.client_id))
        return describe(server, client, secret=secret)

    async def get_client(self, client_id: str) -> Client | None:
        """Return a client, ``None`` when there is none; one with a metadata document is looked up
        there.
        """
        try:
            return await self._server.clients.find(client_id)
        except InvalidClient:
            return None

    def clients(self) -> AsyncIterator[Client]:
        """Return all clients but those with a metadata document, which are not kept."""
        return self._server.clients.all()

    async def delete_client(self, client_id: str) -> bool:
        """End the grants of a client and forget it; return whether it was in the store.

        What you wrote down yourself, and metadata documents, cannot be forgotten.
        """
        return await delete_client(self._server, client_id)

    def grants(
        self, *, subject: str | None = None, client_id: str | None = None
    ) -> AsyncIterator[tuple[str, Grant]]:
        """Return the grants that have not ended, with their ids: of a person, of a client, or
        all.
        """
        return self._server.grants.ledger.scan(subject=subject, client_id=client_id)

    async def revoke_grant(self, grant_id: str) -> bool:
        """End a grant and all its tokens; return whether it had not ended before."""
        return await self._server.grants.revocation.revoke(grant_id, "by_operator")

    async def revoke_client(self, subject: str, client_id: str) -> int:
        """End what a person has allowed a client; return how many grants ended."""
        return await revoke_application(self._server, subject, client_id, reason="by_operator")

    async def revoke_person(self, subject: str) -> int:
        """Sign a person out everywhere and end all their grants; return how many ended.

        For a person who leaves, or whose password changes. It does not keep them from signing in
        again.
        """
        server = self._server
        # First, so that this counts at once, whatever becomes of the rest.
        ended = await server.grants.revocation.revoke_all("by_operator", subject=subject)
        async for key, _ in scan_all(server.store, SESSIONS.name, group=subject):
            await server.store.delete(SESSIONS.name, key)
        await forget_person(server, subject)
        # And what has begun while they were signed in.
        return ended + await server.grants.revocation.revoke_all("by_operator", subject=subject)

    async def rotate_keys(self, *, retire: bool = False) -> None:
        """Sign with a new key from now on.

        Args:
            retire: stop accepting what the old keys signed, because one of them is in wrong hands;
                other processes do so within a minute.

        Raises:
            ConfigurationError: the keys are yours (``signing_keys``).
        """
        await self._server.signer.rotate(retire=retire)

    async def sweep(self) -> int:
        """Remove what has expired, all of it; return how much that was. It happens by itself, too,
        bit by bit.
        """
        swept = 0
        while found := await self._server.store.sweep():
            swept += found
        await self._server.login.sweep()
        return swept

    async def drop_unreadable(self) -> int:
        """Forget what cannot be decrypted, for good; return how many records that were.

        For when an encryption key is lost, or has leaked and is out of ``encryption_keys``: clients
        register again, people sign in again. The keys that sign tokens are left to ``rotate_keys``.
        """
        server = self._server
        kinds = [kind.name for kind in (CLIENTS, UNUSED, CONSENTS, GRANTS, SESSIONS)]
        kinds += server.login.kinds
        return sum([await server.store.drop_unreadable(kind) for kind in kinds])

    async def is_healthy(self) -> bool:
        """Return whether the store answers, and there is a key to sign with."""
        try:
            await self._server.store.get("health", "none")
            await self._server.signer.ready()
        except ServerUnavailable:
            return False
        return True
