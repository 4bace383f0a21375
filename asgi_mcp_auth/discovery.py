"""An issuer → its metadata document, and the key set named there (RFC 8414, OpenID Connect Discovery 1.0)."""

from __future__ import annotations

from ._http import FetchFailed, HTTPFetcher
from ._json import parse_json_object
from ._urls import (
    WELL_KNOWN_OPENID,
    WELL_KNOWN_SERVER,
    check_url,
    host_root,
    url_path,
)
from .errors import ConfigurationError
from .types import JSONObject

MAX_METADATA_BYTES = 256 * 1024


def metadata_urls(issuer: str) -> tuple[str, ...]:
    """Return where the metadata of ``issuer`` may lie, in the order in which to look.

    RFC 8414 §3.1 with both suffixes, then OpenID Connect Discovery §4, which appends instead of inserting.
    """
    root, path = host_root(issuer), url_path(issuer).removesuffix("/")
    return tuple(
        dict.fromkeys(
            (
                f"{root}{WELL_KNOWN_SERVER}{path}",
                f"{root}{WELL_KNOWN_OPENID}{path}",
                f"{root}{path}{WELL_KNOWN_OPENID}",
            )
        )
    )


async def fetch_metadata(issuer: str, fetcher: HTTPFetcher) -> JSONObject:
    """Return the first metadata document whose ``issuer`` equals ``issuer`` byte for byte.

    Raises:
        FetchFailed: none of the at most three places has one; the message says what each held.

    RFC 8414 §3.3.
    """
    findings: list[str] = []
    for url in metadata_urls(issuer):
        try:
            response = await fetcher.fetch(url, max_bytes=MAX_METADATA_BYTES)
            if response.status != 200:
                raise FetchFailed(f"HTTP {response.status}")
            document = parse_json_object(response.body, max_bytes=MAX_METADATA_BYTES)
        except (FetchFailed, ValueError) as error:
            findings.append(f"{url}: {error}")
            continue
        if document.get("issuer") == issuer:
            return document
        findings.append(
            f"{url}: its issuer is {document.get('issuer')!r}, not {issuer!r}; they must be equal to the last slash"
        )
    raise FetchFailed("no metadata document; " + "; ".join(findings))


async def discover_jwks_uri(issuer: str, fetcher: HTTPFetcher) -> str:
    """Return the ``jwks_uri`` that the metadata of ``issuer`` names.

    Raises:
        FetchFailed: no metadata, or no jwks_uri that is https (http on loopback).
    """
    document = await fetch_metadata(issuer, fetcher)
    try:
        return check_url("jwks_uri", document.get("jwks_uri"), query=True)
    except ConfigurationError as error:
        raise FetchFailed(f"the metadata of {issuer!r} is wrong: {error}") from None
