"""Energies of points and sites over periods: whole days from their sums, the rest from quarter-hours.

A period is cut where a local day or month begins, always in the same way: so it has the same sum to the last
bit whichever periods are asked together, and whether a part was kept from an earlier time or read just now.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cached_property, reduce
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from app.domain.period import Period, midnight
from app.domain.pue import CLASSES, Totals
from app.domain.site import Site
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


def pieces(site: Site, span: Period) -> Iterator[Piece]:
    """Whole local days of a period, and the quarter-hours before and after them."""
    first = span.start.astimezone(site.zone).date()
    if midnight(first, site.zone) < span.start:
        first += timedelta(days=1)
    last = span.end.astimezone(site.zone).date()
    if last <= first:
        yield Piece(span.start, span.end)
        return
    inner_start, inner_end = midnight(first, site.zone), midnight(last, site.zone)
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


class Kept:
    """Sums of earlier months of one site, as long as nothing of these months is computed again.

    What the rollup computes it notes by site and month in the same transaction; so a sum may be kept while
    that note is the same.
    """

    def __init__(self) -> None:
        self._points: tuple[int, ...] = ()
        self._marks: dict[date, int] = {}
        self._known: dict[tuple[str, Piece], Floats] = {}
        self._used: set[tuple[str, Piece]] = set()

    def look(self, connection: sa.Connection, site_number: int, points: Sequence[int]) -> None:
        """Forget what was computed again, or not asked for any more; before anything else is read.

        Raises
        ------
        StoreUnavailable
            If the database is away.
        """
        query = sa.text("SELECT month, computed FROM site_months WHERE site_id = :site")
        with store_errors():
            rows = connection.execute(query, {"site": site_number}).all()
        marks = {row.month: row.computed for row in rows}
        if self._points != tuple(points):
            self._known.clear()
        self._known = {
            key: sums
            for key, sums in self._known.items()
            if key in self._used and self._marks.get(_month(key)) == marks.get(_month(key))
        }
        self._points, self._marks, self._used = tuple(points), marks, set()

    def known(self, room: str, wanted: Iterable[Piece]) -> dict[Piece, Floats]:
        """Those of some parts that are kept."""
        keys = [(room, piece) for piece in wanted]
        self._used.update(keys)
        return {key[1]: self._known[key] for key in keys if key in self._known}

    def keep(self, room: str, read: Iterable[tuple[Piece, Floats]]) -> None:
        """Keep what lies in earlier months than the newest; an empty sum takes no room."""
        newest = max(self._marks, default=date.min)
        for piece, sums in read:
            if piece.is_days and _month((room, piece)) < newest:
                self._known[room, piece] = sums.copy() if sums.any() else np.broadcast_to(0.0, sums.shape)


def _month(key: tuple[str, Piece]) -> date:
    month: date = key[1].first.replace(day=1)
    return month


_OF_POINTS = "\n"
"""Under this name sums of points are kept; those of a site and its rooms have the room's."""
_SUMMED = """
SELECT part, string_agg(int4send(point_id) || float8send(energy_kwh) || float8send(covered_s)
    || float8send(estimated_s), ''::bytea)
FROM unnest(CAST(:starts AS {kind}[]), CAST(:ends AS {kind}[])) WITH ORDINALITY parts (start_at, end_at, part)
CROSS JOIN LATERAL (
    SELECT point_id, {figures} FROM {table}
    WHERE point_id = ANY(:points) AND {at} >= start_at AND {at} < end_at AND {at} >= :first AND {at} < :last
    GROUP BY point_id
) sums GROUP BY part
"""
_BY_QUARTER_HOUR = _SUMMED.format(
    kind="timestamptz",
    table="energy_15m",
    at="at",
    figures="sum(energy_kwh) AS energy_kwh, sum(coverage_ratio) * 900 AS covered_s,"
    " sum(estimated_ratio) * 900 AS estimated_s",
)
_BY_DAY = _SUMMED.format(
    kind="date",
    table="energy_day",
    at="day",
    figures="sum(energy_kwh) AS energy_kwh, sum(covered_s) AS covered_s, sum(estimated_s) AS estimated_s",
)
_ROW = np.dtype([("point", ">i4"), ("figures", ">f8", (3,))])


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
        self._pieces = {span: list(_cut(site, span)) for span in spans}
        wanted = list(dict.fromkeys(piece for parts in self._pieces.values() for piece in parts))
        kept = kept or Kept()
        self._known = kept.known(_OF_POINTS, wanted)
        missing = [piece for piece in wanted if piece not in self._known]
        for query, is_days in ((_BY_QUARTER_HOUR, False), (_BY_DAY, True)):
            read = [piece for piece in missing if piece.is_days is is_days]
            self._known |= zip(read, self._read(connection, query, read), strict=True)
        kept.keep(_OF_POINTS, ((piece, self._known[piece]) for piece in missing))

    def _read(self, connection: sa.Connection, query: str, parts: Sequence[Piece]) -> Floats:
        table = np.zeros((len(parts), 4, len(self.points)))
        if table.size:
            with store_errors():
                rows = connection.execute(
                    sa.text(query), {"points": self.points.tolist(), **_between(parts)}
                ).all()
            for part, packed in rows:
                found = np.frombuffer(packed, _ROW)
                column = np.searchsorted(self.points, found["point"])
                table[part - 1, 0, column] = 1.0
                table[part - 1, 1:, column] = found["figures"]
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


def _cut(site: Site, span: Period) -> Iterator[Piece]:
    for piece in pieces(site, span):
        yield from _by_month(piece) if piece.is_days else (piece,)


def _between(parts: Sequence[Piece]) -> dict[str, Any]:
    starts, ends = [p.first for p in parts], [p.last for p in parts]
    return {"starts": starts, "ends": ends, "first": min(starts), "last": max(ends)}


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
_TOTALS = (
    "SELECT part, sums.* FROM"  # noqa: S608
    " unnest(CAST(:starts AS timestamptz[]), CAST(:ends AS timestamptz[]))"
    " WITH ORDINALITY parts (start_at, end_at, part)"
    f" CROSS JOIN LATERAL (SELECT {FIGURES_OF_SITE} FROM site_15m WHERE site_id = :id AND room = :room"
    " AND at >= start_at AND at < end_at AND at >= :first AND at < :last) sums"
)


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
    parts = {span: list(_months_within(site, span)) for span in spans}
    wanted, kept = list(dict.fromkeys(p for found in parts.values() for p in found)), kept or Kept()
    known = kept.known(room, wanted)
    missing = [piece for piece in wanted if piece not in known]
    if missing:
        edges = [Piece(*(_instant(site, edge) for edge in piece)) for piece in missing]
        with store_errors():
            rows = connection.execute(sa.text(_TOTALS), {"id": site_number, "room": room, **_between(edges)})
            known |= {missing[part - 1]: np.array([x or 0.0 for x in row]) for part, *row in rows}
        kept.keep(room, ((piece, known[piece]) for piece in missing))
    return [totals(reduce(np.add, [known[piece] for piece in parts[span]]).tolist()) for span in spans]


def _months_within(site: Site, span: Period) -> Iterator[Piece]:
    """Whole local months as days, so that they are kept; the rest as instants."""
    at, month = span.start, span.start.astimezone(site.zone).date()
    if month.day > 1 or midnight(month, site.zone) < at:
        month = _next_month(month)
    while midnight(following := _next_month(month), site.zone) <= span.end:
        if at < (start := midnight(month, site.zone)):
            yield Piece(at, start)
        yield Piece(month, following)
        at, month = midnight(following, site.zone), following
    if at < (start := midnight(month, site.zone)) < span.end:
        yield Piece(at, start)
        at = start
    if at < span.end:
        yield Piece(at, span.end)


def _instant(site: Site, edge: Any) -> datetime:
    return edge if isinstance(edge, datetime) else midnight(edge, site.zone)


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
