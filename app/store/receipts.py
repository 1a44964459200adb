"""Readings that callers sent, as the audit log keeps them: one entry for each caller, site and hour.

A batch adds to a row of its caller in the transaction that stores it: counts, and the SHA-256 of its rows.
Rows of hours that are over become entries of the audit log. So batches do not wait for each other at the
chain of the log, and a hundred sites do not fill it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from app.store import audit
from app.store.audit import Actor
from app.store.engine import Engine, begin, driver, store_errors

AT_ONCE = 100
"""Entries per transaction: the lock of the audit log is held meanwhile."""
MODULUS = 1 << 256

_ADD = """
INSERT INTO reading_receipts AS r
    (actor, source, key, target, hour, batches, accepted, first_at, last_at, digest)
VALUES (%(actor)s, %(source)s, %(key)s, %(target)s, date_trunc('hour', %(at)s::timestamptz, 'UTC'), 1,
    %(accepted)s, %(at)s, %(at)s, %(digest)s::numeric)
ON CONFLICT (actor, source, key, target, hour) DO UPDATE SET batches = r.batches + 1,
    accepted = r.accepted + excluded.accepted, first_at = least(r.first_at, excluded.first_at),
    last_at = greatest(r.last_at, excluded.last_at),
    digest = mod(r.digest + excluded.digest, %(modulus)s::numeric)
"""
_TAKE = sa.text(
    """
    DELETE FROM reading_receipts WHERE (actor, source, key, target, hour) IN (
        SELECT actor, source, key, target, hour FROM reading_receipts WHERE hour < :before
        ORDER BY hour, actor, target LIMIT :most FOR UPDATE SKIP LOCKED)
    RETURNING actor, source, key, target, batches, accepted, first_at, last_at, digest::text
    """
)


def digest(rows: Iterable[Any]) -> int:
    """SHA-256 of the rows of a batch, as JSON with sorted keys and no spaces, as a number."""
    text = json.dumps(list(rows), sort_keys=True, separators=(",", ":"))
    return int.from_bytes(hashlib.sha256(text.encode()).digest(), "big")


def add(
    connection: sa.Connection, actor: Actor, target: str, accepted: int, digest: int, at: datetime
) -> None:
    """Count a batch, in the transaction that stores it; call it last.

    Parameters
    ----------
    connection : Connection
    actor : Actor
        Who sent it.
    target : str
        Its sites.
    accepted : int
        Readings of it that were stored.
    digest : int
        See :func:`digest`.
    at : datetime
        When it came.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    values = {
        "actor": actor.actor,
        "source": actor.source,
        "key": actor.key,
        "target": target,
        "at": at,
        "accepted": accepted,
        "digest": str(digest),
        "modulus": str(MODULUS),
    }
    with store_errors():
        driver(connection).execute(_ADD, values)


def settle(engine: Engine, before: datetime) -> int:
    """Make entries of the audit log of all hours that began before an instant; how many.

    Raises
    ------
    StoreUnavailable
        If the database is away; what is not in the log yet stays where it is.
    """
    count = 0
    while taken := _settle_some(engine, before):
        count += taken
    return count


def _settle_some(engine: Engine, before: datetime) -> int:
    with begin(engine) as connection:
        rows = connection.execute(_TAKE, {"before": before, "most": AT_ONCE}).all()
        for row in sorted(rows, key=lambda r: r.first_at):
            detail = {
                "accepted": row.accepted,
                "batches": row.batches,
                "first_at": row.first_at.astimezone(UTC).isoformat(),
                "last_at": row.last_at.astimezone(UTC).isoformat(),
                "sha256_sum": f"{int(row.digest):064x}",
            }
            entry = Actor(row.actor, row.source, row.key).did("readings.add", row.target, detail)
            audit.append(connection, entry)
    return len(rows)
