"""Deliver what waits in the outbox: grouped by site, in order, with backoff, each attempt in the log."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog

from app.domain.alarms.notification import Channel, Message, Notifications, Watchdog, What
from app.errors import DataError, DeliveryFailed, NotFound
from app.jobs.notifications import channels, report_mail
from app.jobs.notifications.channels import Item
from app.store import alarms, evaluations, outbox, sites
from app.store.engine import Connection, Engine, begin, connect, glance
from app.store.outbox import Waiting

AT_ONCE = 8
"""Channels that are served at the same time; a slow one holds up no other."""
MOST_MESSAGES = 1000
"""Of one channel, in one run."""
STALE = timedelta(minutes=30)
"""Without an evaluation for so long the watchdog says nothing."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Delivered:
    """What a run did."""

    sent: int = 0
    """Messages of the outbox that were taken, not counting how they were grouped."""
    failed: int = 0

    def __add__(self, other: Delivered) -> Delivered:
        return Delivered(self.sent + other.sent, self.failed + other.failed)


def run(engine: Engine, now: datetime) -> Delivered:
    """Send what may be sent now, over all channels.

    Raises
    ------
    StoreUnavailable
        If the database is away; what was taken but not marked comes again after ``dedup_s``.
    """
    with glance(engine) as connection:
        settings = alarms.notifications(connection)
        known = [c.id for c in settings.channels]
        has_unknown = outbox.has_unknown(connection, known)
    if has_unknown or settings.watchdog is not None:
        with begin(engine) as connection:
            outbox.drop_unknown(connection, known)
            if settings.watchdog is not None:
                _watch(connection, settings.watchdog, now)
    if not settings.channels:
        return Delivered()
    with ThreadPoolExecutor(AT_ONCE, "notify") as pool:
        parts = list(pool.map(lambda c: serve(engine, c, settings, now), settings.channels))
    return sum(parts, Delivered())


def _watch(connection: Connection, watchdog: Watchdog, now: datetime) -> None:
    """Say that all is well, once in every stretch, unless evaluations stand still."""
    found = evaluations.load(connection, list(sites.load(connection).site_key))
    if not found or now - max(at for _, _, at, _ in found) > STALE:
        return
    turn = int(now.timestamp() // watchdog.every_s)
    messages = [
        Message(name, What.WATCHDOG, f"watchdog:{turn}:{name}", now, None, {"at": now.isoformat()})
        for name in watchdog.channels
    ]
    outbox.put(connection, messages, now)


def serve(engine: Engine, channel: Channel, settings: Notifications, now: datetime) -> Delivered:
    """Send what waits for one channel, until nothing does or something fails.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    done = Delivered()
    while done.sent < MOST_MESSAGES:
        claimed = _claim(engine, channel, settings, now)
        if claimed is None:
            return done
        attempt, batch = claimed
        problem = _send(engine, channel, batch, settings)
        with begin(engine) as connection:
            outbox.end_attempt(connection, attempt, batch, problem, now)
        if problem:
            _log.warning("message not delivered; it will be retried", channel=channel.id, problem=problem)
            return done + Delivered(0, len(batch))
        done += Delivered(len(batch), 0)
    return done


def _claim(
    engine: Engine, channel: Channel, settings: Notifications, now: datetime
) -> tuple[int, list[Waiting]] | None:
    """The next message of a channel, with its attempt written down; None where nothing may be sent now."""
    with begin(engine) as connection:
        if not outbox.lock_channel(connection, channel.id):
            return None
        if outbox.in_doubt(connection, channel.id, now - timedelta(seconds=settings.dedup_s), now):
            return None
        if outbox.backs_off(connection, channel.id, now):
            return None
        if outbox.sent_since(connection, channel.id, now - timedelta(hours=1), now) >= channel.most_per_hour:
            return None
        waiting = outbox.ready(connection, channel.id, now, channels.MOST_ITEMS)
        batch = _group(channel, waiting, settings, now)
        if not batch:
            return None
        return outbox.begin_attempt(connection, channel.id, [m.id for m in batch], now), batch


def _group(
    channel: Channel, waiting: Sequence[Waiting], settings: Notifications, now: datetime
) -> list[Waiting]:
    """The oldest message and those about the same site, as many as one holds; a report by itself."""
    if not waiting or timedelta(0) <= now - waiting[0].created_at < timedelta(seconds=settings.group_wait_s):
        return []
    if waiting[0].what is What.REPORT:
        return [waiting[0]]
    same = [m for m in waiting if m.site_id == waiting[0].site_id and m.what is not What.REPORT]
    return same[: channels.fits(channel, _items(same))]


def _items(batch: Sequence[Waiting]) -> list[Item]:
    return [Item(m.what, m.dedup_key, m.payload) for m in batch]


def _send(engine: Engine, channel: Channel, batch: Sequence[Waiting], settings: Notifications) -> str:
    """Send a batch; what went wrong, or nothing."""
    try:
        items = [report_mail.with_files(engine, channel, item) for item in _items(batch)]
        channels.send(channel, items, settings, datetime.now(UTC))
    except (DeliveryFailed, DataError) as error:
        return str(error)
    return ""


def test(engine: Engine, name: str, now: datetime) -> None:
    """Send a test message at once; the attempt is in the log.

    Raises
    ------
    NotFound
        If no channel has that name.
    DeliveryFailed
        If it was not taken.
    StoreUnavailable
        If the database is away.
    """
    with connect(engine) as connection:
        settings = alarms.notifications(connection)
    channel = settings.channel(name)
    if channel is None:
        known = ", ".join(c.id for c in settings.channels) or "none; add it under notifications.channels"
        raise NotFound(f"there is no channel {name!r}; known are {known}")
    with begin(engine) as connection:
        attempt = outbox.begin_attempt(connection, name, [], now)
    problem = "interrupted"
    try:
        item = Item(What.TEST, f"test:{now.isoformat()}:{name}", {"at": now.isoformat()})
        channels.send(channel, [item], settings, now)
        problem = ""
    except DeliveryFailed as error:
        problem = str(error)
        raise
    finally:
        with begin(engine) as connection:
            outbox.end_attempt(connection, attempt, [], problem, now)
