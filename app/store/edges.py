"""Edges: machines at sites that measure and send, as the database knows them.

An edge has a key for its sites. One process at a time speaks for it: what a process sends is stored only
while its epoch holds, checked in the transaction that stores it, so a process that was replaced writes
nothing any more. Only the clock of the database counts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB, insert

from app.domain.edge_message import CLOCK_OFF_S, LEASE_S, Claim, SetAside, State
from app.domain.reading import Reading
from app.errors import EdgeReplaced, NotFound, SeriesError
from app.store import locks, site_moves, tables
from app.store.engine import driver, store_errors

BACKLOG_FROM = 500
"""An edge with so many readings waiting has a backlog to send."""
_NEVER = sa.text("'epoch'::timestamptz")
_NOW = sa.func.clock_timestamp()


class Edge(NamedTuple):
    """What is known of an edge."""

    id: int
    name: str
    key_id: str
    sites: tuple[str, ...]
    created_at: datetime
    is_revoked: bool
    """Whether its key opens nothing any more."""
    epoch: int
    first_seen_at: datetime | None
    last_seen_at: datetime | None
    is_online: bool
    """Whether it was heard of within the time of a lease."""
    refused_at: datetime | None
    """When a second process with the same key was last refused."""
    version: str
    revision: int
    problem: str
    newest_revision: int
    clock_offset_s: float | None
    clock_off_readings: int
    waiting: int
    oldest_waiting_at: datetime | None
    set_aside: tuple[SetAside, ...]
    unknown_readings: int = 0
    """Readings of undeclared points that wait in the database."""
    unknown_points: tuple[str, ...] = ()
    """Some of those points."""

    @property
    def is_clock_off(self) -> bool:
        """Whether its clock is off by more than is harmless."""
        return self.clock_offset_s is not None and abs(self.clock_offset_s) > CLOCK_OFF_S

    @property
    def is_current(self) -> bool:
        """Whether it works with the definitions that hold."""
        return self.newest_revision > 0 and self.revision == self.newest_revision


def create(connection: sa.Connection, name: str, key_id: str, sites: Sequence[str]) -> None:
    """Enter an edge with its key; a site has one edge at a time.

    Raises
    ------
    SeriesError
        If the name is taken, or another edge has one of the sites.
    StoreUnavailable
        If the database is away.
    """
    locks.hold(connection, locks.SITES)
    for edge in present(connection):
        if edge.name == name:
            raise SeriesError(
                f"there is an edge {name!r} already, of {edge.created_at:%Y-%m-%d}; use another name"
            )
        taken = sorted(set(edge.sites) & set(sites))
        if taken and not edge.is_revoked:
            raise SeriesError(f"site {taken[0]} has the edge {edge.name!r}; revoke that first")
    with store_errors():
        row = {"name": name, "key_id": key_id, "sites": list(sites)}
        connection.execute(sa.insert(tables.edges).values(row))


def present(connection: sa.Connection) -> list[Edge]:
    """Every edge of this database, by name; not those that went to another cell with their site.

    Readings of undeclared points are not counted.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    with store_errors():
        if not _are_there(connection):
            return []
        query = _edges().where(~_has_moved()).order_by(tables.edges.c.name)
        return [_edge(row) for row in connection.execute(query)]


def _are_there(connection: sa.Connection) -> bool:
    """Whether there is any edge: most databases have none, and jobs ask again and again."""
    return bool(connection.exec_driver_sql("SELECT EXISTS (SELECT FROM edges)").scalar_one())


def listing(connection: sa.Connection) -> list[Edge]:
    """As :func:`present`, with the readings of undeclared points that wait: each of them is looked at.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    found = present(connection)
    with store_errors():
        unknown = {row.edge_id: row for row in connection.execute(_UNKNOWN)} if found else {}
    return [_with_unknown(edge, unknown.get(edge.id)) for edge in found]


def of_key(connection: sa.Connection, key_id: str) -> Edge:
    """The edge that a key was made for.

    Raises
    ------
    NotFound
        If it is no edge's.
    StoreUnavailable
        If the database is away.
    """
    with store_errors():
        row = connection.execute(_edges().where(tables.edges.c.key_id == key_id)).one_or_none()
    if row is None:
        raise NotFound("this key is no edge's; make one with `wattline edges create`")
    return _edge(row)


def named(connection: sa.Connection, name: str) -> Edge:
    """The edge of that name.

    Raises
    ------
    NotFound
        If there is none.
    StoreUnavailable
        If the database is away.
    """
    with store_errors():
        row = connection.execute(_edges().where(tables.edges.c.name == name)).one_or_none()
    if row is None:
        raise NotFound(f"there is no edge {name!r}")
    return _edge(row)


def measured_sites(connection: sa.Connection) -> set[str]:
    """Sites whose edge is or was at work: no worker of this database measures them.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    with store_errors():
        return {site for (site,) in driver(connection).execute(_MEASURED)}


_MEASURED = """
SELECT unnest(e.sites) FROM edges e JOIN api_keys k ON k.public_id = e.key_id
WHERE e.first_seen_at IS NOT NULL AND k.revoked_at IS NULL
"""


SILENCES = """
    SELECT unnest(e.sites) AS site, e.name,
           greatest(extract(epoch FROM clock_timestamp() - e.last_seen_at), 0)::float8 AS silent_s
    FROM edges e JOIN api_keys k ON k.public_id = e.key_id
    WHERE e.last_seen_at IS NOT NULL AND k.revoked_at IS NULL
      AND (k.expires_at IS NULL OR k.expires_at > clock_timestamp())
"""
"""For how long the edges that have been at work were not heard of, by site; for alarms."""


def _has_moved() -> sa.ColumnElement[bool]:
    m = tables.site_moves
    gone = (site_moves.State.MOVED, site_moves.State.DROPPING)
    there = sa.and_(m.c.direction == site_moves.OUT, m.c.state.in_(gone))
    return sa.exists().where(there, m.c.site == sa.any_(tables.edges.c.sites))


def _edges() -> sa.Select[Any]:
    e, k = tables.edges, tables.api_keys
    lease = sa.func.make_interval(0, 0, 0, 0, 0, 0, LEASE_S)
    is_revoked = sa.func.coalesce(k.c.revoked_at.is_not(None) | (k.c.expires_at <= _NOW), False)
    is_online = sa.func.coalesce(e.c.last_seen_at > _NOW - lease, False)
    columns = (e, is_revoked.label("is_revoked"), is_online.label("is_online"))
    return sa.select(*columns).join(k, k.c.public_id == e.c.key_id)


_UNKNOWN = sa.text(
    """
    SELECT edge_id, sum(readings)::bigint AS readings, (array_agg(point ORDER BY point))[1:20] AS points
    FROM (SELECT edge_id, point, count(*) AS readings FROM edge_unknown_readings GROUP BY 1, 2) each_point
    GROUP BY edge_id
    """
)


def _edge(row: Any) -> Edge:
    named = {name: getattr(row, name) for name in Edge._fields if hasattr(row, name)}
    return Edge(**{**named, "sites": tuple(row.sites), "set_aside": tuple(map(_file, row.set_aside))})


def _with_unknown(edge: Edge, unknown: Any) -> Edge:
    if unknown is None:
        return edge
    return edge._replace(unknown_readings=unknown.readings, unknown_points=tuple(unknown.points))


def _file(said: Mapping[str, str]) -> SetAside:
    return SetAside(said["site"], said["file"], said["reason"], datetime.fromisoformat(said["at"]))


# -- who speaks for an edge --------------------------------------------------------------------------

_BEGIN = sa.text(
    """
    UPDATE edges
    SET epoch = epoch + (process <> :process)::int, process = :process,
        lease_until = clock_timestamp() + make_interval(secs => :lease_s),
        first_seen_at = coalesce(first_seen_at, clock_timestamp()), last_seen_at = clock_timestamp()
    WHERE id = :id AND (process = :process OR lease_until <= clock_timestamp())
    RETURNING epoch
    """
)
_HELD = sa.text(
    """
    UPDATE edges SET refused_at = clock_timestamp() WHERE id = :id
    RETURNING extract(epoch FROM clock_timestamp() - last_seen_at) AS heard_s
    """
)


def begin(connection: sa.Connection, edge: Edge, process: str) -> int | str:
    """Let a process speak for an edge: its epoch, or why it may not.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    values = {"id": edge.id, "process": process, "lease_s": LEASE_S}
    with store_errors():
        epoch = connection.execute(_BEGIN, values).scalar()
        if epoch is not None:
            return int(epoch)
        held = connection.execute(_HELD, {"id": edge.id}).one()
    return (
        f"another process speaks for edge {edge.name!r}, last heard of {held.heard_s:.0f} s ago; stop it, or "
        "make an edge of its own for this machine"
    )


_FENCE = sa.text(
    """
    UPDATE edges
    SET lease_until = clock_timestamp() + make_interval(secs => :lease_s), last_seen_at = clock_timestamp(),
        version = :version, revision = :revision, problem = :problem, waiting = :waiting,
        oldest_waiting_at = :oldest_at, clock_offset_s = :offset_s,
        set_aside = coalesce(CAST(:set_aside AS jsonb), set_aside)
    WHERE id = :id AND process = :process AND epoch = :epoch
    """
).bindparams(sa.bindparam("set_aside", type_=JSONB(none_as_null=True)))


def fence(connection: sa.Connection, edge: Edge, claim: Claim, state: State, offset_s: float) -> None:
    """Begin a transaction of an edge: note its state, and keep others from replacing it until the end.

    Raises
    ------
    EdgeReplaced
        If another process speaks for it now; nothing of this one may be stored.
    SiteMoved
        If another cell has one of its sites.
    StoreUnavailable
        If the database is away, or one of its sites is on its way to another cell.
    """
    aside = None if state.set_aside is None else [_said(file) for file in state.set_aside]
    values = {
        "id": edge.id,
        "process": claim.process,
        "epoch": claim.epoch,
        "lease_s": LEASE_S,
        "version": state.version,
        "revision": state.revision,
        "problem": state.problem,
        "waiting": state.waiting,
        "oldest_at": state.oldest_at,
        "offset_s": offset_s,
        "set_aside": aside,
    }
    with store_errors():
        if connection.execute(_FENCE, values).rowcount:
            site_moves.refuse(connection, edge.sites)
            return
    raise EdgeReplaced(f"another process speaks for edge {edge.name!r} now; nothing was stored")


def _said(file: SetAside) -> dict[str, str]:
    return {"site": file.site, "file": file.file, "reason": file.reason, "at": file.at.isoformat()}


def check(connection: sa.Connection, edge: Edge, claim: Claim) -> None:
    """See that a process speaks for an edge.

    Raises
    ------
    EdgeReplaced
        If another one does.
    StoreUnavailable
        If the database is away.
    """
    e = tables.edges
    query = sa.select(e.c.id).where(e.c.id == edge.id, e.c.process == claim.process, e.c.epoch == claim.epoch)
    with store_errors():
        found = connection.execute(query).scalar()
    if found is None:
        raise EdgeReplaced(f"another process speaks for edge {edge.name!r} now; nothing was stored")


def release(connection: sa.Connection, edge: Edge, claim: Claim) -> None:
    """Let another process begin at once.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    e = tables.edges
    update = sa.update(e).where(e.c.id == edge.id, e.c.process == claim.process, e.c.epoch == claim.epoch)
    with store_errors():
        connection.execute(update.values(lease_until=_NEVER))


def with_backlog(connection: sa.Connection) -> int:
    """How many edges that are there have a backlog to send.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    e = tables.edges
    query = sa.select(sa.func.count()).where(e.c.waiting >= BACKLOG_FROM, e.c.lease_until > _NOW)
    with store_errors():
        return int(connection.execute(query).scalar_one())


def note_clock_off(connection: sa.Connection, edge: Edge, readings: int) -> None:
    """Count readings that came while the clock was off.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    e = tables.edges
    with store_errors():
        connection.execute(
            sa.update(e).where(e.c.id == edge.id).values(clock_off_readings=e.c.clock_off_readings + readings)
        )


# -- definitions -------------------------------------------------------------------------------------

_REVISE = sa.text(
    """
    UPDATE edges
    SET newest_revision = newest_revision + (newest_sha256 <> :sha256)::int, newest_sha256 = :sha256
    WHERE id = :id RETURNING newest_revision
    """
)


def revision_of(connection: sa.Connection, edge: Edge, sha256: str) -> int:
    """The number of an edge's definitions; another one than before where they are others.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    e = tables.edges
    query = sa.select(e.c.newest_revision).where(e.c.id == edge.id, e.c.newest_sha256 == sha256)
    with store_errors():
        known = connection.execute(query).scalar()  # mostly, and then nothing is written
        if known is None:
            known = connection.execute(_REVISE, {"id": edge.id, "sha256": sha256}).scalar_one()
        return int(known)


def signing_secret(connection: sa.Connection, edge: Edge) -> str:
    """What both the edge and the database know of its key: the hash of its secret.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    k = tables.api_keys
    with store_errors():
        query = sa.select(k.c.secret_sha256).where(k.c.public_id == edge.key_id)
        return str(connection.execute(query).scalar_one())


# -- readings of points that are not declared ----------------------------------------------------------


def keep_unknown(connection: sa.Connection, edge: Edge, readings: Collection[Reading]) -> None:
    """Keep readings of undeclared points until they are declared; one that is kept already is left alone.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    rows = [{"edge_id": edge.id, **reading._asdict()} for reading in readings]
    if rows:
        with store_errors():
            connection.execute(insert(tables.edge_unknown_readings).on_conflict_do_nothing(), rows)


def unknown_points(connection: sa.Connection) -> dict[int, set[str]]:
    """Undeclared points of which readings wait, by edge.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    found: dict[int, set[str]] = {}
    with store_errors():
        for edge_id, point in connection.execute(_UNKNOWN_POINTS):
            found.setdefault(edge_id, set()).add(point)
    return found


_UNKNOWN_POINTS = sa.text(
    """
    WITH RECURSIVE one AS (
        (SELECT edge_id, point FROM edge_unknown_readings ORDER BY edge_id, point LIMIT 1)
        UNION ALL
        SELECT following.* FROM one CROSS JOIN LATERAL (
            SELECT edge_id, point FROM edge_unknown_readings u
            WHERE (u.edge_id, u.point) > (one.edge_id, one.point) ORDER BY edge_id, point LIMIT 1
        ) following
    ) SELECT edge_id, point FROM one
    """
)
"""A step of the index for each point, however many readings wait."""


def unknown_readings(
    connection: sa.Connection, edge_id: int, points: Collection[str], most: int
) -> list[Reading]:
    """The oldest readings that wait for these points.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    t = tables.edge_unknown_readings
    query = (
        sa.select(t.c.point, t.c.at, t.c.value, t.c.interval_s, t.c.valid_s)
        .where(t.c.edge_id == edge_id, t.c.point.in_(list(points)))
        .order_by(t.c.point, t.c.at)
        .limit(most)
    )
    with store_errors():
        return [Reading(*row) for row in connection.execute(query)]


def forget_unknown(connection: sa.Connection, edge_id: int, readings: Collection[Reading]) -> None:
    """Take readings out of those that wait, in the transaction that stores them.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    keys = {"points": [r.point for r in readings], "ats": [r.at for r in readings], "edge_id": edge_id}
    with store_errors():
        connection.execute(_FORGET, keys)


_FORGET = sa.text(
    """
    DELETE FROM edge_unknown_readings u
    USING unnest(CAST(:points AS text[]), CAST(:ats AS timestamptz[])) AS known (point, at)
    WHERE u.edge_id = :edge_id AND u.point = known.point AND u.at = known.at
    """
)


def by_site(edges: Collection[Edge]) -> Iterator[tuple[str, Edge]]:
    """The edge of each site that has one; not those whose key was revoked."""
    return ((site, edge) for edge in edges if not edge.is_revoked for site in edge.sites)
