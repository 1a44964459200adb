"""Institutions, sites, meters and points: what the configuration declares, kept in the database.

The site file is synchronised at start; from then on the database is what everything else reads. A
definition is stored without the values that equal their defaults.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import sqlalchemy as sa
from psycopg.types.json import Jsonb
from pydantic import TypeAdapter

from app.domain.pue import Boundary, boundary
from app.domain.site import Fleet, Institution, InstitutionClass, Meter, Point, Site
from app.store import tables
from app.store.engine import driver, store_errors

_LOCK = 0x57A7_0003
_WRITTEN_AT_ONCE = 5000
_SITE, _METER, _POINT = TypeAdapter(Site), TypeAdapter(Meter), TypeAdapter(Point)


@dataclass(frozen=True)
class Stored:
    """The fleet as the database has it, with the numbers of its parts."""

    fleet: Fleet
    site_id: Mapping[str, int] = field(default_factory=dict)
    meter_id: Mapping[str, int] = field(default_factory=dict)
    point_id: Mapping[str, int] = field(default_factory=dict)

    @cached_property
    def point_key(self) -> dict[int, str]:
        """Point key by number."""
        return {number: key for key, number in self.point_id.items()}

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
            self._measured[point_id] = site, meter.effective(point)
        return self._measured[point_id]

    def boundary(self, site: Site, room: str) -> Boundary:
        """What counts for a site (`room` empty) or one of its rooms."""
        if (site.id, room) not in self._boundaries:
            self._boundaries[site.id, room] = boundary(site, room)
        return self._boundaries[site.id, room]


@dataclass(frozen=True, slots=True)
class SyncResult:
    """What a synchronisation changed."""

    recomputed_points: tuple[str, ...] = ()
    """Points whose whole history was queued for rollup, because their energy changes."""
    retired_points: tuple[str, ...] = ()
    """Points that are no longer declared; their readings stay."""


def sync(connection: sa.Connection, fleet: Fleet) -> SyncResult:
    """Make the database say what `fleet` says, in the transaction of `connection`.

    What is no longer declared is retired, not deleted; declared again, it comes back with its history.
    Where a change moves energy (see :func:`point_hash`, :func:`site_hash`), the history of the points
    concerned is queued for rollup.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    with store_errors():
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        before = _hashes(connection)
        _write(connection, fleet)
        retired = _retire(connection, fleet)
        changed = _changed(before, _hashes(connection), fleet)
        _queue_history(connection, changed)
    return SyncResult(tuple(sorted(changed)), retired)


def load(connection: sa.Connection) -> Stored:
    """The declared fleet (nothing retired), with numbers.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    with store_errors():
        sites = _current(connection, tables.sites)
        meters = _current(connection, tables.meters)
        points = _current(connection, tables.points)
        points_of, meters_of = _grouped(points, "meter_id"), _grouped(meters, "site_id")
        institutions = connection.execute(
            sa.select(tables.institutions).order_by(tables.institutions.c.position, tables.institutions.c.id)
        ).all()
    fleet = Fleet(
        institutions=tuple(
            Institution(id=row.key, name=row.name, institution_class=InstitutionClass(row.institution_class))
            for row in institutions
        ),
        sites=tuple(_site(row, meters_of[row.id], points_of) for row in sites),
    )
    return Stored(fleet, _numbers(sites), _numbers(meters), _numbers(points))


# -- hashes ------------------------------------------------------------------------------------------


def point_hash(meter: Meter, point: Point) -> str:
    """Changes exactly when a setting changes that moves the energy computed from stored readings.

    Unit and stamp are not among them: they are applied on arrival.
    """
    bounds = (point.modulus_kwh, point.max_power_kw, meter.rated_power_kw)
    return _hash([point.role, point.kind, point.multiplier, point.falls, point.interval_s, *bounds])


def site_hash(site: Site) -> str:
    """Changes exactly when a setting changes that moves the sums of the site."""
    tree = [
        [m.id, m.room, sorted(m.fed_by), [[p.id, p.role, p.kind, p.weight] for p in m.points]]
        for m in site.meters
    ]
    return _hash([site.time_zone, site.facility_is, site.it_energy_at, sorted(tree, key=repr)])


def _hash(parts: list[Any]) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


# -- writing -----------------------------------------------------------------------------------------


def _write(connection: sa.Connection, fleet: Fleet) -> None:
    institutions = _upsert(connection, tables.institutions, map(_institution_row, fleet.institutions))
    sites = _upsert(connection, tables.sites, (_site_row(s, institutions) for s in fleet.sites))
    pairs = [(site, meter) for site in fleet.sites for meter in site.meters]
    meters = _upsert(connection, tables.meters, (_meter_row(m, sites[s.id]) for s, m in pairs))
    points = (_point_row(m, p, meters[m.id], sites[s.id]) for s, m in pairs for p in m.points)
    _upsert(connection, tables.points, points)


def _institution_row(institution: Institution) -> dict[str, Any]:
    return {
        "key": institution.id,
        "name": institution.name,
        "institution_class": institution.institution_class.value,
    }


def _site_row(site: Site, institutions: Mapping[str, int]) -> dict[str, Any]:
    return {
        "key": site.id,
        "institution_id": institutions[site.institution],
        "name": site.name,
        "time_zone": site.time_zone,
        "definition": _definition(_SITE, replace(site, meters=())),
        "definition_hash": site_hash(site),
        "retired_at": None,
    }


def _meter_row(meter: Meter, site_id: int) -> dict[str, Any]:
    return {
        "key": meter.id,
        "site_id": site_id,
        "name": meter.name,
        "room": meter.room,
        "definition": _definition(_METER, replace(meter, points=())),
        "retired_at": None,
    }


def _point_row(meter: Meter, point: Point, meter_id: int, site_id: int) -> dict[str, Any]:
    return {
        "key": point.id,
        "meter_id": meter_id,
        "site_id": site_id,
        "role": point.role.value,
        "kind": point.kind.value,
        "weight": point.weight,
        "definition": _definition(_POINT, point),
        "definition_hash": point_hash(meter, point),
        "retired_at": None,
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


def _write_rows(connection: sa.Connection, table: sa.Table, values: list[dict[str, Any]]) -> dict[str, int]:
    """Insert or update rows in one statement; number by key."""
    columns = ", ".join(values[0])
    fresh = ", ".join(f"{name} = excluded.{name}" for name in values[0] if name != "key")
    query = (
        f"INSERT INTO {table.name} ({columns}) SELECT {columns}"  # noqa: S608
        f" FROM jsonb_populate_recordset(NULL::{table.name}, %s)"
        f" ON CONFLICT (key) DO UPDATE SET {fresh} RETURNING key, id"
    )
    return dict(driver(connection).execute(query, (Jsonb(values),)).fetchall())


def _retire(connection: sa.Connection, fleet: Fleet) -> tuple[str, ...]:
    retired: tuple[str, ...] = ()
    declared = ((tables.sites, fleet.site), (tables.meters, fleet.meter), (tables.points, fleet.point))
    for table, keys in declared:
        current = connection.execute(sa.select(table.c.key).where(table.c.retired_at.is_(None))).scalars()
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


def _changed(before: dict[tuple[str, str], str], after: dict[tuple[str, str], str], fleet: Fleet) -> set[str]:
    """Keys of the points whose history has to be computed again; a new point counts as changed."""
    differing = {name for name, value in after.items() if before.get(name) != value}
    points = {key for table, key in differing if table == "points"}
    for table, key in differing:
        if table == "sites":
            points |= {p.id for p in fleet.site[key].points()}
    return points


_QUEUE_HISTORY = sa.text(
    """
    INSERT INTO rollup_queue (point_id, start_at, end_at)
    SELECT p.id, oldest.at - make_interval(secs => oldest.interval_s), newest.at
    FROM points p
    CROSS JOIN LATERAL (SELECT at, interval_s FROM readings WHERE point_id = p.id ORDER BY at LIMIT 1) oldest
    CROSS JOIN LATERAL (SELECT at FROM readings WHERE point_id = p.id ORDER BY at DESC LIMIT 1) newest
    WHERE p.key = ANY(:keys)
    """
)


def _queue_history(connection: sa.Connection, points: set[str]) -> None:
    if points:
        connection.execute(_QUEUE_HISTORY, {"keys": sorted(points)})


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


def _site(row: sa.Row[Any], meters: list[sa.Row[Any]], points_of: dict[int, list[sa.Row[Any]]]) -> Site:
    return replace(
        _SITE.validate_python(row.definition), meters=tuple(_meter(m, points_of[m.id]) for m in meters)
    )


def _meter(row: sa.Row[Any], points: list[sa.Row[Any]]) -> Meter:
    own = [_POINT.validate_python(p.definition) for p in points]
    return _METER.validate_python({**row.definition, "points": own})
