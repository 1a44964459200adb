"""What stands in the way of a move, and how much it would bring over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import sqlalchemy as sa
from psycopg import sql

from app.domain.formulas import Formulas
from app.domain.site import Fleet
from app.store import deployment, edges, imports, migrate, site_moves, sites, tables
from app.store.engine import Connection, driver, store_errors, unhurried
from app.store.site_move.parts import PARTS, Own, condition
from app.store.site_moves import IN, State


class Found(NamedTuple):
    """What stands in the way, and what is to be known."""

    obstacles: tuple[str, ...]
    notes: tuple[str, ...]


def look(here: Connection, there: Connection, own: Own, cell: str) -> Found:
    """Why a site cannot move now; empty where it can.

    Parameters
    ----------
    here, there : Connection
        To the databases of source and target.
    own : Own
        The site at the source, where it is declared.
    cell : str
        Id of the target.

    Raises
    ------
    StoreUnavailable
        If either database is away.
    """
    with store_errors():
        shapes = tuple(_shapes(here, there, cell))
        if shapes:
            return Found(shapes, ())
        fleet = sites.load(here).fleet
        found = (
            *_taken(here, there, own, cell),
            *_entangled(fleet, own.key),
            *_edges(here, there, own.key, cell),
            *_unlike(here, there, fleet, own.key, cell),
            *_imports(here, own),
        )
        return Found(found, tuple(_notes(here, there, own, cell)))


def _shapes(here: Connection, there: Connection, cell: str) -> Iterator[str]:
    ours, theirs = migrate.current_status(here), migrate.current_status(there)
    for status, where in ((ours, "this cell"), (theirs, f"cell {cell}")):
        if not status.up_to_date:
            yield (
                f"the schema of {where} is {status.current or 'empty'}, this version needs {status.head}; "
                "upgrade both cells to the same version of Wattline"
            )
    same = "SELECT oid::text || current_database() || pg_postmaster_start_time()::text FROM pg_database"
    same += " WHERE datname = current_database()"
    if here.exec_driver_sql(same).scalar_one() == there.exec_driver_sql(same).scalar_one():
        yield f"cell {cell} has the same database as this one; correct its database_url_file"


def _taken(here: Connection, there: Connection, own: Own, cell: str) -> Iterator[str]:
    """Ids of the site, its meters and points that the target has already."""
    if there.execute(sa.select(tables.sites.c.id).where(tables.sites.c.key == own.key)).first():
        gone = site_moves.gone(there).get(own.key)
        yield (
            f"cell {cell} still keeps the rows of site {own.key}, which moved from there to {gone.cell}; "
            f"remove them there: wattline cells move {own.key} --to {gone.cell} --drop-source"
            if gone
            else f"cell {cell} has a site {own.key} already; one of them needs another id"
        )
        return
    for table in (tables.meters, tables.points):
        column = table.c.site_id == own.site
        keys = list(here.execute(sa.select(table.c.key).where(column)).scalars())
        query = sa.select(table.c.key).where(table.c.key.in_(keys)).order_by(table.c.key)
        if taken := list(there.execute(query).scalars()):
            named = ", ".join(taken[:5]) + (f" and {len(taken) - 5} more" if len(taken) > 5 else "")
            yield f"cell {cell} has {table.name} of the same id: {named}; rename them in one of both"


def _entangled(fleet: Fleet, site: str) -> Iterator[str]:
    """Meters that stood in two sites, and points that are computed from those of another site."""
    others = {
        placed.site.id
        for placements in fleet.placements.values()
        if any(placed.site.id == site for placed in placements)
        for placed in placements
        if placed.site.id != site
    }
    for other in sorted(others):
        yield f"a meter stood in both {site} and {other}; sites that share a meter's history stay together"
    of_site = {p: s.id for s in fleet.sites for p in (point.id for point in s.points())}
    for point, one in Formulas(fleet).by_point.items():
        across = {of_site.get(name, "") for name in (*one.points, point)}
        if site in across and len(across) > 1:
            yield f"point {point} is computed from points of several sites; {site} cannot go alone"


def _edges(here: Connection, there: Connection, site: str, cell: str) -> Iterator[str]:
    names = set(there.execute(sa.select(tables.edges.c.name)).scalars())
    for edge in edges.listing(here):
        if site not in edge.sites:
            continue
        more = [other for other in edge.sites if other != site]
        if more and not edge.is_revoked:
            yield (
                f"edge {edge.name} also measures {', '.join(more)}; revoke it and make one edge for {site} "
                "and one for the others"
            )
        if not more and edge.name in names:
            yield f"cell {cell} has an edge {edge.name} already; make one of another name for {site}"


def _unlike(here: Connection, there: Connection, fleet: Fleet, site: str, cell: str) -> Iterator[str]:
    """Sections of the site file on which figures of the site rest."""
    ours, theirs = deployment.limit_profiles(here), deployment.limit_profiles(there)
    for name in fleet.site[site].profiles:
        if ours.get(name) != theirs.get(name):
            yield f"limit profile {name} is another one in cell {cell}; state the same in its site file"
    if deployment.reference(here) != deployment.reference(there):
        yield f"section reference of the site file says something else in cell {cell}; state the same there"
    emissions = fleet.site[site].emissions
    h = tables.hourly_factors
    query = sa.select(h.c.sha256).where(
        h.c.region == emissions.region, h.c.basis == emissions.basis, h.c.withdrawn_at.is_(None)
    )
    if set(here.execute(query).scalars()) != set(there.execute(query).scalars()):
        yield f"cell {cell} has other hourly emission factors of {emissions.region}; import the same there"


def _imports(here: Connection, own: Own) -> Iterator[str]:
    i = tables.imports
    recent = i.c.started_at > sa.func.now() - sa.text("interval '6 hours'")
    query = sa.select(i.c.file_name).where(i.c.site_id == own.site, i.c.status == imports.RUNNING, recent)
    for name in here.execute(query).scalars():
        yield f"{name} is being imported into {own.key}; wait until that is done"


def _notes(here: Connection, there: Connection, own: Own, cell: str) -> Iterator[str]:
    h = tables.horizons
    query = sa.select(h.c.dropped_before).where(h.c.kind == "readings")
    ours, theirs = here.execute(query).scalar(), there.execute(query).scalar()
    if ours is not None and (theirs is None or theirs < ours):
        yield (
            f"readings before {ours:%Y-%m-%d} were dropped here by retention; cell {cell} will compute no "
            "earlier interval again, of none of its sites"
        )
    earlier = site_moves.latest(there, own.key, IN)
    if earlier is not None and earlier.state is State.COPYING:
        yield f"a move began at {earlier.began_at:%Y-%m-%d %H:%M} UTC and goes on where it was"


_BIG = ("readings", "energy_15m", "gauge_15m", "volume_15m", "site_15m")


def amount(here: Connection, own: Own) -> Mapping[str, int]:
    """Rows of a site by table.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    found: dict[str, int] = {}
    with store_errors(), unhurried(here):
        for part in PARTS:
            query = sql.SQL("SELECT count(*) FROM {} t WHERE {}").format(
                sql.Identifier(part.table), condition(part.of, own)
            )
            row: Any = driver(here).execute(query).fetchone()
            found[part.table] = int(row[0])
    return found
