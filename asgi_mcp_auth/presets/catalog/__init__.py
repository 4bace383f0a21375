"""The presets, as data: one file per provider, whose name is the preset's name.

``source`` is where to look when a provider has changed, ``unchecked`` lists facts that were not
found there. Most providers need few lines: discovery finds endpoints and keys, and ``ClaimRules``
knows the usual claims for scopes and clients. ``{name}`` in a text stands for a parameter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from pkgutil import iter_modules
from types import MappingProxyType
from typing import Final

from ..model import Preset

__all__ = ["CATALOG"]


def _presets() -> Iterator[tuple[str, Preset]]:
    for module in sorted(iter_modules(__path__)):
        if not module.name.startswith("_"):
            yield module.name, import_module(f".{module.name}", __name__).PRESET


CATALOG: Final[Mapping[str, Preset]] = MappingProxyType(dict(_presets()))
