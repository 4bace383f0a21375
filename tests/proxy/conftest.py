"""What the tests of the proxy share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from asgi_mcp_auth.testing import FrozenClock
from tests.support.upstream import Upstream


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """An identity provider whose clock stands still."""
    with Upstream(clock=FrozenClock()) as provider:
        yield provider
