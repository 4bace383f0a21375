"""Accepts the tokens of several issuers for one resource."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ._asgi import Route
from ._cache import LRUCache, token_digest
from .auth import AuthProvider, RefusingVerifier
from .claims import peek_issuer
from .errors import ConfigurationError, InvalidToken, ServerUnavailable
from .lookups import LookupVerifier
from .metadata import advertised_scopes
from .tokens import AccessToken, Verification, current_verification

MAX_ACCEPTED = 10_000  # tokens whose source is remembered


class MultiAuth(RefusingVerifier):
    """Accepts the tokens of several issuers.

    A JWT goes to the source of its ``iss``, before any signature is checked. A token without a
    known issuer, such as an opaque one, goes to the sources for such tokens, one after the other.

    Args:
        server: the provider whose routes and metadata are served.
        verifiers: further sources.
        base_url: public URL of this server; that of ``server`` by default.
        required_scopes: scopes that every request needs; by default those of all sources.
        resource_base_url: URL of the protected resource, if it is not at ``base_url``.

    Raises:
        ConfigurationError: no source, or two for the same issuer.
    """

    def __init__(
        self,
        *,
        server: AuthProvider | None = None,
        verifiers: Sequence[AuthProvider] | AuthProvider = (),
        base_url: str | None = None,
        required_scopes: Sequence[str] | None = None,
        resource_base_url: str | None = None,
    ) -> None:
        others: tuple[Any, ...] = (
            tuple(verifiers) if isinstance(verifiers, list | tuple) else (verifiers,)
        )
        self.server = server
        self.sources = others if server is None else (server, *others)
        if not self.sources or not all(isinstance(each, AuthProvider) for each in self.sources):
            raise ConfigurationError(
                "MultiAuth needs a server or verifiers, like verifiers=[JWTVerifier(…),"
                " JWTVerifier(…)]"
            )
        if required_scopes is None:
            required_scopes = list(
                dict.fromkeys(scope for each in self.sources for scope in each.required_scopes)
            )
        if server is not None:
            base_url = base_url or server.base_url
            resource_base_url = resource_base_url or server.resource_base_url
        super().__init__(base_url, required_scopes, resource_base_url)
        for source in self.sources:
            self.issuer_documents = {**source.issuer_documents, **self.issuer_documents}
        self._by_issuer: dict[str, AuthProvider] = {}
        for source in self.sources:
            for issuer in source.issuers:
                first = self._by_issuer.setdefault(issuer, source)
                if first is source:
                    continue
                if first.takes_opaque_tokens == source.takes_opaque_tokens:
                    raise ConfigurationError(
                        f"two sources of MultiAuth are for the tokens of {issuer!r}: keep one"
                    )
                if first.takes_opaque_tokens:
                    self._by_issuer[issuer] = source  # JWTs go to the one that checks signatures
        self.issuers = tuple(self._by_issuer)
        # The source of each issuer; an endpoint without an issuer is one itself.
        self._owners: dict[str, AuthProvider] = {
            each.default_issuer: each
            for each in self.sources
            if isinstance(each, LookupVerifier) and each.default_issuer
        }
        self._owners.update(self._by_issuer)
        self._others = [
            each for each in self.sources if each.takes_opaque_tokens or not each.issuers
        ]
        self._accepted: LRUCache[AuthProvider] = LRUCache(MAX_ACCEPTED)

    async def verify(self, token: str) -> AccessToken:
        """Return the access that ``token`` grants.

        Raises:
            InvalidToken: the source of its issuer, or every source, refuses the token.
            ServerUnavailable: no source accepts it, and one that may is not available.
        """
        issuer = peek_issuer(token)
        responsible = self._by_issuer.get(issuer) if issuer is not None else None
        # Never show a token that names one issuer to a source configured for other issuers.
        others = [each for each in self._others if issuer is None or not each.issuers]
        candidates = others if responsible is None else [responsible]
        digest = b""
        # The source that accepted it before goes first: another one may be down, or overloaded.
        if len(candidates) > 1:
            digest = token_digest(token)
            before = self._accepted.get(digest)
            candidates = sorted(candidates, key=lambda each: each is not before)
        outer = current_verification.get()
        verification = Verification("" if outer is None else outer.address)
        restore = current_verification.set(verification)
        outage: ServerUnavailable | None = None
        try:
            for source in candidates:
                try:
                    found = await source.verify_token(token)
                except ServerUnavailable as error:
                    outage = error  # another source may still accept the token
                    continue
                if found is None:
                    continue
                if source is not responsible and self._speaks_for_another(source, found):
                    verification.reason = "issuer"
                    continue
                if digest:
                    self._accepted.put(digest, source)
                return found
        finally:
            current_verification.reset(restore)
        if outage is not None:
            raise outage
        raise InvalidToken(verification.reason or ("rejected" if candidates else "issuer"))

    def _speaks_for_another(self, source: AuthProvider, found: AccessToken) -> bool:
        """Return whether a source names the issuer of another source.

        An endpoint below an issuer's URL is part of that issuer.
        """
        named = found.claims.get("iss") if self._owners else None
        if (
            not isinstance(named, str)
            or self._owners.get(named, source) is source
            or named in source.issuers
        ):
            return False
        if not isinstance(source, LookupVerifier):
            return True
        return named != source.default_issuer and not source.url.startswith(
            f"{named.removesuffix('/')}/"
        )

    @property
    def scopes_supported(self) -> list[str]:
        """Scopes that the metadata document lists."""
        return self.required_scopes if self.server is None else self.server.scopes_supported

    def get_challenge_scopes(self, required_scopes: Sequence[str] | None = None) -> list[str]:
        """Return the scopes for a challenge, which ``server`` decides."""
        required = self.required_scopes if required_scopes is None else required_scopes
        if self.server is None:
            return advertised_scopes(required)
        return self.server.get_challenge_scopes(required)

    def add_scopes(self, scopes: Sequence[str]) -> None:
        """Let clients ask ``server`` for scopes that a middleware requires."""
        if self.server is not None:
            self.server.add_scopes(scopes)

    @property
    def resource_metadata_url(self) -> str | None:
        """URL of the server's metadata document."""
        return None if self.server is None else self.server.resource_metadata_url

    def set_mcp_path(self, mcp_path: str | None) -> None:
        """Set the path of the MCP endpoint, also for ``server``."""
        super().set_mcp_path(mcp_path)
        if self.server is not None:
            self.server.set_mcp_path(mcp_path)

    def bind_audience(self, resource: str | None) -> None:
        """Bind every source to ``resource``."""
        for source in self.sources:
            source.bind_audience(resource)

    def _routes(self) -> list[Route]:
        return [] if self.server is None else self.server._routes()

    async def start(self) -> None:
        """Open every source."""
        for source in self.sources:
            await source.__aenter__()

    async def stop(self) -> None:
        """Close every source."""
        for source in self.sources:
            await source.__aexit__(None, None, None)
