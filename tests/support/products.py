"""Make cases out of lists: each member once, and every combination in ``make soak``.

@pytest.mark.parametrize(("client", "server"), once_each(CLIENTS, SERVERS))
"""

from __future__ import annotations

import itertools
from collections.abc import Collection
from typing import Any

import pytest


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


def first_of(members: Collection[Any]) -> list[Any]:
    """Return all members; those after the first are marked ``soak``: a story that is the same with
    each of them, which other tests show.
    """
    return [
        pytest.param(each, marks=[] if number == 0 else pytest.mark.soak)
        for number, each in enumerate(members)
    ]
