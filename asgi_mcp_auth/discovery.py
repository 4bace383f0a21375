"""Finds an issuer's metadata document and its key set (RFC 8414, OpenID Connect Discovery 1.0)."""

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
    """Return the URLs where the metadata of ``issuer`` may be, in the order to try them.

    RFC 8414 §3.1 with both suffixes, then OpenID Connect Discovery §4, which appends its suffix
    instead of inserting it.
    """
    root = host_root(issuer)
    path = url_path(issuer).removesuffix("/")
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
        FetchFailed: none of the URLs has one; the message describes each response.

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
            f"{url}: its issuer is {document.get('issuer')!r}, not {issuer!r}; they must match"
            " exactly, including a slash at the end"
        )
    raise FetchFailed("no metadata document; " + "; ".join(findings))


def check_endpoint(name: str, value: object, source: str) -> str:
    """Return a URL of an issuer, which must be https if ``source`` is.

    Then even loopback must be https: data meant for the issuer must not go to another program on
    this machine.

    Args:
        name: name of the metadata member or the setting.
        value: its value.
        source: the URL of the metadata, or another URL of the same issuer.

    Raises:
        ConfigurationError: the value is not https, or not a URL.

    RFC 8414 §2; OpenID Connect Discovery 1.0 §3.
    """
    url = check_url(name, value, query=True)
    if urlsplit(source).scheme == "https" and urlsplit(url).scheme != "https":
        raise ConfigurationError(
            f"{name}={url!r} is not encrypted, but {source!r} is: write https:// (http:// is only"
            " for providers that run on loopback entirely)"
        )
    return url


async def discover_jwks_uri(issuer: str, fetcher: HTTPFetcher) -> str:
    """Return the ``jwks_uri`` from the metadata of ``issuer``.

    Raises:
        FetchFailed: no metadata, or no usable jwks_uri in it. It must be https; http is allowed if
            the issuer is on loopback as well.
    """
    document = await fetch_metadata(issuer, fetcher)
    try:
        return check_endpoint("jwks_uri", document.get("jwks_uri"), issuer)
    except ConfigurationError as error:
        raise FetchFailed(f"the metadata of {issuer!r} is wrong: {error}") from None
