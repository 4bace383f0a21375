"""Every provider, as data. No class for any of them.

``source`` is where to look when a provider has changed; ``unchecked`` is what nobody read there.
Most things need no line: discovery finds endpoints and keys, and ``ClaimRules`` knows the usual
names of scopes and clients. ``{name}`` stands for a parameter.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from . import platforms, self_hosted, social
from .model import Preset

CATALOG: Mapping[str, Preset] = MappingProxyType(
    dict(sorted({**platforms.PRESETS, **self_hosted.PRESETS, **social.PRESETS}.items()))
)
