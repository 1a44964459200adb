"""15-minute figures of many points and sites written at once: only what differs, in a few statements."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from app.domain.energy import QuarterHours
from app.domain.period import QUARTER_HOUR_US
from app.domain.pue import CLASSES, SiteQuarterHours
from app.store import binary_copy, partitions
from app.store.binary_copy import FLOAT8, INT2, INT4, TIMESTAMPTZ, array_text
from app.store.energy import AMOUNT, SITE_COLUMNS, columns_of, copy_in
from app.store.engine import driver, store_errors
from app.store.readings import from_us, to_us

Ints = npt.NDArray[np.int64]

_DAY_US = 86_400_000_000
FRESH_ROWS = 2000
"""From so many new rows on they are copied straight into the table."""
FEW_ROWS = 1000
"""Fewer rows are written by one statement, without a staging table."""


class Cells(NamedTuple):
    """Intervals of many points; k rows."""

    point_id: Ints
    quarters: QuarterHours


class Intervals(NamedTuple):
    """15-minute intervals of points; k rows."""

    point_id: Ints
    at_us: Ints


_NONE = Intervals(np.empty(0, np.int64), np.empty(0, np.int64))

_STORED = """
SELECT e.packed FROM (
    SELECT point, timestamptz 'epoch' + lo * interval '1 microsecond' AS lo,
        timestamptz 'epoch' + hi * interval '1 microsecond' AS hi
    FROM unnest(%s::int[], %s::bigint[], %s::bigint[]) AS given (point, lo, hi)
) w CROSS JOIN LATERAL (
    SELECT string_agg(int4send(w.point) || timestamptz_send(at) || float8send({amount})
        || float8send(coverage_ratio) || float8send(estimated_ratio) || int2send(tag)
        || int4send(reading_interval_s), ''::bytea) AS packed
    FROM {table} WHERE point_id = w.point AND at >= w.lo AND at < w.hi AND at >= %s AND at < %s
) e WHERE e.packed IS NOT NULL
"""
"""The bounds of all windows together say which partitions it concerns before any is opened."""
_ROW = np.dtype(
    [
        ("point", ">i4"),
        ("at", ">i8"),
        ("kwh", ">f8"),
        ("coverage", ">f8"),
        ("estimated", ">f8"),
        ("tag", ">i2"),
        ("s", ">i4"),
    ]
)


def load(
    connection: sa.Connection, table: str, point_ids: Sequence[int], start_us: Ints, end_us: Ints
) -> Cells:
    """Stored intervals of each point between two instants of its own; each row once, by point and time.

    There is one point at least.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    query = _STORED.format(table=table, amount=AMOUNT[table])
    bounds = (from_us(int(start_us.min())), from_us(int(end_us.max())))
    values = (array_text(point_ids), array_text(start_us), array_text(end_us), *bounds)
    with store_errors():
        packed = driver(connection).execute(query, values, binary=True).fetchall()
    rows = np.frombuffer(b"".join(part for (part,) in packed), _ROW)
    found = Cells(
        rows["point"].astype(np.int64),
        QuarterHours(
            rows["at"].astype(np.int64) + binary_copy.EPOCH_SHIFT_US,
            rows["kwh"].astype(np.float64),
            rows["coverage"].astype(np.float64),
            rows["estimated"].astype(np.float64),
            rows["tag"].astype(np.int8),
            rows["s"].astype(np.int32),
        ),
    )
    return once(found)


def once(cells: Cells) -> Cells:
    """Each interval once, by point and time: stretches of a point may overlap, and say the same."""
    keys = _keys(cells.point_id, cells.quarters.at_us)
    if (keys[1:] > keys[:-1]).all():
        return cells
    _, rows = np.unique(keys, return_index=True)
    return _take(cells, rows)


def _take(cells: Cells, rows: Any) -> Cells:
    return Cells(cells.point_id[rows], cells.quarters.take(rows))


def _keys(point_id: Ints, at_us: Ints) -> Ints:
    return (point_id << 32) + at_us // QUARTER_HOUR_US


def replace(
    connection: sa.Connection,
    table: str,
    point_ids: Sequence[int],
    start_us: Ints,
    end_us: Ints,
    cells: Cells,
) -> Intervals:
    """Make the intervals of each point between two instants of its own exactly `cells`.

    Returns
    -------
    Intervals
        Those that are new, gone or different; nothing else was written.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    if not len(point_ids):
        return _NONE
    old, new = load(connection, table, point_ids, start_us, end_us), once(cells)
    old_keys = _keys(old.point_id, old.quarters.at_us)
    new_keys = _keys(new.point_id, new.quarters.at_us)
    stays = _is_among(old_keys, new_keys)
    gone = _take(old, ~stays)
    is_fresh = ~_is_among(new_keys, old_keys)
    differs = is_fresh.copy()
    differs[~is_fresh] = _differ(_take(new, ~is_fresh), _take(old, stays))
    with store_errors():
        _remove(connection, table, gone)
        _write(connection, table, _take(new, is_fresh), _take(new, differs & ~is_fresh))
    written = _take(new, differs)
    return Intervals(
        np.concatenate([gone.point_id, written.point_id]),
        np.concatenate([gone.quarters.at_us, written.quarters.at_us]),
    )


def _is_among(keys: Ints, ordered: Ints) -> npt.NDArray[np.bool_]:
    """Which keys stand among others, which are in order."""
    if not len(ordered):
        return np.zeros(len(keys), np.bool_)
    place = np.minimum(np.searchsorted(ordered, keys), len(ordered) - 1)
    return np.asarray(ordered[place] == keys, np.bool_)


def _differ(a: Cells, b: Cells) -> npt.NDArray[np.bool_]:
    """Which rows of two tables of the same intervals differ in any bit."""
    out = np.zeros(len(a.point_id), np.bool_)
    for one, other in zip(a.quarters[1:], b.quarters[1:], strict=True):
        out |= one != other
    return out


def _remove(connection: sa.Connection, table: str, gone: Cells) -> None:
    if not len(gone.point_id):
        return
    at = [from_us(us) for us in gone.quarters.at_us.tolist()]
    driver(connection).execute(
        f"DELETE FROM {table} t USING unnest(%s::int[], %s::timestamptz[]) AS gone (point, at)"  # noqa: S608
        " WHERE t.point_id = gone.point AND t.at = gone.at"
        " AND t.point_id = ANY(%s) AND t.at >= %s AND t.at <= %s",
        (gone.point_id.tolist(), at, np.unique(gone.point_id).tolist(), min(at), max(at)),
    )


_WRITE_FEW = """
INSERT INTO {table} ({columns})
SELECT point, timestamptz 'epoch' + us * interval '1 microsecond', amount, coverage, estimated, length, tag
FROM unnest(%s::int[], %s::bigint[], %s::float8[], %s::float8[], %s::float8[], %s::smallint[], %s::int[])
    AS given (point, us, amount, coverage, estimated, tag, length)
ON CONFLICT (point_id, at) DO UPDATE SET {new}
"""


def _write(connection: sa.Connection, table: str, fresh: Cells, other: Cells) -> None:
    columns = columns_of(table)
    fresh = _filled(connection, table, columns, fresh)
    if len(fresh.point_id) >= FRESH_ROWS:
        copy_in(connection, table, columns, _pack(fresh))
        fresh = _take(fresh, slice(0, 0))
    both = Cells(
        np.concatenate([fresh.point_id, other.point_id]),
        QuarterHours.concat([fresh.quarters, other.quarters]),
    )
    if not len(both.point_id):
        return
    new = ", ".join(f"{c} = excluded.{c}" for c in columns.split(", ")[2:])
    if len(both.point_id) < FEW_ROWS:
        values: Sequence[binary_copy.Column] = (both.point_id, *both.quarters)
        statement = _WRITE_FEW.format(table=table, columns=columns, new=new)
        driver(connection).execute(statement, tuple(map(array_text, values)))
        return
    staged = f"incoming_{table}"
    connection.exec_driver_sql("SET LOCAL client_min_messages = warning")
    connection.exec_driver_sql(
        f"CREATE TEMP TABLE IF NOT EXISTS {staged} (LIKE {table}) ON COMMIT DELETE ROWS"
    )
    connection.exec_driver_sql(f"TRUNCATE {staged}")
    copy_in(connection, staged, columns, _pack(both))
    connection.exec_driver_sql(
        f"INSERT INTO {table} ({columns}) SELECT {columns} FROM {staged}"  # noqa: S608
        f" ON CONFLICT (point_id, at) DO UPDATE SET {new}"
    )


def _filled(connection: sa.Connection, table: str, columns: str, fresh: Cells) -> Cells:
    """Make the partitions that are missing, with the rows that belong there; the other rows."""
    at_us, left = fresh.quarters.at_us, np.ones(len(fresh.point_id), np.bool_)

    def fill(name: str, bounds: partitions.Bounds) -> None:
        start_us, end_us = map(to_us, bounds)
        rows = (at_us >= start_us) & (at_us < end_us)
        copy_in(connection, name, columns, _pack(_take(fresh, rows)))
        left[rows] = False

    partitions.ensure_figures(connection, table, at_us, fill)
    return _take(fresh, left)


def _pack(cells: Cells) -> bytes:
    quarters = cells.quarters
    return binary_copy.pack_rows(
        (INT4, cells.point_id),
        (TIMESTAMPTZ, quarters.at_us),
        (FLOAT8, quarters.energy_kwh),
        (FLOAT8, quarters.coverage_ratio),
        (FLOAT8, quarters.estimated_ratio),
        (INT4, quarters.reading_interval_s),
        (INT2, quarters.tag),
    )


# -- days --------------------------------------------------------------------------------------------

_DAYS = """
WITH summed AS MATERIALIZED (
    SELECT asked.point, date '1970-01-01' + asked.number AS day, e.*
    FROM unnest(%s::int[], %s::int[], %s::bigint[], %s::bigint[]) AS asked (point, number, lo, hi)
    CROSS JOIN LATERAL (
        SELECT count(*) AS quarters, sum(energy_kwh) AS energy_kwh,
            sum(coverage_ratio) * 900 AS covered_s, sum(estimated_ratio) * 900 AS estimated_s
        FROM (
            SELECT energy_kwh, coverage_ratio, estimated_ratio FROM energy_15m
            WHERE point_id = asked.point AND at >= timestamptz 'epoch' + asked.lo * interval '1 microsecond'
                AND at < timestamptz 'epoch' + asked.hi * interval '1 microsecond' ORDER BY at
        ) ordered
    ) e
), written AS (
    INSERT INTO energy_day (point_id, day, energy_kwh, covered_s, estimated_s)
    SELECT point, day, energy_kwh, covered_s, estimated_s FROM summed WHERE quarters > 0
    ON CONFLICT (point_id, day) DO UPDATE SET energy_kwh = excluded.energy_kwh,
        covered_s = excluded.covered_s, estimated_s = excluded.estimated_s
)
SELECT point, day FROM summed WHERE quarters = 0
"""
_FORGET_DAY = "DELETE FROM energy_day WHERE point_id = %s AND day = %s"
_FIRST_DAY = date(1970, 1, 1).toordinal()


class Day(NamedTuple):
    """A local day of a zone with its bounds."""

    day: date
    start_us: int
    end_us: int


def refresh_days(connection: sa.Connection, wanted: Sequence[tuple[int, Day]]) -> None:
    """Sum again local days of points, given by number.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    if not wanted:
        return
    numbers = {day: day.day.toordinal() - _FIRST_DAY for _, day in wanted}
    asked = (
        array_text([point for point, _ in wanted]),
        array_text([numbers[day] for _, day in wanted]),
        array_text([day.start_us for _, day in wanted]),
        array_text([day.end_us for _, day in wanted]),
    )
    with store_errors():
        raw = driver(connection)
        empty = raw.execute(_DAYS, asked).fetchall()
        if empty:
            raw.cursor().executemany(_FORGET_DAY, empty)


# -- sites -------------------------------------------------------------------------------------------


class SiteCells(NamedTuple):
    """What the intervals of a site (`room` empty) or room between two instants are to be."""

    site_id: int
    room: str
    start_us: int
    end_us: int
    cells: SiteQuarterHours


_CLEAR_SITES = """
DELETE FROM site_15m s USING unnest(%s::int[], %s::text[], %s::timestamptz[], %s::timestamptz[])
    AS asked (site, room, lo, hi)
WHERE s.site_id = asked.site AND s.room = asked.room AND s.at >= asked.lo AND s.at < asked.hi
    AND s.site_id = ANY(%s) AND s.at >= %s AND s.at < %s
"""


def replace_sites(connection: sa.Connection, parts: Sequence[SiteCells]) -> None:
    """Make the intervals of sites and rooms exactly these.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    if not parts:
        return
    lows, highs = [from_us(p.start_us) for p in parts], [from_us(p.end_us) for p in parts]
    numbers = [p.site_id for p in parts]
    named = (numbers, [p.room for p in parts], lows, highs, sorted(set(numbers)), min(lows), max(highs))
    with store_errors():
        driver(connection).execute(_CLEAR_SITES, named)
        at_us = np.unique(np.concatenate([p.cells.at_us for p in parts]))
        partitions.ensure_figures(connection, "site_15m", at_us)
        for room in sorted({p.room for p in parts}):
            _copy_sites(connection, room, [p for p in parts if p.room == room and len(p.cells.at_us)])


def _copy_sites(connection: sa.Connection, room: str, parts: Sequence[SiteCells]) -> None:
    if not parts:
        return
    name, cells = room.encode(), [p.cells for p in parts]
    count = sum(len(c.at_us) for c in cells)
    numbers = np.concatenate([np.full(len(p.cells.at_us), p.site_id) for p in parts])
    rows = binary_copy.pack_rows(
        (INT4, numbers),
        (f"S{len(name)}", np.full(count, name)),
        (TIMESTAMPTZ, np.concatenate([c.at_us for c in cells])),
        (FLOAT8, np.concatenate([c.facility_kwh for c in cells])),
        (FLOAT8, np.concatenate([c.it_kwh for c in cells])),
        *((FLOAT8, np.concatenate([c.classes_kwh[n] for c in cells])) for n in CLASSES),
        (FLOAT8, np.concatenate([c.coverage_ratio for c in cells])),
        (FLOAT8, np.concatenate([c.estimated_ratio for c in cells])),
        (INT2, np.concatenate([c.category for c in cells])),
    )
    copy_in(connection, "site_15m", ", ".join(SITE_COLUMNS), rows)


# -- gauges ------------------------------------------------------------------------------------------

_CLEAR_GAUGES = """
DELETE FROM gauge_15m g USING unnest(%s::int[], %s::timestamptz[], %s::timestamptz[]) AS asked (point, lo, hi)
WHERE g.point_id = asked.point AND g.at >= asked.lo AND g.at < asked.hi
    AND g.point_id = ANY(%s) AND g.at >= %s AND g.at < %s
"""
_GAUGES = """
INSERT INTO gauge_15m (point_id, at, mean, lowest, highest, samples)
SELECT asked.point, r.bin, avg(r.value), min(r.value), max(r.value), count(*)
FROM unnest(%s::int[], %s::timestamptz[], %s::timestamptz[]) AS asked (point, lo, hi)
CROSS JOIN LATERAL (
    SELECT date_bin('15 minutes', at, TIMESTAMPTZ 'epoch') AS bin, value FROM readings
    WHERE point_id = asked.point AND at >= asked.lo AND at < asked.hi OFFSET 0
) r
GROUP BY asked.point, r.bin
"""


def clear_gauge(connection: sa.Connection, point_id: int, start_us: int, end_us: int) -> None:
    """Remove what is summarised of a gauge over a time in which it is not there.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    query = "DELETE FROM gauge_15m WHERE point_id = %s AND at >= %s AND at < %s"
    with store_errors():
        driver(connection).execute(query, (point_id, from_us(start_us), from_us(end_us)))


def refresh_gauges(connection: sa.Connection, point_ids: Sequence[int], start_us: Ints, end_us: Ints) -> None:
    """Summarise again the readings of gauges, each between two 15-minute boundaries of its own.

    Ranges of the same point do not overlap.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    if not len(point_ids):
        return
    lows, highs = [from_us(us) for us in start_us.tolist()], [from_us(us) for us in end_us.tolist()]
    asked = (list(point_ids), lows, highs)
    with store_errors():
        raw = driver(connection)
        raw.execute(_CLEAR_GAUGES, (*asked, sorted(set(point_ids)), min(lows), max(highs)))
        days_us = np.append(np.arange(start_us.min(), end_us.max(), _DAY_US), end_us.max() - 1)
        partitions.ensure_figures(connection, "gauge_15m", days_us)
        raw.execute(_GAUGES, asked)
