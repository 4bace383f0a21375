"""An OAuth 2.1 authorization server for one protected resource."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, ClassVar, Literal
from urllib.parse import urlsplit

from .._asgi import Route
from .._settings import check_scopes, check_url
from .._urls import is_loopback_host, url_path
from ..auth import RemoteAuthProvider
from ..errors import ConfigurationError, ServerUnavailable
from ..stores import Store, store_from_url
from ..stores.encrypted import EncryptedStore
from . import endpoints
from .admin import Admin
from .audit import AuditEvent
from .grants import GRANT_TYPES
from .grants.grant_type import GrantType
from .grants.records import Grant
from .login import (
    AppLogin,
    DevLogin,
    Login,
    LoginAttempt,
    LoginForm,
    LoginRedirect,
    LoginRefusal,
)
from .login.hashing import hash_password
from .login.password import PasswordLogin
from .options import Lifetimes, RateLimits, Registration, ServerOptions
from .pages import Pages
from .pages.models import (
    Application,
    ApplicationsPage,
    ConsentPage,
    Field,
    LoginPage,
    MessagePage,
    Page,
)
from .parties import Client, Person
from .parts import Parts, Server, Settings, check_login
from .resources import Resource

__all__ = [
    "Admin",
    "AppLogin",
    "Application",
    "ApplicationsPage",
    "AuditEvent",
    "Client",
    "ConsentPage",
    "DevLogin",
    "Field",
    "Grant",
    "Lifetimes",
    "Login",
    "LoginAttempt",
    "LoginForm",
    "LoginPage",
    "LoginRedirect",
    "LoginRefusal",
    "MessagePage",
    "OAuthProvider",
    "Page",
    "Pages",
    "PasswordLogin",
    "Person",
    "RateLimits",
    "Registration",
    "ServerOptions",
    "hash_password",
]

if TYPE_CHECKING:
    ErrorPage = MessagePage
else:

    def __getattr__(name: str) -> object:
        if name != "ErrorPage":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        warnings.warn(
            "asgi_mcp_auth.server.ErrorPage is deprecated: its name is MessagePage",
            DeprecationWarning,
            stacklevel=2,
        )
        return MessagePage


class OAuthProvider(RemoteAuthProvider):
    """Protects a resource, and is the authorization server that issues the tokens for it.

    Args:
        base_url: public URL of this server, without the MCP path; it is the issuer.
        login: how people sign in: ``PasswordLogin``, ``AppLogin``, ``DevLogin`` or a ``Login`` of
            your own. It is required.
        store: a URL for ``store_from_url``, or the store that it returns.
        required_scopes: scopes every request needs. Also granted to a client that asks for none.
        scopes_supported: every scope this server knows; defaults to ``required_scopes``. Those of
            ``challenge_scopes``, and of the middleware and its rules, are added.
        challenge_scopes: scopes that clients should request up front, even if not every operation
            needs them: many never ask for more later.
        allow_dynamic_registration: whether clients may register themselves (RFC 7591).
        allowed_redirect_schemes: private-use schemes of redirect URIs, ``cursor`` for example.
        rate_limits: ``None`` for no limits; by default those of ``RateLimits()``, and none on
            loopback.
        lifetimes: of tokens, codes, sessions and registrations.
        registration: your own clients, and how others register.
        pages: how the pages look.
        options: settings that few deployments change.

    Raises:
        ConfigurationError: a setting is missing, wrong, or contradicts another.

    OAuth 2.1; RFC 8414; MCP 2026-07-28, Authorization.
    """

    _grant_types: ClassVar[Sequence[GrantType]] = GRANT_TYPES

    def __init__(
        self,
        *,
        base_url: str,
        login: Login | None = None,
        store: str | EncryptedStore = "sqlite:///auth.db",
        required_scopes: Sequence[str] | None = None,
        scopes_supported: Sequence[str] | None = None,
        challenge_scopes: Sequence[str] | None = None,
        allow_dynamic_registration: bool = True,
        allowed_redirect_schemes: Sequence[str] = (),
        rate_limits: RateLimits | Literal["default"] | None = "default",
        lifetimes: Lifetimes | None = None,
        registration: Registration | None = None,
        pages: Pages | None = None,
        options: ServerOptions | None = None,
    ) -> None:
        issuer = check_url("base_url", base_url).removesuffix("/")
        challenged = check_scopes("challenge_scopes", challenge_scopes or ())
        settings = Settings(
            base_url=issuer,
            login=check_login(login),
            required_scopes=check_scopes("required_scopes", required_scopes or ()),
            scopes_supported=check_scopes(
                "scopes_supported", scopes_supported or required_scopes or ()
            ),
            allow_dynamic_registration=allow_dynamic_registration,
            allowed_redirect_schemes=allowed_redirect_schemes,
            rate_limits=_default_limits(issuer) if rate_limits == "default" else rate_limits,
            lifetimes=lifetimes or Lifetimes(),
            registration=registration or Registration(),
            pages=pages or Pages(),
            options=options or ServerOptions(),
        )
        # Several servers may use the same store, be it only because of the default: none of them
        # sees the records of another.
        self.store = _encrypted(store, settings.options).scoped_to(issuer)
        self._parts = Parts(settings, self.store, self._grant_types, endpoints.CLIENT_ENDPOINTS)
        endpoints.check_settings(self._parts)
        self._parts.scopes.add(challenged)
        super().__init__(
            self._parts.verifier,
            [issuer],
            issuer,
            resource_base_url=settings.options.resource_base_url,
            challenge_scopes=challenged,
        )
        self.admin = Admin(self._parts)

    def bind_audience(self, resource: str | None) -> None:
        """Issue and accept tokens for ``resource``."""
        super().bind_audience(resource)
        self._server = Server(self._parts, Resource(resource or ""))

    def add_scopes(self, scopes: Sequence[str]) -> None:
        """Let clients ask for scopes that a middleware requires."""
        self._parts.scopes.add(scopes)

    @property
    def scopes_supported(self) -> list[str]:
        """Scopes that clients may ask for, including those that middlewares require."""
        return list(self._parts.scopes.supported)

    def _routes(self) -> list[Route]:
        own = endpoints.routes(self._server)
        if self.mcp_path in {path for path, _ in own}:
            raise ConfigurationError(
                f"mcp_path={self.mcp_path!r} is an endpoint of this server: use another path, or"
                " move the endpoints with options=ServerOptions(path_prefix='/oauth')"
            )
        # Below the path of base_url too, for an app that is mounted at the root of the host.
        prefix = url_path(self._server.issuer)
        below = [
            Route(prefix + path, app)
            for path, app in own
            if prefix and not path.startswith(prefix + "/")
        ]
        return [*super()._routes(), *own, *below]

    async def start(self) -> None:
        """Open the store and the login step."""
        await self.store.open()
        await self._parts.login.start()
        await self.token_verifier.__aenter__()

    async def stop(self) -> None:
        """Close the store and the login step."""
        await self.token_verifier.__aexit__(None, None, None)
        await self._parts.login.stop()
        # Unused registrations that are not in the index yet: if they are lost, they still expire.
        with suppress(ServerUnavailable):
            await self._parts.clients.unused.make_room(at_once=True)
        await self.store.aclose()


def _default_limits(issuer: str) -> RateLimits | None:
    return None if is_loopback_host(urlsplit(issuer).hostname) else RateLimits()


def _encrypted(store: object, options: ServerOptions) -> EncryptedStore:
    if isinstance(store, str):
        return store_from_url(store, clock=options.clock)
    if isinstance(store, EncryptedStore):
        return store
    if isinstance(store, Store):
        raise ConfigurationError(
            f"store={store!r} would keep secrets in the clear: write EncryptedStore(store,"
            " keys=[…])"
        )
    raise ConfigurationError(
        f"store={store!r} must be a URL, like 'sqlite:///auth.db', or what store_from_url() returns"
    )
