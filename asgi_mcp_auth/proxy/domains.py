"""Domains of email addresses, in a form that can be compared. Pure."""

from __future__ import annotations

MAX_DOMAIN_CHARS = 253

_UPPER = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_ASCII_LOWER = str.maketrans(_UPPER, _UPPER.lower())


def ascii_domain(name: str) -> str | None:
    """Return a domain as the DNS has it (``xn--mnchen-3ya.de``), in lower case.

    ``None`` if it is not certain which domain is meant: ``str.casefold`` and ``str.lower`` map
    different names to the same one (the Kelvin sign to k, ß to ss). So does ``encode("idna")``, so
    a name is accepted only if it comes back from there unchanged.

    RFC 5890 §2.3.2.1.
    """
    if not 0 < len(name) <= MAX_DOMAIN_CHARS:
        return None
    lower = name.translate(_ASCII_LOWER)
    if lower.isascii():
        return lower
    try:
        encoded = lower.encode("idna")
        if encoded.decode("idna") != lower:
            return None
    except UnicodeError:
        return None
    return encoded.decode("ascii")
