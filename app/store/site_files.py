"""Texts of site files as they were edited in pages: drafts, and the revisions that were applied."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from app.errors import NotFound
from app.store import locks, tables
from app.store.engine import store_errors

DRAFTS_KEPT = timedelta(days=7)
_TABLE = tables.site_file_texts


@dataclass(frozen=True, slots=True)
class Written:
    """A text of a site file, and what became of it."""

    id: int
    owner: str
    text: str
    sha256: str
    base_sha256: str
    """Of the text that was edited; empty: there was none."""
    note: str
    written_by: str
    written_at: datetime
    applied_by: str | None
    applied_at: datetime | None
    """None: a draft."""


def sha256_of(text: str) -> str:
    """SHA-256 of a text, in hexadecimal; empty where there is no text."""
    return hashlib.sha256(text.encode()).hexdigest() if text else ""


def lock(connection: sa.Connection) -> None:
    """Be the only transaction that applies a site file; waits for the one before.

    Raises
    ------
    StoreUnavailable
        If the database is away, or the wait takes too long.
    """
    locks.hold(connection, locks.SITES)


def add(
    connection: sa.Connection,
    owner: str,
    text: str,
    *,
    base_sha256: str,
    written_by: str,
    note: str = "",
    applied_at: datetime | None = None,
) -> Written:
    """Keep a text: as a draft, or as a revision that is in force already. Old drafts are forgotten.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    stale = sa.and_(_TABLE.c.applied_at.is_(None), _TABLE.c.written_at < sa.func.now() - DRAFTS_KEPT)
    values = {
        "owner": owner,
        "text": text,
        "sha256": sha256_of(text),
        "base_sha256": base_sha256,
        "written_by": written_by,
        "note": note,
        "applied_at": applied_at,
        "applied_by": written_by if applied_at else None,
    }
    with store_errors():
        connection.execute(sa.delete(_TABLE).where(stale))
        return Written(*connection.execute(sa.insert(_TABLE).values(values).returning(_TABLE)).one())


def get(connection: sa.Connection, owner: str, number: int) -> Written:
    """A draft or revision.

    Raises
    ------
    NotFound
        If the owner's file has none of that number.
    StoreUnavailable
        If the database is away.
    """
    with store_errors():
        query = sa.select(_TABLE).where(_TABLE.c.id == number, _TABLE.c.owner == owner)
        row = connection.execute(query).one_or_none()
    if row is None:
        raise NotFound(f"there is no draft or revision {number} of the site file; drafts are kept for 7 days")
    return Written(*row)


def revisions(connection: sa.Connection, owner: str, most: int = 200) -> list[Written]:
    """What was applied, the newest first.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    query = (
        sa.select(_TABLE)
        .where(_TABLE.c.owner == owner, _TABLE.c.applied_at.is_not(None))
        .order_by(_TABLE.c.applied_at.desc(), _TABLE.c.id.desc())
        .limit(most)
    )
    with store_errors():
        return [Written(*row) for row in connection.execute(query)]


def mark_applied(connection: sa.Connection, number: int, by: str, note: str) -> None:
    """A draft is a revision now.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    update = sa.update(_TABLE).where(_TABLE.c.id == number)
    with store_errors():
        connection.execute(update.values(applied_by=by, applied_at=sa.func.clock_timestamp(), note=note))
