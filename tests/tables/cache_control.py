"""What a Cache-Control header asks for (RFC 9111 §5.2.2): seconds before the bounds of whoever
keeps the response, or ``None`` where they are as if there were none.
"""

from __future__ import annotations

LIFETIMES: list[tuple[str | None, int | None]] = [
    (None, None),
    ("max-age=600", 600),
    ("public, max-age=600", 600),
    ("public, max-age=600, must-revalidate", 600),
    ("Max-Age=600", 600),
    ('MAX-AGE="600"', 600),
    ("max-age = 600", 600),
    ("max-age=0", 0),
    ("max-age=1", 1),
    ("max-age=299", 299),
    ("max-age=86400", 86_400),
    ("max-age=86401", 86_401),
    ("max-age=315360000", 315_360_000),
    ("no-store", 0),
    ("no-cache", 0),
    ("private, no-store, max-age=0", 0),
    ("no-store, max-age=600", 600),
    ("s-maxage=600", None),
    ("x-max-age=600", None),
    ("immutable", None),
    ("max-age=-1", None),
    ("max-age=soon", None),
    ("max-age=99999999999999999999", None),
]


def within(asked: int | None, *, minimum: int, maximum: int, usual: int) -> int:
    """Return the lifetime that one who keeps responses makes of ``asked``."""
    return usual if asked is None else min(max(asked, minimum), maximum)
