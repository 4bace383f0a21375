"""The settings of a proxy for its identity provider."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict, get_args

from .._credentials import SecretMethod
from .._deprecated import renamed_fields
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

UpstreamAuthMethod: TypeAlias = SecretMethod | Literal["none"]
_AUTH_METHODS = (*get_args(SecretMethod), "none")

# The proxy sets these itself (RFC 6749 §4.1, RFC 7636 §4.3, OpenID Connect Core §3.1.2.1).
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
    """A user at the identity provider. Only issuer and subject together identify them for good.

    Attributes:
        issuer: the identity provider.
        subject: the user's identifier there.
        claims: the provider's claims about them, verified if they come from a signed ID token.
    """

    issuer: str
    subject: str
    claims: JSONObject = field(repr=False)


PersonHook: TypeAlias = Callable[[UpstreamIdentity], Person | Awaitable[Person | None] | None]


@renamed_fields(anew_prompt="reauth_prompt")
@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamRules:
    """How to talk to the identity provider, and which of its users may use the service.

    Args:
        client_auth_method: how the proxy authenticates at the token endpoint; by default as the
            provider's metadata says, ``client_secret_basic`` if it says nothing, and ``none``
            without a secret. Where the provider does not decode what that form-encodes,
            ``client_secret_post`` or ``client_secret_basic_raw``; where it wants the id in the form
            as well, ``client_secret_basic_with_id``.
        authorize_parameters: sent with each sign-in, for example ``{"access_type": "offline"}``.
        token_parameters: sent with each token request.
        reauth_prompt: the ``prompt`` that makes users sign in again or choose another account.
        userinfo: whether to ask the userinfo endpoint as well (OpenID Connect Core §5.3).
        claims: the provider's claims to copy into our tokens, for example ``email``.
        person: called with the ``UpstreamIdentity`` at the sign-in and at each refresh; returns the
            ``Person``, or ``None`` for users who are not allowed. By default the subject is issuer
            and subject together.
        allowed_domains: domains of verified email addresses, as the DNS has them; empty for all.
        allowed_claims: accepted values of claims, ``{"groups": ["staff"], "tid": ["…"]}``. Every
            claim must have one of its values.
        contact: shown to users who are not allowed, so that they know whom to ask.
        keep_tokens: whether to keep the provider's tokens, for ``get_upstream_token`` and so that a
            grant ends with the sign-in. Otherwise the provider is only asked once. Its claims are
            kept in any case.
        http_client: an ``httpx.AsyncClient`` to use; it is never closed.

    Raises:
        ConfigurationError: a setting is invalid.
    """

    client_auth_method: UpstreamAuthMethod | None = None
    authorize_parameters: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    token_parameters: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    reauth_prompt: str = "login"
    userinfo: bool = False
    claims: Sequence[str] = ()
    person: PersonHook | None = None
    allowed_domains: Sequence[str] = ()
    allowed_claims: Mapping[str, Sequence[str]] = field(default_factory=dict[str, Sequence[str]])
    contact: str | None = None
    keep_tokens: bool = True
    http_client: httpx.AsyncClient | None = None

    def __post_init__(self) -> None:
        if self.client_auth_method not in (None, *_AUTH_METHODS):
            raise ConfigurationError(
                f"client_auth_method={self.client_auth_method!r} must be one of "
                f"{', '.join(_AUTH_METHODS)}"
            )
        for name in ("authorize_parameters", "token_parameters"):
            _check_parameters(name, getattr(self, name))
        if not isinstance(self.reauth_prompt, str) or not self.reauth_prompt:
            raise ConfigurationError(
                f"reauth_prompt={self.reauth_prompt!r} must be a string, like 'login'"
            )
        for name in ("userinfo", "keep_tokens"):
            check_switch(name, getattr(self, name))
        check_list("claims", self.claims, str, "['email']")
        for name in self.claims:
            if name in RESERVED_CLAIMS:
                raise ConfigurationError(
                    f"claims has {name!r}, which our tokens set themselves: leave it out"
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
        dns_name = ascii_domain(domain) or "xn--…"
        raise ConfigurationError(
            f"allowed_domains has {domain!r}: write the name as the DNS has it, {dns_name!r}"
        )


def _check_parameters(setting: str, value: Any) -> None:
    check_kind(setting, value, Mapping)
    entries: Mapping[Any, Any] = value or {}
    if not all(isinstance(each, str) for each in (*entries, *entries.values())):
        raise ConfigurationError(
            f"{setting} must be a dict of strings, like {{'access_type': 'offline'}}"
        )
    for name in entries:
        if name in _OWN_PARAMETERS:
            raise ConfigurationError(
                f"{setting} has {name!r}, which the proxy sets itself: leave it out"
            )


class ServerSettings(TypedDict, total=False):
    """The settings of ``OAuthProvider`` that a proxy has too."""

    store: str | EncryptedStore
    required_scopes: Sequence[str] | None
    scopes_supported: Sequence[str] | None
    challenge_scopes: Sequence[str] | None
    allow_dynamic_registration: bool
    allowed_redirect_schemes: Sequence[str]
    rate_limits: RateLimits | Literal["default"] | None
    lifetimes: Lifetimes | None
    registration: Registration | None
    pages: Pages | None
    options: ServerOptions | None
