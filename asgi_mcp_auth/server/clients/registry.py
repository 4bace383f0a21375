"""Looks up clients: configured by the operator, registered, or described by a metadata document."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ...errors import ConfigurationError, InvalidClient, InvalidClientMetadata, InvalidRedirectURI
from ...stores import Store
from ...types import Clock, JSONObject
from ..options import DAY, Lifetimes, Registration
from ..parties import Client, ClientOrigin
from ..records import hash_of, new_secret
from .cimd import ClientDocuments, is_document_url
from .metadata import SECRET_METHODS, MetadataPolicy, check_client_metadata
from .records import client_table
from .unused import UnusedRegistrations

MAX_CLIENT_ID_CHARS = 2048
MIN_SECRET_CHARS = 32
MAX_SUBJECTS = 8

# About as long as others, so that it takes as long to parse.
_DUMMY_CLIENT = Client(
    client_id="dummy",
    metadata={
        "client_name": "Dummy",
        "client_uri": "https://client.example/",
        "redirect_uris": ["https://client.example/callback", "http://127.0.0.1/callback"],
        "application_type": "native",
        "scope": "openid profile",
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": "client_secret_post",
    },
    origin="registered",
    registration_token_hash=hash_of(""),
).dump()


def dummy_client() -> Client:
    """Return a dummy client, so that an unknown client id takes as long to reject as a known
    one.
    """
    return Client.load(_DUMMY_CLIENT)


class Clients:
    """Looks up clients and stores dynamic registrations.

    Args:
        store: where registrations are kept.
        clock: decides what has expired.
        registration: the operator's settings; its ``clients`` take precedence.
        policy: the metadata that clients may register.
        operator_policy: the metadata that the operator's own clients may have.
        self_grants: the grant types whose tokens have the client as their subject.
        lifetimes: of grants, which registrations outlive.
        documents: the client metadata documents, ``None`` if they are switched off.

    Attributes:
        unused: bounds the storage of unused registrations.

    Raises:
        ConfigurationError: one of the operator's clients is invalid.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        registration: Registration,
        policy: MetadataPolicy,
        operator_policy: MetadataPolicy,
        self_grants: Collection[str],
        lifetimes: Lifetimes,
        documents: ClientDocuments | None,
    ) -> None:
        self._table = client_table(store, clock)
        self._clock = clock
        self._registration = registration
        self.unused = UnusedRegistrations(store, clock, registration)
        self._documents = documents
        # A client whose registration has expired gets invalid_client and discards its tokens.
        self._kept_seconds = max(registration.client_seconds, lifetimes.refresh_token_seconds)
        self.policy = policy
        self.operator_policy = operator_policy
        self._self_grants = frozenset(self_grants)
        self._configured = _configured(registration.clients, self.operator_policy)

    async def find(
        self, client_id: str, *, address: str | None = None, from_client: bool = False
    ) -> Client | None:
        """Return the client with this id, ``None`` if there is none.

        Args:
            client_id: which client.
            address: where the request comes from, ``None`` if the operator asks.
            from_client: whether the client itself sends it; a document that was good once is then
                good enough.

        Raises:
            InvalidClient: the id is the URL of a metadata document that is invalid, or documents
                are switched off.
            ServerUnavailable: the store, or the host of the document, is not responding.
            TooManyRequests: the address has made us fetch too many documents.
        """
        configured = self._configured.get(client_id)
        if configured is not None:
            return configured
        if not 0 < len(client_id) <= MAX_CLIENT_ID_CHARS or not client_id.isprintable():
            return None
        if is_document_url(client_id):
            if self._documents is None:
                raise InvalidClient(
                    "This server reads no client metadata documents", reason="documents_off"
                )
            return await self._documents.client_for(client_id, address, from_client=from_client)
        return await self.find_registered(client_id)

    async def find_registered(self, client_id: str) -> Client | None:
        """Return the client with this id if it is in the store.

        Raises:
            ServerUnavailable: the store is not responding.
        """
        client = await self._table.get(hash_of(client_id))
        return None if client is None or self._has_ended(client) else client

    async def acts_for_itself(self, client_id: str) -> bool:
        """Return whether there is a client with this id that gets tokens for itself, with its own
        id as their subject.
        """
        if is_document_url(client_id) and client_id not in self._configured:
            return False  # a document cannot register for such a grant type
        client = await self.find(client_id)
        return client is not None and not self._self_grants.isdisjoint(client.grant_types)

    async def create(
        self,
        metadata: JSONObject,
        *,
        origin: ClientOrigin = "registered",
        manageable: bool = False,
        address: str | None = None,
    ) -> tuple[Client, str | None, str | None]:
        """Create a client; return it with its secret and its registration token, if it has them.

        Args:
            metadata: the validated metadata.
            origin: whether the operator or a registration creates it.
            manageable: whether it gets a registration token.
            address: where the registration comes from, ``None`` for the operator.

        Raises:
            ServerUnavailable: the store is not responding.
        """
        now = int(self._clock.time())
        secret = new_secret() if metadata["token_endpoint_auth_method"] in SECRET_METHODS else None
        token = new_secret() if manageable else None
        client = Client(
            client_id=secrets.token_hex(16),
            metadata=metadata,
            origin=origin,
            issued_at=now,
            secret_hash=None if secret is None else hash_of(secret),
            registration_token_hash=None if token is None else hash_of(token),
            expires_at=now + int(self._registration.unused_seconds)
            if origin == "registered"
            else None,
            subjects=[] if origin == "registered" else None,
        )
        if address is not None:
            self.unused.add(client.client_id, len(client.dump()), address)
        await self._table.put(hash_of(client.client_id), client)
        await self.unused.make_room()
        return client, secret, token

    async def update(
        self, client_id: str, change: Callable[[Client], Client], *, address: str | None = None
    ) -> Client | None:
        """Change a client in the store; return the result, ``None`` if the client is gone.

        Args:
            client_id: which client.
            change: returns the changed client.
            address: where the request comes from, if the client changes its own metadata.
        """

        def change_if_live(known: Client) -> Client | None:
            if self._has_ended(known):
                return None
            changed = change(known)
            if address is not None and not changed.used:
                self.unused.add(client_id, len(changed.dump()), address)
            return changed

        changed = await self._table.update(hash_of(client_id), change_if_live)
        if changed is not None and address is not None:
            await self.unused.make_room()
        return changed

    async def extend(self, client: Client, subject: str) -> None:
        """Extend a registration, or keep a metadata document, after a user has approved the
        client.
        """
        if client.origin == "document" and self._documents is not None:
            await self._documents.keep(client.client_id)
        if client.expires_at is None:
            return
        ends_at = int(self._clock.time() + self._kept_seconds)
        is_first = client.subjects is not None and subject not in client.subjects
        # A day longer than needed, so that not every sign-in needs a write.
        if not client.used or is_first or client.expires_at < ends_at:
            await self.update(client.client_id, lambda known: _kept(known, subject, ends_at + DAY))
        if not client.used:
            self.unused.forget(client.client_id)

    async def delete(self, client_id: str) -> Client | None:
        """Delete a registration and return it, ``None`` if there was none. A metadata document is
        no longer kept.
        """
        if is_document_url(client_id) and self._documents is not None:
            await self._documents.drop(client_id)
        client = await self._table.take(hash_of(client_id))
        if client is None or self._has_ended(client):
            return None
        if client.origin == "registered" and not client.used:
            self.unused.forget(client_id)
        return client

    async def all(self) -> AsyncIterator[Client]:
        """Yield the configured clients, then those in the store."""
        for client in self._configured.values():
            yield client
        async for _, client in self._table.scan():
            if not self._has_ended(client):
                yield client

    def _has_ended(self, client: Client) -> bool:
        return client.expires_at is not None and self._clock.time() >= client.expires_at


def _kept(client: Client, subject: str, expires_at: int) -> Client:
    subjects = client.subjects
    if subjects is not None and subject not in subjects:
        subjects = [*subjects, subject] if len(subjects) < MAX_SUBJECTS else None
    return replace(client, expires_at=expires_at, used=True, subjects=subjects)


def _configured(clients: Sequence[Mapping[str, Any]], policy: MetadataPolicy) -> dict[str, Client]:
    known: dict[str, Client] = {}
    for position, settings in enumerate(clients):
        client_id, secret = settings.get("client_id"), settings.get("client_secret")
        where = f"clients[{position}] ({client_id!r})"
        if (
            not isinstance(client_id, str)
            or not client_id
            or not client_id.isprintable()
            or client_id in known
        ):
            raise ConfigurationError(
                f"{where} needs a client_id, a string that no other client has"
            )
        if "://" in client_id and not is_document_url(client_id):
            raise ConfigurationError(f"{where}: a client_id may be an https URL, but no other URL")
        if secret is not None and (not isinstance(secret, str) or len(secret) < MIN_SECRET_CHARS):
            raise ConfigurationError(
                f"{where}: client_secret must have at least {MIN_SECRET_CHARS} characters: "
                'python -c "import secrets; print(secrets.token_urlsafe(32))" makes one'
            )
        try:
            metadata = check_client_metadata(
                {"token_endpoint_auth_method": _default_method(settings), **settings}, policy
            )
        except (InvalidClientMetadata, InvalidRedirectURI) as error:
            raise ConfigurationError(f"{where}: {error}") from None
        if (metadata["token_endpoint_auth_method"] in SECRET_METHODS) != (secret is not None):
            raise ConfigurationError(
                f"{where}: client_secret does not match token_endpoint_auth_method"
            )
        known[client_id] = Client(
            client_id=client_id,
            metadata=metadata,
            origin="configured",
            secret_hash=None if secret is None else hash_of(secret),
        )
    return known


def _default_method(settings: Mapping[str, Any]) -> str:
    if "client_secret" in settings:
        return "client_secret_basic"
    return "private_key_jwt" if "jwks" in settings or "jwks_uri" in settings else "none"
