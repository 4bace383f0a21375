"""A person with an account at the scripted identity provider, for real MCP clients."""

from __future__ import annotations

import httpx

from tests.interop.browser import Person
from tests.support.upstream import Upstream


class AtTheProvider(Person):
    """A person whom the provider sends on without a page."""

    def __init__(self, upstream: Upstream) -> None:
        super().__init__()
        self._upstream = upstream

    def _fill_in(self, http: httpx.Client, page: httpx.Response) -> httpx.Response:
        url = str(page.url)
        if url.startswith(self._upstream.issuer):
            return http.get(self._upstream.approve(url))
        return super()._fill_in(http, page)
