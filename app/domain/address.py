"""Internet addresses, as the rules about who may be spoken to see them."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

METADATA = tuple(map(ipaddress.ip_address, ("100.100.100.200", "192.0.0.192", "fd00:ec2::254")))
"""Where clouds tell secrets to whoever asks, beside the link-local 169.254.169.254."""
_TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96")


def network(text: str) -> Network:
    """A network written like ``10.20.0.0/16``.

    Raises
    ------
    ValueError
        If it is none.
    """
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        raise ValueError(f"{text!r} is no network; write it like 10.20.0.0/16") from None


def plain(text: str) -> Address:
    """The address of a connection: without its zone, and the IPv4 one inside an IPv6 one where there is one.

    Raises
    ------
    ValueError
        If it is no address.
    """
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _TRANSLATED:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else address)


def is_in(address: Address, networks: Iterable[Network]) -> bool:
    """Whether one of the networks has the address."""
    return any(address.version == one.version and address in one for one in networks)
