"""What the demo's meters would have said: months of readings, fast, from the same model as live values."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import cached_property

import numpy as np
import numpy.typing as npt

from app.domain.quantity import ReadingKind
from app.domain.reading import ReadingColumns
from app.domain.site import Meter, Point, Site
from app.errors import SeriesError
from collectors.simulated.defects import (
    DeclaredEvent,
    Defect,
    DefectKind,
    declared_events,
    defects,
    epoch,
    lasting,
    origin,
    upsets,
)
from collectors.simulated.meters import SimulatedMeter, channel_of
from collectors.simulated.physics import Event, Floats, Instants, Plant, instants

CHUNK = timedelta(days=32)
"""Readings are handed over in batches of about a month, to keep memory flat."""

QUARTER_HOUR = timedelta(minutes=15)


class Simulation:
    """The demo, first loaded at `anchor`: its plants, its meters, its history.

    Two simulations of the same anchor agree exactly, so a demo that is started again goes on where
    it stopped if it remembers its anchor.

    Parameters
    ----------
    anchor : datetime
        The instant from which the dates of defects count back.
    extra : dict of str to sequence of Event
        Upsets added on demand, by site.

    Raises
    ------
    SeriesError
        If the anchor is naive.
    """

    def __init__(self, anchor: datetime, extra: dict[str, tuple[Event, ...]] | None = None) -> None:
        self.anchor = anchor
        self._begin = epoch(anchor)
        self._extra = extra or {}
        self._plants: dict[str, Plant] = {}

    @cached_property
    def defects(self) -> tuple[Defect, ...]:
        """Everything that goes wrong with the meters."""
        return defects(self.anchor)

    def with_event(self, site: str, event: Event) -> Simulation:
        """The same simulation with one more upset; nothing before its start changes."""
        return Simulation(self.anchor, {**self._extra, site: (*self._extra.get(site, ()), event)})

    def plant(self, site: str) -> Plant:
        """The physical model of a site."""
        if site not in self._plants:
            own = (*upsets(site, self.anchor), *lasting(site, self.anchor))
            events = (*own, *self._extra.get(site, ()))
            self._plants[site] = Plant(site, self._begin, events, origin(self.anchor))
        return self._plants[site]

    def meter(self, site: str, meter: Meter) -> SimulatedMeter:
        """A meter of the site on its plant."""
        return SimulatedMeter(self.plant(site), meter, self.defects)

    def history(
        self, site: Site, start: datetime, end: datetime, step: timedelta = QUARTER_HOUR
    ) -> Iterator[tuple[tuple[str, ...], ReadingColumns]]:
        """Readings of every point of a site, month by month, defects included, late files left out.

        Parameters
        ----------
        site : Site
            Ids of its meters name the signals of the model.
        start, end : datetime
            Half-open; readings fall on multiples of `step` in UTC.
        step : timedelta
            Distance of readings; a point that is read more rarely keeps its own interval.

        Yields
        ------
        tuple of str, ReadingColumns
            Point ids, and readings in house units whose ``point_id`` indexes into them.

        Raises
        ------
        SeriesError
            If the range begins before the simulation, or `step` is not a whole number of seconds.
        """
        _refuse_fractions(step)
        ids = tuple(p.id for p in site.points())
        for first, last in _chunks(start, end):
            yield ids, ReadingColumns.concat(list(self._parts(site, first, last, step, late=False)))

    def late_file(self, site: Site) -> tuple[tuple[str, ...], ReadingColumns]:
        """The readings that `history` left out because their file comes late."""
        ids = tuple(p.id for p in site.points())
        late = [d for d in self.defects if d.kind is DefectKind.LATE_FILE]
        if not late:
            return ids, ReadingColumns.concat([])
        first, last = min(d.start for d in late), max(d.end for d in late) + timedelta(seconds=1)
        return ids, ReadingColumns.concat(list(self._parts(site, first, last, QUARTER_HOUR, late=True)))

    def ledger(self, site: Site) -> tuple[DeclaredEvent, ...]:
        """What the staff of a site declared, oldest first, with the readings they took."""
        meters = {m.id: m for m in site.meters}
        events = [e for e in declared_events(self.anchor) if e.meter in meters]
        return tuple(self._with_readings(site.id, meters[e.meter], e) for e in events)

    def _with_readings(self, site: str, meter: Meter, event: DeclaredEvent) -> DeclaredEvent:
        if event.kind != DefectKind.REPLACED:
            return event
        register = self.meter(site, meter)
        just_before = event.start - timedelta(microseconds=1)
        return dataclasses.replace(
            event,
            old_value=register.value("energy_import_kwh", just_before),
            new_value=register.value("energy_import_kwh", event.start),
        )

    def _parts(
        self, site: Site, start: datetime, end: datetime, step: timedelta, *, late: bool
    ) -> Iterator[ReadingColumns]:
        index = 0
        for meter in site.meters:
            simulated = self.meter(site.id, meter)
            own = [d for d in self.defects if d.meter == meter.id]
            for point in meter.points:
                slots = _slots(start, end, max(step, _own_interval(point)))
                chosen = slots[_is_late(slots, own) == late]
                yield _readings(simulated, point, index, chosen, own)
                index += 1


def _own_interval(point: Point) -> timedelta:
    return timedelta(seconds=point.interval_s)


def _refuse_fractions(step: timedelta) -> None:
    if step <= timedelta(0) or step % timedelta(seconds=1):
        raise SeriesError(f"step {step}; allowed are whole seconds above 0")


def _chunks(start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
    while start < end:
        upto = min(start + CHUNK, end)
        yield start, upto
        start = upto


def _slots(start: datetime, end: datetime, step: timedelta) -> Instants:
    """Multiples of `step` in the half-open range."""
    step_us = step // timedelta(microseconds=1)
    first, last = instants([start, end]).astype(np.int64)
    begin = -(-first // step_us) * step_us
    return np.arange(begin, last, step_us, dtype=np.int64).view("datetime64[us]")


def _is_late(slots: Instants, own: list[Defect]) -> npt.NDArray[np.bool_]:
    """Readings of intervals that end within a day whose file comes late."""
    late = np.zeros(len(slots), dtype=bool)
    for defect in own:
        if defect.kind is DefectKind.LATE_FILE:
            start, end = instants([defect.start, defect.end])
            late |= (slots > start) & (slots <= end)
    return late


def _readings(
    meter: SimulatedMeter, point: Point, index: int, slots: Instants, own: list[Defect]
) -> ReadingColumns:
    values = _values(meter, point, slots)
    answered = ~np.isnan(values)
    n = int(answered.sum())
    stated = point.interval_s if _states_interval(point) else 0
    return ReadingColumns(
        np.full(n, index, np.int32),
        _stamps(slots, own)[answered],
        values[answered],
        np.full(n, stated, np.int32),
        np.full(n, stated, np.int32),
    )


def _states_interval(point: Point) -> bool:
    return point.kind in (ReadingKind.INTERVAL_ENERGY, ReadingKind.INTERVAL_MEAN_POWER)


def _values(meter: SimulatedMeter, point: Point, slots: Instants) -> Floats:
    if not _states_interval(point):
        return meter.read(channel_of(point), slots)
    energy_kwh = meter.energy(slots - np.timedelta64(point.interval_s, "s"), slots)
    if point.kind is ReadingKind.INTERVAL_MEAN_POWER:
        return np.round(energy_kwh * 3600 / point.interval_s, 3)
    return np.round(energy_kwh, 3)


def _stamps(slots: Instants, own: list[Defect]) -> npt.NDArray[np.int64]:
    """Times the source writes: a drifting clock runs ahead, by whole seconds."""
    at_us = slots.astype(np.int64)
    for defect in own:
        if defect.kind is DefectKind.CLOCK_DRIFT:
            start, end = (int(i) for i in instants([defect.start, defect.end]).astype(np.int64))
            ahead_s = np.floor(defect.amount * (at_us - start) / (end - start)).astype(np.int64)
            inside = (at_us >= start) & (at_us < end)
            at_us = np.where(inside, at_us + ahead_s * 1_000_000, at_us)
    return at_us
