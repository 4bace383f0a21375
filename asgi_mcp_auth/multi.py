"""MultiAuth: several issuers behind one resource."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ._asgi import Route
from ._cache import LRUCache, token_digest
from .auth import AuthProvider, ReasoningVerifier
from .claims import peek_issuer
from .errors import ConfigurationError, InvalidToken, ServerUnavailable
from .lookups import LookupVerifier
from .metadata import advertised_scopes
from .tokens import AccessToken, Verification, current_verification

MAX_ACCEPTED = 10_000  # tokens of which it is remembered who accepted them


class MultiAuth(ReasoningVerifier):
    """Accepts the tokens of several issuers; a JWT goes to the one that its ``iss`` names, before
    any signature work.

    Tokens without a known issuer, opaque ones above all, go to the sources that take such tokens,
    one after the other.

    Args:
        server: the provider whose routes and metadata are served.
        verifiers: further sources.
        base_url: public URL of this server; the server's by default.
        required_scopes: scopes that every request needs; by default those of the sources together.
        resource_base_url: where the protected resource lives, if not at ``base_url``.

    Raises:
        ConfigurationError: no source, or two that want the same issuer.
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
            base_url, resource_base_url = (
                base_url or server.base_url,
                resource_base_url or server.resource_base_url,
            )
        super().__init__(base_url, required_scopes, resource_base_url)
        self._by_issuer: dict[str, AuthProvider] = {}
        for source in self.sources:
            for issuer in source.issuers:
                first = self._by_issuer.setdefault(issuer, source)
                if first is source:
                    continue
                if first.accepts_opaque == source.accepts_opaque:
                    raise ConfigurationError(
                        f"two sources of MultiAuth want the tokens of {issuer!r}: keep one"
                    )
                if first.accepts_opaque:
                    self._by_issuer[issuer] = source  # JWTs go to the one that checks signatures
        self.issuers = tuple(self._by_issuer)
        # Whose names are whose: an endpoint without an issuer speaks for its own address.
        self._owners: dict[str, AuthProvider] = {
            each.usual_issuer: each
            for each in self.sources
            if isinstance(each, LookupVerifier) and each.usual_issuer
        }
        self._owners.update(self._by_issuer)
        self._others = [each for each in self.sources if each.accepts_opaque or not each.issuers]
        self._accepted: LRUCache[AuthProvider] = LRUCache(MAX_ACCEPTED)

    async def verify(self, token: str) -> AccessToken:
        """Return what the responsible source says of ``token``.

        Raises:
            InvalidToken: the responsible source, or each of them, refuses it.
            ServerUnavailable: no source accepts it, and one that might cannot be asked.
        """
        issuer = peek_issuer(token)
        responsible = self._by_issuer.get(issuer) if issuer is not None else None
        # A token that names an issuer is nobody else's business: one who knows its own issuers is
        # not shown it.
        others = [each for each in self._others if issuer is None or not each.issuers]
        asked = others if responsible is None else [responsible]
        digest = b""
        # first who has accepted it before: another one may be down, or busy with strangers
        if len(asked) > 1:
            digest = token_digest(token)
            before = self._accepted.get(digest)
            asked = sorted(asked, key=lambda each: each is not before)
        outer = current_verification.get()
        verification = Verification("" if outer is None else outer.address)
        restore = current_verification.set(verification)
        outage: ServerUnavailable | None = None
        try:
            for source in asked:
                try:
                    found = await source.verify_token(token)
                except ServerUnavailable as error:
                    outage = error  # another source may know the token all the same
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
        raise InvalidToken(verification.reason or ("rejected" if asked else "issuer"))

    def _speaks_for_another(self, source: AuthProvider, found: AccessToken) -> bool:
        """Return whether a source names another source's issuer, and is not part of that issuer
        itself.
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
        return named != source.usual_issuer and not source.url.startswith(
            f"{named.removesuffix('/')}/"
        )

    @property
    def scopes_supported(self) -> list[str]:
        """Scopes advertised in the metadata document."""
        return self.required_scopes if self.server is None else self.server.scopes_supported

    def get_challenge_scopes(self, required_scopes: Sequence[str] | None = None) -> list[str]:
        """Return the scopes for a challenge, as the server sees it."""
        required = self.required_scopes if required_scopes is None else required_scopes
        return (
            advertised_scopes(required)
            if self.server is None
            else self.server.get_challenge_scopes(required)
        )

    @property
    def resource_metadata_url(self) -> str | None:
        """The server's."""
        return None if self.server is None else self.server.resource_metadata_url

    def set_mcp_path(self, mcp_path: str | None) -> None:
        """Tell every source."""
        super().set_mcp_path(mcp_path)
        if self.server is not None:
            self.server.set_mcp_path(mcp_path)

    def bind_audience(self, resource: str | None) -> None:
        """Pass the resource on to every source."""
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
