"""From 15-minute energies of points to the PUE of a site or a room (ISO/IEC 30134-2, EN 50600-4-2).

Facility and IT energy are compared only over the time both are covered: :func:`pair` scales every
point that counts to the time that all of them cover, per 15-minute interval. PUE is then a ratio of
sums over those intervals, never a mean of ratios.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from app.domain.energy import QuarterHours
from app.domain.figure import percent
from app.domain.limits import (
    GradeReached,
    LimitProfile,
    ReportingDuty,
    Verdict,
    combined_class_percent,
    grades_reached,
    is_too_low,
    limits_for,
    pue_uncertainty,
    pue_uncertainty_of_sum,
    reporting_duties,
    verdict,
)
from app.domain.overlap import undecided
from app.domain.period import QUARTER_HOUR, QUARTER_HOUR_S, QUARTER_HOUR_US, Period, ceil, floor
from app.domain.quantity import CATEGORY_OF_IT_ROLE, ESTIMATE_KINDS, IT_ROLES, OVERHEAD_ROLES, Role
from app.domain.site import FacilityIs, Institution, Point, Segment, Site
from app.errors import SeriesError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

LONGEST_INTERVAL_S = {3: 960, 2: 25 * 3600}
"""Longest time between readings for category 3 (15 min) and 2 (a day), with room for a late reading."""
CATEGORY_SHARE = 0.95
"""Share of the covered time that must reach a category for the period to be of it."""

_NAMED = 5
"""So many meters or findings are named in a reason."""

FACILITY_ADDS = (Role.FACILITY, Role.GENERATOR, Role.RENEWABLE)
"""Energy that crosses the boundary or is made inside it, all at face value."""


@dataclass(frozen=True)
class Boundary:
    """Points that make up the energies of a site or of one of its rooms, with their signed weights."""

    it: tuple[Point, ...]
    facility: Mapping[str, float]
    """Point id -> signed weight in facility energy; empty where it is the sum of the classes."""
    overhead: tuple[Point, ...]
    apart: tuple[Point, ...]
    """Reported beside: generator, renewable, subtracted, reused heat."""
    gating: frozenset[str]
    """Ids of points without which an interval does not count."""
    is_sum: bool
    undecided: str | None = None
    """Which meters may count the same energy twice; then nothing counts."""
    accuracy_percent: Mapping[str, float] = field(default_factory=dict)
    """Accuracy class of each point of the site. [%]"""

    def points(self) -> tuple[Point, ...]:
        """Every point that is needed, once."""
        return self._points

    @cached_property
    def _points(self) -> tuple[Point, ...]:
        return tuple({p.id: p for p in (*self.it, *self.overhead, *self.apart)}.values())

    @cached_property
    def rows(self) -> Mapping[str, int]:
        """Number of each point that is needed."""
        return {p.id: row for row, p in enumerate(self._points)}

    @cached_property
    def ids(self) -> frozenset[str]:
        """Of every point that is needed."""
        return frozenset(p.id for p in self._points)

    @cached_property
    def it_weights(self) -> Mapping[str, float]:
        """Weight of each point of IT."""
        return {p.id: p.weight for p in self.it}

    @cached_property
    def overhead_weights(self) -> Mapping[str, float]:
        """Weight of each point of the overhead."""
        return {p.id: p.weight for p in self.overhead}

    @cached_property
    def sides(self) -> Mapping[str, _Side]:
        """Both sides of the ratio, and the overhead, which is metered where facility energy is its sum."""
        weights = {"it": self.it_weights, "overhead": self.overhead_weights, "facility": self.facility}
        return {side: self._side(of_side) for side, of_side in weights.items()}

    def _side(self, weights: Mapping[str, float]) -> _Side:
        percent = [self.accuracy_percent[p] for p in weights]
        rows = np.array([self.rows[p] for p in weights], np.intp)
        return _Side(tuple(weights), rows, np.array([*weights.values()], float), np.array(percent, float))

    @cached_property
    def places(self) -> npt.NDArray[np.int64]:
        """Category of each point of IT by its place; a column."""
        return np.array([CATEGORY_OF_IT_ROLE[p.role] for p in self.it])[:, None]

    @cached_property
    def rests_on_estimates(self) -> bool:
        """Whether a point without which an interval does not count is an estimate by its kind."""
        return any(p.id in self.gating and p.kind in ESTIMATE_KINDS for p in self._points)


class _Side(NamedTuple):
    """Points whose energies add up to one side of the ratio."""

    points: tuple[str, ...]
    rows: npt.NDArray[np.intp]
    """Of each among the points of the boundary."""
    weights: Floats
    accuracy_percent: Floats

    def classes(self, computed_percent: Mapping[str, float]) -> Floats:
        """Accuracy class of each point, where that of some follows from others. [%]"""
        if not computed_percent:
            return self.accuracy_percent
        known = zip(self.points, self.accuracy_percent.tolist(), strict=True)
        return np.array([computed_percent.get(point, percent) for point, percent in known])


class SiteQuarterHours(NamedTuple):
    """Energies of a boundary per 15-minute interval over the time that all gating points cover."""

    at_us: Ints
    facility_kwh: Floats
    it_kwh: Floats
    classes_kwh: dict[str, Floats]
    """Per overhead class, and per class reported apart."""
    coverage_ratio: Floats
    estimated_ratio: Floats
    """Share of the energy known only by estimate, the larger of both sides."""
    category: npt.NDArray[np.int16]


CLASSES = (*(r.value for r in OVERHEAD_ROLES), "generator", "renewable", "non_dc", "heat_reuse", "export")
"""Columns of energy beside facility and IT."""
_APART = (Role.GENERATOR, Role.RENEWABLE, Role.NON_DC, Role.HEAT_REUSE, Role.EXPORT, Role.FACILITY)
_SUBTRACTED = (Role.NON_DC, Role.EXPORT)


def boundary(site: Site, room: str = "") -> Boundary:
    """What counts for a constant site (`room` empty) or, for partial PUE, for one room.

    Raises
    ------
    SeriesError
        If the site has dates: ask for its boundary at an instant, or for :func:`boundaries`.
    """
    if site.is_dated:
        raise SeriesError(f"site {site.id} changes with time; its boundary is that of an instant")
    if room not in site.boundaries:
        site.boundaries[room] = _boundary(site, room)
    found: Boundary = site.boundaries[room]
    return found


def _boundary(site: Site, room: str) -> Boundary:
    it, overhead, apart = (
        tuple(p for p in points if not room or site.meter_of[p.id].room == room)
        for points in (site.it_carriers(), site.carriers(*OVERHEAD_ROLES), site.carriers(*_APART))
    )
    metered = any(p.role is Role.FACILITY for p in apart)
    is_sum = not metered and (bool(room) or site.facility_is is FacilityIs.SUM_OF_CLASSES)
    facility = {p.id: _sign(p) * p.weight for p in apart if _sign(p)} if metered else {}
    gating = {p.id for p in it} | (
        set(facility) if metered else {p.id for p in overhead} if is_sum else set()
    )
    doubt = undecided(site)
    if doubt or not it or not (metered or is_sum):
        gating = set()
    classes = site.accuracy_percent
    return Boundary(it, facility, overhead, apart, frozenset(gating), is_sum, doubt, classes)


def boundaries(site: Site, period: Period, room: str = "") -> tuple[tuple[Segment, Boundary], ...]:
    """What counts in each part of a period, in whole 15-minute intervals, over which the site is constant."""
    return tuple((segment, boundary(segment.site, room)) for segment in site.interval_segments(period))


def counted_points(site: Site, room: str = "") -> tuple[Point, ...]:
    """Every point that counts at some time, once."""
    return tuple({p.id: p for limits in every_boundary(site, room) for p in limits.points()}.values())


def every_boundary(site: Site, room: str = "") -> tuple[Boundary, ...]:
    """What counts, or counted, or will, one for each state of the site."""
    return tuple(boundary(state, room) for state in site.states)


def _sign(point: Point) -> int:
    return 1 if point.role in FACILITY_ADDS else -1 if point.role in _SUBTRACTED else 0


_NO_ENERGY = np.empty(0, np.float64)
_NOTHING_KNOWN = QuarterHours(
    np.empty(0, np.int64), _NO_ENERGY, _NO_ENERGY, _NO_ENERGY, np.empty(0, np.int8), np.empty(0, np.int32)
)


class JoinedCells(Mapping[str, QuarterHours]):
    """Intervals of many points, those of one after those of another.

    Parameters
    ----------
    quarters : QuarterHours
        Of all of them.
    rows : mapping of point id to (int, int)
        Where those of each point lie, half-open.
    """

    def __init__(self, quarters: QuarterHours, rows: Mapping[str, tuple[int, int]]) -> None:
        self.quarters, self.rows = quarters, rows

    @classmethod
    def of(cls, cells: Mapping[str, QuarterHours], ids: Iterable[str]) -> JoinedCells:
        """Those of some points, where there are any."""
        if isinstance(cells, cls):
            return cells
        known = {name: cells[name] for name in ids if name in cells}
        if not known:
            return cls(_NOTHING_KNOWN, {})
        ends = list(accumulate(len(part.at_us) for part in known.values()))
        rows = zip([0, *ends], ends, strict=False)
        return cls(QuarterHours.concat(known.values()), dict(zip(known, rows, strict=True)))

    def __getitem__(self, name: str) -> QuarterHours:
        return self.quarters.take(slice(*self.rows[name]))

    def __iter__(self) -> Iterator[str]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)


class _Grid:
    """Figures of points on a common grid of 15-minute intervals, a row a point; 0 where nothing is known."""

    def __init__(
        self, points: Mapping[str, int], cells: Mapping[str, QuarterHours], start_us: int, count: int
    ) -> None:
        self._row = points
        self._columns = np.zeros((4, len(points), count))
        joined = JoinedCells.of(cells, points)
        known = [(row, *joined.rows[name]) for name, row in points.items() if name in joined.rows]
        if known:
            self._fill(np.array(known), joined.quarters, start_us, count)

    def _fill(self, known: Ints, joined: QuarterHours, start_us: int, count: int) -> None:
        row, first, length = known[:, 0], known[:, 1], known[:, 2] - known[:, 1]
        taken = np.arange(length.sum()) + np.repeat(first - np.cumsum(length) + length, length)
        row, slot = np.repeat(row, length), (joined.at_us[taken] - start_us) // QUARTER_HOUR_US
        good = (slot >= 0) & (slot < count)
        row, slot, taken = row[good], slot[good], taken[good]
        figures: tuple[npt.NDArray[Any], ...] = (
            joined.energy_kwh,
            joined.coverage_ratio,
            joined.estimated_ratio,
            joined.reading_interval_s,
        )
        for column, values in zip(self._columns, figures, strict=True):
            column[row, slot] = values[taken]

    def _of(self, column: int, ids: Iterable[str]) -> Floats:
        chosen: Floats = self._columns[column][list(map(self._row.__getitem__, ids))]
        return chosen

    def coverage(self, ids: Iterable[str]) -> Floats:
        """Covered share of each interval; shape (points, intervals)."""
        return self._of(1, ids)

    def interval_s(self, ids: Iterable[str]) -> Floats:
        """Longest interval between readings. [s]"""
        return self._of(3, ids)

    def over(self, ids: Sequence[str], common: Floats) -> Floats:
        """Energy over the `common` share of each interval, or over what there is of it. [kWh]"""
        energy, coverage = self._of(0, ids), self._of(1, ids)
        share = np.divide(
            np.minimum(common, coverage), coverage, where=coverage > 0, out=np.zeros_like(coverage)
        )
        return energy * share

    def estimated_share(self, ids: Iterable[str]) -> Floats:
        """Share of each point's energy that is an estimate."""
        coverage, estimated = self._of(1, ids), self._of(2, ids)
        return np.divide(estimated, coverage, where=coverage > 0, out=np.zeros_like(estimated))


def pair(limits: Boundary, cells: Mapping[str, QuarterHours], start_us: int, end_us: int) -> SiteQuarterHours:
    """Energies of a boundary over the time in which all its gating points are covered.

    Parameters
    ----------
    limits : Boundary
        What counts, see :func:`boundary`.
    cells : mapping of point id to QuarterHours
        Energy per point; a point that is absent is not covered.
    start_us, end_us : int
        Range on 15-minute boundaries, half-open. [us]

    Returns
    -------
    SiteQuarterHours
        Only intervals with some common coverage; k at most (end - start) / 15 min. [kWh]
    """
    count = (end_us - start_us) // QUARTER_HOUR_US
    grid = _Grid(limits.rows, cells, start_us, count)
    common = np.zeros(count)
    if limits.gating:
        common = np.min(grid.coverage(sorted(limits.gating)), axis=0)
    it_kwh = _weighted(grid, limits.it_weights, common)
    classes = _classes(limits, grid, common)
    facility_kwh = (
        it_kwh + _sum([classes[r.value] for r in OVERHEAD_ROLES], count)
        if limits.is_sum
        else _weighted(grid, limits.facility, common)
    )
    some = common > 0
    return SiteQuarterHours(
        (start_us + np.arange(count) * QUARTER_HOUR_US)[some],
        facility_kwh[some],
        it_kwh[some],
        {name: column[some] for name, column in classes.items()},
        common[some],
        _estimated(limits, grid, common)[some],
        _category(limits, grid, count)[some],
    )


def pair_over(
    site: Site, room: str, cells: Mapping[str, QuarterHours], start_us: int, end_us: int
) -> SiteQuarterHours:
    """The same for a site or room over any range: each part of it with the boundary in force.

    Energy of an interval in which the plant changes is shared out by time: a point's among the parts of
    the interval in which it is there.

    Parameters
    ----------
    site : Site
    room : str
        Empty for the whole site.
    cells, start_us, end_us
        As for :func:`pair`.
    """
    if start_us >= end_us or not site.is_dated:
        return pair(boundary(site.at(_at(start_us)), room), cells, start_us, end_us)
    parts = site.segments(Period(_at(start_us), _at(end_us)))
    return _merged([_pair_segment(part, boundary(part.site, room), cells, parts) for part in parts])


def _at(at_us: int) -> datetime:
    return _EPOCH + timedelta(microseconds=at_us)


def _us(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1)


def _pair_segment(
    segment: Segment, limits: Boundary, cells: Mapping[str, QuarterHours], every: Sequence[Segment]
) -> SiteQuarterHours:
    start_us, end_us = _us(floor(segment.period.start)), _us(ceil(segment.period.end))
    own = {p.id: cells[p.id] for p in limits.points() if p.id in cells}
    for edge in {segment.period.start, segment.period.end}:
        if floor(edge) != edge:
            own = {name: _share_of_interval(c, floor(edge), name, segment, every) for name, c in own.items()}
    return pair(limits, own, start_us, end_us)


def _share_of_interval(
    cells: QuarterHours, at: datetime, point_id: str, segment: Segment, every: Sequence[Segment]
) -> QuarterHours:
    """`cells` with only that part of the interval at `at` that belongs to the segment."""
    present_s = sum(_seconds_in(s.period, at) for s in every if point_id in s.site.meter_of)
    factor = np.where(cells.at_us == _us(at), _seconds_in(segment.period, at) / present_s, 1.0)
    return cells._replace(
        energy_kwh=cells.energy_kwh * factor,
        coverage_ratio=cells.coverage_ratio * factor,
        estimated_ratio=cells.estimated_ratio * factor,
    )


def _seconds_in(period: Period, at: datetime) -> float:
    """How much of the interval that begins at `at` lies in a period. [s]"""
    inside = min(period.end, at + QUARTER_HOUR) - max(period.start, at)
    return max(inside.total_seconds(), 0.0)


def _merged(parts: Sequence[SiteQuarterHours]) -> SiteQuarterHours:
    """Parts in order of time as one; those of an interval that a change cuts are summed."""
    at_us = np.concatenate([p.at_us for p in parts])
    first = np.flatnonzero(np.diff(at_us, prepend=-1))

    def total(columns: Sequence[Floats]) -> Floats:
        joined = np.concatenate(columns)
        return np.add.reduceat(joined, first) if len(first) else joined

    facility = [p.facility_kwh for p in parts]
    facility_kwh = total(facility)
    guessed_kwh = total([p.estimated_ratio * p.facility_kwh for p in parts])
    category = np.concatenate([p.category for p in parts])
    estimated = np.concatenate([p.estimated_ratio for p in parts])
    if len(first):
        category, estimated = np.minimum.reduceat(category, first), np.maximum.reduceat(estimated, first)
    return SiteQuarterHours(
        at_us[first],
        facility_kwh,
        total([p.it_kwh for p in parts]),
        {name: total([p.classes_kwh[name] for p in parts]) for name in CLASSES},
        total([p.coverage_ratio for p in parts]),
        np.divide(guessed_kwh, facility_kwh, where=facility_kwh > 0, out=estimated),
        category,
    )


def _sum(parts: Sequence[Floats], count: int) -> Floats:
    return np.sum(parts, axis=0) if parts else np.zeros(count)


def _weighted(grid: _Grid, weights: Mapping[str, float], common: Floats) -> Floats:
    """Weighted sum of some points over the `common` time. [kWh]"""
    if not weights:
        return np.zeros(len(common))
    total: Floats = np.sum(
        np.array(list(weights.values()))[:, None] * grid.over(list(weights), common), axis=0
    )
    return total


def _classes(limits: Boundary, grid: _Grid, common: Floats) -> dict[str, Floats]:
    classes = {name: np.zeros(len(common)) for name in CLASSES}
    counted = [p for p in (*limits.overhead, *limits.apart) if p.role.value in classes]
    if counted:
        for point, energy in zip(counted, grid.over([p.id for p in counted], common), strict=True):
            classes[point.role.value] = classes[point.role.value] + point.weight * energy
    return classes


def _estimated(limits: Boundary, grid: _Grid, common: Floats) -> Floats:
    facility = list(limits.facility) or [*limits.it_weights, *limits.overhead_weights]
    return np.maximum(*(_estimated_side(grid, side, common) for side in (facility, list(limits.it_weights))))


def _estimated_side(grid: _Grid, side: Sequence[str], common: Floats) -> Floats:
    if not side:
        return np.zeros(len(common))
    energy, share = grid.over(side, common), grid.estimated_share(side)
    total, guessed = np.sum(energy, axis=0), np.sum(energy * share, axis=0)
    plain: Floats = np.max(share, axis=0)
    ratio: Floats = np.divide(guessed, total, where=total > 0, out=plain)
    return ratio


def _category(limits: Boundary, grid: _Grid, count: int) -> npt.NDArray[np.int16]:
    """Lowest category of the points that carry IT energy, by place and by reading interval."""
    if not limits.it:
        return np.zeros(count, np.int16)
    spacing_s = grid.interval_s(limits.it_weights)
    by_interval = np.select(
        [spacing_s <= LONGEST_INTERVAL_S[3], spacing_s <= LONGEST_INTERVAL_S[2]], [3, 2], 1
    )
    lowest: npt.NDArray[np.int16] = np.min(np.minimum(by_interval, limits.places), axis=0).astype(np.int16)
    return lowest


@dataclass(frozen=True)
class Totals:
    """Sums of a boundary's 15-minute intervals over a period."""

    facility_kwh: float = 0.0
    it_kwh: float = 0.0
    classes_kwh: Mapping[str, float] = field(default_factory=dict)
    covered_s: float = 0.0
    estimated_kwh: float = 0.0
    """Facility energy known only by estimate. [kWh]"""
    covered_s_by_category: Mapping[int, float] = field(default_factory=dict)

    @classmethod
    def of(cls, cells: SiteQuarterHours) -> Totals:
        """Sums of all the intervals."""
        covered_s = cells.coverage_ratio * QUARTER_HOUR_S
        return cls(
            float(cells.facility_kwh.sum()),
            float(cells.it_kwh.sum()),
            {name: float(column.sum()) for name, column in cells.classes_kwh.items()},
            float(covered_s.sum()),
            float((cells.estimated_ratio * cells.facility_kwh).sum()),
            {c: float(covered_s[cells.category == c].sum()) for c in (1, 2, 3)},
        )

    def category(self) -> int | None:
        """Highest category that :data:`CATEGORY_SHARE` of the covered time reaches."""
        for wanted in (3, 2, 1):
            reached = sum(s for c, s in self.covered_s_by_category.items() if c >= wanted)
            if self.covered_s > 0 and reached >= CATEGORY_SHARE * self.covered_s:
                return wanted
        return None


REASON_CODES = (
    "redefined",
    "no_it_point",
    "no_facility_point",
    "undecided",
    "waits",
    "not_covered",
    "low_coverage",
    "no_it_energy",
    "below_one",
)
"""Why no PUE is said: the definition, what waits for a person, and what is not known."""
DOUBTFUL_CODES = ("redefined", "undecided", "waits", "below_one")
"""Those for which no other ratio of the same energies is said either, though there are energies."""


@dataclass(frozen=True)
class PueDocument:
    """The PUE of a period with all that is needed to judge it."""

    site: str
    start: str
    end: str
    pue: float | None
    label: str | None
    category: int | None
    kind: str
    facility_kwh: float
    it_kwh: float
    overhead_kwh: dict[str, float]
    unmetered_kwh: float
    apart_kwh: dict[str, float]
    coverage_ratio: float
    estimated_ratio: float
    uncertainty: float | None
    verdicts: list[Verdict]
    grades: list[GradeReached] = field(default_factory=list)
    """Of the whole site; a room has none."""
    reporting_duties: list[ReportingDuty] = field(default_factory=list)
    reason: str | None = None
    reason_code: str | None = None
    """The reason in one word, for machines and other languages; one of :data:`REASON_CODES`."""
    room: str | None = None
    pending: int | None = None
    """Stretches of the period that are being computed again, because a definition changed."""
    waits_for: tuple[str, ...] = ()
    """Open findings that keep the PUE from being said, in words."""

    def as_dict(self) -> dict[str, Any]:
        """The document as JSON-ready data; what is optional only where there is any."""
        optional = ("reason", "reason_code", "room", "pending", "waits_for")
        out = {k: v for k, v in self.__dict__.items() if k not in optional or v}
        out["verdicts"] = [
            {"profile": v.profile, "limit": v.limit, "verdict": v.verdict.value, "plain": v.plain.value}
            for v in self.verdicts
        ]
        out["grades"] = [asdict(grade) for grade in self.grades]
        out["reporting_duties"] = [asdict(duty) for duty in self.reporting_duties]
        return out


def document(
    site: Site,
    period: Period,
    totals: Totals,
    *,
    institution: Institution,
    profiles: Mapping[str, LimitProfile],
    energies_kwh: Sequence[Floats],
    room: str = "",
    pending: int = 0,
    computed_percent: Mapping[str, float] | None = None,
    doubts: Sequence[Doubt] = (),
    coverage_by_point: Callable[[], Mapping[str, float]] = dict,
) -> PueDocument:
    """The PUE document of ``INTERFACE.md``.

    Parameters
    ----------
    site : Site
        Whose figures they are.
    period : Period
        The time they cover.
    totals : Totals
        Sums over the period.
    institution : Institution
        Whose site it is.
    profiles : mapping of profile id to LimitProfile
        Known limits; those that hold on the period's last day judge it.
    energies_kwh : sequence of ndarray, shape (points,)
        Energy of the points of the boundary of each of the site's segments, in the order of its points, 0
        where it is not known: the weights of their accuracy classes. [kWh]
    room : str
        Name of the room for partial PUE; empty for the whole site.
    pending : int
        Stretches of the period whose figures are still those of an earlier definition.
    computed_percent : mapping of point id to float, optional
        Accuracy classes over the period of points with a formula that state none. [%]
    doubts : sequence of Doubt
        Findings that nobody has acknowledged yet and that make figures doubtful.
    coverage_by_point : callable, optional
        Share of the period that each carrier covers, by its id; asked to name those that cover too little.

    Returns
    -------
    PueDocument
        `pue` None with a `reason` where coverage is too low or the ratio is physically impossible.
    """
    parts = boundaries(site, period, room)
    totals = _decided([b for _, b in parts], totals)
    told = doubts_within(doubts, period.start, period.end)
    waits = _Waits(pending, told, coverage_by_point)
    found = _figures(site, [b for _, b in parts], totals, period.duration_s, waits)
    pue, classes = found.pue, computed_percent or {}
    uncertainty = None if pue is None else _uncertainty(parts, pue, energies_kwh, classes)
    known, last_day = dict(profiles), period.last_day(site.zone)
    limits = limits_for(site, institution, known, last_day)
    grades = () if room else grades_reached(pue, uncertainty, site, institution, known, last_day)
    category = totals.category()
    prefix = "pPUE" if room else "PUE"
    return PueDocument(
        site=site.id,
        start=period.start.isoformat().replace("+00:00", "Z"),
        end=period.end.isoformat().replace("+00:00", "Z"),
        pue=pue,
        label=f"{prefix}{category}{_said_of_estimates(parts)}" if category else None,
        category=category,
        kind="annual" if period.is_year_long(site.zone) else "interim",
        facility_kwh=totals.facility_kwh,
        it_kwh=totals.it_kwh,
        overhead_kwh=found.overhead_kwh,
        unmetered_kwh=totals.facility_kwh - totals.it_kwh - sum(found.overhead_kwh.values()),
        apart_kwh={r.value: totals.classes_kwh.get(r.value, 0.0) for r in _APART if r is not Role.FACILITY},
        coverage_ratio=found.coverage_ratio,
        estimated_ratio=found.estimated_ratio,
        uncertainty=uncertainty,
        verdicts=[
            verdict(pue, uncertainty, found.coverage_ratio, x, site.minimum_coverage_ratio) for x in limits
        ],
        grades=list(grades),
        reporting_duties=[] if room else list(reporting_duties(site, known)),
        reason=found.reason,
        reason_code=found.code,
        room=room or None,
        pending=pending or None,
        waits_for=tuple(told),
    )


def _said_of_estimates(parts: _Sides) -> str:
    """Words after the label where a side rests on points that are estimates by their kind."""
    return " (estimated)" if any(b.rests_on_estimates for _, b in parts) else ""


def redefined(pending: int) -> str:
    """What is said of figures that an edit of the site file has made old."""
    return f"definitions changed, {pending} stretches are being recomputed"


class Doubt(NamedTuple):
    """An open finding for which figures wait, from its start to its end."""

    start: datetime
    end: datetime
    name: str
    """Meter and kind, in words."""


def doubts_within(doubts: Iterable[Doubt], start: datetime, end: datetime) -> list[str]:
    """Names of those that touch a period, each once."""
    return list(dict.fromkeys(d.name for d in doubts if d.start < end and d.end > start))


@dataclass(frozen=True, slots=True)
class PueBar:
    """The PUE of one bar of a series; `pue` None where a document would not say one."""

    start: datetime
    end: datetime
    pue: float | None
    facility_kwh: float
    it_kwh: float
    overhead_kwh: dict[str, float]
    coverage_ratio: float
    estimated_ratio: float

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {**asdict(self), "start": _text(self.start), "end": _text(self.end)}


def _text(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")


def bar(
    site: Site,
    parts: Sequence[Boundary],
    start: datetime,
    end: datetime,
    totals: Totals,
    doubts: Sequence[Doubt] = (),
) -> PueBar:
    """The PUE of one bar, by the same rules as a document."""
    totals = _decided(parts, totals)
    waits = _Waits(doubts=doubts_within(doubts, start, end))
    found = _figures(site, parts, totals, (end - start).total_seconds(), waits)
    return PueBar(
        start,
        end,
        found.pue,
        totals.facility_kwh,
        totals.it_kwh,
        found.overhead_kwh,
        found.coverage_ratio,
        found.estimated_ratio,
    )


@dataclass(frozen=True, slots=True)
class _Figures:
    """What sums over a time say: a PUE, or why none can be said."""

    pue: float | None
    reason: str | None
    code: str | None
    overhead_kwh: dict[str, float]
    coverage_ratio: float
    estimated_ratio: float


class _Reason(NamedTuple):
    """Why no PUE can be said: one of :data:`REASON_CODES`, and words for the user."""

    code: str
    text: str


@dataclass(frozen=True, slots=True)
class _Waits:
    """What keeps a figure from being said, beside the sums."""

    pending: int = 0
    doubts: Sequence[str] = ()
    coverage_by_point: Callable[[], Mapping[str, float]] = dict


def _decided(parts: Sequence[Boundary], totals: Totals) -> Totals:
    """The sums, or none where meters may count the same energy twice."""
    return Totals() if any(p.undecided for p in parts) else totals


def _figures(
    site: Site, parts: Sequence[Boundary], totals: Totals, duration_s: float, waits: _Waits
) -> _Figures:
    coverage = min(totals.covered_s / duration_s, 1.0)
    ratio = totals.facility_kwh / totals.it_kwh if totals.it_kwh > 0 else None
    least = site.minimum_coverage_ratio
    unknown = _unknown(parts, totals, coverage, ratio, least, waits.coverage_by_point)
    reason = _pending(waits.pending) or _undecided(parts) or _joined(_doubt(waits.doubts), unknown)
    return _Figures(
        ratio if reason is None else None,
        None if reason is None else reason.text,
        None if reason is None else reason.code,
        {r.value: totals.classes_kwh.get(r.value, 0.0) for r in OVERHEAD_ROLES},
        coverage,
        totals.estimated_kwh / totals.facility_kwh if totals.facility_kwh > 0 else 0.0,
    )


def _pending(stretches: int) -> _Reason | None:
    return _Reason("redefined", redefined(stretches)) if stretches else None


def _joined(first: _Reason | None, second: _Reason | None) -> _Reason | None:
    """Both reasons; the first gives the code."""
    if first is None or second is None:
        return first or second
    return _Reason(first.code, f"{first.text}; {second.text}")


def _undecided(parts: Sequence[Boundary]) -> _Reason | None:
    """Why the site file gives no PUE, whatever is measured; None where it does."""
    if not any(p.it for p in parts):
        text = f"no point measures IT energy; assign one of the roles {', '.join(IT_ROLES)}"
        return _Reason("no_it_point", text)
    if not any(p.facility or p.is_sum for p in parts):
        text = "no point has the role facility; add one or set facility_is: sum_of_classes"
        return _Reason("no_facility_point", text)
    undecided = next((p.undecided for p in parts if p.undecided), None)
    return _Reason("undecided", undecided) if undecided else None


def _unknown(
    parts: Sequence[Boundary],
    totals: Totals,
    coverage: float,
    ratio: float | None,
    minimum: float,
    coverage_by_point: Callable[[], Mapping[str, float]],
) -> _Reason | None:
    """Why the energies give no PUE; None where they do."""
    if totals.covered_s <= 0:
        least = _least_covered(parts, coverage_by_point(), 0.0)
        text = f"no reading covers facility and IT energy at the same time in this period{least}"
        return _Reason("not_covered", text)
    if is_too_low(coverage, minimum):
        least = _least_covered(parts, coverage_by_point(), minimum)
        text = f"coverage {percent(coverage)} is below the minimum of {percent(minimum)}{least}"
        return _Reason("low_coverage", text)
    if ratio is None or not math.isfinite(ratio):
        return _Reason("no_it_energy", "no IT energy was measured in this period")
    if ratio < 1:
        text = (
            f"facility energy is below IT energy (ratio {ratio:.4f}); this indicates a metering fault, "
            "see the data quality issues"
        )
        return _Reason("below_one", text)
    return None


def _least_covered(parts: Sequence[Boundary], coverage_by_point: Mapping[str, float], minimum: float) -> str:
    """The points that keep the coverage low, worst first, as the end of a sentence."""
    if not coverage_by_point:
        return ""
    low = sorted((coverage_by_point.get(p, 0.0), p) for p in frozenset().union(*(b.gating for b in parts)))
    named = [(share, p) for share, p in low if share <= 0 or is_too_low(share, minimum)] or low[:1]
    more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
    return ": " + ", ".join(f"{p} {percent(share)}" for share, p in named[:_NAMED]) + more


def _doubt(doubts: Sequence[str]) -> _Reason | None:
    """Why a figure waits for a person; None where nothing is in doubt."""
    if not doubts:
        return None
    more = f" and {len(doubts) - _NAMED} more" if len(doubts) > _NAMED else ""
    named = f"{', '.join(doubts[:_NAMED])}{more}"
    return _Reason("waits", f"waits until somebody acknowledges the findings: {named}")


_Sides = tuple[tuple[Segment, Boundary], ...]


def _uncertainty(
    parts: _Sides, pue: float, energies_kwh: Sequence[Floats], computed_percent: Mapping[str, float]
) -> float | None:
    def percent(side: str) -> float:
        return _class_percent([b.sides[side] for _, b in parts], energies_kwh, computed_percent)

    if parts[-1][1].is_sum:
        value = pue_uncertainty_of_sum(pue, percent("overhead"), percent("it"))
    else:
        value = pue_uncertainty(pue, percent("facility"), percent("it"))
    return value if math.isfinite(value) else None


def _class_percent(
    sides: Sequence[_Side], energies_kwh: Sequence[Floats], computed_percent: Mapping[str, float]
) -> float:
    """Class of a side; a meter's own energies add up as long as its class is the same."""
    found: dict[tuple[str, float], float] = {}
    for side, kwh in zip(sides, energies_kwh, strict=True):
        own, classes = kwh[side.rows] * side.weights, side.classes(computed_percent)
        if len(sides) == 1:
            return combined_class_percent(own, classes)
        for key, energy_kwh in zip(
            zip(side.points, classes.tolist(), strict=True), own.tolist(), strict=True
        ):
            found[key] = found.get(key, 0.0) + energy_kwh
    return combined_class_percent(list(found.values()), [accuracy for _, accuracy in found])
