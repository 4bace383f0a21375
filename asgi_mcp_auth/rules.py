"""Which paths are public and which scopes a path needs. The default is: protected.

No regular expressions: a path is matched whole, decoded, segment by segment.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ._settings import check_kind, check_path, check_scopes
from ._urls import is_ambiguous_path
from .errors import ConfigurationError


# no equality: hashing by identity is on the request path
@dataclass(frozen=True, slots=True, init=False, eq=False)
class Rule:
    """What a path, and everything below it, asks of a caller. The longest matching rule decides.

    Args:
        path: ``/admin`` covers ``/admin`` and ``/admin/…``, not ``/administrators``. Unless it is
            public, the rule holds for ``/Admin`` and other spellings, too, which some routers take
            for the same page.
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
            raise ConfigurationError(
                f"Rule({path!r}) is public and asks for scopes: leave out one of the two"
            )
        if public and path == "/":
            raise ConfigurationError(
                "a public path '/' would open every path: name the paths that are public"
            )
        object.__setattr__(self, "path", _check_no_wildcard(check_path("Rule path", path)))
        object.__setattr__(self, "scopes", check_scopes("Rule scopes", scopes))
        object.__setattr__(self, "public", public)


_NOTHING = "\0"  # equals no path that is not ambiguous, and begins none


class _Entry(NamedTuple):
    """How one rule is compared.

    Attributes:
        exact: what a path may equal.
        prefix: what it may begin with.
        folded: the same two, as ``_fold`` makes them.
    """

    rule: Rule
    exact: str
    prefix: str
    folded: tuple[str, str]

    @classmethod
    def of(cls, rule: Rule, exact: str, prefix: str) -> _Entry:
        return cls(rule, exact, prefix, (_fold(exact), _fold(prefix)))

    def covers(self, path: str) -> bool:
        """Return whether the path is spelled like the rule's, or lies below it."""
        return path == self.exact or path.startswith(self.prefix)

    def covers_folded(self, path: str) -> bool:
        """Return whether a router that is lenient with spelling may take the path for one of the
        rule's.
        """
        return path == self.folded[0] or path.startswith(self.folded[1])


class Rules:
    """The rules of one middleware.

    Args:
        public_paths: exact paths, or prefixes when they end in ``/``.
        rules: see ``Rule``.

    Raises:
        ConfigurationError: a path that is not plain, that would open everything, or that is named
            twice.
    """

    __slots__ = ("_codes", "_default", "_entries", "_length", "_table", "_unsure")

    def __init__(self, public_paths: Iterable[str], rules: Iterable[Rule]) -> None:
        if isinstance(public_paths, str) or not hasattr(public_paths, "__iter__"):
            raise ConfigurationError(
                f"public_paths={public_paths!r} must be a list: write [{public_paths!r}]"
            )
        if not hasattr(rules, "__iter__"):
            raise ConfigurationError(
                f"rules={rules!r} must be a list, like [Rule('/admin', scopes=['admin'])]"
            )
        entries: list[_Entry] = []
        for rule in rules:
            if not isinstance(rule, Rule):
                raise ConfigurationError(f"rules has {rule!r}: write Rule('/path', scopes=[…])")
            base = rule.path.rstrip("/")
            # With the slash at the end and without: many routers take both for one page.
            entries.append(_Entry.of(rule, rule.path if rule.public else base, f"{base}/"))
        for path in public_paths:
            is_prefix = isinstance(path, str) and len(path) > 1 and path.endswith("/")
            check_path("public_paths", path[:-1] if is_prefix else path)
            rule = Rule(path[:-1] if is_prefix else path, public=True)
            entries.append(
                _Entry.of(rule, _NOTHING, path) if is_prefix else _Entry.of(rule, path, _NOTHING)
            )
        _check_named_once(entry.rule for entry in entries)
        entries.sort(key=lambda entry: len(_key(entry.rule)), reverse=True)
        self._entries = tuple(entries)
        # A public rule holds in its own spelling, the others in all.
        self._table = tuple(
            (
                entry.rule.public,
                *((entry.exact, entry.prefix) if entry.rule.public else entry.folded),
                entry,
            )
            for entry in entries
        )
        # As much of a path as can decide: a stranger's may be long, and normalising takes the
        # square of its length.
        self._length = 2 * max((len(entry.folded[1]) for entry in entries), default=0)
        self._default = Rule("/")
        self._unsure = Rule(
            "/",
            scopes=tuple(dict.fromkeys(scope for entry in entries for scope in entry.rule.scopes)),
        )
        # How the characters of the rules look when they are percent-encoded, which none of them has
        # to be.
        characters = {
            character for entry in entries for character in entry.rule.path if character.isascii()
        }
        self._codes = tuple(b"%%%02x" % ord(character) for character in sorted(characters))

    def __bool__(self) -> bool:
        return bool(self._entries)

    @property
    def all(self) -> tuple[Rule, ...]:
        """Every rule that ``match`` can return."""
        return (*(entry.rule for entry in self._entries), self._default, self._unsure)

    def match(self, path: str, raw_path: bytes, sure: bool = True) -> Rule:
        """Return the rule for a request: the longest one, or the default, which is protected.

        Args:
            path: decoded, without root_path.
            raw_path: as it came, to see what decoding hid.
            sure: whether every framework takes ``path`` for the same one.
        """
        if not self._entries:
            return self._default
        if (
            not sure
            or is_ambiguous_path(path, raw_path)
            or (b"%" in raw_path and self._hides(raw_path))
        ):
            # Two parties may read such a path differently: it is never public, and needs whatever
            # any rule needs.
            return self._unsure
        folded = _fold(path[: self._length])
        for is_public, exact, prefix, entry in self._table:
            asked = path if is_public else folded
            if asked == exact or asked.startswith(prefix):
                return (
                    entry.rule if is_public or entry.covers(path) else self._strictest(path, folded)
                )
        return self._default

    def public_at(self, path: str) -> Rule | None:
        """Return the public rule that decides for ``path`` in whatever spelling, if one does."""
        folded = _fold(path.rstrip("/"))
        for entry in self._entries:
            if entry.covers_folded(folded) or entry.covers_folded(f"{folded}/"):
                return entry.rule if entry.rule.public else None
        return None

    def _strictest(self, path: str, folded: str) -> Rule:
        """Return what a path needs that is spelled otherwise than the rule that may cover it.

        Nobody here knows which spellings the router takes for one page, so all rules that it may
        mean have to be met.
        """
        closed = [
            entry.rule
            for entry in self._entries
            if not entry.rule.public and entry.covers_folded(folded)
        ]
        exact = next((entry.rule for entry in self._entries if entry.covers(path)), self._default)
        needed = frozenset(exact.scopes).union(*(rule.scopes for rule in closed))
        return next((rule for rule in closed if needed.issubset(rule.scopes)), self._unsure)

    def _hides(self, raw_path: bytes) -> bool:
        """Return whether a character of a rule came percent-encoded: some routers never decode."""
        raw_path = raw_path.lower()
        return any(code in raw_path for code in self._codes)


def _fold(path: str) -> str:
    """Return ``path`` such that what any router takes for one path comes out as one: case, and
    forms of a character.
    """
    if path.isascii():
        return path.lower()
    # the dot that İ leaves
    return unicodedata.normalize("NFKD", path.upper()).casefold().replace("\u0307", "")


def _key(rule: Rule) -> str:
    return _fold(rule.path.rstrip("/"))


def _check_named_once(rules: Iterable[Rule]) -> None:
    """Check that no rule is named twice, nor a closed one in the spelling that another has."""
    seen: list[Rule] = []
    for rule in rules:
        for other in seen:
            if rule.path == other.path:
                raise ConfigurationError(
                    f"public_paths and rules name {rule.path!r} twice: keep one (a Rule covers all"
                    " below its path, too)"
                )
            if _key(rule) == _key(other) and not (rule.public and other.public):
                raise ConfigurationError(
                    f"public_paths and rules name {other.path!r} and {rule.path!r}, which many"
                    " routers take for one path: keep one"
                )
        seen.append(rule)


def _check_no_wildcard(path: str) -> str:
    if "*" in path:
        raise ConfigurationError(
            f"{path!r} has a wildcard, and paths are compared as they are: Rule('/static') covers"
            " all below, public_paths=['/static/'] too"
        )
    return path
