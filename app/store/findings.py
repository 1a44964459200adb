"""What was found about the readings, and which meters have to be looked at again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from app.domain.energy import Event
from app.domain.period import Period
from app.domain.quality.finding import GOES_ON, WITHHOLDING, Finding, FindingKind, Severity
from app.domain.quality.units import withholding
from app.domain.reading import LATEST
from app.errors import NotFound
from app.store import locks, readings, rollup_queue, tables
from app.store.binary_copy import array_text
from app.store.engine import driver, store_errors
from app.store.readings import from_us

OPEN, ACKNOWLEDGED, CLEARED = "open", "acknowledged", "cleared"
"""States of a finding; cleared: no longer found after data or ledger changed."""


@dataclass(frozen=True, slots=True)
class StoredFinding:
    """A finding with its number, state and history."""

    id: int
    site: str
    point: str
    """Empty where it concerns the whole site."""
    kind: str
    start: datetime
    end: datetime
    severity: str
    state: str
    effect_kwh: float | None
    evidence: dict[str, Any]
    first_seen_at: datetime
    last_seen_at: datetime


@dataclass(frozen=True, slots=True)
class Scope:
    """What a look at the readings covered: findings of it that were not found again are cleared."""

    site_id: int
    point_ids: Sequence[int]
    kinds: Sequence[FindingKind]
    start: datetime
    end: datetime


_CLEAR = sa.text(
    """
    UPDATE findings SET state = 'cleared', last_seen_at = now()
    WHERE site_id = :site AND point_id = ANY(:points) AND kind = ANY(:kinds) AND state <> 'cleared'
      AND start_at >= :start AND start_at < :end
      AND (point_id, kind, start_at) NOT IN (
          SELECT * FROM unnest(CAST(:found_points AS int[]), CAST(:found_kinds AS text[]),
                               CAST(:found_starts AS timestamptz[])))
    """
)


def replace(
    connection: sa.Connection, scope: Scope, found: Sequence[Finding], point_ids: dict[str, int]
) -> None:
    """Keep what was found within `scope` and clear what was not found again.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    inside = [f for f in found if scope.start <= f.start < scope.end]
    numbers = [point_ids[f.point] if f.point else 0 for f in inside]
    moves_energy = FindingKind.UNIT_CHANGED in scope.kinds
    before = withheld(connection, scope.point_ids) if moves_energy else {}
    with store_errors():
        connection.execute(
            _CLEAR,
            {
                "site": scope.site_id,
                "points": list(scope.point_ids),
                "kinds": [k.value for k in scope.kinds],
                "start": scope.start,
                "end": scope.end,
                "found_points": numbers,
                "found_kinds": [f.kind.value for f in inside],
                "found_starts": [f.start for f in inside],
            },
        )
        for finding, number in zip(inside, numbers, strict=True):
            connection.execute(_upsert(scope.site_id, number, finding))
    if moves_energy:
        _queue_changed(connection, before, withheld(connection, scope.point_ids))


_WITHHELD = sa.text(
    """
    SELECT point_id, (extract(epoch FROM start_at) * 1000000)::bigint,
        (extract(epoch FROM end_at) * 1000000)::bigint, jsonb_exists(evidence, :goes_on)
    FROM findings
    WHERE point_id = ANY(:points) AND kind = :kind AND state = 'open' ORDER BY point_id, start_at
    """
)


def withheld(connection: sa.Connection, point_ids: Sequence[int]) -> dict[int, list[Event]]:
    """Readings of each point that open findings keep from counting.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    found: dict[int, list[Event]] = {}
    values = {"points": list(point_ids), "kind": FindingKind.UNIT_CHANGED.value, "goes_on": GOES_ON}
    with store_errors():
        for point, start_us, end_us, goes_on in connection.execute(_WITHHELD, values):
            found.setdefault(point, []).append(withholding(start_us, end_us, goes_on=goes_on))
    return found


def _queue_changed(
    connection: sa.Connection, before: dict[int, list[Event]], after: dict[int, list[Event]]
) -> None:
    """Ask for the energies to be computed again of which other readings count now."""
    for point in sorted({*before, *after}):
        changed = set(before.get(point, ())) ^ set(after.get(point, ()))
        known = readings.known_span(connection, [point]) if changed else None
        if known is None:
            continue
        first = min(known.end, *(from_us(event.start_us) for event in changed))
        rollup_queue.add(connection, [rollup_queue.Dirty(point, first, known.end)])


def _upsert(site_id: int, point_id: int, finding: Finding) -> sa.Insert:
    statement = insert(tables.findings).values(
        site_id=site_id,
        point_id=point_id,
        kind=finding.kind.value,
        start_at=finding.start,
        end_at=finding.end,
        severity=finding.severity.value,
        state=OPEN,
        effect_kwh=finding.effect_kwh,
        evidence=finding.evidence,
    )
    fresh = {name: statement.excluded[name] for name in ("end_at", "severity", "effect_kwh", "evidence")}
    state = sa.case((tables.findings.c.state == ACKNOWLEDGED, ACKNOWLEDGED), else_=OPEN)
    return statement.on_conflict_do_update(
        constraint="findings_key", set_={**fresh, "state": state, "last_seen_at": sa.func.now()}
    )


def listing(
    connection: sa.Connection,
    site_id: int,
    *,
    start: datetime | None = None,
    end: datetime | None = None,
    with_cleared: bool = False,
) -> list[StoredFinding]:
    """Findings of a site that touch a period, newest first.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    query = _listed(start, end, with_cleared=with_cleared).where(tables.findings.c.site_id == site_id)
    with store_errors():
        return [_finding(row) for row in connection.execute(query)]


def listings(
    connection: sa.Connection, site_ids: Sequence[int], *, start: datetime, end: datetime
) -> dict[int, list[StoredFinding]]:
    """As :func:`listing`, of many sites at once, by number of the site; those without any are absent.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    query = _listed(start, end, with_cleared=False).where(tables.findings.c.site_id.in_(site_ids))
    found: dict[int, list[StoredFinding]] = {}
    with store_errors():
        for row in connection.execute(query):
            found.setdefault(row.site_id, []).append(_finding(row))
    return found


def _listed(start: datetime | None, end: datetime | None, *, with_cleared: bool) -> sa.Select[Any]:
    f, p, s = tables.findings, tables.points, tables.sites
    query: sa.Select[Any] = (
        sa.select(f, s.c.key.label("site"), sa.func.coalesce(p.c.key, "").label("point"))
        .join(s, s.c.id == f.c.site_id)
        .outerjoin(p, p.c.id == f.c.point_id)
        .order_by(f.c.start_at.desc(), f.c.id)
    )
    query = query if with_cleared else query.where(f.c.state != CLEARED)
    query = query if start is None else query.where(f.c.end_at >= start)
    return query if end is None else query.where(f.c.start_at < end)


def acknowledge(connection: sa.Connection, site_id: int, finding_id: int) -> None:
    """Mark an open finding as seen; readings that it kept from counting do from now on.

    Raises
    ------
    NotFound
        If the site has no such open finding.
    StoreUnavailable
        If the database is away.
    """
    f = tables.findings
    here = (f.c.id == finding_id, f.c.site_id == site_id, f.c.state == OPEN)
    with store_errors():
        point = connection.execute(sa.select(f.c.point_id).where(*here)).scalar()
        if point is None:
            raise NotFound(f"there is no open finding {finding_id}")
        before = withheld(connection, [point])
        connection.execute(sa.update(f).where(*here).values(state=ACKNOWLEDGED))
    _queue_changed(connection, before, withheld(connection, [point]))


def _finding(row: Any) -> StoredFinding:
    return StoredFinding(
        row.id,
        row.site,
        row.point,
        row.kind,
        row.start_at,
        row.end_at,
        row.severity,
        row.state,
        row.effect_kwh,
        row.evidence,
        row.first_seen_at,
        row.last_seen_at,
    )


# -- work to do --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Look:
    """A meter whose readings changed between two instants."""

    meter_id: int
    start: datetime
    end: datetime
    version: str = ""
    """Changes whenever more of the meter changes."""


_QUEUE = """
INSERT INTO check_queue (meter_id, start_at, end_at)
SELECT p.meter_id, CAST('epoch' AS timestamptz) + min(w.start_us) * interval '1 microsecond',
    CAST('epoch' AS timestamptz) + max(w.end_us) * interval '1 microsecond'
FROM unnest(%s::int[], %s::bigint[], %s::bigint[]) AS w(point_id, start_us, end_us)
    JOIN points p ON p.id = w.point_id
GROUP BY p.meter_id ORDER BY p.meter_id
ON CONFLICT (meter_id) DO UPDATE SET start_at = least(check_queue.start_at, excluded.start_at),
    end_at = greatest(check_queue.end_at, excluded.end_at)
"""


def queue(connection: sa.Connection, stretches: Iterable[tuple[int, int, int]]) -> None:
    """Ask for the meters of these points to be looked at: point number, start, end [us].

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    rows = list(stretches)
    if rows:
        columns = tuple(array_text(column) for column in zip(*rows, strict=True))
        with store_errors():
            driver(connection).execute(_QUEUE, columns)


_LENGTHS = """
SELECT EXISTS (SELECT FROM check_queue WHERE end_at - start_at <= %s),
    EXISTS (SELECT FROM check_queue WHERE end_at - start_at > %s)
"""


def queued_lengths(connection: sa.Connection, longest: timedelta) -> set[bool]:
    """Of true and false: whether the stretches that wait are short, up to `longest`; both where both wait.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    with store_errors():
        row = driver(connection).execute(_LENGTHS, (longest, longest)).fetchone()
    return {is_short for is_short, waits in zip((True, False), row or (), strict=True) if waits}


_TAKE = """
SELECT meter_id, start_at, end_at, xmin::text FROM check_queue
WHERE meter_id > %s AND (end_at - start_at <= %s) = %s ORDER BY meter_id LIMIT %s
"""


@dataclass(frozen=True, slots=True)
class Taken:
    """A part of the queue that a transaction has for itself; it stays in the queue until :func:`done`."""

    looks: list[Look]
    """By meter; without those that another process looks at just now."""
    last: int | None
    """Number of the meter to go on after; None where no more wait."""


def take(connection: sa.Connection, *, after: int, most: int, longest: timedelta, is_short: bool) -> Taken:
    """The next meters that wait to be looked at.

    Parameters
    ----------
    after : int
        Meters with higher numbers only.
    most : int
        How many at once.
    longest : timedelta
        Stretches up to this length are short.
    is_short : bool
        Whether the short ones are wanted, or the others.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    with store_errors():
        rows = driver(connection).execute(_TAKE, (after, longest, is_short, most)).fetchall()
    looks = [Look(*row) for row in rows]
    last = looks[-1].meter_id if len(looks) == most else None
    free = locks.try_meters(connection, [look.meter_id for look in looks])
    return Taken([look for look in looks if look.meter_id in free], last)


def lock(connection: sa.Connection, meter_id: int) -> bool:
    """Whether this transaction alone looks at the meter now.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    return meter_id in locks.try_meters(connection, [meter_id])


_DONE = """
DELETE FROM check_queue q USING (
    SELECT c.meter_id FROM check_queue c
    JOIN unnest(%s::int[], %s::text[]) AS w(meter_id, version)
        ON w.meter_id = c.meter_id AND w.version = c.xmin::text
    ORDER BY c.meter_id FOR UPDATE OF c SKIP LOCKED
) seen
WHERE seen.meter_id = q.meter_id
"""


def done(connection: sa.Connection, looks: Sequence[Look]) -> None:
    """Take meters that were looked at out of the queue, unless they changed again meanwhile.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    if looks:
        meters, versions = [look.meter_id for look in looks], [look.version for look in looks]
        with store_errors():
            driver(connection).execute(_DONE, (array_text(meters), versions))


_STANDING = sa.text(
    """
    SELECT point_id, start_at, end_at FROM findings
    WHERE point_id = ANY(:points) AND kind = ANY(:kinds) AND state <> 'cleared'
      AND end_at >= :start AND start_at <= :end
    """
)


def standing(
    connection: sa.Connection,
    point_ids: Sequence[int],
    kinds: Sequence[FindingKind],
    start: datetime,
    end: datetime,
) -> list[tuple[int, datetime, datetime]]:
    """Findings of points, of some kinds, that are not cleared and touch a stretch: point, start, end.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    values = {"points": list(point_ids), "kinds": [k.value for k in kinds], "start": start, "end": end}
    with store_errors():
        return [(p, first, last) for p, first, last in connection.execute(_STANDING, values)]


_STANDING_COUNT = sa.text(
    """
    SELECT s.key, count(*) FROM findings f JOIN sites s ON s.id = f.site_id
    WHERE f.kind = :kind AND f.state <> 'cleared' GROUP BY s.key
    """
)


def standing_count(connection: sa.Connection, kind: FindingKind) -> dict[str, int]:
    """Findings of a kind that are not cleared, by site; sites without any are absent.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    with store_errors():
        return {site: int(n) for site, n in connection.execute(_STANDING_COUNT, {"kind": kind.value})}


_NOT_PLAIN = """
SELECT point_id FROM findings WHERE point_id = ANY(%(points)s::int[]) AND kind = ANY(%(kinds)s)
    AND state <> 'cleared' AND end_at >= %(near_start)s AND start_at <= %(near_end)s
UNION SELECT point_id FROM reading_conflicts
    WHERE at >= %(start)s AND at < %(end)s AND point_id = ANY(%(points)s::int[])
UNION SELECT point_id FROM events WHERE point_id = ANY(%(points)s::int[]) AND withdrawn_at IS NULL
"""


def not_plain(
    connection: sa.Connection,
    point_ids: Sequence[int],
    kinds: Sequence[FindingKind],
    near: Period,
    span: Period,
) -> set[int]:
    """Points of which something is known that their readings do not show.

    Findings of some kinds that are not cleared and touch `near`, readings within `span` that contradict
    stored ones, or entries of the ledger, of any time.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    values = {
        "points": array_text(point_ids),
        "kinds": [kind.value for kind in kinds],
        "near_start": near.start,
        "near_end": near.end,
        "start": span.start,
        "end": span.end,
    }
    with store_errors():
        return {point for (point,) in driver(connection).execute(_NOT_PLAIN, values)}


def queued_sites(connection: sa.Connection) -> dict[int, Period]:
    """Sites with meters in the queue, by number, and the stretch that their changes span.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    query = sa.text(
        "SELECT m.site_id, min(q.start_at), max(q.end_at) FROM check_queue q"
        " JOIN meters m ON m.id = q.meter_id GROUP BY m.site_id"
    )
    with store_errors():
        rows = connection.execute(query).all()
    return {site_id: Period(start, end + timedelta(microseconds=1)) for site_id, start, end in rows}


def months_of_site(connection: sa.Connection, site_id: int, days: tuple[date, date]) -> list[date]:
    """Local months of a site in which something was measured, from one day to another.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    query = sa.text(
        "SELECT month FROM site_months WHERE site_id = :site"
        " AND month BETWEEN date_trunc('month', CAST(:first AS date)) AND :last ORDER BY month"
    )
    with store_errors():
        values = {"site": site_id, "first": days[0], "last": days[1]}
        return list(connection.execute(query, values).scalars())


_DOUBTS = sa.text(
    """
    SELECT f.site_id, f.point_id, p.key, f.kind, f.start_at,
        CASE WHEN jsonb_exists(f.evidence, :goes_on) THEN :latest ELSE f.end_at END
    FROM findings f LEFT JOIN points p ON p.id = f.point_id
    WHERE f.site_id = ANY(CAST(:sites AS int[])) AND f.state = 'open' AND f.kind = ANY(:kinds)
      AND f.start_at < :end AND (f.end_at > :start OR jsonb_exists(f.evidence, :goes_on))
    ORDER BY f.start_at
    """
)


class DoubtRow(NamedTuple):
    """An open finding for which a figure waits."""

    site_id: int
    point_id: int
    """0: about the site."""
    point: str | None
    kind: str
    start: datetime
    end: datetime


def doubts(connection: sa.Connection, site_ids: Sequence[int], period: Period) -> list[DoubtRow]:
    """Open findings of a period for which a figure of one of some sites waits, by start.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    kinds = [kind.value for kind in WITHHOLDING]
    values = {"start": period.start, "end": period.end, "latest": LATEST, "goes_on": GOES_ON}
    with store_errors():
        return [
            DoubtRow(*row)
            for row in connection.execute(_DOUBTS, {**values, "kinds": kinds, "sites": array_text(site_ids)})
        ]


_LASTING = sa.text(
    """
    SELECT p.key, f.kind, f.start_at, f.end_at, f.severity, f.effect_kwh, f.evidence
    FROM findings f JOIN points p ON p.id = f.point_id
    WHERE f.point_id = ANY(:points) AND f.state <> 'cleared'
      AND f.kind = ANY(:kinds) AND f.start_at < :before
      AND (f.end_at >= :since OR jsonb_exists(f.evidence, :goes_on))
    ORDER BY f.start_at
    """
)


def lasting(
    connection: sa.Connection, points: Sequence[int], since: datetime, before: datetime
) -> list[Finding]:
    """Missing loads and changed ratios that began before an instant and lasted beyond another, in order.

    Acknowledged ones too: a person decides month by month.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    kinds = [FindingKind.IT_MISSING.value, FindingKind.RATIO_CHANGED.value]
    values = {"points": list(points), "kinds": kinds, "goes_on": GOES_ON}
    with store_errors():
        rows = connection.execute(_LASTING, {**values, "since": since, "before": before})
        return [
            Finding(FindingKind(kind), key, start, end, Severity(severity), effect, evidence)
            for key, kind, start, end, severity, effect, evidence in rows
        ]


_CONFLICTS = sa.text(
    """
    SELECT (extract(epoch FROM at) * 1000000)::bigint, stored_value, value FROM reading_conflicts
    WHERE point_id = :point AND at >= :start AND at < :end ORDER BY at
    """
)


def conflicts(
    connection: sa.Connection, point_id: int, start: datetime, end: datetime
) -> list[tuple[int, float, float]]:
    """Readings that contradict a stored one: instant [us], value stored, value offered.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    with store_errors():
        rows = connection.execute(_CONFLICTS, {"point": point_id, "start": start, "end": end})
        return [(at_us, stored, offered) for at_us, stored, offered in rows]
