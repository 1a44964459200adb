"""Check the invariant: what is stored follows from the readings, and everything adds up.

Every interval of every point is computed again from raw readings and ledger and compared with what is
stored; days with their quarter-hours; sites with their points; then the metering tree, PUE >= 1 and
orphans. Nothing is changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt

from app.domain import energy, timeline
from app.domain.energy import QuarterHours, Series
from app.domain.period import QUARTER_HOUR_US, Period, Step, ceil, floor
from app.domain.pue import counted_points, pair_over
from app.domain.quantity import ENERGY_KINDS, VOLUME
from app.domain.reading import LATEST, OLDEST
from app.domain.site import Point, Site
from app.domain.timeline import Stretch
from app.domain.tree import BalanceState
from app.errors import NotFound, SeriesError
from app.jobs import formula_points
from app.store import energy as stored_energy
from app.store import events, outlook, pue, readings, sites
from app.store import verify as store
from app.store.engine import Connection, Engine
from app.store.readings import from_us, to_us
from app.store.retention import raw_horizon
from app.store.sites import Stored

RELATIVE, ABSOLUTE_KWH = 1e-6, 1e-6
"""Stored and recomputed energies may differ by rounding, no more."""
CHUNK = timedelta(days=32)
_REACH_US = 8 * QUARTER_HOUR_US
"""Time around waiting readings in which intervals may still change. [us]"""


@dataclass(frozen=True, slots=True)
class Breach:
    """One thing that does not hold."""

    rule: str
    """rollup, day, site, tree, pue or orphan."""
    site: str
    what: str
    """Point, room, feed or table."""
    start: str
    expected: float | None
    found: float | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Verification:
    """Outcome of a run."""

    breaches: tuple[Breach, ...]
    points: int
    intervals: int
    pending: int
    """Points left out for a stretch of time because readings wait for their rollup."""


def verify(engine: Engine, site_id: str | None = None) -> Verification:
    """Check one site, or all, in one consistent view of the database.

    Raises
    ------
    NotFound
        If there is no such site.
    StoreUnavailable
        If the database is away.
    """
    with (
        engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection,
        connection.begin(),
    ):
        stored = sites.load(connection)
        if site_id is not None and site_id not in stored.fleet.site:
            raise NotFound(f"there is no site {site_id!r}")
        checked = [s for s in stored.fleet.sites if site_id in (None, s.id)]
        tally = _Tally()
        breaches = [b for site in checked for b in _site(connection, stored, site, tally)]
        breaches += [
            Breach("orphan", "", t, "", None, n, "no such point or site")
            for t, n in store.orphans(connection)
        ]
        return Verification(tuple(breaches), tally.points, tally.intervals, len(store.pending(connection)))


@dataclass
class _Tally:
    points: int = 0
    intervals: int = 0


def _site(connection: Connection, stored: Stored, site: Site, tally: _Tally) -> Iterator[Breach]:
    for point in {p.id: p for p in site.points()}.values():
        if point.kind in ENERGY_KINDS and point.quantity is not VOLUME:
            yield from _point(connection, stored, site, point, tally)
    yield from _days(connection, stored, site)
    span = stored_energy.known_span(connection, [stored.point_id[p.id] for p in site.points()])
    if span is not None:
        yield from _sums(connection, stored, site, span)
        yield from _ratio(connection, stored, site, span)
        yield from _tree(connection, stored, site, span)


def _point(
    connection: Connection, stored: Stored, site: Site, point: Point, tally: _Tally
) -> Iterator[Breach]:
    number = stored.point_id[point.id]
    expected, span = _recomputed(connection, timeline.of_point(stored.fleet, point.id), number)
    if point.formula:
        expected = formula_points.computed(connection, stored, point.id, to_us(span.start), to_us(span.end))
    found = stored_energy.load_quarter_hours(connection, [number], span.start, span.end).get(number)
    tally.points += 1
    tally.intervals += len(expected.at_us)
    waiting = _waiting(connection, stored, point)
    at_us, want, have = _aligned(expected, found, waiting)
    wrong = np.flatnonzero(~np.isclose(want, have, rtol=RELATIVE, atol=ABSOLUTE_KWH))
    if len(wrong):
        yield Breach(
            "rollup",
            site.id,
            point.id,
            from_us(int(at_us[wrong[0]])).isoformat(),
            float(want[wrong].sum()),
            float(have[wrong].sum()),
            f"{len(wrong)} intervals differ from the raw readings",
        )


def _waiting(connection: Connection, stored: Stored, point: Point) -> tuple[datetime, datetime] | None:
    """The time in which a point, or one that it is computed from, may still change."""
    names = [point.id]
    for name in names:
        names += stored.formulas.by_point[name].points if name in stored.formulas.by_point else ()
    pending = store.pending(connection)
    found = [pending[stored.point_id[n]] for n in names if stored.point_id[n] in pending]
    return (min(start for start, _ in found), max(end for _, end in found)) if found else None


def _recomputed(connection: Connection, parts: Sequence[Stretch], number: int) -> tuple[QuarterHours, Period]:
    """Intervals from all raw readings, and the time over which they can be compared."""
    columns = readings.load(connection, number, OLDEST - timedelta(days=1), LATEST)
    series = Series(columns.at_us, columns.value, columns.interval_s, columns.valid_s)
    declared = events.effective(connection, [number]).get(number, [])
    known = timeline.spans(series, parts, declared)
    horizon = raw_horizon(connection)
    first = from_us(int(columns.at_us[0])) if len(columns) and horizon else OLDEST - timedelta(days=1)
    span = Period(ceil(first), floor(LATEST))
    return energy.quarter_hours(known, to_us(span.start), to_us(span.end)), span


def _aligned(
    expected: QuarterHours, found: QuarterHours | None, waiting: tuple[datetime, datetime] | None
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Both sides on the same intervals, -1 where one has none; those that wait are left out."""
    empty = np.empty(0, np.int64)
    found_at = empty if found is None else found.at_us
    at_us = np.union1d(expected.at_us, found_at)
    want, have = np.full(len(at_us), -1.0), np.full(len(at_us), -1.0)
    want[np.searchsorted(at_us, expected.at_us)] = expected.energy_kwh
    if found is not None:
        have[np.searchsorted(at_us, found_at)] = found.energy_kwh
    if waiting is not None:
        first_us, last_us = to_us(waiting[0]) - _REACH_US, to_us(waiting[1]) + _REACH_US
        keep = (at_us < first_us) | (at_us > last_us)
        at_us, want, have = at_us[keep], want[keep], have[keep]
    return at_us, want, have


def _days(connection: Connection, stored: Stored, site: Site) -> Iterator[Breach]:
    names = {stored.point_id[p.id]: p.id for p in site.points()}
    for number, day, quarters, days in store.days_that_do_not_add_up(connection, site, list(names)):
        yield Breach(
            "day", site.id, names[number], day.isoformat(), quarters, days, "day and quarter-hours differ"
        )


def _sums(connection: Connection, stored: Stored, site: Site, span: Period) -> Iterator[Breach]:
    for room in ("", *site.rooms):
        numbers = {stored.point_id[p.id]: p.id for p in counted_points(site, room)}
        for piece in _chunks(span):
            cells = stored_energy.load_quarter_hours(connection, list(numbers), piece.start, piece.end)
            by_key = {numbers[n]: c for n, c in cells.items()}
            want = pair_over(site, room, by_key, to_us(piece.start), to_us(piece.end))
            have = store.site_quarter_hours(connection, stored.site_id[site.id], room, piece)
            expected = (want.facility_kwh.sum(), want.it_kwh.sum(), want.coverage_ratio.sum())
            found = tuple(float(sum(row[n] for row in have)) for n in (1, 2, 3))
            if not np.allclose(expected, found, rtol=RELATIVE, atol=ABSOLUTE_KWH):
                what = room or "site"
                note = "sums of facility, IT or coverage differ from the points"
                yield Breach(
                    "site", site.id, what, piece.start.isoformat(), float(expected[0]), found[0], note
                )


def _chunks(span: Period) -> Iterator[Period]:
    at = span.start
    while at < span.end:
        yield Period(at, min(at + CHUNK, span.end))
        at += CHUNK


def _ratio(connection: Connection, stored: Stored, site: Site, span: Period) -> Iterator[Breach]:
    """Days whose ratio cannot be; as in a PUE document, one that is hardly covered has none to judge."""
    for day in pue.bars(connection, stored, site.id, span, Step.DAY):
        known = day.it_kwh > 0 and day.coverage_ratio >= site.minimum_coverage_ratio
        if known and day.facility_kwh < day.it_kwh * (1 - RELATIVE):
            yield Breach(
                "pue",
                site.id,
                "site",
                day.start.isoformat(),
                1.0,
                day.facility_kwh / day.it_kwh,
                "facility energy below IT energy",
            )


def _tree(connection: Connection, stored: Stored, site: Site, span: Period) -> Iterator[Breach]:
    for piece in _chunks(span):
        try:
            found = outlook.balance(connection, stored, site, piece)
        except SeriesError:  # nothing is known of this stretch
            continue
        for balance in found.feeds:
            if balance.remainder.state is BalanceState.NEGATIVE:
                yield Breach(
                    "tree",
                    site.id,
                    ", ".join(balance.feed.meters),
                    piece.start.isoformat(),
                    balance.remainder.in_kwh,
                    balance.remainder.out_kwh,
                    "more comes out than goes in, beyond the meters' accuracy",
                )
