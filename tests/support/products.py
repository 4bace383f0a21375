"""Make cases out of lists: each member once, and every combination in ``make soak``.

@pytest.mark.parametrize(("client", "server"), once_each(CLIENTS, SERVERS))
"""

from __future__ import annotations

import itertools
from collections.abc import Collection
from typing import Any

import pytest

from tests.support.engines import ENGINES


def once_each(*lists: Collection[Any]) -> list[Any]:
    """Return all combinations; those beyond the ones in which each member comes once are marked
    ``soak``.
    """
    columns = [list(each) for each in lists]
    usual = {
        tuple(number % len(column) for column in columns)
        for number in range(max(map(len, columns)))
    }
    return [
        pytest.param(
            *(column[number] for column, number in zip(columns, numbers, strict=True)),
            marks=[] if numbers in usual else pytest.mark.soak,
        )
        for numbers in itertools.product(*(range(len(column)) for column in columns))
    ]


def some_of(members: Collection[Any], *usual: Any) -> list[Any]:
    """Return all members; those that are not among ``usual`` are marked ``soak``: the story is the
    same with each, and other tests show where they differ.
    """
    assert set(usual) < set(members)
    return [pytest.param(each, marks=[] if each in usual else pytest.mark.soak) for each in members]


STORIES = some_of(ENGINES, "memory", "postgresql")
"""For what is told of an authorization server on a store: the contract of stores has shown that all
engines behave alike, and two processes race on each of them.
"""
