"""What a preset is made of: plain data, with names in braces where the parameters go. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

ParameterKind: TypeAlias = Literal["host", "label", "segment", "uuid", "url", "issuer", "choice"]
AudienceKind: TypeAlias = Literal["resource", "named", "shared", "none"]
Checked: TypeAlias = Literal["documentation", "memory", "run"]


@dataclass(frozen=True, slots=True)
class Parameter:
    """One thing that a provider's addresses depend on.

    Args:
        kind: what it may look like.
        meaning: what it is, for error messages and the page.
        example: a value that could be real.
        default: used when it is left out.
        required: whether it has to be given where there is no default.
        several: whether a list may be given.
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
    """What ``aud`` of an access token holds.

    Args:
        kind: ``resource`` where it is, or can be made, the resource URL; ``named`` where the
            provider makes up a name; ``shared`` where that name stands for a project, and the
            tokens of all its applications have it; ``none`` where nothing in it stands for one
            server.
        note: the same in a sentence.
        value: the name, where the parameters are enough to know it.
    """

    kind: AudienceKind
    note: str
    value: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JWTs:
    """Access tokens that anybody can read.

    Args:
        issuers: accepted ``iss``.
        audience: what ``aud`` holds.
        jwks_uri: the key set, where the issuer's metadata does not lead to it.
        client_id_claim: the claim that names the client, where it also tells an access token from
            an ID token.
    """

    issuers: tuple[str, ...]
    audience: Audience
    jwks_uri: str | None = None
    client_id_claim: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Introspected:
    """Access tokens that the issuer has to be asked about."""

    issuer: str
    introspection_url: str
    audience: Audience


@dataclass(frozen=True, slots=True, kw_only=True)
class Profiles:
    """Access tokens that open a profile and say nothing else.

    Args:
        userinfo_url: where the profile is.
        subject_claim: the member that names the person.
        headers: sent along.
    """

    userinfo_url: str
    subject_claim: str = "sub"
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Registration:
    """How MCP clients get to know the provider by themselves.

    Args:
        how: in words.
        issuer: the authorization server that they are sent to.
    """

    how: str
    issuer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OIDC:
    """How people sign in there through a proxy, with OpenID Connect.

    Args:
        issuers: accepted ``iss`` of ID tokens.
        scopes: asked for by default.
        config_url: the metadata, if it is not where the issuer says.
        authorize_parameters: sent along to the authorization endpoint.
        client_auth_method: how the proxy authenticates, where the metadata does not say.
        anew_prompt: the ``prompt`` that lets people choose another account.
    """

    issuers: tuple[str, ...]
    scopes: tuple[str, ...] = ("openid", "profile", "email")
    config_url: str | None = None
    authorize_parameters: Mapping[str, str] = field(default_factory=dict[str, str])
    client_auth_method: Literal["client_secret_basic", "client_secret_post"] | None = None
    anew_prompt: str = "login"


@dataclass(frozen=True, slots=True, kw_only=True)
class OAuth:
    """How people sign in there through a proxy, with OAuth and the profile."""

    authorization_endpoint: str
    token_endpoint: str
    scopes: tuple[str, ...]
    revocation_endpoint: str | None = None
    authorize_parameters: Mapping[str, str] = field(default_factory=dict[str, str])
    client_auth_method: Literal["client_secret_basic", "client_secret_post"] | None = None
    anew_prompt: str = "login"


Tokens: TypeAlias = JWTs | Introspected | Profiles
Login: TypeAlias = OIDC | OAuth


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """One provider.

    Args:
        title: as people know it.
        source: the page of its documentation to begin with.
        checked: how far this was checked: read in that documentation, known from elsewhere, or run
            against it.
        unchecked: the facts that were not, in words.
        parameters: what the addresses depend on.
        tokens: its access tokens; ``None`` where nobody but the provider can tell what they are
            worth.
        registration: how MCP clients register there by themselves; ``None`` where they cannot.
        login: how a proxy signs people in; ``None`` where there is no use for one.
        steps: what to do at the provider's console.
    """

    title: str
    source: str
    checked: Checked
    unchecked: str = ""
    parameters: Mapping[str, Parameter] = field(default_factory=dict[str, Parameter])
    tokens: Tokens | None
    registration: Registration | None = None
    login: Login | None
    steps: tuple[str, ...]
