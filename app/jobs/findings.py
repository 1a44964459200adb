"""Look for what is wrong with the readings of meters that changed.

After an import, or once a day, a meter's whole history is looked at; after live readings only the
days around them, for the kinds of findings that a few days can show.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np

from app.domain.energy import Series
from app.domain.period import Period
from app.domain.quality.detect import meter_findings, negative_remainders
from app.domain.quality.finding import Finding, FindingKind
from app.domain.quality.registers import cross_talk
from app.domain.quality.values import conflicting_duplicates
from app.domain.quantity import ReadingKind
from app.domain.reading import LATEST, OLDEST
from app.domain.site import Meter, Site
from app.errors import SeriesError, StoreUnavailable
from app.store import events, outlook, readings, sites
from app.store import findings as store
from app.store.engine import Connection, Engine, begin, connect
from app.store.findings import Look, Scope
from app.store.retention import raw_horizon
from app.store.sites import Stored

LIVE = timedelta(days=2)
"""A change longer than this is an import: the whole history is looked at."""
CONTEXT = timedelta(days=2)
LOCAL_KINDS = (
    FindingKind.ROLLOVER,
    FindingKind.RESET,
    FindingKind.TRANSIENT_ZERO,
    FindingKind.REPLACED,
    FindingKind.REPLACEMENT_SUSPECTED,
    FindingKind.GAP,
    FindingKind.SPIKE,
    FindingKind.NEGATIVE_POWER,
    FindingKind.CROSS_TALK,
    FindingKind.CONFLICTING_DUPLICATE,
)
"""Kinds for which a few days around a change are enough."""
METER_KINDS = tuple(k for k in FindingKind if k is not FindingKind.NEGATIVE_REMAINDER)
BALANCE_DAYS = 30


def run(engine: Engine) -> int:
    """Look at the queued meters, each in its own transaction: a rollup that touches one waits for it.

    A meter at which this fails stays in the queue, and does not keep the others from being looked at.

    Returns
    -------
    int
        How many there were.

    Raises
    ------
    StoreUnavailable
        If the database is away; what is not looked at stays in the queue.
    ExceptionGroup
        What failed, by meter, after all others were looked at.
    """
    failed = []
    with connect(engine) as connection:
        queued = store.queued(connection)
    for number in queued:
        try:
            _look_at_queued(engine, number)
        except StoreUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - raised below, with whatever else failed
            error.add_note(f"at meter number {number}")
            failed.append(error)
    if failed:
        raise ExceptionGroup("meters that could not be looked at", failed)
    return len(queued)


def _look_at_queued(engine: Engine, number: int) -> None:
    with begin(engine) as connection:
        look = store.take(connection, number)
        stored = sites.load(connection)
        names = {number: key for key, number in stored.meter_id.items()}
        if look is not None and number in names:
            look_at(connection, stored, names[number], look)


def look_at(connection: Connection, stored: Stored, meter_id: str, look: Look | None = None) -> None:
    """Look at one meter: around a change, or, without one, at all of its history."""
    site, meter = stored.fleet.meter[meter_id]
    is_live = look is not None and look.end - look.start <= LIVE
    inner = Period(look.start, look.end + timedelta(seconds=1)) if look is not None and is_live else None
    outer = Period(inner.start - CONTEXT, inner.end + CONTEXT) if inner else Period(OLDEST, LATEST)
    numbers = {p.id: stored.point_id[p.id] for p in meter.points}
    found = _of_meter(connection, stored, site, meter, outer)
    scope = Scope(
        stored.site_id[site.id],
        list(numbers.values()),
        LOCAL_KINDS if inner else METER_KINDS,
        _looked_from(connection, inner),
        outer.end,
    )
    kept = [f for f in found if f.kind in scope.kinds]
    store.replace(connection, scope, kept, numbers)


def _looked_from(connection: Connection, inner: Period | None) -> datetime:
    """Findings from here on were looked for: not before the readings that retention left."""
    start = inner.start - CONTEXT / 2 if inner else OLDEST - timedelta(days=1)
    return max(start, raw_horizon(connection) or start)


def _of_meter(
    connection: Connection, stored: Stored, site: Site, meter: Meter, span: Period
) -> list[Finding]:
    effective = replace(meter, points=tuple(meter.effective(p) for p in meter.points))
    series = {p.id: _series(connection, stored.point_id[p.id], span) for p in meter.points}
    series = {key: one for key, one in series.items() if len(one)}
    numbers = {stored.point_id[p.id]: p.id for p in meter.points}
    declared = {numbers[n]: e for n, e in events.in_force(connection, list(numbers)).items()}
    found = meter_findings(effective, series, declared)
    for point_id in sorted({f.point for f in found if f.kind is FindingKind.CROSS_TALK}):
        found = [f for f in found if (f.kind, f.point) != (FindingKind.CROSS_TALK, point_id)]
        others = _other_registers(connection, stored, site, point_id, span)
        point = next(p for p in effective.points if p.id == point_id)
        found += cross_talk(point, series[point_id], others)
    return found + _conflicts(connection, stored, meter, span)


def _series(connection: Connection, point_id: int, span: Period) -> Series:
    columns = readings.load(connection, point_id, span.start, span.end)
    return Series(columns.at_us, columns.value, columns.interval_s, columns.valid_s)


def _other_registers(
    connection: Connection, stored: Stored, site: Site, point_id: str, span: Period
) -> dict[str, Series]:
    registers = [p.id for p in site.points() if p.kind is ReadingKind.REGISTER and p.id != point_id]
    return {key: _series(connection, stored.point_id[key], span) for key in registers}


def _conflicts(connection: Connection, stored: Stored, meter: Meter, span: Period) -> list[Finding]:
    found: list[Finding] = []
    for point in meter.points:
        rows = store.conflicts(connection, stored.point_id[point.id], span.start, span.end)
        if rows:
            at_us, kept, offered = (np.array(column) for column in zip(*rows, strict=True))
            found += conflicting_duplicates(point, at_us.astype(np.int64), kept, offered)
    return found


def look_at_everything(engine: Engine) -> int:
    """Look at the whole history of every meter, as once a day; how many there were.

    Raises
    ------
    StoreUnavailable
        If the database is away; what is left stands in the queue.
    """
    with begin(engine) as connection:
        store.queue_everything(connection)
    return run(engine)


def check_balance(engine: Engine, now: datetime) -> int:
    """Balance every site's metering tree over the last days; how many feeds take more than they get.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    breaches = 0
    with begin(engine) as connection:
        stored = sites.load(connection)
        for site in stored.fleet.sites:
            end = now.astimezone(site.zone).replace(hour=0, minute=0, second=0, microsecond=0)
            span = Period(end - timedelta(days=BALANCE_DAYS), end)
            found = _of_tree(connection, stored, site, span)
            scope = Scope(
                stored.site_id[site.id], [0], [FindingKind.NEGATIVE_REMAINDER], span.start, span.end
            )
            store.replace(connection, scope, found, {})
            breaches += len(found)
    return breaches


def _of_tree(connection: Connection, stored: Stored, site: Site, span: Period) -> list[Finding]:
    try:
        found = outlook.balance(connection, stored, site, span)
    except SeriesError:  # nothing is known of these days, which other findings say
        return []
    return negative_remainders(found.feeds, span.start, span.end)
