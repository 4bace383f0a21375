"""Checks that MCP clients can use the authorization servers of a resource."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Protocol

from ._cache import SingleFlight
from ._http import HTTPFetcher
from ._json import is_array
from .discovery import IssuerDocuments, Metadata

logger = logging.getLogger(__name__)

TIMEOUT_SECONDS = 5.0
_WANTED = ("registration_endpoint", "code_challenge_methods_supported")


class Verifier(Protocol):
    """The part of a verifier that ``IssuerCheck`` needs."""

    issuers: tuple[str, ...]
    issuer_documents: Mapping[str, IssuerDocuments]


class IssuerCheck:
    """Warns of issuers at which MCP clients cannot sign people in.

    It looks at their metadata once in the life of the process. An issuer that is not responding is
    none of its business: it may be responding to clients.

    Args:
        issuers: as the clients get them.
        verifier: verifies the tokens of the issuers.
    """

    def __init__(self, issuers: Sequence[str], verifier: Verifier) -> None:
        self._issuers = tuple(issuers)
        self._documents = verifier.issuer_documents
        self._is_done = False
        self._look = SingleFlight(self._look_at_all)
        near = {issuer.rstrip("/").lower(): issuer for issuer in issuers}
        for issuer in verifier.issuers:
            advertised = near.get(issuer.rstrip("/").lower(), issuer)
            if advertised != issuer:
                logger.warning(
                    "authorization_servers has %r, the verifier %r: they must be equal, including"
                    " the slash at the end",
                    advertised,
                    issuer,
                )

    def start(self) -> None:
        """Look in the background, unless this was done before."""
        if not self._is_done:
            self._look.start()

    async def aclose(self) -> None:
        """Stop looking."""
        await self._look.aclose()

    async def _look_at_all(self) -> None:
        await asyncio.gather(*map(self._look_at, self._issuers))
        self._is_done = True

    async def _look_at(self, issuer: str) -> None:
        documents = self._documents.get(issuer)
        if documents is None:
            documents = IssuerDocuments(issuer, HTTPFetcher(timeout_seconds=TIMEOUT_SECONDS))
        elif documents.found is None:
            return  # the verifier needs them as well, and has reported the problem
        try:
            found = documents.found
            if found is None or _problems(found):
                found = await documents.look_for(_WANTED)
        except TimeoutError:
            return
        problem = "; ".join(_problems(found))
        if problem and not found.is_partial:
            logger.warning("MCP clients cannot use the issuer %r: %s", issuer, problem)


def _problems(found: Metadata) -> list[str]:
    """Return the reasons why MCP clients cannot sign people in.

    MCP 2026-07-28, Authorization.
    """
    members = found.members
    if not members:
        return ["no metadata document", *found.findings]
    problems: list[str] = []
    if (
        "registration_endpoint" not in members
        and members.get("client_id_metadata_document_supported") is not True
    ):
        problems.append(
            "they cannot register there, because its metadata has neither registration_endpoint nor"
            " client_id_metadata_document_supported. Unless it knows your clients, put a proxy in"
            " front of it: see OIDCProxy in docs/identity-provider-proxy.md"
        )
    methods = members.get("code_challenge_methods_supported")
    if not is_array(methods) or "S256" not in methods:
        problems.append(
            "many refuse it, because code_challenge_methods_supported in its metadata does not list"
            " S256"
        )
    return problems
