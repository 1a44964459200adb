"""Energies of points and sites over periods: whole days from their sums, the rest from quarter-hours.

A period is cut where a local day or month begins, and what is left of days into stretches of hours, always in
the same way: so it has the same sum to the last bit whichever periods are asked together, and whether a part
was kept from an earlier time or read just now.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property, lru_cache, reduce
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from app.domain.period import QUARTER_HOUR, Period, floor, midnight
from app.domain.pue import CLASSES, Totals
from app.domain.site import Site
from app.store import computed_hours
from app.store.binary_copy import array_text
from app.store.engine import store_errors

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PointEnergy:
    """Energy of one point over a stretch of time."""

    energy_kwh: float = 0.0
    covered_s: float = 0.0
    estimated_s: float = 0.0

    def __add__(self, other: PointEnergy) -> PointEnergy:
        return PointEnergy(
            self.energy_kwh + other.energy_kwh,
            self.covered_s + other.covered_s,
            self.estimated_s + other.estimated_s,
        )


class Piece(NamedTuple):
    """A part of a period: whole local days, or quarter-hours; half-open."""

    first: Any
    last: Any
    """Dates, or instants."""

    @property
    def is_days(self) -> bool:
        """Whether it is made of whole local days."""
        return not isinstance(self.first, datetime)


def pieces(zone: ZoneInfo, span: Period) -> Iterator[Piece]:
    """Whole local days of a period, and the quarter-hours before and after them."""
    first = span.start.astimezone(zone).date()
    if midnight(first, zone) < span.start:
        first += timedelta(days=1)
    last = span.end.astimezone(zone).date()
    if last <= first:
        yield Piece(span.start, span.end)
        return
    inner_start, inner_end = midnight(first, zone), midnight(last, zone)
    if span.start < inner_start:
        yield Piece(span.start, inner_start)
    yield Piece(first, last)
    if inner_end < span.end:
        yield Piece(inner_end, span.end)


def _by_month(days: Piece) -> Iterator[Piece]:
    """Whole days, cut where months begin."""
    first = days.first
    while (following := _next_month(first)) < days.last:
        yield Piece(first, following)
        first = following
    yield Piece(first, days.last)


def _next_month(day: date) -> date:
    return (day.replace(day=1) + timedelta(days=32)).replace(day=1)


_STRETCHES = (timedelta(hours=4), timedelta(hours=1))
"""Quarter-hours are summed by these, of UTC: a window that moves on finds most of its sums kept."""


def _by_hour(part: Piece) -> Iterator[Piece]:
    """Quarter-hours, in stretches as long as they fit."""
    first = part.first
    while first < part.last:
        fitting = (first + s for s in _STRETCHES if (first - _EPOCH) % s == _NONE and first + s <= part.last)
        until = next(fitting, None) or min(floor(first) + QUARTER_HOUR, part.last)
        yield Piece(first, until)
        first = until


_EPOCH, _NONE = datetime(1970, 1, 1, tzinfo=UTC), timedelta(0)


@lru_cache(maxsize=512)
def cut(zone: ZoneInfo, span: Period) -> tuple[Piece, ...]:
    """The parts of a period whose sums are added up, oldest first; days and months are those of a zone."""
    return tuple(
        part
        for piece in pieces(zone, span)
        for part in (_by_month(piece) if piece.is_days else _by_hour(piece))
    )


def _hours(site: Site, piece: Piece) -> tuple[int, int]:
    """The hours since 1970 that a part touches, half-open."""
    first, last = ((_instant(site, edge) - _EPOCH) / timedelta(hours=1) for edge in piece)
    return math.floor(first), math.ceil(last)


def _instant(site: Site, edge: Any) -> datetime:
    return edge if isinstance(edge, datetime) else midnight(edge, site.zone)


class Kept:
    """Sums of parts of periods of one site, as long as nothing in these parts is computed again.

    What the rollup computes it notes by site and hour in the same transaction; so a sum may be kept until a
    later note touches it.
    """

    def __init__(self) -> None:
        self._points: tuple[int, ...] = ()
        self._version = -1
        self._known: dict[tuple[str, Piece], Floats] = {}
        self._hours: dict[tuple[str, Piece], tuple[int, int]] = {}
        self._used: set[tuple[str, Piece]] = set()

    def look(self, connection: sa.Connection, site_number: int, points: Sequence[int]) -> None:
        """Forget what was computed again, or not asked for any more; before anything else is read.

        Raises
        ------
        StoreUnavailable
            If the database is away.
        """
        seen = self._version if self._known and self._points == tuple(points) else None
        newest, changed = computed_hours.since(connection, site_number, seen)
        is_known = seen is not None and newest >= seen
        self._known = {
            key: sums
            for key, sums in self._known.items()
            if is_known and key in self._used and not _is_touched(self._hours[key], changed)
        }
        self._hours = {key: self._hours[key] for key in self._known}
        self._points, self._version, self._used = tuple(points), newest, set()

    def known(self, room: str, wanted: Iterable[Piece]) -> dict[Piece, Floats]:
        """Those of some parts that are kept."""
        keys = [(room, piece) for piece in wanted]
        self._used.update(keys)
        return {key[1]: self._known[key] for key in keys if key in self._known}

    def keep(self, site: Site, room: str, read: Iterable[tuple[Piece, Floats]]) -> None:
        """Keep what was read; an empty sum takes no room."""
        for piece, sums in read:
            self._hours[room, piece] = _hours(site, piece)
            self._known[room, piece] = sums.copy() if sums.any() else np.broadcast_to(0.0, sums.shape)


def _is_touched(hours: tuple[int, int], changed: Sequence[int]) -> bool:
    """Whether any of some hours, in order, lies in a range."""
    row = bisect_left(changed, hours[0])
    return row < len(changed) and changed[row] < hours[1]


_OF_POINTS = "\n"
"""Under this name sums of points are kept; those of a site and its rooms have the room's."""
_SUMMED = """
SELECT part, array_send(array_agg(point_id))::bytea, array_send(array_agg(energy_kwh))::bytea,
    array_send(array_agg(covered_s))::bytea, array_send(array_agg(estimated_s))::bytea
FROM (
    SELECT run.before + number AS part, each_one.*
    FROM {runs}
    CROSS JOIN LATERAL (
        SELECT point_id, number, {figures} FROM (
            SELECT point_id, width_bucket({at}, run.edges) AS number, {columns} FROM {table}
            WHERE point_id = ANY(CAST(:points AS int[])) AND {at} >= run.start_at AND {at} < run.end_at
                AND {at} >= :first AND {at} < :last
            ORDER BY point_id, {at}
        ) in_order GROUP BY point_id, number
    ) each_one
) sums GROUP BY part
"""
_RUNS = """(
    SELECT start_at, end_at, before, (CAST(:edges AS {kind}[]))[low:high] AS edges
    FROM unnest(CAST(:starts AS {kind}[]), CAST(:ends AS {kind}[]), CAST(:before AS int[]),
        CAST(:lows AS int[]), CAST(:highs AS int[])) AS given (start_at, end_at, before, low, high) OFFSET 0
) run"""
"""Stretches of parts that follow each other: each is read once, in order of time, and cut at its edges."""
_BY_QUARTER_HOUR = _SUMMED.format(
    runs=_RUNS.format(kind="timestamptz"),
    table="energy_15m",
    at="at",
    columns="energy_kwh, coverage_ratio, estimated_ratio",
    figures="sum(energy_kwh) AS energy_kwh, sum(coverage_ratio) * 900 AS covered_s,"
    " sum(estimated_ratio) * 900 AS estimated_s",
)
_BY_DAY = _SUMMED.format(
    runs=_RUNS.format(kind="date"),
    table="energy_day",
    at="day",
    columns="energy_kwh, covered_s, estimated_s",
    figures="sum(energy_kwh) AS energy_kwh, sum(covered_s) AS covered_s, sum(estimated_s) AS estimated_s",
)
_INT_ARRAY = np.dtype([("length", ">i4"), ("value", ">i4")])
_FLOAT_ARRAY = np.dtype([("length", ">i4"), ("value", ">f8")])
_ARRAY_HEAD = 20
"""Bytes before the elements of an array of one dimension, as PostgreSQL sends it; none of ours is NULL."""


def _unpacked(packed: bytes, kind: np.dtype[Any]) -> npt.NDArray[Any]:
    return np.frombuffer(packed, kind, offset=_ARRAY_HEAD)["value"]


def _runs(parts: Sequence[Piece]) -> dict[str, Any]:
    """Values of :data:`_RUNS` for some parts."""
    begins = [n for n, p in enumerate(parts) if not n or parts[n - 1].last != p.first]
    ends = [*begins[1:], len(parts)]
    edges: list[Any] = []
    lows = []
    for begin, end in zip(begins, ends, strict=True):
        lows.append(len(edges) + 1)
        edges += [*(p.first for p in parts[begin:end]), parts[end - 1].last]
    starts, until = [parts[n].first for n in begins], [parts[n - 1].last for n in ends]
    return {
        "edges": edges,
        "starts": starts,
        "ends": until,
        "before": begins,
        "lows": lows,
        "highs": [low + end - begin for low, begin, end in zip(lows, begins, ends, strict=True)],
        "first": min(starts),
        "last": max(until),
    }


class Sums:
    """Energies of points over several periods, read together: what periods share is read once.

    Parameters
    ----------
    connection : Connection
    site : Site
        Of which the points are; its local days and months are meant.
    point_ids : sequence of int
    spans : iterable of Period
        All that will be asked about.
    kept : Kept, optional
        Of an earlier time.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """

    def __init__(
        self,
        connection: sa.Connection,
        site: Site,
        point_ids: Sequence[int],
        spans: Iterable[Period],
        kept: Kept | None = None,
    ) -> None:
        self.points = np.array(sorted(point_ids), np.int32)
        """Numbers of the points, in order."""
        self._pieces = {span: cut(site.zone, span) for span in spans}
        wanted = list(dict.fromkeys(piece for parts in self._pieces.values() for piece in parts))
        kept = kept or Kept()
        self._known = kept.known(_OF_POINTS, wanted)
        missing = [piece for piece in wanted if piece not in self._known]
        for query, is_days in ((_BY_QUARTER_HOUR, False), (_BY_DAY, True)):
            read = [piece for piece in missing if piece.is_days is is_days]
            self._known |= zip(read, self._read(connection, query, read), strict=True)
        kept.keep(site, _OF_POINTS, ((piece, self._known[piece]) for piece in missing))

    def _read(self, connection: sa.Connection, query: str, parts: Sequence[Piece]) -> Floats:
        table = np.zeros((len(parts), 4, len(self.points)))
        if table.size:
            values = {"points": array_text(self.points), **_runs(parts)}
            with store_errors():
                rows = connection.execute(sa.text(query), values).all()
            for part, points, *figures in rows:
                column = np.searchsorted(
                    self.points, np.frombuffer(points, _INT_ARRAY, -1, _ARRAY_HEAD)["value"]
                )
                table[part - 1, 0, column] = 1.0
                for row, packed in enumerate(figures, 1):
                    table[part - 1, row, column] = np.frombuffer(packed, _FLOAT_ARRAY, -1, _ARRAY_HEAD)[
                        "value"
                    ]
        return table

    def columns(self, span: Period) -> Floats:
        """In how many parts something is known, energy, covered and estimated time; shape (4, points)."""
        return self._columns[span]

    @cached_property
    def _columns(self) -> dict[Period, Floats]:
        return {s: reduce(np.add, [self._known[p] for p in parts]) for s, parts in self._pieces.items()}

    def by_point(self, span: Period) -> dict[int, PointEnergy]:
        """Energy per point over one of the periods; points of which nothing is known are left out."""
        count, *figures = self._columns[span]
        known = np.flatnonzero(count)
        energies = map(PointEnergy, *(column[known].tolist() for column in figures))
        return dict(zip(self.points[known].tolist(), energies, strict=True))


def by_point(
    connection: sa.Connection, site: Site, point_ids: Sequence[int], span: Period
) -> dict[int, PointEnergy]:
    """Energy per point over a period; points of which nothing is known are left out.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    return Sums(connection, site, point_ids, [span]).by_point(span)


# -- sites -------------------------------------------------------------------------------------------

FIGURES_OF_SITE = ", ".join(
    [
        "count(*)",
        "sum(facility_kwh)",
        "sum(it_kwh)",
        *(f"sum({name}_kwh)" for name in CLASSES),
        "sum(coverage_ratio) * 900",
        "sum(estimated_ratio * facility_kwh)",
        *(f"coalesce(sum(coverage_ratio) FILTER (WHERE category = {c}), 0) * 900" for c in (1, 2, 3)),
    ]
)
_TOTALS = f"""
SELECT run.before + number AS part, each_one.*
FROM {_RUNS.format(kind="timestamptz")}
CROSS JOIN LATERAL (
    SELECT number, {FIGURES_OF_SITE} FROM (
        SELECT width_bucket(at, run.edges) AS number, * FROM site_15m
        WHERE site_id = :id AND room = :room AND at >= run.start_at AND at < run.end_at
            AND at >= :first AND at < :last
        ORDER BY at
    ) in_order GROUP BY number
) each_one
"""  # noqa: S608 - columns of this module


def site_totals(
    connection: sa.Connection,
    site: Site,
    site_number: int,
    room: str,
    spans: Sequence[Period],
    kept: Kept | None = None,
) -> list[Totals]:
    """Sums of a site (`room` empty) or room over each of some periods.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    parts = {span: cut(site.zone, span) for span in spans}
    wanted, kept = list(dict.fromkeys(p for found in parts.values() for p in found)), kept or Kept()
    known = kept.known(room, wanted)
    missing = [piece for piece in wanted if piece not in known]
    if missing:
        edges = [Piece(*(_instant(site, edge) for edge in piece)) for piece in missing]
        with store_errors():
            rows = connection.execute(sa.text(_TOTALS), {"id": site_number, "room": room, **_runs(edges)})
            found = {missing[part - 1]: np.array([x or 0.0 for x in row]) for part, _, *row in rows}
        known |= {piece: found.get(piece, _NOTHING) for piece in missing}
        kept.keep(site, room, ((piece, known[piece]) for piece in missing))
    return [totals(reduce(np.add, [known[piece] for piece in parts[span]]).tolist()) for span in spans]


_NOTHING = np.zeros(FIGURES_OF_SITE.count("sum(") + 1)


def totals(row: Sequence[Any]) -> Totals:
    """A row of :data:`FIGURES_OF_SITE`."""
    count, facility, it, *rest = row
    if not count:
        return Totals()
    classes, (covered_s, estimated, one, two, three) = rest[: len(CLASSES)], rest[len(CLASSES) :]
    return Totals(
        facility,
        it,
        dict(zip(CLASSES, classes, strict=True)),
        covered_s,
        estimated,
        {1: one, 2: two, 3: three},
    )
