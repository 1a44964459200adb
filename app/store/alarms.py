"""Alarms: their memory between evaluations, their occurrences, and what people did about them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

import sqlalchemy as sa
from pydantic import TypeAdapter

from app.domain.alarms.alarm import Alarms, Memory, Rule, Severity, Subject, Transition, fingerprint
from app.domain.alarms.notification import Notifications, Silence
from app.domain.data.alarm_rules import ALARM_RULES
from app.errors import NotFound
from app.store import deployment, locks, tables
from app.store.engine import driver, store_errors
from app.store.sites import Stored

DEPLOYMENT = 0
"""In place of a site's number, for what belongs to no site."""


@cache  # built where they are needed, which is not in most commands
def _alarms() -> TypeAdapter[Alarms]:
    return TypeAdapter(Alarms)


@cache
def _notifications() -> TypeAdapter[Notifications]:
    return TypeAdapter(Notifications)


@cache
def _memory() -> TypeAdapter[Memory]:
    return TypeAdapter(Memory)


# -- configuration -----------------------------------------------------------------------------------


def save_sections(connection: sa.Connection, alarms: Alarms, notifications: Notifications) -> None:
    """Keep the site file's sections, so that every process sees them.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    deployment.save(connection, "alarms", _alarms().dump_python(alarms, mode="json"))
    deployment.save(connection, "notifications", _notifications().dump_python(notifications, mode="json"))


def rules(connection: sa.Connection) -> tuple[Rule, ...]:
    """Every rule that holds: the built-in ones, with what the site file says of them.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    kept = deployment.load(connection, "alarms")
    return (Alarms() if kept is None else _alarms().validate_python(kept)).merged(ALARM_RULES)


def notifications(connection: sa.Connection) -> Notifications:
    """Channels, routes and the rest of that section.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    kept = deployment.load(connection, "notifications")
    return Notifications() if kept is None else _notifications().validate_python(kept)


# -- memory and occurrences --------------------------------------------------------------------------


def lock(connection: sa.Connection) -> bool:
    """Whether this transaction is the only one that judges alarms.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    return locks.try_hold(connection, locks.ALARMS)


def site_number(stored: Stored, site: str) -> int:
    """The number of a site, :data:`DEPLOYMENT` where the name is empty."""
    return stored.site_id[site] if site else DEPLOYMENT


@dataclass(frozen=True, slots=True)
class Remembered:
    """Where a rule stood for a subject after the last evaluation."""

    rule: str
    site_id: int
    subject: str
    memory: Memory


def memories(connection: sa.Connection) -> dict[str, Remembered]:
    """Everything remembered, by fingerprint.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    t = tables.alarm_memory
    with store_errors():
        rows = connection.execute(sa.select(t.c.fingerprint, t.c.rule, t.c.site_id, t.c.subject, t.c.memory))
        return {
            key: Remembered(rule, site, name, _memory().validate_python(m))
            for key, rule, site, name, m in rows
        }


def remember(connection: sa.Connection, fresh: Mapping[str, Remembered]) -> None:
    """Keep what is to be remembered, by fingerprint.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    if not fresh:
        return
    values = (
        list(fresh),
        [one.site_id for one in fresh.values()],
        [one.rule for one in fresh.values()],
        [one.subject for one in fresh.values()],
        [_memory().dump_json(one.memory).decode() for one in fresh.values()],
    )
    with store_errors():
        driver(connection).execute(_REMEMBER, values)
    _note_memory(connection)


_REMEMBER = """
INSERT INTO alarm_memory (fingerprint, site_id, rule, subject, memory)
SELECT * FROM unnest(%s::text[], %s::int[], %s::text[], %s::text[], %s::jsonb[])
ON CONFLICT (fingerprint) DO UPDATE SET memory = excluded.memory, updated_at = now()
"""


def forget(connection: sa.Connection, fingerprints: Iterable[str]) -> None:
    """Remember these no longer.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    with store_errors():
        driver(connection).execute(
            "DELETE FROM alarm_memory WHERE fingerprint = ANY(%s)", (list(fingerprints),)
        )
    _note_memory(connection)


def _note_memory(connection: sa.Connection) -> None:
    """Let whoever remembers know that another transaction wrote: the row's ``xmin`` says which."""
    deployment.save(connection, "alarm_memory", {})


_MEMORY_VERSION = "SELECT coalesce(max(xmin::text), '') FROM deployment WHERE key = 'alarm_memory'"


class AlarmMemories:
    """What is remembered, read from the database only where another process wrote to it.

    For one thread, within transactions that hold :func:`lock`.
    """

    def __init__(self) -> None:
        self._kept: dict[str, Remembered] = {}
        self.version: str | None = None
        """The transaction that wrote what is kept; None: nothing is."""
        self.readings = 0
        """How often everything was read from the database."""

    @contextmanager
    def kept_if_committed(self) -> Iterator[None]:
        """Around a transaction: what was kept in one that fails is read again."""
        try:
            yield
        except BaseException:
            self.version = None
            raise

    def current(self, connection: sa.Connection) -> dict[str, Remembered]:
        """Everything remembered, by fingerprint.

        Raises
        ------
        StoreUnavailable
            If the database is away.
        """
        version = self._newest(connection)
        if version != self.version:
            self._kept, self.version = memories(connection), version
            self.readings += 1
        return self._kept

    @staticmethod
    def _newest(connection: sa.Connection) -> str:
        with store_errors():
            row = driver(connection).execute(_MEMORY_VERSION).fetchone()
        return str(row[0]) if row is not None else ""

    def replace(
        self, connection: sa.Connection, fresh: Mapping[str, Remembered], gone: Collection[str]
    ) -> None:
        """Keep what is to be remembered, and forget what is gone, by fingerprint.

        Raises
        ------
        StoreUnavailable
            If the database is away.
        """
        if not fresh and not gone:
            return
        if gone:
            forget(connection, gone)
        remember(connection, fresh)
        self._kept.update(fresh)
        for key in gone:
            self._kept.pop(key, None)
        self.version = self._newest(connection)


def record(
    connection: sa.Connection,
    rule: str,
    subject: Subject,
    site_id: int,
    change: Transition,
    document: Mapping[str, Any],
) -> tuple[int | None, dict[str, Any]]:
    """Make of the alarm what a transition says.

    Returns the alarm's number, where there is one, and the transition as a row for
    :func:`write_transitions`.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    key = fingerprint(rule, subject)
    with store_errors():
        alarm_id = (
            _open(connection, rule, subject, site_id, key, change, document)
            if change.fires
            else _update(connection, key, change, document)
        )
    return alarm_id, _step_row(alarm_id, rule, subject, site_id, change)


def _step_row(
    alarm_id: int | None, rule: str, subject: Subject, site_id: int, change: Transition
) -> dict[str, Any]:
    return {
        "alarm_id": alarm_id,
        "fingerprint": fingerprint(rule, subject),
        "site_id": site_id,
        "rule": rule,
        "subject": subject.name,
        "at": change.at,
        "before": change.before.value,
        "after": change.after.value,
        "severity": change.severity,
        "value": change.value,
        "threshold": change.threshold,
        "reason": change.reason,
    }


def write_transitions(connection: sa.Connection, rows: list[dict[str, Any]]) -> None:
    """Keep transitions, all at once.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    if rows:
        with store_errors():
            connection.execute(sa.insert(tables.alarm_transitions), rows)


def _open(
    connection: sa.Connection,
    rule: str,
    subject: Subject,
    site_id: int,
    key: str,
    change: Transition,
    document: Mapping[str, Any],
) -> int:
    row = sa.insert(tables.alarms).values(
        site_id=site_id,
        rule=rule,
        subject=subject.name,
        severity=change.severity,
        state=change.after.value,
        fingerprint=key,
        started_at=min(change.started or change.at, change.at),
        fired_at=change.at,
        value=change.value,
        limit_value=change.threshold,
        document=dict(document),
        worst_value=change.worst,
        worst_at=change.worst_at,
    )
    return int(connection.execute(row.returning(tables.alarms.c.id)).scalar_one())


def _update(
    connection: sa.Connection, key: str, change: Transition, document: Mapping[str, Any]
) -> int | None:
    """Follow a transition of the open alarm; what it said at its worst stays in its document."""
    if not (change.before.is_active or change.after.is_active):
        return None
    t = tables.alarms
    fresh: dict[str, Any] = {"state": change.after.value}
    if change.severity is not None and change.severity is not change.previous_severity:
        fresh["severity"] = change.severity.value
    if change.escalates:
        fresh |= {"value": change.value, "limit_value": change.threshold, "document": dict(document)}
    if change.resolves:
        fresh["resolved_at"] = sa.func.greatest(t.c.fired_at, change.at)  # the clock may have been ahead
    if change.worst is not None:
        fresh |= {"worst_value": change.worst, "worst_at": change.worst_at}
    here = (t.c.fingerprint == key, t.c.resolved_at.is_(None))
    number = connection.execute(
        sa.update(t).where(*here).values(fresh).returning(t.c.id)
    ).scalar_one_or_none()
    return None if number is None else int(number)


@dataclass(frozen=True, slots=True)
class PastAlarm:
    """An alarm that was found in the history."""

    rule: str
    subject: Subject
    steps: tuple[Transition, ...]
    """From the one that fires to its end, or to the last one known."""
    memory: Memory | None = None
    """Where the rule stands, if the alarm goes on."""

    @property
    def started_at(self) -> datetime:
        """When the breach began."""
        return self.steps[0].started or self.steps[0].at

    @property
    def resolved_at(self) -> datetime | None:
        """When it was over; None: it goes on."""
        return max(self.steps[-1].at, self.steps[0].at, self.started_at) if self.steps[-1].resolves else None

    @property
    def worst(self) -> Transition:
        """The step at which it reached its highest severity."""
        return [step for step in self.steps if step.fires or step.escalates][-1]


def overlaps(connection: sa.Connection, site_id: int, alarm: PastAlarm) -> bool:
    """Whether an alarm of the same rule on the same thing is known of that time.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    t = tables.alarms
    here = [
        t.c.site_id == site_id,
        t.c.fingerprint == fingerprint(alarm.rule, alarm.subject),
        sa.or_(t.c.resolved_at.is_(None), t.c.resolved_at >= alarm.started_at),
    ]
    if alarm.resolved_at is not None:
        here.append(t.c.started_at <= alarm.resolved_at)
    with store_errors():
        return connection.execute(sa.select(t.c.id).where(*here).limit(1)).first() is not None


def keep_past(connection: sa.Connection, site_id: int, alarm: PastAlarm, document: Mapping[str, Any]) -> int:
    """Put an alarm of the past on record; its number. One that goes on is followed from here.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    key, last = fingerprint(alarm.rule, alarm.subject), alarm.steps[-1]
    severity = last.severity if alarm.resolved_at is None else alarm.worst.severity
    row = sa.insert(tables.alarms).values(
        site_id=site_id,
        rule=alarm.rule,
        subject=alarm.subject.name,
        severity=severity,
        state=last.after.value,
        fingerprint=key,
        started_at=alarm.started_at,
        fired_at=alarm.steps[0].at,
        resolved_at=alarm.resolved_at,
        value=alarm.worst.value,
        limit_value=alarm.worst.threshold,
        document=dict(document),
        worst_value=last.worst,
        worst_at=last.worst_at,
    )
    with store_errors():
        number = int(connection.execute(row.returning(tables.alarms.c.id)).scalar_one())
    steps = [_step_row(number, alarm.rule, alarm.subject, site_id, step) for step in alarm.steps]
    write_transitions(connection, steps)
    if alarm.memory is not None:
        kept = Remembered(alarm.rule, site_id, alarm.subject.name, alarm.memory)
        remember(connection, {key: kept})
    return number


def known_from(connection: sa.Connection, site_id: int) -> datetime | None:
    """Beginning of a site's record; None where there is none.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    return known_from_of(connection, [site_id])[site_id]


def known_from_of(connection: sa.Connection, site_ids: Sequence[int]) -> dict[int, datetime | None]:
    """As :func:`known_from`, of many sites at once, by number.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    query = sa.text(
        "SELECT s.id, (SELECT min(at) FROM site_15m WHERE site_id = s.id AND room = '')"
        " FROM unnest(CAST(:sites AS int[])) AS s (id)"
    )
    with store_errors():
        return {row[0]: row[1] for row in connection.execute(query, {"sites": list(site_ids)})}


# -- what people see and do --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StoredAlarm:
    """An alarm that fired, as people see it."""

    id: int
    site: str
    """Empty where it concerns the deployment."""
    subject: str
    rule: str
    severity: str
    state: str
    fingerprint: str
    started_at: datetime
    fired_at: datetime
    resolved_at: datetime | None
    value: float | None
    limit_value: float | None
    acknowledged_at: datetime | None
    acknowledged_by: str | None
    document: dict[str, Any]
    worst_value: float | None = None
    """Furthest since the breach began."""
    worst_at: datetime | None = None
    value_now: float | None = None
    """Of the newest evaluation; None where the alarm is over, or the figure is not known."""
    value_now_at: datetime | None = None

    @property
    def severity_rank(self) -> int:
        """Place of its severity, the most severe first."""
        return -Severity(self.severity).rank


def _select_alarms() -> sa.Select[Any]:
    a, s = tables.alarms, tables.sites
    names = ("subject", "rule", "severity", "state", "fingerprint", "started_at", "fired_at", "resolved_at")
    more = ("value", "limit_value", "acknowledged_at", "acknowledged_by", "document")
    memory = tables.alarm_memory
    kept, goes_on = memory.c.memory, a.c.resolved_at.is_(None)
    number, instant = sa.Float, sa.DateTime(timezone=True)
    columns = [
        a.c.id,
        sa.func.coalesce(s.c.key, "").label("site"),
        *(a.c[n] for n in (*names, *more)),
        sa.func.coalesce(kept["worst"].astext.cast(number), a.c.worst_value, a.c.value).label("worst_value"),
        sa.func.coalesce(kept["worst_at"].astext.cast(instant), a.c.worst_at, a.c.fired_at).label("worst_at"),
        kept["value"].astext.cast(number).label("value_now"),
        kept["at"].astext.cast(instant).label("value_now_at"),
    ]
    return (
        sa.select(*columns)
        .outerjoin(s, s.c.id == a.c.site_id)
        .outerjoin(memory, sa.and_(memory.c.fingerprint == a.c.fingerprint, goes_on))
        .where(a.c.fired_at.is_not(None))
    )


STATES = ("active", "firing", "recovering", "acknowledged", "resolved", "all")
"""What alarms can be asked for by."""


def listing(
    connection: sa.Connection,
    site_ids: Iterable[int],
    state: str = "active",
    *,
    part: str | None = None,
    limit: int = 1000,
) -> list[StoredAlarm]:
    """Alarms of some sites, newest first; with `part` those whose document has it.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    a = tables.alarms
    query = _select_alarms().where(a.c.site_id.in_(list(site_ids)))
    if state == "acknowledged":
        query = query.where(a.c.resolved_at.is_(None), a.c.acknowledged_at.is_not(None))
    elif state == "active":
        query = query.where(a.c.resolved_at.is_(None))
    elif state != "all":
        query = query.where(a.c.state == state)
    if part is not None:
        query = query.where(a.c.document.has_key(part))
    with store_errors():
        rows = connection.execute(query.order_by(a.c.fired_at.desc(), a.c.id.desc()).limit(limit))
        return [StoredAlarm(*row) for row in rows]


def one(connection: sa.Connection, alarm_id: int) -> StoredAlarm:
    """An alarm.

    Raises
    ------
    NotFound
        If there is none of that number.
    StoreUnavailable
        If the database is away.
    """
    with store_errors():
        row = connection.execute(_select_alarms().where(tables.alarms.c.id == alarm_id)).one_or_none()
    if row is None:
        raise NotFound(f"there is no alarm {alarm_id}")
    return StoredAlarm(*row)


@dataclass(frozen=True, slots=True)
class Comment:
    """What somebody said about an alarm."""

    at: datetime
    author: str
    text: str


def acknowledge(
    connection: sa.Connection, alarm_id: int, author: str, at: datetime, comment: str = ""
) -> None:
    """Say that somebody is on it; it is not repeated any more. A second time changes nothing.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    t = tables.alarms
    mark = sa.update(t).where(t.c.id == alarm_id, t.c.acknowledged_at.is_(None))
    with store_errors():
        connection.execute(mark.values(acknowledged_at=at, acknowledged_by=author))
    if comment:
        add_comment(connection, alarm_id, author, at, comment)


def add_comment(connection: sa.Connection, alarm_id: int, author: str, at: datetime, text: str) -> None:
    """Say something about an alarm.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    row = {"alarm_id": alarm_id, "at": at, "author": author, "text": text}
    with store_errors():
        connection.execute(sa.insert(tables.alarm_comments).values(row))


def comments(connection: sa.Connection, alarm_id: int) -> list[Comment]:
    """What was said about an alarm, oldest first.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    t = tables.alarm_comments
    query = sa.select(t.c.at, t.c.author, t.c.text).where(t.c.alarm_id == alarm_id).order_by(t.c.id)
    with store_errors():
        return [Comment(*row) for row in connection.execute(query)]


@dataclass(frozen=True, slots=True)
class Step:
    """One transition of an alarm."""

    at: datetime
    before: str
    after: str
    severity: str | None
    value: float | None
    threshold: float | None
    reason: str


def history(connection: sa.Connection, alarm_id: int) -> list[Step]:
    """The transitions of an alarm, oldest first.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    t = tables.alarm_transitions
    names = ("at", "before", "after", "severity", "value", "threshold", "reason")
    query = sa.select(*(t.c[n] for n in names)).where(t.c.alarm_id == alarm_id).order_by(t.c.id)
    with store_errors():
        return [Step(*row) for row in connection.execute(query)]


# -- silences ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StoredSilence:
    """A silence with its number and author."""

    id: int
    author: str
    silence: Silence


def add_silence(connection: sa.Connection, silence: Silence, site_id: int, author: str) -> int:
    """Keep a silence; its number.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    row = sa.insert(tables.silences).values(
        site_id=site_id,
        rule=silence.rule,
        subject=silence.subject,
        start_at=silence.start,
        end_at=silence.end,
        author=author,
        comment=silence.comment,
    )
    with store_errors():
        return int(connection.execute(row.returning(tables.silences.c.id)).scalar_one())


def silences(connection: sa.Connection, now: datetime) -> list[StoredSilence]:
    """Silences that are not over.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    t, s = tables.silences, tables.sites
    query = (
        sa.select(t, sa.func.coalesce(s.c.key, "").label("site"))
        .outerjoin(s, s.c.id == t.c.site_id)
        .where(t.c.end_at > now)
        .order_by(t.c.id)
    )
    with store_errors():
        return [
            StoredSilence(
                row.id,
                row.author,
                Silence(row.start_at, row.end_at, row.site, row.rule, row.subject, row.comment),
            )
            for row in connection.execute(query)
        ]


def end_silence(connection: sa.Connection, silence_id: int, now: datetime) -> None:
    """End a silence before its time.

    Raises
    ------
    NotFound
        If there is no such silence any more.
    StoreUnavailable
        If the database is away.
    """
    t = tables.silences
    with store_errors():
        ended = connection.execute(
            sa.update(t).where(t.c.id == silence_id, t.c.end_at > now).values(end_at=now)
        )
    if not ended.rowcount:
        raise NotFound(f"there is no silence {silence_id} that is not over")
