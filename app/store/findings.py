"""What was found about the readings, and which meters have to be looked at again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from app.domain.quality.finding import Finding, FindingKind
from app.errors import NotFound
from app.store import tables
from app.store.engine import store_errors

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
    f, p, s = tables.findings, tables.points, tables.sites
    query = (
        sa.select(f, s.c.key.label("site"), sa.func.coalesce(p.c.key, "").label("point"))
        .join(s, s.c.id == f.c.site_id)
        .outerjoin(p, p.c.id == f.c.point_id)
        .where(f.c.site_id == site_id)
        .order_by(f.c.start_at.desc(), f.c.id)
    )
    query = query if with_cleared else query.where(f.c.state != CLEARED)
    query = query if start is None else query.where(f.c.end_at >= start)
    query = query if end is None else query.where(f.c.start_at < end)
    with store_errors():
        return [_finding(row) for row in connection.execute(query)]


def acknowledge(connection: sa.Connection, site_id: int, finding_id: int) -> None:
    """Mark an open finding as seen.

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
        if not connection.execute(sa.update(f).where(*here).values(state=ACKNOWLEDGED)).rowcount:
            raise NotFound(f"there is no open finding {finding_id}")


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


_QUEUE = sa.text(
    """
    INSERT INTO check_queue (meter_id, start_at, end_at)
    SELECT meter_id, :start, :end FROM points WHERE id = :point
    ON CONFLICT (meter_id) DO UPDATE SET start_at = least(check_queue.start_at, excluded.start_at),
        end_at = greatest(check_queue.end_at, excluded.end_at)
    """
)


def queue(connection: sa.Connection, stretches: Iterable[tuple[int, datetime, datetime]]) -> None:
    """Ask for the meters of these points to be looked at: point number, start, end.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    rows = [{"point": p, "start": start, "end": end} for p, start, end in sorted(stretches)]
    if rows:
        with store_errors():
            connection.execute(_QUEUE, rows)


def queue_everything(connection: sa.Connection) -> None:
    """Ask for the whole history of every meter to be looked at.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    query = sa.text(
        "INSERT INTO check_queue (meter_id, start_at, end_at)"
        " SELECT id, TIMESTAMPTZ '1990-01-01Z', now() FROM meters WHERE retired_at IS NULL"
        " ON CONFLICT (meter_id) DO UPDATE SET start_at = excluded.start_at"
    )
    with store_errors():
        connection.execute(query)


def queued(connection: sa.Connection) -> list[int]:
    """Numbers of the meters that wait to be looked at.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    with store_errors():
        return list(
            connection.execute(sa.text("SELECT meter_id FROM check_queue ORDER BY meter_id")).scalars()
        )


def take(connection: sa.Connection, meter_id: int) -> Look | None:
    """Remove a meter from the queue and return what to look at; it comes back if the transaction fails.

    Returns
    -------
    Look or None
        None where another process has it.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    query = sa.text(
        "DELETE FROM check_queue WHERE meter_id ="
        " (SELECT meter_id FROM check_queue WHERE meter_id = :meter FOR UPDATE SKIP LOCKED)"
        " RETURNING meter_id, start_at, end_at"
    )
    with store_errors():
        row = connection.execute(query, {"meter": meter_id}).one_or_none()
    return None if row is None else Look(*row)


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
