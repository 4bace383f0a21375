"""An issuer → its metadata document, and the key set named there (RFC 8414, OpenID Connect
Discovery 1.0).
"""

from __future__ import annotations

from urllib.parse import urlsplit

from ._http import FetchFailed, HTTPFetcher
from ._json import parse_json_object
from ._settings import check_url
from ._urls import WELL_KNOWN_OPENID, WELL_KNOWN_SERVER, host_root, url_path
from .errors import ConfigurationError
from .types import JSONObject

MAX_METADATA_BYTES = 256 * 1024


def metadata_urls(issuer: str) -> tuple[str, ...]:
    """Return where the metadata of ``issuer`` may lie, in the order in which to look.

    RFC 8414 §3.1 with both suffixes, then OpenID Connect Discovery §4, which appends instead of
    inserting.
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
            f"{url}: its issuer is {document.get('issuer')!r}, not {issuer!r}; they must be equal"
            " to the last slash"
        )
    raise FetchFailed("no metadata document; " + "; ".join(findings))


def check_endpoint(name: str, value: object, source: str) -> str:
    """Return a URL that belongs to an issuer; where ``source`` is https, so is this.

    Loopback is no exception then: what is meant for the issuer is not for whoever listens on this
        machine.

    Args:
        name: of the member, or of the setting.
        value: what stands there.
        source: where its metadata come from, or what else is known to be its own.

    Raises:
        ConfigurationError: it is not https, or no URL.

    RFC 8414 §2; OpenID Connect Discovery 1.0 §3.
    """
    url = check_url(name, value, query=True)
    if urlsplit(source).scheme == "https" and urlsplit(url).scheme != "https":
        raise ConfigurationError(
            f"{name}={url!r} is not encrypted, and {source!r} is: write https:// (http:// is for"
            " providers that are on loopback altogether)"
        )
    return url


async def discover_jwks_uri(issuer: str, fetcher: HTTPFetcher) -> str:
    """Return the ``jwks_uri`` that the metadata of ``issuer`` names.

    Raises:
        FetchFailed: no metadata, or no jwks_uri that is https (http where the issuer is on
            loopback, too).
    """
    document = await fetch_metadata(issuer, fetcher)
    try:
        return check_endpoint("jwks_uri", document.get("jwks_uri"), issuer)
    except ConfigurationError as error:
        raise FetchFailed(f"the metadata of {issuer!r} is wrong: {error}") from None
