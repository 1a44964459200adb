"""Look for what is wrong with the readings of meters that changed.

After an import, or once a day, a meter's whole history is looked at; after live readings only what is new,
for the kinds of findings that a stretch of time can show by itself. Most of what is new is plain
(:mod:`app.domain.quality.plain`), which is seen for hundreds of meters at once; the rest is looked at with
as much around it as it takes to find what a look at the whole history would.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum
from itertools import pairwise

import numpy as np

from app.domain.energy import Series
from app.domain.likely import HISTORY
from app.domain.period import Period
from app.domain.quality.detect import meter_findings, negative_remainders
from app.domain.quality.finding import Bools, Finding, FindingKind, Ints, finite
from app.domain.quality.plain import margin_s, plain
from app.domain.quality.registers import cross_talk
from app.domain.quality.units import KEPT, unit_changes
from app.domain.quality.values import conflicting_duplicates
from app.domain.quantity import ENERGY_KINDS, ReadingKind
from app.domain.reading import LATEST, OLDEST, ReadingColumns
from app.domain.site import Fleet, Meter, Point, Site
from app.errors import SeriesError, StoreUnavailable
from app.store import events, outlook, reading_windows, readings, sites
from app.store import findings as store
from app.store.engine import Connection, Engine, begin, connect, glance
from app.store.findings import Look, Scope
from app.store.fleet_cache import FleetCache
from app.store.readings import to_us
from app.store.retention import raw_horizon
from app.store.sites import Stored

LIVE = timedelta(days=2)
"""A change longer than this is an import: the whole history is looked at."""
CONTEXT = timedelta(days=2)
"""Readings around a change that are looked at first; more where a finding reaches further."""
EDGE = timedelta(hours=2)
"""A finding that comes so near to the edge of what is looked at may go on beyond it."""
CONTEXT_READINGS = 16
"""At least so many on each side, however far away."""
AT_ONCE = 250
"""Meters of which it is seen together whether what is new is plain."""
TOGETHER = 100
"""Meters whose histories may be read together ..."""
TOGETHER_READINGS = 250_000
"""... as long as they have no more readings than this, which bounds the memory."""
SLICE_READINGS = 1_000_000
"""A history of more readings than this is looked at in parts, which bounds the memory."""
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
"""Kinds that a stretch of time shows by itself."""
SITE_KINDS = (
    FindingKind.NEGATIVE_REMAINDER,
    FindingKind.IT_MISSING,
    FindingKind.RATIO_CHANGED,
    FindingKind.IT_ABOVE_FACILITY,
    FindingKind.SAME_ENERGY,
    FindingKind.IMPORT_FAILED,
)
"""Kinds that no meter shows by itself: meters of a site only together, or a watched folder."""
RULES = (FindingKind.EXPORTING, FindingKind.REVERSED)
"""Kinds that only a look at the whole history shows, and that explain power below zero from then on."""
METER_KINDS = tuple(k for k in FindingKind if k not in SITE_KINDS)
BALANCE_DAYS = 30
JUST_NOW = HISTORY + KEPT
"""So many readings after a change of unit the whole history is asked about it."""


class Part(Enum):
    """Which of the waiting meters are looked at."""

    LIVE = (True,)
    """Those of which little changed."""
    HISTORY = (False,)
    """Those of which an import or an edit changed much: each takes a look at its whole history."""
    ALL = (True, False)


_NOTHING_READ: Mapping[int, Series] = {}
_NO_READINGS = Series(
    np.empty(0, np.int64), np.empty(0, np.float64), np.empty(0, np.int32), np.empty(0, np.int32)
)
_EVER = Period(OLDEST - timedelta(days=1), LATEST)


def _never() -> bool:
    return False


def run(
    engine: Engine,
    part: Part = Part.ALL,
    should_stop: Callable[[], bool] = _never,
    fleet: FleetCache | None = None,
    *,
    whole: bool = False,
) -> int:
    """Look at the queued meters; what a rollup adds meanwhile stays in the queue.

    A meter at which this fails stays in the queue, and does not keep the others from being looked at.

    Parameters
    ----------
    engine : Engine
    part : Part
        Live changes, those of history, or both.
    should_stop : callable
        Asked between meters; what is not looked at then stays in the queue.
    fleet : FleetCache, optional
        The caller's, so that the fleet is not read at every call.
    whole : bool
        Whether meters with anything odd are looked at over all of their history, as once a day: some causes
        show only there.

    Returns
    -------
    int
        How many were looked at.

    Raises
    ------
    StoreUnavailable
        If the database is away; what is not looked at stays in the queue.
    ExceptionGroup
        What failed, by meter, after all others were looked at.
    """
    with glance(engine) as connection:
        waiting = store.queued_lengths(connection, LIVE)
        lengths = [is_short for is_short in part.value if is_short in waiting]
        if not lengths:
            return 0
        pass_ = _Pass(engine, (fleet or FleetCache()).current(connection), should_stop, whole=whole)
    for is_short in lengths:
        pass_.work_off(is_short=is_short)
    if pass_.failed:
        raise ExceptionGroup("meters that could not be looked at", pass_.failed)
    return pass_.looked


class _Pass:
    """One walk along the queue, with the fleet as it was at its beginning."""

    def __init__(
        self, engine: Engine, stored: Stored, should_stop: Callable[[], bool], *, whole: bool = False
    ) -> None:
        self._engine, self._stored, self._should_stop, self._whole = engine, stored, should_stop, whole
        self._names = stored.meter_key
        self.looked = 0
        self.failed: list[Exception] = []

    def work_off(self, *, is_short: bool) -> None:
        after: int | None = 0
        while after is not None and not self._should_stop():
            after = self._some(after, is_short=is_short)

    def look_at_everything(self) -> None:
        everything = [Look(number, OLDEST, LATEST) for number in self._names]
        for begin_place in range(0, len(everything), TOGETHER):
            for looks, histories in self._together(everything[begin_place : begin_place + TOGETHER]):
                for look in looks:
                    if not self._should_stop():
                        self._with_care(look, histories)

    def _some(self, after: int, *, is_short: bool) -> int | None:
        """Look at the next meters; the number to go on after."""
        most = AT_ONCE if is_short else TOGETHER
        with begin(self._engine) as connection:
            taken = store.take(connection, after=after, most=most, longest=LIVE, is_short=is_short)
            known = [look for look in taken.looks if look.meter_id in self._names]
            odd = self._odd(connection, known) if is_short else known
            store.done(connection, [look for look in taken.looks if look not in odd])
        self.looked += len(taken.looks) - len(odd)
        is_long = self._whole or not is_short
        for looks, histories in self._together(odd) if is_long else ((odd, {}),):
            for look in looks:
                if not self._should_stop():
                    self._with_care(look, histories)
        return taken.last

    def _together(self, looks: Sequence[Look]) -> Iterator[tuple[Sequence[Look], dict[int, Series]]]:
        """Looks with the histories of their points, as many at once as fit into memory.

        The histories are read after the looks were taken: what comes later takes another look.
        """
        if not looks:
            return
        with connect(self._engine) as connection:
            points = {look.meter_id: _points(self._stored, self._names[look.meter_id]) for look in looks}
            every = sorted({n for own in points.values() for n in own})
            spans = readings.known_spans(connection, every)
            counts = readings.counts(connection, every, most=SLICE_READINGS + 1)
        sizes = [sum(counts.get(n, 0) for n in points[look.meter_id]) for look in looks]
        for some in _groups(sizes, TOGETHER_READINGS):
            if self._should_stop():
                return
            chosen = [looks[place] for place in some]
            fitting = [looks[place].meter_id for place in some if sizes[place] <= SLICE_READINGS]
            numbers = [n for meter_id in fitting for n in points[meter_id] if n in spans]
            with connect(self._engine) as connection:
                histories = _histories(connection, numbers, spans)
            yield chosen, histories

    def _odd(self, connection: Connection, looks: Sequence[Look]) -> list[Look]:
        plain_meters = plain_of(connection, self._stored, [(self._names[k.meter_id], k) for k in looks])
        return [look for look, is_plain in zip(looks, plain_meters, strict=True) if not is_plain]

    def _with_care(self, look: Look, histories: Mapping[int, Series] = _NOTHING_READ) -> None:
        """Look at one meter in a transaction of its own."""
        try:
            with begin(self._engine) as connection:
                if store.lock(connection, look.meter_id):
                    change = None if self._whole else look
                    look_at(connection, self._stored, self._names[look.meter_id], change, histories)
                    store.done(connection, [look])
                    self.looked += 1
        except StoreUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - raised by `run`, with whatever else failed
            error.add_note(f"at meter number {look.meter_id}")
            self.failed.append(error)


def _points(stored: Stored, meter_id: str) -> list[int]:
    """Numbers of all the points that a meter has or had."""
    places = _places(stored.fleet, meter_id)
    return sorted({stored.point_id[point.id] for _, meter in places for point in meter.points})


def _groups(sizes: Sequence[int], most: int) -> Iterator[list[int]]:
    """Places in order, in groups that together are not larger than `most`; at least one in each."""
    group: list[int] = []
    for place, size in enumerate(sizes):
        if group and sum(sizes[other] for other in group) + size > most:
            yield group
            group = []
        group.append(place)
    yield group


def _histories(connection: Connection, numbers: list[int], spans: Mapping[int, Period]) -> dict[int, Series]:
    """All readings of some points."""
    if not numbers:
        return {}
    start_us = np.array([to_us(spans[n].start) for n in numbers], np.int64)
    end_us = np.array([to_us(spans[n].end) for n in numbers], np.int64)
    columns = reading_windows.within(connection, numbers, start_us, end_us).by_point()
    first = np.searchsorted(columns.point_id, np.arange(len(numbers) + 1)).tolist()
    rows = (np.arange(begin, end) for begin, end in pairwise(first))
    return {n: _series(columns.take(some)) for n, some in zip(numbers, rows, strict=True)}


# -- what is plain -----------------------------------------------------------------------------------


def plain_of(connection: Connection, stored: Stored, looks: Sequence[tuple[str, Look]]) -> list[bool]:
    """Whether what is new of each meter is plain: no finding of :data:`LOCAL_KINDS` begins or changes."""
    constant = [_constant(stored.fleet, name, look) for name, look in looks]
    changing = {place for place, meter in enumerate(constant) if meter is None}
    rows = [
        (place, stored.point_id[p.id], stored.fleet.meter[looks[place][0]][0].effective(meter, p), look)
        for place, ((_, look), meter) in enumerate(zip(looks, constant, strict=True))
        if meter is not None
        for p in meter.points
    ]
    if not rows:
        return [place not in changing for place in range(len(looks))]
    margins = [timedelta(seconds=margin_s(point)) for _, _, point, _ in rows]
    numbers = [number for _, number, _, _ in rows]
    starts = [look.start - margin for (*_, look), margin in zip(rows, margins, strict=True)]
    ends = [look.end + margin for (*_, look), margin in zip(rows, margins, strict=True)]
    columns = readings.load_many(connection, numbers, starts, ends)
    new_from_us = np.array([to_us(look.start) for *_, look in rows], np.int64)
    is_start = _is_start(connection, numbers, columns, new_from_us)
    is_plain = plain([point for _, _, point, _ in rows], columns, new_from_us, is_start)
    busy = _busy(connection, numbers, min(starts), max(ends))
    odd = {rows[n][0] for n in range(len(rows)) if not is_plain[n] or numbers[n] in busy}
    return [place not in odd | changing for place in range(len(looks))]


def _is_start(
    connection: Connection, numbers: list[int], columns: ReadingColumns, new_from_us: Ints
) -> Bools:
    """Points of which nothing is stored before what was loaded; only those with hardly anything are asked."""
    known = columns.at_us < new_from_us[columns.point_id]
    few = np.flatnonzero(np.bincount(columns.point_id[known], minlength=len(numbers)) < 2)
    first_us = np.full(len(numbers), to_us(LATEST))
    np.minimum.at(first_us, columns.point_id, columns.at_us)
    asked = few[first_us[few] < to_us(LATEST)]
    is_start = np.zeros(len(numbers), np.bool_)
    is_start[asked] = readings.are_first(connection, [numbers[n] for n in asked.tolist()], first_us[asked])
    return is_start


def _constant(fleet: Fleet, meter_id: str, look: Look) -> Meter | None:
    """The meter as it is all through a look and what is near it; None where it changes."""
    meter = fleet.meter[meter_id][1]
    if not meter.is_dated:
        return meter
    near = Period(look.start - CONTEXT, look.end + CONTEXT)
    parts = list(meter.segments(near))
    return parts[0][1] if len(parts) == 1 and parts[0][0] == near else None


def _busy(connection: Connection, numbers: list[int], start: datetime, end: datetime) -> set[int]:
    """Points of which something is known that plain readings do not show."""
    near = Period(start - CONTEXT, end + CONTEXT)
    return store.not_plain(connection, numbers, LOCAL_KINDS, near, Period(start, end))


# -- with care ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Loaded:
    """Readings of one point around a stretch."""

    series: Series
    span: Period
    """The stretch itself; more readings stand before and after it."""
    is_start: bool
    """Nothing of the point is stored before them."""
    is_end: bool
    """Nothing is stored after them."""

    def cuts(self, finding: Finding) -> bool:
        """Whether more readings could move the borders of a finding."""
        at_start = finding.start < self.span.start + EDGE
        at_end = finding.end > self.span.end - EDGE
        return (at_start and not self.is_start) or (at_end and not self.is_end)


def look_at(
    connection: Connection,
    stored: Stored,
    meter_id: str,
    look: Look | None = None,
    histories: Mapping[int, Series] = _NOTHING_READ,
) -> None:
    """Look at one meter: around a change, or, without one, at all of its history.

    `histories` may hold all readings of points, by number; the others are read here.
    """
    for site, meter in _places(stored.fleet, meter_id):
        is_live = look is not None and look.end - look.start <= LIVE
        if look is None or not is_live or _look_around(connection, stored, site, meter, look):
            _look_at_history(connection, stored, site, meter, histories)


def _places(fleet: Fleet, meter_id: str) -> Iterator[tuple[Site, Meter]]:
    """Sites in which a meter stands or stood, with all the points that it has or had there."""
    for site_id, declared in fleet.declared[meter_id].items():
        points = {p.id: p for m in declared for p in m.points}
        yield fleet.site[site_id], replace(declared[-1], points=tuple(points.values()))


def _look_at_history(
    connection: Connection, stored: Stored, site: Site, meter: Meter, histories: Mapping[int, Series]
) -> None:
    """Look at everything; where it is too much for the memory, in parts, and again where those meet."""
    numbers = {p.id: stored.point_id[p.id] for p in meter.points}
    is_read = any(n in histories for n in numbers.values())
    slices = [_EVER] if is_read else list(_slices(connection, stored, meter))
    for span in slices:
        loaded = {
            key: _Loaded(histories.get(n, _NO_READINGS), span, is_start=True, is_end=True)
            if is_read
            else _load(connection, n, span, 0)
            for key, n in numbers.items()
        }
        found = _of_meter(connection, stored, site, meter, loaded, span)
        _keep(connection, stored, site, meter, METER_KINDS, span, found)
    for span in slices[1:]:
        _look_around(connection, stored, site, meter, Look(stored.meter_id[meter.id], span.start, span.start))


def _slices(connection: Connection, stored: Stored, meter: Meter) -> Iterator[Period]:
    """The time of a meter's history, in parts of so many readings as fit into memory."""
    numbers = [stored.point_id[p.id] for p in meter.points]
    known = readings.known_span(connection, numbers)
    count = max(readings.counts(connection, numbers).values(), default=1)
    cuts = [_EVER.start]
    step = timedelta() if known is None else (known.end - known.start) * SLICE_READINGS / count
    while known is not None and known.end - max(cuts[-1], known.start) > step:
        cuts.append(max(cuts[-1], known.start) + step)
    for start, end in zip(cuts, [*cuts[1:], LATEST], strict=True):
        yield Period(start, end)


def _look_around(connection: Connection, stored: Stored, site: Site, meter: Meter, look: Look) -> bool:
    """Find what a look at the whole history would find near a change, with as few readings as that takes.

    Returns
    -------
    bool
        Whether only the whole history tells what it is: the unit may have changed just now.
    """
    numbers = {p.id: stored.point_id[p.id] for p in meter.points}
    points = [site.effective(meter, p) for p in meter.read_points if p.kind in ENERGY_KINDS]
    core = _with_standing(connection, list(numbers.values()), look)
    margin = CONTEXT / 2
    while True:
        window = Period(core.start - margin, core.end + margin)
        loaded = {key: _load(connection, n, window, CONTEXT_READINGS) for key, n in numbers.items()}
        found = [
            f
            for f in _of_meter(connection, stored, site, meter, loaded, window, is_whole=False)
            if f.kind in LOCAL_KINDS
        ]
        near = [f for f in found if f.end >= core.start and f.start < core.end]
        if any(loaded[f.point].cuts(f) for f in near):
            margin *= 4
            continue
        wider = Period(min([core.start, *(f.start for f in near)]), core.end)
        if wider == core:
            _keep(connection, stored, site, meter, LOCAL_KINDS, core, found)
            return any(_may_change_unit(connection, numbers[p.id], p, loaded[p.id].series) for p in points)
        core = wider


def _may_change_unit(connection: Connection, number: int, point: Point, series: Series) -> bool:
    """Whether the unit changed a few readings ago, and no finding says so yet."""
    series = finite(series)
    since_us = int(series.at_us[-JUST_NOW]) if len(series) >= JUST_NOW else 0
    starts = [f.start for f in unit_changes(point, series) if to_us(f.start) > since_us]
    kinds = (FindingKind.UNIT_CHANGED,)
    return any(not store.standing(connection, [number], kinds, start, start) for start in starts)


def _with_standing(connection: Connection, numbers: list[int], look: Look) -> Period:
    """The time around a change, with the findings that reach into it."""
    start, end = look.start - CONTEXT / 2, look.end + CONTEXT / 2
    near = store.standing(connection, numbers, LOCAL_KINDS, start, end)
    return Period(min([start, *(s for _, s, _ in near)]), max([end, *(e for *_, e in near)]))


def _load(connection: Connection, number: int, span: Period, beside: int) -> _Loaded:
    """Readings of a stretch, with so many before and after it."""
    columns = readings.around(connection, number, span.start, span.end, beside, beside)
    before = int((columns.at_us < to_us(span.start)).sum())
    after = int((columns.at_us >= to_us(span.end)).sum())
    return _Loaded(_series(columns), span, before < beside, after < beside)


def _keep(
    connection: Connection,
    stored: Stored,
    site: Site,
    meter: Meter,
    kinds: Iterable[FindingKind],
    span: Period,
    found: list[Finding],
) -> None:
    """Store what was found in a stretch; not before the readings that retention left."""
    numbers = {p.id: stored.point_id[p.id] for p in meter.points}
    start = max(span.start, raw_horizon(connection) or span.start)
    scope = Scope(stored.site_id[site.id], list(numbers.values()), tuple(kinds), start, span.end)
    store.replace(connection, scope, [f for f in found if f.kind in scope.kinds], numbers)


def _of_meter(
    connection: Connection,
    stored: Stored,
    site: Site,
    meter: Meter,
    loaded: dict[str, _Loaded],
    span: Period,
    *,
    is_whole: bool = True,
) -> list[Finding]:
    series = {key: one.series for key, one in loaded.items() if len(one.series)}
    if not meter.is_dated:
        return _of_constant(connection, stored, site, meter, series, span, is_whole=is_whole)
    found: list[Finding] = []
    for declared in (m for m in site.meters if m.id == meter.id):
        for part, constant in declared.segments(Period(OLDEST - timedelta(days=1), LATEST)):
            if part.start < span.end and part.end > span.start:
                shared = Period(max(part.start, span.start), min(part.end, span.end))
                own = {p.id: _within(series[p.id], part) for p in constant.points if p.id in series}
                own = {key: one for key, one in own.items() if len(one)}
                found += _of_constant(connection, stored, site, constant, own, shared, is_whole=is_whole)
    return found


def _within(series: Series, part: Period) -> Series:
    first, last = np.searchsorted(series.at_us, [to_us(part.start), to_us(part.end)])
    return series.take(slice(int(first), int(last)))


def _of_constant(
    connection: Connection,
    stored: Stored,
    site: Site,
    meter: Meter,
    series: dict[str, Series],
    span: Period,
    *,
    is_whole: bool,
) -> list[Finding]:
    """Findings of a constant meter."""
    effective = replace(meter, points=tuple(site.effective(meter, p) for p in meter.points))
    numbers = {stored.point_id[p.id]: p.id for p in meter.points}
    declared = {numbers[n]: e for n, e in events.in_force(connection, list(numbers)).items()}
    found = meter_findings(effective, series, declared, is_whole=is_whole)
    if not is_whole:
        found = _unexplained(connection, numbers, found)
    for point_id in sorted({f.point for f in found if f.kind is FindingKind.CROSS_TALK}):
        found = [f for f in found if (f.kind, f.point) != (FindingKind.CROSS_TALK, point_id)]
        others = _other_registers(connection, stored, site, point_id, span)
        point = next(p for p in effective.points if p.id == point_id)
        found += cross_talk(point, series[point_id], others)
    return found + _conflicts(connection, stored, meter, span)


def _unexplained(connection: Connection, numbers: dict[int, str], found: list[Finding]) -> list[Finding]:
    """Without what a look at the whole history explained: power below zero as a rule, a changed unit."""
    ruled = store.standing(connection, list(numbers), RULES, OLDEST, LATEST)
    points = {numbers[number] for number, *_ in ruled}
    held = {numbers[number]: events for number, events in store.withheld(connection, list(numbers)).items()}
    return [
        f
        for f in found
        if not (f.kind is FindingKind.NEGATIVE_POWER and f.point in points)
        and not any(e.start_us <= to_us(f.end) and to_us(f.start) <= e.end_us for e in held.get(f.point, ()))
    ]


def _series(columns: ReadingColumns) -> Series:
    return Series(columns.at_us, columns.value, columns.interval_s, columns.valid_s)


def _other_registers(
    connection: Connection, stored: Stored, site: Site, point_id: str, span: Period
) -> dict[str, Series]:
    registers = [p.id for p in site.points() if p.kind is ReadingKind.REGISTER and p.id != point_id]
    return {
        key: _series(readings.load(connection, stored.point_id[key], span.start, span.end))
        for key in registers
    }


def _conflicts(connection: Connection, stored: Stored, meter: Meter, span: Period) -> list[Finding]:
    found: list[Finding] = []
    for point in meter.points:
        rows = store.conflicts(connection, stored.point_id[point.id], span.start, span.end)
        if rows:
            at_us, kept, offered = (np.array(column) for column in zip(*rows, strict=True))
            found += conflicting_duplicates(point, at_us.astype(np.int64), kept, offered)
    return found


def look_at_everything(engine: Engine, should_stop: Callable[[], bool] = _never) -> int:
    """Look at the whole history of every meter, as once a day; how many there were.

    Parameters
    ----------
    engine : Engine
    should_stop : callable
        Asked between meters; the rest waits for the next day.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    ExceptionGroup
        What failed, by meter, after all others were looked at.
    """
    with connect(engine) as connection:
        stored = sites.load(connection)
    pass_ = _Pass(engine, stored, should_stop)
    pass_.look_at_everything()
    if pass_.failed:
        raise ExceptionGroup("meters that could not be looked at", pass_.failed)
    return pass_.looked


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
            found = of_tree(connection, stored, site, span)
            scope = Scope(
                stored.site_id[site.id], [0], [FindingKind.NEGATIVE_REMAINDER], span.start, span.end
            )
            store.replace(connection, scope, found, {})
            breaches += len(found)
    return breaches


def of_tree(connection: Connection, stored: Stored, site: Site, span: Period) -> list[Finding]:
    """Feeds of a site whose children take more than they get."""
    try:
        found = outlook.balance(connection, stored, site, span)
    except SeriesError:  # nothing is known of these days, which other findings say
        return []
    return negative_remainders(found.feeds, span.start, span.end)
