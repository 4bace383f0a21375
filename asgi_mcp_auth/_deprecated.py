"""Old names that keep working for one version, with a ``DeprecationWarning``."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


def renamed_fields(**names: str) -> Callable[[type[T]], type[T]]:
    """Return a class decorator for dataclasses whose fields have got new names.

    Old names still work as keywords of the constructor and as attributes.

    Args:
        names: the new name for each old one.
    """

    def decorate(cls: type[T]) -> type[T]:
        init = cls.__init__

        @functools.wraps(init)
        def accept_old_names(self: T, *args: Any, **kwargs: Any) -> None:
            for old, new in names.items():
                if old in kwargs:
                    _warn(cls, old, new)
                    kwargs.setdefault(new, kwargs.pop(old))
            init(self, *args, **kwargs)

        cls.__init__ = accept_old_names  # type: ignore[method-assign,assignment]  # accepts one name more
        for old, new in names.items():
            setattr(cls, old, _alias(cls, old, new))
        return cls

    return decorate


def _alias(cls: type, old: str, new: str) -> property:
    def get(self: object) -> Any:
        _warn(cls, old, new)
        return getattr(self, new)

    return property(get, doc=f"Deprecated: the old name of ``{new}``.")


def _warn(cls: type, old: str, new: str) -> None:
    warnings.warn(
        f"{cls.__name__}.{old} is deprecated: write {new}", DeprecationWarning, stacklevel=3
    )
