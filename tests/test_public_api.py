"""The names that users import: sorted, there, documented, and cheap to import."""

from __future__ import annotations

import inspect
import subprocess
import sys
import types
from pathlib import Path

import pytest

import asgi_mcp_auth
from tests.support.rows import rows

ROOT = Path(__file__).parent.parent
HEAVY = (
    "httpx",
    "anyio",
    "starlette",
    "fastapi",
    "mcp",
    "fastmcp",
    "pydantic",
    "litestar",
    "redis",
    "asyncpg",
    "http.server",
)


def test_the_public_names_are_sorted_and_unique() -> None:
    assert list(asgi_mcp_auth.__all__) == sorted(set(asgi_mcp_auth.__all__))


def test_every_public_name_is_there() -> None:
    assert [name for name in asgi_mcp_auth.__all__ if not hasattr(asgi_mcp_auth, name)] == []


def test_nothing_else_looks_public() -> None:
    extra = [
        name
        for name, value in vars(asgi_mcp_auth).items()
        if not name.startswith("_")
        and name not in asgi_mcp_auth.__all__
        and not isinstance(value, types.ModuleType)
        and name != "annotations"
    ]
    assert extra == []


def test_the_promised_names_are_public() -> None:
    promised = """
        ANY_AUDIENCE AccessToken AuthError AuthProvider ClaimRules ConfigurationError
        InsufficientScope IntrospectionTokenVerifier InvalidRequest InvalidToken JWKSOptions
        JWTVerifier MCPAuthMiddleware MissingToken MultiAuth Refusal RemoteAuthProvider
        RemoteJWKS RequestError RequireScopes Rule ServerUnavailable StaticTokenVerifier
        TokenVerifier get_access_token insufficient_scope_response
    """
    assert set(promised.split()) <= set(asgi_mcp_auth.__all__)


@pytest.mark.parametrize(("old", "new"), [("AuthEvent", "Refusal")])
def test_an_old_name_still_works_and_names_the_new_one(old: str, new: str) -> None:
    with pytest.warns(DeprecationWarning, match=f"{old} is deprecated: write {new}") as caught:
        assert getattr(asgi_mcp_auth, old) is getattr(asgi_mcp_auth, new)
    assert caught[0].filename == __file__
    assert old not in asgi_mcp_auth.__all__


def undocumented(owner: type) -> list[str]:
    """Return the public methods and properties that have no docstring, own or inherited."""
    return [
        f"{owner.__name__}.{name}"
        for name, member in vars(owner).items()
        if not name.startswith("_")
        and (callable(member) or isinstance(member, property | classmethod | staticmethod))
        and not inspect.getdoc(getattr(owner, name))
    ]


@rows("name", asgi_mcp_auth.__all__)
def test_a_public_name_is_documented(name: str) -> None:
    value = getattr(asgi_mcp_auth, name)
    if not inspect.isclass(value) and not inspect.isfunction(value):
        return  # a constant: its comment stands where it is defined
    # A dataclass without one gets its signature as docstring.
    own = value.__doc__ or ""
    assert own, f"{name} has no docstring"
    assert not own.startswith(f"{name}("), f"{name} has no docstring"
    if inspect.isclass(value):
        assert undocumented(value) == []


def test_importing_the_package_loads_no_client_and_no_framework() -> None:
    probe = f"import sys, asgi_mcp_auth; print(*(m for m in {HEAVY!r} if m in sys.modules))"
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", probe], capture_output=True, text=True, cwd=ROOT
    )
    assert (result.returncode, result.stdout.strip(), result.stderr) == (0, "", "")


def test_users_type_checkers_see_the_annotations() -> None:
    assert (ROOT / "asgi_mcp_auth" / "py.typed").exists()
