"""Frozen baselines of sites: added with the rows that they were fitted to, never changed."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from app.domain.baseline import Baseline, Conditions, canonical, sha256
from app.errors import NotFound, SeriesError
from app.store import tables
from app.store.engine import store_errors

_TABLE = tables.baselines


@dataclass(frozen=True, slots=True)
class Frozen:
    """A baseline as it was frozen."""

    site_id: int
    version: int
    """1 is the first of the site."""
    baseline: Baseline
    sha256: str
    rows: list[list[Any]]
    """What it was fitted to, as :meth:`app.domain.baseline.Conditions.rows` gives it."""
    author: str
    created_at: datetime


def save(
    connection: sa.Connection, site_id: int, baseline: Baseline, fitted_to: Conditions, author: str
) -> int:
    """Freeze a baseline; its version. One that is frozen already keeps the version that it has.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    document = baseline.to_json()
    query = sa.text(
        "INSERT INTO baselines (site_id, version, sha256, document, rows, author)"
        " SELECT :site, coalesce(max(version), 0) + 1, :sha256, :document, CAST(:rows AS jsonb), :author"
        " FROM baselines WHERE site_id = :site"
        " ON CONFLICT (site_id, sha256) DO NOTHING"
    )
    values = {"site": site_id, "sha256": baseline.digest, "document": document, "author": author}
    with store_errors():
        one_at_a_time = sa.text("SELECT FROM sites WHERE id = :site FOR NO KEY UPDATE")
        connection.execute(one_at_a_time, {"site": site_id})
        connection.execute(query, {**values, "rows": json.dumps(fitted_to.rows())})
        known = sa.select(_TABLE.c.version).where(
            _TABLE.c.site_id == site_id, _TABLE.c.sha256 == baseline.digest
        )
        return int(connection.execute(known).scalar_one())


def load(connection: sa.Connection, site_id: int, version: int | None = None) -> Frozen:
    """A frozen baseline of a site, the newest by default.

    Raises
    ------
    NotFound
        If the site has no such baseline.
    SeriesError
        If the stored document is not what its hash says.
    StoreUnavailable
        If the database is away.
    """
    query = sa.select(_TABLE).where(_TABLE.c.site_id == site_id).order_by(_TABLE.c.version.desc()).limit(1)
    query = query if version is None else query.where(_TABLE.c.version == version)
    with store_errors():
        row = connection.execute(query).first()
    if row is None:
        wanted = "no frozen baseline" if version is None else f"no frozen baseline {version}"
        raise NotFound(f"the site has {wanted}")
    return _checked(row)


def listing(connection: sa.Connection, site_id: int) -> list[Frozen]:
    """Every frozen baseline of a site, the newest first.

    Raises
    ------
    SeriesError
        If a stored document is not what its hash says.
    StoreUnavailable
        If the database is away.
    """
    query = sa.select(_TABLE).where(_TABLE.c.site_id == site_id).order_by(_TABLE.c.version.desc())
    with store_errors():
        return [_checked(row) for row in connection.execute(query)]


_LONG_UNFROZEN = sa.text(
    """
    SELECT s.id FROM sites s
    WHERE s.id = ANY(:sites) AND NOT EXISTS (SELECT FROM baselines b WHERE b.site_id = s.id)
      AND EXISTS (SELECT FROM site_15m q WHERE q.site_id = s.id AND q.room = '' AND q.at < :before)
      AND EXISTS (SELECT FROM site_15m q WHERE q.site_id = s.id AND q.room = '' AND q.at >= :before)
    ORDER BY s.id
    """
)


def long_unfrozen(connection: sa.Connection, sites: Iterable[int], before: datetime) -> list[int]:
    """Sites that have figures from before an instant and after it, and no frozen baseline.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    with store_errors():
        rows = connection.execute(_LONG_UNFROZEN, {"sites": list(sites), "before": before})
        return [int(row.id) for row in rows]


def _checked(row: Any) -> Frozen:
    """The stored baseline; nothing that was changed behind the service's back is used."""
    baseline = Baseline.from_json(row.document)
    is_same = sha256(row.document) == row.sha256 == baseline.digest
    if not is_same or sha256(canonical(row.rows)) != baseline.rows_sha256:
        raise SeriesError(
            f"frozen baseline {row.version} is not what its hash says; restore table baselines from a backup"
        )
    return Frozen(row.site_id, row.version, baseline, row.sha256, row.rows, row.author, row.created_at)
