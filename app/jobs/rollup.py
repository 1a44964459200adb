"""Compute energies again wherever readings, events or definitions changed, and only there.

Ingest queues, in its own transaction, the stretch of time of every point it touched. Each run takes
that queue, widens every stretch until the computation no longer depends on where it starts (see
``domain.affected``), and replaces the 15-minute intervals in it, the local days and the sums of the
site. All in one transaction: either the figures and the queue move, or neither.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta

from app.domain import energy
from app.domain.energy import Event, Series
from app.domain.period import QUARTER_HOUR_US, Period, Step, starts
from app.domain.pue import Boundary, boundary, pair
from app.domain.quantity import ReadingKind
from app.domain.reading import LATEST, ReadingColumns
from app.domain.recalculation import Recalculation, recalculation
from app.domain.site import Point, Site
from app.store import energy as store
from app.store import events as ledger
from app.store import findings, readings, rollup_queue, sites
from app.store.engine import Connection, Engine, begin
from app.store.readings import from_us, to_us
from app.store.reports import revisions
from app.store.retention import raw_horizon
from app.store.rollup_queue import Dirty
from app.store.sites import Stored

TAKE_AT_ONCE = 2000
"""Queue entries per transaction."""
FIRST_REACH = 16
"""Readings before and after a change that are loaded at first."""
MARGIN = timedelta(hours=2)
NEAR = timedelta(days=1)
"""Stretches of one point closer than this are computed together ..."""
LONGEST_JOINED = timedelta(days=32)
"""... up to this length, unless they overlap."""
SITE_CHUNK_US = 32 * 24 * 4 * QUARTER_HOUR_US
"""Longest stretch of a site that is summed in one go."""
_LONGEST_REACH = 1 << 30


@dataclass(frozen=True, slots=True)
class RollupResult:
    """What one run did."""

    stretches: int = 0
    """Stretches of points computed again."""
    busy: bool = False
    """Another process is rolling up; the queue is left to it."""


def run(engine: Engine) -> RollupResult:
    """Work the queue off.

    Raises
    ------
    StoreUnavailable
        If the database is away; the queue is as it was.
    """
    stretches = 0
    while True:
        with begin(engine) as connection:
            if not rollup_queue.lock(connection):
                return RollupResult(stretches, busy=True)
            work = rollup_queue.take(connection, TAKE_AT_ONCE)
            if not work:
                return RollupResult(stretches)
            stretches += roll_up(connection, sites.load(connection), work)


def roll_up(connection: Connection, stored: Stored, work: Iterable[Dirty]) -> int:
    """Compute the stretches again, in the transaction of `connection`; how many there were."""
    by_site: dict[str, list[tuple[Point, Dirty]]] = defaultdict(list)
    keys = stored.point_key
    for dirty in _merged(work):
        if dirty.point_id in keys:
            site, meter, point = stored.fleet.point[keys[dirty.point_id]]
            by_site[site.id].append((meter.effective(point), dirty))
    for site_id, stretches in by_site.items():
        _roll_up_site(connection, stored, stored.fleet.site[site_id], stretches)
    return sum(map(len, by_site.values()))


def _merged(work: Iterable[Dirty]) -> Iterator[Dirty]:
    """Stretches of the same point that touch or nearly touch, as one."""
    last: Dirty | None = None
    for dirty in sorted(work, key=lambda d: (d.point_id, d.start)):
        if last and _belongs_to(dirty, last):
            last = Dirty(last.point_id, last.start, max(last.end, dirty.end))
            continue
        if last:
            yield last
        last = dirty
    if last:
        yield last


def _belongs_to(dirty: Dirty, last: Dirty) -> bool:
    """Whether a stretch is better computed together with the one before it.

    Long ones that only follow each other stay apart: batches of a big file, which fit into memory one
    by one.
    """
    if dirty.point_id != last.point_id or dirty.start > last.end + NEAR:
        return False
    return dirty.start < last.end or dirty.end - last.start <= LONGEST_JOINED


def _roll_up_site(
    connection: Connection, stored: Stored, site: Site, stretches: list[tuple[Point, Dirty]]
) -> None:
    declared = ledger.in_force(connection, sorted({d.point_id for _, d in stretches}))
    changed: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for point, dirty in stretches:
        span_us = _roll_up_point(connection, point, dirty, declared.get(dirty.point_id, []))
        if span_us[0] < span_us[1]:  # a point's first reading, on a boundary, changes no interval
            changed[point.id].append(span_us)
    findings.queue(connection, ((d.point_id, d.start, d.end) for _, d in stretches))
    _refresh_days(connection, stored, site, changed)
    revisions.note_computed(connection, stored.site_id[site.id], _months(site, changed))
    for room in ("", *sorted({m.room for m in site.meters if m.room})):
        parts = boundary(site, room)
        needed = {p.id for p in parts.points()}
        spans = [span for point_id, spans in changed.items() if point_id in needed for span in spans]
        for start_us, end_us in _union(spans):
            _sum_site(connection, stored, stored.site_id[site.id], room, parts, start_us, end_us)


def _roll_up_point(
    connection: Connection, point: Point, dirty: Dirty, events: list[Event]
) -> tuple[int, int]:
    """Replace the intervals of one point that a stretch can have changed; their range."""
    if point.kind is ReadingKind.GAUGE:
        start_us, end_us = _outward(to_us(dirty.start), to_us(dirty.end) + 1)
        store.refresh_gauge(connection, dirty.point_id, start_us, end_us)
        return start_us, end_us
    series, change = _context(connection, point, dirty, events)
    known = energy.spans(series.take(slice(change.first_row, None)), point, events)
    cells = energy.quarter_hours(known, change.start_us, change.end_us)
    kept_us = _kept_before_us(connection, series)
    store.replace_quarter_hours(
        connection, point, dirty.point_id, change.start_us, change.end_us, cells, kept_before_us=kept_us
    )
    return change.start_us, change.end_us


def _kept_before_us(connection: Connection, series: Series) -> int | None:
    """Instant from which the raw readings are whole; None where retention never dropped any. [us]"""
    horizon = raw_horizon(connection)
    if horizon is None:
        return None
    whole_us = series.at_us[series.at_us >= to_us(horizon)]
    first_us = int(whole_us[0]) if len(whole_us) else to_us(LATEST)
    return -(-first_us // QUARTER_HOUR_US) * QUARTER_HOUR_US


def _context(
    connection: Connection, point: Point, dirty: Dirty, events: list[Event]
) -> tuple[Series, Recalculation]:
    """The readings around a stretch, as many as it takes to know what it changes."""
    reach = FIRST_REACH
    start, end = dirty.start - MARGIN, dirty.end + MARGIN
    while True:
        columns = readings.around(connection, dirty.point_id, start, end, reach, reach)
        before = int((columns.at_us < to_us(start)).sum())
        after = int((columns.at_us >= to_us(end)).sum())
        series = _series(columns)
        change = recalculation(
            series,
            point,
            to_us(dirty.start),
            to_us(dirty.end),
            events,
            is_start=before < reach,
            is_end=after < reach,
        )
        if change is not None:
            return series, change
        reach = min(reach * 8, _LONGEST_REACH)


def _series(columns: ReadingColumns) -> Series:
    return Series(columns.at_us, columns.value, columns.interval_s, columns.valid_s)


def _outward(start_us: int, end_us: int) -> tuple[int, int]:
    return start_us // QUARTER_HOUR_US * QUARTER_HOUR_US, -(-end_us // QUARTER_HOUR_US) * QUARTER_HOUR_US


def _refresh_days(
    connection: Connection, stored: Stored, site: Site, changed: dict[str, list[tuple[int, int]]]
) -> None:
    """Sum the local days again; points that changed over the same range go together."""
    by_span: dict[tuple[int, int], list[int]] = defaultdict(list)
    for point_id, spans in changed.items():
        for span in spans:
            by_span[span].append(stored.point_id[point_id])
    for (start_us, end_us), point_ids in by_span.items():
        store.refresh_days(connection, site, point_ids, Period(from_us(start_us), from_us(end_us)))


def _months(site: Site, changed: dict[str, list[tuple[int, int]]]) -> set[date]:
    """First days of the local months in which something changed."""
    ranges = {span for spans in changed.values() for span in spans}
    periods = [Period(from_us(start_us), from_us(end_us)) for start_us, end_us in ranges]
    return {
        at.astimezone(site.zone).date().replace(day=1)
        for period in periods
        for at, _ in starts(period, Step.MONTH, site.zone)
    }


def _union(spans: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Disjoint ranges that cover `spans`, none longer than :data:`SITE_CHUNK_US`."""
    merged: list[list[int]] = []
    for start_us, end_us in sorted(spans):
        if merged and start_us <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], end_us)
        else:
            merged.append([start_us, end_us])
    for start_us, end_us in merged:
        for at_us in range(start_us, end_us, SITE_CHUNK_US):
            yield at_us, min(at_us + SITE_CHUNK_US, end_us)


def _sum_site(
    connection: Connection,
    stored: Stored,
    site_id: int,
    room: str,
    parts: Boundary,
    start_us: int,
    end_us: int,
) -> None:
    numbers = {stored.point_id[p.id]: p.id for p in parts.points()}
    cells = store.load_quarter_hours(connection, list(numbers), from_us(start_us), from_us(end_us))
    by_key = {numbers[number]: part for number, part in cells.items()}
    store.replace_site(connection, site_id, room, start_us, end_us, pair(parts, by_key, start_us, end_us))
