"""Paths that the last version documented still work, and say what to write instead."""

from __future__ import annotations

import importlib
import sys

import pytest

from asgi_mcp_auth import server


def test_page_values_are_found_at_their_old_path() -> None:
    sys.modules.pop("asgi_mcp_auth.server.page_values", None)
    with pytest.warns(DeprecationWarning, match=r"import its names from asgi_mcp_auth\.server"):
        old = importlib.import_module("asgi_mcp_auth.server.page_values")
    assert old.Field is server.Field
    assert old.ConsentPage is server.ConsentPage
    assert old.ErrorPage is server.MessagePage


def test_a_page_with_a_message_is_found_under_its_old_name() -> None:
    with pytest.warns(DeprecationWarning, match="its name is MessagePage"):
        assert server.ErrorPage is server.MessagePage
