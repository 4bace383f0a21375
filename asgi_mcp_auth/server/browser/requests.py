"""Requests from people's browsers."""

from __future__ import annotations

from ...types import Receive, Scope
from ..web import MAX_FORM_BYTES, EndpointRequest
from .records import Session, Transaction


class PageRequest(EndpointRequest):
    """A request from a browser to a page.

    Attributes:
        session: the session of this browser, if the user is signed in.
        session_id: the value of its cookie.
        transaction: the transaction that the page belongs to, if it belongs to one.
        transaction_id: its id.
    """

    def __init__(
        self, endpoint: str, scope: Scope, receive: Receive, *, max_form_bytes: int = MAX_FORM_BYTES
    ) -> None:
        super().__init__(endpoint, scope, receive, max_form_bytes=max_form_bytes)
        self.session: Session | None = None
        self.session_id = ""
        self.transaction: Transaction | None = None
        self.transaction_id = ""
