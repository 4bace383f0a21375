"""Which machines may use a server whose settings are for development. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TypeAlias

from ...errors import ConfigurationError, ForbiddenForm

Network: TypeAlias = IPv4Network | IPv6Network

# What the test clients of Starlette and Litestar call themselves. A server says so only if it takes
# anybody's word for an address, and then whoever says 127.0.0.1 gets in as well.
_IN_PROCESS = "testclient"


def parse_networks(setting: str, networks: object) -> tuple[Network, ...]:
    """Return the networks that a setting lists: addresses, or addresses with a prefix length.

    Raises:
        ConfigurationError: it lists something else.
    """
    entries = networks if isinstance(networks, list | tuple) else (None,)  # pyright: ignore[reportUnknownVariableType]  # whatever they are
    found: list[Network] = []
    for entry in entries:  # pyright: ignore[reportUnknownVariableType]  # the same
        text = entry if isinstance(entry, str) else ""
        try:
            found.append(ip_network(text))
        except ValueError:
            raise ConfigurationError(
                f"{setting}={networks!r} must be a list of networks, {_advice(text)}"
            ) from None
    return tuple(found)


def _advice(text: str) -> str:
    try:
        meant = str(ip_network(text, strict=False))
    except ValueError:
        return "like ['172.17.0.0/16']"
    return f"and {text!r} is an address in one: write {meant!r}"


def check_peer(address: str, networks: Sequence[Network], hint: str) -> None:
    """Check that a request comes from this machine, or from a network that was allowed.

    Args:
        address: as the ASGI server says. An empty one is nobody's: behind a Unix socket stands a
            proxy.
        networks: the allowed ones.
        hint: what to write to allow ``{address}``.

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
            " not say where this request comes from: listen on 127.0.0.1 instead of a Unix socket,"
            " or have the ASGI server set the address",
            reason="peer",
        ) from None
    parsed = (parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None) or parsed
    if not parsed.is_loopback and not any(parsed in network for network in networks):
        raise ForbiddenForm(
            "This server is for development and answers only this machine, and this request comes"
            f" from {parsed}. To serve that address as well, if it is your container's gateway for"
            f" example, write {hint.format(address=parsed)}",
            reason="peer",
        )
