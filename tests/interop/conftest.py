from __future__ import annotations

from collections.abc import Iterator

import pytest

from asgi_mcp_auth.testing import Issuer
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


@pytest.fixture(scope="session")
def session_issuer() -> Iterator[Issuer]:
    """One local issuer for all tests; take ``issuer``."""
    with Issuer(algorithms=("ES256",)) as issuer:
        yield issuer


@pytest.fixture
def issuer(session_issuer: Issuer) -> Issuer:
    """The local issuer, well-behaved, its requests not yet counted."""
    session_issuer.reset()
    session_issuer.hits.clear()
    return session_issuer
