"""Institutions, sites, meters and points: what the configuration declares, kept in the database.

The site file is synchronised at start; from then on the database is what everything else reads. A
definition is stored without the values that equal their defaults.

A meter has one row, with the site it stands in last; where it stood before is kept with the definition of
that site. Its points keep their numbers, so their readings and energies stay where they are.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import sqlalchemy as sa
from psycopg.types.json import Jsonb
from pydantic import TypeAdapter

from app.domain.formulas import Formulas
from app.domain.incoming import Intake, intake
from app.domain.pue import Boundary, Ints, boundary, counted_points
from app.domain.quantity import ESTIMATE_KINDS
from app.domain.site import (
    ALWAYS,
    Declared,
    Direction,
    Falls,
    Fleet,
    Institution,
    InstitutionClass,
    Meter,
    Placement,
    Point,
    Sampling,
    Site,
)
from app.domain.timeline import Stretch, of_point
from app.errors import ConfigError
from app.garbage import unsearched
from app.store import declarations, locks, site_moves, site_sources, tables
from app.store.engine import driver, store_errors
from app.store.point_merge import merge_points
from app.store.site_moves import Move
from app.store.site_sources import Scope

_WRITTEN_AT_ONCE = 5000
_AT = sa.DateTime(timezone=True)
_SITE, _METER, _POINT = TypeAdapter(Site), TypeAdapter(Meter), TypeAdapter(Point)


@dataclass(frozen=True)
class Stored:
    """The fleet as the database has it, with the numbers of its parts."""

    fleet: Fleet
    site_id: Mapping[str, int] = field(default_factory=dict)
    meter_id: Mapping[str, int] = field(default_factory=dict)
    point_id: Mapping[str, int] = field(default_factory=dict)
    moved: Mapping[str, Move] = field(default_factory=dict)
    """Sites that are another cell's now, by id."""
    moved_points: Mapping[str, str] = field(default_factory=dict)
    """Sites of the points that are another cell's now."""

    @cached_property
    def moved_ids(self) -> frozenset[int]:
        """Numbers of the sites that are another cell's now."""
        return frozenset(move.site_id for move in self.moved.values())

    @cached_property
    def point_key(self) -> dict[int, str]:
        """Point key by number."""
        return {number: key for key, number in self.point_id.items()}

    @cached_property
    def meter_key(self) -> dict[int, str]:
        """Meter key by number."""
        return {number: key for key, number in self.meter_id.items()}

    @cached_property
    def site_key(self) -> dict[int, str]:
        """Site key by number."""
        return {number: key for key, number in self.site_id.items()}

    @cached_property
    def _measured(self) -> dict[int, tuple[Site, Point]]:
        return {}

    @cached_property
    def _boundaries(self) -> dict[tuple[str, str], Boundary]:
        return {}

    def measured(self, point_id: int) -> tuple[Site, Point] | None:
        """The site of a point and what its readings mean; None where no such point is declared."""
        if point_id not in self._measured:
            key = self.point_key.get(point_id)
            if key is None:
                return None
            site, meter, point = self.fleet.point[key]
            self._measured[point_id] = site, site.effective(meter, point)
        return self._measured[point_id]

    @cached_property
    def intake(self) -> Intake:
        """How the readings of all points are taken in."""
        return intake(point for _, _, point in self.fleet.point.values())

    @cached_property
    def intake_rows(self) -> dict[str, tuple[int, int, int]]:
        """Row of each point in :attr:`intake`, with its number and that of its site."""
        return {
            key: (row, self.point_id[key], self.site_id[site.id])
            for row, (key, (site, _, _)) in enumerate(self.fleet.point.items())
        }

    @cached_property
    def formulas(self) -> Formulas:
        """Points that are computed from others."""
        return Formulas(self.fleet)

    @cached_property
    def _numbers(self) -> dict[str, tuple[int, ...]]:
        return {}

    def numbers_of(self, site: Site) -> tuple[int, ...]:
        """Numbers of all points of a site of the fleet."""
        if site.id not in self._numbers:
            self._numbers[site.id] = tuple(self.point_id[p.id] for p in site.points())
        return self._numbers[site.id]

    @cached_property
    def _numbers_within(self) -> dict[int, tuple[Boundary, Ints]]:
        return {}

    def numbers_within(self, limits: Boundary) -> Ints:
        """Numbers of the points of a boundary of the fleet, in the order of its points."""
        if id(limits) not in self._numbers_within:
            numbers = np.array([self.point_id[p.id] for p in limits.points()], np.int64)
            self._numbers_within[id(limits)] = limits, numbers
        return self._numbers_within[id(limits)][1]

    @cached_property
    def _timelines(self) -> dict[int, tuple[Stretch, ...]]:
        return {}

    @cached_property
    def _counted(self) -> dict[tuple[str, str], tuple[Point, ...]]:
        return {}

    def timeline(self, point_id: int) -> tuple[Stretch, ...]:
        """When a declared point is there, and what its readings mean then."""
        if point_id not in self._timelines:
            self._timelines[point_id] = of_point(self.fleet, self.point_key[point_id])
        return self._timelines[point_id]

    def counted(self, site: Site, room: str) -> tuple[Point, ...]:
        """Points that count for a site (`room` empty) or one of its rooms at some time."""
        if (site.id, room) not in self._counted:
            self._counted[site.id, room] = counted_points(site, room)
        return self._counted[site.id, room]

    @cached_property
    def _summed(self) -> dict[str, Ints]:
        return {}

    def summed(self, site: Site) -> Ints:
        """Numbers of all points that count for a site or one of its rooms at some time, in order."""
        if site.id not in self._summed:
            counted = {p.id for room in ("", *site.rooms) for p in self.counted(site, room)}
            self._summed[site.id] = np.array(sorted(self.point_id[key] for key in counted), np.int64)
        return self._summed[site.id]

    def boundary(self, site: Site, room: str) -> Boundary:
        """What counts for a constant site (`room` empty) or one of its rooms."""
        if (site.id, room) not in self._boundaries:
            self._boundaries[site.id, room] = boundary(site, room)
        return self._boundaries[site.id, room]


class Edit(NamedTuple):
    """A change of the definition of a point or site that moves figures from `start` to before `end`."""

    what: str
    """``point KEY`` or ``site KEY``."""
    start: datetime | None
    end: datetime | None
    """None: without bound."""


@dataclass(frozen=True, slots=True)
class SyncResult:
    """What a synchronisation changed."""

    recomputed_points: tuple[str, ...] = ()
    """Points of which readings may have to be computed again, because their energy changes."""
    edits: tuple[Edit, ...] = ()
    """The definitions that changed, with the time they touch."""
    retired_points: tuple[str, ...] = ()
    """Points that are no longer declared; their readings stay."""
    kept_sites: tuple[str, ...] = ()
    """Sites that this file no longer describes and another one does."""
    moved_sites: tuple[Move, ...] = ()
    """Sites that this file describes and that are another cell's now: what it says of them is left out."""


def sync(connection: sa.Connection, fleet: Fleet, owner: str = "") -> SyncResult:
    """Make the database say of the sites of `fleet` what `fleet` says, in the transaction of `connection`.

    What is no longer declared is retired, not deleted; declared again, it comes back with its history.
    Where a change moves energy (see :func:`point_mark`, :func:`site_mark`), the time it touches is queued
    for rollup, for the points concerned. Sites that only other owners' files describe are left alone.

    Parameters
    ----------
    connection : Connection
    fleet : Fleet
        What one site file says.
    owner : str
        Whose file it is, see :mod:`app.store.site_sources`.

    Raises
    ------
    ConfigError
        If a meter or point of the file stands in a site that only another file describes.
    StoreUnavailable
        If the database is away.
    """
    with store_errors(), unsearched():
        locks.hold(connection, locks.SITES)
        fleet, moved = _without_moved(connection, fleet)
        scope = site_sources.claim(connection, owner, fleet)
        _refuse_undated_moves(connection, fleet)
        names, sites_before = _rename(connection, fleet)
        before = _hashes(connection) | {("sites", key): mark for key, mark in sites_before.items()}
        _write(connection, fleet)
        site_sources.note(connection, owner, fleet)
        retired = _retire(connection, fleet, scope)
        edits = (*names.merged, *_edits(before, _hashes(connection)))
        touched = [(key, edit) for edit in edits for key in _points_of(edit, fleet)]
        _queue_history(connection, touched, Formulas(fleet))
    return SyncResult(tuple(sorted({key for key, _ in touched})), edits, retired, scope.kept, moved)


def _without_moved(connection: sa.Connection, fleet: Fleet) -> tuple[Fleet, tuple[Move, ...]]:
    gone = site_moves.gone(connection)
    moved = tuple(gone[site.id] for site in fleet.sites if site.id in gone)
    if not moved:
        return fleet, ()
    return replace(fleet, sites=tuple(site for site in fleet.sites if site.id not in gone)), moved


class _Kept(NamedTuple):
    """The fleet as last read from a database."""

    version: tuple[str, int]
    stored: Stored


_kept: WeakKeyDictionary[sa.Engine, _Kept] = WeakKeyDictionary()
_sharing: WeakKeyDictionary[sa.Engine, sa.Engine] = WeakKeyDictionary()
_VERSION = "SELECT writer, changes FROM fleet_version"


def share(engine: sa.Engine, other: sa.Engine) -> None:
    """Keep one fleet in memory for two pools of connections to the same database: that of the other."""
    _sharing[engine] = other


def load(connection: sa.Connection) -> Stored:
    """The declared fleet (nothing retired), with numbers; read anew only where it changed.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    with store_errors():
        version = tuple(connection.exec_driver_sql(_VERSION).one())
    engine = _sharing.get(connection.engine, connection.engine)
    kept = _kept.get(engine)
    if kept is None or kept.version != version:
        with unsearched():
            kept = _kept[engine] = _Kept(version, _read(connection))
    return kept.stored


def _read(connection: sa.Connection) -> Stored:
    with store_errors():
        sites = _current(connection, tables.sites)
        meters = _current(connection, tables.meters)
        points = _current(connection, tables.points)
        points_of, meters_of = _grouped(points, "meter_id"), _grouped(meters, "site_id")
        said = declarations.in_force(connection)
        institutions = connection.execute(
            sa.select(tables.institutions).order_by(tables.institutions.c.position, tables.institutions.c.id)
        ).all()
    fleet = Fleet(
        institutions=tuple(
            Institution(id=row.key, name=row.name, institution_class=InstitutionClass(row.institution_class))
            for row in institutions
        ),
        sites=tuple(_site(row, meters_of[row.id], points_of, said[row.id]) for row in sites),
    )
    numbers = _numbers(points)
    gone = [key for key in fleet.placements if key not in numbers]
    moved = site_moves.gone(connection)
    return Stored(
        fleet,
        _numbers(sites),
        _numbers(meters),
        numbers | _numbers_of(connection, gone),
        moved,
        _points_of_moved(connection, moved),
    )


def _points_of_moved(connection: sa.Connection, moved: Mapping[str, Move]) -> dict[str, str]:
    site_of = {move.site_id: site for site, move in moved.items()}
    t = tables.points
    query = sa.select(t.c.key, t.c.site_id).where(t.c.site_id.in_(site_of))
    return {row.key: site_of[row.site_id] for row in connection.execute(query)} if moved else {}


# -- hashes ------------------------------------------------------------------------------------------


def point_hash(site: Site, meter: Meter, point: Point) -> str:
    """Changes exactly when a setting changes that moves the energy computed from stored readings.

    Unit and stamp are not among them: they are applied on arrival.
    """
    effective = site.effective(meter, point)
    bounds = (point.modulus_kwh, point.max_power_kw, meter.rated_power_kw)
    estimate = [point.voltage_v, point.power_factor, point.phases] if point.kind in ESTIMATE_KINDS else []
    rule = [point.role, point.kind, point.multiplier, point.falls, point.interval_s]
    computed = [point.formula] if point.formula else []
    held = [point.sampling, point.longest_hold_s] if point.sampling is Sampling.ON_CHANGE else []
    return _hash([*rule, *bounds, *estimate, *computed, *held, *_unusual(effective)])


def _unusual(point: Point) -> list[Any]:
    """What few points have, so that the hashes of all others stay what they were without it."""
    turned = [] if point.direction is Direction.FORWARD else [point.direction]
    restart = [] if point.falls is Falls.SUSPECT else [point.restarts, point.clock]
    return [*turned, *restart, *([point.ceiling_kw] if math.isfinite(point.ceiling_kw) else [])]


def site_hash(site: Site) -> str:
    """Changes exactly when a setting changes that moves the sums of the site."""
    tree = [[m.id, m.room, sorted(m.fed_by), [_counted_as(p) for p in m.points]] for m in site.meters]
    return _hash([site.time_zone, site.facility_is, site.it_energy_at, sorted(tree, key=repr)])


def _counted_as(point: Point) -> list[Any]:
    turned = [] if point.direction is not Direction.REVERSED else [point.direction]
    return [point.id, point.role, point.kind, point.weight, *turned]


def point_mark(placed: Sequence[Placement]) -> str:
    """The hash of a point, or its hashes from instant to instant where it is not always the same."""
    turns: dict[datetime, str] = {ALWAYS[0]: ""}
    for one in placed:
        inner = {c.at for c in one.meter.changes} | {c.at for c in one.point.changes}
        for at in (one.start, *sorted(at for at in inner if one.start < at < one.end)):
            turns[at] = point_hash(one.site, one.meter.at(at), one.point.at(at))
        if one.end != ALWAYS[1]:
            turns[one.end] = ""
    return _mark(turns)


def site_mark(site: Site) -> str:
    """The hash of a site, or its hashes from instant to instant where its plant changes."""
    return _mark(dict(zip((ALWAYS[0], *site.turns), map(site_hash, site.states), strict=True)))


def _mark(turns: Mapping[datetime, str]) -> str:
    merged: list[tuple[str, str]] = []
    for at in sorted(turns):
        if not merged or merged[-1][1] != turns[at]:
            merged.append(("" if at == ALWAYS[0] else at.astimezone(UTC).isoformat(), turns[at]))
    return merged[0][1] if len(merged) == 1 else json.dumps(merged)


def _unmarked(mark: str) -> list[tuple[datetime, str]]:
    """Hashes from instant to instant."""
    turns = json.loads(mark) if mark.startswith("[") else [("", mark)]
    return [(datetime.fromisoformat(at) if at else ALWAYS[0], value) for at, value in turns]


def _differing(one: str, other: str) -> list[tuple[datetime, datetime]]:
    """Times over which two marks differ, in order and apart from each other."""
    first, second = _unmarked(one), _unmarked(other)
    starts = sorted({at for at, _ in (*first, *second)})
    found: list[tuple[datetime, datetime]] = []
    for start, end in zip(starts, [*starts[1:], ALWAYS[1]], strict=True):
        if _value_at(first, start) != _value_at(second, start):
            joined = found.pop()[0] if found and found[-1][1] == start else start
            found.append((joined, end))
    return found


def _value_at(turns: list[tuple[datetime, str]], at: datetime) -> str:
    return next(value for start, value in reversed(turns) if start <= at)


def _hash(parts: list[Any]) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


# -- writing -----------------------------------------------------------------------------------------


def _write(connection: sa.Connection, fleet: Fleet) -> None:
    institutions = _upsert(connection, tables.institutions, map(_institution_row, fleet.institutions))
    sites = _upsert(connection, tables.sites, (_site_row(s, fleet, institutions) for s in fleet.sites))
    pairs = fleet.meter.values()
    meters = _upsert(connection, tables.meters, (_meter_row(m, sites[s.id]) for s, m in pairs))
    points = (_point_row(placed, fleet, meters, sites) for placed in fleet.placements.values())
    _upsert(connection, tables.points, points)


def _institution_row(institution: Institution) -> dict[str, Any]:
    return {
        "key": institution.id,
        "name": institution.name,
        "institution_class": institution.institution_class.value,
    }


def _site_row(site: Site, fleet: Fleet, institutions: Mapping[str, int]) -> dict[str, Any]:
    gone = tuple(m for m in site.meters if fleet.meter[m.id][1] is not m)
    former = {"meters": [_definition(_METER, m) for m in gone]} if gone else {}
    return {
        "key": site.id,
        "institution_id": institutions[site.institution],
        "name": site.name,
        "time_zone": site.time_zone,
        "definition": _definition(_SITE, replace(site, meters=())) | former,
        "definition_hash": site_mark(site),
        "retired_at": None,
    }


def _meter_row(meter: Meter, site_id: int) -> dict[str, Any]:
    return {
        "key": meter.id,
        "site_id": site_id,
        "name": meter.name,
        "room": meter.at(ALWAYS[1]).room,
        "definition": _definition(_METER, replace(meter, points=())),
        "retired_at": None,
    }


def _point_row(
    placed: Sequence[Placement], fleet: Fleet, meters: Mapping[str, int], sites: Mapping[str, int]
) -> dict[str, Any]:
    *_, site, meter, point = last = placed[-1]
    latest = point.at(ALWAYS[1])
    return {
        "key": point.id,
        "meter_id": meters[meter.id],
        "site_id": sites[site.id],
        "role": latest.role.value,
        "kind": point.kind.value,
        "weight": latest.weight,
        "definition": _definition(_POINT, point),
        "definition_hash": point_mark(placed),
        "retired_at": None if fleet.meter[meter.id][1] is meter else last.end,
    }


def _definition(adapter: TypeAdapter[Any], thing: Any) -> Any:
    """JSON without defaults; infinities occur only as defaults."""
    return adapter.dump_python(thing, mode="json", exclude_defaults=True)


def _upsert(connection: sa.Connection, table: sa.Table, rows: Iterable[dict[str, Any]]) -> dict[str, int]:
    """Insert or update by key, only what differs; number by key."""
    values = [{"position": position, **row} for position, row in enumerate(rows)]
    if not values:
        return {}
    columns = list(values[0])
    stored = {
        row.key: row
        for row in connection.execute(sa.select(table.c.id, *(table.c[name] for name in columns)))
    }
    known = {key: row.id for key, row in stored.items()}
    other = [
        value
        for value in values
        if (row := stored.get(value["key"])) is None
        or any(getattr(row, name) != value[name] for name in columns)
    ]
    for first in range(0, len(other), _WRITTEN_AT_ONCE):
        known |= _write_rows(connection, table, other[first : first + _WRITTEN_AT_ONCE])
    return {value["key"]: known[value["key"]] for value in values}


def _dumps(values: Any) -> str:
    return json.dumps(values, default=str)


def _write_rows(connection: sa.Connection, table: sa.Table, values: list[dict[str, Any]]) -> dict[str, int]:
    """Insert or update rows in one statement; number by key."""
    columns = ", ".join(values[0])
    fresh = ", ".join(f"{name} = excluded.{name}" for name in values[0] if name != "key")
    query = (
        f"INSERT INTO {table.name} ({columns}) SELECT {columns}"  # noqa: S608
        f" FROM jsonb_populate_recordset(NULL::{table.name}, %s)"
        f" ON CONFLICT (key) DO UPDATE SET {fresh} RETURNING key, id"
    )
    return dict(driver(connection).execute(query, (Jsonb(values, dumps=_dumps),)).fetchall())


def _refuse_undated_moves(connection: sa.Connection, fleet: Fleet) -> None:
    """A meter that stands in another site all at once would take its history along, out of closed months.

    Where the former site is no longer described, the whole site was given another name.
    """
    m, s = tables.meters, tables.sites
    query = (
        sa.select(m.c.key, s.c.key.label("site"))
        .join(s, s.c.id == m.c.site_id)
        .where(m.c.retired_at.is_(None), m.c.key.in_(list(fleet.meter)), s.c.key.in_(list(fleet.site)))
        .order_by(m.c.key)
    )
    still = {site.id: {meter.id for meter in site.meters} for site in fleet.sites}
    for key, former in connection.execute(query):
        site = fleet.meter[key][0]
        if key not in still[former]:
            raise ConfigError(
                f"meter {key!r} stood in site {former!r} until now and stands in {site.id!r} here; say when "
                f"it moved: keep it in {former!r} with valid_to, and give it that valid_from in {site.id!r}",
                key="meters",
            )


class _Names(NamedTuple):
    """Earlier ids and those of today."""

    points: dict[str, str]
    meters: dict[str, str]
    merged: tuple[Edit, ...] = ()
    """Points whose readings were kept under both."""


def _rename(connection: sa.Connection, fleet: Fleet) -> tuple[_Names, dict[str, str]]:
    """Give points, and meters that are new with them, their new ids; the marks of the sites under these.

    Points that were declared under both ids are merged, with both histories.
    """
    t, wanted = tables.points, {p.id: p.formerly for s in fleet.sites for p in s.points() if p.formerly}
    keys = [key for new, former in wanted.items() for key in (new, *former)]
    query = sa.select(t.c.key, t.c.id).where(t.c.key.in_(keys))
    known = {row.key: row.id for row in connection.execute(query)} if keys else {}
    renamed = {old: new for new, former in wanted.items() for old in former if old in known}
    if not renamed:
        return _Names({}, {}), {}
    before = load(connection).fleet
    names = _Names(renamed, _new_meters(before, fleet, renamed), tuple(_merge(connection, wanted, known)))
    for table, new_keys in ((tables.points, names.points), (tables.meters, names.meters)):
        for old, new in new_keys.items():
            taken = sa.exists(sa.select(table.c.id).where(table.c.key == new).correlate(None))
            connection.execute(sa.update(table).where(table.c.key == old, ~taken).values(key=new))
    return names, {site.id: site_mark(_under(site, names)) for site in before.sites}


def _merge(
    connection: sa.Connection, wanted: Mapping[str, tuple[str, ...]], known: Mapping[str, int]
) -> Iterator[Edit]:
    """Merge what is kept under several ids of one point into the earliest that is known."""
    for new, former in wanted.items():
        first, *others = [key for key in (*former, new) if key in known] or [new]
        for other in others:
            merge_points(connection, known[other], known[first])
            yield Edit(f"point {new}", None, None)


def _new_meters(before: Fleet, fleet: Fleet, renamed: Mapping[str, str]) -> dict[str, str]:
    """Meters that are no longer declared, and the new ones that have their points now."""
    pairs = {
        before.point[old][1].id: fleet.point[new][1].id
        for old, new in renamed.items()
        if old in before.point and new in fleet.point
    }
    return {old: new for old, new in pairs.items() if old not in fleet.meter and new not in before.meter}


def _under(site: Site, names: _Names) -> Site:
    """A site as it was, under the ids of today."""

    def point(p: Point) -> Point:
        return replace(p, id=names.points.get(p.id, p.id), formerly=())

    def fed_by(ids: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(names.meters.get(i, i) for i in ids)

    def meter(m: Meter) -> Meter:
        changes = tuple(c if c.fed_by is None else replace(c, fed_by=fed_by(c.fed_by)) for c in m.changes)
        return replace(
            m,
            id=names.meters.get(m.id, m.id),
            fed_by=fed_by(m.fed_by),
            changes=changes,
            points=tuple(map(point, m.points)),
        )

    return replace(site, meters=tuple(map(meter, site.meters)))


def _retire(connection: sa.Connection, fleet: Fleet, scope: Scope) -> tuple[str, ...]:
    """Retire what the sites in `scope` no longer have; the points among that."""
    retired: tuple[str, ...] = ()
    t = tables
    declared = (
        (t.sites, t.sites.c.id, fleet.site),
        (t.meters, t.meters.c.site_id, fleet.meter),
        (t.points, t.points.c.site_id, fleet.point),
    )
    for table, site_id, keys in declared:
        query = sa.select(table.c.key).where(table.c.retired_at.is_(None), site_id.not_in(scope.foreign_ids))
        current = connection.execute(query).scalars()
        gone = [key for key in current if key not in keys]
        retired = tuple(sorted(gone))
        if gone:
            update = sa.update(table).where(table.c.key.in_(gone)).values(retired_at=sa.func.now())
            connection.execute(update)
    return retired


# -- what to compute again ---------------------------------------------------------------------------


def _hashes(connection: sa.Connection) -> dict[tuple[str, str], str]:
    """Hash by table and key, of what is declared."""
    return {
        (table.name, row.key): row.definition_hash
        for table in (tables.sites, tables.points)
        for row in connection.execute(
            sa.select(table.c.key, table.c.definition_hash).where(table.c.retired_at.is_(None))
        )
    }


def _edits(before: Mapping[tuple[str, str], str], after: Mapping[tuple[str, str], str]) -> tuple[Edit, ...]:
    """What differs, and over which time; a new point counts as changed, a new site is its points'."""
    edits = []
    for (table, key), mark in after.items():
        for start, end in _differing(before.get((table, key), ""), mark):
            first, last = None if start == ALWAYS[0] else start, None if end == ALWAYS[1] else end
            edits.append(Edit(f"{table.removesuffix('s')} {key}", first, last))
    return tuple(edits)


def _points_of(edit: Edit, fleet: Fleet) -> set[str]:
    """Keys of the points that have to be computed again."""
    kind, _, key = edit.what.partition(" ")
    return {key} if kind == "point" else {p.id for p in fleet.site[key].points()}


_QUEUE_HISTORY = sa.text(
    """
    INSERT INTO rollup_queue (point_id, start_at, end_at, redefined)
    SELECT p.id, greatest(span.lo, part.at),
           least(span.hi, part.at + span.step - interval '2 milliseconds'), true
    FROM points p
    CROSS JOIN LATERAL (SELECT at, interval_s FROM readings WHERE point_id = p.id ORDER BY at LIMIT 1) oldest
    CROSS JOIN LATERAL (SELECT at FROM readings WHERE point_id = p.id ORDER BY at DESC LIMIT 1) newest
    CROSS JOIN LATERAL (
        SELECT greatest(oldest.at - make_interval(secs => oldest.interval_s), :start) AS lo,
               least(newest.at, :end) AS hi
    ) whole
    CROSS JOIN LATERAL (
        SELECT lo, hi, lo AS first, interval '100 days' AS step WHERE hi - lo <= interval '64 days'
        UNION ALL
        SELECT lo, hi, date_bin('32 days', lo, timestamptz 'epoch'), interval '32 days'
        WHERE hi - lo > interval '64 days'
    ) span
    CROSS JOIN LATERAL generate_series(span.first, span.hi, span.step) AS part(at)
    WHERE p.key = ANY(:keys) AND coalesce(newest.at > :start, true) AND coalesce(oldest.at < :end, true)
    """
).bindparams(sa.bindparam("start", type_=_AT), sa.bindparam("end", type_=_AT))
"""A long history in parts, a moment apart so that they are not joined again: years of a point are more than
TimescaleDB decompresses in one transaction."""


_QUEUE_FORMULA = sa.text(
    """
    INSERT INTO rollup_queue (point_id, start_at, end_at, redefined)
    SELECT p.id, greatest(known.first, :start), least(known.last + interval '15 minutes', :end), true
    FROM points p, (
        SELECT min(e.at) AS first, max(e.at) AS last FROM energy_15m e
        WHERE e.point_id IN (SELECT id FROM points WHERE key = ANY(:keys))
    ) known
    WHERE p.key = :key AND known.first IS NOT NULL
      AND coalesce(known.last >= :start, true) AND coalesce(known.first < :end, true)
    """
).bindparams(sa.bindparam("start", type_=_AT), sa.bindparam("end", type_=_AT))


def _queue_history(
    connection: sa.Connection, touched: Iterable[tuple[str, Edit]], formulas: Formulas
) -> None:
    by_time: dict[tuple[datetime | None, datetime | None], set[str]] = defaultdict(set)
    for key, edit in touched:
        by_time[edit.start, edit.end].add(key)
        if key in formulas.by_point:
            values = {"key": key, "keys": [*formulas.by_point[key].points, key]}
            connection.execute(_QUEUE_FORMULA, {**values, "start": edit.start, "end": edit.end})
    for (start, end), keys in by_time.items():
        connection.execute(_QUEUE_HISTORY, {"keys": sorted(keys), "start": start, "end": end})


# -- reading -----------------------------------------------------------------------------------------


def _current(connection: sa.Connection, table: sa.Table) -> list[sa.Row[Any]]:
    query = sa.select(table).where(table.c.retired_at.is_(None)).order_by(table.c.position, table.c.id)
    return list(connection.execute(query))


def _numbers(rows: list[sa.Row[Any]]) -> dict[str, int]:
    return {row.key: row.id for row in rows}


def _grouped(rows: list[sa.Row[Any]], column: str) -> dict[int, list[sa.Row[Any]]]:
    groups: dict[int, list[sa.Row[Any]]] = defaultdict(list)
    for row in rows:
        groups[getattr(row, column)].append(row)
    return groups


def _site(
    row: sa.Row[Any],
    meters: list[sa.Row[Any]],
    points_of: dict[int, list[sa.Row[Any]]],
    said: tuple[Declared, ...],
) -> Site:
    own = [{**m.definition, "points": [p.definition for p in points_of[m.id]]} for m in meters]
    site = _SITE.validate_python({**row.definition, "meters": [*own, *row.definition.get("meters", ())]})
    return replace(site, declared=(*site.declared, *said)) if said else site


def _numbers_of(connection: sa.Connection, keys: list[str]) -> dict[str, int]:
    """Numbers of points that are in a former place of their meter only."""
    t = tables.points
    query = sa.select(t.c.key, t.c.id).where(t.c.key.in_(keys))
    return {row.key: row.id for row in connection.execute(query)} if keys else {}
