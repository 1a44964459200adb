"""Which addresses collectors may connect to: the networks of the operator's meters, and no others.

The rule is one for the whole process, set where the environment is read. It is asked twice: when a
collector is built, for addresses written as numbers, so that a site file is refused with its line; and
whenever a connection is opened, for the number that a name leads to at that moment. The connection then
goes to this number, so a name that leads elsewhere a moment later gains nothing.

Without a rule of the operator's, private networks and this machine itself may be reached. Link-local,
metadata, multicast and public addresses only where they are listed.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace

from app.domain.address import METADATA, Network, is_in, network, plain

SETTING = "WATTLINE_COLLECTOR_NETWORKS"


class TargetRefused(OSError):
    """The address is outside of the networks that collectors may reach."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What may be reached."""

    networks: tuple[Network, ...] = ()
    """Empty: private networks."""
    loopback: bool = True
    """Whether this machine itself is one of those, where no networks are listed."""

    def refusal(self, address: str) -> str | None:
        """Why an address, written as a number, may not be reached; None where it may."""
        if self._allows(address):
            return None
        listed = ", ".join(map(str, self.networks)) or "private networks"
        return f"{address} is outside of {listed}; if meters are there, add its network to {SETTING}"

    def _allows(self, text: str) -> bool:
        address = plain(text)
        if self.networks:
            return is_in(address, self.networks)
        if address.is_loopback:
            return self.loopback
        odd = address.is_link_local or address.is_multicast or address.is_unspecified or address in METADATA
        return not (address.is_global or odd)


_rule = Rule()
_here: ContextVar[Rule | None] = ContextVar("collectors_may_reach", default=None)


def allow(networks: str) -> None:
    """Set the rule of this process.

    Parameters
    ----------
    networks : str
        With commas between, like ``10.20.0.0/16, 127.0.0.0/8``; empty: private networks and loopback.

    Raises
    ------
    ValueError
        If one is no network.
    """
    global _rule
    _rule = Rule(parse(networks))


def parse(networks: str) -> tuple[Network, ...]:
    """The networks of a text with commas between.

    Raises
    ------
    ValueError
        If one is none.
    """
    return tuple(network(part.strip()) for part in networks.split(",") if part.strip())


@contextmanager
def on_behalf_of_others() -> Iterator[None]:
    """While somebody from elsewhere says what is asked: not this machine, unless it is listed."""
    token = _here.set(replace(_rule, loopback=False))
    try:
        yield
    finally:
        _here.reset(token)


def refusal(host: str) -> str | None:
    """Why a host written as a number may not be reached; None where it may, or where it is a name."""
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return (_here.get() or _rule).refusal(host)


async def addresses(host: str, port: int, kind: socket.SocketKind) -> list[str]:
    """The numeric addresses of a host that may be reached, IPv4 first, as meters are.

    Raises
    ------
    TargetRefused
        If there are only others.
    OSError
        If the name leads nowhere.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=kind)
    ordered = sorted(found, key=lambda entry: entry[0] != socket.AF_INET)
    numbers = list(dict.fromkeys(str(entry[4][0]) for entry in ordered))
    refusals = {number: refusal(number) for number in numbers}
    allowed = [number for number in numbers if refusals[number] is None]
    if not allowed:
        reasons = "; ".join(filter(None, refusals.values()))
        raise TargetRefused(reasons if host in numbers else f"{host}: {reasons}")
    return allowed
