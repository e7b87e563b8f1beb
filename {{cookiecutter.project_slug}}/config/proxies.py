"""Which proxies are trusted to say who visits, and whether by HTTPS: TRUSTED_PROXIES in .env."""

import socket
import struct
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

Network = IPv4Network | IPv6Network


def trusted_proxies(text: str) -> list[Network]:
    """Those of TRUSTED_PROXIES, and this machine: its own addresses, and in a container that of the host.

    :param text: addresses or networks, with commas
    :raises ImproperlyConfigured: for what is neither
    """
    try:
        named = [ip_network(part.strip()) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise ImproperlyConfigured(
            f"TRUSTED_PROXIES is {text!r}: {error}. Give addresses or networks with commas, such as "
            "192.0.2.7,10.0.0.0/8, in .env."
        ) from None
    here = [ip_network("127.0.0.0/8"), ip_network("::1")]
    # A port that Docker publishes on the host's 127.0.0.1 is reached by way of the gateway. Outside of a container the
    # gateway is a stranger.
    if Path("/.dockerenv").exists():
        here += gateways(Path("/proc/net/route").read_text())
    return [*named, *here]


def gateways(routes: str) -> list[Network]:
    """Of the default routes in Linux's /proc/net/route, where an address is a hexadecimal number, lowest byte first."""
    fields = [line.split() for line in routes.splitlines()[1:]]
    return [
        ip_network(socket.inet_ntoa(struct.pack("<I", int(gateway, 16))))
        for _, destination, gateway, *_ in fields
        if destination == "00000000" and gateway != "00000000"
    ]


def visitor(peer: str, forwarded_for: str, trusted: Sequence[Network]) -> str:
    """The address of who visits: the last one that is no trusted proxy's.

    :param peer: the other end of the connection; no address for a Unix socket, which only this machine reaches
    :param forwarded_for: X-Forwarded-For. Each proxy adds the address that it sees on the right; what is left of the
        first stranger's may be the stranger's invention.
    """
    hops = forwarded_for.split(",") if forwarded_for else []
    address = peer
    while hops and (address in ("", "-") or any(ip_address(address) in network for network in trusted)):
        try:
            address = str(ip_address(hops.pop().strip()))
        except ValueError:  # no address: what comes before it is as uncertain
            break
    return address
