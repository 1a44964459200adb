"""Newest PUE document of each site and window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from app.store.engine import store_errors


def save(
    connection: sa.Connection, site_id: int, window: str, at: datetime, document: Mapping[str, Any]
) -> None:
    """Keep the newest PUE document of a window.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    query = sa.text(
        'INSERT INTO evaluations (site_id, "window", evaluated_at, document)'
        ' VALUES (:site, :window, :at, :document) ON CONFLICT (site_id, "window") DO UPDATE'
        " SET evaluated_at = excluded.evaluated_at, document = excluded.document"
    ).bindparams(sa.bindparam("document", type_=sa.JSON))
    with store_errors():
        connection.execute(query, {"site": site_id, "window": window, "at": at, "document": dict(document)})


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
