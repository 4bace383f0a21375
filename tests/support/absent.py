"""Provide ABSENT: as a header member or a claim it means "leave it out" (``None`` is ``null``)."""

from __future__ import annotations

from typing import Any


class _Absent:
    def __repr__(self) -> str:
        return "ABSENT"  # without an address: it stands in ids, which two workers compare


ABSENT: Any = _Absent()
