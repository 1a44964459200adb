"""Energies of points and sites over periods: whole days from their sums, the rest from quarter-hours.

A period is cut where a local day or month begins, and what is left of days into stretches of hours, always in
the same way: so it has the same sum to the last bit whichever periods are asked together, and whether a part
was kept from an earlier time or read just now.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property, reduce
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from app.domain.period import QUARTER_HOUR_S, Period
from app.domain.pue import CLASSES, Totals
from app.domain.site import Site
from app.store.binary_copy import array_text
from app.store.engine import store_errors
from app.store.kept_sums import OF_POINTS, Floats, Kept, instant
from app.store.period_parts import Piece, cut, short_parts


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
    SELECT start_at, end_at, before, owner, (CAST(:edges AS {kind}[]))[low:high] AS edges
    FROM unnest(CAST(:starts AS {kind}[]), CAST(:ends AS {kind}[]), CAST(:before AS int[]),
        CAST(:owners AS int[]), CAST(:lows AS int[]), CAST(:highs AS int[]))
        AS given (start_at, end_at, before, owner, low, high) OFFSET 0
) run"""
"""Stretches of parts that follow each other: each is read once, in order of time, and cut at its edges."""
_BY_QUARTER_HOUR = _SUMMED.format(
    runs=_RUNS.format(kind="timestamptz"),
    table="energy_15m",
    at="at",
    columns="energy_kwh, coverage_ratio, estimated_ratio",
    figures="sum(energy_kwh) AS energy_kwh, sum(coverage_ratio) AS covered_s,"
    " sum(estimated_ratio) AS estimated_s",
)
_BY_DAY = _SUMMED.format(
    runs=_RUNS.format(kind="date"),
    table="energy_day",
    at="day",
    columns="energy_kwh, covered_s, estimated_s",
    figures="sum(energy_kwh) AS energy_kwh, sum(covered_s) AS covered_s, sum(estimated_s) AS estimated_s",
)
_AS_TIMES = np.array([1.0, 1.0, QUARTER_HOUR_S, QUARTER_HOUR_S])[:, None]
"""Sums of shares of quarter-hours become times. [s]"""
_EPOCH_OF_POSTGRESQL = datetime(2000, 1, 1, tzinfo=UTC)
_LONG_ARRAY = np.dtype([("length", ">i4"), ("value", ">i8")])
_INT_ARRAY = np.dtype([("length", ">i4"), ("value", ">i4")])
_FLOAT_ARRAY = np.dtype([("length", ">i4"), ("value", ">f8")])
_ARRAY_HEAD = 20
"""Bytes before the elements of an array of one dimension, as PostgreSQL sends it; none of ours is NULL."""


def _unpacked(packed: bytes, kind: np.dtype[Any]) -> npt.NDArray[Any]:
    return np.frombuffer(packed, kind, offset=_ARRAY_HEAD)["value"]


def _runs(parts: Sequence[Piece], owners: Sequence[int]) -> dict[str, Any]:
    """Values of :data:`_RUNS` for some parts, each of an owner."""
    begins = [
        n
        for n, part in enumerate(parts)
        if not n or parts[n - 1].last != part.first or owners[n - 1] != owners[n]
    ]
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
        "owners": [owners[n] for n in begins],
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
        Of an earlier time; see :func:`read_quarters`.

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
        self._known = kept.known(OF_POINTS, wanted) if kept else {}
        missing = [piece for piece in wanted if piece not in self._known]
        if kept:
            self._known |= {p: sums for p in missing if (sums := kept.summed(p)) is not None}
        hours = [p for p in missing if not p.is_days and p not in self._known]
        self._known |= zip(hours, self._read(connection, _BY_QUARTER_HOUR, hours) * _AS_TIMES, strict=True)
        days = [p for p in missing if p.is_days]
        self._known |= zip(days, self._read(connection, _BY_DAY, days), strict=True)
        if kept:
            kept.keep(site, OF_POINTS, ((piece, self._known[piece]) for piece in missing))

    def _read(self, connection: sa.Connection, query: str, parts: Sequence[Piece]) -> Floats:
        table = np.zeros((len(parts), 4, len(self.points)))
        if table.size:
            values = {"points": array_text(self.points), **_runs(parts, [0] * len(parts))}
            with store_errors():
                rows = connection.execute(sa.text(query), values).all()
            for part, points, *figures in rows:
                column = np.searchsorted(self.points, _unpacked(points, _INT_ARRAY))
                table[part - 1, 0, column] = 1.0
                for row, packed in enumerate(figures, 1):
                    table[part - 1, row, column] = _unpacked(packed, _FLOAT_ARRAY)
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


class OfPoints(NamedTuple):
    """Periods of points of a site that will be asked about, and where the sums are kept."""

    site: Site
    points: Sequence[int]
    """In order of their numbers."""
    spans: Sequence[Period]
    kept: Kept


_QUARTERS = sa.text(
    """
    SELECT run.owner, array_send(array_agg(q.at))::bytea, array_send(array_agg(q.point_id))::bytea,
        array_send(array_agg(q.energy_kwh))::bytea, array_send(array_agg(q.coverage_ratio))::bytea,
        array_send(array_agg(q.estimated_ratio))::bytea
    FROM unnest(CAST(:starts AS timestamptz[]), CAST(:ends AS timestamptz[]), CAST(:owners AS int[]),
        CAST(:lows AS int[]), CAST(:highs AS int[])) AS run (start_at, end_at, owner, low, high)
    CROSS JOIN LATERAL (
        SELECT at, point_id, energy_kwh, coverage_ratio, estimated_ratio FROM energy_15m
        WHERE point_id = ANY((CAST(:points AS int[]))[run.low:run.high])
            AND at >= run.start_at AND at < run.end_at AND at >= :first AND at < :last
    ) q GROUP BY run.owner
    """
)


def read_quarters(connection: sa.Connection, asked: Sequence[OfPoints]) -> None:
    """Read what sums of some periods need and is not kept, where these begin or end; of all sites together.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    wanted = [_quarters_to_read(one) for one in asked]
    runs = [(row, run) for row, pieces in enumerate(wanted) for run in _joined(pieces)]
    if not runs:
        return
    ends = np.cumsum([len(one.points) for one in asked]).tolist()
    values = {
        "starts": [run.first for _, run in runs],
        "ends": [run.last for _, run in runs],
        "owners": array_text([row for row, _ in runs]),
        "lows": array_text([ends[row] - len(asked[row].points) + 1 for row, _ in runs]),
        "highs": array_text([ends[row] for row, _ in runs]),
        "points": array_text([number for one in asked for number in one.points]),
        "first": min(run.first for _, run in runs),
        "last": max(run.last for _, run in runs),
    }
    with store_errors():
        found = {owner: packed for owner, *packed in connection.execute(_QUARTERS, values)}
    for row, pieces in enumerate(wanted):
        asked[row].kept.keep_quarters(pieces, _figures(asked[row].points, pieces, found.get(row)))


def _quarters_to_read(asked: OfPoints) -> list[Piece]:
    parts = dict.fromkeys(part for span in asked.spans for part in short_parts(asked.site.zone, span))
    return asked.kept.quarters_to_read(parts, max(span.end for span in asked.spans))


def _joined(pieces: Sequence[Piece]) -> Iterator[Piece]:
    """Stretches of parts that follow each other."""
    begins = [n for n, p in enumerate(pieces) if not n or pieces[n - 1].last != p.first]
    for begin, end in pairwise([*begins, len(pieces)]):
        yield Piece(pieces[begin].first, pieces[end - 1].last)


def _figures(points: Sequence[int], quarters: Sequence[Piece], packed: Sequence[bytes] | None) -> Floats:
    """What was read of each quarter-hour and point; shape (quarter-hours, 4, points)."""
    table = np.zeros((len(quarters), 4, len(points)))
    if packed is not None:
        at, numbers, *figures = map(_unpacked, packed, (_LONG_ARRAY, _INT_ARRAY, *[_FLOAT_ARRAY] * 3))
        first_us = [(q.first - _EPOCH_OF_POSTGRESQL) // timedelta(microseconds=1) for q in quarters]
        row, column = np.searchsorted(first_us, at), np.searchsorted(points, numbers)
        table[row, 0, column] = 1.0
        for figure, found in enumerate(figures, 1):
            table[row, figure, column] = found
    return table


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
        WHERE site_id = run.owner AND room = :room AND at >= run.start_at AND at < run.end_at
            AND at >= :first AND at < :last
        ORDER BY at
    ) in_order GROUP BY number
) each_one
"""  # noqa: S608 - columns of this module


class OfSite(NamedTuple):
    """Periods of a site that are asked about."""

    site: Site
    number: int
    spans: Sequence[Period]
    kept: Kept | None = None


def site_totals(connection: sa.Connection, asked: Sequence[OfSite], room: str = "") -> list[list[Totals]]:
    """Sums of sites (`room` empty) or of their rooms of one name, over each of some periods.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    parts = [{span: cut(one.site.zone, span) for span in one.spans} for one in asked]
    wanted = [list(dict.fromkeys(p for found in of_site.values() for p in found)) for of_site in parts]
    known = [one.kept.known(room, ps) if one.kept else {} for one, ps in zip(asked, wanted, strict=True)]
    missing = [(row, p) for row, pieces in enumerate(wanted) for p in pieces if p not in known[row]]
    for (row, piece), sums in zip(missing, _read_totals(connection, asked, room, missing), strict=True):
        known[row][piece] = sums
        if (kept := asked[row].kept) is not None:
            kept.keep(asked[row].site, room, [(piece, sums)])
    return [
        [totals(reduce(np.add, [sums[piece] for piece in of_site[span]]).tolist()) for span in one.spans]
        for one, of_site, sums in zip(asked, parts, known, strict=True)
    ]


def _read_totals(
    connection: sa.Connection, asked: Sequence[OfSite], room: str, parts: Sequence[tuple[int, Piece]]
) -> list[Floats]:
    """Sums of some parts, each of a row of `asked`."""
    found = [_NOTHING] * len(parts)
    if parts:
        edges = [Piece(*(instant(asked[row].site, edge) for edge in piece)) for row, piece in parts]
        values = {"room": room, **_runs(edges, [asked[row].number for row, _ in parts])}
        with store_errors():
            for part, _, *row in connection.execute(sa.text(_TOTALS), values):
                found[part - 1] = np.array([x or 0.0 for x in row])
    return found


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
