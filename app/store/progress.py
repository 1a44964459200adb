"""How far figures are behind the readings, and how much waits; cheap enough to be asked every few seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import sqlalchemy as sa

from app.domain.quality.finding import FindingKind
from app.store import failed_months, findings
from app.store.engine import store_errors

LOOKED_AT = 20_000
"""So many of the oldest entries are looked at; a longer queue says the age of the rest together."""

_LAG = sa.text(
    """
    WITH oldest AS MATERIALIZED (
        SELECT point_id, queued_at FROM rollup_queue ORDER BY id LIMIT :most
    ), last AS (
        SELECT CASE WHEN count(*) = :most THEN max(queued_at) END AS queued_at FROM oldest
    ), waiting AS (
        SELECT p.site_id, min(o.queued_at) AS queued_at
        FROM oldest o JOIN points p ON p.id = o.point_id GROUP BY p.site_id
    )
    SELECT s.key, greatest(extract(epoch FROM now() - coalesce(w.queued_at, l.queued_at)), 0)
    FROM sites s CROSS JOIN last l LEFT JOIN waiting w ON w.site_id = s.id WHERE s.retired_at IS NULL
    """
)
_OLDEST = sa.text(
    "SELECT greatest(extract(epoch FROM now() - queued_at), 0) FROM rollup_queue ORDER BY id LIMIT 1"
)
_COUNTED = 200_000
_LENGTH = """
SELECT '{name}' AS name, CASE WHEN n < :most THEN n
    ELSE greatest(n, (SELECT reltuples FROM pg_class WHERE oid = to_regclass('{table}')))::bigint END
FROM (SELECT count(*) AS n FROM (SELECT FROM {table} WHERE {which} LIMIT :most) part) counted
"""
_QUEUES = {
    "rollup": ("rollup_queue", "true"),
    "findings": ("check_queue", "true"),
    "messages": ("outbox", "state = 'waiting'"),
    "reports": ("report_orders", "state IN ('waiting', 'running')"),
}
_LENGTHS = sa.text(
    " UNION ALL ".join(
        _LENGTH.format(name=name, table=table, which=which) for name, (table, which) in _QUEUES.items()
    )
)


@dataclass(frozen=True, slots=True)
class Progress:
    """What waits to be done."""

    lag_s: Mapping[str, float] = field(default_factory=dict)
    """How long the oldest reading that is not in the figures has been stored, by site; 0: all are. [s]"""
    waiting: Mapping[str, int] = field(default_factory=dict)
    """Entries by queue; beyond 200,000 as the planner estimates them."""
    failed_months: Mapping[str, int] = field(default_factory=dict)
    """Months whose findings failed at the last try, by site."""
    failed_files: Mapping[str, int] = field(default_factory=dict)
    """Files that watched folders set aside and that still lie there, by site."""


def look(connection: sa.Connection) -> Progress:
    """Ask the queues.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    with store_errors():
        lag_s = {site: float(age or 0.0) for site, age in connection.execute(_LAG, {"most": LOOKED_AT})}
        waiting = {name: int(count) for name, count in connection.execute(_LENGTHS, {"most": _COUNTED})}
        failed = {site: len(months) for site, months in failed_months.of_sites(connection).items()}
        files = findings.standing_count(connection, FindingKind.IMPORT_FAILED)
    by_site = ({site: counts.get(site, 0) for site in lag_s} for counts in (failed, files))
    return Progress(lag_s, waiting, *by_site)


def oldest_s(connection: sa.Connection) -> float:
    """How long the oldest reading of any site that is not in the figures has been stored. [s]

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    with store_errors():
        return float(connection.execute(_OLDEST).scalar() or 0.0)
