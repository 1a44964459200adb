"""Judge every rule on the stored figures; transitions and their messages are kept in one transaction."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from operator import attrgetter
from typing import Any

from app.domain.alarms.alarm import (
    Indicator,
    Memory,
    Observation,
    Rule,
    State,
    Subject,
    Transition,
    fingerprint,
    step,
    withdrawn,
)
from app.domain.alarms.observation import RuleObservation
from app.jobs.alarms import announce
from app.jobs.alarms.announce import Announcer
from app.jobs.alarms.seen import FINDINGS_REACH, EvaluationContext, everything, rest, settle
from app.jobs.alarms.watch import KEPT_EVERY, WAITING, Cache, Watch
from app.store import alarm_inputs, alarms, deployment
from app.store.alarm_inputs import Signs
from app.store.alarms import Remembered
from app.store.engine import Connection, Engine, begin


@dataclass(frozen=True, slots=True)
class EvaluationResult:
    """What an evaluation of all rules changed."""

    subjects: int
    transitions: int
    messages: int


def run(
    engine: Engine,
    now: datetime,
    *,
    cache: Cache | None = None,
    spool_fill_ratio: float | None = None,
    announcing: bool = True,
) -> EvaluationResult | None:
    """Judge all rules of all sites; None where another process is at it.

    Parameters
    ----------
    engine : Engine
        Whose evaluations are judged.
    now : datetime
        Time of this evaluation; one that is not newer than the last changes nothing.
    cache : Cache, optional
        Kept by the caller from one evaluation to the next.
    spool_fill_ratio : float, optional
        How full this process's spool is. [0..1]
    announcing : bool
        False: keep transitions, but tell nobody.

    Raises
    ------
    StoreUnavailable
        If the database is away; everything is as before.
    """
    cache = cache or Cache()
    with cache.memories.kept_if_committed(), begin(engine) as connection:
        signs = alarm_inputs.signs(connection, now - FINDINGS_REACH, now)
        if cache.watch is not None and cache.rests(now, signs, spool_fill_ratio):
            return EvaluationResult(cache.watch.subjects, 0, 0)
        if not alarms.lock(connection):
            return None
        kept = cache.memories.current(connection)
        watch = _watch(connection, cache, signs, now)
        context = EvaluationContext(connection, watch, signs, now, cache, kept, spool_fill_ratio)
        return _evaluate(context, announcing=announcing)


def _watch(connection: Connection, cache: Cache, signs: Signs, now: datetime) -> Watch:
    """What was judged last; anew where rules, definitions or memories are others, or the clock went back."""
    known, is_reread = cache.watch, cache.memories.readings != cache.memories_read
    cache.memories_read = cache.memories.readings
    is_back = known is None or is_reread or now <= known.at
    if known is not None and not is_back and signs.is_of_same_rules(known.signs):
        return known
    stored, rules = cache.fleet.current(connection), alarms.rules(connection)
    profiles, told = deployment.limit_profiles(connection), alarms.notifications(connection)
    cache.watch = Watch(stored, rules, profiles, told, signs, now, stored.fleet)
    return cache.watch


def _evaluate(context: EvaluationContext, *, announcing: bool) -> EvaluationResult:
    seen = everything(context)
    keys = [fingerprint(rule.id, subject) for rule, subject, _ in seen]
    before = {key: context.kept[key].memory for key in keys if key in context.kept}
    after, changes = step_rules(seen, before, context.now)
    memories = dict(zip(keys, after, strict=True))
    settle(context, memories)
    gone = _gone(context) if context.has_other_subjects else set()
    announcer = Announcer(
        context.connection, context.stored, context.watch.profiles, context.now, context.watch.notifications
    )
    rows = [_record(context, announcer, *change) for change in changes]
    for key in sorted(gone):
        rows += _withdraw(context, announcer, context.kept[key])
    alarms.write_transitions(context.connection, rows)
    context.cache.memories.replace(context.connection, _to_write(context, seen, keys, after), gone)
    rest(context, before, memories)
    is_open = context.signs.has_unacknowledged or bool(rows)
    messages = announcer.announce(context.watch.rules) if announcing and is_open else 0
    return EvaluationResult(context.watch.subjects, len(changes), messages)


def _to_write(
    context: EvaluationContext, seen: Sequence[RuleObservation], keys: Sequence[str], after: Sequence[Memory]
) -> dict[str, Remembered]:
    """The memories that have to be written, by fingerprint."""
    fresh = {
        key: Remembered(rule.id, alarms.site_number(context.stored, subject.site), subject.name, memory)
        for key, (rule, subject, _), memory in zip(keys, seen, after, strict=True)
    }
    return {key: one for key, one in fresh.items() if _must_be_written(context.kept.get(key), one)}


def _gone(context: EvaluationContext) -> set[str]:
    """What is remembered and not watched any more; not what another cell judges now."""
    moved = context.stored.moved_ids
    return {
        key for key in context.kept.keys() - set(context.watch.keys) if context.kept[key].site_id not in moved
    }


Change = tuple[Rule, Subject, Observation, Transition]
Cause = tuple[str, str]
"""A rule that fires, and the address that it fires for; empty: all of the site is meant."""


_EXPLAINING = (Indicator.EDGE_SILENT_S, Indicator.GATEWAY_SILENT_INTERVALS)
"""What fails with a whole group of meters behind it."""


def step_rules(
    seen: Iterable[RuleObservation], memories: Mapping[str, Memory], now: datetime
) -> tuple[list[Memory], list[Change]]:
    """Step every rule, in the order given; what to remember of each, and what changed.

    A rule that is quiet while others fire sees their state of this same evaluation. The alarm of an address
    concerns what is behind it, that of an edge all of the site; what is there waits as long as that alarm may
    still come.
    """
    firing: dict[str, set[Cause]] = defaultdict(set)
    waiting: dict[str, set[Cause]] = defaultdict(set)
    after: list[Memory] = []
    changes: list[Change] = []
    for rule, subject, observation in seen:
        before = memories.get(fingerprint(rule.id, subject), Memory())
        causes = _causes(rule, observation, firing[subject.site])
        if causes and before.state.is_active:
            reason = f"continues as alarm {min(causes)}"
            memory, moved = withdrawn(before, rule, observation, reason, is_handed_over=True)
        else:
            if not before.state.is_active:
                causes |= _causes(rule, observation, waiting[subject.site])
            explained = replace(observation, explained_by=f"alarm {min(causes)}") if causes else observation
            memory, moved = step(rule, before, explained)
        cause = (rule.id, subject.name if rule.indicator is Indicator.GATEWAY_SILENT_INTERVALS else "")
        if memory.state.is_active:
            firing[subject.site].add(cause)
        elif rule.indicator in _EXPLAINING and memory.state is State.PENDING:
            waiting[subject.site].add(cause)
        after.append(memory)
        changes += [(rule, subject, observation, change) for change in moved]
    return after, changes


def _causes(rule: Rule, seen: Observation, firing: Iterable[Cause]) -> set[str]:
    """Rules that fire, and for which this one is quiet about what it sees."""
    return {name for name, address in firing if name in rule.quiet_while and address in ("", *seen.within)}


_lasting = attrgetter(*(f.name for f in fields(Memory) if f.name not in ("at", "value")))
"""What a memory holds beside the last observation."""


def _must_be_written(before: Remembered | None, after: Remembered) -> bool:
    """Whether a memory has to be written: its instant alone matters only now and then."""
    if before is None:
        return True
    old, new = before.memory, after.memory
    if _lasting(old) != _lasting(new):
        return True
    waits = new.state in WAITING
    return waits and old.at is not None and new.at is not None and new.at - old.at >= KEPT_EVERY


def _record(
    context: EvaluationContext,
    announcer: Announcer,
    rule: Rule,
    subject: Subject,
    observation: Observation,
    change: Transition,
) -> dict[str, Any]:
    """Follow a transition; what is to be written down about it."""
    number = alarms.site_number(context.stored, subject.site)
    says = announce.what_of(change) is not None
    document = announcer.document(rule, subject, observation, change) if says else {}
    alarm_id, row = alarms.record(context.connection, rule.id, subject, number, change, document)
    if alarm_id is not None and says:
        announcer.say(alarm_id, rule, subject, change, document)
    return row


def _withdraw(context: EvaluationContext, announcer: Announcer, old: Remembered) -> list[dict[str, Any]]:
    """End the alarm of a rule or subject that is no longer there."""
    names = context.stored.site_key
    subject = Subject(names.get(old.site_id, ""), old.subject)
    rule = Rule(id=old.rule, indicator=Indicator.SERIOUS_FINDINGS, warning=0.0)
    _, changes = withdrawn(old.memory, rule, Observation(context.now), "no longer watched")
    rows = []
    for change in changes:
        alarm_id, row = alarms.record(context.connection, old.rule, subject, old.site_id, change, {})
        rows.append(row)
        if alarm_id is not None:
            announcer.say(alarm_id, rule, subject, change, {})
    return rows
