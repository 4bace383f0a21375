"""The request path, top to bottom: route → public? → origin → header → token → scopes → app."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, Literal, Protocol, runtime_checkable
from urllib.parse import unquote

from . import _interop
from ._asgi import Lifespan, read_path, running_loop
from ._cors import AllowedOrigins, CORSSend, PublicDocument, answer_preflight, is_preflight
from ._settings import check_hook, check_kind, check_scopes
from ._urls import (
    WELL_KNOWN_OPENID,
    WELL_KNOWN_RESOURCE,
    WELL_KNOWN_SERVER,
    other_slash,
    url_path,
)
from .entrance import Entrance
from .errors import (
    ClientLeft,
    ConfigurationError,
    InsufficientScope,
    InvalidToken,
    MissingToken,
    RequestError,
    ServerUnavailable,
)
from .gate import MAX_MESSAGE_BYTES, ChallengeForm, MessageGate, make_gate
from .headers import MAX_BEARER_BYTES, parse_credentials
from .mounting import MountCheck, PathCheck, other_paths, resource_paths, route_table
from .policy import MessageRule, split_rules
from .refusals import Challenger, RefusalHook
from .rules import Rule, Rules
from .tokens import AccessToken, TokenCache, Verification, current_verification
from .types import ASGIApp, Receive, Scope, Send

logger = logging.getLogger(__name__)

_OUR_DOCUMENTS = (f"{WELL_KNOWN_RESOURCE}/", f"{WELL_KNOWN_SERVER}/", f"{WELL_KNOWN_OPENID}/")
_MISSING_DOCUMENT = PublicDocument(lambda: b'{"error":"not_found"}', status=404, max_age_seconds=0)


@runtime_checkable
class Provider(Protocol):
    """The part of ``AuthProvider`` that this module needs."""

    base_url: str | None
    mcp_path: str | None
    required_scopes: list[str]
    host_serves_documents: bool

    @property
    def resource(self) -> str | None: ...
    @property
    def resource_metadata_url(self) -> str | None: ...
    def get_challenge_scopes(self, required_scopes: Sequence[str] | None = None) -> list[str]: ...
    def add_scopes(self, scopes: Sequence[str]) -> None: ...
    def get_routes(self, mcp_path: str | None = None) -> list[Any]: ...
    def token_cache(self) -> TokenCache | None: ...
    async def verify_token(self, token: str) -> AccessToken | None: ...
    async def __aenter__(self) -> Any: ...
    async def __aexit__(self, exc_type: Any, exc: Any, traceback: Any) -> None: ...


class MCPAuthMiddleware:
    """Passes requests with a valid access token on to ``app``, and refuses all others.

    Args:
        app: any ASGI 3 app.
        provider: verifies tokens; serves its own routes at the paths it names.
        mcp_path: path of the resource below the provider's ``base_url``. It only names the
            resource: every other path is protected as well.
        required_scopes: scopes needed in addition to the provider's.
        public_paths: unprotected paths: exact ones, and prefixes that end in ``/``.
            ``mcp_path`` cannot be one.
        rules: scopes for paths (``Rule``), and for tools, resources, prompts and methods of MCP
            (``Tool``, ``Resource``, ``Prompt``, ``Method``; they need ``mcp_path``).
        allowed_origins: web origins whose pages may send requests, ``"*"`` for all; defaults to the
            origin of ``base_url`` and loopback.
        on_event: called with each refusal; it must neither block nor raise (the request would fail
            with a 500).
        forward_authorization: ``False`` removes the Authorization header before the app sees the
            request.
        max_message_bytes: of one MCP message, where rules need to read it.
        challenge: how callers of tools are refused: by ``"http"`` (401, 403), or in the
            ``"result"`` of the tool, which ChatGPT needs; or a function of the ASGI scope that
            returns one of the two.

    Raises:
        ConfigurationError: a setting is wrong, or the audience is not known.

    RFC 6750, RFC 9728; MCP 2026-07-28, Authorization.
    """

    _loop_told = False

    def __init__(
        self,
        app: ASGIApp,
        provider: Provider,
        *,
        mcp_path: str | None = None,
        required_scopes: Sequence[str] | None = None,
        public_paths: Iterable[str] = (),
        rules: Iterable[Rule | MessageRule] = (),
        allowed_origins: Sequence[str] | Literal["*"] | None = None,
        on_event: RefusalHook | None = None,
        forward_authorization: bool = True,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        challenge: ChallengeForm = "http",
    ) -> None:
        if not callable(app):
            raise ConfigurationError(
                f"app={app!r} must be an ASGI app: MCPAuthMiddleware(app, provider)"
            )
        if isinstance(provider, type) or not isinstance(provider, Provider):
            raise ConfigurationError(
                f"provider={provider!r} must be an AuthProvider, such as RemoteAuthProvider(…)"
            )
        check_hook("on_event", on_event)
        check_kind("forward_authorization", forward_authorization, bool)
        self.app = app
        self.provider = provider
        self._cached_token = provider.token_cache() or _no_cache
        message_rules, path_rules = split_rules(rules)
        address = provider.base_url, provider.mcp_path or mcp_path
        self._gate = make_gate(message_rules, *address, max_message_bytes, challenge)
        self._rules = Rules(public_paths, path_rules, self._gate.paths if self._gate else ())
        more = check_scopes("required_scopes", required_scopes or ())
        # From here on, the provider has its path. A wrong rule has left it as it was.
        routes = route_table(provider.get_routes(mcp_path), provider.base_url)
        self._mount = MountCheck(provider)
        self._routes = {path: self._mount.watch(path, app) for path, app in routes.items()}
        named = [rule.fixed_scopes for rule in message_rules]
        provider.add_scopes([*more, *chain(*named, *(rule.scopes for rule in self._rules.all))])
        self._own_root_path = _interop.own_root_path(app)
        _check_not_public(self._rules, provider)
        needed = (*provider.required_scopes, *more)
        document_url = provider.resource_metadata_url
        self._challengers = self._challengers_for(document_url, needed, on_event)
        # The URL with a slash at the end, or without its own, has a document that names it so.
        other_url = other_slash(document_url or "")
        has_other = unquote(url_path(other_url)) in self._routes
        self._other_challengers = dict.fromkeys(
            other_paths(provider.base_url, provider.mcp_path) if has_other else (),
            self._challengers_for(other_url, needed, on_event),
        )
        self._origins = AllowedOrigins(allowed_origins, provider.base_url)
        self._entrance = Entrance(provider, forward_authorization)
        self._path_check = PathCheck(self._own_root_path, is_needed=bool(self._rules))
        if document_url is None:
            logger.warning(
                "%s serves no metadata, so MCP clients cannot discover where to get a token: wrap"
                " it in RemoteAuthProvider(verifier, authorization_servers=[…], base_url=…)",
                type(provider).__name__,
            )

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one connection."""
        if scope["type"] not in ("http", "websocket"):
            return await self._lifespan(scope, receive, send)
        # 1. The provider's own routes; 404 for a well-known document that it does not serve.
        path, sure = read_path(scope) if scope.get("root_path") else (scope["path"], True)
        if path in self._routes:
            return await self._routes[path](scope, receive, send)
        if self._own_root_path:
            path, sure = read_path({**scope, "root_path": self._own_root_path})
        rule = self._rules.match(path, scope.get("raw_path") or b"", sure)
        if path.startswith("/.") and not rule.public and (path + "/").startswith(_OUR_DOCUMENTS):
            return await _MISSING_DOCUMENT(scope, receive, send)
        # 2. Public paths.
        challenger = self._other_challengers.get(path, self._challengers)[rule]
        if rule.public:
            return await self._entrance(self.app, None, challenger, scope, receive, send)
        if not sure:
            self._path_check.warn(scope)
        gate = None if self._gate is None else self._gate_for(path, rule)
        # 3. The headers that decide. Browsers name the origin of the page that sends a request.
        authorization, origin, fields, access, token = b"", None, 0, None, None
        for name, value in scope["headers"]:
            if name == b"authorization":
                authorization = value
                fields += 1
            elif name == b"origin":
                origin = value
        try:
            if origin is not None:
                to_page = await self._from_page(origin, scope, receive, send)
                if to_page is None:
                    return None
                send = to_page
            # 4. The token: in the cache, or to be verified now.
            if fields:
                plain = fields == 1 and authorization[:7] == b"Bearer "
                query = scope.get("query_string")
                if plain and len(authorization) <= MAX_BEARER_BYTES and not query:
                    access = self._cached_token(authorization[7:])
                if access is None:
                    token = parse_credentials(authorization, fields, query or b"")
                    access = await self._verify(token, scope)
            elif gate is None or not gate.policy.has_public or rule is self._rules.unsure:
                # Not raised: the most frequent refusal would cost 15 % more.
                self._mount.challenged(scope)
                return await challenger.refuse(MissingToken(), scope, receive, send)
            # 5. Its scopes, and those of the message.
            if gate is not None:
                scope = dict(scope)
                receive, send = await gate.judge(scope, receive, send, access, challenger.scopes)
            elif access is None or not challenger.required_scopes.issubset(access.scopes):
                raise InsufficientScope
        except ClientLeft:
            return None
        except RequestError as error:
            return await challenger.refuse(error, scope, receive, send, token=token, access=access)
        # 6. The app.
        return await self._entrance(self.app, access, challenger, scope, receive, send)

    def _gate_for(self, path: str, rule: Rule) -> MessageGate | None:
        """Return what judges the messages at a path, if any."""
        gate = self._gate
        covers = gate is not None and (rule is self._rules.unsure or gate.covers(path))
        return gate if covers else None

    async def _from_page(
        self, origin: bytes, scope: Scope, receive: Receive, send: Send
    ) -> Send | None:
        """Return the ``send`` for the request of a web page, ``None`` if it has been answered.

        Raises:
            ForbiddenOrigin: pages of this origin may not send requests.
        """
        allow_origin = self._origins.check(origin)
        if is_preflight(scope):
            await answer_preflight(scope, receive, send, allow_origin)
            return None
        return CORSSend(send, allow_origin)

    def _challengers_for(
        self, document_url: str | None, needed: Sequence[str], on_event: RefusalHook | None
    ) -> dict[Rule, Challenger]:
        return {
            rule: Challenger(
                dict.fromkeys((*needed, *rule.scopes)),
                self.provider.get_challenge_scopes,
                document_url,
                on_event,
                resource=self.provider.resource,
            )
            for rule in self._rules.all
        }

    async def _verify(self, token: str, scope: Scope) -> AccessToken:
        """Return the token that the provider has verified.

        Raises:
            RequestError: the token is refused, or the provider is unavailable, as on another event
                loop than asyncio's.
        """
        try:
            running_loop()
        except ConfigurationError as error:
            if not self._loop_told:
                self._loop_told = True
                logger.warning("%s", error)
            raise ServerUnavailable from None
        verification = Verification((scope.get("client") or ("",))[0])
        restore = current_verification.set(verification)
        try:
            access = await self.provider.verify_token(token)
        finally:
            current_verification.reset(restore)
        if access is None:
            raise InvalidToken(verification.reason or "rejected")
        return access

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            raise RuntimeError(
                f"MCPAuthMiddleware cannot protect the ASGI scope type {scope['type']!r}"
            )
        await Lifespan(self.app, self.provider)(scope, receive, send)


def _no_cache(token: bytes) -> None:
    """Stand in for the cache of a provider that has none."""


def _check_not_public(rules: Rules, provider: Provider) -> None:
    """Check that the resource itself is protected."""
    mcp_path = (provider.mcp_path or "").rstrip("/")
    for path in resource_paths(provider.base_url, mcp_path) if mcp_path else ():
        rule = rules.public_at(path)
        if rule is not None:
            raise ConfigurationError(
                f"public_paths or rules make {rule.path!r} public, which covers"
                f" mcp_path={mcp_path!r}: tokens there are neither required nor read. Remove"
                f" {rule.path!r} to protect it. For tools without a sign-in, write"
                " rules=[Tool('name', public=True)]. If all of it is meant to be public, leave"
                " mcp_path out: it is the resource that tokens are for"
            )
