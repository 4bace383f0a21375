"""Requests from clients."""

from __future__ import annotations

from ..parties import Client
from ..web import EndpointRequest


class ClientRequest(EndpointRequest):
    """A request from a client to an endpoint that authenticates it.

    Attributes:
        client: the client that has authenticated; ``authenticated_as`` sets it.
    """

    client: Client

    def authenticated_as(self, client: Client) -> None:
        """Take ``client`` for the sender of this request."""
        self.client = client
        self.client_id = client.client_id
