"""Addresses that several polled meters share: gateways, serial servers, serial ports, brokers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

NOT_POLLED = "csv_folder"
"""Collector whose readings come in files, when somebody puts them there."""


class Collected(Protocol):
    """A meter, as far as it matters here."""

    @property
    def collector(self) -> Mapping[str, Any] | None:
        """Its ``collector`` section."""


M = TypeVar("M", bound=Collected)


def is_polled(meter: Collected) -> bool:
    """Whether Wattline asks the meter by itself; then its silence means something."""
    return meter.collector is not None and meter.collector.get("kind") != NOT_POLLED


def shared(meters: Iterable[M]) -> dict[str, list[M]]:
    """The polled meters behind each address that several share: hosts, then ports of hosts that have many."""
    hosts: dict[str, list[M]] = defaultdict(list)
    ports: dict[str, list[M]] = defaultdict(list)
    for meter in filter(is_polled, meters):
        host, *port = addresses_of(meter)
        hosts[host].append(meter)
        for address in port:
            ports[address].append(meter)
    found = {host: behind for host, behind in hosts.items() if host and len(behind) > 1}
    lines = {p: m for p, m in ports.items() if 1 < len(m) < len(hosts[addresses_of(m[0])[0]])}
    return found | lines


def addresses_of(meter: Collected) -> tuple[str, ...]:
    """What Wattline connects to for a meter: the host, serial port or broker, then the port of a host."""
    told = meter.collector or {}
    url = next((str(told[key]) for key in ("url", "broker") if told.get(key)), "")
    name = urlsplit(url).hostname or "" if "//" in url else url
    if not told.get("host"):
        return (str(told.get("serial_port") or name.lower()),)
    host = str(told["host"]).lower()
    return host, f"{host}:{told['port']}" if told.get("port") else f"{host} ({told.get('kind')})"
