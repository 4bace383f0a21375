"""Providers: they verify tokens for the middleware and advertise the issuers of tokens."""

from __future__ import annotations

import asyncio
import functools
import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote
from weakref import WeakKeyDictionary

from . import _interop
from ._asgi import Route, running_loop
from ._cache import token_id
from ._cors import PublicDocument
from ._settings import check_kind, check_path, check_scopes, check_switch, check_url
from ._urls import WELL_KNOWN_RESOURCE, other_slash, resource_url, well_known_path, well_known_url
from .discovery import IssuerDocuments
from .errors import ConfigurationError, InvalidToken
from .issuers import IssuerCheck
from .metadata import advertised_scopes, format_document, protected_resource_metadata
from .middleware import MCPAuthMiddleware
from .mounting import with_root_documents
from .tokens import AccessToken, TokenCache, current_verification

logger = logging.getLogger(__name__)


class AuthProvider(ABC):
    """Verifies tokens for ``MCPAuthMiddleware``, and knows what to tell a caller without one.

    Args:
        base_url: public URL of this server, without the MCP path. All URLs that clients see are
            built from it, never from a request.
        required_scopes: scopes that every request needs; the middleware checks them.
        resource_base_url: where the protected resource lives, if not at ``base_url``.

    Raises:
        ConfigurationError: a URL is not https (http on loopback), or a scope is malformed.
    """

    #: Issuers whose JWTs a ``MultiAuth`` sends to this provider.
    issuers: tuple[str, ...] = ()
    #: Whether a ``MultiAuth`` sends tokens without a known issuer to it.
    takes_opaque_tokens: bool = True
    #: Whether its tokens have an audience.
    has_audience: bool = True
    #: The metadata that it fetches for its own needs, by issuer.
    issuer_documents: Mapping[str, IssuerDocuments] = MappingProxyType({})

    def __init__(
        self,
        base_url: str | None = None,
        required_scopes: Sequence[str] | None = None,
        resource_base_url: str | None = None,
    ) -> None:
        self.base_url = (
            None if base_url is None else check_url("base_url", base_url).removesuffix("/")
        )
        self.required_scopes = list(check_scopes("required_scopes", required_scopes or ()))
        self.resource_base_url = (
            None
            if resource_base_url is None
            else check_url("resource_base_url", resource_base_url).removesuffix("/")
        )
        self.mcp_path: str | None = None
        #: Whether the host of a mounted app has asked for the routes of the documents.
        self.host_serves_documents = False
        self._openings: WeakKeyDictionary[asyncio.AbstractEventLoop, int] = WeakKeyDictionary()

    @abstractmethod
    async def verify_token(self, token: str) -> AccessToken | None:
        """Return the verified token, ``None`` if it is invalid. Scopes are not checked.

        Raises:
            ServerUnavailable: the token cannot be verified at the moment.
        """

    def token_cache(self) -> TokenCache | None:
        """Return the function that looks up tokens accepted before, ``None`` without a cache.

        It must return only tokens that ``verify_token`` would accept now. A subclass that overrides
        verification must be asked every time: a cached verdict of its base class does not count.
        """
        return None

    @property
    def scopes_supported(self) -> list[str]:
        """Scopes advertised in the metadata document."""
        return self.required_scopes

    @property
    def challenge_scopes(self) -> list[str]:
        """Scopes that a challenge asks clients to request."""
        return self.get_challenge_scopes()

    def get_challenge_scopes(self, required_scopes: Sequence[str] | None = None) -> list[str]:
        """Return the scopes of a challenge; ``required_scopes`` defaults to the provider's own."""
        return advertised_scopes(
            self.required_scopes if required_scopes is None else required_scopes
        )

    def add_scopes(self, scopes: Sequence[str]) -> None:  # noqa: B027  # optional
        """Let clients ask for scopes that a middleware requires, if this provider issues tokens."""

    @property
    def resource(self) -> str | None:
        """The identifier of the protected resource (RFC 8707), once the path is known."""
        return self._get_resource_url(self.mcp_path)

    @property
    def resource_metadata_url(self) -> str | None:
        """Absolute URL of the metadata document, ``None`` without one (RFC 9728 §3.1)."""
        return None

    def set_mcp_path(self, mcp_path: str | None) -> None:
        """Set the path of the protected resource below ``base_url``, and with it the audience.

        Args:
            mcp_path: ``None`` keeps the current path; without one it means ``base_url`` itself, as
                ``/`` does.

        Raises:
            ConfigurationError: another path was set before, or the audience stays unknown.
        """
        path = None
        if mcp_path is not None:
            path = "" if mcp_path == "/" else check_path("mcp_path", mcp_path, in_url=True)
        if self.mcp_path is None:
            self.mcp_path = path or ""
            if path and (self.base_url or "").endswith(path):
                logger.warning(
                    "base_url already ends in %s, so that the resource is %s: mcp_path is appended"
                    " to it. If that is not its URL, leave %s out of base_url",
                    path,
                    self.resource,
                    path,
                )
            logger.debug("Tokens need the audience %s, unless audience= is set", self.resource)
        elif path not in (None, self.mcp_path):
            raise ConfigurationError(
                f"mcp_path={mcp_path!r}, but this provider already protects"
                f" {self.mcp_path or '/'!r}: create a provider for each"
            )
        self.bind_audience(self.resource)

    def bind_audience(self, resource: str | None) -> None:  # noqa: B027  # optional
        """Accept tokens issued for ``resource``; does nothing if tokens have no audience.

        Raises:
            ConfigurationError: no audience is known, or another one is bound.
        """

    def get_routes(self, mcp_path: str | None = None) -> list[Any]:
        """Return the routes that this provider serves, for the root of the host application.

        They are Starlette routes if Starlette is loaded, else objects with ``path`` and ``app``.

        Args:
            mcp_path: path of the protected resource below ``base_url``.

        Raises:
            ConfigurationError: see ``set_mcp_path``.
        """
        _interop.register_with_fastmcp(AuthProvider)
        self.set_mcp_path(mcp_path)
        # Request paths are decoded, so these have to be, too.
        return _interop.as_routes([Route(unquote(path), app) for path, app in self._routes()])

    def get_well_known_routes(
        self, mcp_path: str | None = None, *, at_root: bool = False
    ) -> list[Any]:
        """Return the routes of ``get_routes`` below ``/.well-known/``.

        Args:
            mcp_path: path of the protected resource below ``base_url``.
            at_root: whether the documents are also served without a path, where some clients look
                for nothing else. Only one app on a host can have them there.

        Raises:
            ConfigurationError: see ``set_mcp_path``.
        """
        check_switch("at_root", at_root)
        self.host_serves_documents = True
        table = {route.path: route.app for route in self.get_routes(mcp_path)}
        if at_root:
            table = with_root_documents(table)
        return _interop.as_routes(
            [Route(*each) for each in table.items() if each[0].startswith("/.well-known/")]
        )

    def get_middleware(self) -> list[Any]:
        """Return this provider's middleware in the form of Starlette's ``middleware=``."""
        _interop.register_with_fastmcp(AuthProvider)
        return [_interop.as_middleware(MCPAuthMiddleware, provider=self)]

    def _routes(self) -> list[Route]:
        return []

    def _get_resource_url(self, path: str | None = None) -> str | None:
        # FastMCP's name: it advertises a metadata document if this returns a URL.
        base = self.resource_base_url or self.base_url
        return None if base is None else resource_url(base, path)

    async def start(self) -> None:  # noqa: B027  # optional
        """Prepare for requests. Called once per event loop, even for several middlewares."""

    async def stop(self) -> None:  # noqa: B027  # optional
        """Close connections."""

    async def __aenter__(self) -> AuthProvider:
        loop = running_loop()
        self._openings[loop] = self._openings.get(loop, 0) + 1
        if self._openings[loop] == 1:
            await self.start()
        return self

    async def __aexit__(self, exc_type: Any, exc: Any, traceback: Any) -> None:
        loop = asyncio.get_running_loop()
        self._openings[loop] = self._openings.get(loop, 0) - 1
        if self._openings[loop] == 0:
            await self.stop()


class TokenVerifier(AuthProvider):
    """A provider that only verifies tokens and serves no metadata. Subclass it and write
    ``verify_token``.
    """


class RefusingVerifier(TokenVerifier):
    """A verifier that gives a reason for each refusal."""

    @abstractmethod
    async def verify(self, token: str) -> AccessToken:
        """Return the verified token.

        Raises:
            InvalidToken: the token is invalid, for its ``reason``.
            ServerUnavailable: the token cannot be verified at the moment.
        """

    async def verify_token(self, token: str) -> AccessToken | None:
        """Return the verified token, ``None`` if it is invalid. Scopes are not checked.

        The middleware reports the reason of a refusal; without a middleware it is logged here.

        Raises:
            ServerUnavailable: the token cannot be verified at the moment.
            ConfigurationError: the audience is not known.
        """
        try:
            return await self.verify(token)
        except InvalidToken as refusal:
            verification = current_verification.get()
            if verification is not None:
                verification.reason = refusal.reason
            else:
                extra = {"reason": refusal.reason, "token_id": token_id(token)}
                logger.info("Token %s refused: %s", extra["token_id"], refusal.reason, extra=extra)
            return None


class RemoteAuthProvider(AuthProvider):
    """Protects a resource with tokens of external authorization servers, and advertises them (RFC
    9728).

    Args:
        token_verifier: verifies their tokens.
        authorization_servers: their issuer identifiers, exactly as in their own metadata.
        base_url: public URL of this server, without the MCP path.
        scopes_supported: scopes to advertise; defaults to the required ones.
        resource_base_url: where the protected resource lives, if not at ``base_url``.
        resource_name: for users.
        resource_documentation: a URL, for users.
        challenge_scopes: scopes that clients should request up front, even if not every operation
            needs them.

    Raises:
        ConfigurationError: a setting is wrong, or the audience is not known.
    """

    def __init__(
        self,
        token_verifier: AuthProvider,
        authorization_servers: Sequence[str],
        base_url: str,
        scopes_supported: Sequence[str] | None = None,
        resource_base_url: str | None = None,
        resource_name: str | None = None,
        resource_documentation: str | None = None,
        challenge_scopes: Sequence[str] | None = None,
    ) -> None:
        if not isinstance(token_verifier, AuthProvider):
            raise ConfigurationError(
                f"token_verifier={token_verifier!r} must be a TokenVerifier, such as JWTVerifier(…)"
            )
        check_url("base_url", base_url)
        super().__init__(base_url, token_verifier.required_scopes, resource_base_url)
        if not isinstance(authorization_servers, list | tuple) or not authorization_servers:
            raise ConfigurationError(
                "authorization_servers must be a list of at least one issuer, like"
                " ['https://idp.example']"
            )
        check_kind("resource_name", resource_name, str)
        check_kind("resource_documentation", resource_documentation, str)
        self.token_verifier = token_verifier
        self.authorization_servers = [
            check_url("authorization_servers", each) for each in authorization_servers
        ]
        if len(set(self.authorization_servers)) != len(self.authorization_servers):
            raise ConfigurationError(
                f"authorization_servers={authorization_servers!r} has a duplicate: remove it"
            )
        self._issuer_check = IssuerCheck(self.authorization_servers, token_verifier)
        self.resource_name = resource_name
        self.resource_documentation = resource_documentation
        self.issuers = token_verifier.issuers
        self.takes_opaque_tokens = token_verifier.takes_opaque_tokens
        self._scopes_supported = list(
            check_scopes("scopes_supported", scopes_supported or self.required_scopes)
        )
        self._challenge_scopes = check_scopes("challenge_scopes", challenge_scopes or ())

    async def verify_token(self, token: str) -> AccessToken | None:
        """Return the verdict of the verifier."""
        return await self.token_verifier.verify_token(token)

    def token_cache(self) -> TokenCache | None:
        """Return the verifier's cache, which is not used once the verifier has been replaced."""
        verifier = self.token_verifier
        cache = verifier.token_cache()
        if cache is None or type(self).verify_token is not RemoteAuthProvider.verify_token:
            return None

        def cached_token(token: bytes) -> AccessToken | None:
            return cache(token) if self.token_verifier is verifier else None

        return cached_token

    @property
    def scopes_supported(self) -> list[str]:
        """Scopes advertised in the metadata document."""
        return self._scopes_supported

    def get_challenge_scopes(self, required_scopes: Sequence[str] | None = None) -> list[str]:
        """Return ``challenge_scopes``, then the required ones."""
        required = self.required_scopes if required_scopes is None else required_scopes
        return advertised_scopes(self._challenge_scopes, required)

    @property
    def resource_metadata_url(self) -> str | None:
        """Absolute URL of the metadata document (RFC 9728 §3.1)."""
        return well_known_url(WELL_KNOWN_RESOURCE, self.resource or "")

    def bind_audience(self, resource: str | None) -> None:
        """Pass the resource on to the verifier."""
        self.token_verifier.bind_audience(resource)

    def _routes(self) -> list[Route]:
        resource = self.resource or ""
        path = well_known_path(WELL_KNOWN_RESOURCE, resource)
        other = path.removesuffix("/") if path.endswith("/") else f"{path}/"
        # People type the URL with a slash at the end, or without the one that it has, and clients
        # refuse a document that names another URL than theirs (RFC 9728 §3.3).
        places = ((path, resource), (other, other_slash(resource)))
        return [Route(place, self._document(named)) for place, named in places]

    def _document(self, resource: str) -> PublicDocument:
        @functools.lru_cache(maxsize=1)
        def body(scopes: tuple[str, ...]) -> bytes:
            return format_document(
                protected_resource_metadata(
                    resource=resource,
                    authorization_servers=self.authorization_servers,
                    scopes_supported=scopes,
                    resource_name=self.resource_name,
                    resource_documentation=self.resource_documentation,
                )
            )

        # A middleware that is made later may add scopes.
        return PublicDocument(lambda: body(tuple(self.scopes_supported)))

    async def start(self) -> None:
        """Open the verifier, and begin to look at what the issuers offer MCP clients."""
        await self.token_verifier.__aenter__()
        self._issuer_check.start()

    async def stop(self) -> None:
        """Stop looking, and close the verifier."""
        await self._issuer_check.aclose()
        await self.token_verifier.__aexit__(None, None, None)
