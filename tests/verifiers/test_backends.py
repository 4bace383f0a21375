"""Without ``cryptography``, python-jose accepts MD5 signatures, so this package does not start."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest


def run(program: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a fresh interpreter: what is imported cannot be taken back in this one."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


BLOCK = """
    import sys

    class Block:
        def find_spec(self, name, path=None, target=None):
            if name == "jose.backends.cryptography_backend":
                raise ImportError("blocked")

    sys.meta_path.insert(0, Block())
"""


@pytest.mark.case("V21")
def test_python_jose_would_start_without_cryptography_and_say_nothing() -> None:
    result = run(
        BLOCK
        + """
    import jose.backends
    print(getattr(jose.backends.RSAKey, "__module__", None), jose.backends.ECKey.__module__)
    """
    )
    assert "cryptography_backend" not in result.stdout
    assert (result.returncode, result.stdout.split()[1]) == (0, "jose.backends.ecdsa_backend")


@pytest.mark.case("V21")
@pytest.mark.parametrize(
    "module", ["asgi_mcp_auth", "asgi_mcp_auth.testing", "asgi_mcp_auth._jose"]
)
def test_this_package_refuses_to_start_without_cryptography(module: str) -> None:
    result = run(
        BLOCK
        + f"""
    try:
        import {module}
    except ValueError as error:
        print(type(error).__name__, error)
    """
    )
    assert (
        result.stdout == "ConfigurationError python-jose runs without cryptography: pip install"
        " 'python-jose[cryptography]'\n"
    ), result.stderr


def test_with_cryptography_the_same_import_works() -> None:
    result = run("import asgi_mcp_auth; print(asgi_mcp_auth.JWTVerifier.__name__)")
    assert (result.returncode, result.stdout) == (0, "JWTVerifier\n")
