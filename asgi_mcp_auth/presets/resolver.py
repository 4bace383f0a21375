"""Looks up presets and fills in their parameters, in the same way for all providers. Pure."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from string import Formatter
from typing import Any, cast

from .._settings import check_url
from ..errors import ConfigurationError
from ..types import JSONObject
from .catalog import CATALOG
from .model import ClientRegistration, Parameter, Preset, SignInMethod, Tokens

# These settings follow from the preset, so users cannot set them.
_SET_HERE = frozenset(
    (
        "authorization_servers",
        "config_url",
        "headers",
        "introspection_url",
        "issuer",
        "jwks_uri",
        "login",
        "public_key",
        "subject_claim",
        "token_verifier",
        "userinfo_url",
    )
)
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_PATTERNS = {
    "host": (
        rf"(?=.{{1,253}}$)(?:{_LABEL}\.)+[a-z](?:[a-z0-9-]{{0,61}}[a-z0-9])?",
        "a host name in lower case",
    ),
    "label": (_LABEL, "one part of a host name: lower-case letters, digits and hyphens"),
    "segment": (r"(?!\.{1,2}$)[A-Za-z0-9._~-]{1,128}", "letters, digits and ._~- only"),
    "uuid": (r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", "a UUID in lower case"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """A preset with its parameters filled in.

    Args:
        name: its name in the catalog.
        preset: the preset as the catalog has it.
        values: the checked parameters; several values if several are allowed.
        tokens: ``preset.tokens``, filled in.
        login: ``preset.login``, filled in.
        registration: ``preset.registration``, filled in.
    """

    name: str
    preset: Preset
    values: Mapping[str, tuple[str, ...]]
    tokens: Tokens | None
    login: SignInMethod | None
    registration: ClientRegistration | None


def preset_named(name: object) -> Preset:
    """Return the preset of that name.

    Raises:
        ConfigurationError: there is none; the message lists the presets.
    """
    preset = CATALOG.get(name) if isinstance(name, str) else None
    if preset is None:
        near = difflib.get_close_matches(str(name).lower(), CATALOG, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ConfigurationError(
            f"there is no preset {name!r}: {hint}the presets are {', '.join(CATALOG)}"
        )
    return preset


def resolve(name: str, parameters: Mapping[str, Any]) -> tuple[Resolved, JSONObject]:
    """Return the preset for these parameters, and the parameters that are not its own.

    Raises:
        ConfigurationError: no such preset, or a parameter is missing or invalid.
    """
    preset = preset_named(name)
    rest = dict(parameters)
    values: dict[str, tuple[str, ...]] = {}
    for key, parameter in preset.parameters.items():
        given = rest.pop(key, None)
        if given is None:
            given = parameter.default
        if given is not None:
            values[key] = _check(name, key, parameter, given)
        elif parameter.required:
            raise ConfigurationError(
                f"preset {name!r} needs {key}: {parameter.meaning}. Write"
                f" {key}={parameter.example!r}"
            )
    found = Resolved(
        name=name,
        preset=preset,
        values=values,
        tokens=_filled(preset.tokens, values),
        login=_filled(preset.login, values),
        registration=_filled(preset.registration, values),
    )
    return found, rest


def settings_of(taker: type, *more: str) -> frozenset[str]:
    """Return the settings that a user may give to the constructor of ``taker``."""
    return frozenset((*inspect.signature(taker).parameters, *more)) - _SET_HERE


def check_known(
    found: Resolved, rest: Mapping[str, object], taker: type, known: Collection[str]
) -> None:
    """Check that ``taker`` has the settings that are not the preset's own.

    Raises:
        ConfigurationError: it does not, or a setting follows from the preset.
    """
    for setting in rest:
        if setting not in known:
            own = ", ".join(found.preset.parameters) or "none"
            raise ConfigurationError(
                f"preset {found.name!r} has no parameter {setting!r}: its own are {own}. You"
                f" can also give settings of {taker.__name__} that do not follow from the preset"
            )


def _check(name: str, key: str, parameter: Parameter, given: Any) -> tuple[str, ...]:
    several: list[Any] = [given]
    if parameter.several and isinstance(given, list | tuple):
        several = list(cast("list[Any]", given))
    checked = tuple(_check_one(name, key, parameter, each) for each in several)
    if not checked or len(set(checked)) != len(checked):
        raise ConfigurationError(
            f"preset {name!r}: {key}={given!r} must name at least one, and each only once"
        )
    return checked


def _check_one(name: str, key: str, parameter: Parameter, value: object) -> str:
    what = f"preset {name!r}: {key}"
    if not isinstance(value, str):
        raise ConfigurationError(f"{what}={value!r} must be a str: {parameter.meaning}")
    if parameter.kind == "issuer":
        return check_url(what, value)
    if parameter.kind == "url":
        return check_url(what, value).removesuffix("/")
    if parameter.kind == "choice":
        if value not in parameter.choices:
            raise ConfigurationError(
                f"{what}={value!r} must be one of {', '.join(map(repr, parameter.choices))}"
            )
        return value
    pattern, words = _PATTERNS[parameter.kind]
    if not re.fullmatch(pattern, value):
        raise ConfigurationError(
            f"{what}={value!r} must be {words}, like {parameter.example!r}. It is"
            f" {parameter.meaning}"
        )
    return value


def _filled(part: Any, values: Mapping[str, tuple[str, ...]]) -> Any:
    """Return ``part`` with every template in it filled in.

    A template in a tuple becomes one entry for each value of its parameter. A template becomes
    ``None`` if its optional parameter was left out.
    """
    if isinstance(part, str):
        if not _names_in(part) <= values.keys():
            return None
        return part.format_map({key: value[0] for key, value in values.items()})
    if isinstance(part, tuple):
        return tuple(text for each in cast("tuple[str, ...]", part) for text in _each(each, values))
    if is_dataclass(part) and not isinstance(part, type):
        return replace(
            part, **{each.name: _filled(getattr(part, each.name), values) for each in fields(part)}
        )
    return part


def _each(template: str, values: Mapping[str, tuple[str, ...]]) -> list[str]:
    many = next((key for key in _names_in(template) if len(values[key]) > 1), None)
    if many is None:
        return [_filled(template, values)]
    return [_filled(template, {**values, many: (value,)}) for value in values[many]]


def _names_in(template: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(template) if name}
