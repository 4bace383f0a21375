"""The classes that presets consist of: plain data, with parameters in braces. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

ParameterKind: TypeAlias = Literal["host", "label", "segment", "uuid", "url", "issuer", "choice"]
AudienceKind: TypeAlias = Literal["resource", "named", "shared", "none"]
Checked: TypeAlias = Literal["documentation", "memory", "run"]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter that a provider's URLs depend on.

    Args:
        kind: its syntax.
        meaning: a description, for error messages and the documentation.
        example: a realistic value.
        default: used if the parameter is left out.
        required: whether it must be given if there is no default.
        several: whether it may be a list.
        choices: the values of a ``choice``.
    """

    kind: ParameterKind
    meaning: str
    example: str
    default: str | None = None
    required: bool = True
    several: bool = False
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Audience:
    """The meaning of ``aud`` in access tokens.

    Args:
        kind: ``resource`` if it is, or can be configured to be, the resource URL; ``named`` if the
            provider chooses a name; ``shared`` if that name stands for a project, and the tokens
            of all its applications carry it; ``none`` if it does not identify a server.
        note: the same in a sentence.
        value: the name, if it follows from the parameters.
    """

    kind: AudienceKind
    note: str
    value: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JWTs:
    """Signed access tokens.

    Args:
        issuers: accepted ``iss``.
        audience: the meaning of ``aud``.
        jwks_uri: the key set, if the issuer's metadata does not lead to it.
        client_id_claim: the claim that names the client, if it also distinguishes access tokens
            from ID tokens.
    """

    issuers: tuple[str, ...]
    audience: Audience
    jwks_uri: str | None = None
    client_id_claim: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Introspected:
    """Opaque access tokens with an introspection endpoint."""

    issuer: str
    introspection_url: str
    audience: Audience


@dataclass(frozen=True, slots=True, kw_only=True)
class Profiles:
    """Opaque access tokens that only give access to a profile.

    Args:
        userinfo_url: URL of the profile.
        subject_claim: the member that identifies the user.
        headers: to send with the request.
    """

    userinfo_url: str
    subject_claim: str = "sub"
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class ClientRegistration:
    """How MCP clients register themselves at the provider.

    Args:
        how: in words.
        issuer: the authorization server that clients are sent to.
    """

    how: str
    issuer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OIDC:
    """Sign-in through a proxy with OpenID Connect.

    Args:
        issuers: accepted ``iss`` of ID tokens.
        scopes: requested by default.
        config_url: the metadata, if its URL does not follow from the issuer.
        authorize_parameters: added to authorization requests.
        client_auth_method: how the proxy authenticates, if the metadata does not say.
        reauth_prompt: the ``prompt`` that lets users choose another account.
    """

    issuers: tuple[str, ...]
    scopes: tuple[str, ...] = ("openid", "profile", "email")
    config_url: str | None = None
    authorize_parameters: Mapping[str, str] = field(default_factory=dict[str, str])
    client_auth_method: Literal["client_secret_basic", "client_secret_post"] | None = None
    reauth_prompt: str = "login"


@dataclass(frozen=True, slots=True, kw_only=True)
class OAuth:
    """Sign-in through a proxy with OAuth and the profile."""

    authorization_endpoint: str
    token_endpoint: str
    scopes: tuple[str, ...]
    revocation_endpoint: str | None = None
    authorize_parameters: Mapping[str, str] = field(default_factory=dict[str, str])
    client_auth_method: Literal["client_secret_basic", "client_secret_post"] | None = None
    reauth_prompt: str = "login"


Tokens: TypeAlias = JWTs | Introspected | Profiles
SignInMethod: TypeAlias = OIDC | OAuth


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """One identity provider.

    Args:
        title: its name.
        source: the page of its documentation to start from.
        checked: how the facts were checked: read in that documentation, known from elsewhere, or
            run against the provider.
        unchecked: the facts that were not checked, in words.
        parameters: what the URLs depend on.
        tokens: its access tokens; ``None`` if only the provider can verify them.
        registration: how MCP clients register themselves there; ``None`` if they cannot.
        login: how a proxy signs users in; ``None`` if a proxy is unnecessary.
        steps: the steps in the provider's console.
    """

    title: str
    source: str
    checked: Checked
    unchecked: str = ""
    parameters: Mapping[str, Parameter] = field(default_factory=dict[str, Parameter])
    tokens: Tokens | None
    registration: ClientRegistration | None = None
    login: SignInMethod | None
    steps: tuple[str, ...]
