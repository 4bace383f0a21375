"""Restricts a server with development settings to this machine and allowed networks. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TypeAlias, cast

from ...errors import ConfigurationError, ForbiddenForm

Network: TypeAlias = IPv4Network | IPv6Network

# The client address in requests of Starlette's and Litestar's test clients. An ASGI server reports
# it only if it trusts a header for the address, and a client could then write 127.0.0.1 as well.
_IN_PROCESS = "testclient"


def parse_networks(setting: str, networks: object) -> tuple[Network, ...]:
    """Return the networks that a setting lists: addresses, or addresses with a prefix length.

    Raises:
        ConfigurationError: it is not such a list.
    """
    entries: Sequence[object] = [None]  # invalid, like any other entry that is not a string
    if isinstance(networks, list | tuple):
        entries = cast("Sequence[object]", networks)
    parsed: list[Network] = []
    for entry in entries:
        text = entry if isinstance(entry, str) else ""
        try:
            parsed.append(ip_network(text))
        except ValueError:
            raise ConfigurationError(
                f"{setting}={networks!r} must be a list of networks, {_advice(text)}"
            ) from None
    return tuple(parsed)


def _advice(text: str) -> str:
    try:
        network = str(ip_network(text, strict=False))
    except ValueError:
        return "like ['172.17.0.0/16']"
    return f"and {text!r} is an address in one: write {network!r}"


def check_peer(address: str, networks: Sequence[Network], hint: str) -> None:
    """Check that a request comes from this machine or from an allowed network.

    Args:
        address: as reported by the ASGI server. It is empty behind a Unix socket, where a proxy
            hides the client's.
        networks: the allowed ones.
        hint: the setting that allows ``{address}``.

    Raises:
        ForbiddenForm: it comes from elsewhere.
    """
    if address == _IN_PROCESS:
        return
    try:
        parsed = ip_address(address)
    except ValueError:
        raise ForbiddenForm(
            "This server is for development and answers only this machine, and its ASGI server does"
            " not report where this request comes from: listen on 127.0.0.1 instead of a Unix"
            " socket, or have the ASGI server set the address",
            reason="peer",
        ) from None
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    if not parsed.is_loopback and not any(parsed in network for network in networks):
        raise ForbiddenForm(
            "This server is for development and answers only this machine, and this request comes"
            f" from {parsed}. To allow that address as well, if it is your container's gateway for"
            f" example, write {hint.format(address=parsed)}",
            reason="peer",
        )
