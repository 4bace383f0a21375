"""Finds an issuer's metadata and its key set (RFC 8414, OpenID Connect Discovery 1.0)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Collection, Iterable
from urllib.parse import urlsplit

from ._http import MAX_REDIRECTS, ErrorAnswer, FetchFailed, HTTPFetcher, Unreachable
from ._json import parse_json_object
from ._settings import check_url
from ._urls import WELL_KNOWN_OPENID, WELL_KNOWN_SERVER, host_root, url_path
from .errors import ConfigurationError
from .types import JSONObject

MAX_METADATA_BYTES = 256 * 1024
PATIENCE = 0.4  # of the fetcher's deadline: how long one place is waited for before the next

#: The members that name a URL which is used here.
ENDPOINTS = frozenset(
    (
        "authorization_endpoint",
        "token_endpoint",
        "revocation_endpoint",
        "userinfo_endpoint",
        "jwks_uri",
    )
)
# The meaning of a member that is left out.
_MEANINGS = {
    "jwks_uri": (
        ": it publishes no keys, so that its tokens are opaque, or only it can verify them. Ask it,"
        " with an IntrospectionTokenVerifier, or set jwks_uri"
    ),
    "userinfo_endpoint": ", which UpstreamRules(userinfo=True) needs: leave that out",
}


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


class Metadata:
    """What an issuer says about itself, in one document or several.

    Of several, the first one that has a member with a usable value decides. An endpoint that is not
    a URL, or not as secret as the issuer, counts as left out.

    Args:
        source: the issuer, or the URL of its metadata.
    """

    def __init__(self, source: str) -> None:
        self.members: JSONObject = {}
        #: Whether there may be another document, whose server is not responding.
        self.is_partial = False
        #: Whether one has not answered at all.
        self.is_silent = False
        #: How many places have been asked.
        self.asked = 0
        #: Problems with the documents, or with reading them.
        self.findings: list[str] = []
        #: Problems with the endpoints that count as left out.
        self.odd: dict[str, str] = {}
        self._source = source

    def add(self, document: JSONObject) -> None:
        """Add the members of the next document."""
        for name, value in document.items():
            if name in self.members or value in (None, "", [], {}):
                continue
            if name in ENDPOINTS:
                try:
                    check_endpoint(name, value, self._source)
                except ConfigurationError as error:
                    self.odd.setdefault(name, str(error))
                    continue
                self.odd.pop(name, None)
            self.members[name] = value

    async def read(self, document: Awaitable[JSONObject]) -> None:
        """Add the members of the next document, or note why it cannot be read."""
        self.asked += 1
        try:
            self.add(await document)
        except FetchFailed as error:
            self.is_partial |= isinstance(error, Unreachable)
            self.is_silent |= error.is_silence
            self.findings.append(str(error))

    def has(self, names: Collection[str]) -> bool:
        """Return whether none of the members is left out."""
        return all(name in self.members for name in names)

    def check(self, needed: Collection[str]) -> None:
        """Check that nothing is left out that is needed.

        Raises:
            Unreachable: there is no document, and a place has not answered.
            FetchFailed: something is left out; the message says why.
        """
        if not self.members:
            failure = Unreachable if self.is_silent else FetchFailed
            raise failure("no metadata document; " + "; ".join(self.findings))
        for name in needed:
            if name in self.odd:
                raise FetchFailed(
                    f"the metadata of {self._source!r} is wrong, as its operator has to know:"
                    f" {self.odd[name]}"
                )
            if name not in self.members:
                also = "".join(f"; {finding}" for finding in self.findings)
                raise FetchFailed(
                    f"the metadata of {self._source!r} has no {name}{_MEANINGS.get(name, '')}{also}"
                )


async def fetch_metadata(
    issuer: str,
    fetcher: HTTPFetcher,
    *,
    needed: Collection[str],
    wanted: Collection[str] = (),
    is_openid: bool = False,
    setting: str = "",
) -> Metadata:
    """Return what the documents of ``issuer`` say, of those whose ``issuer`` equals it exactly.

    They are asked for one after the other, until nothing is missing. A place that does not answer
    soon does not keep the next one from being asked, nor what is only wanted from being given up.

    Args:
        issuer: the issuer.
        fetcher: fetches the documents.
        needed: members that must be there.
        wanted: members to look for in every document.
        is_openid: whether OpenID's document comes before that of RFC 8414.
        setting: where the operator can write another URL, for messages.

    Raises:
        FetchFailed: something that is needed is nowhere; the message describes each response.

    RFC 8414 §3.3 and §5; OpenID Connect Discovery 1.0 §4.
    """
    places = metadata_urls(issuer)
    tasks: list[asyncio.Task[JSONObject]] = []
    found = Metadata(issuer)
    try:
        for place in reversed(places) if is_openid else places:
            work = _fetch_document(place, issuer, fetcher, setting)
            tasks.append(asyncio.create_task(work))
            await asyncio.wait(tasks[-1:], timeout=fetcher.timeout_seconds * PATIENCE)
            found = await _merge(issuer, tasks)
            if found.has((*needed, *wanted)):
                return found
        if not found.has(needed):
            await asyncio.wait(tasks)  # each has the fetcher's deadline
            found = await _merge(issuer, tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    found.check(needed)
    return found


async def _merge(issuer: str, tasks: Iterable[asyncio.Task[JSONObject]]) -> Metadata:
    found = Metadata(issuer)
    for task in tasks:
        if task.done():
            await found.read(task)
        else:
            found.is_partial = found.is_silent = True
            found.asked += 1
    return found


async def _fetch_document(url: str, issuer: str, fetcher: HTTPFetcher, setting: str) -> JSONObject:
    try:
        document = await fetch_document(url, fetcher, setting)
    except Unreachable as error:
        raise type(error)(f"{url}: {error}") from None
    except (FetchFailed, ValueError) as error:
        raise FetchFailed(f"{url}: {error}") from None
    if document.get("issuer") != issuer:
        raise FetchFailed(
            f"{url}: its issuer is {document.get('issuer')!r}, not {issuer!r}; they must match"
            " exactly, including a slash at the end"
        )
    return document


async def fetch_document(url: str, fetcher: HTTPFetcher, setting: str) -> JSONObject:
    """Return the metadata document at ``url``.

    Raises:
        Unreachable: there may be one.
        FetchFailed: there is none.
        ValueError: it is not a JSON object.
    """
    response = await fetcher.fetch(
        url, max_bytes=MAX_METADATA_BYTES, max_redirects=MAX_REDIRECTS, setting=setting
    )
    if response.status >= 500 or response.status == 429:
        raise ErrorAnswer(f"HTTP {response.status}")
    if response.status != 200:
        raise FetchFailed(f"HTTP {response.status}")
    return parse_json_object(response.body, max_bytes=MAX_METADATA_BYTES)


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


class IssuerDocuments:
    """The metadata of one issuer, each document of which is fetched once for all who need it.

    Args:
        issuer: the issuer.
        fetcher: fetches the documents.
    """

    def __init__(self, issuer: str, fetcher: HTTPFetcher) -> None:
        #: The documents read so far; ``None`` before, or if they were of no use.
        self.found: Metadata | None = None
        self.fetcher = fetcher
        self._issuer = issuer

    async def fetch_jwks_uri(self) -> str:
        """Return the ``jwks_uri`` from metadata that are fetched now.

        Raises:
            FetchFailed: no metadata, or no usable jwks_uri in it. It must be https; http is allowed
                if the issuer is on loopback as well.
        """
        self.found = None
        self.found = await fetch_metadata(
            self._issuer, self.fetcher, needed=("jwks_uri",), setting="jwks_uri"
        )
        jwks_uri: str = self.found.members["jwks_uri"]
        return jwks_uri

    async def look_for(self, wanted: Collection[str]) -> Metadata:
        """Return the documents read so far, and others as long as a member is missing.

        Raises:
            TimeoutError: not within the deadline of one fetch.
        """
        found = self.found or Metadata(self._issuer)
        async with asyncio.timeout(self.fetcher.timeout_seconds):
            for place in metadata_urls(self._issuer)[found.asked :]:
                if not found.has(wanted):
                    await found.read(_fetch_document(place, self._issuer, self.fetcher, ""))
        return found
