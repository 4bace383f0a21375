"""The settings of a proxy that concern the identity provider behind it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict, get_args

from .._settings import check_hook, check_kind, check_list, check_names, check_switch
from ..errors import ConfigurationError
from ..server.options import Lifetimes, RateLimits, Registration, ServerOptions
from ..server.pages import Pages
from ..server.parties import RESERVED_CLAIMS, Person
from ..server.records import Stored
from ..stores.encrypted import EncryptedStore
from ..types import JSONObject
from .domains import ascii_domain

if TYPE_CHECKING:
    import httpx

UpstreamAuthMethod: TypeAlias = Literal["client_secret_basic", "client_secret_post", "none"]

# What the proxy sets itself, for each sign-in anew (RFC 6749 §4.1, RFC 7636 §4.3, OpenID Connect
# Core §3.1.2.1).
_OWN_PARAMETERS = frozenset(
    (
        "response_type",
        "client_id",
        "redirect_uri",
        "scope",
        "state",
        "nonce",
        "code_challenge",
        "code_challenge_method",
        "response_mode",
        "grant_type",
        "code",
        "code_verifier",
        "refresh_token",
        "client_secret",
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamIdentity(Stored):
    """Who somebody is at the identity provider. Only issuer and subject together name a person for
    ever.

    Attributes:
        issuer: the identity provider.
        subject: the person's identifier there.
        claims: what else it says of them, checked where it is a signed ID token.
    """

    issuer: str
    subject: str
    claims: JSONObject = field(repr=False)


PersonHook: TypeAlias = Callable[[UpstreamIdentity], Person | Awaitable[Person | None] | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamRules:
    """What is asked of the identity provider, and who of its people may come in.

    Args:
        client_auth_method: how the proxy authenticates at the token endpoint; by default as the
            provider's metadata says, ``client_secret_basic`` where it says nothing, and ``none``
            without a secret.
        authorize_parameters: to send with each sign-in, ``{"access_type": "offline"}`` for example.
        token_parameters: to send with each request for tokens.
        anew_prompt: the ``prompt`` that has people sign in again, or choose another account.
        userinfo: whether to ask the userinfo endpoint as well (OpenID Connect Core §5.3).
        claims: the provider's claims that our tokens repeat, ``email`` for example.
        person: called with the ``UpstreamIdentity``, at the sign-in and at each renewal; returns
            the ``Person``, or ``None`` for who may not come in. By default the subject is issuer
            and subject together.
        allowed_domains: of e-mail addresses that the provider has verified, as the DNS has them;
            empty for all.
        allowed_claims: what claims have to say, ``{"groups": ["staff"], "tid": ["…"]}``: one of the
            values of each.
        contact: whom people may ask who may not come in; the page tells them.
        keep_tokens: whether the provider's tokens are kept, for ``get_upstream_token`` and so that
            a grant ends with the sign-in. Without them the provider is asked once; what it said of
            the person is kept in any case.
        http_client: an ``httpx.AsyncClient`` to use; it is never closed.

    Raises:
        ConfigurationError: a setting is wrong.
    """

    client_auth_method: UpstreamAuthMethod | None = None
    authorize_parameters: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    token_parameters: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    anew_prompt: str = "login"
    userinfo: bool = False
    claims: Sequence[str] = ()
    person: PersonHook | None = None
    allowed_domains: Sequence[str] = ()
    allowed_claims: Mapping[str, Sequence[str]] = field(default_factory=dict[str, Sequence[str]])
    contact: str | None = None
    keep_tokens: bool = True
    http_client: httpx.AsyncClient | None = None

    def __post_init__(self) -> None:
        if self.client_auth_method not in (None, *get_args(UpstreamAuthMethod)):
            raise ConfigurationError(
                f"client_auth_method={self.client_auth_method!r} must be one of "
                f"{', '.join(get_args(UpstreamAuthMethod))}"
            )
        for name in ("authorize_parameters", "token_parameters"):
            _check_parameters(name, getattr(self, name))
        if not isinstance(self.anew_prompt, str) or not self.anew_prompt:
            raise ConfigurationError(
                f"anew_prompt={self.anew_prompt!r} must be text, like 'login' or 'select_account'"
            )
        for name in ("userinfo", "keep_tokens"):
            check_switch(name, getattr(self, name))
        check_list("claims", self.claims, str, "['email']")
        for name in self.claims:
            if name in RESERVED_CLAIMS:
                raise ConfigurationError(
                    f"claims has {name!r}, which our tokens say themselves: leave it out"
                )
        check_hook("person", self.person)
        check_list("allowed_domains", self.allowed_domains, str, "['example.com']")
        for domain in self.allowed_domains:
            _check_domain(domain)
        check_kind("allowed_claims", self.allowed_claims, Mapping)
        for claim, values in self.allowed_claims.items():
            if isinstance(values, str):
                raise ConfigurationError(
                    f"allowed_claims[{claim!r}] must be a list, like [{values!r}]"
                )
            check_names(f"allowed_claims[{claim!r}]", values)
        check_kind("contact", self.contact, str)


def _check_domain(domain: str) -> None:
    if not domain or "@" in domain or domain != domain.strip(". "):
        raise ConfigurationError(
            f"allowed_domains has {domain!r}: write the domain alone, like 'example.com'"
        )
    if not domain.isascii() or ascii_domain(domain) is None:
        known = ascii_domain(domain) or "xn--…"
        raise ConfigurationError(
            f"allowed_domains has {domain!r}: write the name as the DNS has it, {known!r}"
        )


def _check_parameters(setting: str, value: Any) -> None:
    check_kind(setting, value, Mapping)
    entries: Mapping[Any, Any] = value or {}
    if not all(isinstance(each, str) for each in (*entries, *entries.values())):
        raise ConfigurationError(
            f"{setting} must be a dict of texts, like {{'access_type': 'offline'}}"
        )
    for name in entries:
        if name in _OWN_PARAMETERS:
            raise ConfigurationError(
                f"{setting} has {name!r}, which the proxy sets itself: leave it out"
            )


class ServerSettings(TypedDict, total=False):
    """The settings of ``OAuthProvider`` that a proxy takes as well."""

    store: str | EncryptedStore
    required_scopes: Sequence[str] | None
    scopes_supported: Sequence[str] | None
    allow_dynamic_registration: bool
    allowed_redirect_schemes: Sequence[str]
    rate_limits: RateLimits | Literal["default"] | None
    lifetimes: Lifetimes | None
    registration: Registration | None
    pages: Pages | None
    options: ServerOptions | None
