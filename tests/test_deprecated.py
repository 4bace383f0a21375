"""Settings and attributes that have new names: the old ones work, and warn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from asgi_mcp_auth.proxy import UpstreamRules
from asgi_mcp_auth.server import LoginAttempt, Pages

ATTEMPT = partial(LoginAttempt, method="GET", parameters={}, transaction="", url="", address="")
RENAMED: list[tuple[Callable[..., Any], str, str, Any]] = [
    (ATTEMPT, "anew", "force_login", True),
    (Pages, "colour", "color", "#0f766e"),
    (UpstreamRules, "anew_prompt", "reauth_prompt", "select_account"),
]


@pytest.mark.parametrize(("kind", "old", "new", "value"), RENAMED)
def test_the_old_name_of_a_field_sets_and_reads_the_new_one(
    kind: Callable[..., Any], old: str, new: str, value: Any
) -> None:
    with pytest.warns(DeprecationWarning, match=f"{old} is deprecated: write {new}") as caught:
        made = kind(**{old: value})
    assert caught[0].filename == __file__
    assert getattr(made, new) == value
    assert made == kind(**{new: value})
    assert replace(made) == made
    with pytest.warns(DeprecationWarning, match=f"{old} is deprecated: write {new}") as caught:
        assert getattr(made, old) == value
    assert caught[0].filename == __file__


@pytest.mark.parametrize(("kind", "old", "new", "value"), RENAMED)
def test_a_new_name_warns_of_nothing(
    kind: Callable[..., Any], old: str, new: str, value: Any
) -> None:
    """Warnings are errors in these tests."""
    assert getattr(kind(**{new: value}), new) == value
    assert kind() == kind()
