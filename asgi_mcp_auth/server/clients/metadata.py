"""Validates client metadata from operators, registrations and metadata documents. Pure.

The result contains only known members, with defaults filled in (RFC 7591 §2).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ..._jose import ASYMMETRIC, UnusableKey
from ..._json import is_array, is_object
from ..._urls import check_redirect_uri, is_loopback_redirect, is_public_web_url
from ...errors import InvalidClientMetadata, InvalidRedirectURI
from ...keys import MAX_KEYS as MAX_OPERATOR_KEYS
from ...keys import KeySet, key_set_from
from ...types import JSONObject
from ..parties import OFFLINE_ACCESS

MAX_REDIRECT_URIS = 32
MAX_TEXT_CHARS = 512
MAX_URL_CHARS = 2048
MAX_LIST = 16
MAX_KEYS = 8  # of a client that is not the operator's
MAX_UNNAMED_KEYS = 2
MAX_VARIANTS = 32

ASSERTION_ALGORITHMS: Final = ASYMMETRIC
SECRET_METHODS: Final = ("client_secret_basic", "client_secret_post")
AUTH_METHODS: Final = ("none", *SECRET_METHODS, "private_key_jwt")

# Control characters, and those that reverse the direction of text: users decide by these names.
_MISLEADING = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
# Grant types without the user's consent at this server, or that are obsolete (RFC 9700 §2.4).
_FORBIDDEN_GRANTS = frozenset(("password", "implicit"))


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
        auth_methods: the authentication methods that may be registered.
        default_auth_method: for metadata that names none.
        strict: whether anything unknown is an error instead of being left out.
    """

    scopes: frozenset[str]
    grant_types: tuple[GrantRules, ...]
    redirect_schemes: frozenset[str] = frozenset()
    auth_methods: tuple[str, ...] = AUTH_METHODS
    default_auth_method: str = "client_secret_basic"
    strict: bool = False


def check_client_metadata(document: Mapping[str, Any], policy: MetadataPolicy) -> JSONObject:
    """Return the effective metadata. Members that are ``null`` or ``""`` count as absent.

    Raises:
        InvalidRedirectURI: a redirect URI is invalid.
        InvalidClientMetadata: another member is; the description names it.

    RFC 7591 §2 and §3.2.2; OpenID Connect Registration §2 for ``application_type``.
    """
    metadata: JSONObject = {}
    for name, value in document.items():
        base, hash_sign, language = name.partition("#")
        check = _CHECKS.get(base)
        if check is None or (hash_sign and (base not in _FOR_PEOPLE or not _is_language(language))):
            if policy.strict and name not in _ELSEWHERE:
                raise InvalidClientMetadata(f"{name} is not a known member of client metadata")
            continue
        if value is None or value == "":
            if policy.strict:
                raise InvalidClientMetadata(f"{name} has no value: leave it out")
            continue
        metadata[name] = check(base, value)
    if sum("#" in name for name in metadata) > MAX_VARIANTS:
        raise InvalidClientMetadata("There are too many language variants")
    _check_grants(metadata, policy)
    _check_redirects(metadata, document.get("redirect_uris"), policy)
    _check_authentication(metadata, policy)
    _check_scope(metadata, policy)
    return metadata


def _check_grants(metadata: JSONObject, policy: MetadataPolicy) -> None:
    allowed = {each.name: each for each in policy.grant_types}
    default = [each.name for each in policy.grant_types if each.is_default]
    asked: list[str] = metadata.get("grant_types", default)
    if not _FORBIDDEN_GRANTS.isdisjoint(asked):
        raise InvalidClientMetadata("grant_types contains a grant type that is not supported")
    granted = [allowed[name] for name in dict.fromkeys(asked) if name in allowed]
    if policy.strict and len(granted) < len(asked):
        raise InvalidClientMetadata(f"grant_types may contain {', '.join(allowed)}, each once")
    if not any(each.starts for each in granted):
        raise InvalidClientMetadata(
            "grant_types contains no grant type that this server lets a client start with"
        )
    expected = [each.response_type for each in granted if each.response_type is not None]
    responses: list[str] = metadata.get("response_types", expected)
    if set(responses) != set(expected):
        raise InvalidClientMetadata(
            "response_types must match grant_types: code for authorization_code, nothing for others"
        )
    metadata["grant_types"] = [each.name for each in granted]
    metadata["response_types"] = responses


def _check_redirects(metadata: JSONObject, uris: object, policy: MetadataPolicy) -> None:
    if not metadata["response_types"]:
        return
    if not is_array(uris) or not uris:
        raise InvalidRedirectURI("redirect_uris must be a list of at least one URI")
    if len(uris) > MAX_REDIRECT_URIS:
        raise InvalidRedirectURI(f"redirect_uris has more than {MAX_REDIRECT_URIS} entries")
    checked = [check_redirect_uri(uri, policy.redirect_schemes) for uri in uris]
    if metadata.get("application_type") == "web" and any(map(is_loopback_redirect, checked)):
        raise InvalidRedirectURI("A web application cannot have a redirect URI on loopback")
    metadata["redirect_uris"] = list(dict.fromkeys(checked))


def _check_authentication(metadata: JSONObject, policy: MetadataPolicy) -> None:
    method = metadata.setdefault("token_endpoint_auth_method", policy.default_auth_method)
    if method not in policy.auth_methods:
        raise InvalidClientMetadata("token_endpoint_auth_method is not supported here")
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


def client_key_set(document: Mapping[str, Any], *, is_operators: bool) -> KeySet:
    """Return a client's keys. Only a few of them can match one assertion.

    Args:
        document: the key set.
        is_operators: whether the client is the operator's, and may have more keys. In a stranger's
            set with several keys, each needs a ``kid``; in the operator's, two keys for each
            algorithm may be without one.

    Raises:
        UnusableKey: there are too many keys, or too many without a ``kid``.
    """
    max_keys = MAX_OPERATOR_KEYS if is_operators else MAX_KEYS
    keys, _ = key_set_from(
        document, ASSERTION_ALGORITHMS, max_keys=max_keys, named=not is_operators
    )
    if any(len(keys.unnamed(algorithm)) > MAX_UNNAMED_KEYS for algorithm in ASSERTION_ALGORITHMS):
        raise UnusableKey(
            f"it has more than {MAX_UNNAMED_KEYS} keys without a kid for one algorithm"
        )
    return keys


def _check_scope(metadata: JSONObject, policy: MetadataPolicy) -> None:
    asked = dict.fromkeys(metadata.pop("scope", "").split())
    known = [scope for scope in asked if scope in policy.scopes or scope == OFFLINE_ACCESS]
    if policy.strict and len(known) < len(asked):
        # A misspelt limit must not turn into no limit.
        raise InvalidClientMetadata(
            f"scope may contain {', '.join(sorted(policy.scopes)) or 'nothing'}"
        )
    if known:
        metadata["scope"] = " ".join(known)


def _text(name: str, value: Any) -> str:
    if type(value) is not str or not 0 < len(value) <= MAX_TEXT_CHARS or _MISLEADING.search(value):
        raise InvalidClientMetadata(
            f"{name} must be a string of 1 to {MAX_TEXT_CHARS} visible characters"
        )
    return value


def _scope(name: str, value: Any) -> str:
    if type(value) is not str or len(value) > MAX_URL_CHARS:
        raise InvalidClientMetadata(
            f"{name} must be a string of at most {MAX_URL_CHARS} characters"
        )
    return value


def _texts(name: str, value: Any) -> list[str]:
    if not is_array(value) or len(value) > MAX_LIST:
        raise InvalidClientMetadata(f"{name} must be a list of at most {MAX_LIST} strings")
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
    # This server cannot bind tokens to keys, and such a client does not want unbound ones (RFC 9449
    # §5.2).
    "dpop_bound_access_tokens": _one_of(False),
    "tls_client_certificate_bound_access_tokens": _one_of(False),
}
