"""OAuthProxy and OIDCProxy: authorization servers whose users sign in at an identity provider."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack
from urllib.parse import urlsplit

from .._http import HTTPFetcher
from .._settings import check_issuers, check_kind, check_path, check_scopes, check_url
from ..auth import AuthProvider
from ..discovery import check_endpoint
from ..errors import ConfigurationError, InsufficientScope, InvalidGrant, InvalidToken, MissingToken
from ..multi import MultiAuth
from ..server import OAuthProvider, ServerOptions
from ..server.parties import Person
from ..server.tokens.access import GRANT_CLAIM
from ..tokens import HasScope, get_access_token, get_provider
from ..types import Scope
from .client import TIMEOUT_SECONDS, UpstreamClient
from .identity import AccessTokenIdentifier, IDTokenIdentifier
from .login import UpstreamLogin
from .options import ServerSettings, UpstreamIdentity, UpstreamRules
from .upstream import Discovery, Endpoints

__all__ = [
    "OAuthProxy",
    "OIDCProxy",
    "Person",
    "UpstreamIdentity",
    "UpstreamRules",
    "get_upstream_token",
]

CALLBACK_PATH = "/auth/callback"


class _Proxy(OAuthProvider):
    def __init__(self, base_url: str, login: UpstreamLogin, settings: ServerSettings) -> None:
        super().__init__(base_url=base_url, login=login, **settings)
        self._login = login

    async def get_upstream_token(self, request: Scope | HasScope | None = None) -> str:
        """Return an access token of the identity provider for the user behind a request.

        An access token that has expired, or soon will, is refreshed by one worker at a time.

        Args:
            request: an ASGI scope, or a request object with a ``scope``; without it, the request
                that the running task serves.

        Raises:
            MissingToken: the request has no access token.
            InvalidToken: the sign-in has ended. So has the grant; the user has to sign in again.
            InsufficientScope: the client acts for itself, not for a user.
            ServerUnavailable: the provider or the store is not responding.
            ConfigurationError: the access token has another issuer, or ``keep_tokens`` is off.
        """
        access = get_access_token(request)
        if access is None:
            raise MissingToken
        if access.claims.get("iss") != self._server.issuer:
            raise ConfigurationError(
                "another server issued this access token, so this proxy has no upstream token"
            )
        grant_id = access.claims[GRANT_CLAIM]
        grant = await self._server.grants.ledger.find(grant_id, self._server.resource.identifier)
        if grant is None:
            raise InvalidToken("revoked")
        if grant.person is None:
            raise InsufficientScope
        try:
            token = await self._login.fresh_access_token(grant.person)
        except InvalidGrant as error:
            await self._server.grants.revocation.revoke(grant_id, error.reason)
            raise InvalidToken("revoked") from None
        if token is None:
            raise ConfigurationError(
                "get_upstream_token needs the tokens that keep_tokens=False discards"
            )
        return token


class OAuthProxy(_Proxy):
    """An authorization server whose users sign in at an identity provider with OAuth.

    Args:
        upstream_authorization_endpoint: the provider's authorization endpoint.
        upstream_token_endpoint: its token endpoint.
        upstream_client_id: client id of this server at the provider.
        upstream_client_secret: its secret there; ``None`` for a public client.
        upstream_revocation_endpoint: the provider's revocation endpoint (RFC 7009).
        token_verifier: verifies the provider's access tokens and identifies their user; it needs
            the audience of those tokens.
        base_url: public URL of this server, without the MCP path; it is the issuer.
        redirect_path: path below ``base_url`` to which the provider redirects users; register that
            URL there.
        upstream_scopes: scopes to request from the provider; by default the required ones.
        upstream: how to talk to the provider, and who may use the service.
        settings: those of ``OAuthProvider`` except ``login``; ``required_scopes`` are by default
            those of the verifier.

    Raises:
        ConfigurationError: a setting is missing, invalid, or contradicts another.

    MCP 2026-07-28, Security Best Practices.
    """

    def __init__(
        self,
        *,
        upstream_authorization_endpoint: str,
        upstream_token_endpoint: str,
        upstream_client_id: str,
        upstream_client_secret: str | None = None,
        upstream_revocation_endpoint: str | None = None,
        token_verifier: AuthProvider,
        base_url: str,
        redirect_path: str = CALLBACK_PATH,
        upstream_scopes: Sequence[str] | None = None,
        upstream: UpstreamRules | None = None,
        **settings: Unpack[ServerSettings],
    ) -> None:
        rules = _check_rules(upstream)
        authorization = check_url(
            "upstream_authorization_endpoint", upstream_authorization_endpoint, query=True
        )
        token = check_endpoint("upstream_token_endpoint", upstream_token_endpoint, authorization)
        revocation = upstream_revocation_endpoint
        if revocation is not None:
            check_endpoint("upstream_revocation_endpoint", revocation, authorization)
        identifier = AccessTokenIdentifier(token_verifier, authorization)
        endpoints = Endpoints(
            authorization=authorization,
            token=token,
            revocation=revocation,
            issuers=tuple(token_verifier.issuers),
        )

        async def find() -> Endpoints:
            return endpoints

        if settings.get("required_scopes") is None:
            settings["required_scopes"] = token_verifier.required_scopes
        login = UpstreamLogin(
            UpstreamClient(find, upstream_client_id, upstream_client_secret, rules, "upstream_"),
            identifier,
            rules,
            _scopes(upstream_scopes, settings),
            provider_host=urlsplit(authorization).netloc,
            callback_path=check_path("redirect_path", redirect_path, in_url=True),
            with_nonce=False,
        )
        super().__init__(base_url, login, settings)


class OIDCProxy(_Proxy):
    """An authorization server whose users sign in at an identity provider with OpenID Connect.

    The provider's metadata is fetched in the background when the server starts; without a
    lifespan, when the first user signs in.

    Args:
        config_url: URL of the provider's metadata, if it does not follow from ``issuer``.
        issuer: the provider's issuer, exactly as its metadata spells it. Together with
            ``config_url``, every issuer that ID tokens may name, such as several tenants that
            share the metadata.
        client_id: client id of this server at the provider.
        client_secret: its secret there; ``None`` for a public client.
        base_url: public URL of this server, without the MCP path; it is the issuer.
        redirect_path: path below ``base_url`` to which the provider redirects users; register that
            URL there.
        upstream_scopes: scopes to request from the provider; by default ``openid`` and the
            required ones.
        id_token_algorithms: algorithms that ID tokens may be signed with; by default those with
            public keys, and those with the client secret (``HS256``) that the provider's metadata
            lists.
        upstream: how to talk to the provider, and who may use the service.
        settings: those of ``OAuthProvider`` except ``login``.

    Raises:
        ConfigurationError: a setting is missing, invalid, or contradicts another.

    OpenID Connect Core 1.0; MCP 2026-07-28, Security Best Practices.
    """

    def __init__(
        self,
        *,
        config_url: str | None = None,
        issuer: str | Sequence[str] | None = None,
        client_id: str,
        client_secret: str | None = None,
        base_url: str,
        redirect_path: str = CALLBACK_PATH,
        upstream_scopes: Sequence[str] | None = None,
        id_token_algorithms: Sequence[str] = (),
        upstream: UpstreamRules | None = None,
        **settings: Unpack[ServerSettings],
    ) -> None:
        rules = _check_rules(upstream)
        clock = (settings.get("options") or ServerOptions()).clock
        fetcher = HTTPFetcher(timeout_seconds=TIMEOUT_SECONDS, client=rules.http_client)
        issuers = _check_provider(issuer, config_url)
        self._discovery = Discovery(
            issuers, config_url, fetcher, clock, needs_userinfo=rules.userinfo
        )
        client = UpstreamClient(self._discovery, client_id, client_secret, rules, "")
        scopes = _scopes(upstream_scopes, settings)
        if upstream_scopes is not None and "openid" not in scopes:
            raise ConfigurationError(
                "upstream_scopes needs 'openid', or the provider does not say who has signed in"
            )
        login = UpstreamLogin(
            client,
            IDTokenIdentifier(client, rules, clock, id_token_algorithms),
            rules,
            tuple(dict.fromkeys(("openid", *scopes))),
            provider_host=urlsplit(issuers[0] if issuers else str(config_url)).netloc,
            callback_path=check_path("redirect_path", redirect_path, in_url=True),
            with_nonce=True,
        )
        super().__init__(base_url, login, settings)

    async def start(self) -> None:
        """Open the store and the login step, and begin to look at the provider's metadata."""
        await super().start()
        self._discovery.start()

    async def stop(self) -> None:
        """Stop looking, and close the login step and the store."""
        await self._discovery.aclose()
        await super().stop()


async def get_upstream_token(request: Scope | HasScope | None = None) -> str:
    """Return an access token of the identity provider for the user behind a request.

    Asks the ``OAuthProxy`` or ``OIDCProxy`` of the middleware in front of the request.

    Args:
        request: an ASGI scope, or a request object with a ``scope``; without it, the request that
            the running task serves.

    Raises:
        ConfigurationError: there is no such proxy, or it did not issue the request's token.
        AuthError: as the proxy's own ``get_upstream_token``.
    """
    access = get_access_token(request)
    if access is None:
        raise MissingToken
    proxy = _find_proxy(get_provider(request), access.claims.get("iss"))
    if proxy is None:
        raise ConfigurationError(
            "no OAuthProxy or OIDCProxy in front of this request issued its access token: call"
            " get_upstream_token() behind MCPAuthMiddleware(app, proxy), or the proxy's own"
            " get_upstream_token(request)"
        )
    return await proxy.get_upstream_token(request)


def _find_proxy(provider: object, issuer: object) -> _Proxy | None:
    """Return the proxy that is a provider, or one of its sources, and issues these tokens."""
    if isinstance(provider, MultiAuth):
        proxies = (_find_proxy(source, issuer) for source in provider.sources)
        return next((proxy for proxy in proxies if proxy is not None), None)
    if isinstance(provider, _Proxy) and issuer in provider.issuers:
        return provider
    return None


def _check_rules(upstream: UpstreamRules | None) -> UpstreamRules:
    check_kind("upstream", upstream, UpstreamRules)
    return upstream or UpstreamRules()


def _check_provider(issuer: str | Sequence[str] | None, config_url: str | None) -> tuple[str, ...]:
    if config_url is not None:
        check_url("config_url", config_url, query=True)
    issuers = check_issuers(issuer)
    for each in issuers:
        check_url("issuer", each)
    if config_url is None and len(issuers) != 1:
        raise ConfigurationError(
            "OIDCProxy needs issuer='https://…', exactly as the identity provider spells it, or the"
            " config_url of its metadata; several issuers need both"
        )
    return issuers


def _scopes(upstream_scopes: Sequence[str] | None, settings: ServerSettings) -> tuple[str, ...]:
    if upstream_scopes is not None:
        return check_scopes("upstream_scopes", upstream_scopes)
    return check_scopes("required_scopes", settings.get("required_scopes") or ())
