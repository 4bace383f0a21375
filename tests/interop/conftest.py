from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.interop.identity_provider import IdentityProvider, running_identity_provider


@pytest.fixture(scope="session")
def session_idp() -> Iterator[IdentityProvider]:
    """One identity provider for all tests; take ``idp``."""
    with running_identity_provider() as provider:
        yield provider


@pytest.fixture
def idp(session_idp: IdentityProvider) -> IdentityProvider:
    """The identity provider, with no failures, delays or hits."""
    session_idp.reset()
    return session_idp
