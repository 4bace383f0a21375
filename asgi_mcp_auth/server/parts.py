"""The parts that an authorization server is made of, according to its settings."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from urllib.parse import urlsplit

from .._http import PublicFetcher
from .._settings import check_kind, check_switch
from .._urls import check_redirect_schemes, is_loopback_host
from ..errors import ConfigurationError, InvalidTarget
from ..stores.encrypted import EncryptedStore
from ..types import Clock
from .audit import Audit
from .browser.cookies import Cookies
from .browser.forms import Forms
from .browser.sessions import Sessions
from .browser.transactions import Transactions
from .clients.authentication import ClientAuthenticator
from .clients.cimd import TIMEOUT_SECONDS, ClientDocuments
from .clients.kept import KeptDocuments
from .clients.keys import ClientKeys
from .clients.known import KNOWN_REDIRECT_URIS
from .clients.metadata import MetadataPolicy
from .clients.registry import Clients
from .grants.grant_type import Grants, GrantType
from .grants.scopes import ScopePolicy
from .limits import Limits
from .login import Login, LoginHost
from .login.networks import check_peer
from .options import Lifetimes, RateLimits, Registration, ServerOptions
from .pages import Pages
from .resources import Resource
from .tokens.access import GrantVerifier
from .tokens.signing import Signer, StaticSigningKeys, StoredSigningKeys
from .web import EndpointRequest, Parameters

JWKS_PATH = "/.well-known/jwks.json"
SWEEP_SECONDS = 60.0
SWEEP_RECORDS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of ``OAuthProvider``, checked one by one."""

    base_url: str
    login: Login
    required_scopes: Sequence[str]
    scopes_supported: Sequence[str]
    allow_dynamic_registration: bool
    allowed_redirect_schemes: Sequence[str]
    rate_limits: RateLimits | None
    lifetimes: Lifetimes
    registration: Registration
    pages: Pages
    options: ServerOptions

    def __post_init__(self) -> None:
        check_switch("allow_dynamic_registration", self.allow_dynamic_registration)
        for name, kind in (
            ("rate_limits", RateLimits),
            ("lifetimes", Lifetimes),
            ("registration", Registration),
            ("pages", Pages),
            ("options", ServerOptions),
        ):
            check_kind(name, getattr(self, name), kind)
        if not self.allow_dynamic_registration:
            self.registration.check_documents_decided("allow_dynamic_registration=False")


def check_login(login: object) -> Login:
    """Return the login step.

    Raises:
        ConfigurationError: it is missing, or something else.
    """
    if isinstance(login, Login):
        return login
    raise ConfigurationError(
        f"login={login!r} must say how people sign in: PasswordLogin({{'alice':"
        " hash_password('…')}) for a few accounts, AppLogin('https://…') if your application"
        " signs them in, DevLogin() on your own machine"
    )


class Sweeper:
    """Removes expired records now and then, after a response, because the server has no task of its
    own.

    Args:
        store: where the records are.
        login: may have something to tidy up, too.
        clock: decides when it is time.
    """

    def __init__(self, store: EncryptedStore, login: Login, clock: Clock) -> None:
        self._store = store
        self._login = login
        self._clock = clock
        self._due_at = clock.monotonic() + SWEEP_SECONDS

    async def sweep_if_due(self) -> None:
        """Remove some expired records if the last time was a minute ago."""
        now = self._clock.monotonic()
        if now < self._due_at:
            return
        self._due_at = now + SWEEP_SECONDS
        if await self._store.sweep(SWEEP_RECORDS) == SWEEP_RECORDS:
            self._due_at = now  # there are more
        else:
            await self._login.sweep()


class Parts:
    """The parts of an authorization server that are the same for every protected resource.

    Args:
        settings: the settings, each of them checked.
        store: keeps everything.
        grant_types: the grant types, some of which may be switched off.
        client_endpoints: the names of the endpoints that authenticate clients.

    Raises:
        ConfigurationError: settings contradict each other.
    """

    def __init__(
        self,
        settings: Settings,
        store: EncryptedStore,
        grant_types: Sequence[GrantType],
        client_endpoints: Sequence[str],
    ) -> None:
        options, lifetimes = settings.options, settings.lifetimes
        self.issuer = settings.base_url
        self.settings = settings
        self.store = store
        closed = () if settings.allow_dynamic_registration else ("register",)
        self._switched_off = frozenset((*options.disabled, *closed))
        self.known_grant_types = tuple(grant_types)
        self.grant_types = {each.name: each for each in grant_types if self.has(each.switch)}
        self.clock = options.clock
        self.lifetimes = lifetimes
        self.audit = Audit(options.on_event)
        self.limits = Limits(store, self.clock, settings.rate_limits)
        self.scopes = ScopePolicy(
            settings.required_scopes,
            settings.scopes_supported,
            options.scope_hierarchy,
            options.grant_scopes,
        )
        self._is_on_loopback = is_loopback_host(urlsplit(self.issuer).hostname)
        self.has_documents = settings.registration.has_documents(on_loopback=self._is_on_loopback)
        self.clients = self._clients()
        self.grants = Grants(
            store,
            self.clock,
            lifetimes,
            self.scopes,
            self.audit,
            store.derive("refresh tokens"),
            settings.login,
            rotate_confidential=options.rotate_confidential,
        )
        self.signer = self._signer()
        self.verifier = GrantVerifier(
            issuer=self.issuer,
            signer=self.signer,
            grants=self.grants.ledger,
            required_scopes=settings.required_scopes,
            scope_hierarchy=options.scope_hierarchy,
            clock=self.clock,
        )
        self.forms = Forms(self.issuer, store.derive("forms"))
        self.authenticator = self._authenticator(client_endpoints)
        host = urlsplit(self.issuer).netloc
        self.pages = replace(settings.pages, title=settings.pages.title or host)
        self.login = settings.login
        self.sweeper = Sweeper(store, self.login, self.clock)
        self.login.bind(
            LoginHost(self.issuer, self.url("login"), store, self.limits, self.clock, lifetimes)
        )

    def _signer(self) -> Signer:
        options = self.settings.options
        if options.signing_keys:
            return StaticSigningKeys(options.signing_keys)
        return StoredSigningKeys(self.store, self.clock, options, self.lifetimes, self.audit)

    def _authenticator(self, endpoints: Sequence[str]) -> ClientAuthenticator:
        # RFC 9126 §2 wants the endpoint's own URL accepted, too.
        audiences = (self.issuer, f"{self.issuer}/", *map(self.url, endpoints))
        keys = ClientKeys(self._fetcher(), self.clock, self.limits)
        return ClientAuthenticator(
            self.clients, self.store, self.clock, audiences, keys, self.limits
        )

    def _fetcher(self) -> PublicFetcher:
        # One for each use, so that slow key sets do not delay the fetching of documents.
        registration = self.settings.registration
        return PublicFetcher(
            timeout_seconds=TIMEOUT_SECONDS,
            allow_loopback=registration.development_documents,
            ca_file=registration.development_ca_file,
            proxy=registration.document_proxy,
        )

    def _clients(self) -> Clients:
        settings, registration = self.settings, self.settings.registration
        if registration.development_documents and not self._is_on_loopback:
            raise ConfigurationError(
                "development_documents=True is for a base_url on loopback only: leave it out"
            )
        enabled = tuple(self.grant_types.values())
        policy = MetadataPolicy(
            scopes=self.scopes.names,
            grant_types=tuple(each for each in enabled if each.self_registration),
            redirect_schemes=check_redirect_schemes(
                "allowed_redirect_schemes", settings.allowed_redirect_schemes
            ),
            redirect_uris=frozenset(
                KNOWN_REDIRECT_URIS if registration.known_redirect_uris else ()
            ),
        )
        documents = ClientDocuments(
            replace(policy, auth_methods=("none", "private_key_jwt"), default_auth_method="none"),
            self._fetcher(),
            self.clock,
            self.limits,
            (self.issuer, settings.options.resource_base_url or self.issuer),
            registration,
            KeptDocuments(self.store, self.clock, self.lifetimes),
        )
        return Clients(
            self.store,
            self.clock,
            registration,
            policy,
            replace(policy, grant_types=enabled, strict=True),
            [each.name for each in self.known_grant_types if each.acts_for_itself],
            self.lifetimes,
            documents if self.has_documents else None,
        )

    def path(self, endpoint: str) -> str:
        """Return the path of an endpoint below ``base_url``."""
        return f"{self.settings.options.path_prefix}/{endpoint}"

    def url(self, endpoint: str) -> str:
        """Return the absolute URL of an endpoint."""
        return self.issuer + self.path(endpoint)

    def has(self, switch: str | None) -> bool:
        """Return whether an optional part is switched on; ``None`` stands for a part that is not
        optional.
        """
        return switch not in self._switched_off

    def check_peer(self, request: EndpointRequest) -> None:
        """Check that a request comes from this machine, if a setting is for development on it.

        Raises:
            ForbiddenForm: it comes from elsewhere.
        """
        hint = self.login.for_development
        if self.settings.registration.development_documents:
            hint = hint or "Registration(development_documents=False)"
        if hint:
            check_peer(request.address, self.login.networks, hint)


class Server(Parts):
    """The parts, together with those that depend on the protected resource.

    Args:
        parts: shared with the servers of other resources.
        resource: the protected resource.
    """

    def __init__(self, parts: Parts, resource: Resource) -> None:
        vars(self).update(vars(parts))
        self.resource = resource
        # Another server may have the same URL and the same store: a user who is signed in there is
        # not signed in here. All workers of one server have the same tag.
        identity = (
            self.issuer,
            self.settings.options.path_prefix,
            resource.identifier,
            type(self.login).__qualname__,
            self.login.provider_host or "",
        )
        tag = sha256(json.dumps(identity).encode()).hexdigest()
        self.cookies = Cookies(self.issuer, tag)
        self.sessions = Sessions(self.store, self.clock, self.lifetimes, self.cookies, tag)
        self.transactions = Transactions(
            self.store, self.clock, self.lifetimes, self.cookies, tag, self.limits
        )

    def check_resources(self, parameters: Parameters) -> Resource:
        """Return the resource that a request names; one that names none means this one.

        Raises:
            InvalidTarget: it names another one (RFC 8707 §2).
        """
        if not all(map(self.resource.is_named_by, parameters.all("resource"))):
            raise InvalidTarget(f"The resource here is {self.resource.identifier}")
        return self.resource
