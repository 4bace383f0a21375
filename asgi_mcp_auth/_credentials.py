"""How this server authenticates as a client elsewhere, with an id and a secret. Pure.

RFC 6749 §2.3.1 wants both form-encoded in the header, which many servers do not decode.
"""

from __future__ import annotations

import base64
from collections.abc import Collection
from typing import Literal, TypeAlias, get_args
from urllib.parse import quote_plus

from .errors import ConfigurationError

SecretMethod: TypeAlias = Literal[
    "client_secret_basic",
    "client_secret_post",
    "client_secret_basic_raw",
    "client_secret_basic_with_id",
]
_METHODS = get_args(SecretMethod)


def client_authentication(
    method: object, client_id: str | None, client_secret: object
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the headers and form fields that authenticate us (RFC 6749 §2.3.1, RFC 7662 §2.1).

    Raises:
        ConfigurationError: the method is unknown, or cannot send this id and secret.
    """
    if not isinstance(client_secret, str) or not client_secret.isprintable() or not client_secret:
        raise ConfigurationError(
            "client_secret must be a non-empty string: the endpoint only answers clients it knows"
        )
    if method == "bearer":
        if not client_secret.isascii() or " " in client_secret:
            raise ConfigurationError(
                "client_secret is sent as a Bearer token: use ASCII without spaces"
            )
        return {"authorization": f"Bearer {client_secret}"}, {}
    if not isinstance(client_id, str) or not client_id:
        raise ConfigurationError("client_id is required, unless client_auth_method='bearer'")
    fields = {"client_id": client_id}
    if method == "client_secret_post":
        return {}, {**fields, "client_secret": client_secret}
    pair = f"{quote_plus(client_id)}:{quote_plus(client_secret)}"
    if method == "client_secret_basic_raw":
        if ":" in client_id:
            raise ConfigurationError(
                "client_auth_method='client_secret_basic_raw' cannot send a client_id with a colon:"
                " write 'client_secret_basic' or 'client_secret_post'"
            )
        pair = f"{client_id}:{client_secret}"
    elif method not in _METHODS:
        raise ConfigurationError(
            f"client_auth_method={method!r} must be {', '.join(map(repr, _METHODS))} or 'bearer'"
        )
    headers = {"authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
    return headers, fields if method == "client_secret_basic_with_id" else {}


def usual_method(methods: Collection[str], client_id: str, client_secret: str) -> SecretMethod:
    """Return how to authenticate at a server whose metadata lists ``methods``.

    In the form there are no two ways to encode, so it is preferred where they differ.
    """
    known: list[SecretMethod] = ["client_secret_basic", "client_secret_post"]
    if _is_encoded(client_id, client_secret):
        known.reverse()
    for each in known:
        if each in methods:
            return each
    return "client_secret_basic"


def advice(method: str, client_id: str | None, client_secret: str) -> str:
    """Return what to look at when a server refuses these credentials, for the log."""
    if method == "bearer":
        return "check client_secret"
    checked = "check client_id and client_secret"
    if method == "client_secret_post":
        return f"{checked}, or write client_auth_method='client_secret_basic'"
    ways = "client_auth_method='client_secret_post' or 'client_secret_basic_with_id'"
    if not _is_encoded(client_id or "", client_secret):
        return f"{checked}. If they are right, write {ways}"
    if method == "client_secret_basic_raw":
        return f"{checked}. If they are right, write client_auth_method='client_secret_post'"
    with_id = "" if method == "client_secret_basic_with_id" else ", 'client_secret_basic_with_id'"
    return (
        f"{checked}. If they are right, the server may not decode them (RFC 6749 §2.3.1): write"
        f" client_auth_method='client_secret_post'{with_id} or 'client_secret_basic_raw'"
    )


def _is_encoded(client_id: str, client_secret: str) -> bool:
    return quote_plus(client_id + client_secret) != client_id + client_secret
