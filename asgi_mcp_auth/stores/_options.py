"""Separates our options in an engine's URL from those of its driver."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from ..errors import ConfigurationError

_HOST = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(:\d{1,5})?")


def split_options(url: str, patterns: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """Return the URL without our options, and those options.

    Args:
        url: with or without a query.
        patterns: a regular expression for the value of each option.

    Raises:
        ConfigurationError: the URL or an option is invalid. The message repeats neither the URL nor
            its password.
    """
    try:
        parts = urlsplit(url)
    except ValueError:  # half an IPv6 address
        parts = None
    if parts is None or not all(map(_HOST.fullmatch, parts.netloc.rpartition("@")[2].split(","))):
        raise ConfigurationError(
            "store: the URL has a wrong host or port: write user:password@host:port, with : / ? # @"
            " in a password percent-encoded"
        )
    ours: dict[str, str] = {}
    rest: list[tuple[str, str]] = []
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name not in patterns:
            rest.append((name, value))
        elif re.fullmatch(patterns[name], value) and name not in ours:
            ours[name] = value
        else:
            raise ConfigurationError(
                f"store: the option {name} of the URL must match {patterns[name]}, once"
            )
    return urlunsplit(parts._replace(query=urlencode(rest))), ours


def location_of(url: str) -> str:
    """Return a URL without user, password and query, to name an engine in messages."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
