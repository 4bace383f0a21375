"""Which paths are public and which scopes a path needs. The default is: protected.

No regular expressions: a path is matched whole, decoded, segment by segment.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ._urls import check_path, is_ambiguous_path
from .claims import check_kind, check_scopes
from .errors import ConfigurationError


@dataclass(frozen=True, slots=True, init=False, eq=False)  # no equality: hashing by identity is on the request path
class Rule:
    """What a path, and everything below it, asks of a caller. The longest matching rule decides.

    Args:
        path: ``/admin`` covers ``/admin`` and ``/admin/…``, not ``/administrators``.
        scopes: needed in addition to the provider's and the middleware's.
        public: no token is asked for.

    Raises:
        ConfigurationError: not a plain path, not scopes, or scopes on a public path.
    """

    path: str
    scopes: tuple[str, ...]
    public: bool

    def __init__(self, path: str, *, scopes: Sequence[str] = (), public: bool = False) -> None:
        check_kind("Rule public", public, bool)  # "no" from an environment variable would be true
        if public and scopes:
            raise ConfigurationError(f"Rule({path!r}) is public and asks for scopes: leave out one of the two")
        if public and path == "/":
            raise ConfigurationError("a public path '/' would open every path: name the paths that are public")
        object.__setattr__(self, "path", _check_no_wildcard(check_path("Rule path", path)))
        object.__setattr__(self, "scopes", check_scopes("Rule scopes", scopes))
        object.__setattr__(self, "public", public)


class Rules:
    """The rules of one middleware.

    Args:
        public_paths: exact paths, or prefixes when they end in ``/``.
        rules: see ``Rule``.

    Raises:
        ConfigurationError: a path that is not plain, that would open everything, or that is named twice.
    """

    __slots__ = ("_default", "_rules", "_unsure")

    def __init__(self, public_paths: Iterable[str], rules: Iterable[Rule]) -> None:
        if isinstance(public_paths, str) or not hasattr(public_paths, "__iter__"):
            raise ConfigurationError(f"public_paths={public_paths!r} must be a list: write [{public_paths!r}]")
        if not hasattr(rules, "__iter__"):
            raise ConfigurationError(f"rules={rules!r} must be a list, like [Rule('/admin', scopes=['admin'])]")
        # (what the path must equal, what it may begin with instead, the rule)
        entries: list[tuple[str | None, str | None, Rule]] = []
        for rule in rules:
            if not isinstance(rule, Rule):
                raise ConfigurationError(f"rules has {rule!r}: write Rule('/path', scopes=[…])")
            entries.append((rule.path, rule.path.rstrip("/") + "/", rule))
        for path in public_paths:
            is_prefix = isinstance(path, str) and len(path) > 1 and path.endswith("/")
            check_path("public_paths", path[:-1] if is_prefix else path)
            rule = Rule(path[:-1] if is_prefix else path, public=True)
            entries.append((None, path, rule) if is_prefix else (path, None, rule))
        named = [entry[2].path for entry in entries]
        twice = next((path for path in named if named.count(path) > 1), None)
        if twice is not None:
            raise ConfigurationError(
                f"public_paths and rules name {twice!r} twice: keep one (a Rule covers all below its path, too)"
            )
        self._rules = tuple(sorted(entries, key=lambda entry: len(entry[2].path), reverse=True))
        self._default = Rule("/")
        self._unsure = Rule("/", scopes=tuple(dict.fromkeys(scope for entry in entries for scope in entry[2].scopes)))

    @property
    def all(self) -> tuple[Rule, ...]:
        """Every rule that ``match`` can return."""
        return (*(entry[2] for entry in self._rules), self._default, self._unsure)

    def match(self, path: str, raw_path: bytes) -> Rule:
        """Return the rule for a request: the longest one, or the default, which is protected.

        Args:
            path: decoded, without root_path.
            raw_path: as it came, to see what decoding hid.
        """
        if not self._rules:
            return self._default
        if is_ambiguous_path(path, raw_path):
            # Two parties may read such a path differently: it is never public, and needs whatever any rule needs.
            return self._unsure
        for exact, prefix, rule in self._rules:
            if path == exact or (prefix is not None and path.startswith(prefix)):
                return rule
        return self._default


def _check_no_wildcard(path: str) -> str:
    if "*" in path:
        raise ConfigurationError(
            f"{path!r} has a wildcard, and paths are compared as they are: Rule('/static') covers all below, "
            "public_paths=['/static/'] too"
        )
    return path
