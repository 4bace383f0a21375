"""Decides which paths are public and which scopes a path needs. The default is protected.

There are no regular expressions: a decoded path is matched by whole segments.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ._settings import check_kind, check_path, check_scopes
from ._urls import is_ambiguous_path
from .errors import ConfigurationError


# no equality: hashing by identity is on the request path
@dataclass(frozen=True, slots=True, init=False, eq=False)
class Rule:
    """The requirements of a path and everything below it. The longest matching rule decides.

    Args:
        path: ``/admin`` covers ``/admin`` and ``/admin/…``, but not ``/administrators``. Unless it
            is public, the rule also covers ``/Admin`` and other spellings that some routers treat
            as the same path.
        scopes: required in addition to those of the provider and the middleware.
        public: whether requests need no token.

    Raises:
        ConfigurationError: an invalid path or scope, or scopes on a public path.
    """

    path: str
    scopes: tuple[str, ...]
    public: bool

    def __init__(self, path: str, *, scopes: Sequence[str] = (), public: bool = False) -> None:
        check_kind("Rule public", public, bool)  # "no" from an environment variable would be true
        if public and scopes:
            raise ConfigurationError(
                f"Rule({path!r}) is public and requires scopes: leave out one of the two"
            )
        if public and path == "/":
            raise ConfigurationError(
                "a public path '/' would open every path: name the paths that are public"
            )
        object.__setattr__(self, "path", _check_no_wildcard(check_path("Rule path", path)))
        object.__setattr__(self, "scopes", check_scopes("Rule scopes", scopes))
        object.__setattr__(self, "public", public)


_NOTHING = "\0"  # neither equal to an unambiguous path, nor its beginning


class _Entry(NamedTuple):
    """A rule, prepared for comparison.

    Attributes:
        exact: covers a path that equals it.
        prefix: covers a path that begins with it.
        folded: both, folded by ``fold_path``.
    """

    rule: Rule
    exact: str
    prefix: str
    folded: tuple[str, str]

    @classmethod
    def of(cls, rule: Rule, exact: str, prefix: str) -> _Entry:
        return cls(rule, exact, prefix, (fold_path(exact), fold_path(prefix)))

    def covers(self, path: str) -> bool:
        """Return whether the rule covers the path in this exact spelling."""
        return path == self.exact or path.startswith(self.prefix)

    def covers_folded(self, path: str) -> bool:
        """Return whether the rule covers the folded path, as for a router that ignores spelling."""
        return path == self.folded[0] or path.startswith(self.folded[1])


class Rules:
    """The rules of one middleware.

    Args:
        public_paths: exact paths, or prefixes if they end in ``/``.
        rules: see ``Rule``.
        judged_paths: where messages are judged, so that spellings of these paths matter, too.

    Raises:
        ConfigurationError: a path that is invalid, would make every path public, or is named twice.
    """

    __slots__ = (
        "_codes",
        "_default",
        "_entries",
        "_is_strict",
        "_length",
        "_table",
        "_usual",
        "unsure",
    )

    def __init__(
        self,
        public_paths: Iterable[str],
        rules: Iterable[Rule],
        judged_paths: Collection[str] = (),
    ) -> None:
        entries = _entries(public_paths, rules)
        _check_named_once(entry.rule for entry in entries)
        entries.sort(key=lambda entry: len(_key(entry.rule)), reverse=True)
        self._entries = tuple(entries)
        self._is_strict = bool(entries or judged_paths)
        # A public rule covers its own spelling only, the others cover all.
        self._table = tuple(
            (
                entry.rule.public,
                *((entry.exact, entry.prefix) if entry.rule.public else entry.folded),
                entry,
            )
            for entry in entries
        )
        # The part of a path that decides. Paths may be long, and normalising takes quadratic time.
        self._length = 2 * max((len(entry.folded[1]) for entry in entries), default=0)
        self._default = Rule("/")
        #: For a path that two parties may read differently: never public, and needs all scopes.
        self.unsure = Rule(
            "/",
            scopes=tuple(dict.fromkeys(scope for entry in entries for scope in entry.rule.scopes)),
        )
        # The characters of the rules when percent-encoded, which none of them needs to be.
        paths = [*judged_paths, *(entry.rule.path for entry in entries)]
        characters = {character for path in paths for character in path if character.isascii()}
        self._codes = tuple(b"%%%02x" % ord(character) for character in sorted(characters))
        # Most requests to an MCP server have its path, in this spelling.
        self._usual: dict[tuple[str, bytes], Rule] = {}
        self._usual = {
            key: self.match(*key) for key in ((path, path.encode()) for path in judged_paths)
        }

    def __bool__(self) -> bool:
        return bool(self._entries)

    @property
    def all(self) -> tuple[Rule, ...]:
        """Every rule that ``match`` can return."""
        return (*(entry.rule for entry in self._entries), self._default, self.unsure)

    def match(self, path: str, raw_path: bytes, sure: bool = True) -> Rule:
        """Return the rule for a request: the longest one, or the default, which is protected.

        Args:
            path: decoded, without root_path.
            raw_path: as received, to detect what decoding has hidden.
            sure: whether every framework reads the same ``path``.
        """
        if not self._is_strict:
            return self._default
        if sure and (usual := self._usual.get((path, raw_path))) is not None:
            return usual
        if (
            not sure
            or is_ambiguous_path(path, raw_path)
            or (b"%" in raw_path and self._hides(raw_path))
        ):
            # Two parties may read such a path differently: it is never public, and requires the
            # scopes of all rules.
            return self.unsure
        folded = fold_path(path[: self._length])
        for is_public, exact, prefix, entry in self._table:
            compared = path if is_public else folded
            if compared == exact or compared.startswith(prefix):
                if is_public or entry.covers(path):
                    return entry.rule
                return self._strictest(path, folded)
        return self._default

    def public_at(self, path: str) -> Rule | None:
        """Return the public rule for ``path`` in any spelling, if a public rule decides."""
        folded = fold_path(path.rstrip("/"))
        for entry in self._entries:
            if entry.covers_folded(folded) or entry.covers_folded(f"{folded}/"):
                return entry.rule if entry.rule.public else None
        return None

    def _strictest(self, path: str, folded: str) -> Rule:
        """Return the rule for a path in another spelling than the rules that may cover it.

        It is unknown which spellings the app's router treats as the same path, so the path requires
        the scopes of all of them.
        """
        closed = [
            entry.rule
            for entry in self._entries
            if not entry.rule.public and entry.covers_folded(folded)
        ]
        exact = next((entry.rule for entry in self._entries if entry.covers(path)), self._default)
        needed = frozenset(exact.scopes).union(*(rule.scopes for rule in closed))
        return next((rule for rule in closed if needed.issubset(rule.scopes)), self.unsure)

    def _hides(self, raw_path: bytes) -> bool:
        """Return whether a character of a rule is percent-encoded: some routers never decode."""
        raw_path = raw_path.lower()
        return any(code in raw_path for code in self._codes)


def fold_path(path: str) -> str:
    """Return ``path`` without differences that routers may ignore: case and character forms."""
    if path.isascii():
        return path.lower()
    # \u0307 is the dot that İ leaves.
    return unicodedata.normalize("NFKD", path.upper()).casefold().replace("\u0307", "")


def _entries(public_paths: Any, rules: Any) -> list[_Entry]:
    """Return an entry for each rule, and for each public path."""
    if isinstance(public_paths, str) or not hasattr(public_paths, "__iter__"):
        raise ConfigurationError(
            f"public_paths={public_paths!r} must be a list: write [{public_paths!r}]"
        )
    if not hasattr(rules, "__iter__"):
        raise ConfigurationError(
            f"rules={rules!r} must be a list: write [Rule('/path', scopes=[…])], or"
            " [Tool('name', scopes=[…])]"
        )
    entries: list[_Entry] = []
    for rule in rules:
        if not isinstance(rule, Rule):
            raise ConfigurationError(
                f"rules has {rule!r}: write Rule('/path', scopes=[…]) for a path, or"
                " Tool('name', scopes=[…]) for a tool"
            )
        base = rule.path.rstrip("/")
        # With and without a slash at the end, which many routers treat as the same path.
        entries.append(_Entry.of(rule, rule.path if rule.public else base, f"{base}/"))
    for path in public_paths:
        if not isinstance(path, str):
            raise ConfigurationError(
                f"public_paths={path!r} must be a path that begins with a slash, like '/health';"
                " rules belong in rules=[…]"
            )
        is_prefix = len(path) > 1 and path.endswith("/")
        check_path("public_paths", path[:-1] if is_prefix else path)
        rule = Rule(path[:-1] if is_prefix else path, public=True)
        entries.append(
            _Entry.of(rule, _NOTHING, path) if is_prefix else _Entry.of(rule, path, _NOTHING)
        )
    return entries


def _key(rule: Rule) -> str:
    return fold_path(rule.path.rstrip("/"))


def _check_named_once(rules: Iterable[Rule]) -> None:
    """Check that no path is named twice, or protected in one spelling and public in another."""
    seen: list[Rule] = []
    for rule in rules:
        for other in seen:
            if rule.path == other.path:
                raise ConfigurationError(
                    f"public_paths and rules name {rule.path!r} twice: keep one (a Rule also covers"
                    " all paths below its own)"
                )
            if _key(rule) == _key(other) and not (rule.public and other.public):
                raise ConfigurationError(
                    f"public_paths and rules name {other.path!r} and {rule.path!r}, which many"
                    " routers treat as one path: keep one"
                )
        seen.append(rule)


def _check_no_wildcard(path: str) -> str:
    if "*" in path:
        raise ConfigurationError(
            f"{path!r} has a wildcard, which is not supported: Rule('/static') and"
            " public_paths=['/static/'] cover all paths below"
        )
    return path
