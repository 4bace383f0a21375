"""Authorization codes: the grant that a code starts, and who may redeem it. Pure."""

from __future__ import annotations

import hmac
import re
from hashlib import sha256

from ..._json import encode_base64url
from ...types import OAuthReason
from ..parties import Client
from .records import Code, Grant

_VERIFIER = re.compile(r"[A-Za-z0-9\-._~]{43,128}")


def grant_of_code(code_key: str) -> str:
    """Return the id of the grant that a code, named by its hash, starts.

    It is derived from the code, so that a replay can revoke the grant even before it has started.
    """
    return encode_base64url(sha256(b"grant of code " + code_key.encode()).digest())[:22]


def grant_from(code: Code, created_at: int, seconds: float) -> Grant:
    """Return the grant that a code starts."""
    return Grant(
        client_id=code.client_id,
        resource=code.resource,
        person=code.person,
        scopes=code.scopes,
        created_at=created_at,
        expires_at=created_at + int(seconds),
        signed_in_at=code.signed_in_at,
    )


def find_mismatch(
    code: Code, resource: str, client: Client, redirect_uri: str | None, verifier: str | None
) -> OAuthReason | None:
    """Return why this request may not redeem the code, ``None`` if it may.

    RFC 6749 §4.1.3, RFC 7636 §4.6.
    """
    if code.client_id != client.client_id:
        return "code_client"
    if code.resource != resource:
        return "other_resource"
    # OAuth 2.1 §4.1.3: it may be left out because there is PKCE, but must match if it is sent.
    if redirect_uri is not None and redirect_uri != code.redirect_uri:
        return "code_redirect_uri"
    if verifier is None or not _VERIFIER.fullmatch(verifier):
        return "code_verifier"
    challenge = encode_base64url(sha256(verifier.encode("ascii")).digest())
    if not hmac.compare_digest(challenge.encode(), code.code_challenge.encode()):
        return "code_verifier"
    return None
