"""The less common settings of an authorization server, in groups; and calls of its hooks."""

from __future__ import annotations

import inspect
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final, Literal, TypeAlias, get_args

from asgiref.sync import sync_to_async

from .._settings import (
    check_count,
    check_hook,
    check_kind,
    check_list,
    check_path,
    check_proxy,
    check_scopes,
    check_seconds,
    check_switch,
    check_url,
)
from ..errors import ConfigurationError, OAuthError, ServerUnavailable
from ..types import Clock, JSONObject
from .audit import EventHook
from .parties import Client, Person

logger = logging.getLogger(__name__)

DAY: Final = 86_400
MIN_UNUSED_BYTES: Final = 2**18
MIN_UNFINISHED_BYTES: Final = 2**14

SigningAlgorithm: TypeAlias = Literal["ES256", "RS256", "EdDSA"]
ScopeHook: TypeAlias = Callable[
    [Person, Client, list[str]], Sequence[str] | Awaitable[Sequence[str]]
]
RegistrationHook: TypeAlias = Callable[[JSONObject], bool | Awaitable[bool]]
TrustHook: TypeAlias = Callable[[str], bool | Awaitable[bool]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifetimes:
    """Lifetimes of tokens, codes, sessions and consents.

    Args:
        access_token_seconds: lifetime of an access token, at most 86,400.
        code_seconds: lifetime of an authorization code, at most 600 (RFC 6749 §4.1.2).
        refresh_token_seconds: lifetime of a grant; refreshing does not extend it.
        refresh_idle_seconds: lifetime of an unused refresh token.
        session_seconds: the longest time that users stay signed in.
        session_idle_seconds: the same without activity.
        transaction_seconds: time to sign in and consent.
        pushed_request_seconds: lifetime of a pushed authorization request, 5 to 600 (RFC 9126
            §2.2).
        consent_seconds: how long a consent is remembered, if it may be; 0 asks every time.
        code_leeway_seconds: how long a client may repeat a code that it has used, without ending
            the grant.
        refresh_leeway_seconds: how long the previous refresh token returns the same new one again,
            at most 300.
        revocation_lag_seconds: how long another process may still accept tokens of a revoked
            grant.

    Raises:
        ConfigurationError: a number is out of bounds.
    """

    access_token_seconds: float = 3600
    code_seconds: float = 60
    refresh_token_seconds: float = 30 * DAY
    refresh_idle_seconds: float = 14 * DAY
    session_seconds: float = DAY / 2
    session_idle_seconds: float = 3600
    transaction_seconds: float = 600
    pushed_request_seconds: float = 60
    consent_seconds: float = 30 * DAY
    code_leeway_seconds: float = 2
    refresh_leeway_seconds: float = 300
    revocation_lag_seconds: float = 5

    def __post_init__(self) -> None:
        bounds = {
            "access_token_seconds": (1, DAY),
            "code_seconds": (1, 600),
            "transaction_seconds": (10, 3600),
            "pushed_request_seconds": (5, 600),
            "consent_seconds": (0, 400 * DAY),
            "code_leeway_seconds": (0, 30),
            "refresh_leeway_seconds": (0, 300),
            "revocation_lag_seconds": (0, 300),
        }
        for each in fields(self):
            minimum, maximum = bounds.get(each.name, (1, 3650 * DAY))
            check_seconds(each.name, getattr(self, each.name), minimum=minimum, maximum=maximum)


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimits:
    """Limits for one address, which is that of ``scope["client"]``.

    Args:
        register: registrations per minute, and fetches of new metadata documents and key sets of
            clients.
        authorize: requests per minute to ``/authorize`` and the pages.
        token: requests per minute to ``/token``, ``/revoke``, ``/introspect`` and ``/par``.
        passwords: submitted passwords per minute for all accounts, right or wrong, checked or not.
        login_failures: wrong passwords in ten minutes for one account.
        unfinished_bytes: bytes that one worker keeps in the store for unfinished sign-ins from all
            addresses together. One network may use a quarter, and less once half is in use.
            Counters and client assertions may use the same amount again.

    Raises:
        ConfigurationError: a limit is not a whole number of at least 1, or ``unfinished_bytes`` is
            below 16 KiB.
    """

    register: int = 60
    authorize: int = 300
    token: int = 600
    passwords: int = 60
    login_failures: int = 10
    unfinished_bytes: int = 8 * 1024 * 1024

    def __post_init__(self) -> None:
        for each in fields(self):
            if check_count(each.name, getattr(self, each.name)) == 0:
                raise ConfigurationError(
                    f"{each.name}=0 would refuse all requests: write rate_limits=None for no limits"
                )
        if self.unfinished_bytes < MIN_UNFINISHED_BYTES:
            raise ConfigurationError(
                f"unfinished_bytes={self.unfinished_bytes} is too small for one sign-in: write at"
                f" least {MIN_UNFINISHED_BYTES}, or leave it out"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentFetching:
    """How metadata documents and key sets of clients are fetched. Part of ``Registration``.

    Args:
        document_proxy: the URL of an HTTP proxy, in a network that has no other way out. Which
            addresses may be reached is then up to it.
        development_documents: whether documents may be hosted on this machine; for development,
            with a loopback ``base_url``.
        development_ca_file: a PEM file with the certificate authorities of such documents.

    Raises:
        ConfigurationError: a setting is invalid.
    """

    document_proxy: str | None = field(default=None, repr=False)
    development_documents: bool = False
    development_ca_file: str | None = None

    def __post_init__(self) -> None:
        check_proxy("document_proxy", self.document_proxy)
        check_switch("development_documents", self.development_documents)
        check_kind("development_ca_file", self.development_ca_file, str)
        if self.development_ca_file is not None and not self.development_documents:
            raise ConfigurationError("development_ca_file needs development_documents=True")


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration(DocumentFetching):
    """Which clients there are, and how others may register.

    Args:
        clients: clients of your own: their metadata with the names of RFC 7591 §2, ``client_id``,
            and ``client_secret`` for a confidential one.
        initial_access_token: a token required to register (RFC 7591 §3); ``None`` lets any client
            register.
        approve: a function that returns whether to accept a client. Called with the metadata of a
            registration, or of a metadata document (with its ``client_id``).
        unused_seconds: lifetime of a registration without a sign-in.
        unused_bytes: size of all registrations without a sign-in; each counts as at least 1 KiB.
        unused_bytes_each: the same for one network. The oldest of the busiest network are removed
            first.
        client_seconds: lifetime of a registration after the last sign-in.
        known_redirect_uris: whether well-known clients may register their redirect URIs with a
            private-use scheme, such as Cursor's. For others, see ``allowed_redirect_schemes``.
        management: whether clients may read, change and delete their registration (RFC 7592).
        metadata_documents: whether a client id may be the URL of a client metadata document;
            ``None`` means yes, but on a loopback ``base_url`` only if another setting is about
            documents. Required if registration is closed or ``initial_access_token`` is set.
        trust_document: a function that returns whether to trust such a URL. Called when it is used,
            at most once a minute.

    Raises:
        ConfigurationError: a setting is invalid.
    """

    clients: Sequence[Mapping[str, Any]] = field(default=(), repr=False)
    initial_access_token: str | None = field(default=None, repr=False)
    approve: RegistrationHook | None = None
    unused_seconds: float = DAY
    unused_bytes: int = 4 * 2**20
    unused_bytes_each: int = 2**19
    client_seconds: float = 90 * DAY
    known_redirect_uris: bool = True
    management: bool = True
    metadata_documents: bool | None = None
    trust_document: TrustHook | None = None

    def __post_init__(self) -> None:
        DocumentFetching.__post_init__(self)  # slots: super() would find another class
        check_list("clients", self.clients, Mapping, "[{'client_id': …, 'redirect_uris': […]}]")
        token = self.initial_access_token
        if token is not None and (not isinstance(token, str) or len(token) < 32):
            raise ConfigurationError(
                "initial_access_token must have at least 32 characters: "
                'python -c "import secrets; print(secrets.token_urlsafe(32))" makes one'
            )
        check_hook("approve", self.approve)
        check_hook("trust_document", self.trust_document)
        check_seconds("unused_seconds", self.unused_seconds, minimum=60)
        check_seconds("client_seconds", self.client_seconds, minimum=60)
        if check_count("unused_bytes_each", self.unused_bytes_each) < MIN_UNUSED_BYTES:
            raise ConfigurationError(
                f"unused_bytes_each={self.unused_bytes_each} must be at least {MIN_UNUSED_BYTES}"
            )
        if check_count("unused_bytes", self.unused_bytes) < self.unused_bytes_each:
            raise ConfigurationError(
                f"unused_bytes={self.unused_bytes} must be at least"
                f" unused_bytes_each={self.unused_bytes_each}"
            )
        for name in ("known_redirect_uris", "management"):
            check_switch(name, getattr(self, name))
        if self.metadata_documents is not None:
            check_switch("metadata_documents", self.metadata_documents)
        if token is not None:
            self.check_documents_decided("initial_access_token")

    def has_documents(self, *, on_loopback: bool) -> bool:
        """Return whether a client id may be the URL of a client metadata document.

        Args:
            on_loopback: whether the server is for this machine, which may be offline. Clients
                register there, too, if documents are not offered.
        """
        if self.metadata_documents is not None:
            return self.metadata_documents
        is_asked_for = self.trust_document or self.document_proxy or self.development_documents
        return bool(is_asked_for) or not on_loopback

    def check_documents_decided(self, closed_by: str) -> None:
        """Check that a closed registration decides about metadata documents, too.

        Args:
            closed_by: the setting that closes it.

        Raises:
            ConfigurationError: no setting decides about them.
        """
        if self.metadata_documents is None and self.trust_document is None:
            raise ConfigurationError(
                f"{closed_by} keeps unknown clients from registering, but not from using a metadata"
                " document: write Registration(metadata_documents=False) to refuse documents too,"
                " or metadata_documents=True to accept them (all, or those that trust_document"
                " approves)"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """Settings that few deployments change.

    Args:
        path_prefix: a prefix for the endpoints' paths, such as ``/oauth``.
        resource_base_url: the base URL of the protected resource, if it is not ``base_url``.
        signing_algorithm: signs access tokens.
        signing_keys: PEM private keys of your own, the signing one first. By default, keys are
            generated, kept in the store and rotated.
        key_rotation_seconds: age at which a generated key is replaced.
        rotate_confidential: whether to rotate refresh tokens of confidential clients, too.
        scope_hierarchy: scopes with the scopes that they include.
        grant_scopes: a function that returns the scopes which a user may grant. Called with the
            person, the client and the requested scopes, or the granted ones at a refresh.
        disabled: parts to switch off: ``revoke``, ``introspect``, ``par``, ``applications``,
            ``client_credentials``.
        require_pushed_requests: whether ``/authorize`` accepts pushed requests only (RFC 9126 §5).
        on_event: called with each ``AuditEvent``; must neither block nor raise.
        clock: for tests.

    Raises:
        ConfigurationError: a setting is invalid.
    """

    path_prefix: str = ""
    resource_base_url: str | None = None
    signing_algorithm: SigningAlgorithm = "ES256"
    signing_keys: Sequence[str] = field(default=(), repr=False)
    key_rotation_seconds: float = 90 * DAY
    rotate_confidential: bool = True
    scope_hierarchy: Mapping[str, Sequence[str]] | None = None
    grant_scopes: ScopeHook | None = None
    disabled: Sequence[str] = ()
    require_pushed_requests: bool = False
    on_event: EventHook | None = None
    clock: Clock = time

    def __post_init__(self) -> None:
        if self.path_prefix != "":
            check_path("path_prefix", self.path_prefix, in_url=True)
            if self.path_prefix.endswith("/"):
                raise ConfigurationError(
                    f"path_prefix={self.path_prefix!r} must not end in a slash"
                )
        if self.resource_base_url is not None:
            check_url("resource_base_url", self.resource_base_url)
        if self.signing_algorithm not in get_args(SigningAlgorithm):
            raise ConfigurationError(
                f"signing_algorithm={self.signing_algorithm!r} must be one of"
                f" {', '.join(get_args(SigningAlgorithm))}"
            )
        check_list("signing_keys", self.signing_keys, str, "[open('key.pem').read()]")
        check_seconds("key_rotation_seconds", self.key_rotation_seconds, minimum=2 * DAY)
        for name in ("rotate_confidential", "require_pushed_requests"):
            check_switch(name, getattr(self, name))
        check_list("disabled", self.disabled, str, "['par']")
        if self.require_pushed_requests and "par" in self.disabled:
            raise ConfigurationError(
                "require_pushed_requests=True needs the endpoint that disabled=['par'] removes"
            )
        check_kind("scope_hierarchy", self.scope_hierarchy, Mapping)
        for scope, implied in (self.scope_hierarchy or {}).items():
            check_scopes("scope_hierarchy", (scope, *check_scopes("scope_hierarchy", implied)))
        check_hook("grant_scopes", self.grant_scopes)
        check_hook("on_event", self.on_event)
        if not isinstance(self.clock, Clock):
            raise ConfigurationError(
                f"clock={self.clock!r} must have time() and monotonic(), like the module time"
            )


async def ask_hook(setting: str, hook: Callable[..., Any], *arguments: object) -> Any:
    """Return the decision of an operator's function.

    Raises:
        ServerUnavailable: it has failed. That decides nothing, so the client may try again.
        OAuthError: the function has raised it.
    """
    try:
        return await call_hook(hook, *arguments)
    except Exception as error:  # the operator's code may raise anything
        if isinstance(error, ServerUnavailable | OAuthError):
            raise
        logger.warning(
            "%s raised %s: no decision, the client may try again",
            setting,
            type(error).__name__,
            exc_info=error,
        )
        raise ServerUnavailable from error


async def call_hook(hook: Callable[..., Any], *arguments: object) -> Any:
    """Call an operator's function, in a thread if it is not asynchronous."""
    if inspect.iscoroutinefunction(hook):
        return await hook(*arguments)
    result = await sync_to_async(hook, thread_sensitive=False)(*arguments)
    return await result if inspect.isawaitable(result) else result
