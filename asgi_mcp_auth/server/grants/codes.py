"""What an authorization code was issued for, and whether a request to redeem it fits. Pure."""

from __future__ import annotations

import hmac
import re
from hashlib import sha256

from ..._json import encode_base64url
from ...types import OAuthReason
from ..parties import Client
from .records import Code

_VERIFIER = re.compile(r"[A-Za-z0-9\-._~]{43,128}")


def grant_of_code(code_key: str) -> str:
    """Return the id of the grant that a code, known by its hash, begins.

    Derived, so that whoever replays a code can end its grant, even before it has begun.
    """
    return encode_base64url(sha256(b"grant of code " + code_key.encode()).digest())[:22]


def find_mismatch(
    code: Code, resource: str, client: Client, redirect_uri: str | None, verifier: str | None
) -> OAuthReason | None:
    """Return why a code is not for who sends it, ``None`` when it is (RFC 6749 §4.1.3, RFC 7636
    §4.6).
    """
    if code.client_id != client.client_id:
        return "code_client"
    if code.resource != resource:
        return "other_resource"
    # OAuth 2.1 §4.1.3: with PKCE it may be left out; if it is sent it has to be the same.
    if redirect_uri is not None and redirect_uri != code.redirect_uri:
        return "code_redirect_uri"
    if verifier is None or not _VERIFIER.fullmatch(verifier):
        return "code_verifier"
    challenge = encode_base64url(sha256(verifier.encode("ascii")).digest())
    return (
        None
        if hmac.compare_digest(challenge.encode(), code.code_challenge.encode())
        else "code_verifier"
    )
