"""Newest PUE document of each site and window."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from app.store.engine import store_errors


def save(
    connection: sa.Connection, at: datetime, documents: Mapping[int, Mapping[str, Mapping[str, Any]]]
) -> None:
    """Keep the newest PUE document of each window of some sites, by number of the site.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    query = sa.text(
        'INSERT INTO evaluations (site_id, "window", evaluated_at, document)'
        " SELECT CAST(s.number AS int), d.name, :at, d.document"
        " FROM jsonb_each(CAST(:documents AS jsonb)) AS s (number, documents)"
        " CROSS JOIN jsonb_each(s.documents) AS d (name, document) ORDER BY 1, 2"
        ' ON CONFLICT (site_id, "window") DO UPDATE'
        " SET evaluated_at = excluded.evaluated_at, document = excluded.document"
    )
    with store_errors():
        connection.execute(query, {"at": at, "documents": json.dumps(documents)})


def load(connection: sa.Connection, site_ids: Sequence[int]) -> list[tuple[int, str, datetime, Any]]:
    """Newest evaluations: site number, window, instant, PUE document.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    query = 'SELECT site_id, "window", evaluated_at, document FROM evaluations WHERE site_id = ANY(:sites)'
    with store_errors():
        return [tuple(row) for row in connection.execute(sa.text(query), {"sites": list(site_ids)})]


def versions(
    connection: sa.Connection, site_ids: Sequence[int]
) -> dict[tuple[int, str], tuple[datetime, str]]:
    """When each window of each site was evaluated, and what changes whenever it is evaluated again.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    query = 'SELECT site_id, "window", evaluated_at, xmin::text FROM evaluations WHERE site_id = ANY(:sites)'
    with store_errors():
        rows = connection.execute(sa.text(query), {"sites": list(site_ids)})
        return {(site, window): (at, version) for site, window, at, version in rows}


def documents(connection: sa.Connection, keys: Collection[tuple[int, str]]) -> dict[tuple[int, str], Any]:
    """Newest PUE documents of some windows, by number of the site and window.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    query = sa.text(
        'SELECT e.site_id, e."window", e.document FROM evaluations e'
        " JOIN unnest(CAST(:sites AS int[]), CAST(:windows AS text[])) AS w (site_id, name)"
        ' ON e.site_id = w.site_id AND e."window" = w.name'
    )
    values = {"sites": [site for site, _ in keys], "windows": [window for _, window in keys]}
    with store_errors():
        return {(site, window): document for site, window, document in connection.execute(query, values)}
