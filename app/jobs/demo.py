"""The demo's past: months of readings through the normal ingest, the newest first.

What is loaded is remembered in the database, in the same transaction as the readings; a demo that was
stopped goes on where it was, with the same simulation.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import uvloop

from app.domain import baseline
from app.domain.baseline import Baseline
from app.domain.energy import Event, EventKind
from app.domain.measure import Boundary, Measure, Scope
from app.domain.period import Period, floor
from app.domain.pue import every_boundary
from app.domain.quantity import ReadingKind, Role
from app.domain.reading import ReadingColumns
from app.domain.site import Fleet, Site
from app.jobs import imports
from app.jobs.alarms import backfill
from app.store import baselines, conditions, deployment, events, measures, readings, sites
from app.store.engine import Connection, Engine, begin, connect
from app.store.readings import to_us
from app.store.sites import Stored
from collectors.simulated.defects import DeclaredEvent, baseline_start, history_start, lasting, retrofit
from collectors.simulated.devices import SimulatedDevices
from collectors.simulated.exports import write_late_file
from collectors.simulated.history import Simulation

CHUNK = timedelta(days=16)
_KEY = "demo"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the loading is."""

    site: str
    loaded_from: datetime
    loaded_days: float
    total_days: float


@dataclass(frozen=True, slots=True)
class DemoHistory:
    """When this demo was first started, and from when on its history is loaded, by site."""

    anchor: datetime
    loaded_from: dict[str, datetime]
    has_alarms: bool = False
    """Whether the alarms of the history are on record."""

    @classmethod
    def load_or_begin(cls, engine: Engine, now: datetime) -> DemoHistory:
        """That of the database; begun now where there is none."""
        with begin(engine) as connection:
            kept = deployment.load(connection, _KEY)
            past = cls(now, {}) if kept is None else cls._read(kept)
            past.save(connection)
        return past

    @classmethod
    def _read(cls, kept: Any) -> DemoHistory:
        loaded = {site: datetime.fromisoformat(at) for site, at in kept["loaded_from"].items()}
        return cls(datetime.fromisoformat(kept["anchor"]), loaded, kept.get("has_alarms", False))

    def save(self, connection: Connection) -> None:
        """Remember it."""
        loaded = {site: at.isoformat() for site, at in self.loaded_from.items()}
        fields = {"anchor": self.anchor.isoformat(), "loaded_from": loaded, "has_alarms": self.has_alarms}
        deployment.save(connection, _KEY, fields)

    def is_loaded(self, fleet: Fleet, days: int | None) -> bool:
        """Whether the whole history of every site is there."""
        return all(
            self.loaded_from.get(site.id, self.anchor) <= self.start_of(site, days) for site in fleet.sites
        )

    def start(self, days: int | None) -> datetime:
        """First instant of the history; `days` shortens it."""
        whole = history_start(self.anchor)
        return whole if days is None else max(whole, self.anchor - timedelta(days=days))

    def start_of(self, site: Site, days: int | None) -> datetime:
        """The same, with the year before the first measure where a site has measures."""
        if days is None and lasting(site.id, self.anchor):
            return baseline_start(self.anchor)
        return self.start(days)


MEASURES = (
    ("set-point-{year}", "冷冻水温度设定值提高 Chilled water set point raised", "change order 17", 150_000.0),
    (
        "fans-{year}",
        "空调机组更换 EC 风机 Fans of the air handlers exchanged for EC fans",
        "acceptance record 42",
        140_000.0,
    ),
)
"""Key, what was done, evidence, and the expected saving of the demo's two measures. [kWh/a]"""


def declare_measures(engine: Engine, anchor: datetime) -> None:
    """Enter the measures of the headquarters into its ledger, once."""
    done = retrofit(anchor)
    with begin(engine) as connection:
        number = sites.load(connection).site_id["sh1"]
        known = {entry.measure.key for entry in measures.listing(connection, number)}
        for (key, what, evidence, expected_kwh), at in zip(
            MEASURES, (done.set_point, done.fans), strict=True
        ):
            one = Measure.declared(
                key=key.format(year=at.year),
                what=what,
                where=Boundary(Scope.FACILITY),
                implementation_start=at.date(),
                expected_kwh_per_year=expected_kwh,
                evidence=evidence,
            )
            if one.key not in known:
                measures.add(connection, number, one, "demo")


def freeze_baseline(engine: Engine, fleet: Fleet, past: DemoHistory) -> None:
    """Freeze the plant as it was before its first measure, once its figures are known.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    imports.settle(engine)
    for site in fleet.sites:
        if lasting(site.id, past.anchor):
            with begin(engine) as connection:
                _freeze(connection, sites.load(connection), site, past.anchor)


def _freeze(connection: Connection, stored: Stored, site: Site, anchor: datetime) -> None:
    number = stored.site_id[site.id]
    if baselines.listing(connection, number):
        return
    before = Period(baseline_start(anchor), retrofit(anchor).first)
    rows = conditions.of_site(connection, stored, site, before)
    found = baseline.fit(rows)
    if isinstance(found, Baseline):
        baselines.save(connection, number, found, baseline.used_rows(rows), "demo")


def load(
    engine: Engine,
    fleet: Fleet,
    simulation: Simulation,
    past: DemoHistory,
    *,
    days: int | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    is_stopping: Callable[[], bool] = lambda: False,
) -> DemoHistory:
    """Load what of the history is not loaded yet, the newest chunk of every site first.

    Returns what is loaded now.

    Raises
    ------
    StoreUnavailable
        If the database is away; started again it goes on with the same chunk.
    """
    with connect(engine) as connection:
        stored = sites.load(connection)
    detailed = past.start(days)
    for site, first, last in _stretches(fleet, past, days):
        if is_stopping():
            return past
        if first < past.loaded_from.get(site.id, past.anchor):
            known = site if first >= detailed else _outlined(site)
            past = _load_chunk(engine, stored, known, simulation, past, first, last)
            whole = past.anchor - past.start_of(site, days)
            on_progress(Progress(site.id, first, (past.anchor - first) / _DAY, whole / _DAY))
    return past


_DAY = timedelta(days=1)


def _stretches(
    fleet: Fleet, past: DemoHistory, days: int | None
) -> Iterator[tuple[Site, datetime, datetime]]:
    """What is to be loaded: the newest of all sites first, last the years before the detailed history."""
    detailed = past.start(days)
    for first, last in _chunks(detailed, past.anchor):
        for site in fleet.sites:
            yield site, first, last
    for site in fleet.sites:
        for first, last in _chunks(past.start_of(site, days), detailed):
            yield site, first, last


def _outlined(site: Site) -> Site:
    """The site as far as its baseline needs it: what its PUE follows from, its cooling, and the weather."""
    wanted = {p for limits in every_boundary(site) for p in limits.gating}
    wanted |= {p.id for p in site.points() if p.role in _OUTLINE and p.kind is not ReadingKind.POWER}
    return replace(
        site,
        meters=tuple(replace(m, points=tuple(p for p in m.points if p.id in wanted)) for m in site.meters),
    )


_OUTLINE = (Role.COOLING, Role.OUTDOOR_DRY_BULB, Role.OUTDOOR_RELATIVE_HUMIDITY)


def record_alarms(
    engine: Engine,
    fleet: Fleet,
    past: DemoHistory,
    *,
    days: int | None = None,
    is_stopping: Callable[[], bool] = lambda: False,
) -> int | None:
    """Put the alarms of the history on record once its figures and findings are known; how many.

    None if it was stopped before the end; started again it does what is missing.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    imports.settle(engine)
    period, count = Period(floor(past.start(days)), floor(now_utc())), 0
    for site in fleet.sites:
        count += backfill.record(engine, site.id, period, is_stopping=is_stopping)
    if is_stopping():
        return None
    with begin(engine) as connection:
        replace(past, has_alarms=True).save(connection)
    return count


def _chunks(start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Stretches that cover the range, the newest first."""
    while end > start:
        first = max(end - CHUNK, start)
        yield first, end
        end = first


def _load_chunk(
    engine: Engine,
    stored: Stored,
    site: Site,
    simulation: Simulation,
    past: DemoHistory,
    first: datetime,
    last: datetime,
) -> DemoHistory:
    """One chunk with the ledger entries that fall into it, in one transaction."""
    after = replace(past, loaded_from={**past.loaded_from, site.id: first})
    with begin(engine) as connection:
        for ids, columns in simulation.history(site, first, last):
            readings.ingest(connection, _numbered(stored, ids, columns))
        for event in simulation.ledger(site):
            if first <= event.start < last:
                _declare(connection, stored, site, event)
        after.save(connection)
    return after


def _numbered(stored: Stored, ids: tuple[str, ...], columns: ReadingColumns) -> ReadingColumns:
    numbers = np.array([stored.point_id[i] for i in ids], np.int32)
    return replace(columns, point_id=numbers[columns.point_id])


def _declare(connection: Connection, stored: Stored, site: Site, event: DeclaredEvent) -> None:
    span = (to_us(event.start), to_us(event.end))
    events.add(
        connection,
        site_id=stored.site_id[site.id],
        meter_id=stored.meter_id[event.meter],
        point_ids=[stored.point_id[event.point]],
        event=Event(EventKind(event.kind), *span, event.old_value, event.new_value),
        start=event.start,
        end=event.end,
        author="demo",
        note=event.note,
    )


def fill_gap(engine: Engine, fleet: Fleet, simulation: Simulation, now: datetime) -> datetime | None:
    """Readings of the time in which the demo was not running; None where it never ran before.

    Returns the instant up to which every site has readings.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    with connect(engine) as connection:
        stored = sites.load(connection)
        newest = [at for site in fleet.sites if (at := _newest(connection, site)) is not None]
    if not newest:
        return None
    since = min(newest) + timedelta(seconds=1)
    for site in fleet.sites:
        with begin(engine) as connection:
            for ids, columns in simulation.history(site, since, now):
                readings.ingest(connection, _numbered(stored, ids, columns))
    return now


def _newest(connection: Connection, site: Site) -> datetime | None:
    return max((one.at for one in readings.latest(connection, site.id)), default=None)


def deliver_late_files(folder: Path, fleet: Fleet, simulation: Simulation) -> list[Path]:
    """Write the days whose files were delayed into the watched folders; the files."""
    late = [site for site in fleet.sites if len(simulation.late_file(site)[1])]
    return [write_late_file(folder / site.id, simulation, site) for site in late]


def now_utc() -> datetime:
    """The wall clock, in whole seconds."""
    return datetime.now(UTC).replace(microsecond=0)


@contextmanager
def running(devices: SimulatedDevices) -> Iterator[SimulatedDevices]:
    """The devices, answering in a thread of their own as long as the block lasts."""
    loop = uvloop.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="simulated devices", daemon=True)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(devices.start(), loop).result()
        yield devices
    finally:
        asyncio.run_coroutine_threadsafe(devices.close(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
