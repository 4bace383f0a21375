"""Validates client metadata from operators, registrations and metadata documents. Pure.

The result contains only known members, with defaults filled in (RFC 7591 §2). Of an operator,
everything unusable is an error. Of a client, it is one only if it decides who gets in: redirect
URIs of which none is left, grant and response types of which none is left, how the client
authenticates and with which keys, and what it insists on (pushed requests, tokens that are bound to
a key). All else is left out, and the answer says what was registered (§3.2.1).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from itertools import islice
from textwrap import shorten
from typing import Any, Final

from ..._jose import ASYMMETRIC, UnusableKey
from ..._json import is_array, is_object
from ..._urls import MAX_DESCRIPTION_CHARS, check_redirect_uri, is_public_web_url
from ...errors import InvalidClientMetadata, InvalidRedirectURI
from ...keys import KeySet, key_set_from
from ...types import JSONObject
from ..parties import OFFLINE_ACCESS

MAX_TEXT_CHARS = 512
MAX_URL_CHARS = 2048
MAX_REASONS = 32  # those that are not shown do not have to be shortened
MAX_KEYS = 8  # of a client that is not the operator's

ASSERTION_ALGORITHMS: Final = ASYMMETRIC
SECRET_METHODS: Final = ("client_secret_basic", "client_secret_post")
AUTH_METHODS: Final = ("none", *SECRET_METHODS, "private_key_jwt")

# Control characters, and those that reverse the direction of text: users decide by these names.
_MISLEADING = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantRules:
    """The rules of registration for one grant type.

    Args:
        name: in ``grant_types``.
        response_type: the entry in ``response_types`` of its clients; ``None`` if it does not use
            ``/authorize``.
        starts: whether a client can start with it, without a grant of another type.
        needs_authentication: whether it excludes clients that do not authenticate.
        acts_for_itself: whether the client is the subject of its tokens.
        self_registration: whether clients may register for it themselves.
        is_default: whether metadata without ``grant_types`` includes it.
    """

    name: str
    response_type: str | None = None
    starts: bool = True
    needs_authentication: bool = False
    acts_for_itself: bool = False
    self_registration: bool = True
    is_default: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MetadataPolicy:
    """The metadata that may be registered.

    Attributes:
        scopes: the scopes of this server; others are left out.
        grant_types: the grant types that may be registered; others are left out.
        redirect_schemes: private-use schemes of redirect URIs.
        redirect_uris: redirect URIs that are acceptable whatever their scheme.
        auth_methods: the authentication methods that may be registered.
        default_auth_method: for metadata that names none.
        strict: whether anything unknown is an error instead of being left out.
    """

    scopes: Set[str]
    grant_types: tuple[GrantRules, ...]
    redirect_schemes: frozenset[str] = frozenset()
    redirect_uris: frozenset[str] = frozenset()
    auth_methods: tuple[str, ...] = AUTH_METHODS
    default_auth_method: str = "client_secret_basic"
    strict: bool = False


def check_client_metadata(document: Mapping[str, Any], policy: MetadataPolicy) -> JSONObject:
    """Return the effective metadata. Members that are ``null`` or empty count as absent.

    Raises:
        InvalidRedirectURI: no redirect URI is acceptable; the description has all reasons.
        InvalidClientMetadata: another member that decides is unusable; the description names it.

    RFC 7591 §2, §3.2.1 and §3.2.2.
    """
    metadata: JSONObject = {}
    for name, value in document.items():
        base, hash_sign, language = name.partition("#")
        check = _CHECKS.get(base)
        if check is None or (hash_sign and (base not in _FOR_PEOPLE or not _is_language(language))):
            if policy.strict and name not in _ELSEWHERE:
                raise InvalidClientMetadata(f"{name} is not a known member of client metadata")
            continue
        if not policy.strict:
            value = _usable_part(base, value)
        if value is None or value == "":
            if policy.strict:
                raise InvalidClientMetadata(f"{name} has no value: leave it out")
            continue
        try:
            metadata[name] = check(base, value)
        except InvalidClientMetadata:
            if policy.strict or base in _DECISIVE:
                raise
    _check_grants(metadata, policy)
    _check_redirects(metadata, document.get("redirect_uris"), policy)
    _check_authentication(metadata, policy)
    _check_bindings(metadata)
    _check_scope(metadata, policy)
    return metadata


def _usable_part(base: str, value: Any) -> Any:
    """Return what can be used of a client's value, ``None`` for nothing."""
    if base in _TEXTS and type(value) is str:
        return _MISLEADING.sub("", value).strip()
    if base in _LISTS and is_array(value):
        return [each for each in value if type(each) is str and _is_text(each)] or None
    return value


def _check_grants(metadata: JSONObject, policy: MetadataPolicy) -> None:
    allowed = {each.name: each for each in policy.grant_types}
    default = [each.name for each in policy.grant_types if each.is_default]
    asked: list[str] = metadata.get("grant_types", default)
    granted = [allowed[name] for name in dict.fromkeys(asked) if name in allowed]
    if policy.strict and len(granted) < len(asked):
        raise InvalidClientMetadata(f"grant_types may contain {', '.join(allowed)}, each once")
    starting = [each.name for each in allowed.values() if each.starts]
    if not any(each.starts for each in granted):
        raise InvalidClientMetadata(
            "grant_types contains no grant type that this server lets a client start with:"
            f" {', '.join(starting)}"
        )
    expected = [each.response_type for each in granted if each.response_type is not None]
    responses: list[str] = metadata.get("response_types", expected)
    if not policy.strict and not set(responses).isdisjoint(expected):
        responses = expected
    if set(responses) != set(expected):
        raise InvalidClientMetadata(
            "response_types must match grant_types: code for authorization_code, nothing for"
            " others. There are no other response types here"
        )
    metadata["grant_types"] = [each.name for each in granted]
    metadata["response_types"] = responses


def _check_redirects(metadata: JSONObject, uris: object, policy: MetadataPolicy) -> None:
    if not metadata["response_types"]:
        return
    if not uris:
        # Some clients register like this where their user has to sign in again, and show the text.
        raise InvalidRedirectURI(
            "redirect_uris is missing or empty, so a sign-in with this registration could not be"
            " completed. Please start the sign-in again in the application"
        )
    if not is_array(uris):
        raise InvalidRedirectURI("redirect_uris must be a list of URIs")
    accepted: list[str] = []
    reasons: dict[str, None] = {}
    for uri in uris:
        try:
            known = policy.redirect_uris
            accepted.append(check_redirect_uri(uri, policy.redirect_schemes, known))
        except InvalidRedirectURI as error:
            reasons[str(error)] = None
    if reasons and (policy.strict or not accepted):
        text = ". ".join(islice(reasons, MAX_REASONS))
        raise InvalidRedirectURI(shorten(text, MAX_DESCRIPTION_CHARS, placeholder=" ..."))
    metadata["redirect_uris"] = list(dict.fromkeys(accepted))


def _check_authentication(metadata: JSONObject, policy: MetadataPolicy) -> None:
    method = metadata.setdefault("token_endpoint_auth_method", policy.default_auth_method)
    if method not in policy.auth_methods:
        raise InvalidClientMetadata(
            f"token_endpoint_auth_method must be one of {', '.join(policy.auth_methods)}"
        )
    if "jwks" in metadata and "jwks_uri" in metadata:
        raise InvalidClientMetadata("jwks and jwks_uri exclude each other")
    _check_keys(metadata, is_operators=policy.strict)
    if method == "private_key_jwt" and "jwks" not in metadata and "jwks_uri" not in metadata:
        raise InvalidClientMetadata("private_key_jwt needs jwks or jwks_uri")
    for each in policy.grant_types:
        if method == "none" and each.needs_authentication and each.name in metadata["grant_types"]:
            raise InvalidClientMetadata(f"{each.name} needs a client that authenticates")


def _check_keys(metadata: JSONObject, *, is_operators: bool) -> None:
    if "jwks" not in metadata:
        return
    try:
        usable = len(client_key_set(metadata["jwks"], is_operators=is_operators))
    except UnusableKey as error:
        raise InvalidClientMetadata(f"jwks cannot be used: {error}") from None
    if not usable:
        raise InvalidClientMetadata("jwks must be a key set with at least one usable public key")


def _check_bindings(metadata: JSONObject) -> None:
    """Check that the client does not insist on tokens that are bound to a key.

    This server cannot bind them, and such a client does not want unbound ones (RFC 9449 §5.2).
    """
    for name in ("dpop_bound_access_tokens", "tls_client_certificate_bound_access_tokens"):
        if metadata.get(name):
            raise InvalidClientMetadata(
                f"{name} is not supported: this server issues bearer tokens only. The application"
                " has to register without it"
            )


def client_key_set(document: Mapping[str, Any], *, is_operators: bool) -> KeySet:
    """Return a client's keys.

    Args:
        document: the key set.
        is_operators: whether the client is the operator's. A stranger's set has few keys, because
            reading one takes 50 µs before it is known who sends it; and where it has several, each
            needs a ``kid``, because an assertion of theirs costs one signature check.

    Raises:
        UnusableKey: there are too many keys, or one has no ``kid``.
    """
    return key_set_from(
        document,
        ASSERTION_ALGORITHMS,
        max_keys=None if is_operators else MAX_KEYS,
        named=not is_operators,
    )[0]


def _check_scope(metadata: JSONObject, policy: MetadataPolicy) -> None:
    asked = dict.fromkeys(metadata.pop("scope", "").split())
    known = [scope for scope in asked if scope in policy.scopes or scope == OFFLINE_ACCESS]
    if policy.strict and len(known) < len(asked):
        # A misspelt limit must not turn into no limit.
        raise InvalidClientMetadata(
            f"scope may contain {', '.join(sorted(policy.scopes)) or 'nothing'}; scopes_supported"
            " can name more"
        )
    if known:
        metadata["scope"] = " ".join(known)


def _is_text(value: str) -> bool:
    return 0 < len(value) <= MAX_TEXT_CHARS and not _MISLEADING.search(value)


def _text(name: str, value: Any) -> str:
    if type(value) is not str or not _is_text(value):
        raise InvalidClientMetadata(
            f"{name} must be a string of 1 to {MAX_TEXT_CHARS} visible characters"
        )
    return value


def _scope(name: str, value: Any) -> str:
    if type(value) is not str:
        raise InvalidClientMetadata(f"{name} must be a string of scopes with spaces between them")
    return value


def _texts(name: str, value: Any) -> list[str]:
    if not is_array(value):
        raise InvalidClientMetadata(f"{name} must be a list of strings")
    return [_text(name, each) for each in value]


def _web_url(name: str, value: Any) -> str:
    if not is_public_web_url(value) or len(value) > MAX_URL_CHARS:
        raise InvalidClientMetadata(f"{name} must be an http or https URL of a public host")
    return value


def _jwks_uri(name: str, value: Any) -> str:
    if not _web_url(name, value).startswith("https://"):
        raise InvalidClientMetadata(f"{name} must be an https URL of a public host")
    return str(value)


def _jwks(name: str, value: Any) -> JSONObject:
    if not is_object(value) or not is_array(value.get("keys")):
        raise InvalidClientMetadata(f"{name} must be a key set: an object with a list in keys")
    return {"keys": value["keys"]}


def _one_of(*allowed: object) -> Callable[[str, Any], Any]:
    def check(name: str, value: Any) -> Any:
        if value not in allowed or type(value) not in (str, bool):
            raise InvalidClientMetadata(f"{name} has a value that is not supported")
        return value

    return check


def _is_language(tag: str) -> bool:
    return 0 < len(tag) <= 35 and tag.isascii() and tag.replace("-", "").isalnum()


# Members that other modules read.
_ELSEWHERE = frozenset(("client_id", "client_secret", "redirect_uris"))
_FOR_PEOPLE = frozenset(("client_name", "client_uri", "logo_uri", "tos_uri", "policy_uri"))
_TEXTS = frozenset(("client_name", "software_id", "software_version"))
_LISTS = frozenset(("contacts", "grant_types", "response_types"))
# How the client authenticates, and what it insists on: "true" must not turn into no.
_DECISIVE = frozenset(
    (
        "token_endpoint_auth_method",
        "token_endpoint_auth_signing_alg",
        "jwks",
        "jwks_uri",
        "require_pushed_authorization_requests",
        "dpop_bound_access_tokens",
        "tls_client_certificate_bound_access_tokens",
    )
)
_CHECKS: Final[Mapping[str, Callable[[str, Any], Any]]] = {
    "client_name": _text,
    "client_uri": _web_url,
    "logo_uri": _web_url,
    "tos_uri": _web_url,
    "policy_uri": _web_url,
    "contacts": _texts,
    "software_id": _text,
    "software_version": _text,
    "application_type": _one_of("native", "web"),
    "grant_types": _texts,
    "response_types": _texts,
    "token_endpoint_auth_method": _text,
    "token_endpoint_auth_signing_alg": _one_of(*ASSERTION_ALGORITHMS),
    "scope": _scope,
    "jwks": _jwks,
    "jwks_uri": _jwks_uri,
    "require_pushed_authorization_requests": _one_of(True, False),
    "dpop_bound_access_tokens": _one_of(True, False),
    "tls_client_certificate_bound_access_tokens": _one_of(True, False),
}
