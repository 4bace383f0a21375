"""An HTTP client on whose way every host is this machine: for providers whose addresses cannot be
chosen.
"""

from __future__ import annotations

import httpx


class Detour(httpx.AsyncHTTPTransport):
    """Leads each request to one port of this machine, over a real socket; the Host header stays.

    async with httpx.AsyncClient(transport=Detour(port)) as client:

    Attributes:
        asked: the URLs that were meant, in order.
    """

    def __init__(self, port: int) -> None:
        super().__init__()
        self.asked: list[str] = []
        self._port = port

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send the request there."""
        self.asked.append(str(request.url))
        request.url = request.url.copy_with(scheme="http", host="127.0.0.1", port=self._port)
        return await super().handle_async_request(request)
