"""What an edge knows of itself at one moment, and the same as metrics."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from app import __version__
from app.edge.sender import Delivery
from app.exposition import Sample, labels, write_family

_STARTED_S = time.time()


@dataclass(frozen=True, slots=True)
class Device:
    """A meter that is polled, or a folder that is watched."""

    site: str
    name: str
    is_up: bool
    last_at: datetime | None
    duration_s: float
    problem: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What page and metrics show."""

    edge: str
    """Name; empty until the cell has said it."""
    centre: str
    sites: tuple[str, ...]
    devices: tuple[Device, ...]
    delivery: Delivery
    problem: str
    """Why nothing is delivered at this moment; empty where it is."""
    heard_ago_s: float | None
    """Time since the cell last answered; None: it has not yet. [s]"""
    waiting: int
    oldest_at: datetime | None
    fill_ratio: float
    """Of the spool. [0..1]"""
    offset_s: float | None
    """How far the clock is ahead; None: not measured yet. [s]"""
    revision: int
    definitions_problem: str
    dropped: Mapping[str, int] = field(default_factory=dict)
    """Readings that the spool dropped, by reason."""
    files_set_aside: int = 0


def exposition(facts: Facts) -> bytes:
    """The facts in the text format of metrics."""
    return b"".join(write_family(name, kind, text, samples) for name, kind, text, samples in _families(facts))


def _families(facts: Facts) -> Iterator[tuple[str, str, str, list[Sample]]]:
    yield from _polled(facts)
    yield from _spooled(facts)
    yield from _delivered(facts)
    yield from _state(facts)
    yield from _process()


def _polled(facts: Facts) -> Iterator[tuple[str, str, str, list[Sample]]]:
    meters = [(labels(site=d.site, meter=d.name), d) for d in facts.devices]
    yield (
        "wattline_meter_up",
        "gauge",
        "Whether the last poll of the meter read anything.",
        [(label, float(d.is_up)) for label, d in meters],
    )
    yield (
        "wattline_meter_last_reading_timestamp_seconds",
        "gauge",
        "Time of the newest reading of the meter.",
        [(label, d.last_at.timestamp()) for label, d in meters if d.last_at],
    )
    yield (
        "wattline_meter_poll_duration_seconds",
        "gauge",
        "How long the last poll took.",
        [(label, d.duration_s) for label, d in meters],
    )


def _spooled(facts: Facts) -> Iterator[tuple[str, str, str, list[Sample]]]:
    spool = labels(collector="edge")
    yield "wattline_spool_readings", "gauge", "Readings that wait.", [(spool, float(facts.waiting))]
    yield "wattline_spool_fill_ratio", "gauge", "How full the spool is.", [(spool, facts.fill_ratio)]
    yield (
        "wattline_spool_dropped_total",
        "counter",
        "Readings that the spool dropped, by reason.",
        [(labels(reason=reason), float(count)) for reason, count in facts.dropped.items()],
    )


def _state(facts: Facts) -> Iterator[tuple[str, str, str, list[Sample]]]:
    offset = [] if facts.offset_s is None else [(_of_edge(facts), facts.offset_s)]
    text = "How far this machine's clock is ahead of the cell's."
    yield "wattline_edge_clock_offset_seconds", "gauge", text, offset
    yield (
        "wattline_edge_definitions_revision",
        "gauge",
        "Revision of the definitions in force; 0: none.",
        [(_of_edge(facts), float(facts.revision))],
    )
    yield (
        "wattline_edge_files_set_aside",
        "gauge",
        "Files that could not be read and lie in watched folders.",
        [(_of_edge(facts), float(facts.files_set_aside))],
    )


def _of_edge(facts: Facts) -> str:
    return labels(edge=facts.edge)


def _delivered(facts: Facts) -> Iterator[tuple[str, str, str, list[Sample]]]:
    done = facts.delivery
    counts = {"": done.delivered, "unknown": done.unknown, "refused": done.refused}
    yield (
        "wattline_edge_delivered_readings_total",
        "counter",
        "Readings that the cell has committed.",
        [("", float(counts[""]))],
    )
    yield (
        "wattline_edge_delivered_not_stored_total",
        "counter",
        "Of these: of points that are not declared (they wait in the cell), or in its drop ledger.",
        [(labels(reason=reason), float(counts[reason])) for reason in ("unknown", "refused")],
    )
    yield (
        "wattline_edge_connected",
        "gauge",
        "1 while the cell takes readings.",
        [("", float(not facts.problem))],
    )
    yield (
        "wattline_edge_last_answer_timestamp_seconds",
        "gauge",
        "When the cell last answered, with readings or without.",
        [("", done.heard_at.timestamp())] if done.heard_at else [],
    )
    yield (
        "wattline_edge_last_delivery_timestamp_seconds",
        "gauge",
        "When the cell last committed readings.",
        [("", done.last_at.timestamp())] if done.last_at else [],
    )


def _process() -> Iterator[tuple[str, str, str, list[Sample]]]:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    yield "wattline_build_info", "gauge", "Version of the service.", [(labels(version=__version__), 1.0)]
    yield (
        "process_cpu_seconds_total",
        "counter",
        "Processor time of the process.",
        [("", usage.ru_utime + usage.ru_stime)],
    )
    yield "process_start_time_seconds", "gauge", "Start of the process.", [("", _STARTED_S)]
    yield "process_resident_memory_bytes", "gauge", "Memory of the process.", [("", resident_bytes())]


def resident_bytes() -> float:
    """Memory of this process. [B]"""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:  # no Linux: the largest it ever was
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0
    return float(pages * os.sysconf("SC_PAGE_SIZE"))
