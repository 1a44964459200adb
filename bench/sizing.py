"""How many machines a fleet takes: computed from the measured costs in ``RESULTS.md``, and from nothing else.

``python -m bench.sizing`` writes the result into ``docs/how-to/sizing.md``; a test compares the two.
"""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

BENCHES = ("fleet", "capacity", "edge", "peers")
"""Benches of which it takes figures."""
RESULTS = Path(__file__).parent / "RESULTS.md"
PAGE = Path(__file__).parent.parent / "docs" / "how-to" / "sizing.md"
TIMESCALE_BYTES = 8.7
"""A reading with its figures, compressed; measured in ``docs/decisions/store-partitions.md``. [B]"""
READINGS_OF_A_BATCH = 50.0
"""Of an edge of 500 points a minute, with what it sends to say that it is there; see `bench.fleet`."""
SERVERS = 3
"""Of a hub."""
HUB_FROM_SITES = 30
CORES, BUSY_RATIO = 2, 0.4
"""A machine, and the share of it that live readings may take: a backlog, an import, reports find room."""
PROCESS_RATIO = 0.6
"""Share of a core that the Python of one process may take: its threads share an interpreter."""
MACHINE_MIB, MEMORY_RATIO = 8192, 0.5
_YEAR_S = 365.25 * 86_400
_WIDTH = 120


@dataclass(frozen=True, slots=True)
class Ledger:
    """What was measured; processor time of the reference machine."""

    edge_us: float
    """Of an edge for a reading. [us]"""
    edge_mb: float
    line_bytes: float
    """From an edge to the hub for a reading, before TLS. [B]"""
    hub_us: float
    """Of the servers of a hub together for a reading. [us]"""
    hub_written_bytes: float
    """The same, written to disk. [B]"""
    hub_batches_per_s: float
    """Most batches, with a hundred readings or none, that a hub stores. [1/s]"""
    cell_us: float
    """Of a cell for a reading, database included. [us]"""
    cell_database_us: float
    base_mib: float
    """Memory of a cell without sites, database included. [MiB]"""
    point_mib: float
    """And for each point. [MiB]"""
    plain_bytes: float
    """On disk for a reading with its figures, in plain PostgreSQL. [B]"""

    @property
    def python_us(self) -> float:
        """Of the process of a cell. [us]"""
        return self.cell_us - self.cell_database_us


@dataclass(frozen=True, slots=True)
class Fleet:
    """Sites, the points of each, and how often each is read."""

    sites: int
    points: int
    every_s: int

    @property
    def readings_per_s(self) -> float:
        """Of all sites. [1/s]"""
        return self.sites * self.points / self.every_s


@dataclass(frozen=True, slots=True)
class Size:
    """What a fleet takes."""

    fleet: Fleet
    cell_cores: float
    """Reference cores of all cells together."""
    cells: int
    memory_gib: float
    """Of all cells together, databases included. [GiB]"""
    hubs: int
    hub_cores: float
    """Reference cores of one server of a hub."""
    hub_writes_bytes_per_s: float
    """Of one server of a hub. [B/s]"""
    disk_bytes: float
    """Of a year, on TimescaleDB. [B]"""
    plain_disk_bytes: float
    site_bits_per_s: float
    """On the line of a site. [bit/s]"""
    centre_bits_per_s: float
    breaks_first: str
    """What of a cell is used up first."""


FLEETS = (
    Fleet(1, 2000, 15),
    Fleet(30, 500, 60),
    Fleet(100, 500, 60),
    Fleet(660, 500, 60),
    Fleet(5000, 500, 60),
)


def ledger(results: str) -> Ledger:
    """The costs from the text of ``RESULTS.md``.

    Raises
    ------
    ValueError
        If a bench of it is missing.
    """
    few, many = _memory(results)
    point_mib = (many.mib - few.mib) / ((many.sites - few.sites) * 500)
    edge_ratio = _figure(results, "edge", "250 devices, 500 points, every 60 s: processor") / 100
    return Ledger(
        edge_us=edge_ratio / (500 / 60) * 1e6,
        edge_mb=_figure(results, "edge", "250 devices, 500 points, every 60 s: memory"),
        line_bytes=_figure(results, "fleet", "edge to hub"),
        hub_us=_figure(results, "fleet", "hub: processor of three servers"),
        hub_written_bytes=_figure(results, "fleet", "hub: written to disk by three servers"),
        hub_batches_per_s=_figure(results, "fleet", "hub: most batches"),
        cell_us=_figure(results, "fleet", "cell: all"),
        cell_database_us=_figure(results, "fleet", "cell: database"),
        base_mib=few.mib - few.sites * 500 * point_mib,
        point_mib=point_mib,
        plain_bytes=_figure(results, "peers", "on disk"),
    )


class _Memory(NamedTuple):
    sites: int
    mib: float


def _memory(results: str) -> tuple[_Memory, _Memory]:
    """Of the cells with the fewest and with the most sites of 500 points that were measured."""
    pattern = re.compile(r"^\| (\d+) sites?: memory \| ([\d,]+) MiB", re.MULTILINE)
    rows = pattern.findall(_section(results, "capacity"))
    found = sorted(_Memory(int(sites), float(mib.replace(",", ""))) for sites, mib in rows)
    if len(found) < 2:
        raise ValueError("RESULTS.md has no memory of two cells of `python -m bench capacity`; run it")
    return found[0], found[-1]


def _section(results: str, bench: str) -> str:
    found = re.search(rf"<!-- {bench} -->(.*?)<!-- end {bench} -->", results, re.DOTALL)
    return found[1] if found else ""


def _figure(results: str, bench: str, what: str) -> float:
    """The number with which our column of a row begins."""
    row = re.search(rf"^\| {re.escape(what)} \| ([\d,.]+)", _section(results, bench), re.MULTILINE)
    if row is None:
        raise ValueError(f"RESULTS.md has no row {what!r} of `python -m bench {bench}`; run it")
    return float(row[1].replace(",", ""))


def most_per_cell(costs: Ledger, fleet: Fleet) -> dict[str, float]:
    """Readings a second that each part of a cell carries, by the part. [1/s]"""
    points = (MEMORY_RATIO * MACHINE_MIB - costs.base_mib) / costs.point_mib
    return {
        "processor": CORES * BUSY_RATIO * 1e6 / costs.cell_us,
        "Python of one process": PROCESS_RATIO * 1e6 / costs.python_us,
        "memory": points / fleet.every_s,
    }


def most_per_hub(costs: Ledger) -> dict[str, float]:
    """Readings a second that each part of a hub of three machines carries, by the part. [1/s]"""
    return {
        "processor": CORES * BUSY_RATIO * 1e6 / (costs.hub_us / SERVERS),
        "disk": BUSY_RATIO * costs.hub_batches_per_s * READINGS_OF_A_BATCH,
    }


def sized(costs: Ledger, fleet: Fleet) -> Size:
    """What a fleet takes."""
    rate, most = fleet.readings_per_s, most_per_cell(costs, fleet)
    breaks_first = min(most, key=lambda part: most[part])
    cells = max(math.ceil(rate / most[breaks_first]), 1)
    hubs = math.ceil(rate / min(most_per_hub(costs).values())) if fleet.sites >= HUB_FROM_SITES else 0
    a_server = rate / SERVERS / hubs if hubs else 0.0
    return Size(
        fleet,
        cell_cores=rate * costs.cell_us / 1e6,
        cells=cells,
        memory_gib=(cells * costs.base_mib + fleet.sites * fleet.points * costs.point_mib) / 1024,
        hubs=hubs,
        hub_cores=a_server * costs.hub_us / 1e6,
        hub_writes_bytes_per_s=a_server * costs.hub_written_bytes,
        disk_bytes=rate * _YEAR_S * TIMESCALE_BYTES,
        plain_disk_bytes=rate * _YEAR_S * costs.plain_bytes,
        site_bits_per_s=8 * costs.line_bytes * rate / fleet.sites,
        centre_bits_per_s=8 * costs.line_bytes * rate,
        breaks_first=breaks_first,
    )


def table(sizes: Sequence[Size]) -> str:
    """A table of sizes, in Markdown."""
    head = [
        "sites x points x s",
        "readings/s",
        "cells of 2 cores",
        "their reference cores",
        "their memory",
        "hubs of 3 servers",
        "cores, writes of a server",
        "a year on disk, TimescaleDB (plain)",
        "line of a site",
        "into the centre",
        "a cell's first limit",
    ]
    rows = [_row(size) for size in sizes]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, ["---"] * len(head), *rows])


def _row(size: Size) -> list[str]:
    fleet = size.fleet
    hub = f"{size.hub_cores:.2g}, {_short(size.hub_writes_bytes_per_s)}B/s" if size.hubs else ""
    return [
        f"{fleet.sites:,} x {fleet.points:,} x {fleet.every_s}",
        f"{fleet.readings_per_s:,.0f}",
        str(size.cells),
        f"{size.cell_cores:.2g}",
        f"{size.memory_gib:.2g} GiB",
        str(size.hubs or ""),
        hub,
        f"{_short(size.disk_bytes)}B ({_short(size.plain_disk_bytes)}B)",
        f"{_short(size.site_bits_per_s)}bit/s",
        f"{_short(size.centre_bits_per_s)}bit/s",
        size.breaks_first,
    ]


def _short(value: float) -> str:
    """Two digits with a prefix."""
    power = min(int(math.log10(value) // 3), 4) if value >= 1 else 0
    digits = value / 1000**power
    return f"{digits:.{0 if digits >= 10 else 1}f} {' kMGT'[power].strip()}"


def chapter(results: str) -> str:
    """What ``docs/how-to/sizing.md`` says of costs and sizes."""
    costs = ledger(results)
    sizes = table([sized(costs, fleet) for fleet in FLEETS])
    texts = (textwrap.fill(text, _WIDTH) for text in (_costs(costs), _limits(costs)))
    return f"\n\n{sizes}\n\n".join(texts)


def _costs(costs: Ledger) -> str:
    return (
        f"A reading costs an edge {costs.edge_us:.0f} µs, the three servers of a hub together "
        f"{costs.hub_us:.0f} µs and {costs.hub_written_bytes:,.0f} bytes of writes, and its cell "
        f"{costs.cell_us:.0f} µs, of which {costs.cell_database_us:.0f} µs in the database, until figures, "
        f"findings, alarms and metrics stand. On the line it takes {costs.line_bytes:.0f} bytes before TLS, "
        f"in the batches of about a hundred readings that edges send. A cell takes {costs.base_mib:.0f} MiB "
        f"of memory, and {500 * costs.point_mib:.0f} MiB for each site of 500 points."
    )


def _limits(costs: Ledger) -> str:
    of_cell, of_hub = (
        ", ".join(f"{part} {rate:,.0f}" for part, rate in most.items())
        for most in (most_per_cell(costs, FLEETS[-1]), most_per_hub(costs))
    )
    busy, held, python = (f"{100 * share:.0f} %" for share in (BUSY_RATIO, MEMORY_RATIO, PROCESS_RATIO))
    return (
        f"**What breaks first.** A cell has {CORES} reference cores, of which live readings may take {busy}, "
        f"{MACHINE_MIB // 1024} GiB, of which they may take {held}, and one process, whose Python may take "
        f"{python} of a core. In readings/s of points that are "
        f"read each minute it then carries, by part: {of_cell}; the smallest counts. A hub of three such "
        f"machines carries, by part: {of_hub}; its servers wrote {costs.hub_batches_per_s:,.0f} batches a "
        f"second at most, of {READINGS_OF_A_BATCH:.0f} readings in the mean, each synced before it is "
        "acknowledged. With more, each hub has cells of its own."
    )


def with_chapter(page: str, results: str) -> str:
    """The page with what is computed in it."""
    pattern = re.compile(r"(<!-- sizing -->\n\n).*?(\n\n<!-- end sizing -->)", re.DOTALL)
    return pattern.sub(lambda found: found[1] + chapter(results) + found[2], page)


def main() -> None:
    """Write the page anew."""
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(with_chapter(page, RESULTS.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
