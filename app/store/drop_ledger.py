"""The drop ledger: every acknowledged reading that was not stored is counted here, with the reason."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from app.store import tables
from app.store.engine import store_errors
from app.store.sites import Stored


@dataclass(frozen=True, slots=True)
class Drop:
    """Readings of one point that were dropped for one reason."""

    point: str
    reason: str
    readings: int
    detail: str = ""
    reading: str = ""
    """Which one it was, where it was only one: written down again it is not counted again."""


def add(connection: sa.Connection, stored: Stored, collector: str, drops: Iterable[Drop]) -> int:
    """Write drops down, in the transaction of `connection`; how many readings they are.

    A batch may come again because nobody learnt of its commit: a reading that stands in the ledger already
    is not counted again.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    rows = [_row(stored, collector, d) for d in drops]
    if rows:
        with store_errors():
            connection.execute(insert(tables.dropped_readings).on_conflict_do_nothing(), rows)
    return sum(row["readings"] for row in rows)


def add_totals(connection: sa.Connection, stored: Stored, collector: str, totals: Iterable[Drop]) -> int:
    """Bring the ledger up to running totals, e.g. of a spool; how many readings were new.

    Writing the same totals again changes nothing.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    known = _totals(connection, collector)
    fresh = [
        Drop(d.point, d.reason, d.readings - known.get((d.point, d.reason), 0), d.detail) for d in totals
    ]
    return add(connection, stored, collector, [d for d in fresh if d.readings > 0])


def _totals(connection: sa.Connection, collector: str) -> dict[tuple[str, str], int]:
    query = sa.text(
        "SELECT detail ->> 'point', reason, sum(readings) FROM dropped_readings"
        " WHERE collector = :collector GROUP BY 1, 2"
    )
    with store_errors():
        rows = connection.execute(query, {"collector": collector})
        return {(point, reason): int(total) for point, reason, total in rows}


def _row(stored: Stored, collector: str, drop: Drop) -> dict[str, Any]:
    found = stored.fleet.point.get(drop.point)
    said = {"why": drop.detail, "reading": drop.reading}
    detail = {"point": drop.point, **{key: text for key, text in said.items() if text}}
    detail = {k: v.replace("\0", "") for k, v in detail.items()}  # no text in the database holds NUL
    return {
        "site_id": stored.site_id[found[0].id] if found else None,
        "collector": collector,
        "reason": drop.reason,
        "readings": drop.readings,
        "detail": detail,
    }
