"""Decides whether an MCP message needs more scopes, a token, or nothing at all.

A rule names a tool, a resource, a prompt or a method. The rule that names the thing wins over one
that names its method; among those, an exact name wins over a pattern, and of two patterns the one
with more characters besides its wildcards.
"""

from __future__ import annotations

import inspect
import json
import logging
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Literal, NamedTuple, TypeAlias

from ._json import is_object
from ._settings import check_scopes, check_switch
from .errors import ConfigurationError
from .operations import MCPMessage, Operation, Subject, parse_message
from .patterns import (
    VARIABLE,
    Matches,
    fold_uri,
    is_ambiguous_uri,
    is_odd_name,
    matcher,
    variables_of,
)
from .tokens import AccessToken
from .types import JSONObject

logger = logging.getLogger(__name__)

ScopesFor: TypeAlias = (
    "Callable[[Mapping[str, Any], AccessToken], Iterable[str] | Awaitable[Iterable[str]]]"
)

# The method that uses a thing in a list.
_USE: dict[Subject, str] = {
    "tool": "tools/call",
    "prompt": "prompts/get",
    "resource": "resources/read",
}
_ENOUGH = 1000  # operations whose scopes a caller without a token is told
_MAX_KEPT = 128  # characters of a name whose rules are remembered
# A client has to send these before it can ask for anything.
_HANDSHAKE = ("initialize", "notifications/initialized", "server/discover", "ping")


@dataclass(frozen=True, slots=True, init=False, eq=False)
class MessageRule:
    """The needs of one kind of operation. Use ``Tool``, ``Resource``, ``Prompt`` or ``Method``.

    Args:
        pattern: the name; ``*`` stands for any characters. In a ``Resource``: a URI, a template
            such as ``notes://private/{id}`` (RFC 6570, level 1), or ``*`` for every resource.
        scopes: needed besides those of the provider, the middleware and the path. A function gets
            the arguments of the operation and the token, and returns scopes; it may be async.
        public: whether the operation needs no token.
        hidden: whether lists leave out the things that this rule refuses to the caller.

    Raises:
        ConfigurationError: an invalid pattern or scope, or scopes on a public operation.
    """

    subject: ClassVar[Subject | None]

    pattern: str
    scopes: tuple[str, ...] | ScopesFor
    public: bool
    hidden: bool

    def __init__(
        self,
        pattern: str,
        *,
        scopes: Sequence[str] | ScopesFor = (),
        public: bool = False,
        hidden: bool = False,
    ) -> None:
        name = f"{type(self).__name__}({pattern!r})"
        check_switch(f"{name} public", public)
        check_switch(f"{name} hidden", hidden)
        if not isinstance(pattern, str) or not pattern or not pattern.isprintable():
            raise ConfigurationError(f"{name}: write a name, like {type(self).__name__}('search')")
        if public and scopes:
            raise ConfigurationError(
                f"{name} is public and requires scopes: leave out one of the two"
            )
        if hidden and (public or callable(scopes)):
            why = "is public" if public else "has a function for scopes, which needs arguments"
            raise ConfigurationError(f"{name} {why}, so lists cannot hide it: leave out hidden")
        if not callable(scopes):
            scopes = check_scopes(f"{name} scopes", scopes)
        object.__setattr__(self, "pattern", pattern)
        object.__setattr__(self, "scopes", scopes)
        object.__setattr__(self, "public", public)
        object.__setattr__(self, "hidden", hidden)

    @property
    def fixed_scopes(self) -> tuple[str, ...]:
        """The scopes that do not depend on arguments."""
        return () if callable(self.scopes) else self.scopes

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.pattern!r})"


class Tool(MessageRule):
    """The needs of calling a tool: ``Tool("delete_*", scopes=["notes:write"])``."""

    __slots__ = ()
    subject = "tool"


class Prompt(MessageRule):
    """The needs of getting a prompt, or completing its arguments."""

    __slots__ = ()
    subject = "prompt"


class Resource(MessageRule):
    """The needs of reading a resource, subscribing to it, or completing its arguments."""

    __slots__ = ()
    subject = "resource"


class Method(MessageRule):
    """The needs of a method: ``Method("tools/list", public=True)``.

    ``Method("GET")`` is the stream that older clients open, ``Method("DELETE")`` the end of their
    session.
    """

    __slots__ = ()
    subject = None


class Decision(NamedTuple):
    """The answer to a caller's message, and the rules that decided.

    Attributes:
        status: 200 if the app is called, 401 if a token is needed, 403 if it lacks scopes.
        scopes: all that the message needs.
        missing: those of them that the token lacks.
        rules: the rules that decided, one for each operation that has one.
    """

    status: Literal[200, 401, 403]
    scopes: tuple[str, ...]
    missing: tuple[str, ...]
    rules: tuple[MessageRule, ...]


class _Entry(NamedTuple):
    """A rule with a pattern, prepared for comparison.

    Attributes:
        length: the characters besides the wildcards.
        matches: whether it covers a name.
    """

    length: int
    matches: Matches
    rule: MessageRule


class AccessPolicy:
    """The rules for the messages of one MCP server.

    Args:
        rules: see ``MessageRule``.
        required_scopes: needed for everything that is not public.

    Raises:
        ConfigurationError: what is no list of rules, or two rules for the same thing.
    """

    def __init__(
        self, rules: Iterable[MessageRule], *, required_scopes: Sequence[str] = ()
    ) -> None:
        checked, others = split_rules(rules)
        if others != []:
            raise ConfigurationError(f"rules={rules!r} must be like [Tool('name', scopes=[…])]")
        self.rules = tuple(checked)
        self.required_scopes = check_scopes("required_scopes", required_scopes)
        self._exact: dict[tuple[Subject | None, str], MessageRule] = {}
        self._patterns: dict[Subject | None, list[_Entry]] = {}
        seen: dict[tuple[Subject | None, str], MessageRule] = {}
        for rule in self.rules:
            if rule.subject == "tool" and is_odd_name(rule.pattern):
                logger.warning("%r is for a tool of just this name: the only wildcard is *", rule)
            other = seen.setdefault((rule.subject, _identity(rule)), rule)
            if other is not rule:
                raise ConfigurationError(
                    f"rules has {other!r} and {rule!r}, which are for the same: keep one"
                )
            if rule.subject != "resource" and "*" not in rule.pattern:
                self._exact[rule.subject, rule.pattern] = rule
            else:
                entry = _resource(rule) if rule.subject == "resource" else _pattern(rule)
                self._patterns.setdefault(rule.subject, []).append(entry)
        for entries in self._patterns.values():
            entries.sort(key=lambda entry: entry.length, reverse=True)
        #: Whether a caller without a token can be let in.
        self.has_public = any(rule.public for rule in self.rules)
        #: Whether a function decides, on more than the name of a thing.
        self.has_functions = any(callable(rule.scopes) for rule in self.rules)
        #: Whether lists have to be filtered.
        self.has_hidden = any(rule.hidden for rule in self.rules)
        # Servers have few tools; a stranger can make it forget some, but not grow.
        self._kept = lru_cache(512)(self._found)
        if self.has_public:
            for method in _HANDSHAKE:
                if not self._find(None, method):
                    self._exact[None, method] = Method(method, public=True)

    @property
    def scopes(self) -> tuple[str, ...]:
        """Every scope that a rule names."""
        return tuple(dict.fromkeys(each for rule in self.rules for each in rule.fixed_scopes))

    async def explain(
        self, token: AccessToken | None, message: JSONObject | list[JSONObject] | bytes
    ) -> Decision:
        """Return the decision about a message: for tests of your rules.

        Args:
            token: of the caller; ``None`` for an anonymous one.
            message: a JSON-RPC message or batch, or the body of a request.

        Raises:
            InvalidMessage: it cannot be judged, so the request would be refused with a 400.
        """
        body = message if isinstance(message, bytes) else json.dumps(message).encode()
        parsed = parse_message(body, arguments_decide=self.has_functions)
        return await self.decide(parsed, token)

    async def decide(
        self, message: MCPMessage, token: AccessToken | None, required: Sequence[str] | None = None
    ) -> Decision:
        """Return the decision about a parsed message.

        Args:
            message: see ``parse_message``.
            token: of the caller; ``None`` for an anonymous one.
            required: in place of ``required_scopes``.
        """
        rules: list[MessageRule] = []
        scopes = dict.fromkeys(self.required_scopes if required is None else required)
        is_public = True
        for count, operation in enumerate(message.operations):
            if count >= _ENOUGH and token is None and not is_public:
                break
            found = self.rules_for(operation.subject, operation.name, operation.method)
            rules += found
            if not found:
                is_public = False
            for rule in found:
                if not rule.public:
                    is_public = False
                    own = rule.scopes
                    if callable(own):
                        own = await _call(rule, own, operation, token)
                    for scope in own:
                        scopes[scope] = None
        if is_public:
            return Decision(200, (), (), tuple(rules))
        held: Sequence[str] = () if token is None else token.scopes
        missing = tuple([scope for scope in scopes if scope not in held])
        return Decision(
            401 if token is None else 403 if missing else 200, tuple(scopes), missing, tuple(rules)
        )

    def is_visible(
        self, subject: Subject, name: str, token: AccessToken | None, required: Sequence[str]
    ) -> bool:
        """Return whether a list shows a thing to a caller."""
        hiding = [rule for rule in self.rules_for(subject, name, _USE[subject]) if rule.hidden]
        if not hiding:
            return True
        if token is None:
            return False
        needed = {*required, *(scope for rule in hiding for scope in rule.fixed_scopes)}
        return needed.issubset(token.scopes)

    def security_schemes(self, tool: str, required: Sequence[str]) -> list[JSONObject]:
        """Return the ``securitySchemes`` of a tool in a list.

        SEP-1488 of MCP; https://developers.openai.com/apps-sdk/build/auth.
        """
        found = self.rules_for("tool", tool, "tools/call")
        if found and all(rule.public for rule in found):
            return [{"type": "noauth"}]
        scopes = dict.fromkeys((*required, *(each for rule in found for each in rule.fixed_scopes)))
        return [{"type": "oauth2", "scopes": list(scopes)}]

    def rules_for(self, subject: Subject | None, name: str, method: str) -> tuple[MessageRule, ...]:
        """Return the rules that decide: none, one, or several that are equally specific."""
        if len(name) + len(method) > _MAX_KEPT:
            return self._found(subject, name, method)
        return self._kept(subject, name, method)

    def _found(self, subject: Subject | None, name: str, method: str) -> tuple[MessageRule, ...]:
        found = self._find(subject, name) if subject is not None else ()
        return found or self._find(None, method)

    def _find(self, subject: Subject | None, name: str) -> tuple[MessageRule, ...]:
        rule = self._exact.get((subject, name))
        if rule is not None:
            return (rule,)
        entries = self._patterns.get(subject)
        if entries is None:
            return ()
        if subject == "resource" and is_ambiguous_uri(name):
            # Two parties may read such a URI differently, so it needs the scopes of all rules.
            return tuple(each for each in self.rules if each.subject == subject and not each.public)
        found: tuple[MessageRule, ...] = ()
        longest = 0
        for length, matches, rule in entries:
            if found and length < longest:
                break
            if matches(name):
                found += (rule,)
                longest = length
        return found


def split_rules(rules: Any) -> tuple[list[MessageRule], Any]:
    """Return the rules for messages, and all others."""
    if not hasattr(rules, "__iter__"):
        return [], rules
    listed = list(rules)
    messages = [rule for rule in listed if isinstance(rule, MessageRule)]
    return messages, [rule for rule in listed if not isinstance(rule, MessageRule)]


async def _call(
    rule: MessageRule, scopes_for: ScopesFor, operation: Operation, token: AccessToken | None
) -> tuple[str, ...]:
    if token is None:  # one is needed in any case
        return ()
    result = scopes_for(_arguments(rule, operation), token)
    scopes = await result if inspect.isawaitable(result) else result
    return check_scopes(f"{rule!r} scopes", scopes)


def _arguments(rule: MessageRule, operation: Operation) -> Mapping[str, Any]:
    """Return the arguments of a function for scopes.

    For a tool or a prompt: its arguments. For a resource: the variables of the rule's template.
    For a method: its parameters.
    """
    if rule.subject is None:
        return operation.params
    if rule.subject == "resource":
        return variables_of(rule.pattern, operation.name)
    arguments = operation.params.get("arguments")
    return arguments if is_object(arguments) else {}


def _pattern(rule: MessageRule) -> _Entry:
    parts = rule.pattern.split("*")
    return _Entry(sum(map(len, parts)), matcher(parts, "."), rule)


def _identity(rule: MessageRule) -> str:
    """Return the pattern, the same for two rules that are for the same."""
    if rule.subject != "resource":
        return rule.pattern
    return VARIABLE.sub("{}", fold_uri(rule.pattern))


def _resource(rule: MessageRule) -> _Entry:
    """Return the entry of a resource: a public rule covers its own spelling, others cover all."""
    if rule.pattern == "*":
        return _pattern(rule)
    literals = VARIABLE.split(rule.pattern)[::2]
    has_scheme = rule.pattern.startswith("{") or ":" in literals[0]
    if not has_scheme or any(mark in literal for literal in literals for mark in "{}*"):
        raise ConfigurationError(
            f"{rule!r}: write a URI, a template with plain variables like 'notes://private/{{id}}',"
            " or '*' for every resource"
        )
    length = sum(map(len, literals))
    if rule.public:
        return _Entry(length, matcher(literals, "[^/?#%]", "+"), rule)
    matches = matcher([*map(fold_uri, literals)], ".", "+")

    def matches_folded(uri: str) -> re.Match[str] | None:
        # Some servers take a query for arguments of the same resource.
        return matches(fold_uri(uri)) or matches(fold_uri(re.split("[?#]", uri, maxsplit=1)[0]))

    return _Entry(length, matches_folded, rule)
