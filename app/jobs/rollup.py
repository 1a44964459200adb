"""Compute energies again wherever readings, events or definitions changed, and only there.

Ingest queues, in its own transaction, the stretch of time of every point it touched. Each run joins what
waits into stretches of points, recent ones first, and replaces the 15-minute intervals that they can have
changed, the local days and the sums of the sites. Many points go through at once: see ``domain.plain``;
where something unusual is near, a point goes the careful way, with readings added until the computation no
longer depends on where it starts (see ``domain.recalculation``). Both give the same figures to the last
bit. All in one transaction: either the figures and the queue move, or neither.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import structlog

from app.domain import energy, plain, timeline
from app.domain.energy import Event, EventKind, QuarterHours, Series, Spans
from app.domain.period import QUARTER_HOUR_US, midnight
from app.domain.plain import Outcome, Windows
from app.domain.pue import JoinedCells, SiteQuarterHours, pair, pair_over
from app.domain.quantity import ReadingKind
from app.domain.reading import LATEST, ReadingColumns
from app.domain.recalculation import Recalculation, recalculation
from app.domain.register import LOOK_BACK_US, US
from app.domain.site import Point, Site
from app.domain.timeline import Stretch
from app.errors import WorkTooLarge
from app.jobs import formula_points
from app.store import computed_hours, energy_batch, findings, reading_windows, readings, rollup_queue, sites
from app.store import energy as store
from app.store import events as ledger
from app.store.energy_batch import Cells, Day, Intervals, SiteCells
from app.store.engine import Connection, Engine, begin
from app.store.readings import from_us, to_us
from app.store.retention import raw_horizon
from app.store.rollup_queue import Waiting
from app.store.sites import Stored

Ints = npt.NDArray[np.int64]

_log = structlog.get_logger(__name__)

LOOK_AT_ONCE = 200_000
"""Queue entries that are looked at together."""
TAKE_READINGS = 400_000
"""So many readings, about, are read in one transaction: they are what a rollup needs memory for."""
NEAR_US = 4 * 3600 * US
"""Stretches of one point closer than this are computed together ..."""
BUCKET_READINGS = 12_288
"""... unless they begin in different stretches of so many reading intervals: a big file is computed for all
points together, a part of its time after the other."""
BUCKET_US = 32 * 86_400 * US
"""A change so near to what retention has dropped may reach there."""
LONG_US = 3600 * US
"""Live readings come in shorter stretches than this."""
SITE_CHUNK_US = 32 * 24 * 4 * QUARTER_HOUR_US
"""Longest stretch of a site that is summed in one go."""
NEIGHBOURS = 24
"""Reading intervals before a change, and as many before the quarter-hour, that a window has at first."""
MORE_NEIGHBOURS = 80
"""Readings beside a window that is too short."""
FIRST_REACH = 64
"""Readings before and after a change that the careful way loads at first."""
MARGIN_US = 2 * 3600 * US
_LONGEST_REACH = 1 << 30
_FOREVER_US = to_us(LATEST)


@dataclass(frozen=True, slots=True)
class RollupResult:
    """What one run did."""

    stretches: int = 0
    """Stretches of points computed again."""
    busy: bool = False
    """Another process is rolling up; the queue is left to it."""
    careful: int = 0
    """Of the stretches, those with something unusual near."""
    changed_from: Mapping[str, int] = field(default_factory=dict)
    """By site, the first interval of which a figure changed. [us]"""
    late: int = 0
    """Of the stretches, those of a backlog: not of the last hours."""
    goes_on: bool = False
    """Whether more was waiting than was taken."""

    def __add__(self, other: RollupResult) -> RollupResult:
        first = dict(self.changed_from)
        for site, at_us in other.changed_from.items():
            first[site] = min(at_us, first.get(site, at_us))
        careful, late = self.careful + other.careful, self.late + other.late
        stretches = self.stretches + other.stretches
        return RollupResult(stretches, other.busy, careful, first, late, other.goes_on)


def run(engine: Engine) -> RollupResult:
    """Work the queue off.

    Raises
    ------
    StoreUnavailable
        If the database is away; the queue is as it was.
    """
    result, readings_at_once = RollupResult(), TAKE_READINGS
    while True:
        try:
            step = _step(engine, readings_at_once)
        except WorkTooLarge as error:
            if readings_at_once == 0:
                raise
            readings_at_once = readings_at_once // 8
            _log.warning("less is rolled up at a time", problem=str(error), readings=readings_at_once)
            continue
        if step is None:
            return result
        result += step
        if not step.goes_on:
            return result


def _step(engine: Engine, readings_at_once: int) -> RollupResult | None:
    """One transaction; None where nothing waits."""
    with begin(engine) as connection:
        return _step_within(connection, readings_at_once)


def _step_within(connection: Connection, readings_at_once: int) -> RollupResult | None:
    waiting = rollup_queue.waiting(connection, LOOK_AT_ONCE)
    if not len(waiting.id):  # nothing was written: the transaction costs no flush
        return None
    if not rollup_queue.lock(connection):
        return RollupResult(busy=True)  # what it has settled between the two is computed once more
    stored = sites.load(connection)
    taken, ids = take(waiting, stored, readings_at_once)
    done = roll_up(connection, stored, taken)
    rollup_queue.done(connection, ids)
    goes_on = len(ids) < len(waiting.id) or len(waiting.id) == LOOK_AT_ONCE
    return replace(done, late=int((~taken.is_recent).sum()), goes_on=goes_on)


def run_within(connection: Connection) -> RollupResult:
    """Work the queue off in the transaction of `connection`, to see what would come of it.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    WorkTooLarge
        If it is too much for one transaction.
    """
    result = RollupResult()
    while (step := _step_within(connection, TAKE_READINGS)) is not None:
        result += step
        if not step.goes_on:
            break
    return result


class Taken(NamedTuple):
    """Stretches of points, disjoint for each point; columns of length k."""

    point_id: Ints
    start_us: Ints
    end_us: Ints
    """Both included. [us]"""
    is_recent: npt.NDArray[np.bool_]

    def some(self, rows: Ints) -> Taken:
        """The chosen ones."""
        return type(self)._make(column[rows] for column in self)


def take(waiting: Waiting, stored: Stored, readings_at_once: int = TAKE_READINGS) -> tuple[Taken, Ints]:
    """What is computed next, and the entries of the queue that it settles: one stretch at least.

    Entries of points that are no longer declared are settled without work.
    """
    order = np.lexsort((waiting.start_us, waiting.point_id))
    point, start_us, end_us = (c[order] for c in (waiting.point_id, waiting.start_us, waiting.end_us))
    begins = np.flatnonzero(~_joins(point, start_us, end_us, _interval_us(stored, point)))
    joined = Taken(
        point[begins],
        start_us[begins],
        np.maximum.reduceat(end_us, begins),
        np.maximum.reduceat(end_us, begins) >= waiting.recent_us,
    )
    known = [stored.measured(number) for number in joined.point_id.tolist()]
    interval_us = _interval_us(stored, joined.point_id)
    cost = (joined.end_us - joined.start_us) // interval_us + 40
    cost += np.where(joined.is_recent, 0, (LOOK_BACK_US + MARGIN_US) // interval_us)
    cost[[one is None for one in known]] = 0
    ranked = np.lexsort((joined.start_us, ~joined.is_recent))
    spent = np.cumsum(cost[ranked])
    chosen = np.sort(ranked[: max(int(np.searchsorted(spent, readings_at_once, "right")), 1)])
    group = np.repeat(np.arange(len(begins)), np.diff(np.append(begins, len(order))))
    ids = waiting.id[order][np.isin(group, chosen)]
    return joined.some(chosen[np.array([known[n] is not None for n in chosen.tolist()], np.bool_)]), ids


def _interval_us(stored: Stored, point: Ints) -> Ints:
    """How often points are read; some interval for those that are not declared. [us]"""
    numbers, index = np.unique(point, return_inverse=True)
    known = (stored.measured(number) for number in numbers.tolist())
    interval_us = np.array([US * (900 if one is None else one[1].interval_s) for one in known], np.int64)
    return interval_us[index]


def _joins(point: Ints, start_us: Ints, end_us: Ints, interval_us: Ints) -> npt.NDArray[np.bool_]:
    """Which stretches, in order of point and start, go together with the ones before them."""
    base_us = int(min(start_us.min(), end_us.min()))
    start, end = (start_us - base_us) // 1000, -(-(end_us - base_us) // 1000)  # [ms]
    rank = np.cumsum(np.concatenate([[0], point[1:] != point[:-1]]))
    step = int(end.max()) + 1
    until = np.maximum.accumulate(end + rank * step) - rank * step
    same, bucket = point[1:] == point[:-1], start_us // (BUCKET_READINGS * interval_us)
    overlaps = start[1:] <= until[:-1]
    near = (start[1:] <= until[:-1] + NEAR_US // 1000) & (bucket[1:] == bucket[:-1])
    return np.concatenate([[False], same & (overlaps | near)])


def roll_up(connection: Connection, stored: Stored, taken: Taken) -> RollupResult:
    """Compute the stretches again, in the transaction of `connection`."""
    if not len(taken.point_id):
        return RollupResult()
    job = _Job(connection, stored, taken)
    replaced, changed = job.replace_points()
    computed = formula_points.recompute(connection, stored, [(t, i) for t, i in replaced], job.asked)
    replaced, changed = replaced + computed, changed + computed
    spans = zip(taken.point_id.tolist(), taken.start_us.tolist(), taken.end_us.tolist(), strict=True)
    findings.queue(connection, spans)
    _refresh_sites(connection, stored, _by_site(stored, replaced))
    first_us = {
        site: min(int(found.at_us.min()) for found in tables.values())
        for site, tables in _by_site(stored, changed).items()
    }
    result = RollupResult(len(taken.point_id), careful=job.careful, changed_from=first_us)
    return result + RollupResult(changed_from=_redefined_from(stored, taken))


def _redefined_from(stored: Stored, taken: Taken) -> dict[str, int]:
    """Sites with long stretches, and their beginning: a definition may have changed and no interval. [us]"""
    first: dict[str, int] = {}
    for row in np.flatnonzero(taken.end_us - taken.start_us > LONG_US).tolist():
        site, start_us = _site_of(stored, int(taken.point_id[row])).id, int(taken.start_us[row])
        first[site] = min(start_us, first.get(site, start_us))
    return first


_Loaded = tuple[ReadingColumns, npt.NDArray[np.bool_], npt.NDArray[np.bool_]]
_Loader = Callable[[Taken, Sequence[Point]], _Loaded]
"""Finds readings around stretches; whether they begin with the first of each point, and end with its last."""


class _Part(NamedTuple):
    """Intervals to replace of some points, and what is to stand there."""

    table: str
    point_id: Ints
    start_us: Ints
    end_us: Ints
    cells: Cells

    @classmethod
    def of_one(cls, table: str, number: int, change: Recalculation, cells: QuarterHours) -> _Part:
        """Those of a single point."""
        point, start_us, end_us = (np.array([x]) for x in (number, change.start_us, change.end_us))
        owners = np.full(len(cells.at_us), number)
        return cls(table, point, start_us, end_us, Cells(owners, cells))


class _Job:
    """One transaction's work on points."""

    def __init__(self, connection: Connection, stored: Stored, taken: Taken) -> None:
        self._connection, self._stored, self._taken = connection, stored, taken
        self._points = [_point_of(stored, number) for number in taken.point_id.tolist()]
        self._events = ledger.effective(connection, np.unique(taken.point_id).tolist())
        self._horizon_us = _us_or_none(raw_horizon(connection))
        self._parts: list[_Part] = []
        self._replaced: list[tuple[str, Intervals]] = []
        self._changed: list[tuple[str, Intervals]] = []
        self.careful = 0

    def replace_points(self) -> tuple[list[tuple[str, Intervals]], list[tuple[str, Intervals]]]:
        """Replace the intervals of all points; those computed again and those that changed, by table.

        A change of definitions may move the days and the sums of a site though no point changes.
        """
        for kind, rows in self._by_kind().items():
            if kind is ReadingKind.GAUGE:
                self._gauges(rows)
                continue
            is_plain = self._is_plain(rows)
            odd = self._plain(kind, rows[is_plain])
            for row in (*rows[~is_plain].tolist(), *odd.tolist()):
                self._carefully(row)
        for table in sorted({part.table for part in self._parts}):
            parts = [part for part in self._parts if part.table == table]
            self._changed.append((table, _replace(self._connection, table, parts)))
            self._replaced += [(table, _all_of(p.point_id, p.start_us, p.end_us)) for p in parts]
        return self._replaced, self._changed

    @property
    def asked(self) -> Intervals:
        """Intervals of points with a formula that are to be computed again by themselves."""
        rows = np.array([bool(point.formula) for point in self._points], np.bool_)
        start_us, end_us = _floor(self._taken.start_us[rows]), _ceil(self._taken.end_us[rows])
        return _all_of(self._taken.point_id[rows], start_us, end_us)

    def _by_kind(self) -> dict[ReadingKind, Ints]:
        rows = defaultdict(list)
        for row, point in enumerate(self._points):
            if not point.formula:
                rows[point.kind].append(row)
        return {kind: np.array(found, np.int64) for kind, found in rows.items()}

    def _is_plain(self, rows: Ints) -> npt.NDArray[np.bool_]:
        return np.array([self._may_be_plain(row) for row in rows.tolist()], np.bool_)

    def _may_be_plain(self, row: int) -> bool:
        number, start_us = int(self._taken.point_id[row]), int(self._taken.start_us[row])
        is_whole = self._horizon_us is None or start_us - BUCKET_US > self._horizon_us
        is_constant = timeline.is_plain(self._stored.timeline(number))
        return is_whole and is_constant and plain.is_plain(self._points[row], self._events.get(number, []))

    def _gauges(self, rows: Ints) -> None:
        taken = self._taken.some(rows)
        start_us, end_us = _floor(taken.start_us), _ceil(taken.end_us + 1)
        keep = np.ones(len(rows), np.bool_)  # stretches of a point in the same quarter-hour, once
        keep[1:] = (taken.point_id[1:] != taken.point_id[:-1]) | (start_us[1:] >= end_us[:-1])
        points = taken.point_id[keep].tolist()
        ends_us = np.maximum.reduceat(end_us, np.flatnonzero(keep))
        energy_batch.refresh_gauges(self._connection, points, start_us[keep], ends_us)
        for number, first_us, last_us in zip(points, start_us[keep].tolist(), ends_us.tolist(), strict=True):
            for absent in timeline.gaps(self._stored.timeline(number), first_us, last_us):
                energy_batch.clear_gauge(self._connection, number, *absent)
        self._note("gauge_15m", _all_of(taken.point_id[keep], start_us[keep], ends_us))

    def _note(self, table: str, intervals: Intervals) -> None:
        """Intervals of which it is not known whether they changed."""
        self._replaced.append((table, intervals))
        self._changed.append((table, intervals))

    # -- the fast way --------------------------------------------------------------------------------

    def _plain(self, kind: ReadingKind, rows: Ints) -> Ints:
        """Compute what is plain; the rows that are not."""
        left = self._compute(kind, rows, self._narrow)
        short, odd = left[Outcome.SHORT], left[Outcome.ODD]
        again = self._compute(kind, short, self._wide)
        return np.concatenate([odd, again[Outcome.SHORT], again[Outcome.ODD]])

    def _compute(self, kind: ReadingKind, rows: Ints, load: _Loader) -> dict[Outcome, Ints]:
        """Compute some rows from the readings that `load` finds; those that are not done, by outcome."""
        if not len(rows):
            return dict.fromkeys(Outcome, rows)
        taken, points = self._taken.some(rows), [self._points[row] for row in rows.tolist()]
        columns, is_start, is_end = load(taken, points)
        windows = _windows(columns, len(rows))
        del columns  # as large as the windows, which are computed now
        asked = plain.stretches(points, taken.start_us, taken.end_us, is_start, is_end)
        found = plain.compute(kind, windows, asked)
        done = (found.outcome == Outcome.DONE) & (found.start_us < found.end_us)
        tables = np.array([store.table_of(point) for point in points])
        for table in sorted(set(tables[done].tolist())):
            here = done & (tables == table)
            inside = here[found.owner]
            cells = found.cells.take(inside)
            owners = taken.point_id[found.owner[inside]]
            self._parts.append(
                _Part(
                    table,
                    taken.point_id[here],
                    found.start_us[here],
                    found.end_us[here],
                    Cells(owners, cells),
                )
            )
        return {outcome: rows[found.outcome == outcome] for outcome in Outcome}

    def _narrow(self, taken: Taken, points: Sequence[Point]) -> _Loaded:
        """Just the readings that it takes where they come at their interval and are in order."""
        near_us = NEIGHBOURS * US * np.array([point.interval_s for point in points], np.int64)
        rated = np.array([point.kind is ReadingKind.REGISTER for point in points])
        reach_us = np.where(rated & ~taken.is_recent, LOOK_BACK_US, 0)
        low_us = _floor(taken.start_us - reach_us - near_us) - near_us
        margin_us = np.where(taken.is_recent, _FOREVER_US - taken.end_us, MARGIN_US + 2 * near_us)
        numbers = taken.point_id.tolist()
        high_us = taken.end_us + margin_us
        columns = reading_windows.within(self._connection, numbers, low_us, high_us)
        if taken.is_recent.all():
            return columns, np.zeros(len(points), np.bool_), taken.is_recent
        is_start, is_end = reading_windows.reach_ends(self._connection, numbers, low_us, high_us)
        return columns, is_start, is_end

    def _wide(self, taken: Taken, points: Sequence[Point]) -> _Loaded:
        """Hours around, and beside them so many readings, however far away."""
        numbers = taken.point_id.tolist()
        low_us, high_us = taken.start_us - LOOK_BACK_US - MARGIN_US, taken.end_us + MARGIN_US
        high_us = np.where(taken.is_recent, _FOREVER_US, high_us)
        middle = reading_windows.within(self._connection, numbers, low_us, high_us)
        before = reading_windows.beside(self._connection, numbers, low_us, MORE_NEIGHBOURS, earlier=True)
        after = reading_windows.beside(self._connection, numbers, high_us, MORE_NEIGHBOURS, earlier=False)
        few = (np.bincount(c.point_id, minlength=len(points)) < MORE_NEIGHBOURS for c in (before, after))
        is_start, is_end = few
        return ReadingColumns.concat([before, middle, after]), is_start, is_end

    # -- the careful way -----------------------------------------------------------------------------

    def _carefully(self, row: int) -> None:
        number, point = int(self._taken.point_id[row]), self._points[row]
        events = self._events.get(number, [])
        start_us, end_us = int(self._taken.start_us[row]), int(self._taken.end_us[row])
        if _changes_nothing(start_us, end_us, events):
            return
        self.careful += 1
        parts = self._stored.timeline(number)
        series, change, known = _context(self._connection, parts, number, start_us, end_us, events)
        cells = energy.quarter_hours(known, change.start_us, change.end_us)
        if change.start_us >= change.end_us:  # a point's first reading, on a boundary, changes no interval
            return
        part = _Part.of_one(store.table_of(point), number, change, cells)
        if self._horizon_us is None:
            self._parts.append(part)
            return
        bounds, whole_us = (change.start_us, change.end_us), _whole_from_us(series, self._horizon_us)
        store.replace_quarter_hours(self._connection, point, number, *bounds, cells, kept_before_us=whole_us)
        self._note(part.table, _all_of(part.point_id, part.start_us, part.end_us))


def _changes_nothing(start_us: int, end_us: int, events: Sequence[Event]) -> bool:
    """Whether readings lie among others that a finding keeps from counting, all of them."""
    held = [e for e in events if e.kind is EventKind.WITHHELD]
    is_inside = any(e.start_us < start_us and end_us < e.end_us for e in held)
    return is_inside and len(held) == len(events)


def _point_of(stored: Stored, number: int) -> Point:
    found = stored.measured(number)
    assert found is not None, number  # `take` leaves out what is not declared
    return found[1]


def _us_or_none(at: datetime | None) -> int | None:
    return None if at is None else to_us(at)


def _windows(columns: ReadingColumns, count: int) -> Windows:
    """Readings window by window, each in order of time."""
    ordered = columns.by_point()
    return Windows(np.searchsorted(ordered.point_id, np.arange(count + 1)), ordered)


def _replace(connection: Connection, table: str, parts: Sequence[_Part]) -> Intervals:
    cells = Cells(
        np.concatenate([part.cells.point_id for part in parts]),
        QuarterHours.concat(part.cells.quarters for part in parts),
    )
    point_id, start_us, end_us = (
        np.concatenate(columns)
        for columns in zip(*((p.point_id, p.start_us, p.end_us) for p in parts), strict=True)
    )
    return energy_batch.replace(connection, table, point_id.tolist(), start_us, end_us, cells)


def _all_of(point_id: Ints, start_us: Ints, end_us: Ints) -> Intervals:
    """Every interval of some ranges."""
    count = (end_us - start_us) // QUARTER_HOUR_US
    number = np.arange(int(count.sum())) - np.repeat(np.cumsum(count) - count, count)
    return Intervals(np.repeat(point_id, count), np.repeat(start_us, count) + number * QUARTER_HOUR_US)


def _whole_from_us(series: Series, horizon_us: int) -> int:
    """Instant from which the raw readings are whole, where retention dropped some. [us]"""
    whole_us = series.at_us[series.at_us >= horizon_us]
    first_us = int(whole_us[0]) if len(whole_us) else _FOREVER_US
    return -(-first_us // QUARTER_HOUR_US) * QUARTER_HOUR_US


def _context(
    connection: Connection,
    parts: Sequence[Stretch],
    number: int,
    start_us: int,
    end_us: int,
    events: list[Event],
) -> tuple[Series, Recalculation, Spans]:
    """The readings around a stretch, as many as it takes to know what it changes, and the energy there."""
    reach, low_us, high_us = FIRST_REACH, start_us - MARGIN_US, end_us + MARGIN_US
    bounds, spacing = (from_us(low_us), from_us(high_us)), timedelta(seconds=parts[0].point.interval_s)
    while True:
        columns = readings.around(connection, number, *bounds, reach, reach, spacing=spacing)
        before, after = int((columns.at_us < low_us).sum()), int((columns.at_us >= high_us).sum())
        series = Series(columns.at_us, columns.value, columns.interval_s, columns.valid_s)
        found = _computed(series, parts, start_us, end_us, events, before < reach, after < reach)
        if found is not None:
            return series, *found
        reach = min(reach * 8, _LONGEST_REACH)


def _computed(
    series: Series,
    parts: Sequence[Stretch],
    start_us: int,
    end_us: int,
    events: list[Event],
    is_start: bool,
    is_end: bool,
) -> tuple[Recalculation, Spans] | None:
    """What a stretch changes, and its energy; None where it takes more readings to tell."""
    if not timeline.is_plain(parts):
        found = timeline.redone(series, parts, start_us, end_us, events, is_start=is_start, is_end=is_end)
        return None if found is None else (Recalculation(0, found.start_us, found.end_us), found.known)
    point = parts[0].point
    change = recalculation(series, point, start_us, end_us, events, is_start=is_start, is_end=is_end)
    if change is None:
        return None
    return change, energy.spans(series.take(slice(change.first_row, None)), point, events)


def _floor(at_us: Ints) -> Ints:
    return at_us // QUARTER_HOUR_US * QUARTER_HOUR_US


def _ceil(at_us: Ints) -> Ints:
    return -(-at_us // QUARTER_HOUR_US) * QUARTER_HOUR_US


# -- days, months and sites --------------------------------------------------------------------------


def _refresh_sites(
    connection: Connection, stored: Stored, by_site: Mapping[str, Mapping[str, Intervals]]
) -> None:
    """Sum again what follows from intervals of points."""
    days: list[tuple[int, Day]] = []
    months: set[tuple[int, date]] = set()
    for site_id, tables in by_site.items():
        site = stored.fleet.site[site_id]
        for table, found in tables.items():
            local = _local_days(np.unique(found.at_us), site.zone)
            months |= {(stored.site_id[site_id], day.day.replace(day=1)) for day in local}
            days += _days_of(found, local) if table == "energy_15m" else []
    energy_batch.refresh_days(connection, list({(n, day.day): (n, day) for n, day in days}.values()))
    instants_us = {
        stored.site_id[s]: np.concatenate([f.at_us for f in t.values()]) for s, t in by_site.items()
    }
    computed_hours.note(connection, instants_us, sorted(months))
    _sum_sites(connection, stored, {s: t["energy_15m"] for s, t in by_site.items() if "energy_15m" in t})


def _by_site(stored: Stored, intervals: Sequence[tuple[str, Intervals]]) -> dict[str, dict[str, Intervals]]:
    """Intervals by site and table."""
    out: dict[str, dict[str, list[Intervals]]] = defaultdict(lambda: defaultdict(list))
    for table, found in intervals:
        points, index = np.unique(found.point_id, return_inverse=True)
        sites = np.array(
            [stored.site_id[_site_of(stored, number).id] for number in points.tolist()], np.int64
        )
        of_row = sites[index] if len(points) else np.empty(0, np.int64)
        order = np.argsort(of_row, kind="stable")
        numbers, first = np.unique(of_row[order], return_index=True)
        for number, rows in (
            zip(numbers.tolist(), np.split(order, first[1:]), strict=True) if len(order) else ()
        ):
            key = stored.site_key[number]
            out[key][table].append(Intervals(found.point_id[rows], found.at_us[rows]))
        for key, former in _formerly_at(stored, points.tolist(), found):
            out[key][table].append(former)
    return {site: {t: _joined(parts) for t, parts in tables.items()} for site, tables in out.items()}


def _formerly_at(stored: Stored, points: Sequence[int], found: Intervals) -> Iterator[tuple[str, Intervals]]:
    """Intervals of points that moved, by the site in which the point stood then."""
    for number in points:
        for placed in stored.fleet.placements[stored.point_key[number]][:-1]:
            until_us = to_us(placed.end)
            rows = (found.point_id == number) & (found.at_us < until_us)
            if rows.any():
                yield placed.site.id, Intervals(found.point_id[rows], found.at_us[rows])


def _site_of(stored: Stored, number: int) -> Site:
    found = stored.measured(number)
    assert found is not None, number
    return found[0]


def _joined(parts: Sequence[Intervals]) -> Intervals:
    return Intervals(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _local_days(at_us: Ints, zone: ZoneInfo) -> list[Day]:
    """The local days that hold some instants, which are in order."""
    days, row = [], 0
    while row < len(at_us):
        day = from_us(at_us[row]).astimezone(zone).date()
        bounds = (to_us(midnight(day, zone)), to_us(midnight(day + timedelta(days=1), zone)))
        days.append(Day(day, *bounds))
        row = int(np.searchsorted(at_us, bounds[1]))
    return days


def _days_of(found: Intervals, days: Sequence[Day]) -> list[tuple[int, Day]]:
    """Points with the days in which they changed."""
    index = np.searchsorted(np.array([day.start_us for day in days]), found.at_us, "right") - 1
    pairs = np.unique(found.point_id * len(days) + index)
    return [(key // len(days), days[key % len(days)]) for key in pairs.tolist()]


def _sum_sites(connection: Connection, stored: Stored, changed: Mapping[str, Intervals]) -> None:
    """Sum sites and rooms again where one of their points changed."""
    runs: dict[str, list[tuple[int, int]]] = {}
    for site_id, found in changed.items():
        counts = np.isin(found.point_id, stored.summed(stored.fleet.site[site_id]))
        if spans := list(_runs(np.unique(found.at_us[counts]))):
            runs[site_id] = spans
    if runs:
        energy_batch.replace_sites(connection, list(_paired(connection, stored, runs)))


def _paired(
    connection: Connection,
    stored: Stored,
    runs: Mapping[str, Sequence[tuple[int, int]]],
) -> Iterator[SiteCells]:
    windows = [(stored.summed(stored.fleet.site[key]), span) for key, spans in runs.items() for span in spans]
    counts = [len(points) for points, _ in windows]
    points = np.concatenate([points for points, _ in windows])
    start_us, end_us = (np.repeat([span[n] for _, span in windows], counts) for n in (0, 1))
    cells = energy_batch.load(connection, "energy_15m", points.tolist(), start_us, end_us)
    numbers, first = np.unique(cells.point_id, return_index=True)
    ends = np.append(first[1:], len(cells.point_id))[: len(first)]  # where nothing is stored there is none
    names = map(stored.point_key.__getitem__, numbers.tolist())
    stretches = zip(first.tolist(), ends.tolist(), strict=True)
    known = JoinedCells(cells.quarters, dict(zip(names, stretches, strict=True)))
    for site_id, spans in runs.items():
        for room in _rooms(stored, site_id):
            for begin_us, until_us in spans:
                sums = _sums_of(stored, site_id, room, known, begin_us, until_us)
                yield SiteCells(stored.site_id[site_id], room, begin_us, until_us, sums)


def _rooms(stored: Stored, site_id: str) -> list[str]:
    """The site as a whole, and its rooms."""
    return ["", *stored.fleet.site[site_id].rooms]


def _sums_of(
    stored: Stored,
    site_id: str,
    room: str,
    known: Mapping[str, QuarterHours],
    start_us: int,
    end_us: int,
) -> SiteQuarterHours:
    site = stored.fleet.site[site_id]
    if site.is_dated:
        return pair_over(site, room, known, start_us, end_us)
    return pair(stored.boundary(site, room), known, start_us, end_us)


def _runs(at_us: Ints) -> Iterator[tuple[int, int]]:
    """Stretches of intervals that follow each other, none longer than :data:`SITE_CHUNK_US`."""
    if not len(at_us):
        return
    breaks = np.flatnonzero(np.diff(at_us) > QUARTER_HOUR_US) + 1
    for part in np.split(at_us, breaks):
        first_us, last_us = int(part[0]), int(part[-1]) + QUARTER_HOUR_US
        for begin_us in range(first_us, last_us, SITE_CHUNK_US):
            yield begin_us, min(begin_us + SITE_CHUNK_US, last_us)
