"""Messages that wait to be sent, and the log of every attempt.

A message is written in the transaction of the change that it tells of. Before it is sent its channel's
lease is taken and the attempt is written down; a process that dies in between leaves the attempt in
doubt, and the message is sent again only after the time in which receivers would see it twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from app.domain.alarms.notification import Message, What
from app.store import locks, tables
from app.store.engine import driver, store_errors

STARTED, SENT, FAILED = "started", "sent", "failed"
"""Outcomes of an attempt; started: not known (yet)."""
FIRST_BACKOFF = timedelta(seconds=10)
LONGEST_BACKOFF = timedelta(minutes=15)
SKEW = timedelta(minutes=5)
"""What was written further ahead than this is from before the clock was set back; it holds nothing up."""
_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Waiting:
    """A message in the outbox."""

    id: int
    channel: str
    site_id: int
    what: What
    dedup_key: str
    payload: dict[str, Any]
    created_at: datetime
    attempts: int


def put(connection: sa.Connection, messages: Iterable[Message], now: datetime) -> int:
    """Leave messages to be sent; one whose key is known already is left out. How many are new.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    rows = [
        {
            "dedup_key": m.dedup_key,
            "channel": m.channel,
            "site_id": m.site_id,
            "alarm_id": m.alarm_id,
            "what": m.what.value,
            "payload": m.payload,
            "created_at": now,
            "not_before": m.not_before,
        }
        for m in messages
    ]
    statement = insert(tables.outbox).on_conflict_do_nothing(index_elements=["dedup_key"])
    with store_errors():
        parts = [rows[n : n + _AT_ONCE] for n in range(0, len(rows), _AT_ONCE)]
        statements = (statement.values(part).returning(tables.outbox.c.id) for part in parts)
        return sum(len(connection.execute(one).all()) for one in statements)


def known(connection: sa.Connection, keys: Sequence[str]) -> set[str]:
    """Which of these keys a message was ever left under.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    t = tables.outbox
    with store_errors():
        return set(connection.execute(sa.select(t.c.dedup_key).where(t.c.dedup_key.in_(keys))).scalars())


def lock_channel(connection: sa.Connection, channel: str) -> bool:
    """Whether this transaction is the only one that sends over a channel.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    return locks.try_channel(connection, channel)


_READY = sa.text(
    """
    SELECT id, channel, site_id, what, dedup_key, payload, created_at, attempts FROM outbox
    WHERE channel = :channel AND state = 'waiting' AND (
        not_before <= :now OR created_at > :ahead OR (attempts > 0 AND not_before > :backs_off_until)
    )
    ORDER BY id LIMIT :most
    """
)


def ready(connection: sa.Connection, channel: str, now: datetime, most: int = 200) -> list[Waiting]:
    """Messages of a channel that may be sent now, in their order.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    values = {
        "channel": channel,
        "now": now,
        "ahead": now + SKEW,
        "backs_off_until": now + LONGEST_BACKOFF,
        "most": most,
    }
    with store_errors():
        rows = connection.execute(_READY, values)
        return [Waiting(r[0], r[1], r[2], What(r[3]), *r[4:]) for r in rows]


def backs_off(connection: sa.Connection, channel: str, now: datetime) -> bool:
    """Whether the channel failed and is not to be tried again yet; what is newer waits too, to keep order.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    t = tables.outbox
    query = sa.select(t.c.id).where(
        t.c.channel == channel,
        t.c.state == "waiting",
        t.c.attempts > 0,
        t.c.not_before > now,
        t.c.not_before <= now + LONGEST_BACKOFF,
    )
    with store_errors():
        return connection.execute(query.limit(1)).first() is not None


def in_doubt(connection: sa.Connection, channel: str, since: datetime, now: datetime) -> bool:
    """Whether an attempt since then was neither sent nor failed, as far as is known.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    t = tables.deliveries
    lately = t.c.started_at.between(since, now + SKEW)
    query = sa.select(t.c.id).where(t.c.channel == channel, t.c.outcome == STARTED, lately)
    with store_errors():
        return connection.execute(query.limit(1)).first() is not None


def sent_since(connection: sa.Connection, channel: str, since: datetime, now: datetime) -> int:
    """Attempts over a channel since then, for its rate limit.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    t = tables.deliveries
    lately = t.c.started_at.between(since, now + SKEW)
    query = sa.select(sa.func.count()).where(t.c.channel == channel, lately)
    with store_errors():
        return int(connection.execute(query).scalar_one())


def begin_attempt(connection: sa.Connection, channel: str, ids: Sequence[int], now: datetime) -> int:
    """Write down that a message is about to be sent; the number of the attempt.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    t = tables.deliveries
    row = sa.insert(t).values(channel=channel, message_ids=list(ids), started_at=now, outcome=STARTED)
    with store_errors():
        return int(connection.execute(row.returning(t.c.id)).scalar_one())


def end_attempt(
    connection: sa.Connection, attempt: int, messages: Sequence[Waiting], problem: str, now: datetime
) -> None:
    """Write down how an attempt ended; without a `problem` its messages are sent, else they come again.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    d, o = tables.deliveries, tables.outbox
    outcome = {"outcome": FAILED if problem else SENT, "detail": problem[:2000], "finished_at": now}
    here = o.c.id.in_([m.id for m in messages])
    tries = 1 + max((m.attempts for m in messages), default=0)
    later = now + min(FIRST_BACKOFF * 2 ** min(tries - 1, 20), LONGEST_BACKOFF)
    change = (
        {"attempts": tries, "not_before": later}
        if problem
        else {"attempts": tries, "state": "sent", "sent_at": now}
    )
    with store_errors():
        connection.execute(sa.update(d).where(d.c.id == attempt).values(outcome))
        if messages:
            connection.execute(sa.update(o).where(here).values(change))


def has_unknown(connection: sa.Connection, channels: Sequence[str]) -> bool:
    """Whether something waits for channels that are no longer declared.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    query = "SELECT EXISTS (SELECT FROM outbox WHERE state = 'waiting' AND channel <> ALL(%s))"
    with store_errors():
        return driver(connection).execute(query, (list(channels),)).fetchone() == (True,)


def drop_unknown(connection: sa.Connection, channels: Sequence[str]) -> int:
    """Drop what waits for channels that are no longer declared; how many.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    t = tables.outbox
    here = (t.c.state == "waiting", t.c.channel.not_in(list(channels)))
    with store_errors():
        return connection.execute(sa.update(t).where(*here).values(state="dropped")).rowcount


_LAST = sa.text(
    """
    SELECT o.alarm_id, o.channel, max(o.created_at) FROM outbox o JOIN alarms a ON a.id = o.alarm_id
    WHERE a.resolved_at IS NULL AND o.created_at <= :ahead GROUP BY 1, 2
    """
)


def last_said(connection: sa.Connection, now: datetime) -> dict[int, dict[str, datetime]]:
    """When something was last said about each alarm that is going on, by channel; not by a clock ahead.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    out: dict[int, dict[str, datetime]] = {}
    with store_errors():
        for alarm_id, channel, at in connection.execute(_LAST, {"ahead": now + SKEW}):
            out.setdefault(alarm_id, {})[channel] = at
    return out


def notified(connection: sa.Connection, alarm_id: int) -> set[str]:
    """Channels over which something was said about an alarm.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    t = tables.outbox
    with store_errors():
        query = sa.select(t.c.channel).where(t.c.alarm_id == alarm_id).distinct()
        return set(connection.execute(query).scalars())


@dataclass(frozen=True, slots=True)
class Delivery:
    """One attempt to send."""

    id: int
    channel: str
    messages: int
    started_at: datetime
    finished_at: datetime | None
    outcome: str
    detail: str


def log(connection: sa.Connection, *, limit: int = 200) -> list[Delivery]:
    """The newest attempts, newest first.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    t = tables.deliveries
    names = ("started_at", "finished_at", "outcome", "detail")
    count = sa.func.cardinality(t.c.message_ids)
    query = sa.select(t.c.id, t.c.channel, count, *(t.c[n] for n in names)).order_by(t.c.id.desc())
    with store_errors():
        return [Delivery(*row) for row in connection.execute(query.limit(limit))]


@dataclass(frozen=True, slots=True)
class Tally:
    """What became of the messages of a channel."""

    waiting: int
    sent: int
    """Attempts that succeeded."""
    failed: int
    """Attempts that did not."""


_TALLY = sa.text(
    """
    SELECT channel, sum(waiting)::int, sum(sent)::int, sum(failed)::int FROM (
        SELECT channel, count(*) AS waiting, 0 AS sent, 0 AS failed FROM outbox
        WHERE state = 'waiting' GROUP BY channel
        UNION ALL
        SELECT channel, 0,
            count(*) FILTER (WHERE outcome = 'sent'), count(*) FILTER (WHERE outcome = 'failed')
        FROM deliveries GROUP BY channel
    ) AS parts GROUP BY channel
    """
)


def tallies(connection: sa.Connection) -> dict[str, Tally]:
    """What became of the messages, by channel.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    with store_errors():
        return {channel: Tally(*counts) for channel, *counts in connection.execute(_TALLY)}
