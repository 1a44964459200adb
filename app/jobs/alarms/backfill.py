"""Alarms of an imported history: breach periods are complete, no notifications are sent."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from app.domain.alarms.alarm import Subject, Transition
from app.domain.period import Period
from app.jobs.alarms import replay
from app.jobs.alarms.announce import Announcer
from app.jobs.alarms.judge import Change
from app.store import alarms, deployment, sites
from app.store.alarms import PastAlarm
from app.store.engine import Connection, Engine, begin, connect

_PAUSE_S = 0.2
NOTE = "found in the history"


def record(
    engine: Engine, site_id: str, period: Period, *, is_stopping: Callable[[], bool] = lambda: False
) -> int:
    """Put the alarms of a period on record, as the stored figures show them now; how many are new.

    One that overlaps an alarm of the same rule on the same thing is known already and left out, so a
    second time changes nothing. One that goes on at the end of the period is followed from there. Where
    it is stopped nothing is put on record.

    Raises
    ------
    StoreUnavailable
        If the database is away; nothing is put on record.
    """
    with connect(engine) as connection:
        stored, profiles = sites.load(connection), deployment.limit_profiles(connection)
        number = stored.site_id[site_id]
        site = stored.fleet.site[site_id]
        replayed = replay.evaluate(connection, stored, site, period, profiles, is_stopping=is_stopping)
        if not replayed.is_whole:
            return 0
        found = list(_found(replayed))
        fresh = [one for one in found if not alarms.overlaps(connection, number, one[0])]
        documents = []
        for _, (rule, subject, seen, change) in fresh:
            announcer = Announcer(connection, stored, profiles, change.at)
            documents.append(announcer.document(rule, subject, seen, change) | {"reason": NOTE})
    with begin(engine) as connection:
        _lock(connection)
        pairs = zip(fresh, documents, strict=True)
        return sum(_keep(connection, number, alarm, document) for (alarm, _), document in pairs)


def _lock(connection: Connection) -> None:
    """Wait until nobody judges alarms, and keep others from it."""
    while not alarms.lock(connection):
        time.sleep(_PAUSE_S)


def _keep(connection: Connection, number: int, alarm: PastAlarm, document: dict[str, Any]) -> bool:
    if alarms.overlaps(connection, number, alarm):
        return False
    alarms.keep_past(connection, number, alarm, document)
    return True


def _found(replayed: replay.ReplayResult) -> Iterator[tuple[PastAlarm, Change]]:
    """Alarms in the order in which they fired, each with the change at which it was worst."""
    going: dict[tuple[str, Subject], list[Change]] = {}
    fired: list[list[Change]] = []
    for change in replayed.changes:
        rule, subject, _, step = change
        key = (rule.id, subject)
        if step.fires:
            going[key] = []
            fired.append(going[key])
        if key in going:
            going[key].append(change)
            if step.resolves:
                del going[key]
    for changes in fired:
        yield _alarm(changes, replayed)


def _alarm(changes: list[Change], replayed: replay.ReplayResult) -> tuple[PastAlarm, Change]:
    rule, subject, *_ = changes[0]
    steps: tuple[Transition, ...] = tuple(step for *_, step in changes)
    memory = None if steps[-1].resolves else replayed.memories[rule.id, subject]
    worst = [change for change in changes if change[3].fires or change[3].escalates][-1]
    return PastAlarm(rule.id, subject, steps, memory), worst
